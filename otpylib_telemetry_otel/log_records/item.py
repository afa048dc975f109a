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
    """A log record, exportable. Ids, times and a severity that nobody said are 0; our scope is None."""

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
