"""The series of a store as metric families: the same numbers a scrape has, for whoever takes objects.

A scrape of many series is written as text directly (:mod:`.series_text`); this is for prometheus_client's
registries and others who want each sample as a value. Safe on any thread.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation.metric import Counter, Exponential, Gauge, Histogram, Summary, UpDown
from otpylib_telemetry.metrics.labels import number_text
from otpylib_telemetry.metrics.names import metric_name
from otpylib_telemetry.primitives.clock import wall_clock
from otpylib_telemetry_prometheus.exposition.families import TYPE_OF, Exemplar, Family, Sample, names_of
from otpylib_telemetry_prometheus.exposition.histogram_text import (
    Buckets,
    explicit_buckets,
    limits_of,
    power_buckets,
)
from otpylib_telemetry_prometheus.exposition.labels_text import beside, common_labels
from otpylib_telemetry_prometheus.exposition.power_bounds import PowerBounds
from otpylib_telemetry_prometheus.exposition.text import trace_labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from otpylib_telemetry.aggregation.metric import AnyMetric
    from otpylib_telemetry.aggregation.series import Exemplar as Seen
    from otpylib_telemetry.aggregation.series import Labels
    from otpylib_telemetry.aggregation.store import SeriesStore


#: Series read while the store is held: some milliseconds during which nobody can measure.
_CHUNK: Final = 500

_NO_LABELS: Final[Mapping[str, Any]] = MappingProxyType({})


def families_of(
    store: SeriesStore, namespace: str = "", global_labels: Mapping[str, Any] = _NO_LABELS
) -> Iterator[Family]:
    """Yield the metrics of a store, in the order of their names; one without series is left out.

    The store is held for a number of series at a time, so each series is of one moment. Namespace and global
    labels are the exporter's settings.
    """
    prefix = f"{metric_name(namespace)}_" if namespace else ""
    common = common_labels(global_labels)
    with store.lock:
        # At once: a change of definitions in between must not leave out both the old and the new metric.
        present: list[tuple[AnyMetric, Sequence[Any]]] = [
            (metric, metric.all_series()) for metric in store.metrics
        ]
    for metric, series in present:
        samples = tuple(_samples_of(store, metric, series, prefix + metric.name, common))
        if samples:
            yield _family(metric, prefix + metric.name, samples)


def names_in(store: SeriesStore, namespace: str = "") -> set[str]:
    """Return every name that the metrics of a store take up on a page."""
    prefix = f"{metric_name(namespace)}_" if namespace else ""
    return {name for metric in store.metrics for name in names_of(_family(metric, prefix + metric.name))}


def _family(metric: AnyMetric, name: str, samples: tuple[Sample, ...] = ()) -> Family:
    kind = TYPE_OF[metric.kind]
    family = name.removesuffix("_total") if kind == "counter" else name
    # OpenMetrics 1.0, "Unit": the name must end in it.
    unit = metric.unit if metric.unit and family.endswith(f"_{metric.unit}") else ""
    return Family(family, metric.description, kind, unit, samples)


def _samples_of(
    store: SeriesStore, metric: AnyMetric, series: Sequence[Any], name: str, common: Mapping[str, str]
) -> Iterator[Sample]:
    bounds = PowerBounds()
    if isinstance(metric, Exponential):
        with store.lock:
            for one in series:
                bounds.cover(one.buckets)
    for start in range(0, len(series), _CHUNK):
        with store.lock:
            found = [
                sample
                for one in series[start : start + _CHUNK]
                for sample in _of_series(metric, one, name, _labels(one.labels, common), bounds)
            ]
        yield from found


def _of_series(
    metric: AnyMetric, one: Any, name: str, labels: dict[str, str], bounds: PowerBounds
) -> list[Sample]:
    match metric:
        case Counter():
            total = f"{name.removesuffix('_total')}_total"
            return [Sample(total, labels, one.value, None, _exemplar(one.exemplar))]
        case Gauge() | UpDown():
            return [Sample(name, labels, one.value)]
        case Histogram():
            return _histogram(name, labels, one, explicit_buckets(one, limits_of(one.bounds)))
        case Exponential():
            # What was observed since the bounds were chosen may need more of them.
            bounds.cover(one.buckets)
            return _histogram(name, labels, one, power_buckets(one, bounds))
        case Summary():
            wanted = metric.shape.quantiles
            quantiles = [
                Sample(name, {**labels, "quantile": number_text(float(quantile))}, value)
                for quantile, value in zip(wanted, one.quantiles(wanted), strict=True)
            ]
            return [*quantiles, *_totals(name, labels, one)]


def _histogram(name: str, labels: dict[str, str], one: Any, buckets: Buckets) -> list[Sample]:
    limits, counts, exemplars = buckets
    found = zip(limits, counts, exemplars or [None] * len(counts), strict=True)
    samples = [
        Sample(f"{name}_bucket", {**labels, "le": limit}, count, None, _exemplar(seen))
        for limit, count, seen in found
    ]
    return [*samples, *_totals(name, labels, one)]


def _totals(name: str, labels: dict[str, str], one: Any) -> list[Sample]:
    return [Sample(f"{name}_count", labels, one.count), Sample(f"{name}_sum", labels, one.sum)]


def _exemplar(seen: Seen | None) -> Exemplar | None:
    if seen is None:
        return None
    at = (seen.traced.at_ns + wall_clock.offset_ns()) / 1e9
    return Exemplar(trace_labels(seen.traced), seen.value, at)


def _labels(labels: Labels, common: Mapping[str, str]) -> dict[str, str]:
    """Return a series' labels with those of every series, its own renamed where a global one has the name."""
    return {**beside(labels, common), **common} if common else dict(labels)
