"""Data points as OpenTelemetry's exporters take them, and so as an OTLP request.

Imports OpenTelemetry: to be imported only where metrics are about to be exported. All of it runs on a thread.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Buckets,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otpylib_telemetry.aggregation.metric_spec import NO_SCOPE
from otpylib_telemetry.aggregation.points import (
    ExponentialPoint,
    Form,
    HistogramPoint,
    MetricPoint,
    NumberPoint,
    Temporality,
)
from otpylib_telemetry.meters.attributes import attribute_value
from otpylib_telemetry.tracing.propagation import parse_span_id, parse_trace_id
from otpylib_telemetry.version import __version__
from otpylib_telemetry_otel.metrics.conversion import Foreign
from otpylib_telemetry_otel.otlp.metrics import encoded
from otpylib_telemetry_otel.otlp.values import Encoded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.resources import Resource

    from otpylib_telemetry.aggregation import series
    from otpylib_telemetry.aggregation.metric_spec import Scope
    from otpylib_telemetry.aggregation.points import Stream


#: The attribute of the series that takes what is beyond the limit, as the SDK has it.
_OVERFLOW: Final[Mapping[str, Any]] = {"otel.metric.overflow": True}


#: OTLP has signed 64-bit integers; what is beyond leaves as a float.
_MAX_INTEGER: Final = 2**63 - 1


_TEMPORALITIES: Final = {
    Temporality.DELTA: AggregationTemporality.DELTA,
    Temporality.CUMULATIVE: AggregationTemporality.CUMULATIVE,
}


class MetricConverter:
    """Makes OpenTelemetry's metrics of data points of one resource."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self._own = InstrumentationScope("otpylib_telemetry", __version__)

    def convert(self, items: Sequence[MetricPoint]) -> MetricsData:
        """Return data points grouped by resource, scope and metric."""
        groups: dict[Any, tuple[Resource, dict[Any, tuple[Any, str, list[Metric]]]]] = {}
        metrics: dict[Any, list[Any]] = {}
        for item in items:
            stream = item.stream
            foreign = isinstance(stream, Foreign)
            key = id(stream) if foreign else stream
            points = metrics.get(key)
            if points is None:
                points = metrics[key] = []
                if foreign:
                    resource, scope, url = stream.resource or self.resource, stream.scope, stream.schema_url
                    metric = replace(stream.metric, data=replace(stream.metric.data, data_points=points))
                    of_scope = scope
                else:
                    resource, scope, of_scope = self.resource, self._scope(stream.scope), stream.scope
                    metric = Metric(stream.name, stream.description, stream.unit, _data(stream, points))
                    url = scope.schema_url
                _, scopes = groups.setdefault(self._identity(resource), (resource, {}))
                scopes.setdefault(of_scope, (scope, url or "", []))[2].append(metric)
            points.append(item.point if foreign else _point(item))
        return MetricsData(
            [
                ResourceMetrics(
                    resource,
                    [ScopeMetrics(scope, told, url) for scope, url, told in scopes.values()],
                    resource.schema_url,
                )
                for resource, scopes in groups.values()
            ]
        )

    def _identity(self, resource: Resource) -> Any:
        """Return what equal resources have in common: of two equal groups an exporter keeps only the last."""
        if resource is self.resource or resource == self.resource:
            return None
        try:
            hash(resource)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - an attribute of it that cannot be hashed
            return id(resource)
        return resource

    def _scope(self, scope: Scope) -> InstrumentationScope:
        if scope == NO_SCOPE:
            return self._own
        attributes = {key: attribute_value(text) for key, text in scope.attributes}
        return InstrumentationScope(
            scope.name, scope.version or None, scope.schema_url or None, attributes or None
        )


class MetricEncoder:
    """Makes requests of data points."""

    def __init__(self, resource: Resource) -> None:
        self._converter = MetricConverter(resource)

    def encode(self, items: Sequence[MetricPoint]) -> Encoded:
        """Encode data points; one that cannot be encoded is left out, so that the others go."""
        try:
            return encoded(self._converter.convert(items))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever is in one of them, the others are to go
            if len(items) == 1:
                return Encoded(b"", 1, f"{type(error).__name__}: {error}")
        # Requests that follow each other are one request with all that is in them.
        each = [self.encode([item]) for item in items]
        refused = [one for one in each if one.refused]
        return Encoded(
            b"".join(one.body for one in each),
            sum(one.refused for one in refused),
            refused[-1].reason if refused else "",
        )


def _data(stream: Stream, points: list[Any]) -> Sum | Gauge | Histogram | ExponentialHistogram:
    temporality = _TEMPORALITIES[stream.temporality]
    match stream.form:
        case Form.SUM:
            return Sum(points, temporality, stream.monotonic)
        case Form.GAUGE:
            return Gauge(points)
        case Form.HISTOGRAM:
            return Histogram(points, temporality)
        case Form.EXPONENTIAL:
            return ExponentialHistogram(points, temporality)


def _point(item: MetricPoint) -> NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint:
    point = item.point
    attributes = dict(_OVERFLOW)
    if item.labels is not None:
        attributes = {key: attribute_value(text) for key, text in item.labels}
    exemplars = [_exemplar(one, item.wall_offset_ns) for one in point.exemplars]
    if isinstance(point, NumberPoint):
        return NumberDataPoint(attributes, point.start_ns, point.at_ns, _number(point.value), exemplars)
    nothing: Any = None  # the fields are optional in OTLP, though not in the annotations of the classes
    if isinstance(point, HistogramPoint):
        return HistogramDataPoint(
            attributes=attributes,
            start_time_unix_nano=point.start_ns,
            time_unix_nano=point.at_ns,
            count=sum(point.counts),
            sum=point.sum,
            bucket_counts=point.counts,
            explicit_bounds=point.bounds,
            min=nothing if point.least is None else point.least,
            max=nothing if point.greatest is None else point.greatest,
            exemplars=exemplars,
        )
    told: ExponentialPoint = point
    return ExponentialHistogramDataPoint(
        attributes=attributes,
        start_time_unix_nano=told.start_ns,
        time_unix_nano=told.at_ns,
        count=told.size,
        sum=told.sum,
        scale=told.scale,
        zero_count=told.zeros,
        positive=_buckets(told.positive),
        negative=_buckets(told.negative),
        flags=0,
        min=nothing if told.least is None else told.least,
        max=nothing if told.greatest is None else told.greatest,
        exemplars=exemplars,
    )


def _buckets(counts: Mapping[int, int]) -> Buckets:
    if not counts:
        return Buckets(0, [])
    first, last = min(counts), max(counts)
    return Buckets(first, [counts.get(index, 0) for index in range(first, last + 1)])


def _number(value: float) -> float:
    return float(value) if isinstance(value, int) and abs(value) > _MAX_INTEGER else value


def _exemplar(exemplar: series.Exemplar, wall_offset_ns: int) -> Exemplar:
    traced = exemplar.traced
    return Exemplar(
        {key: attribute_value(text) for key, text in traced.attributes},
        _number(exemplar.value),
        traced.at_ns + wall_offset_ns,
        span_id=parse_span_id(traced.span_id),
        trace_id=parse_trace_id(traced.trace_id),
    )
