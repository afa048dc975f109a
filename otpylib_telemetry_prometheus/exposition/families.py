"""Metric families: what one scrape says about metrics that are in no store of ours.

A family has the attributes prometheus_client's ``Metric`` has, a sample those of its ``Sample``, an exemplar
those of its ``Exemplar``: whoever writes one of them as text writes the other, and need not import
prometheus_client for it. They are values: made for one scrape, never changed afterwards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation.metric_spec import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping


#: The types a family can have: those of OpenMetrics 1.0, where classic text knows ``unknown`` as ``untyped``.
TYPES: Final = frozenset(
    {"counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset", "unknown"}
)

#: The type that each kind of metric in a store has.
TYPE_OF: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        Kind.COUNTER: "counter",
        Kind.GAUGE: "gauge",
        Kind.UP_DOWN: "gauge",
        Kind.HISTOGRAM: "histogram",
        Kind.EXPONENTIAL: "histogram",
        Kind.SUMMARY: "summary",
    }
)

#: What the names of samples have besides that of their family, by type: OpenMetrics 1.0, "Metric Types".
#: Samples of a type that is not here have the family's name.
ENDINGS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "counter": ("_total", "_created"),
        "summary": ("", "_count", "_sum", "_created"),
        "histogram": ("_count", "_sum", "_bucket", "_created"),
        "gaugehistogram": ("_gcount", "_gsum", "_bucket"),
        "info": ("_info",),
    }
)


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One observation that stands for the others.

    Attributes:
        labels: What leads to it: ``trace_id`` and ``span_id`` of the operation that made it.
        value: What was observed.
        timestamp: When, in seconds since the epoch; None if nobody knows.
    """

    labels: Mapping[str, str]
    value: float
    timestamp: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One number, as one line of a scrape has it.

    Attributes:
        name: The name in full: that of a counter ends in ``_total``, that of a bucket in ``_bucket``.
        labels: Its labels.
        value: The number.
        timestamp: When it was measured, in seconds since the epoch; None, as for nearly every sample, means
            the moment of the scrape.
        exemplar: Its exemplar; counters and buckets may have one.
    """

    name: str
    labels: Mapping[str, str]
    value: float
    timestamp: float | None = None
    exemplar: Exemplar | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """All samples of one metric.

    Attributes:
        name: Its name, without the suffixes its type gives to samples: a counter's has no ``_total``, as
            OpenMetrics 1.0 and prometheus_client have it.
        documentation: What it says, for a person to read.
        type: One of :data:`TYPES`.
        unit: Its unit, which the name ends in; empty if it has none, or does not say.
        samples: Its samples, those of one series together.
    """

    name: str
    documentation: str
    type: str
    unit: str = ""
    samples: tuple[Sample, ...] = ()


def names_of(family: Family) -> set[str]:
    """Return every name that a family takes up, so that nothing else may have it."""
    return {family.name, *(family.name + ending for ending in ENDINGS.get(family.type, ()))}


def undated(family: Any) -> Any:
    """Return a family, ours or prometheus_client's, without times: of each series the latest sample."""
    if all(sample.timestamp is None for sample in family.samples):
        return family
    latest: dict[Any, Any] = {}
    for sample in family.samples:
        series = (sample.name, tuple(sorted(sample.labels.items())))
        before = latest.get(series)
        if before is None or _at(before) <= _at(sample):
            latest[series] = sample
    samples = (Sample(one.name, one.labels, one.value, None, one.exemplar) for one in latest.values())
    return Family(family.name, family.documentation, family.type, family.unit, tuple(samples))


def _at(sample: Any) -> float:
    return math.inf if sample.timestamp is None else float(sample.timestamp)
