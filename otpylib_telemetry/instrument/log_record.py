"""A log record as it was made, beside the event that tells of it.

The metadata of an event mean something by their keys: ``severity``, ``traceparent`` or ``body`` say what the
event is. The attributes of a log record may be called the same and say nothing of the kind. So the record
goes along with its event under a key of its own, and whoever sends log records goes by it alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from otpylib_telemetry.primitives.any_value import AnyValue, number

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The key of the metadata that holds the record. Anything else under this key is metadata like any other.
RECORD: Final = "log_record"

#: Name and version of an instrumentation scope; where there is more, its schema URL and its attributes too.
Scope: TypeAlias = "tuple[str, str] | tuple[str, str, str, tuple[tuple[str, Any], ...]]"

#: The largest numbers that OpenTelemetry's protocol has for times, ids, flags and severities.
MAX_TIME: Final = 2**64 - 1
MAX_TRACE_ID: Final = 2**128 - 1
MAX_SPAN_ID: Final = 2**64 - 1
MAX_FLAGS: Final = 2**8 - 1
MAX_SEVERITY: Final = 24


@dataclass(slots=True, eq=False, repr=False)
class LogRecord:
    """A log record, in the fields of OpenTelemetry's data model for logs; everything in it can be sent.

    Attributes:
        body: What it says; None for nothing.
        attributes: What it carries, under any names.
        severity_number: OpenTelemetry's severity, from 1 to 24; 0 where none is given.
        severity_text: What the application calls it.
        time_unix_nano: When it happened, in nanoseconds since the epoch; 0 where that is not said.
        observed_time_unix_nano: When it was heard of; 0 for the time of the event.
        event_name: The name of what it tells of; empty for an ordinary record.
        trace_id: The trace it belongs to; 0 for none.
        span_id: The span it belongs to; 0 for none.
        flags: The flags of that trace (W3C Trace Context).
        dropped_attributes: How many attributes were left out.
        scope: Who made it; None where nobody is named.
        is_placed: Whether it was told to which span it belongs, if only that it belongs to none.
    """

    body: AnyValue = None
    attributes: Mapping[str, AnyValue] = field(default_factory=dict)
    severity_number: int = 0
    severity_text: str = ""
    time_unix_nano: int = 0
    observed_time_unix_nano: int = 0
    event_name: str = ""
    trace_id: int = 0
    span_id: int = 0
    flags: int = 0
    dropped_attributes: int = 0
    scope: Scope | None = None
    is_placed: bool = False

    def __repr__(self) -> str:
        # It is shown wherever metadata are, and these say the same already.
        return "<log record>"


def record_in(metadata: Mapping[Any, Any]) -> LogRecord | None:
    """Return the log record that an event tells of, or None if it tells of none."""
    found = metadata.get(RECORD)
    return found if type(found) is LogRecord else None


def whole(value: Any, largest: int) -> int:
    """Return a number as one of the protocol's, or 0 where it is none, or none that the protocol has."""
    kind = type(value)
    if kind is not int:
        if value is None or kind is bool:
            return 0
        try:
            value = int(number(kind, value) or 0)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - no finite number, or the value's own code
            return 0
    return value if 0 <= value <= largest else 0
