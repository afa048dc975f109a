"""What the automatic metrics know of an event by its name, and by its labels; and their metrics and series.

A metric is declared, and a series made, when the first measurement for it comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from otpylib_telemetry.aggregation.distribution_series import ExponentialSeries, HistogramSeries
from otpylib_telemetry.aggregation.metric import Counter, Exponential, Gauge, Histogram, UpDown, is_shared
from otpylib_telemetry.aggregation.metric_spec import Kind, MetricSpec
from otpylib_telemetry.aggregation.number_series import CounterSeries, GaugeSeries, UpDownSeries
from otpylib_telemetry.aggregation.refusals import MetricRefusedError
from otpylib_telemetry.aggregation.summation import FLOAT_MAX
from otpylib_telemetry.metrics import conventions as _conventions  # noqa: F401 - it declares
from otpylib_telemetry.metrics.buckets import DURATION_BOUNDS
from otpylib_telemetry.metrics.event_values import number_of
from otpylib_telemetry.metrics.labels import LabelCache, LabelRules, Place
from otpylib_telemetry.metrics.names import Naming, readable
from otpylib_telemetry.metrics.standard import ERROR_TYPE, OTHER_ERROR, Named, standard_of
from otpylib_telemetry.tracing.phases import Phase, classify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry.aggregation.series import Labels
    from otpylib_telemetry.aggregation.series import Operation as TracedOperation
    from otpylib_telemetry.aggregation.store import SeriesStore


#: Who declares these metrics: definitions of the same name must not be counted into them.
OWNER: Final = "automatic"

_OUTCOME: Final = "outcome"
_OUTCOMES: Final[Mapping[Phase, str]] = {Phase.OK: "success", Phase.ERROR: "error"}


class Nowhere:
    """Stands in for the series of a metric that was refused: takes nothing."""

    __slots__ = ()

    labels: Final[Labels] = ()

    def add(self, _amount: float, _traced: TracedOperation | None = None) -> bool:
        """Take nothing."""
        return False

    set = observe = add


NOWHERE: Final = Nowhere()

#: Stands in for a series whose first measurement is unusable: a series that shows 0 would be a lie.
UNBORN: Final = Nowhere()


class NotCounted(Nowhere):
    """Stands in for the number of open operations where these are not counted."""

    __slots__ = ()

    def add(self, _amount: float, _traced: TracedOperation | None = None) -> bool:
        """Take everything, and keep nothing."""
        return True


NOT_COUNTED: Final = NotCounted()


class NoMetric:
    """Stands in for a metric that was refused."""

    __slots__ = ()

    def at(self, _labels: Labels) -> Nowhere:
        """Return what takes nothing, whatever the labels."""
        return NOWHERE


NO_METRIC: Final = NoMetric()

AnyCounter: TypeAlias = CounterSeries | Nowhere
AnyGauge: TypeAlias = GaugeSeries | Nowhere
AnyLevel: TypeAlias = UpDownSeries | Nowhere
AnyHistogram: TypeAlias = HistogramSeries | ExponentialSeries | Nowhere


class Bound:
    """Series that the events of one name and one set of labels change; each is looked up when first needed.

    One of these is also what is kept with an open operation, so that the gauge lowered at its end is the very
    one that was raised at its beginning.
    """

    __slots__ = (
        "count",
        "duration",
        "in_flight",
        "kept",
        "labels",
        "overflown",
        "place",
        "timing",
        "timings",
        "traced",
        "value",
        "wait",
        "waits",
    )

    def __init__(self, labels: Labels, *, traced: bool) -> None:
        self.labels = labels
        #: Whether the metadata says which operation it is part of: the keys are the same each time.
        self.traced = traced
        self.count: AnyCounter | None = None
        self.duration: AnyHistogram | None = None
        self.value: AnyGauge | None = None
        self.in_flight: AnyLevel | None = None
        #: By what the operation began with (None: it is not known to have begun).
        self.timings: dict[Bound | None, AnyHistogram] = {}
        #: Of the successes that end with the labels with which they began.
        self.timing: AnyHistogram | None = None
        #: The same for how long they waited before they began.
        self.waits: dict[Bound | None, AnyHistogram] | None = None
        self.wait: AnyHistogram | None = None
        #: Where it is to be remembered, once it has its series.
        self.place: Place[Bound] | None = None
        #: Whether later events find this one again; if not, nothing may be remembered for it either.
        self.kept = False
        #: Whether one of its series is shared with other labels, for want of room: that of a folded label,
        #: or the overflow series.
        self.overflown = False


class Plan:
    """What follows from an event's name alone."""

    __slots__ = (
        "begins",
        "bindings",
        "by_size",
        "count",
        "duration",
        "ends",
        "error_label",
        "event",
        "in_flight",
        "in_flight_labels",
        "operation",
        "outcome",
        "plain",
        "standard",
        "timing",
        "value",
        "wait",
    )

    def __init__(self, event: str, rules: LabelRules, naming: Naming) -> None:
        self.event = event
        self.operation, phase = classify(event)
        self.begins = phase is Phase.START
        self.outcome = _OUTCOMES.get(phase, "")
        self.ends = bool(self.outcome)
        self.standard = standard = standard_of(event, self.operation)
        #: The label that tells an error by itself, if there is one; empty where settings leave it out.
        self.error_label: str | None = None
        #: Which labels those in flight have; None for all.
        self.in_flight_labels: frozenset[str] | None = None
        self.bindings: LabelCache[Bound]
        if (renamed := standard.labels) is None:
            self.bindings = LabelCache(rules, naming.label)
        else:
            among = rules.among(renamed)
            self.bindings = LabelCache(among, lambda key: naming.label(renamed[key]), joined=False)
            if standard.by_error_type:
                kept = any(among.keep(key) for key, label in renamed.items() if label == ERROR_TYPE)
                self.error_label = naming.label(ERROR_TYPE) if kept else ""
            if standard.in_flight_labels is not None:
                self.in_flight_labels = frozenset(map(naming.label, standard.in_flight_labels))
        self.plain, self.by_size = self.bindings.plain, self.bindings.by_size
        # The metrics of the event, each declared when first needed.
        self.count: Counter | NoMetric | None = None
        self.duration: Histogram | Exponential | NoMetric | None = None
        self.value: Gauge | NoMetric | None = None
        self.in_flight: UpDown | NoMetric | None = None
        self.timing: Histogram | Exponential | NoMetric | None = None
        self.wait: Histogram | Exponential | NoMetric | None = None


class AutomaticSeries:
    """Makes the metrics and series of automatic metrics in a store.

    Attributes:
        buckets: Upper bounds of the histograms of metrics that are declared from now on.
        distribution: Which kind of metric durations are.
    """

    def __init__(
        self, store: SeriesStore, naming: Naming, buckets: tuple[float, ...], distribution: Kind
    ) -> None:
        self.buckets = buckets
        self.distribution = distribution
        self._store = store
        self._naming = naming
        #: By the names of histograms: the bounds that are fixed for them.
        self._fixed_bounds: dict[str, tuple[float, ...]] = {}

    def bounds_of(self, name: str) -> tuple[float, ...]:
        """Return the upper bounds of the histogram of this name."""
        return self._bounds(self._fixed_bounds.get(name, ()))

    def _bounds(self, fixed: tuple[float, ...]) -> tuple[float, ...]:
        # Who sets others than the default means all histograms.
        return fixed if fixed and self.buckets == DURATION_BOUNDS else self.buckets

    def counter(self, plan: Plan, binding: Bound, amount: Any) -> AnyCounter:
        """Return the series that adds up ``count``."""
        if not _is_within(amount, 0):
            return UNBORN
        if plan.count is None:
            text = f'Sum of "count" of the events {readable(plan.event)}.'
            name = self._naming.counter(plan.event)
            fixed = None if plan.ends else plan.standard.count
            plan.count = self._declared(Kind.COUNTER, plan, fixed, name, text)
        binding.count = series = plan.count.at(binding.labels)
        binding.overflown |= _is_shared(series, binding.labels)
        return series

    def gauge(self, plan: Plan, binding: Bound, amount: Any) -> AnyGauge:
        """Return the series that shows ``value``."""
        if not _is_within(amount, -FLOAT_MAX):
            return UNBORN
        if plan.value is None:
            text = f'Last "value" of the events {readable(plan.event)}.'
            plan.value = self._declared(Kind.GAUGE, plan, None, self._naming.gauge(plan.event), text)
        binding.value = series = plan.value.at(binding.labels)
        binding.overflown |= _is_shared(series, binding.labels)
        return series

    def level(self, plan: Plan, binding: Bound) -> AnyLevel:
        """Return the series that counts operations in flight."""
        if not plan.standard.has_in_flight:
            binding.in_flight = NOT_COUNTED
            return NOT_COUNTED
        if plan.in_flight is None:
            text = f"Operations {readable(plan.operation)} that have begun and not ended."
            name = self._naming.in_flight(plan.operation)
            plan.in_flight = self._declared(
                Kind.UP_DOWN, plan, plan.standard.in_flight, name, text, of_operation=True
            )
        labels = binding.labels
        if (wanted := plan.in_flight_labels) is not None:
            labels = tuple(label for label in labels if label[0] in wanted)
        binding.in_flight = series = plan.in_flight.at(labels)
        binding.overflown |= _is_shared(series, labels)
        return series

    def histogram(self, plan: Plan, binding: Bound) -> AnyHistogram:
        """Return the series that observes ``duration_ms`` of an event that is no operation's end."""
        if plan.duration is None:
            text = f'Distribution of "duration_ms" of the events {readable(plan.event)}, in seconds.'
            name = self._naming.duration(plan.event)
            fixed = None if plan.ends else plan.standard.duration
            plan.duration = self._declared(self.distribution, plan, fixed, name, text)
        binding.duration = series = plan.duration.at(binding.labels)
        binding.overflown |= _is_shared(series, binding.labels)
        return series

    def timing(self, plan: Plan, binding: Bound, begun: Bound | None) -> AnyHistogram:
        """Return the series that times operations; it is for the caller to remember."""
        if plan.timing is None:
            text = f"How long the operations {readable(plan.operation)} took, in seconds, by outcome."
            name = self._naming.duration(plan.operation)
            plan.timing = self._declared(
                self.distribution, plan, plan.standard.duration, name, text, of_operation=True
            )
        return self._of_operation(plan, plan.timing, binding, begun)

    def wait(self, plan: Plan, binding: Bound, begun: Bound | None) -> AnyHistogram:
        """Return the series that observes how long operations waited; it is for the caller to remember."""
        if plan.wait is None:
            text = f"How long the operations {readable(plan.operation)} waited, in seconds, by outcome."
            name = self._naming.wait(plan.operation)
            plan.wait = self._declared(
                self.distribution, plan, plan.standard.wait, name, text, of_operation=True
            )
        return self._of_operation(plan, plan.wait, binding, begun)

    def _of_operation(
        self, plan: Plan, metric: Histogram | Exponential | NoMetric, binding: Bound, begun: Bound | None
    ) -> AnyHistogram:
        labels = _with_outcome(begun.labels if begun else (), binding.labels, plan)
        series = metric.at(labels)
        binding.overflown |= _is_shared(series, labels)
        return series

    def _declared(  # noqa: PLR0913 - of its callers each says something else
        self, kind: Kind, plan: Plan, fixed: Named | None, name: str, text: str, *, of_operation: bool = False
    ) -> Any:
        """Return a metric, or what stands in for it if the store refuses it."""
        unit = self._naming.seconds if kind is self.distribution else ""
        if fixed is not None:
            text = fixed.description
            name, unit = self._naming.instrument(fixed.name, fixed.unit, kind)
        if plan.standard.bounds:
            self._fixed_bounds[name] = plan.standard.bounds
        spec = MetricSpec(
            kind=kind,
            name=name,
            description=text,
            unit=unit,
            claims=self._naming.claims(kind, name),
            owner=OWNER,
            passing=True,
            bounds=self._bounds(plan.standard.bounds),
        )
        try:
            metric = self._store.declare(spec)
        except MetricRefusedError:
            return NO_METRIC
        self._store.made_of(name, readable(plan.operation if of_operation else plan.event))
        return metric


def _is_shared(series: Any, labels: Labels) -> bool:
    return series is not NOWHERE and is_shared(series, labels)


def _with_outcome(begun: Labels, ended: Labels, plan: Plan) -> Labels:
    """Return the labels of a timing: those of the ending over those of the beginning, and the outcome."""
    merged = {**dict(begun), **dict(ended)}
    if (error := plan.error_label) is not None:
        if error and plan.outcome == _OUTCOMES[Phase.ERROR]:
            merged.setdefault(error, OTHER_ERROR)
        return tuple(sorted(merged.items()))
    own = merged.pop(_OUTCOME, None)
    if own is not None:
        exported = f"exported_{_OUTCOME}"
        merged[exported] = f"{merged[exported]};{own}" if exported in merged else own
    merged[_OUTCOME] = plan.outcome
    return tuple(sorted(merged.items()))


def _is_within(value: Any, least: float) -> bool:
    number = number_of(value)
    return number is not None and least <= number <= FLOAT_MAX
