"""The metrics that need no definition: from an event to the series it changes.

For an event ``shop.checkout.stop`` with the measurements, as Prometheus spells the names

* ``count``: the counter ``shop_checkout_stop_total`` rises by it;
* ``duration_ms``: the histogram ``shop_checkout_stop_duration_seconds`` observes it;
* ``value``: the gauge ``shop_checkout_stop`` is set to it.

An event that begins or ends an operation ``X`` moves the gauge ``X_in_flight``, and an ending is observed by
the histogram ``X_duration_seconds``, labelled with its outcome, in place of one for the ending event alone.
Its ``wait_ms`` is observed by ``X_wait_seconds`` with the same labels.

This is the exporter's hot path: what can be known from an event's name is worked out once per name, and what
can be known from its labels once per set of labels. After that an event costs a few dictionary look-ups.
Pure: the clock and the knowledge of who is alive come in as arguments.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation.metric import AnyMetric, Exponential, Histogram
from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.aggregation.refusals import NAME_TAKEN, NOT_A_NUMBER, OUT_OF_RANGE, UNREADABLE
from otpylib_telemetry.aggregation.summation import FLOAT_MAX
from otpylib_telemetry.metrics.automatic_series import (
    NOWHERE,
    OWNER,
    AnyHistogram,
    AutomaticSeries,
    Bound,
    Plan,
)
from otpylib_telemetry.metrics.elsewhere import elsewhere
from otpylib_telemetry.metrics.event_values import (
    InTrace,
    in_trace,
    is_of_an_operation,
    number_of,
    operation_of,
    readable_mapping,
)
from otpylib_telemetry.metrics.names import MAX_NAME, PROMETHEUS, Naming
from otpylib_telemetry.tracing.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from otpylib_telemetry.aggregation.series import Operation as TracedOperation
    from otpylib_telemetry.aggregation.store import SeriesStore
    from otpylib_telemetry.bus.event_log import Entry
    from otpylib_telemetry.bus.events import RawEvent
    from otpylib_telemetry.metrics.labels import LabelRules, Place
    from otpylib_telemetry.tracing.open_operations import OpenOperations
    from otpylib_telemetry.tracing.operation import Place as TracePlace


#: How many operations may be open at once, and for how long: the limits the spans have, too.
MAX_OPEN: Final = 10_000
OPEN_TTL_NS: Final = 300 * 1_000_000_000

#: An operation that ended so many nanoseconds ago has lost its end, for want of room: its record knows it.
_LOST_NS: Final = 5 * 1_000_000_000

# The entries of the log, by their lengths: an event, or an operation that has ended.
_EVENT: Final = 5
_ENDED: Final = 1

_MS_PER_S: Final = 1_000
_NS_PER_S: Final = 1_000_000_000

#: Event names whose plans are kept. Applications have hundreds.
_MAX_PLANS: Final = 10_000

#: Label sets kept over all event names, about half a kilobyte each. Beyond this they are collected anew.
_MAX_BINDINGS: Final = 200_000


_new_tuple = tuple.__new__

#: Stands for the beginning of an operation that nobody has heard of.
_UNHEARD: Final = object()


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
    """Turns events into changes of series.

    Attributes:
        unused: Events no metric was made of.
        given_up: Operations whose end was not seen, by reason.
    """

    def __init__(
        self,
        store: SeriesStore,
        operations: OpenOperations[Bound],
        options: MetricOptions,
        naming: Naming = PROMETHEUS,
    ) -> None:
        self.unused = 0
        self.given_up: dict[str, int] = {}
        self._store = store
        self._operations = operations
        self._naming = naming
        self._rules = options.rules
        self._span_metrics = options.span_metrics
        self._exemplars = options.exemplars
        self._series = AutomaticSeries(store, naming, options.buckets, options.distribution)
        self._plans: dict[str, Plan] = {}
        #: By the operation's name: the plans of its start, its success and its error.
        self._operation_plans: dict[str, tuple[Plan, Plan, Plan]] = {}
        #: The operations of ``span()`` that have begun and not ended; None where its end is known to come.
        self._recorded: dict[Operation, Bound | None] = {}
        #: Those whose ends were taken for lost; they may come yet.
        self._late: dict[Operation, None] = {}
        #: Whether one of the ids of an operation becomes a label: they are not in its metadata.
        self._ids_wanted = _wants_ids(options.rules)
        self._bindings = 0
        self._generation = store.generation
        self._elsewhere = elsewhere.generation

    @property
    def open(self) -> int:
        """How many operations have begun and not ended."""
        return len(self._operations) + len(self._recorded)

    def configure(self, options: MetricOptions) -> None:
        """Go on with other settings. Series stay, but for those of histograms whose buckets change."""
        with self._store.lock:
            if self._rules != options.rules:
                self._store.unfold(self._own())
            self._rules = options.rules
            self._ids_wanted = _wants_ids(options.rules)
            self._series.buckets = options.buckets
            self._span_metrics = options.span_metrics
            self._exemplars = options.exemplars
            if self._series.distribution is not options.distribution:
                self._series.distribution = options.distribution
                for metric in self._own():
                    if isinstance(metric, (Histogram, Exponential)):
                        self._store.remove(metric.name)
            for one in self._own():
                if isinstance(one, Histogram):
                    self._store.rebucket(self._series.bounds_of(one.name), [one])
            self._forget()

    def retire(self) -> None:
        """Forget every metric made here, and the operations that are open."""
        with self._store.lock:
            self._operations.drain()
            self._recorded.clear()
            self._late.clear()
            for metric in self._own():
                self._store.remove(metric.name)
            self._forget()

    def _own(self) -> list[AnyMetric]:
        return [metric for metric in self._store.metrics if metric.owner == OWNER]

    def record(self, events: Sequence[Entry]) -> tuple[int, int]:  # noqa: C901 - as _one
        """Add events to the series.

        An event is rejected if something in it was refused and nothing taken. Returns how many events were
        taken, and how many were rejected.
        """
        with self._store.lock:
            if (
                self._generation != self._store.generation
                or self._elsewhere != elsewhere.generation
                or self._bindings > _MAX_BINDINGS
            ):
                self._forget()
            taken = 0
            one = self._one
            for event in events:
                try:
                    if type(event) is Operation:
                        self._began(event)
                        taken += 1
                    elif (parts := len(event)) == _EVENT:
                        if one(event):
                            taken += 1
                    elif parts == _ENDED:
                        if self._ended(event[0]):
                            taken += 1
                    elif one(event[:_EVENT], event[_EVENT]):
                        taken += 1
                except KeyboardInterrupt:
                    raise
                except BaseException:  # noqa: BLE001 - an event can hold anything; it must not cost the others
                    taken += self._rescue(event)
            return taken, len(events) - taken

    def expire(self, now_ns: int, alive: Callable[[object], bool]) -> int:
        """Give up operations that are open for too long, or whose emitter is gone.

        Returns how many were given up.
        """
        overdue: list[Bound | None] = [opened.value for opened in self._operations.overdue(now_ns)]
        orphaned: list[Bound | None] = [opened.value for opened in self._operations.orphaned(alive)]
        latest_ns = now_ns - OPEN_TTL_NS
        # Thousands may be open, of a few emitters.
        lives = functools.cache(alive)
        for operation in list(self._recorded):
            if operation.ended_ns and operation.ended_ns <= now_ns - _LOST_NS:
                self.record([(operation,)])
                self._late[operation] = None
                if len(self._late) > MAX_OPEN:
                    self._late.pop(next(iter(self._late)))
            elif operation.at_ns <= latest_ns:
                overdue.append(self._recorded.pop(operation))
            elif not lives(operation.emitter):
                orphaned.append(self._recorded.pop(operation))
        with self._store.lock:
            for begun in overdue:
                self._give_up("expired", begun)
            for begun in orphaned:
                self._give_up("emitter gone", begun)
        return len(overdue) + len(orphaned)

    def give_up_held(self) -> int:
        """Give up every open operation: their ends will not be seen. Returns how many were given up."""
        everything: list[Bound | None] = [opened.value for opened in self._operations.drain()]
        everything += self._recorded.values()
        self._recorded.clear()
        with self._store.lock:
            for begun in everything:
                self._give_up("stopped", begun)
        return len(everything)

    def _began(self, operation: Operation) -> None:
        """Count an operation of ``span()`` among those in flight."""
        if not self._span_metrics:
            self.unused += 1
        elif operation.ended_ns:
            # It has ended meanwhile: what its end does is all there is to do.
            self._recorded[operation] = None
        else:
            plan = (self._operation_plans.get(operation.name) or self._plans_of(operation.name))[0]
            if plan.standard.has_in_flight:
                self._recorded[operation] = binding = self._begun_with(plan, operation)
                level = binding.in_flight or self._series.level(plan, binding)
                if not level.add(1):
                    self._refuse(level)
                elif binding.place is not None:
                    self._keep_fit(plan, binding)
            else:
                self._recorded[operation] = None
            if len(self._recorded) > MAX_OPEN:
                self._give_up("too many open", self._recorded.pop(next(iter(self._recorded))))

    def _ended(self, operation: Operation) -> bool:  # noqa: C901, PLR0912 - as _one
        """Time an operation of ``span()`` that has ended; return False if nothing was taken."""
        if self._late and self._late.pop(operation, self) is None:
            # Its end was taken for lost.
            return True
        plans = self._operation_plans.get(operation.name) or self._plans_of(operation.name)
        start = plans[0]
        begun = self._recorded.pop(operation, _UNHEARD)
        traced = None
        if self._exemplars:
            # As in_trace, less the call.
            traced = _new_tuple(InTrace, (operation.ended_ns, operation.trace, operation.span_id))
        if begun is None:
            begun = self._begun_with(start, operation)
            if begun.in_flight is None:
                self._series.level(start, begun)
        elif type(begun) is not Bound:
            begun = None
        elif begun.in_flight is not None:
            begun.in_flight.add(-1)
        if (
            begun is not None
            and self._span_metrics
            and (operation.is_plain or (operation.failure is None and operation.final is None))
        ):
            # As most do, it ends with the labels with which it began.
            plan, binding = plans[1], begun
            timing = begun.timing or self._timing_of(plan, begun)
        else:
            plan = plans[1] if operation.failure is None else plans[2]
            binding = self._ended_with(plan, operation)
            if self._span_metrics:
                timing = binding.timings.get(begun) or self._timing(plan, binding, begun)
            else:
                timing = binding.duration or self._series.histogram(plan, binding)
        taken = timing.observe(operation.duration_ms / _MS_PER_S, traced)
        if not taken:
            self._refuse(timing)
        elif binding.place is not None:
            self._keep_fit(start if binding is begun else plan, binding)
        waited = operation.wait_ms
        if waited is not None and self._span_metrics:
            taken = self._waited(plan, binding, begun, waited, traced) or taken
        measured = operation.measured
        if measured is not None:
            if waited is None and "wait_ms" in measured and self._span_metrics:
                taken = self._waited(plan, binding, begun, measured["wait_ms"], traced) or taken
            if "count" in measured or "value" in measured:
                binding = self._ended_with(plan, operation)
                taken = self._measured(plan, binding, measured, traced) or taken
        return taken or begun is not None

    def _begun_with(self, plan: Plan, operation: Operation) -> Bound:
        """Return the series of what an operation began with."""
        metadata = operation.metadata
        if self._ids_wanted:
            metadata = {**metadata, **operation.ids}
        try:
            pick, plain = plan.by_size.get(len(metadata)) or plan.plain[tuple(metadata)]
            return plain[pick(metadata)]
        except Exception:  # noqa: BLE001 - values that are not all texts, or peculiar: worked out with more care
            return self._bound(plan, metadata)

    def _ended_with(self, plan: Plan, operation: Operation) -> Bound:
        """Return the series of what an operation ended with."""
        metadata = operation.metadata if operation.final is None else operation.final
        if self._ids_wanted:
            return self._bound(plan, operation.end_metadata())
        return self._bound(plan, metadata if operation.failure is None else {**metadata, **operation.failure})

    def _bound(self, plan: Plan, metadata: Mapping[str, Any]) -> Bound:
        binding, place = self._bind(plan, metadata)
        binding.place = place
        return binding

    def _keep_fit(self, plan: Plan, binding: Bound) -> None:
        """Remember a binding that has its series, unless one of them is shared with other labels."""
        place, binding.place = binding.place, None
        if place is not None and not binding.overflown:
            self._keep(plan, place, binding)

    def _timing_of(self, plan: Plan, begun: Bound) -> AnyHistogram:
        """Return the series of the successes that end with the labels with which they began."""
        series = self._timing(plan, begun, begun)
        begun.timings.pop(begun, None)
        if not begun.overflown:
            begun.timing = series
        return series

    def _waited(
        self, plan: Plan, binding: Bound, begun: Bound | None, amount: Any, traced: TracedOperation | None
    ) -> bool:
        """Observe a ``wait_ms`` with the labels of the duration; return whether it was taken."""
        if (type(amount) is float or type(amount) is int) and 0.0 <= amount <= FLOAT_MAX:
            seconds = amount / _MS_PER_S
        elif (unusual := self._milliseconds(amount)) is None:
            return False
        else:
            seconds = unusual
        if binding is begun:
            series = binding.wait
        else:
            series = None if binding.waits is None else binding.waits.get(begun)
        if series is None:
            series = self._wait(plan, binding, begun)
        if series.observe(seconds, traced):
            return True
        self._refuse(series)
        return False

    def _wait(self, plan: Plan, binding: Bound, begun: Bound | None) -> AnyHistogram:
        """Return the series for how long operations waited that begin and end like this, and remember it."""
        series = self._series.wait(plan, binding, begun)
        if binding.overflown:
            return series
        if binding is begun:
            binding.wait = series
        elif begun is None or begun.kept:
            if binding.waits is None:
                binding.waits = {}
            binding.waits[begun] = series
            self._bindings += 1
        return series

    def _measured(
        self, plan: Plan, binding: Bound, measurements: Mapping[str, Any], traced: TracedOperation | None
    ) -> bool:
        """Add a ``count`` and a ``value``; return whether anything was taken."""
        taken = False
        if "count" in measurements:
            amount = measurements["count"]
            counter = binding.count or self._series.counter(plan, binding, amount)
            kind = type(amount)
            fit = (kind is int or kind is float) and counter.add(amount, traced)
            taken = bool(fit or self._retry(counter.add, amount, counter))
        if "value" in measurements:
            amount = measurements["value"]
            gauge = binding.value or self._series.gauge(plan, binding, amount)
            kind = type(amount)
            fit = (kind is int or kind is float) and gauge.set(amount)
            taken = bool(fit or self._retry(gauge.set, amount, gauge)) or taken
        return taken

    def _plans_of(self, operation: str) -> tuple[Plan, Plan, Plan]:
        names = [f"{operation}.{suffix}" for suffix in ("start", "success", "error")]
        start, success, error = (self._plans.get(name) or self._plan(name) for name in names)
        if len(operation) <= MAX_NAME:
            self._operation_plans[operation] = (start, success, error)
        return start, success, error

    def _keep(self, plan: Plan, place: Place[Bound], binding: Bound) -> None:
        binding.kept = True
        self._bindings += 1
        plan.bindings.keep(place, binding)

    def _one(self, event: RawEvent, within: TracePlace | None = None) -> bool:  # noqa: C901, PLR0912, PLR0915 - in one piece, because calls are what it saves
        name, measurements, metadata, at_ns, emitter = event
        try:
            plan = self._plans[name]
        except KeyError:
            if elsewhere.has(name, at_ns):
                self.unused += 1
                return True
            plan = self._plan(name)
        counted = "count" in measurements
        timed = "duration_ms" in measurements
        valued = "value" in measurements
        if not (counted or timed or valued or plan.begins or plan.ends):
            self.unused += 1
            return True
        try:
            if type(metadata) is not dict or (known := plan.by_size.get(len(metadata))) is None:
                known = plan.plain[tuple(metadata)]
            pick, plain = known
            binding = plain[pick(metadata)]
            place = None
        except Exception:  # noqa: BLE001 - values that are not all texts, or peculiar: worked out with more care
            binding, place = self._bind(plan, metadata)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - as above, and they raise what ends programs
            binding, place = self._bind(plan, metadata)
        taken = refused = False
        seconds: float | None = None
        traced: TracedOperation | None = operation_of(metadata, at_ns) if binding.traced else None
        if traced is None and within is not None and self._exemplars:
            traced = in_trace(within, at_ns)

        if counted:
            amount = measurements["count"]
            counter = binding.count or self._series.counter(plan, binding, amount)
            kind = type(amount)
            if (kind is int or kind is float) and counter.add(amount, traced):
                taken = True
            else:
                verdict = self._retry(counter.add, amount, counter)
                taken, refused = verdict is True, verdict is False
        if timed:
            amount = measurements["duration_ms"]
            kind = type(amount)
            if (kind is float or kind is int) and 0.0 <= amount <= FLOAT_MAX:
                seconds = amount / _MS_PER_S
            else:
                seconds = self._milliseconds(amount)
                refused = refused or (seconds is None and amount is not None)
            if seconds is not None and not (plan.ends and self._span_metrics):
                histogram = binding.duration or self._series.histogram(plan, binding)
                if histogram.observe(seconds, traced):
                    taken = True
                else:
                    refused = True
                    self._refuse(histogram)
        if valued:
            amount = measurements["value"]
            gauge = binding.value or self._series.gauge(plan, binding, amount)
            kind = type(amount)
            if (kind is float or kind is int) and gauge.set(amount):
                taken = True
            else:
                verdict = self._retry(gauge.set, amount, gauge)
                taken, refused = taken or verdict is True, refused or verdict is False
        if plan.ends:
            opened = self._operations.close(plan.operation, metadata, emitter)
            begun: Bound | None = None
            if opened is not None:
                begun = opened.value
                taken = True
                if begun.in_flight is not None:
                    begun.in_flight.add(-1)
                if seconds is None:
                    seconds = max(0, at_ns - opened.at_ns) / _NS_PER_S
            if seconds is not None and self._span_metrics:
                timing = binding.timings.get(begun) or self._timing(plan, binding, begun)
                if timing.observe(seconds, traced):
                    taken = True
                else:
                    refused = True
                    self._refuse(timing)
            if "wait_ms" in measurements and self._span_metrics:
                waited = measurements["wait_ms"]
                if self._waited(plan, binding, begun, waited, traced):
                    taken = True
                else:
                    refused = refused or waited is not None
        elif plan.begins and self._span_metrics:
            level = binding.in_flight or self._series.level(plan, binding)
            evicted = self._operations.open(plan.operation, metadata, emitter, at_ns, binding)
            if level.add(1):
                taken = True
            else:
                refused = True
                self._refuse(level)
            for older in evicted:
                self._give_up("too many open", older.value)

        if place is not None and taken and not binding.overflown:
            self._keep(plan, place, binding)
        if not taken and not refused:
            self.unused += 1
            return True
        return taken

    def _bind(self, plan: Plan, metadata: Any) -> tuple[Bound, Place[Bound] | None]:
        """Find what the labels of metadata lead to, or begin with it."""
        try:
            found = plan.bindings.find(metadata)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - metadata of any kind whatever
            found = None
        if found is not None:
            return found, None
        labels, place = plan.bindings.resolve(metadata)
        return Bound(labels, traced=self._exemplars and is_of_an_operation(metadata)), place

    def _plan(self, name: str) -> Plan:
        plan = Plan(name, self._rules, self._naming)
        if len(name) <= MAX_NAME:
            if len(self._plans) >= _MAX_PLANS:
                self._forget()
            self._plans[name] = plan
        return plan

    def _forget(self) -> None:
        self._plans.clear()
        self._operation_plans.clear()
        self._bindings = 0
        self._generation = self._store.generation
        self._elsewhere = elsewhere.generation

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

    def _give_up(self, reason: str, begun: Bound | None) -> None:
        self.given_up[reason] = self.given_up.get(reason, 0) + 1
        if begun is not None and begun.in_flight is not None:
            begun.in_flight.add(-1)

    def _timing(self, plan: Plan, binding: Bound, begun: Bound | None) -> AnyHistogram:
        """Return the series that times operations that begin and end like this, and remember it."""
        series = self._series.timing(plan, binding, begun)
        if not binding.overflown and (begun is None or begun.kept):
            binding.timings[begun] = series
            self._bindings += 1
        return series

    def _retry(self, put: Callable[[float], bool], amount: Any, series: object) -> bool | None:
        """Offer a measurement that is not a plain number, or was refused.

        Returns whether it was taken; None if there is nothing to take.
        """
        if amount is None:
            return None
        number = number_of(amount)
        if number is None:
            self._store.refuse(NOT_A_NUMBER)
            return False
        if type(amount) is not type(number) and put(number):
            return True
        self._refuse(series)
        return False

    def _milliseconds(self, amount: Any) -> float | None:
        """Return an unusual ``duration_ms`` in seconds, None if it is no duration."""
        number = number_of(amount)
        if number is not None and 0 <= number <= FLOAT_MAX:
            return number / _MS_PER_S
        if amount is not None:
            self._store.refuse(NOT_A_NUMBER if number is None else OUT_OF_RANGE)
        return None

    def _refuse(self, series: object) -> None:
        self._store.refuse(NAME_TAKEN if series is NOWHERE else OUT_OF_RANGE)


def _wants_ids(rules: LabelRules) -> bool:
    """Tell whether an id of an operation would become a label."""
    return any(rules.keep(key) for key in ("trace_id", "span_id", "parent_span_id", "correlation_id"))
