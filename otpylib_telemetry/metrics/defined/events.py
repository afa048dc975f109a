"""The metrics somebody has defined: from an event to the series its definitions name.

What follows from an event's name, which definitions it concerns, is worked out once per name; what follows
from the values of tags, which series, once per set of values. After that a measurement costs two dictionary
look-ups. Metadata that are no tags are not even looked at.

Nothing an event holds and nothing a function of a definition does costs another definition or another event
anything: what cannot be used is refused and counted, and of a function that fails somebody is told, once.

Pure: what is to be told goes to the store's ``report``.
"""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation.metric import is_shared
from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.aggregation.refusals import (
    NAME_TAKEN,
    NOT_A_NUMBER,
    OUT_OF_RANGE,
    UNREADABLE,
    MetricRefusedError,
)
from otpylib_telemetry.aggregation.summation import FLOAT_MAX
from otpylib_telemetry.metrics.defined.functions import FunctionError, called, of_two, predicate
from otpylib_telemetry.metrics.defined.specs import spec_of
from otpylib_telemetry.metrics.defined.tags import Put, TagMemory, Values
from otpylib_telemetry.metrics.definition import Definition, refuse_clashes
from otpylib_telemetry.metrics.event_values import (
    in_trace,
    is_of_an_operation,
    number_of,
    operation_of,
    readable_mapping,
)
from otpylib_telemetry.metrics.names import MAX_NAME, PROMETHEUS, Naming, readable
from otpylib_telemetry.metrics.options import DefinitionError
from otpylib_telemetry.metrics.outcomes import REFUSED, SKIPPED, TAKEN
from otpylib_telemetry.primitives.errors import describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otpylib_telemetry.aggregation.metric import AnyMetric
    from otpylib_telemetry.aggregation.series import Operation as TracedOperation
    from otpylib_telemetry.aggregation.store import SeriesStore
    from otpylib_telemetry.bus.event_log import Entry


#: Event names whose definitions are kept. Applications have hundreds.
_MAX_PLANS: Final = 10_000

_FAILED: Final = "function of a definition failed"

#: An event that was emitted during an operation, which is its last part.
_WITHIN: Final = 6


class _Bound:
    """A definition at work: its metric, and how it takes an event."""

    def __init__(self, definition: Definition, naming: Naming) -> None:
        self.definition = definition
        self.spec = spec_of(definition, naming)
        self.name = self.spec.name
        self.metric: AnyMetric | None = None
        self.matches = re.compile("|".join(map(fnmatch.translate, definition.events))).match
        self.tags = TagMemory(definition, naming.label)
        self.complained = False
        self.missing = 0
        measurement = definition.measurement
        self.key = measurement if isinstance(measurement, str) else None
        self.function = of_two(measurement, only_measurements=True) if callable(measurement) else None
        self.counts = definition.type == "counter"
        self.keep = predicate(definition.keep)
        self.drop = predicate(definition.drop)
        self.convert = definition.unit.function()
        self.least = 0 if definition.kind is Kind.COUNTER else -FLOAT_MAX
        self.traces = definition.kind in {Kind.COUNTER, Kind.HISTOGRAM, Kind.EXPONENTIAL}


class DefinedMetrics:
    """Turns events into changes of the series that definitions name."""

    def __init__(
        self,
        store: SeriesStore,
        definitions: Iterable[Definition] = (),
        naming: Naming = PROMETHEUS,
        *,
        exemplars: bool = True,
    ) -> None:
        self.exemplars = exemplars
        self.unused = 0
        self.resolved = 0
        self._store = store
        self._naming = naming
        self._bound: tuple[_Bound, ...] = ()
        self._plans: dict[str, tuple[_Bound, ...]] = {}
        self._generation = store.generation
        self.reconfigure(definitions)

    @property
    def definitions(self) -> tuple[Definition, ...]:
        """The definitions in force."""
        return tuple(bound.definition for bound in self._bound)

    @property
    def missing(self) -> dict[str, int]:
        """Events without the measurement that was asked for, by the metric that had none of them."""
        return {bound.name: bound.missing for bound in self._bound if bound.missing}

    def reconfigure(self, definitions: Iterable[Definition], replaces: str = "") -> None:
        """Go on with other definitions, in one step: all of them, or none.

        Definitions that were in force before keep their series. Those that no longer are take theirs with
        them, and so does one that was changed in any respect: it starts again.
        """
        store = self._store
        with store.lock:
            bound, fresh, going = self._change(definitions, replaces)
            for name in going:
                store.remove(name)
            for one in fresh:
                one.metric = store.declare(one.spec)
            self._bound = bound
            self._plans.clear()
            if self._generation != store.generation:
                self._renew()

    def check(self, definitions: Iterable[Definition], replaces: str = "") -> None:
        """Do nothing, but raise what :meth:`reconfigure` would raise."""
        with self._store.lock:
            self._change(definitions, replaces)

    def _change(
        self, definitions: Iterable[Definition], replaces: str
    ) -> tuple[tuple[_Bound, ...], list[_Bound], set[str]]:
        """Return what would be in force, what of it is new, and the names of metrics that would go."""
        wanted = tuple(definitions)
        refuse_clashes(wanted)
        present = {bound.name: bound for bound in self._bound}
        bound = tuple(
            before
            if (before := present.get(name)) is not None and before.definition == definition
            else _Bound(definition, self._naming)
            for definition in wanted
            for name, _ in [definition.exported(self._naming)]
        )
        fresh = [one for one in bound if one is not present.get(one.name)]
        staying = {id(one) for one in bound}
        going = {one.name for one in self._bound if id(one) not in staying}
        if replaces:
            going |= {metric.name for metric in self._store.metrics if metric.owner == replaces}
        self._check(fresh, going)
        return bound, fresh, going

    def retire(self) -> None:
        """Forget every metric made here."""
        self.reconfigure(())

    def record(self, events: Sequence[Entry]) -> tuple[int, int]:
        """Add events to the series; return how many were taken, and how many rejected.

        Rejected is what had something refused and nothing taken; what no definition wants is not.
        """
        store = self._store
        with store.lock:
            if self._generation != store.generation:
                self._renew()
            taken = 0
            one = self._one
            for event in events:
                try:
                    if one(event):
                        taken += 1
                except KeyboardInterrupt:
                    raise
                except BaseException:  # noqa: BLE001 - what is no event at all; it must not cost the others
                    store.refuse(UNREADABLE)
            return taken, len(events) - taken

    def _one(self, event: Entry) -> bool:
        name, measurements, metadata = event[:3]
        plan = self._plans.get(name)
        if plan is None:
            plan = self._plan(name)
        if not plan:
            self.unused += 1
            return True
        if type(measurements) is not dict:
            measurements = readable_mapping(measurements)
        if type(metadata) is not dict:
            metadata = readable_mapping(metadata)
        operation = _traced(event, metadata) if self.exemplars else None
        outcome = SKIPPED
        for bound in plan:
            try:
                outcome |= self._take(bound, measurements, metadata, operation)
            except FunctionError as error:
                outcome |= self._complain(bound, error)
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - peculiar keys or values; they must not cost other definitions
                outcome |= self._refuse(UNREADABLE)
        if outcome == SKIPPED:
            self.unused += 1
        return outcome != REFUSED

    def _take(  # noqa: C901, PLR0911, PLR0912 - in one piece, because calls are what it saves
        self,
        bound: _Bound,
        measurements: Mapping[str, Any],
        metadata: Mapping[str, Any],
        operation: TracedOperation | None,
    ) -> int:
        amount: Any = 1
        if bound.key is not None:
            amount = measurements.get(bound.key)
        elif bound.function is not None:
            amount = called("measurement", bound.function, measurements, metadata)
        if amount is None:
            bound.missing += 1
            return SKIPPED
        if bound.keep is not None and not called("keep", bound.keep, measurements, metadata):
            return SKIPPED
        if bound.drop is not None and called("drop", bound.drop, measurements, metadata):
            return SKIPPED
        if bound.counts:
            amount = 1
        else:
            kind = type(amount)
            if kind is not float and kind is not int and (amount := number_of(amount)) is None:
                return self._refuse(NOT_A_NUMBER)
            if bound.convert is not None:
                try:
                    amount = bound.convert(amount)
                except OverflowError:  # an integer beyond every float
                    return self._refuse(OUT_OF_RANGE)
        if not bound.least <= amount <= FLOAT_MAX:
            return self._refuse(OUT_OF_RANGE)
        tags = bound.tags
        put: Put | None = None
        values: Values | None = None
        if tags.pick is not None:
            # What ``tags`` would do as well; calls are what it saves.
            try:
                values = tags.pick(metadata)
                put = tags.texts.get(values)
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - a tag is not there, or cannot be hashed: it gets more care
                put = None
        if put is None:
            values = tags.values(metadata) if values is None else values
            put = tags.find(values) or self._resolve(bound, values)
        if put is None:
            return self._refuse(NAME_TAKEN)
        taken = put(amount, operation) if bound.traces else put(amount)
        return TAKEN if taken else self._refuse(OUT_OF_RANGE)

    # What follows runs once per event name, per series, and for what has no series of its own.

    def _plan(self, name: str) -> tuple[_Bound, ...]:
        plan = tuple(bound for bound in self._bound if bound.matches(name))
        if type(name) is str and len(name) <= MAX_NAME:
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            self._plans[name] = plan
        return plan

    def _resolve(self, bound: _Bound, values: Values) -> Put | None:
        if bound.metric is None:
            return None
        self.resolved += 1
        labels, whole = bound.tags.labels(values)
        metric: Any = bound.metric
        series = metric.at(labels)
        if self._generation != self._store.generation:
            # Others have made room for it, or have become one.
            self._renew()
        put: Put = getattr(series, _PUTS[bound.definition.type])
        if whole and not is_shared(series, labels):
            bound.tags.keep(values, put)
        return put

    def _refuse(self, reason: str) -> int:
        self._store.refuse(reason)
        return REFUSED

    def _complain(self, bound: _Bound, error: FunctionError) -> int:
        if not bound.complained:
            bound.complained = True
            definition = bound.definition
            self._store.report(
                f"the {error.option} of {definition.type} {readable(definition.name)!r} failed "
                f"({describe(error.cause)}): what it fails for is not measured, and counted as refused; this "
                f"is said once"
            )
        return self._refuse(_FAILED)

    def _check(self, fresh: Iterable[_Bound], going: set[str]) -> None:
        """Refuse metrics that the store would refuse."""
        store = self._store
        problems = []
        room = store.max_metrics - len(store) + len([name for name in going if store.find(name)])
        for bound in fresh:
            claims = bound.spec.claims
            for wanted in (bound.name, *claims):
                holder = store.holder(wanted)
                if holder is not None and holder.name not in going:
                    problems.append(
                        f"{bound.definition.type} {bound.definition.name!r} would be {wanted}, which belongs "
                        f"to the {holder.kind.value} {holder.name} already"
                    )
                    break
            room -= 1
        if room < 0:
            problems.append(
                f"there may be {store.max_metrics} metrics, which are {-room} less than there would be"
            )
        if problems:
            raise DefinitionError(*problems)

    def _renew(self) -> None:
        """Let go of series that may have gone; a metric that was removed begins again."""
        for bound in self._bound:
            bound.tags.forget()
            if bound.metric is None or self._store.find(bound.name) is not bound.metric:
                try:
                    bound.metric = self._store.declare(bound.spec)
                except MetricRefusedError:
                    bound.metric = None
        self._generation = self._store.generation


_PUTS: Final[Mapping[str, str]] = {
    "counter": "add",
    "sum": "add",
    "last_value": "set",
    "summary": "observe",
    "distribution": "observe",
}


def _traced(event: Entry, metadata: Mapping[str, Any]) -> TracedOperation | None:
    """Return the operation that an event was part of: as its metadata says, or in which it was emitted."""
    if is_of_an_operation(metadata) and (told := operation_of(metadata, event[3])) is not None:
        return told
    return in_trace(event[5], event[3]) if len(event) == _WITHIN else None
