"""What the exporters say about themselves, as the metric families of a page."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from otpylib_telemetry.metrics.names import readable
from otpylib_telemetry_prometheus.exposition.families import Family, Sample
from otpylib_telemetry_prometheus.self_metrics.table import SELF_METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otpylib_telemetry_prometheus.self_metrics.model import SelfMetric, Stats


def self_families(answers: Iterable[Stats]) -> list[Family]:
    """Return what exporters say about themselves."""
    known = {readable(str(answer.get("name", ""))): answer for answer in answers}.items()
    families = []
    for metric in SELF_METRICS:
        samples = tuple(sample for name, answer in known for sample in _samples(metric, name, answer))
        if samples:
            families.append(Family(metric.family, metric.documentation, metric.type, "", samples))
    return families


def _samples(metric: SelfMetric, exporter: str, stats: Stats) -> list[Sample]:
    try:
        readings = [*metric.read(stats)]
    except Exception:  # noqa: BLE001  # an exporter of somebody else's may answer what it likes
        return []
    suffix = "_total" if metric.type == "counter" else ""
    names = ("exporter", *metric.labels)
    found: dict[tuple[str, ...], Sample] = {}
    for part, values, number in readings:
        if isinstance(number, (int, float)) and math.isfinite(number):
            texts = (exporter, *map(readable, values))
            # A page that has a series twice is refused as a whole.
            found.setdefault(
                (part, *texts),
                Sample(f"{metric.family}{part or suffix}", dict(zip(names, texts, strict=True)), number),
            )
    return [*found.values()]
