"""The metrics that need no definition: from an event to the series it changes.

For an event ``shop.checkout.stop`` with the measurements, as Prometheus spells the names

* ``count``: the counter ``shop_checkout_stop_total`` rises by it;
* ``duration_ms``: the histogram ``shop_checkout_stop_duration_seconds`` observes it;
* ``value``: the gauge ``shop_checkout_stop`` is set to it.

An event that begins or ends an operation moves the metrics of that operation instead of a histogram of its
own: see :mod:`.operations`.

This is the exporter's hot path: what can be known from an event's name is worked out once per name, and what
can be known from its labels once per set of labels. After that an event costs a few dictionary look-ups.
Pure: the clock and the knowledge of who is alive come in as arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.aggregation.refusals import UNREADABLE
from otpylib_telemetry.aggregation.summation import FLOAT_MAX
from otpylib_telemetry.metrics.automatic.operations import OperationMetrics
from otpylib_telemetry.metrics.automatic.plans import Plans
from otpylib_telemetry.metrics.automatic.series import MS_PER_S, AutomaticSeries
from otpylib_telemetry.metrics.elsewhere import elsewhere
from otpylib_telemetry.metrics.event_values import in_trace, operation_of, readable_mapping
from otpylib_telemetry.metrics.names import PROMETHEUS, Naming
from otpylib_telemetry.metrics.outcomes import REFUSED, SKIPPED, TAKEN
from otpylib_telemetry.tracing.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otpylib_telemetry.aggregation.series import Operation as TracedOperation
    from otpylib_telemetry.aggregation.store import SeriesStore
    from otpylib_telemetry.bus.event_log import Entry
    from otpylib_telemetry.bus.events import RawEvent
    from otpylib_telemetry.metrics.automatic.plans import Bound
    from otpylib_telemetry.metrics.labels import LabelRules
    from otpylib_telemetry.tracing.open_operations import OpenOperations
    from otpylib_telemetry.tracing.operation import Place as TracePlace


# The entries of the log, by their lengths: an event, or an operation that has ended.
_EVENT: Final = 5
_ENDED: Final = 1

_NS_PER_S: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class MetricOptions:
    """How events become series.

    Attributes:
        rules: Which metadata keys become labels.
        buckets: Upper bounds of the duration histograms, in seconds, ascending.
        span_metrics: Whether operations are counted and timed.
        exemplars: Whether a series remembers the trace of a recent measurement.
        exponential: Whether durations have exponential buckets instead of those above.
    """

    rules: LabelRules
    buckets: tuple[float, ...]
    span_metrics: bool = True
    exemplars: bool = True
    exponential: bool = False

    @property
    def distribution(self) -> Kind:
        """Which kind of metric durations are."""
        return Kind.EXPONENTIAL if self.exponential else Kind.HISTOGRAM


class AutomaticMetrics:
    """Turns events into changes of series; ``operations`` has the metrics of operations."""

    def __init__(
        self,
        store: SeriesStore,
        operations: OpenOperations[Bound],
        options: MetricOptions,
        naming: Naming = PROMETHEUS,
    ) -> None:
        self._store = store
        self._plans = plans = Plans(store, naming, options.rules, exemplars=options.exemplars)
        self._by_event = plans.by_event
        self._series = AutomaticSeries(store, plans, naming, options.buckets, options.distribution)
        self.operations = OperationMetrics(store, plans, self._series, operations)
        self.operations.configure(options.rules, enabled=options.span_metrics)
        self._open = operations
        self._span_metrics = options.span_metrics
        self._exemplars = options.exemplars
        self._unused = 0

    @property
    def unused(self) -> int:
        """Events no metric was made of."""
        return self._unused + self.operations.unused

    def configure(self, options: MetricOptions) -> None:
        """Go on with other settings. Series stay, but for those of histograms whose buckets change."""
        with self._store.lock:
            if self._plans.rules != options.rules:
                self._store.unfold(self._series.of_owner())
            self._plans.rules, self._plans.exemplars = options.rules, options.exemplars
            self._span_metrics, self._exemplars = options.span_metrics, options.exemplars
            self.operations.configure(options.rules, enabled=options.span_metrics)
            self._series.configure(options.buckets, options.distribution)
            self._plans.forget()

    def retire(self) -> None:
        """Forget every metric made here, and the operations that are open."""
        with self._store.lock:
            self.operations.clear()
            for metric in self._series.of_owner():
                self._store.remove(metric.name)
            self._plans.forget()

    def record(self, events: Sequence[Entry]) -> tuple[int, int]:
        """Add events to the series.

        An event is rejected if something in it was refused and nothing taken. Returns how many events were
        taken, and how many were rejected.
        """
        with self._store.lock:
            self._plans.renew()
            taken = 0
            one, began, ended = self._one, self.operations.began, self.operations.ended
            for event in events:
                try:
                    if type(event) is Operation:
                        began(event)
                        taken += 1
                    elif (parts := len(event)) == _EVENT:
                        if one(event):
                            taken += 1
                    elif parts == _ENDED:
                        if ended(event[0]):
                            taken += 1
                    elif one(event[:_EVENT], event[_EVENT]):
                        taken += 1
                except KeyboardInterrupt:
                    raise
                except BaseException:  # noqa: BLE001 - an event can hold anything; it must not cost the others
                    taken += self._rescue(event)
            return taken, len(events) - taken

    def expire(self, now_ns: int, alive: Callable[[object], bool]) -> int:
        """Give up operations that are open for too long, or whose emitter is gone; return how many."""
        lost = self.operations.lost(now_ns)
        self.record([(operation,) for operation in lost])
        self.operations.found(lost)
        return self.operations.expire(now_ns, alive)

    def _one(self, event: RawEvent, within: TracePlace | None = None) -> bool:  # noqa: C901, PLR0912, PLR0915 - see below
        # In one piece: to call what begins and ends an operation costs an operation of two events 5 %.
        name, measurements, metadata, at_ns, emitter = event
        try:
            plan = self._by_event[name]
        except KeyError:
            if elsewhere.has(name, at_ns):
                self._unused += 1
                return True
            plan = self._plans.of(name)
        counted, timed, valued = (
            "count" in measurements,
            "duration_ms" in measurements,
            "value" in measurements,
        )
        if not (counted or timed or valued or plan.begins or plan.ends):
            self._unused += 1
            return True
        try:
            if type(metadata) is not dict or (known := plan.by_size.get(len(metadata))) is None:
                known = plan.plain[tuple(metadata)]
            pick, plain = known
            binding = plain[pick(metadata)]
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - values that are not all texts, or peculiar: worked out with more care
            binding = self._plans.bind(plan, metadata)
        traced: TracedOperation | None = operation_of(metadata, at_ns) if binding.traced else None
        if traced is None and within is not None and self._exemplars:
            traced = in_trace(within, at_ns)
        outcome, seconds = SKIPPED, None
        if counted:
            amount = measurements["count"]
            counter = binding.count or self._series.counter(plan, binding, amount)
            kind = type(amount)
            fit = (kind is int or kind is float) and counter.add(amount, traced)
            outcome = TAKEN if fit else self._series.retry(counter.add, amount, counter)
        if timed:
            amount = measurements["duration_ms"]
            kind = type(amount)
            if (kind is float or kind is int) and 0.0 <= amount <= FLOAT_MAX:
                seconds = amount / MS_PER_S
            elif (seconds := self._series.milliseconds(amount)) is None and amount is not None:
                outcome |= REFUSED
            if seconds is not None and not (plan.ends and self._span_metrics):
                histogram = binding.duration or self._series.histogram(plan, binding)
                fit = histogram.observe(seconds, traced)
                outcome = TAKEN if fit else outcome | self._series.refuse(histogram)
        if valued:
            amount = measurements["value"]
            gauge = binding.value or self._series.gauge(plan, binding, amount)
            fit = (type(amount) is float or type(amount) is int) and gauge.set(amount)
            outcome = TAKEN if fit else outcome | self._series.retry(gauge.set, amount, gauge)
        if plan.ends:
            opened = self._open.close(plan.operation, metadata, emitter)
            begun: Bound | None = None
            if opened is not None:
                begun, outcome = opened.value, TAKEN
                if begun.in_flight is not None:
                    begun.in_flight.add(-1)
                if seconds is None:
                    seconds = max(0, at_ns - opened.at_ns) / _NS_PER_S
            if self._span_metrics:
                if seconds is not None:
                    timing = binding.timings.get(begun) or self._series.timing(plan, binding, begun)
                    fit = timing.observe(seconds, traced)
                    outcome = TAKEN if fit else outcome | self._series.refuse(timing)
                if "wait_ms" in measurements:
                    outcome |= self._series.waited(plan, binding, begun, measurements["wait_ms"], traced)
        elif plan.begins and self._span_metrics:
            level = binding.in_flight or self._series.level(plan, binding)
            evicted = self._open.open(plan.operation, metadata, emitter, at_ns, binding)
            outcome = TAKEN if level.add(1) else outcome | self._series.refuse(level)
            for older in evicted:
                self.operations.give_up("too many open", older.value)
        if binding.place is not None and outcome & TAKEN:
            self._plans.keep(plan, binding)
        elif not outcome:
            self._unused += 1
        return outcome != REFUSED

    def _rescue(self, event: Any) -> bool:
        """Take an event whose measurements or metadata raise when they are looked at."""
        try:
            name, measurements, metadata, at_ns, emitter, *within = event
            plain = (str(name), readable_mapping(measurements), readable_mapping(metadata), at_ns, emitter)
            if type(name) is str and (plain[1] is not measurements or plain[2] is not metadata):
                return self._one(plain, *within)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - that is what it is
            self._store.refuse(UNREADABLE)
            return False
        self._store.refuse(UNREADABLE)
        return False
