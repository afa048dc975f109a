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
}

_ERROR: Final = 40


def tell(event: str, measurements: dict[str, Any], metadata: Mapping[str, Any], body: str) -> None:
    """Emit an event; its log record is an error that says this."""
    sent = {_CONVENTIONAL.get(key, key): value for key, value in {**metadata, **measurements}.items()}
    attributes, dropped = any_values(sent)
    record = LogRecord(
        body,
        attributes,
        severity_number=severity_number(_ERROR),
        severity_text="ERROR",
        event_name=event,
        dropped_attributes=dropped,
        scope=("otpylib", ""),
    )
    execute(event, measurements, {**metadata, RECORD: record})
