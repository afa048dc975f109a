"""Log records as the exporters of OpenTelemetry take them.

Imports OpenTelemetry: to be imported only where log records are about to be exported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk import _logs
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from otpylib_telemetry.version import __version__
from otpylib_telemetry_otel.sdk.spans import bounded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.resources import Resource

    from otpylib_telemetry_otel.log_records.item import LogItem


class LogConverter:
    """Makes log records of one resource."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._scope = InstrumentationScope("otpylib_telemetry", __version__)

    def convert(self, items: Sequence[LogItem]) -> list[ReadableLogRecord]:
        """Return the log records as OpenTelemetry's."""
        return [self._convert(item) for item in items]

    def _convert(self, item: LogItem) -> ReadableLogRecord:
        span = SpanContext(
            item.trace_id,
            item.span_id,
            is_remote=False,
            trace_flags=TraceFlags(item.flags),
        )
        record = LogRecord(
            timestamp=item.at_ns or None,
            observed_timestamp=item.observed_ns,
            # Also for no span at all: left to itself, the record takes the one that is open right now.
            context=set_span_in_context(NonRecordingSpan(span), Context()),
            severity_text=item.severity_text,
            severity_number=SeverityNumber(item.severity),
            body=item.body,
            attributes=bounded(item.attributes, item.dropped_attributes),
            event_name=item.name or None,
        )
        scope = self._scope if item.scope is None else _scope(*item.scope)
        made: ReadableLogRecord = _READABLE(record, self._resource, scope)
        return made


def _scope(
    name: str, version: str, schema_url: str = "", attributes: tuple[tuple[str, Any], ...] = ()
) -> InstrumentationScope:
    return InstrumentationScope(name, version, schema_url or None, dict(attributes))


def _before_1_39(record: LogRecord, resource: Resource, scope: InstrumentationScope) -> Any:
    """Return a log record as older versions have it: theirs, which knows the resource, with its scope."""
    theirs: Any = _logs
    known = {name: getattr(record, name) for name in _FIELDS}
    made = theirs.LogRecord(resource=resource, **known)
    # It would forget how many there were besides, and asks for that even where there are none.
    given: Any = record.attributes
    made.attributes = given if hasattr(given, "dropped") else _Counted(given)
    return theirs.LogData(made, scope)


class _Counted(dict[str, Any]):
    """Attributes of which none was dropped."""

    dropped = 0


_FIELDS: Final = (
    "timestamp",
    "observed_timestamp",
    "context",
    "severity_text",
    "severity_number",
    "body",
    "event_name",
)
_READABLE: Final[Any] = getattr(_logs, "ReadableLogRecord", _before_1_39)
