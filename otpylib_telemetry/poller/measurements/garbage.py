"""What Python's garbage collector has done.

On a page the metrics are those of prometheus_client's ``GCCollector``; over OTLP those of OpenTelemetry's
semantic conventions for CPython.
"""

from __future__ import annotations

import gc
from typing import Final

from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.meters.observed import Observation, ObservedMetric
from otpylib_telemetry.poller.polls import Measured

NAME: Final = "telemetry.poller.gc"


def _metric(name: str, page_name: str, unit: str, description: str) -> tuple[ObservedMetric, ObservedMetric]:
    """Return a metric for either exit: their labels are called otherwise."""
    return (
        ObservedMetric(Kind.COUNTER, "", page_name, unit, description),
        ObservedMetric(Kind.COUNTER, name, "", unit, description),
    )


_METRICS: Final = {
    "collected": _metric(
        "cpython.gc.collected_objects",
        "python_gc_objects_collected",
        "{object}",
        "Objects collected during gc",
    ),
    "uncollectable": _metric(
        "cpython.gc.uncollectable_objects",
        "python_gc_objects_uncollectable",
        "{object}",
        "Uncollectable objects found during GC",
    ),
    "collections": _metric(
        "cpython.gc.collections",
        "python_gc_collections",
        "{collection}",
        "Number of times this generation was collected",
    ),
}


def measure() -> Measured:
    """Return what it has done so far, by generation."""
    found = Measured([], [], [])
    for generation, stats in enumerate(gc.get_stats()):
        found.events.append(({key: stats[key] for key in _METRICS}, {"generation": generation}))
        for key, (on_page, over_otlp) in _METRICS.items():
            found.observations.append(Observation(on_page, stats[key], {"generation": generation}))
            found.observations.append(
                Observation(over_otlp, stats[key], {"cpython.gc.generation": generation})
            )
    return found
