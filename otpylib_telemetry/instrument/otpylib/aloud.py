"""Events that count something and are log records as well: what nobody should have to look for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.bus.dispatch import execute
from otpylib_telemetry.instrument.log_events import severity_number
from otpylib_telemetry.instrument.log_record import RECORD, LogRecord
from otpylib_telemetry.primitives.any_value import any_values

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How the semantic conventions call what an event says of an exception.
_CONVENTIONAL: Final = {
    "error": "exception.message",
    "error_type": "exception.type",
    "stacktrace": "exception.stacktrace",
    "stack": "code.stacktrace",
}

#: Severities: the level of Python's logging, and the text.
ERROR: Final = (40, "ERROR")
WARNING: Final = (30, "WARN")


def tell(
    event: str,
    measurements: dict[str, Any],
    metadata: Mapping[str, Any],
    body: str,
    severity: tuple[int, str] = ERROR,
) -> None:
    """Emit an event; its log record says this, as an error or with another severity."""
    sent = {_CONVENTIONAL.get(key, key): value for key, value in {**metadata, **measurements}.items()}
    attributes, dropped = any_values(sent)
    record = LogRecord(
        body,
        attributes,
        severity_number=severity_number(severity[0]),
        severity_text=severity[1],
        event_name=event,
        dropped_attributes=dropped,
        scope=("otpylib", ""),
    )
    execute(event, measurements, {**metadata, RECORD: record})
