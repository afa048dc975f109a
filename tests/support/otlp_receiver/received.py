"""What arrived, decoded, and the three signals it arrives as."""

from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2


@dataclass(frozen=True)
class ReceivedEvent:
    name: str
    time_ns: int
    attributes: dict[str, Any]


@dataclass(frozen=True)
class ReceivedSpan:
    name: str
    trace_id: str
    span_id: str
    parent_span_id: str  # "" for a root
    kind: str  # "INTERNAL", "SERVER", ...
    start_ns: int
    end_ns: int
    status: str  # "UNSET", "OK", "ERROR"
    status_message: str
    attributes: dict[str, Any]
    events: list[ReceivedEvent]
    links: list[tuple[str, str]]  # (trace_id, span_id)
    trace_state: str
    flags: int
    dropped_attributes: int
    resource: dict[str, Any]
    scope: str
    scope_version: str
    scope_attributes: dict[str, Any]
    headers: dict[str, str]  # of the request that brought it


@dataclass(frozen=True)
class ReceivedRequest:
    """One export request, whether it was taken or not. ``message`` is the decoded protobuf message."""

    signal: str  # "traces", "metrics", "logs"
    headers: dict[str, str]
    message: Any
    spans: list[ReceivedSpan]
    behaviour: Any
    monotonic_ns: int


def _value(value):
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return attributes_of(value.kvlist_value.values)
    return getattr(value, kind)


def attributes_of(pairs):
    return {pair.key: _value(pair.value) for pair in pairs}


def _enum(message, name, prefix):
    number = getattr(message, name)
    values = message.DESCRIPTOR.fields_by_name[name].enum_type.values_by_number
    return values[number].name.removeprefix(prefix) if number in values else str(number)


def decode_spans(message, headers):
    """The spans of an ExportTraceServiceRequest, flat."""
    return [
        ReceivedSpan(
            name=span.name,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_span_id=span.parent_span_id.hex(),
            kind=_enum(span, "kind", "SPAN_KIND_"),
            start_ns=span.start_time_unix_nano,
            end_ns=span.end_time_unix_nano,
            status=_enum(span.status, "code", "STATUS_CODE_"),
            status_message=span.status.message,
            attributes=attributes_of(span.attributes),
            events=[
                ReceivedEvent(e.name, e.time_unix_nano, attributes_of(e.attributes)) for e in span.events
            ],
            links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
            trace_state=span.trace_state,
            flags=span.flags,
            dropped_attributes=span.dropped_attributes_count,
            resource=attributes_of(group.resource.attributes),
            scope=scoped.scope.name,
            scope_version=scoped.scope.version,
            scope_attributes=attributes_of(scoped.scope.attributes),
            headers=headers,
        )
        for group in message.resource_spans
        for scoped in group.scope_spans
        for span in scoped.spans
    ]


@dataclass(frozen=True)
class Signal:
    name: str
    path: str
    service: str
    request: Any
    response: Any
    rejected_field: str


TRACES = Signal(
    "traces",
    "/v1/traces",
    "opentelemetry.proto.collector.trace.v1.TraceService",
    trace_service_pb2.ExportTraceServiceRequest,
    trace_service_pb2.ExportTraceServiceResponse,
    "rejected_spans",
)
METRICS = Signal(
    "metrics",
    "/v1/metrics",
    "opentelemetry.proto.collector.metrics.v1.MetricsService",
    metrics_service_pb2.ExportMetricsServiceRequest,
    metrics_service_pb2.ExportMetricsServiceResponse,
    "rejected_data_points",
)
LOGS = Signal(
    "logs",
    "/v1/logs",
    "opentelemetry.proto.collector.logs.v1.LogsService",
    logs_service_pb2.ExportLogsServiceRequest,
    logs_service_pb2.ExportLogsServiceResponse,
    "rejected_log_records",
)
