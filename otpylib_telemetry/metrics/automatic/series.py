"""The metrics of events and operations that need no definition, and their series.

A metric is declared, and a series made, when the first measurement for it comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation.metric import Exponential, Histogram, is_shared
from otpylib_telemetry.aggregation.metric_spec import Kind, MetricSpec
from otpylib_telemetry.aggregation.refusals import NAME_TAKEN, NOT_A_NUMBER, OUT_OF_RANGE, MetricRefusedError
from otpylib_telemetry.aggregation.summation import FLOAT_MAX
from otpylib_telemetry.metrics.automatic.nowhere import NO_METRIC, NOT_COUNTED, NOWHERE, UNBORN
from otpylib_telemetry.metrics.automatic.plans import OUTCOMES
from otpylib_telemetry.metrics.buckets import DURATION_BOUNDS
from otpylib_telemetry.metrics.event_values import number_of
from otpylib_telemetry.metrics.names import readable
from otpylib_telemetry.metrics.outcomes import REFUSED, SKIPPED, TAKEN
from otpylib_telemetry.metrics.standard import OTHER_ERROR
from otpylib_telemetry.tracing.phases import Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.aggregation.metric import AnyMetric
    from otpylib_telemetry.aggregation.series import Labels
    from otpylib_telemetry.aggregation.series import Operation as TracedOperation
    from otpylib_telemetry.aggregation.store import SeriesStore
    from otpylib_telemetry.metrics.automatic.nowhere import AnyCounter, AnyGauge, AnyHistogram, AnyLevel
    from otpylib_telemetry.metrics.automatic.plans import Bound, Plan, Plans
    from otpylib_telemetry.metrics.names import Naming
    from otpylib_telemetry.metrics.standard import Named


#: Who declares these metrics: definitions of the same name must not be counted into them.
OWNER: Final = "automatic"

MS_PER_S: Final = 1_000

_OUTCOME: Final = "outcome"


class AutomaticSeries:
    """Makes the metrics and series of automatic metrics in a store.

    Attributes:
        buckets: Upper bounds of the histograms of metrics that are declared from now on.
        distribution: Which kind of metric durations are.
    """

    def __init__(
        self,
        store: SeriesStore,
        plans: Plans,
        naming: Naming,
        buckets: tuple[float, ...],
        distribution: Kind,
    ) -> None:
        self.buckets = buckets
        self.distribution = distribution
        self._store = store
        self._plans = plans
        self._naming = naming
        #: By the names of histograms: the bounds that are fixed for them.
        self._fixed_bounds: dict[str, tuple[float, ...]] = {}

    def of_owner(self) -> list[AnyMetric]:
        """Return the metrics that were made here."""
        return [metric for metric in self._store.metrics if metric.owner == OWNER]

    def configure(self, buckets: tuple[float, ...], distribution: Kind) -> None:
        """Make other histograms from now on: of those there are, series whose buckets change go."""
        self.buckets = buckets
        if self.distribution is not distribution:
            self.distribution = distribution
            for metric in self.of_owner():
                if isinstance(metric, (Histogram, Exponential)):
                    self._store.remove(metric.name)
        for one in self.of_owner():
            if isinstance(one, Histogram):
                self._store.rebucket(self._bounds(self._fixed_bounds.get(one.name, ())), [one])

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
        series: AnyCounter = _at(plan.count, binding, binding.labels)
        binding.count = series
        return series

    def gauge(self, plan: Plan, binding: Bound, amount: Any) -> AnyGauge:
        """Return the series that shows ``value``."""
        if not _is_within(amount, -FLOAT_MAX):
            return UNBORN
        if plan.value is None:
            text = f'Last "value" of the events {readable(plan.event)}.'
            plan.value = self._declared(Kind.GAUGE, plan, None, self._naming.metric(plan.event), text)
        series: AnyGauge = _at(plan.value, binding, binding.labels)
        binding.value = series
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
        series: AnyLevel = _at(plan.in_flight, binding, labels)
        binding.in_flight = series
        return series

    def histogram(self, plan: Plan, binding: Bound) -> AnyHistogram:
        """Return the series that observes ``duration_ms`` of an event that is no operation's end."""
        if plan.duration is None:
            text = f'Distribution of "duration_ms" of the events {readable(plan.event)}, in seconds.'
            name = self._naming.duration(plan.event)
            fixed = None if plan.ends else plan.standard.duration
            plan.duration = self._declared(self.distribution, plan, fixed, name, text)
        series: AnyHistogram = _at(plan.duration, binding, binding.labels)
        binding.duration = series
        return series

    def timing(self, plan: Plan, binding: Bound, begun: Bound | None) -> AnyHistogram:
        """Return the series that times operations that begin and end like this, and remember it."""
        if plan.timing is None:
            text = f"How long the operations {readable(plan.operation)} took, in seconds, by outcome."
            name = self._naming.duration(plan.operation)
            plan.timing = self._declared(
                self.distribution, plan, plan.standard.duration, name, text, of_operation=True
            )
        labels = _with_outcome(begun.labels if begun else (), binding.labels, plan)
        series: AnyHistogram = _at(plan.timing, binding, labels)
        if not binding.overflown:
            if binding is begun:
                binding.timing = series
            elif begun is None or begun.kept:
                binding.timings[begun] = series
                self._plans.remembered += 1
        return series

    def waiting(self, plan: Plan, binding: Bound, begun: Bound | None) -> AnyHistogram:
        """Return the series that observes how long such operations waited, and remember it."""
        if plan.wait is None:
            text = f"How long the operations {readable(plan.operation)} waited, in seconds, by outcome."
            name = self._naming.wait(plan.operation)
            plan.wait = self._declared(
                self.distribution, plan, plan.standard.wait, name, text, of_operation=True
            )
        labels = _with_outcome(begun.labels if begun else (), binding.labels, plan)
        series: AnyHistogram = _at(plan.wait, binding, labels)
        if not binding.overflown:
            if binding is begun:
                binding.wait = series
            elif begun is None or begun.kept:
                if binding.waits is None:
                    binding.waits = {}
                binding.waits[begun] = series
                self._plans.remembered += 1
        return series

    def waited(
        self, plan: Plan, binding: Bound, begun: Bound | None, amount: Any, traced: TracedOperation | None
    ) -> int:
        """Observe a ``wait_ms`` with the labels of the duration; return what became of it."""
        seconds: float | None
        if (type(amount) is float or type(amount) is int) and 0.0 <= amount <= FLOAT_MAX:
            seconds = amount / MS_PER_S
        elif (seconds := self.milliseconds(amount)) is None:
            return SKIPPED if amount is None else REFUSED
        if binding is begun:
            series = binding.wait
        else:
            series = None if binding.waits is None else binding.waits.get(begun)
        series = series or self.waiting(plan, binding, begun)
        return TAKEN if series.observe(seconds, traced) else self.refuse(series)

    def retry(self, put: Callable[[float], bool], amount: Any, series: object) -> int:
        """Offer a measurement that is not a plain number, or was refused; return what became of it."""
        if amount is None:
            return SKIPPED
        number = number_of(amount)
        if number is None:
            self._store.refuse(NOT_A_NUMBER)
            return REFUSED
        return TAKEN if type(amount) is not type(number) and put(number) else self.refuse(series)

    def milliseconds(self, amount: Any) -> float | None:
        """Return an unusual ``duration_ms`` in seconds, None if it is no duration."""
        number = number_of(amount)
        if number is not None and 0 <= number <= FLOAT_MAX:
            return number / MS_PER_S
        if amount is not None:
            self._store.refuse(NOT_A_NUMBER if number is None else OUT_OF_RANGE)
        return None

    def refuse(self, series: object) -> int:
        """Count what a series has refused; return that."""
        self._store.refuse(NAME_TAKEN if series is NOWHERE else OUT_OF_RANGE)
        return REFUSED

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


def _at(metric: Any, binding: Bound, labels: Labels) -> Any:
    """Return the series of a metric, or what stands in for it; a binding knows if one is of others, too."""
    series = metric.at(labels)
    binding.overflown |= series is not NOWHERE and is_shared(series, labels)
    return series


def _with_outcome(begun: Labels, ended: Labels, plan: Plan) -> Labels:
    """Return the labels of a timing: those of the ending over those of the beginning, and the outcome."""
    merged = {**dict(begun), **dict(ended)}
    if (error := plan.error_label) is not None:
        if error and plan.outcome == OUTCOMES[Phase.ERROR]:
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
