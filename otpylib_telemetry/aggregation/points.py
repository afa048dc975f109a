"""Data points and temporality, as data."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry.aggregation.metric_spec import Scope
    from otpylib_telemetry.aggregation.series import Exemplar, Labels


class Temporality(enum.Enum):
    """What a point counts from; the values are OTLP's."""

    DELTA = 1
    CUMULATIVE = 2


class Form(enum.Enum):
    """The forms of points there are."""

    SUM = "sum"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    EXPONENTIAL = "exponential histogram"


class Stream(NamedTuple):
    """What the points of one metric have in common; the temporality is of no meaning for a gauge."""

    scope: Scope
    name: str
    description: str
    unit: str
    form: Form
    temporality: Temporality
    monotonic: bool


class NumberPoint(NamedTuple):
    """A number: of a sum or a gauge. Times are in nanoseconds since the epoch."""

    start_ns: int
    at_ns: int
    value: float
    exemplars: tuple[Exemplar, ...] = ()


class HistogramPoint(NamedTuple):
    """Counts of explicit buckets, each bucket by itself; the extremes are None where nobody wants them."""

    start_ns: int
    at_ns: int
    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float
    exemplars: tuple[Exemplar, ...] = ()
    least: float | None = None
    greatest: float | None = None


class ExponentialPoint(NamedTuple):
    """Counts of exponential buckets by index; the extremes are None where nobody wants them."""

    start_ns: int
    at_ns: int
    scale: int
    zeros: int
    positive: Mapping[int, int]
    negative: Mapping[int, int]
    size: int
    sum: float
    least: float | None
    greatest: float | None
    exemplars: tuple[Exemplar, ...] = ()


@dataclass(slots=True, eq=False)
class MetricPoint:
    """One data point, ready to be sent."""

    #: The lane it goes out on.
    lane: ClassVar[str] = "metrics"

    stream: Any
    labels: Labels | None
    point: Any
    wall_offset_ns: int = 0
