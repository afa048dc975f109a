"""A definition of a metric: a model for each type, and what their options are checked for. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field, PlainValidator, model_serializer

from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.config.field_types import Number, WholeNumber
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

_Predicate = Annotated[Function | Match | None, PlainValidator(checked.predicate_option)]


def _expected(what: str) -> dict[str, Any]:
    """Return what is said of a field to have it expected in these words."""
    return {"expected": what}


class Definition(Checked):
    """One metric. Made by ``metrics.counter`` and its like, or of a table.

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
