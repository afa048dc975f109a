"""What a metric is to be: its kind, its name, and what only some kinds have."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from otpylib_telemetry.aggregation.exponential import MAX_SCALE


class Kind(enum.Enum):
    """What the numbers of a metric mean."""

    COUNTER = "counter"
    GAUGE = "gauge"
    UP_DOWN = "up-down counter"
    HISTOGRAM = "histogram"
    EXPONENTIAL = "exponential histogram"
    SUMMARY = "summary"


@dataclass(frozen=True, slots=True)
class Scope:
    """What made a metric: OpenTelemetry's instrumentation scope; the name of our own is empty."""

    name: str = ""
    version: str = ""
    schema_url: str = ""
    attributes: tuple[tuple[str, Any], ...] = ()


#: Of metrics made of events.
NO_SCOPE: Final = Scope()


class SummaryShape(NamedTuple):
    """What the quantiles of a summary are.

    Attributes:
        quantiles: Which, each from 0 to 1, ascending.
        scale: The resolution of the buckets behind them; see :func:`~.exponential.scale_for`.
        max_size: How many buckets there may be for either sign before the resolution is halved.
        slice_ns: Nanoseconds in a slice of time.
        slices: Over how many slices quantiles are taken; the one that has begun is the last.
    """

    quantiles: tuple[float, ...]
    scale: int
    max_size: int
    slice_ns: int
    slices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """What a metric is to be.

    Attributes:
        kind: What its numbers mean.
        name: Its name.
        description: What it says, for a person to read.
        unit: Unit of its values; empty if they have none.
        claims: Further names nothing else may use, because the format it leaves in needs them.
        owner: Who declares it: nobody else gets it under its name.
        key: By what it is found in the store, where that is not its name.
        scope: What made it.
        observed: Whether its values are read off when somebody asks, as those of observable instruments are.
        passing: Whether it goes with the last of its series that expires: the next measurement makes it anew.
        max_series: How many series it may have; None for as many as the store says.
        folds: Whether a label is folded when there are too many, before the overflow series is used.
        multiprocess_mode: How the gauges of several processes become one, in the words of prometheus_client.
        bounds: Of a histogram: upper bounds of its buckets, inclusive, ascending.
        scale: Of an exponential histogram: the resolution its series begin with.
        max_size: Of an exponential histogram: how many buckets a series may have for either sign.
        extremes: Of either histogram: whether the least and the greatest observation are told.
        shape: Of a summary: which quantiles, how exact, over which time.
    """

    kind: Kind
    name: str
    description: str = ""
    unit: str = ""
    claims: tuple[str, ...] = ()
    owner: str = ""
    key: str = ""
    scope: Scope = NO_SCOPE
    observed: bool = False
    passing: bool = False
    max_series: int | None = None
    folds: bool = True
    multiprocess_mode: str = "mostrecent"
    bounds: tuple[float, ...] = ()
    scale: int = MAX_SCALE
    max_size: int = 160
    extremes: bool = True
    shape: SummaryShape | None = None
