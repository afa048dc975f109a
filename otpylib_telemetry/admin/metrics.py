"""``GET /metrics-by-size``: series per metric, with the labels that fill them."""

from __future__ import annotations

import asyncio
import heapq
from typing import TYPE_CHECKING

from otpylib_telemetry.admin.models.insight import MetricsBySize, MetricSize
from otpylib_telemetry.admin.plain import shown_names, shown_text
from otpylib_telemetry.aggregation.exporter_stores import known_stores

if TYPE_CHECKING:
    from otpylib_telemetry.admin.routing import Call
    from otpylib_telemetry.aggregation.metric import AnyMetric
    from otpylib_telemetry.aggregation.store import SeriesStore


async def get_metrics_by_size(call: Call) -> MetricsBySize:
    """Answer with the largest metrics."""
    found = [
        (len(metric.series), name, metric, store)
        for name, store in known_stores().items()
        for metric in store.metrics
    ]
    largest = heapq.nlargest(call.parameters.limit, found, key=lambda each: each[0])
    told = []
    for _, name, metric, store in largest:
        told.append(_size(name, metric, store))
        # Labels are counted series by series: the event loop gets its turn between two metrics.
        await asyncio.sleep(0)
    return MetricsBySize(series=sum(each[0] for each in found), metrics=len(found), largest=told)


def _size(exporter: str, metric: AnyMetric, store: SeriesStore) -> MetricSize:
    with store.lock:
        return MetricSize(
            exporter=exporter,
            metric=shown_text(metric.name),
            kind=metric.kind.value,
            series=len(metric.series),
            limit=metric.limit,
            overflowing=metric.overflow is not None,
            labels=shown_names(dict(metric.most_values())),
            folded=shown_names(dict(metric.ever_folded)),
        )
