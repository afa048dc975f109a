"""A log record of the OpenTelemetry API, as the event of the bus that tells of it.

Read by attribute only, so that this module does not import OpenTelemetry.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from otpylib_telemetry.bus.table import MAX_NAME_LENGTH
from otpylib_telemetry.instrument.log_events import LOG_EVENT
from otpylib_telemetry.instrument.log_record import (
    MAX_FLAGS,
    MAX_SEVERITY,
    MAX_SPAN_ID,
    MAX_TIME,
    MAX_TRACE_ID,
    RECORD,
    LogRecord,
    Scope,
    whole,
)
from otpylib_telemetry.primitives.any_value import any_value, any_values, scope_text, text
from otpylib_telemetry.primitives.exceptions import failure
from otpylib_telemetry.tracing.phases import Phase, classify
from otpylib_telemetry.tracing.propagation import format_span_id, format_trace_id, format_traceparent
from otpylib_telemetry_otel.attributes import MAX_ATTRIBUTES
from otpylib_telemetry_otel.traces import api_spans

_MAX_COUNT: Final = 2**32 - 1


def read(record: Any, scope: Any) -> LogRecord:
    """Read a record, whether the SDK has taken it or could not.

    What the SDK does when it takes one is done for one that it has not taken: an exception is told by
    attributes, and no more of these are kept than its limits let through by default.
    """
    given = getattr(record, "attributes", None)
    attributes, dropped = ({}, 0) if given is None else any_values(given)
    exception = getattr(record, "exception", None)
    if exception is not None and "exception.type" not in attributes:
        attributes = {**failure(exception, None), **attributes}
    counted = getattr(given, "dropped", None)
    dropped += whole(counted, _MAX_COUNT)
    if counted is None and len(attributes) > MAX_ATTRIBUTES:
        dropped += len(attributes) - MAX_ATTRIBUTES
        attributes = dict(islice(attributes.items(), MAX_ATTRIBUTES))
    severity = getattr(record, "severity_number", None)
    return LogRecord(
        # What is no record at all is what one says.
        any_value(getattr(record, "body", record)),
        attributes,
        whole(getattr(severity, "value", severity), MAX_SEVERITY),
        words(getattr(record, "severity_text", None)),
        whole(getattr(record, "timestamp", None), MAX_TIME),
        whole(getattr(record, "observed_timestamp", None), MAX_TIME),
        words(getattr(record, "event_name", None)),
        whole(getattr(record, "trace_id", None), MAX_TRACE_ID),
        whole(getattr(record, "span_id", None), MAX_SPAN_ID),
        whole(getattr(record, "trace_flags", None), MAX_FLAGS),
        dropped,
        None if scope is None else _scope(scope),
        _is_placed(getattr(record, "context", None)),
    )


def _is_placed(context: Any) -> bool:
    """Tell whether a context has a span, be it one that is none."""
    return issubclass(type(context), dict) and any(
        hasattr(type(value), "get_span_context") for value in context.values()
    )


def words(value: Any) -> str:
    """Return text of anything, empty for nothing."""
    return "" if value is None else text(value, None)


def _scope(scope: Any) -> Scope:
    name, version = scope_text(scope.name), scope_text(scope.version)
    schema_url, given = scope_text(getattr(scope, "schema_url", None)), getattr(scope, "attributes", None)
    attributes = {} if given is None else any_values(given)[0]
    if not attributes and not schema_url:
        return name, version
    return name, version, schema_url, tuple(attributes.items())


def event_name(name: str) -> str:
    """Return the name of the event that tells of a record of that name: the same, if it is fit to be one."""
    # One that would begin or end an operation was not meant to: it is a record like any other.
    fit = 0 < len(name) <= MAX_NAME_LENGTH and name != api_spans.EVENT and classify(name)[1] is Phase.NONE
    return name if fit else LOG_EVENT


def metadata_of(record: LogRecord, name: str) -> dict[str, Any]:
    """Return the metadata of the event of that name, for whoever reads them; what is sent is the record."""
    metadata: dict[str, Any] = dict(record.attributes)
    if record.event_name and name == LOG_EVENT:
        metadata["event.name"] = record.event_name
    if record.scope is not None and record.scope[0]:
        metadata["otel.scope.name"], metadata["otel.scope.version"] = record.scope[:2]
    if record.body is not None:
        metadata["body"] = record.body
    if record.severity_number:
        metadata["severity_number"] = record.severity_number
    if record.severity_text:
        metadata["severity"] = record.severity_text
    at_ns = record.time_unix_nano or record.observed_time_unix_nano
    if at_ns and name == LOG_EVENT:
        metadata["time_unix_nano"] = at_ns
    if record.trace_id and record.span_id:
        trace_id, span_id = record.trace_id, record.span_id
        metadata["trace_id"], metadata["span_id"] = format_trace_id(trace_id), format_span_id(span_id)
        metadata["traceparent"] = format_traceparent(trace_id, span_id, record.flags)
    metadata[RECORD] = record
    return metadata
