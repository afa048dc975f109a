"""Metrics that came over OTLP, as Prometheus would show them: what came both ways can then be compared.

Names and labels are spelt as "Prometheus and OpenMetrics compatibility" of the OpenTelemetry specification
says: underscores for dots, the unit at the end, one sample for every bucket.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
    from opentelemetry.proto.metrics.v1 import metrics_pb2

    from examples.shop.scrape import Labels, Sample


def samples_of(request: metrics_service_pb2.ExportMetricsServiceRequest) -> dict[Sample, float]:
    """Return the samples in a request.

    Args:
        request: With sums, gauges and explicit histograms, all cumulative.
    """
    return {
        sample: value
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for sample, value in _samples(metric)
    }


def _samples(metric: metrics_pb2.Metric) -> Iterator[tuple[Sample, float]]:
    name = _spelt(metric.name)
    kind = metric.WhichOneof("data")
    for point in getattr(metric, kind).data_points:
        labels = frozenset((_spelt(pair.key), _text(pair.value)) for pair in point.attributes)
        if kind == "histogram":
            yield from _distribution(f"{name}_seconds" if metric.unit == "s" else name, labels, point)
        else:
            yield (name, labels), float(getattr(point, point.WhichOneof("value")))


def _distribution(
    name: str, labels: Labels, point: metrics_pb2.HistogramDataPoint
) -> Iterator[tuple[Sample, float]]:
    bounds = [*(str(bound) for bound in point.explicit_bounds), "+Inf"]
    for bound, below in zip(bounds, itertools.accumulate(point.bucket_counts), strict=True):
        yield (f"{name}_bucket", labels | {("le", bound)}), float(below)
    yield (f"{name}_count", labels), float(point.count)
    yield (f"{name}_sum", labels), point.sum


def _spelt(name: str) -> str:
    return name.replace(".", "_")


def _text(value: Any) -> str:
    held = getattr(value, value.WhichOneof("value"))
    return str(held).lower() if isinstance(held, bool) else str(held)
