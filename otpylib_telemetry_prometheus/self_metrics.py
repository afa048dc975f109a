"""What the exporters say about themselves, as the metric families of a page.

They go straight onto the page: they are in no store, take up no series, come under no limit, and clash with
nothing, because their names begin as no event of an application does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otpylib_telemetry.self_metrics import SELF_METRICS
from otpylib_telemetry.self_metrics.model import by_name
from otpylib_telemetry_prometheus.exposition.families import Family, Sample

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otpylib_telemetry.self_metrics.model import SelfMetric, Stats


def self_families(answers: Iterable[Stats]) -> list[Family]:
    """Return what exporters say about themselves."""
    known = by_name(answers).items()
    families = []
    for metric in SELF_METRICS:
        samples = tuple(sample for name, answer in known for sample in _samples(metric, name, answer))
        if samples:
            families.append(Family(metric.family, metric.documentation, metric.type, "", samples))
    return families


def _samples(metric: SelfMetric, exporter: str, stats: Stats) -> list[Sample]:
    suffix = "_total" if metric.type == "counter" else ""
    names = ("exporter", *metric.labels)
    return [
        Sample(f"{metric.family}{part or suffix}", dict(zip(names, (exporter, *texts), strict=True)), number)
        for (part, texts), number in metric.readings(stats).items()
    ]
