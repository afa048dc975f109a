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
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from otpylib_telemetry.aggregation.exponential import scale_for
from otpylib_telemetry.aggregation.metric import is_shared
from otpylib_telemetry.aggregation.metric_spec import Kind, MetricSpec, SummaryShape
from otpylib_telemetry.aggregation.refusals import (
    NAME_TAKEN,
    NOT_A_NUMBER,
    OUT_OF_RANGE,
    UNREADABLE,
    MetricRefusedError,
)
from otpylib_telemetry.aggregation.summation import FLOAT_MAX
from otpylib_telemetry.metrics.buckets import Base2
from otpylib_telemetry.metrics.definitions import (
    Definition,
    Distribution,
    LastValue,
    Sum,
    Summary,
    refuse_clashes,
)
from otpylib_telemetry.metrics.event_values import (
    in_trace,
    is_of_an_operation,
    number_of,
    operation_of,
    readable_mapping,
)
from otpylib_telemetry.metrics.labels import exact_label, label_text
from otpylib_telemetry.metrics.names import MAX_NAME, PROMETHEUS, Naming, readable
from otpylib_telemetry.metrics.options import (
    Constants,
    DefinitionError,
    Match,
    TagSource,
    arguments_of,
)
from otpylib_telemetry.primitives.errors import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from otpylib_telemetry.aggregation.metric import AnyMetric
    from otpylib_telemetry.aggregation.series import Labels
    from otpylib_telemetry.aggregation.series import Operation as TracedOperation
    from otpylib_telemetry.aggregation.store import SeriesStore
    from otpylib_telemetry.bus.event_log import Entry


#: Who declares these metrics in the store.
OWNER: Final = "definitions"

#: Event names whose definitions are kept. Applications have hundreds.
_MAX_PLANS: Final = 10_000

#: Sets of tag values kept for a definition, about half a kilobyte each. Beyond this they are collected anew.
_MAX_KEPT: Final = 200_000

#: A label's value this long may have been cut, and stand for others too.
_LONG: Final = 256

#: Slices of a summary's window.
_SLICES: Final = 5

#: Doublings between the least and the greatest number of one sign for which a summary keeps its promise:
#: from a microsecond to twelve days, from a byte to a terabyte.
_KEPT_DOUBLINGS: Final = 40
_LEAST_SIZE: Final = 160

_FAILED: Final = "function of a definition failed"

#: An event that was emitted during an operation, which is its last part.
_WITHIN: Final = 6

#: What a definition made of an event.
_SKIPPED: Final = 0
_TAKEN: Final = 1
_REFUSED: Final = 2

_Put: TypeAlias = "Callable[..., bool]"
_Values: TypeAlias = tuple[Any, ...]


class _Missing:
    """Stands for a measurement or a tag that is not there."""

    __slots__ = ()


_MISSING: Final = _Missing()


class _FunctionError(Exception):
    """A function of a definition has failed."""

    def __init__(self, option: str, cause: BaseException) -> None:
        super().__init__(option)
        self.option = option
        self.cause = cause


class _Tags:
    """Works out labels, and remembers what was made of tag values seen before.

    Python's equality must not confuse that memory, for ``1``, ``True`` and ``1.0`` are equal and read
    differently: values are filed with their types, except where all of them are texts.
    """

    __slots__ = ("_constants", "_function", "_keys", "_labels", "_pick", "_typed", "pick", "texts")

    def __init__(self, definition: Definition, label: Callable[[str], str]) -> None:
        given = definition.tag_values
        told = dict(given.values) if isinstance(given, Constants) else {}
        self._function = given if callable(given) else None
        self._constants = [(label(tag), text) for tag, text in told.items() if isinstance(text, str)]
        looked_up = [tag for tag in definition.tags if not isinstance(told.get(tag), str)]
        self._labels = [label(tag) for tag in looked_up]
        sources = [told.get(tag) for tag in looked_up]
        self._keys = tuple(
            source.key if isinstance(source, TagSource) else tag
            for source, tag in zip(sources, looked_up, strict=True)
        )
        # For one item itemgetter gives the item itself; asked twice for it, it gives a tuple like the others.
        keys = self._keys * 2 if len(self._keys) == 1 else self._keys
        self._pick: Callable[[Any], _Values] | None = itemgetter(*keys) if keys else None
        #: A short cut for values that are all texts: ``texts.get(pick(metadata))`` is what ``find`` gives.
        self.pick = self._pick if self._function is None else None
        self.texts: dict[_Values, _Put] = {}
        self._typed: dict[_Values, _Put] = {}

    def values(self, metadata: Mapping[str, Any]) -> _Values:
        """Return the values of the tags, :data:`_MISSING` for those that are not there."""
        if self._pick is None:
            return ()
        if self._function is None:
            try:
                return self._pick(metadata)
            except KeyError:
                found = [metadata.get(key, _MISSING) for key in self._keys]
        else:
            try:
                given: Any = self._function(metadata)
                found = [given[key] if key in given else metadata.get(key, _MISSING) for key in self._keys]
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                raise _FunctionError("tag_values", error) from error
        return tuple(found * 2 if len(found) == 1 else found)

    def find(self, values: _Values) -> _Put | None:
        """Return what was kept for these values, or for others that read the same."""
        try:
            found = self.texts.get(values)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - a value that cannot be hashed or compared; its type settles what to do
            found = None
        if found is not None:
            # What is found equals texts; only what is itself a text does.
            return found
        return self._typed.get(_filed(values)) if self._typed else None

    def labels(self, values: _Values) -> tuple[Labels, bool]:
        """Return the labels, and whether what is made of them may be kept."""
        whole = True
        texts = list(self._constants)
        for name, value in zip(self._labels, values, strict=False):
            exact = exact_label(value)
            if exact is not None and (text := label_text(exact)):
                texts.append((name, text))
                # NaN equals nothing, so what is remembered for it would never be found.
                whole = whole and len(text) < _LONG and exact == exact  # noqa: PLR0124
        return tuple(sorted(texts)), whole

    def keep(self, values: _Values, put: _Put) -> None:
        """Remember what was made of these values."""
        if len(self.texts) + len(self._typed) >= _MAX_KEPT:
            self.forget()
        if all(type(value) is str for value in values):
            self.texts[values] = put
        else:
            self._typed[_filed(values)] = put

    def forget(self) -> None:
        """Remember nothing."""
        self.texts.clear()
        self._typed.clear()


class _Bound:
    """A definition at work: its metric, and how it takes an event."""

    def __init__(self, definition: Definition, naming: Naming) -> None:
        self.definition = definition
        self.name, self.unit = definition.exported(naming)
        self.metric: AnyMetric | None = None
        self.matches = re.compile("|".join(map(fnmatch.translate, definition.events))).match
        self.tags = _Tags(definition, naming.label)
        self.complained = False
        self.missing = 0
        measurement = definition.measurement
        self.key = measurement if isinstance(measurement, str) else None
        self.function = _of_two(measurement, only_measurements=True) if callable(measurement) else None
        self.counts = definition.type == "counter"
        self.keep = _predicate(definition.keep)
        self.drop = _predicate(definition.drop)
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
                self._declare(one)
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

    def _one(self, event: Entry) -> bool:  # noqa: C901 - in one piece, because calls are what it saves
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
        outcome = _SKIPPED
        for bound in plan:
            try:
                verdict = self._take(bound, measurements, metadata, operation)
            except _FunctionError as error:
                self._complain(bound, error)
                verdict = _REFUSED
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - peculiar keys or values; they must not cost other definitions
                self._store.refuse(UNREADABLE)
                verdict = _REFUSED
            if outcome != _TAKEN and verdict:
                outcome = verdict
        if outcome == _SKIPPED:
            self.unused += 1
        return outcome != _REFUSED

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
            try:
                amount = bound.function(measurements, metadata)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                raise _FunctionError("measurement", error) from error
        if amount is None:
            bound.missing += 1
            return _SKIPPED
        if bound.keep is not None and not _holds("keep", bound.keep, measurements, metadata):
            return _SKIPPED
        if bound.drop is not None and _holds("drop", bound.drop, measurements, metadata):
            return _SKIPPED
        if bound.counts:
            amount = 1
        else:
            kind = type(amount)
            if kind is not float and kind is not int:
                amount = number_of(amount)
                if amount is None:
                    self._store.refuse(NOT_A_NUMBER)
                    return _REFUSED
            if bound.convert is not None:
                try:
                    amount = bound.convert(amount)
                except OverflowError:  # an integer beyond every float
                    self._store.refuse(OUT_OF_RANGE)
                    return _REFUSED
        if not bound.least <= amount <= FLOAT_MAX:
            self._store.refuse(OUT_OF_RANGE)
            return _REFUSED
        tags = bound.tags
        put: _Put | None = None
        values: _Values | None = None
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
            self._store.refuse(NAME_TAKEN)
            return _REFUSED
        if put(amount, operation) if bound.traces else put(amount):
            return _TAKEN
        self._store.refuse(OUT_OF_RANGE)
        return _REFUSED

    # What follows runs once per event name, per series, and for what has no series of its own.

    def _plan(self, name: str) -> tuple[_Bound, ...]:
        plan = tuple(bound for bound in self._bound if bound.matches(name))
        if type(name) is str and len(name) <= MAX_NAME:
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            self._plans[name] = plan
        return plan

    def _resolve(self, bound: _Bound, values: _Values) -> _Put | None:
        if bound.metric is None:
            return None
        self.resolved += 1
        labels, whole = bound.tags.labels(values)
        metric: Any = bound.metric
        series = metric.at(labels)
        if self._generation != self._store.generation:
            # Others have made room for it, or have become one.
            self._renew()
        put: _Put = getattr(series, _PUTS[bound.definition.type])
        if whole and not is_shared(series, labels):
            bound.tags.keep(values, put)
        return put

    def _complain(self, bound: _Bound, error: _FunctionError) -> None:
        self._store.refuse(_FAILED)
        if not bound.complained:
            bound.complained = True
            definition = bound.definition
            self._store.report(
                f"the {error.option} of {definition.type} {readable(definition.name)!r} failed "
                f"({describe(error.cause)}): what it fails for is not measured, and counted as refused; this "
                f"is said once"
            )

    def _check(self, fresh: Iterable[_Bound], going: set[str]) -> None:
        """Refuse metrics that the store would refuse."""
        store = self._store
        problems = []
        room = store.max_metrics - len(store) + len([name for name in going if store.find(name)])
        for bound in fresh:
            claims = self._naming.claims(bound.definition.kind, bound.name)
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

    def _declare(self, bound: _Bound) -> None:
        """Declare a metric."""
        definition, name, unit = bound.definition, bound.name, bound.unit
        bound.metric = self._store.declare(
            MetricSpec(
                kind=definition.kind,
                name=name,
                description=definition.description or _description(definition),
                unit=unit,
                claims=self._naming.claims(definition.kind, name),
                owner=OWNER,
                max_series=definition.max_series,
                **_particulars(definition),
            )
        )

    def _renew(self) -> None:
        """Let go of series that may have gone; a metric that was removed begins again."""
        for bound in self._bound:
            bound.tags.forget()
            if bound.metric is None or self._store.find(bound.name) is not bound.metric:
                try:
                    self._declare(bound)
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


def _particulars(definition: Definition) -> dict[str, Any]:
    """Return what a metric has that not every kind has."""
    match definition:
        case LastValue():
            return {"multiprocess_mode": definition.multiprocess_mode}
        case Summary():
            return {"shape": _shape(definition)}
        case Distribution(buckets=Base2() as base2):
            return {"scale": base2.max_scale, "max_size": base2.max_size}
        case Distribution():
            return {"bounds": definition.buckets}
        case _:
            return {}


def _shape(definition: Summary) -> SummaryShape:
    scale = scale_for(definition.error)
    # One more, because the least may be the upper bound of its bucket.
    size = max(_LEAST_SIZE, (_KEPT_DOUBLINGS << scale) + 1)
    return SummaryShape(definition.quantiles, scale, size, int(definition.window * 1e9 / _SLICES), _SLICES)


def _description(definition: Definition) -> str:
    """Return what is said of a metric nobody has described."""
    events = f"the events {readable(', '.join(definition.events))}"
    measurement = definition.measurement
    what = f'"{readable(measurement)}"' if isinstance(measurement, str) else "what is measured"
    match definition:
        case Sum():
            return f"Sum of {what} of {events}."
        case LastValue():
            return f"Last {what} of {events}."
        case Summary():
            return f"Quantiles of {what} of {events}, over the last {definition.window:g} seconds."
        case Distribution():
            return f"Distribution of {what} of {events}."
        case _:
            return f"Number of {events}."


def _traced(event: Entry, metadata: Mapping[str, Any]) -> TracedOperation | None:
    """Return the operation that an event was part of: as its metadata says, or in which it was emitted."""
    if is_of_an_operation(metadata) and (told := operation_of(metadata, event[3])) is not None:
        return told
    return in_trace(event[5], event[3]) if len(event) == _WITHIN else None


def _predicate(given: Callable[..., object] | Match | None) -> Callable[[Any, Any], object] | None:
    return None if given is None else _of_two(given, only_measurements=False)


def _of_two(function: Callable[..., object], *, only_measurements: bool) -> Callable[[Any, Any], object]:
    """Return a function of measurements and metadata, made of one that may want just one of these."""
    wanted = 1 if isinstance(function, Match) else arguments_of(function)
    if only_measurements:
        # One that does not tell is called with both, and a predicate that does not with metadata.
        return (lambda measurements, _metadata: function(measurements)) if wanted == 1 else function
    both = wanted == 2  # noqa: PLR2004 - measurements and metadata
    return function if both else (lambda _measurements, metadata: function(metadata))


def _holds(
    option: str, predicate: Callable[[Any, Any], object], measurements: object, metadata: object
) -> bool:
    try:
        return bool(predicate(measurements, metadata))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _FunctionError(option, error) from error


def _filed(values: _Values) -> _Values:
    """Return under what values that are not all texts are filed; those that are no label are all alike."""
    # A number by its type as well; of anything that is not a number it is the text that becomes the label.
    exact = map(exact_label, values)
    return tuple((type(value), value) for value in exact)
