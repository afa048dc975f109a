"""Metrics from elsewhere as OpenTelemetry's own: of user code's values, of prometheus_client's families.

Imports OpenTelemetry: to be imported only where metrics are about to be exported.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
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
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otpylib_telemetry.aggregation.points import MetricPoint
from otpylib_telemetry.metrics.units import KNOWN
from otpylib_telemetry.tracing.propagation import parse_span_id, parse_trace_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from otpylib_telemetry_otel.metrics.producer import Measured


_CUMULATIVE: Final = AggregationTemporality.CUMULATIVE


#: Words for units, as OpenMetrics has them, and UCUM's codes.
_UNITS: Final = {unit.word: unit.ucum for unit in KNOWN if unit.word}


_IDS: Final = {"trace_id": parse_trace_id, "span_id": parse_span_id}


def of_values(scope: str, values: Iterable[tuple[Measured, int]], now_ns: int) -> MetricsData:
    """Return single values as metrics."""
    metrics: dict[tuple[str, str, str, str], list[NumberDataPoint]] = {}
    for one, start_ns in values:
        points = metrics.setdefault((one.name, one.description, one.unit, one.kind), [])
        points.append(NumberDataPoint(dict(one.attributes), start_ns, now_ns, one.value))
    return metrics_data(
        scope,
        [
            Metric(
                name,
                description,
                unit,
                Gauge(points) if kind == "gauge" else Sum(points, _CUMULATIVE, kind == "counter"),
            )
            for (name, description, unit, kind), points in metrics.items()
        ],
    )


def metrics_of(families: Iterable[Any], now_ns: int) -> list[Metric]:
    """Return what a collector of prometheus_client collects; see ``PrometheusRegistryProducer``."""
    return [metric for family in families for metric in _converted(family, now_ns)]


def metrics_data(scope: str, metrics: Sequence[Metric]) -> MetricsData:
    """Return metrics as what a producer produces."""
    scoped = ScopeMetrics(InstrumentationScope(scope), metrics, "")
    return MetricsData([ResourceMetrics(Resource.get_empty(), [scoped], "")])


class _Series:
    """The samples of one set of labels of a family."""

    def __init__(self) -> None:
        self.value: float | None = None
        self.count: float = 0
        self.sum: float = 0.0
        #: Where nothing is told of the beginning, it is unknown, which OTLP says with 0.
        self.start_ns = 0
        self.buckets: list[tuple[float, float]] = []
        self.exemplars: list[Exemplar] = []

    def take(self, part: str, sample: Any, bound: str | None) -> None:
        """Enter a sample; ``part`` is what its name has beyond the family's."""
        match part:
            case "_created":
                self.start_ns = int(sample.value * 1e9)
            case "_bucket" if bound is not None:
                self.buckets.append((float(bound), sample.value))
            case "_count":
                self.count = sample.value
            case "_sum":
                self.sum = sample.value
            case _:
                self.value = sample.value


def _converted(family: Any, now_ns: int) -> Iterator[Metric]:
    kind, name, text = family.type, family.name, family.documentation
    unit = _UNITS.get(family.unit, family.unit)
    collected, quantiles = _collected(family, now_ns)
    numbers = [
        NumberDataPoint(dict(labels), one.start_ns, now_ns, one.value, one.exemplars)
        for labels, one in collected.items()
        if one.value is not None
    ]
    match kind:
        case "counter":
            yield Metric(f"{name}_total", text, unit, Sum(numbers, _CUMULATIVE, is_monotonic=True))
        case "histogram" | "summary":
            points = [_histogram_point(dict(labels), one, now_ns) for labels, one in collected.items()]
            yield Metric(name, text, unit, Histogram(points, _CUMULATIVE))
            if quantiles:
                yield Metric(f"{name}_quantile", text, unit, Gauge(quantiles))
        case "info" | "stateset":
            whole = f"{name}_info" if kind == "info" else name
            yield Metric(whole, text, unit, Sum(numbers, _CUMULATIVE, is_monotonic=False))
        case "gaugehistogram":
            # By the same rules: there is nothing in OTLP that it could become.
            return
        case _:
            yield Metric(name, text, unit, Gauge(numbers))


def _collected(
    family: Any, now_ns: int
) -> tuple[dict[tuple[tuple[str, str], ...], _Series], list[NumberDataPoint]]:
    kind, name = family.type, family.name
    collected: dict[tuple[tuple[str, str], ...], _Series] = {}
    quantiles: list[NumberDataPoint] = []
    for sample in family.samples:
        part, labels = sample.name[len(name) :], dict(sample.labels)
        if kind == "summary" and not part:
            quantiles.append(NumberDataPoint(labels, 0, now_ns, sample.value))
            continue
        bound = labels.pop("le", None) if kind == "histogram" else None
        series = collected.setdefault(tuple(sorted(labels.items())), _Series())
        series.take(part, sample, bound)
        if sample.exemplar is not None:
            series.exemplars.append(_exemplar(sample.exemplar, now_ns))
    return collected, quantiles


def _histogram_point(labels: Mapping[str, str], one: _Series, now_ns: int) -> HistogramDataPoint:
    nothing: Any = None  # optional in OTLP, though not in the annotations of the class
    bounds = sorted(one.buckets)
    counts, before = [], 0
    for _, cumulated in bounds:
        counts.append(int(cumulated) - before)
        before = int(cumulated)
    return HistogramDataPoint(
        attributes=labels,
        start_time_unix_nano=one.start_ns,
        time_unix_nano=now_ns,
        count=before if bounds else int(one.count),
        sum=one.sum,
        bucket_counts=counts,
        explicit_bounds=[bound for bound, _ in bounds if bound != math.inf],
        min=nothing,
        max=nothing,
        exemplars=one.exemplars,
    )


def _exemplar(exemplar: Any, now_ns: int) -> Exemplar:
    labels = dict(exemplar.labels)
    ids = {name: parse(labels.get(name)) for name, parse in _IDS.items()}
    for name, found in ids.items():
        if found is not None:
            del labels[name]
    at_ns = int(exemplar.timestamp * 1e9) if exemplar.timestamp else now_ns
    return Exemplar(labels, exemplar.value, at_ns, span_id=ids["span_id"], trace_id=ids["trace_id"])


class Foreign:
    """The metric a producer's data point stands in."""

    __slots__ = ("metric", "resource", "schema_url", "scope")

    def __init__(
        self, resource: Resource | None, scope: InstrumentationScope, schema_url: str, metric: Metric
    ) -> None:
        self.resource = resource
        self.scope = scope
        self.schema_url = schema_url
        self.metric = metric


def points_of(data: MetricsData) -> Iterator[MetricPoint]:
    """Yield the data points of what a producer produced, as they are."""
    for group in data.resource_metrics:
        told = group.resource is not None and group.resource.attributes
        for scoped in group.scope_metrics:
            for metric in scoped.metrics:
                resource = group.resource if told else None
                stream = Foreign(resource, scoped.scope, scoped.schema_url, metric)
                for point in metric.data.data_points:
                    yield MetricPoint(stream, (), point)
