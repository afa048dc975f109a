"""The options of a definition of a metric: what each may be, and what a definition keeps of it.

Every function takes what is given for one option, None if nothing is, and the options checked before. Pure.
"""

from __future__ import annotations

import fnmatch
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from otpylib_telemetry.config.field_types import Number, Words, in_any_case
from otpylib_telemetry.config.messages import reason_words, value_words
from otpylib_telemetry.config.refusals import RefusedError
from otpylib_telemetry.metrics.labels import label_text
from otpylib_telemetry.metrics.names import MAX_NAME, PROMETHEUS
from otpylib_telemetry.metrics.units import Conversion, UnitError, conversion

if TYPE_CHECKING:
    from pydantic import ValidationInfo
    from pydantic_core import ErrorDetails


#: How prometheus_client's multiprocess mode may merge what several processes set a gauge to.
MultiprocessMode = Literal[
    "all",
    "liveall",
    "min",
    "livemin",
    "max",
    "livemax",
    "sum",
    "livesum",
    "mostrecent",
    "livemostrecent",
]
MULTIPROCESS_MODES: Final[tuple[str, ...]] = get_args(MultiprocessMode)

_MAX_TAGS: Final = 64
_MAX_QUANTILES: Final = 50
_GLOB: Final = re.compile(r"[*?\[]")
#: What neither a name nor a pattern has: blanks, control characters, and what UTF-8 cannot carry.
_UNFIT: Final = re.compile(r"[\s\x00-\x1f\x7f\ud800-\udfff]")

_NAME: Final = (
    f"a dotted name of at most {MAX_NAME} characters, without blanks, such as shop.checkout.stop.count"
)
_EVENTS: Final = "an event name, a shell pattern over event names, or a list of these"
_TAG_VALUES: Final = (
    'a function of metadata, or a table of tags with a constant or { from = "another key" } each'
)
_PREDICATE: Final = (
    "a function of metadata, or a table of metadata keys with a value, a pattern or a list of these"
)


class DefinitionError(ValueError):
    """Definitions that do not do: ``problems`` has everything that is wrong, each with what was expected."""

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Checked(BaseModel):
    """Options that were checked. Numbers are numbers: unlike settings, none come as text from a variable."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        # Most programs define no metric: a validator is built when it is first used.
        defer_build=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _choices_in_any_case(cls, value: object, info: ValidationInfo) -> object:
        return in_any_case(value, cls.model_fields[info.field_name or ""])

    @classmethod
    def of(cls, given: Mapping[Any, Any]) -> Self:
        """Return what these options make; those that are None count as not given.

        Raises:
            DefinitionError: Some do not do; the message names every one.
        """
        try:
            return cls.model_validate({key: value for key, value in given.items() if value is not None})
        except ValidationError as error:
            problems: dict[int | str, str] = {}
            for one in error.errors(include_url=False):
                # Of a list with a wrong item pydantic may also say that it is too short without it.
                problems.setdefault(one["loc"][0], cls._problem(given, one))
            raise DefinitionError(*problems.values()) from None

    @classmethod
    def _problem(cls, given: Mapping[Any, Any], error: ErrorDetails) -> str:
        option = error["loc"][0]
        if error["type"] in {"invalid_key", "extra_forbidden"}:
            return cls.unknown(option)
        # Of what is missing pydantic tells the attribute, of what is wrong the option.
        name, info = next(
            (name, info) for name, info in cls.model_fields.items() if option in {name, info.alias}
        )
        option = info.alias or name
        got = "is missing" if given.get(option) is None else f"is {value_words(given[option])}"
        return f"{option} {got}, {reason_words(info, error, secret=False, hidden=False)}"

    @classmethod
    def unknown(cls, option: object) -> str:
        """Say of an option that there is none of this name."""
        return f"{value_words(option)} is no name of an option"


@dataclass(frozen=True, slots=True)
class Match:
    """A predicate made of a table: every key's value must look like one of the patterns given for it."""

    conditions: tuple[tuple[str, tuple[str, ...]], ...]
    _matchers: tuple[tuple[str, Callable[[str], object]], ...] = field(
        init=False, repr=False, compare=False, default=()
    )

    def __post_init__(self) -> None:
        compiled = tuple(
            (key, re.compile("|".join(map(fnmatch.translate, patterns))).match)
            for key, patterns in self.conditions
        )
        object.__setattr__(self, "_matchers", compiled)

    def __call__(self, metadata: Mapping[str, Any]) -> bool:
        """Tell whether an event's metadata match."""
        return all(key in metadata and matches(label_text(metadata[key])) for key, matches in self._matchers)


@dataclass(frozen=True, slots=True)
class TagSource:
    """A tag whose value stands in the metadata under this key."""

    key: str


@dataclass(frozen=True, slots=True)
class Constants:
    """What a table says about tags: each with its constant text, or where to find it."""

    values: tuple[tuple[str, str | TagSource], ...]


def arguments_of(function: Callable[..., Any]) -> int | None:
    """Return with how many arguments a function wants to be called; None where it does not tell."""
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise RefusedError("expected a plain function, not one that is awaited or iterated over")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    required = [
        one
        for one in signature.parameters.values()
        if one.kind in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD} and one.default is one.empty
    ]
    count = 1 if len(required) == 1 else 2
    try:
        signature.bind(*[None] * count)
    except TypeError:
        if required or not signature.parameters:
            raise RefusedError("expected a function that can be called with one or two arguments") from None
        return 1
    return count


def name_option(value: object) -> str:
    """Return the name of a metric."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or _UNFIT.search(value):
        raise RefusedError(f"expected {_NAME}")
    if _GLOB.search(value):
        raise RefusedError(
            "expected a name for the metric; the pattern of the events it is made of goes into event"
        )
    if not re.search(r"\w", value) or "" in value.split("."):
        raise RefusedError(f"expected {_NAME}")
    return str.__str__(value)


def event_option(value: object, info: ValidationInfo) -> tuple[str, ...]:
    """Return patterns of event names: by default what stands before the last dot of the name."""
    if value is None:
        # A name that does not do was told of already.
        name = info.data.get("name", ".")
        if "." not in name:
            raise RefusedError(f"and the name {name!r} has no part that says it")
        return (name.rpartition(".")[0],)
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not items:
        raise RefusedError(f"expected {_EVENTS}")
    if not all(isinstance(item, str) and item and not _UNFIT.search(item) for item in items):
        raise RefusedError("expected event names or shell patterns without blanks, such as shop.checkout.*")
    return tuple(dict.fromkeys(str.__str__(item) for item in items))


def measurement_option(value: object, info: ValidationInfo) -> str | Callable[..., object] | None:
    """Return what is measured: by default the last part of the name, and nothing for a counter."""
    if value is None:
        counts = info.data["type"] == "counter"
        return None if counts else str(info.data.get("name", "")).rpartition(".")[2]
    if callable(value):
        arguments_of(value)
        return value
    if isinstance(value, str) and value.strip():
        return str.__str__(value)
    raise RefusedError("expected the name of a measurement, or a function of measurements and metadata")


def _distinct(tags: tuple[str, ...]) -> tuple[str, ...]:
    labels: dict[str, str] = {}
    for tag in tags:
        other = labels.setdefault(PROMETHEUS.label(tag), tag)
        if other != tag:
            raise RefusedError(
                f"expected keys that differ as labels too, but {other!r} and {tag!r} are both "
                f"{PROMETHEUS.label(tag)}"
            )
    return tags


def tag_values_option(value: object, info: ValidationInfo) -> Callable[..., object] | Constants | None:
    """Return a function of metadata that gives tags their values, or what a table says of these."""
    if callable(value):
        if arguments_of(value) == 2:  # noqa: PLR2004 - measurements and metadata
            raise RefusedError("expected a function of one argument, the metadata")
        return value
    if not isinstance(value, Mapping) or not value:
        raise RefusedError(f"expected {_TAG_VALUES}")
    found = Constants(
        tuple(sorted(((tag, _constant(tag, item)) for tag, item in value.items()), key=itemgetter(0)))
    )
    strangers = [tag for tag, _ in found.values if tag not in info.data.get("tags", value)]
    if strangers:
        raise RefusedError(f"expected only what tags has, which {', '.join(strangers)} is not")
    return found


def _constant(tag: object, item: object) -> str | TagSource:
    """Return what a table says of one tag."""
    if not isinstance(tag, str) or not tag:
        raise RefusedError(f"expected {_TAG_VALUES}")
    if not isinstance(item, Mapping):
        if text := label_text(item):
            return text
        raise RefusedError(f"expected {_TAG_VALUES}, but that of {tag} is {value_words(item)}")
    key = item.get("from")
    if set(item) != {"from"} or not isinstance(key, str) or not key:
        raise RefusedError(f'expected {_TAG_VALUES}, but that of {tag} is no {{ from = "another key" }}')
    return TagSource(str.__str__(key))


def predicate_option(value: object) -> Callable[..., object] | Match | None:
    """Return what tells of an event whether it counts."""
    if callable(value):
        arguments_of(value)
        return value
    if not isinstance(value, Mapping) or not value:
        raise RefusedError(f"expected {_PREDICATE}")
    conditions: list[tuple[str, tuple[str, ...]]] = []
    for key, wanted in value.items():
        items = wanted if isinstance(wanted, (list, tuple)) else [wanted]
        texts = tuple(item if type(item) is str else label_text(item) for item in items)
        if not isinstance(key, str) or not texts:
            raise RefusedError(f"expected {_PREDICATE}")
        for item, text in zip(items, texts, strict=True):
            if not text and not isinstance(item, str):
                raise RefusedError(f"expected {_PREDICATE}, but that of {key} is {value_words(item)}")
        conditions.append((str.__str__(key), texts))
    return Match(tuple(sorted(conditions)))


def unit_option(value: object, info: ValidationInfo) -> Conversion:
    """Return the unit measured in, and the one exported: the same, or two with a conversion."""
    match value:
        case str():
            source = target = value
        case [str(source), str(target)]:
            pass
        case _:
            raise RefusedError(
                'expected a unit such as "ms", or two to convert from and to, such as ("ms", "s")'
            )
    try:
        found = conversion(source.strip(), target.strip())
    except UnitError as error:
        raise RefusedError(f"expected {error}") from None
    if info.data["type"] == "counter" and found.source != found.target:
        raise RefusedError("expected one unit, for a counter has nothing to convert")
    return found


def _sorted_quantiles(value: tuple[float, ...]) -> tuple[float, ...]:
    if len(set(value)) < len(value):
        raise RefusedError(f"expected {QUANTILES}")
    return tuple(sorted(value))


def _list_of_one(value: object) -> object:
    return value if isinstance(value, (list, tuple)) else [value]


def _carried(value: object) -> object:
    """Replace what UTF-8 cannot carry."""
    return value.encode("utf-8", "replace").decode("utf-8").strip() if isinstance(value, str) else value


QUANTILES: Final = f"from 1 to {_MAX_QUANTILES} different numbers from 0 to 1"

#: Metadata keys that differ as labels, too.
Tags = Annotated[Words, Field(max_length=_MAX_TAGS), AfterValidator(_distinct)]
#: Quantiles, ascending.
Quantiles = Annotated[
    tuple[Annotated[Number, Field(ge=0, le=1)], ...],
    Field(min_length=1, max_length=_MAX_QUANTILES),
    AfterValidator(_sorted_quantiles),
    BeforeValidator(_list_of_one),
]
#: A text without what UTF-8 cannot carry.
Text = Annotated[str, BeforeValidator(_carried)]
