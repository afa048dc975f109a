"""A log record on its way out.

Pure, and without OpenTelemetry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from otpylib_telemetry_otel.log_records.severity import ERROR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry.instrument.log_record import Scope


@dataclass(slots=True, eq=False)
class LogItem:
    """A log record, exportable.

    Attributes:
        name: The event's name; empty for an ordinary log record.
        at_ns: When it happened, in nanoseconds since the epoch; 0 where that is not said.
        observed_ns: When we heard of it.
        severity: OpenTelemetry's severity number, from 1 to 24; 0 where none is given.
        severity_text: What the application calls it.
        body: What it says; None for nothing.
        attributes: What else it carries.
        dropped_attributes: How many attributes did not fit.
        trace_id: The trace it belongs to; 0 for none.
        span_id: The span it belongs to; 0 for none.
        flags: The flags of its trace, as far as they are known (W3C Trace Context).
        scope: Name and version of the instrumentation, perhaps schema URL and attributes; None for ours.
        processed: Whether processors have been handed it; there once they have.
    """

    #: The lane it goes out on.
    lane: ClassVar[str] = "logs"

    name: str
    at_ns: int
    observed_ns: int
    severity: int
    severity_text: str
    body: Any
    attributes: Mapping[str, Any]
    dropped_attributes: int = 0
    trace_id: int = 0
    span_id: int = 0
    flags: int = 0
    scope: Scope | None = None
    processed: bool = field(init=False, repr=False)

    @property
    def error(self) -> bool:
        """Whether it tells of an error."""
        return self.severity >= ERROR
