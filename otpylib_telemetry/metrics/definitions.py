"""Definitions of metrics: which events a metric is made of, what is measured, and how it is broken down.

The vocabulary is that of Elixir's ``telemetry_metrics``::

    from otpylib_telemetry import metrics

    metrics.counter("shop.checkout.stop.count", tags=["shop"])
    metrics.distribution("shop.checkout.stop.duration_ms", unit=("ms", "s"), buckets=[0.1, 0.5, 1])

The name of a metric says what it is made of: its last part is the measurement, what stands before it is the
event, unless ``event`` and ``measurement`` say otherwise. The same definitions can be written as tables, see
:mod:`.definition_tables`; both are checked when they are made, not when the first event comes. Pure.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias, TypedDict, Unpack

from pydantic import Field, PlainValidator, model_serializer

from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.config.settings import Number, WholeNumber  # noqa: TC001 - pydantic reads them
from otpylib_telemetry.metrics import options as checked
from otpylib_telemetry.metrics.buckets import Base2, buckets_option
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS
from otpylib_telemetry.metrics.options import (
    Checked,
    Constants,
    DefinitionError,
    Match,
    MultiprocessMode,
    Quantiles,
    Tags,
    TagSource,
    Text,
)
from otpylib_telemetry.metrics.units import Conversion

if TYPE_CHECKING:
    from otpylib_telemetry.metrics.names import Naming

Type: TypeAlias = Literal["counter", "sum", "last_value", "summary", "distribution"]

Function: TypeAlias = Callable[..., object]


class Common(TypedDict, total=False):
    """The options of every metric.

    Attributes:
        event: The event, a shell pattern over event names as the bus has them, or a list of these; by default
            the name without its last part.
        measurement: The name of what is measured, or a function of measurements and metadata (or of
            measurements alone); by default the last part of the name. What it gives as None, or where there
            is no such measurement, is not measured.
        tags: Metadata keys whose values become labels; those whose values are neither text, number nor
            boolean, and missing ones, become none.
        tag_values: A function of metadata whose result, a mapping, goes over the metadata before tags are
            looked up; or a mapping of tags to constants and to ``{"from": another_key}``.
        keep: Which events count: a function of metadata (or of measurements and metadata), or a mapping of
            metadata keys to a value, a shell pattern or a list of these, all of which must match.
        drop: Which events do not count, in the same ways.
        unit: The unit of the measurement, ``"ms"``; two, ``("ms", "s")``, convert from the first to the
            second.
        description: What the metric says, for a person to read.
        max_series: How many series it may have; by default what the exporter's setting of this name says, but
            no more than 200 for a summary, whose series are larger.
    """

    event: str | Sequence[str] | None
    measurement: str | Function | None
    tags: str | Sequence[str]
    tag_values: Function | Mapping[str, object] | None
    keep: Function | Mapping[str, object] | None
    drop: Function | Mapping[str, object] | None
    unit: str | tuple[str, str] | None
    description: str
    max_series: int | None


_Predicate = Annotated[Function | Match | None, PlainValidator(checked.predicate_option)]


def _expected(what: str) -> dict[str, Any]:
    """Return what is said of a field to have it expected in these words."""
    return {"expected": what}


class Definition(Checked):
    """One metric. Made by :func:`counter` and its like, or of a table.

    Equal definitions are the same metric: a set of definitions that is replaced keeps the series of those
    that were in it before. Functions are equal if they are the same object.

    Attributes:
        type: Which kind of metric.
        name: Its name, as it was given.
        events: Patterns of the events it is made of.
        measurement: What is measured; None to count the event whatever it measures.
        tags: Metadata keys that become labels.
        tag_values: What gives tags other values than the metadata have.
        keep: What an event must match.
        drop: What an event must not match.
        unit: The unit measured in and the one exported.
        description: What it says.
        max_series: How many series it may have; None for the exporter's setting, and no more than 200 for a
            summary.
    """

    type: Type
    # Each option is checked knowing those above it.
    name: Annotated[str, PlainValidator(checked.name_option)] = Field(None, validate_default=True)
    events: Annotated[tuple[str, ...], PlainValidator(checked.event_option)] = Field(
        None, alias="event", validate_default=True
    )
    measurement: Annotated[str | Function | None, PlainValidator(checked.measurement_option)] = Field(
        None, validate_default=True
    )
    tags: Tags = Field((), strict=False, json_schema_extra=_expected("a list of metadata keys"))
    tag_values: Annotated[Function | Constants | None, PlainValidator(checked.tag_values_option)] = None
    keep: _Predicate = None
    drop: _Predicate = None
    unit: Annotated[Conversion, PlainValidator(checked.unit_option)] = Conversion()
    description: Text = ""
    max_series: WholeNumber | None = Field(None, ge=1, le=1_000_000)

    @property
    def kind(self) -> Kind:
        """The kind of metric it makes in a store."""
        match self:
            case Sum(monotonic=False):
                return Kind.UP_DOWN
            case LastValue():
                return Kind.GAUGE
            case Summary():
                return Kind.SUMMARY
            case Distribution(buckets=Base2()):
                return Kind.EXPONENTIAL
            case Distribution():
                return Kind.HISTOGRAM
            case _:
                return Kind.COUNTER

    def exported(self, naming: Naming) -> tuple[str, str]:
        """Return its name and its unit at one exit: those of an instrument of that name and that unit.

        The unit of the measurement goes from the end of the name, for ``duration_ms`` may well be exported in
        seconds, unless it is written out there and still true.
        """
        source, target = self.unit.source, self.unit.target
        is_true = source == target and self.name.endswith((f".{target.word}", f"_{target.word}"))
        name = self.name if is_true else source.without(self.name)
        return naming.instrument(name, target.ucum, self.kind)

    @model_serializer
    def as_table(self) -> dict[str, Any]:
        """Return it as plain data, as it could stand in a file; functions by their names."""
        shown: dict[str, Any] = {}
        for key, field in type(self).model_fields.items():
            if (value := _plain(getattr(self, key))) not in (None, "", []):
                shown[field.alias or key] = value
        if len(self.events) == 1:
            shown["event"] = self.events[0]
        return shown

    def __repr__(self) -> str:
        table = self.as_table()
        options = [f"{key}={value!r}" for key, value in table.items() if key not in {"type", "name"}]
        return f"{self.type}({', '.join([repr(self.name), *options])})"

    __str__ = __repr__

    @classmethod
    def unknown(cls, option: object) -> str:
        """Say of an option that this type of metric has none of this name, and which could be meant."""
        if not isinstance(option, str):
            return super().unknown(option)
        near = difflib.get_close_matches(option, _options_of(cls), n=1)
        hint = ""
        if near:
            hint = f"; did you mean {near[0]}?"
        elif owners := [kind for kind, other in TYPES.items() if option in _options_of(other)]:
            hint = f"; it is one of {' and '.join(owners)}"
        return f"{option[:60]!r} is no option of a {cls.model_fields['type'].default}{hint}"


class Counter(Definition):
    """Counts events."""

    type: Literal["counter"] = "counter"


class Sum(Definition):
    """Adds up a measurement.

    Attributes:
        monotonic: Whether it only rises.
    """

    type: Literal["sum"] = "sum"
    monotonic: bool = Field(
        True, json_schema_extra=_expected("true (the sum only rises) or false (it rises and falls)")
    )


class LastValue(Definition):
    """Shows the latest measurement.

    Attributes:
        multiprocess_mode: How the last values of several processes become one, in the words of
            prometheus_client.
    """

    type: Literal["last_value"] = "last_value"
    multiprocess_mode: MultiprocessMode = Field(
        "mostrecent", json_schema_extra=_expected(f"one of {', '.join(checked.MULTIPROCESS_MODES)}")
    )


class Summary(Definition):
    """Tells quantiles.

    Attributes:
        quantiles: Which, ascending.
        error: Their greatest relative error.
        window: Seconds they are taken over.
    """

    type: Literal["summary"] = "summary"
    quantiles: Quantiles = Field(
        (0.5, 0.9, 0.95, 0.99), strict=False, json_schema_extra=_expected(checked.QUANTILES)
    )
    error: Number = Field(
        0.01, ge=0.001, le=0.5, json_schema_extra=_expected("a relative error from 0.001 to 0.5")
    )
    window: Number = Field(600.0, ge=1, le=86_400, json_schema_extra={"unit": "seconds"})


class Distribution(Definition):
    """Tells how many measurements fell into which range.

    Attributes:
        buckets: Which ranges.
    """

    type: Literal["distribution"] = "distribution"
    buckets: Annotated[tuple[float, ...] | Base2, PlainValidator(buckets_option)] = Field(
        None, validate_default=True
    )


TYPES: Final[Mapping[str, type[Definition]]] = {
    "counter": Counter,
    "sum": Sum,
    "last_value": LastValue,
    "summary": Summary,
    "distribution": Distribution,
}


def _options_of(kind: type[Definition]) -> list[str]:
    return [field.alias or key for key, field in kind.model_fields.items()]


def counter(name: str, **options: Unpack[Common]) -> Definition:
    """Count events.

    Args:
        name: The metric's name, ``shop.checkout.stop.count``. The last part is the measurement only in name:
            an event counts as one whatever it measures. With ``measurement``, those that have it count.
        options: See :class:`Common`.

    Raises:
        DefinitionError: The definition does not do; the message names everything that is wrong.
    """
    return _define("counter", name, options)


class _SumOptions(Common, total=False):
    monotonic: bool


def sum(name: str, **options: Unpack[_SumOptions]) -> Definition:  # noqa: A001 - what it is called
    """Add up a measurement.

    Args:
        name: The metric's name, ``shop.checkout.stop.items``.
        options: See :class:`Common`; and ``monotonic``: whether the sum only rises (the default), so that
            what is negative is refused, or rises and falls.

    Raises:
        DefinitionError: The definition does not do; the message names everything that is wrong.
    """
    return _define("sum", name, options)


class _LastValueOptions(Common, total=False):
    multiprocess_mode: str


def last_value(name: str, **options: Unpack[_LastValueOptions]) -> Definition:
    """Show the latest measurement.

    Args:
        name: The metric's name, ``shop.queue.depth``.
        options: See :class:`Common`; and ``multiprocess_mode``: how the values of several processes become
            one, one of prometheus_client's words for it (``mostrecent`` by default: what was set last).

    Raises:
        DefinitionError: The definition does not do; the message names everything that is wrong.
    """
    return _define("last_value", name, options)


class _SummaryOptions(Common, total=False):
    quantiles: float | Sequence[float]
    error: float
    window: float


def summary(name: str, **options: Unpack[_SummaryOptions]) -> Definition:
    """Tell quantiles of what was measured recently, and how much there was altogether.

    Args:
        name: The metric's name, ``shop.checkout.stop.duration_ms``.
        options: See :class:`Common`; and ``quantiles`` (0.5, 0.9, 0.95 and 0.99 by default), ``error``: their
            relative error at most (0.01), and ``window``: the seconds they are taken over (600).

    Raises:
        DefinitionError: The definition does not do; the message names everything that is wrong.
    """
    return _define("summary", name, options)


class _DistributionOptions(Common, total=False):
    buckets: Sequence[float] | Base2 | str | Mapping[str, float] | None


def distribution(name: str, **options: Unpack[_DistributionOptions]) -> Definition:
    """Tell how many measurements fell into which range.

    Args:
        name: The metric's name, ``shop.checkout.stop.duration_ms``.
        options: See :class:`Common`; and ``buckets``: upper bounds, inclusive, in the unit exported;
            ``exponential(...)`` for bounds that are computed, ``base2(...)`` or ``"exponential"`` for buckets
            that need none. Durations have bounds from 5 ms to 10 s by default.

    Raises:
        DefinitionError: The definition does not do; the message names everything that is wrong.
    """
    return _define("distribution", name, options)


def refuse_clashes(definitions: Iterable[Definition]) -> None:
    """Refuse definitions that would want one name, at either exit.

    Args:
        definitions: Definitions that are to be in force together.

    Raises:
        DefinitionError: There are such definitions; the message names every pair.
    """
    present = tuple(definitions)
    problems: dict[tuple[int, int], str] = {}
    for naming in (PROMETHEUS, OPENTELEMETRY):
        owners: dict[str, int] = {}
        for index, definition in enumerate(present):
            name, _ = definition.exported(naming)
            for wanted in (name, *naming.claims(definition.kind, name)):
                owner = owners.setdefault(wanted, index)
                if owner != index and (owner, index) not in problems:
                    other = present[owner]
                    problems[owner, index] = (
                        f"{other.type} {other.name!r} and {definition.type} {definition.name!r} would both "
                        f"be {wanted}; give one of them another name (event and measurement say what it is "
                        f"made of)"
                    )
    if problems:
        raise DefinitionError(*problems.values())


def about(table: object) -> str:
    """Return what tells a table from the others, for a message."""
    if not isinstance(table, Mapping):
        return ""
    kind, name = type_of(table), table.get("name")
    kind = kind if isinstance(kind, str) and kind in TYPES else ""
    name = repr(name[:60]) if isinstance(name, str) else ""
    return f" ({' '.join(part for part in (kind, name) if part)})" if kind or name else ""


def type_of(table: Mapping[Any, Any]) -> object:
    """Return the type that a table says, in lower case."""
    kind = table.get("type")
    return kind.strip().lower() if isinstance(kind, str) else kind


def _define(kind: Type, name: object, options: Mapping[str, Any]) -> Definition:
    table = {"type": kind, "name": name, **options}
    try:
        return TYPES[kind].of(table)
    except DefinitionError as error:
        which = about(table).strip(" ()")
        raise DefinitionError(*(f"{which}: {problem}" for problem in error.problems)) from None


def _plain(value: Any) -> Any:  # noqa: PLR0911 - one line for each kind of option
    match value:
        case Conversion():
            source, target = value.source.symbol, value.target.symbol
            return source if source == target else [source, target]
        case Base2():
            return value.model_dump()
        case Match():
            return {key: texts[0] if len(texts) == 1 else list(texts) for key, texts in value.conditions}
        case Constants():
            return {
                tag: {"from": item.key} if isinstance(item, TagSource) else item for tag, item in value.values
            }
        case tuple():
            return list(value)
        case None | bool() | str() | int() | float():
            return value
        case _:
            name = getattr(value, "__qualname__", None)
            return f"function {name}" if isinstance(name, str) else f"function of type {type(value).__name__}"
