"""Views: what becomes of the measurements of chosen instruments.

The names, the arguments, their order and what they mean are those of ``opentelemetry.sdk.metrics.view``
(OpenTelemetry's metrics SDK specification, section "View"), so that views move here by another import. The
SDK's own objects keep what they were made with to themselves, and are refused therefore.

Needs no package of OpenTelemetry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Protocol

from otpylib_telemetry.aggregation.exponential import MAX_SCALE, MIN_SCALE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from otpylib_telemetry.aggregation.metric_spec import Scope

__all__ = [
    "DEFAULT_BOUNDARIES",
    "Aggregation",
    "DefaultAggregation",
    "DropAggregation",
    "ExplicitBucketHistogramAggregation",
    "ExponentialBucketHistogramAggregation",
    "LastValueAggregation",
    "SumAggregation",
    "View",
    "checked_views",
]

#: Buckets of a histogram whose instrument suggests none and no view gives any: those of OpenTelemetry's
#: metrics SDK specification ("Explicit Bucket Histogram Aggregation"), which are meant for milliseconds.
DEFAULT_BOUNDARIES: Final = (
    *(0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0),
    *(1_000.0, 2_500.0, 5_000.0, 7_500.0, 10_000.0),
)

_WILD: Final = frozenset("*?")

#: What a view chooses instruments by.
_CHOOSES: Final = (
    *("instrument_type", "instrument_name", "instrument_unit"),
    *("meter_name", "meter_version", "meter_schema_url"),
)

#: The fewest buckets for either sign: at the coarsest scale, all floats there are share that many.
_FEWEST: Final = 2


@dataclass(frozen=True, slots=True)
class Aggregation:
    """How measurements become the numbers of a series; one of the classes below."""


@dataclass(frozen=True, slots=True)
class DefaultAggregation(Aggregation):
    """What suits the kind of the instrument."""


@dataclass(frozen=True, slots=True)
class DropAggregation(Aggregation):
    """Nothing becomes of them."""


@dataclass(frozen=True, slots=True)
class SumAggregation(Aggregation):
    """Their sum; it only ever rises where the instrument takes nothing negative."""


@dataclass(frozen=True, slots=True)
class LastValueAggregation(Aggregation):
    """The latest of them."""


@dataclass(frozen=True, slots=True)
class ExplicitBucketHistogramAggregation(Aggregation):
    """Their distribution over given buckets.

    Attributes:
        boundaries: Upper bounds of the buckets, inclusive, ascending; None for those the instrument suggests.
        record_min_max: Whether the least and the greatest are told where that can be said: over OTLP.

    Raises:
        ValueError: The bounds are not finite or do not ascend.
    """

    boundaries: Sequence[float] | None = None
    record_min_max: bool = True

    def __post_init__(self) -> None:
        """Refuse bounds that are none."""
        if self.boundaries is not None:
            object.__setattr__(self, "boundaries", checked_boundaries(self.boundaries))


@dataclass(frozen=True, slots=True)
class ExponentialBucketHistogramAggregation(Aggregation):
    """Their distribution over buckets that widen by a constant factor, as fine as their number allows.

    Attributes:
        max_size: How many buckets there may be for either sign.
        max_scale: The resolution to begin with.
        record_min_max: Whether the least and the greatest are told where that can be said: over OTLP.

    Raises:
        ValueError: A number is out of its range.
    """

    max_size: int = 160
    max_scale: int = MAX_SCALE
    record_min_max: bool = True

    def __post_init__(self) -> None:
        """Refuse numbers that are out of range."""
        if self.max_size < _FEWEST:
            raise ValueError(f"max_size: expected {_FEWEST} or more, got {self.max_size!r}")
        if not MIN_SCALE <= self.max_scale <= MAX_SCALE:
            raise ValueError(f"max_scale: expected {MIN_SCALE} to {MAX_SCALE}, got {self.max_scale!r}")


class Matched(Protocol):
    """What a view looks at: an instrument."""

    name: str
    unit: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class View:
    """Which instruments, and what becomes of their measurements.

    Every instrument is meant that matches all of ``instrument_type``, ``instrument_name``,
    ``instrument_unit``, ``meter_name``, ``meter_version`` and ``meter_schema_url``; at least one of them is
    to be given. A view is one stream of numbers: where two views match an instrument, there are two.

    Attributes:
        instrument_type: A class of instruments of ``opentelemetry.metrics``, or the SDK's class of that name.
        instrument_name: The name, in which ``*`` stands for anything and ``?`` for one character; upper and
            lower case are the same.
        meter_name: The name of the meter.
        meter_version: Its version.
        meter_schema_url: Its schema URL.
        name: What the metric is called; None for the instrument's name.
        description: What the metric says; None for the instrument's description.
        attribute_keys: The attributes that are kept; None for all.
        aggregation: How measurements are aggregated; None for what suits the instrument.
        exemplar_reservoir_factory: What makes the SDK's reservoirs of exemplars, for what is sent over OTLP:
            called with the SDK's class of the aggregation, it returns what is called for each series. None
            for those that series have of their own. Needs the SDK.
        instrument_unit: The unit, in which ``*`` and ``?`` mean the same; upper and lower case differ.
        aggregation_cardinality_limit: How many series the metric may have; None for as many as the exporter
            says. Counted on the Prometheus side for all scopes that share the metric's name.

    Raises:
        ValueError: Nothing is chosen, a name is given to what may be several instruments, or a limit is not
            positive.
        TypeError: The aggregation is not one of this module.
    """

    instrument_type: type[Any] | None = None
    instrument_name: str | None = None
    meter_name: str | None = None
    meter_version: str | None = None
    meter_schema_url: str | None = None
    name: str | None = None
    description: str | None = None
    attribute_keys: Iterable[str] | None = None
    aggregation: Aggregation | None = None
    exemplar_reservoir_factory: Callable[[Any], Callable[..., Any]] | None = field(default=None, hash=False)
    instrument_unit: str | None = None
    aggregation_cardinality_limit: int | None = None

    def __post_init__(self) -> None:
        """Refuse a view that cannot be meant."""
        if all(getattr(self, each) is None for each in _CHOOSES):
            raise ValueError(
                f"a view chooses by at least one of {', '.join(_CHOOSES)}; for every instrument give "
                f"instrument_name='*'"
            )
        if self.name is not None and self.instrument_name is not None and _WILD & {*self.instrument_name}:
            raise ValueError(
                f"view {self.name!r}: instrument_name {self.instrument_name!r} may match several "
                f"instruments, which would all be called {self.name!r}; give the name of one"
            )
        if self.aggregation is not None and not isinstance(self.aggregation, Aggregation):
            raise TypeError(_not_ours("aggregation", self.aggregation))
        limit = self.aggregation_cardinality_limit
        if limit is not None and (type(limit) is not int or limit < 1):
            raise ValueError(f"aggregation_cardinality_limit: expected a positive integer, got {limit!r}")
        if self.exemplar_reservoir_factory is not None and not callable(self.exemplar_reservoir_factory):
            raise TypeError("exemplar_reservoir_factory: expected a function")
        if self.attribute_keys is not None:
            if isinstance(self.attribute_keys, str):
                raise TypeError("attribute_keys: expected a set of names, got a text")
            object.__setattr__(self, "attribute_keys", frozenset(self.attribute_keys))

    def matches(self, instrument: Matched, kind: type[Any]) -> bool:
        """Tell whether an instrument is meant.

        Args:
            instrument: The instrument.
            kind: The class of ``opentelemetry.metrics`` it belongs to.
        """
        scope = instrument.scope
        wanted = self.instrument_type
        return (
            (wanted is None or isinstance(instrument, wanted) or issubclass(wanted, kind))
            and (
                self.instrument_name is None
                or fnmatchcase(instrument.name.lower(), self.instrument_name.lower())
            )
            and (self.instrument_unit is None or fnmatchcase(instrument.unit, self.instrument_unit))
            and self.meter_name in {None, scope.name}
            and self.meter_version in {None, scope.version}
            and self.meter_schema_url in {None, scope.schema_url}
        )


def checked_views(views: Iterable[object]) -> tuple[View, ...]:
    """Return views, all of which are of this module; raises a TypeError if one is not."""
    found = tuple(views)
    for each in found:
        if not isinstance(each, View):
            raise TypeError(_not_ours("view", each))
    return tuple(each for each in found if isinstance(each, View))


def checked_boundaries(boundaries: Iterable[float]) -> tuple[float, ...]:
    """Return the bounds of buckets as floats; raises a ValueError if they do not ascend or are not finite."""
    try:
        bounds = tuple(float(each) for each in boundaries)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"boundaries: expected ascending numbers, got {boundaries!r}") from None
    if not all(map(math.isfinite, bounds)):
        raise ValueError(f"boundaries: expected finite numbers, got {boundaries!r}")
    if any(low >= high for low, high in pairwise(bounds)):
        raise ValueError(f"boundaries: expected ascending numbers, got {boundaries!r}")
    return bounds


def _not_ours(what: str, given: object) -> str:
    kind = type(given)
    hint = ""
    if kind.__module__.startswith("opentelemetry.sdk"):
        hint = (
            f"; the SDK's objects do not tell what they were made with. {__name__} has {kind.__name__} "
            f"with the same arguments"
        )
    return f"{what}: expected one of {__name__}, got {kind.__module__}.{kind.__qualname__}{hint}"
