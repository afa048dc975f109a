"""What views make of instruments: the streams each is to have.

Imports OpenTelemetry's API: to be imported only where it is wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics as api

from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.meters.instruments import Instrument, Observable
from otpylib_telemetry.meters.stream_plan import Plan
from otpylib_telemetry.meters.views import (
    DEFAULT_BOUNDARIES,
    DefaultAggregation,
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    LastValueAggregation,
    View,
)
from otpylib_telemetry.primitives.any_value import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


#: What the numbers of an instrument mean, by its class in the API.
_KINDS: Final[Mapping[type[Any], Kind]] = {
    api.Counter: Kind.COUNTER,
    api.UpDownCounter: Kind.UP_DOWN,
    api.Histogram: Kind.HISTOGRAM,
    api._Gauge: Kind.GAUGE,  # noqa: SLF001 - listed in __all__ under this name
    api.ObservableCounter: Kind.COUNTER,
    api.ObservableUpDownCounter: Kind.UP_DOWN,
    api.ObservableGauge: Kind.GAUGE,
}

#: Those that refuse a negative measurement.
_NEVER_NEGATIVE: Final = frozenset({api.Counter, api.Histogram})


def plans_of(instrument: Instrument, views: Iterable[View], say: Callable[[str], None]) -> list[Plan]:
    """Return what the views make of an instrument; without any, what suits its kind."""
    matching = [view for view in views if view.matches(instrument, instrument.api_class)]
    usable = [view for view in matching if _suits(view, instrument, say)]
    if not usable:
        return [_plan_of(instrument, View(instrument_name="*"))]
    plans = [
        _plan_of(instrument, view) for view in usable if not isinstance(view.aggregation, DropAggregation)
    ]
    different = list(dict.fromkeys(plans))
    names = [(plan.name.lower(), plan.kind) for plan in different]
    for name, kind in dict.fromkeys(names):
        if names.count((name, kind)) > 1:
            say(
                f"Two views make one metric {name} of the instrument {_called(instrument)}, which has every "
                f"measurement twice therefore. Give one of the views another name."
            )
    return different


def _suits(view: View, instrument: Instrument, say: Callable[[str], None]) -> bool:
    distributes = isinstance(
        view.aggregation, ExplicitBucketHistogramAggregation | ExponentialBucketHistogramAggregation
    )
    if distributes and isinstance(instrument, Observable):
        say(
            f"A view wants a histogram of {_called(instrument)}, whose values are whole sums or levels when "
            f"they are observed; the view is not applied to it."
        )
        return False
    return True


def report_clash(
    plan: Plan, instrument: Instrument, others: Iterable[Instrument], say: Callable[[str], None]
) -> None:
    """Report instruments that views make one metric of."""
    for other in others:
        names = {other.name.lower(), instrument.name.lower()}
        # Two of one name that keep it have been reported already.
        if other is not instrument and names != {plan.name.lower()}:
            say(
                f"Views make one metric {plan.name} of two instruments, {other.name} and "
                f"{_called(instrument)}: a backend gets the numbers of both as if they were one's, or two "
                f"metrics that it cannot tell apart. Give one of the views another name."
            )


def report_twin(
    first: Instrument, other: Instrument, views: Iterable[View], say: Callable[[str], None]
) -> None:
    """Report two instruments of one name, unless a view sees to it: "Duplicate instrument registration"."""
    if any(view.name is not None and view.matches(other, other.api_class) for view in views):
        return
    differences = [
        f"{what} {mine!r} and {theirs!r}"
        for what, mine, theirs in (
            ("the name", first.name, other.name),
            ("the kind", first.api_class.__name__.lstrip("_"), other.api_class.__name__.lstrip("_")),
            ("the unit", first.unit, other.unit),
            ("the description", first.description, other.description),
        )
        if mine != theirs
    ]
    say(
        f"There are two instruments {first.name} of {first.scope.name}, which differ: "
        f"{', '.join(differences)}. Both work, as far as an exporter can tell them apart; a view with "
        f"another name for one of them keeps them so."
    )


def _called(instrument: Instrument) -> str:
    return f"{instrument.name} ({instrument.scope.name})"


def _plan_of(instrument: Instrument, view: View) -> Plan:
    """Return what a view makes of an instrument, by default as the specification of the metrics SDK says."""
    natural = _KINDS[instrument.api_class]
    aggregation = view.aggregation or DefaultAggregation()
    kind, bounds, scale, max_size = natural, (), 0, 0
    if isinstance(aggregation, LastValueAggregation):
        kind = Kind.GAUGE
    elif isinstance(aggregation, ExplicitBucketHistogramAggregation):
        kind = Kind.HISTOGRAM
    elif isinstance(aggregation, ExponentialBucketHistogramAggregation):
        kind, scale, max_size = Kind.EXPONENTIAL, aggregation.max_scale, aggregation.max_size
    elif not isinstance(aggregation, DefaultAggregation):
        kind = Kind.COUNTER if natural in {Kind.COUNTER, Kind.HISTOGRAM} else Kind.UP_DOWN
    if kind is Kind.HISTOGRAM:
        given = getattr(aggregation, "boundaries", None)
        suggested = given if given is not None else instrument.boundaries
        bounds = DEFAULT_BOUNDARIES if suggested is None else tuple(suggested)
    keys = view.attribute_keys
    return Plan(
        name=text(view.name or instrument.name, None),
        unit=instrument.unit,
        description=text(view.description or instrument.description, None),
        kind=kind,
        scope=instrument.scope,
        keys=None if keys is None else frozenset(keys),
        bounds=bounds,
        scale=scale,
        max_size=max_size,
        max_series=view.aggregation_cardinality_limit,
        extremes=getattr(aggregation, "record_min_max", True),
        reservoir=view.exemplar_reservoir_factory,
        refuses_negative=instrument.api_class in _NEVER_NEGATIVE,
    )
