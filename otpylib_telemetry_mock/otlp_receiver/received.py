"""What arrived at an OTLP receiver, decoded and flat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otpylib_telemetry_mock.otlp_receiver.behaviours import Behaviour


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """An event of a span."""

    name: str
    time_ns: int
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span as it arrived.

    Attributes:
        name: Its name.
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        parent_span_id: The same, or empty for a root.
        kind: ``"INTERNAL"``, ``"SERVER"`` and so on.
        start_ns: Nanoseconds since the epoch.
        end_ns: The same.
        status: ``"UNSET"``, ``"OK"`` or ``"ERROR"``.
        status_message: What the status says.
        attributes: Its attributes.
        events: Its events, in order.
        links: Trace id and span id of each link.
        trace_state: The W3C trace state.
        flags: Trace flags, and the two bits above that say whether the parent is remote.
        dropped_attributes: How many attributes were dropped before it was sent.
        resource: The attributes of the resource.
        scope: The name of the instrumentation scope.
        scope_version: Its version.
        scope_attributes: Its attributes.
        headers: The headers of the request that brought it.
    """

    name: str
    trace_id: str
    span_id: str
    parent_span_id: str
    kind: str
    start_ns: int
    end_ns: int
    status: str
    status_message: str
    attributes: dict[str, Any]
    events: list[ReceivedEvent]
    links: list[tuple[str, str]]
    trace_state: str
    flags: int
    dropped_attributes: int
    resource: dict[str, Any]
    scope: str
    scope_version: str
    scope_attributes: dict[str, Any]
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class ReceivedLog:
    """A log record as it arrived; times in nanoseconds since the epoch, ids as for a span."""

    body: Any
    severity: str
    event_name: str
    attributes: dict[str, Any]
    trace_id: str
    span_id: str
    time_ns: int
    observed_ns: int
    resource: dict[str, Any]
    scope: str


class ReceivedPoint(NamedTuple):
    """One data point of a metric as it arrived.

    Attributes:
        name: The metric's name.
        unit: Its unit.
        form: ``"sum"``, ``"gauge"``, ``"histogram"``, ``"exponential_histogram"`` or ``"summary"``.
        temporality: 1 for delta, 2 for cumulative, 0 where there is none.
        attributes: The attributes of the series.
        point: The data point itself, as a protobuf message.
        scope: Name and version of the instrumentation scope.
        resource: The attributes of the resource.
    """

    name: str
    unit: str
    form: str
    temporality: int
    attributes: dict[str, Any]
    point: Any
    scope: tuple[str, str]
    resource: dict[str, Any]

    @property
    def key(self) -> tuple[str, tuple[tuple[str, Any], ...]]:
        """Name and attributes: what tells a series from others."""
        return (self.name, tuple(sorted(self.attributes.items())))

    @property
    def value(self) -> Any:
        """A number, or count and sum of a distribution."""
        if self.form in {"sum", "gauge"}:
            return getattr(self.point, self.point.WhichOneof("value"))
        return (self.point.count, self.point.sum)


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """One export request, whether it was taken or not.

    Attributes:
        signal: ``"traces"``, ``"metrics"`` or ``"logs"``.
        headers: Its headers, over gRPC its metadata.
        message: The decoded protobuf message.
        spans: Its spans.
        behaviour: What the receiver did with it.
        monotonic_ns: When it was read, on the clock of :func:`time.monotonic_ns`.
    """

    signal: str
    headers: dict[str, str]
    message: Any
    spans: list[ReceivedSpan]
    behaviour: Behaviour
    monotonic_ns: int


@dataclass(frozen=True, slots=True)
class Signal:
    """One of the three signals, and how it is called over either protocol."""

    name: str
    path: str
    service: str
    request: type[Any]
    response: type[Any]
    rejected_field: str


def _signal(name: str, module: Any, service: str, rejected: str) -> Signal:
    full_name = module.DESCRIPTOR.services_by_name[f"{service}Service"].full_name
    request, response = (getattr(module, f"Export{service}Service{part}") for part in ("Request", "Response"))
    return Signal(name, f"/v1/{name}", full_name, request, response, rejected)


TRACES: Final = _signal("traces", trace_service_pb2, "Trace", "rejected_spans")
METRICS: Final = _signal("metrics", metrics_service_pb2, "Metrics", "rejected_data_points")
LOGS: Final = _signal("logs", logs_service_pb2, "Logs", "rejected_log_records")

SIGNALS: Final = (TRACES, METRICS, LOGS)


def attributes_of(pairs: Iterable[Any]) -> dict[str, Any]:
    """Return attributes as a dict, values as Python's."""
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return attributes_of(value.kvlist_value.values)
    return getattr(value, kind)


def _enum(message: Any, name: str, prefix: str) -> str:
    number = getattr(message, name)
    values = message.DESCRIPTOR.fields_by_name[name].enum_type.values_by_number
    return str(values[number].name).removeprefix(prefix) if number in values else str(number)


def spans_in(message: Any, headers: dict[str, str]) -> list[ReceivedSpan]:
    """Return the spans of an ExportTraceServiceRequest."""
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
                ReceivedEvent(event.name, event.time_unix_nano, attributes_of(event.attributes))
                for event in span.events
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


def points_in(message: Any) -> list[ReceivedPoint]:
    """Return the data points of an ExportMetricsServiceRequest."""
    return [
        ReceivedPoint(
            metric.name,
            metric.unit,
            form,
            getattr(data, "aggregation_temporality", 0),
            attributes_of(point.attributes),
            point,
            (scoped.scope.name, scoped.scope.version),
            attributes_of(group.resource.attributes),
        )
        for group in message.resource_metrics
        for scoped in group.scope_metrics
        for metric in scoped.metrics
        for form in [metric.WhichOneof("data")]
        for data in [getattr(metric, form)]
        for point in data.data_points
    ]


def logs_in(message: Any) -> list[ReceivedLog]:
    """Return the records of an ExportLogsServiceRequest."""
    return [
        ReceivedLog(
            body=_value(record.body),
            severity=record.severity_text,
            event_name=record.event_name,
            attributes=attributes_of(record.attributes),
            trace_id=record.trace_id.hex(),
            span_id=record.span_id.hex(),
            time_ns=record.time_unix_nano,
            observed_ns=record.observed_time_unix_nano,
            resource=attributes_of(group.resource.attributes),
            scope=scoped.scope.name,
        )
        for group in message.resource_logs
        for scoped in group.scope_logs
        for record in scoped.log_records
    ]
