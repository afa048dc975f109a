"""The metrics of operations: those of ``span()``, which are one record, and all whose ends do not come.

An operation ``X`` moves the gauge ``X_in_flight``. Its end is observed by the histogram
``X_duration_seconds``, labelled with its outcome, and its ``wait_ms`` by ``X_wait_seconds`` with the same
labels.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.metrics.automatic.plans import Bound
from otpylib_telemetry.metrics.automatic.series import MS_PER_S
from otpylib_telemetry.metrics.event_values import InTrace
from otpylib_telemetry.metrics.outcomes import SKIPPED, TAKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from otpylib_telemetry.aggregation.series import Operation as TracedOperation
    from otpylib_telemetry.aggregation.store import SeriesStore
    from otpylib_telemetry.metrics.automatic.plans import Plan, Plans
    from otpylib_telemetry.metrics.automatic.series import AutomaticSeries
    from otpylib_telemetry.metrics.labels import LabelRules
    from otpylib_telemetry.tracing.open_operations import OpenOperations
    from otpylib_telemetry.tracing.operation import Operation


#: How many operations may be open at once, and for how long: the limits the spans have, too.
MAX_OPEN: Final = 10_000
OPEN_TTL_NS: Final = 300 * 1_000_000_000

#: An operation that ended so many nanoseconds ago has lost its end, for want of room: its record knows it.
_LOST_NS: Final = 5 * 1_000_000_000

_new_tuple = tuple.__new__

#: Stands for the beginning of an operation that nobody has heard of.
_UNHEARD: Final = object()


class OperationMetrics:
    """Counts operations in flight, and times those that end.

    Attributes:
        enabled: Whether operations are counted and timed.
        unused: Beginnings no metric was made of.
        given_up: Operations whose end was not seen, by reason.
    """

    def __init__(
        self,
        store: SeriesStore,
        plans: Plans,
        series: AutomaticSeries,
        open_operations: OpenOperations[Bound],
    ) -> None:
        self.enabled = True
        self.unused = 0
        self.given_up: dict[str, int] = {}
        self._store = store
        self._plans = plans
        self._by_operation = plans.by_operation
        self._series = series
        #: Those whose beginnings came as events.
        self._operations = open_operations
        #: Those of ``span()`` that have begun and not ended; None where its end is known to come.
        self._recorded: dict[Operation, Bound | None] = {}
        #: Those whose ends were taken for lost; they may come yet.
        self._late: dict[Operation, None] = {}
        #: Whether one of the ids of an operation becomes a label: they are not in its metadata.
        self._ids_wanted = False

    def __len__(self) -> int:
        """How many operations have begun and not ended."""
        return len(self._operations) + len(self._recorded)

    def configure(self, rules: LabelRules, *, enabled: bool) -> None:
        """Go on with other settings."""
        self.enabled = enabled
        self._ids_wanted = any(map(rules.keep, ("trace_id", "span_id", "parent_span_id", "correlation_id")))

    def clear(self) -> None:
        """Forget the operations that are open."""
        self._operations.drain()
        self._recorded.clear()
        self._late.clear()

    def began(self, operation: Operation) -> None:
        """Count an operation of ``span()`` among those in flight."""
        if not self.enabled:
            self.unused += 1
        elif operation.ended_ns:
            # It has ended meanwhile: what its end does is all there is to do.
            self._recorded[operation] = None
        else:
            plan = (self._by_operation.get(operation.name) or self._plans.of_operation(operation.name))[0]
            if plan.standard.has_in_flight:
                self._recorded[operation] = binding = self._begun_with(plan, operation)
                level = binding.in_flight or self._series.level(plan, binding)
                if not level.add(1):
                    self._series.refuse(level)
                elif binding.place is not None:
                    self._plans.keep(plan, binding)
            else:
                self._recorded[operation] = None
            if len(self._recorded) > MAX_OPEN:
                self.give_up("too many open", self._recorded.pop(next(iter(self._recorded))))

    def ended(self, operation: Operation) -> bool:  # noqa: C901, PLR0912 - as ``AutomaticMetrics._one``
        """Time an operation of ``span()`` that has ended; return False if nothing was taken."""
        if self._late and self._late.pop(operation, self) is None:
            # Its end was taken for lost.
            return True
        plans = self._by_operation.get(operation.name) or self._plans.of_operation(operation.name)
        start, series = plans[0], self._series
        begun = self._recorded.pop(operation, _UNHEARD)
        traced = None
        if self._plans.exemplars:
            # As in_trace, less the call.
            traced = _new_tuple(InTrace, (operation.ended_ns, operation.trace, operation.span_id))
        if begun is None:
            begun = self._begun_with(start, operation)
            if begun.in_flight is None:
                series.level(start, begun)
        elif type(begun) is not Bound:
            begun = None
        elif begun.in_flight is not None:
            begun.in_flight.add(-1)
        if (
            begun is not None
            and self.enabled
            and (operation.is_plain or (operation.failure is None and operation.final is None))
        ):
            # As most do, it ends with the labels with which it began.
            plan, binding = plans[1], begun
            timing = begun.timing or series.timing(plan, begun, begun)
        else:
            plan = plans[1] if operation.failure is None else plans[2]
            binding = self._ended_with(plan, operation)
            if self.enabled:
                timing = binding.timings.get(begun) or series.timing(plan, binding, begun)
            else:
                timing = binding.duration or series.histogram(plan, binding)
        if timing.observe(operation.duration_ms / MS_PER_S, traced):
            outcome = TAKEN
            if binding.place is not None:
                self._plans.keep(start if binding is begun else plan, binding)
        else:
            outcome = series.refuse(timing)
        waited = operation.wait_ms
        if waited is not None and self.enabled:
            outcome |= series.waited(plan, binding, begun, waited, traced)
        measured = operation.measured
        if measured is not None:
            if waited is None and "wait_ms" in measured and self.enabled:
                outcome |= series.waited(plan, binding, begun, measured["wait_ms"], traced)
            if "count" in measured or "value" in measured:
                binding = self._ended_with(plan, operation)
                outcome |= self._measured(plan, binding, measured, traced)
        return bool(outcome & TAKEN) or begun is not None

    def _begun_with(self, plan: Plan, operation: Operation) -> Bound:
        """Return the series of what an operation began with."""
        metadata = operation.metadata
        if self._ids_wanted:
            metadata = {**metadata, **operation.ids}
        try:
            pick, plain = plan.by_size.get(len(metadata)) or plan.plain[tuple(metadata)]
            return plain[pick(metadata)]
        except Exception:  # noqa: BLE001 - values that are not all texts, or peculiar: worked out with more care
            return self._plans.bind(plan, metadata)

    def _ended_with(self, plan: Plan, operation: Operation) -> Bound:
        """Return the series of what an operation ended with."""
        metadata = operation.metadata if operation.final is None else operation.final
        if self._ids_wanted:
            return self._plans.bind(plan, operation.end_metadata())
        return self._plans.bind(
            plan, metadata if operation.failure is None else {**metadata, **operation.failure}
        )

    def _measured(
        self, plan: Plan, binding: Bound, measurements: Mapping[str, Any], traced: TracedOperation | None
    ) -> int:
        """Add a ``count`` and a ``value``; return what became of them."""
        outcome, series = SKIPPED, self._series
        if "count" in measurements:
            amount = measurements["count"]
            counter = binding.count or series.counter(plan, binding, amount)
            fit = (type(amount) is int or type(amount) is float) and counter.add(amount, traced)
            outcome |= TAKEN if fit else series.retry(counter.add, amount, counter)
        if "value" in measurements:
            amount = measurements["value"]
            gauge = binding.value or series.gauge(plan, binding, amount)
            fit = (type(amount) is int or type(amount) is float) and gauge.set(amount)
            outcome |= TAKEN if fit else series.retry(gauge.set, amount, gauge)
        return outcome

    def lost(self, now_ns: int) -> list[Operation]:
        """Return the operations that have ended, and whose ends do not come."""
        return [one for one in self._recorded if one.ended_ns and one.ended_ns <= now_ns - _LOST_NS]

    def found(self, operations: Iterable[Operation]) -> None:
        """Take notice that the ends of these were taken from their records; they may come all the same."""
        self._late.update(dict.fromkeys(operations))
        while len(self._late) > MAX_OPEN:
            self._late.pop(next(iter(self._late)))

    def expire(self, now_ns: int, alive: Callable[[object], bool]) -> int:
        """Give up operations that are open for too long, or whose emitter is gone; return how many."""
        overdue: list[Bound | None] = [opened.value for opened in self._operations.overdue(now_ns)]
        orphaned: list[Bound | None] = [opened.value for opened in self._operations.orphaned(alive)]
        # Thousands may be open, of a few emitters.
        lives = functools.cache(alive)
        for operation in list(self._recorded):
            if operation.at_ns <= now_ns - OPEN_TTL_NS:
                overdue.append(self._recorded.pop(operation))
            elif not lives(operation.emitter):
                orphaned.append(self._recorded.pop(operation))
        with self._store.lock:
            for begun in overdue:
                self.give_up("expired", begun)
            for begun in orphaned:
                self.give_up("emitter gone", begun)
        return len(overdue) + len(orphaned)

    def give_up_held(self) -> int:
        """Give up every open operation: their ends will not be seen. Returns how many were given up."""
        everything: list[Bound | None] = [opened.value for opened in self._operations.drain()]
        everything += self._recorded.values()
        self._recorded.clear()
        with self._store.lock:
            for begun in everything:
                self.give_up("stopped", begun)
        return len(everything)

    def give_up(self, reason: str, begun: Bound | None) -> None:
        """Count an operation whose end will not be seen, and let it be in flight no more."""
        self.given_up[reason] = self.given_up.get(reason, 0) + 1
        if begun is not None and begun.in_flight is not None:
            begun.in_flight.add(-1)
