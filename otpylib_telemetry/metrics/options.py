"""The options of a definition of a metric: what each may be, and what is made of it.

Every ``check_...`` function takes a value nobody has looked at yet, from Python code or a table in a file,
and returns what a definition keeps, or raises :class:`ExpectedError`. Pure.
"""

from __future__ import annotations

import fnmatch
import inspect
import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation.exponential import MAX_SCALE, MIN_SCALE
from otpylib_telemetry.config.messages import value_words
from otpylib_telemetry.metrics.labels import label_text
from otpylib_telemetry.metrics.names import MAX_NAME, PROMETHEUS
from otpylib_telemetry.metrics.units import NO_UNIT, Conversion, UnitError, conversion

if TYPE_CHECKING:
    from otpylib_telemetry.metrics.units import Unit

__all__ = [
    "DURATION_BOUNDS",
    "MULTIPROCESS_MODES",
    "Base2",
    "Constants",
    "DefinitionError",
    "ExpectedError",
    "Match",
    "TagSource",
    "base2",
    "duration_bounds",
    "exponential",
]

#: Upper bounds in seconds, from 5 ms to 10 s: Prometheus' customary ones, finer around the usual second.
DURATION_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

#: How prometheus_client's multiprocess mode may merge what several processes set a gauge to.
MULTIPROCESS_MODES: Final = (
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
)

_MAX_BOUNDS: Final = 200
_MAX_TAGS: Final = 64
_MAX_QUANTILES: Final = 50
_MAX_SIZE: Final = 10_000
_MAX_SERIES: Final = 1_000_000
_LEAST_ERROR: Final = 0.001
_GREATEST_ERROR: Final = 0.5
_LONGEST_WINDOW: Final = 86_400
_GLOB: Final = re.compile(r"[*?\[]")
#: What neither a name nor a pattern has: blanks, control characters, and what UTF-8 cannot carry.
_UNFIT: Final = re.compile(r"[\s\x00-\x1f\x7f\ud800-\udfff]")

_BOUNDS: Final = f"from 1 to {_MAX_BOUNDS} ascending finite bounds"
_BUCKETS: Final = (
    f'{_BOUNDS}, exponential(start, factor, count), base2(...) or "exponential"; in a table, '
    "{ start, factor, count } or { max_size, max_scale }"
)


class DefinitionError(ValueError):
    """Definitions that do not do; the message is for a person to read.

    Args:
        problems: Everything that is wrong, each with what was expected.

    Attributes:
        problems: As above.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class ExpectedError(ValueError):
    """A value of an option that does not do; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Base2:
    """Exponential buckets as OpenTelemetry's data model has them, as fine as their number allows.

    Attributes:
        max_size: How many buckets a series may have for either sign.
        max_scale: The resolution it begins with.
    """

    max_size: int = 160
    max_scale: int = MAX_SCALE

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {value_words(value)}, expected a whole number from {low} to {high}"
            for name, value, low, high in (
                ("max_size", self.max_size, 2, _MAX_SIZE),
                ("max_scale", self.max_scale, MIN_SCALE, MAX_SCALE),
            )
            if type(value) is not int or not low <= value <= high
        ]
        if problems:
            raise DefinitionError(*problems)


def base2(max_size: int = 160, max_scale: int = MAX_SCALE) -> Base2:
    """Return buckets of a distribution that need no bounds: they follow what is observed.

    Args:
        max_size: How many buckets a series may have for either sign; where more would be needed, the
            resolution is halved.
        max_scale: The resolution it begins with: ``2 ** (2 ** -scale)`` from one bound to the next.

    Raises:
        DefinitionError: One of them is out of range.
    """
    return Base2(max_size, max_scale)


def exponential(start: float, factor: float, count: int) -> tuple[float, ...]:
    """Return bounds of buckets, each so many times the one before.

    Args:
        start: The first.
        factor: How many times.
        count: How many bounds.

    Raises:
        DefinitionError: No bounds can be made of these.
    """
    problems = []
    if not (_is_number(start) and start > 0):
        problems.append(f"start is {value_words(start)}, expected a number above 0")
    if not (_is_number(factor) and factor > 1):
        problems.append(f"factor is {value_words(factor)}, expected a number above 1")
    if type(count) is not int or not 1 <= count <= _MAX_BOUNDS:
        problems.append(f"count is {value_words(count)}, expected a whole number from 1 to {_MAX_BOUNDS}")
    if problems:
        raise DefinitionError(*problems)
    try:
        bounds = tuple(float(start) * float(factor) ** power for power in range(count))
        return check_bounds(bounds)
    except (OverflowError, ExpectedError):
        raise DefinitionError(
            f"exponential({start}, {factor}, {count}) makes bounds that no float can tell apart or hold"
        ) from None


def duration_bounds(unit: Unit) -> tuple[float, ...] | None:
    """Return the bounds durations have where none are given; None for what is no unit of time.

    Args:
        unit: The unit durations are exported in.
    """
    if unit.dimension != "time":
        return None
    per_second = Fraction(10**9) / unit.factor
    return tuple(float(Fraction(str(bound)) * per_second) for bound in DURATION_BOUNDS)


@dataclass(frozen=True, slots=True)
class Match:
    """A predicate made of a table: every key's value must look like one of the patterns given for it.

    Attributes:
        conditions: Metadata keys, each with shell patterns over the text its value has as a label.
    """

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
    """A tag whose value stands in the metadata under another key.

    Attributes:
        key: The key.
    """

    key: str


@dataclass(frozen=True, slots=True)
class Constants:
    """What a table says about the values of tags.

    Attributes:
        values: Tags, each with its constant text or where to find it.
    """

    values: tuple[tuple[str, str | TagSource], ...]


def arguments_of(function: Callable[..., Any]) -> int | None:
    """Return with how many arguments a function wants to be called; None where it does not tell.

    Args:
        function: Any callable.

    Raises:
        ExpectedError: It takes neither one nor two, or does not return but when awaited.
    """
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ExpectedError("a plain function, not one that is awaited or iterated over")
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
            raise ExpectedError("a function that can be called with one or two arguments") from None
        return 1
    return count


def check_name(value: object) -> str:
    """Return the name of a metric."""
    expected = (
        f"a dotted name of at most {MAX_NAME} characters, without blanks, such as shop.checkout.stop.count"
    )
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or _UNFIT.search(value):
        raise ExpectedError(expected)
    if _GLOB.search(value):
        raise ExpectedError("a name for the metric; the pattern of the events it is made of goes into event")
    if not re.search(r"\w", value) or "" in value.split("."):
        raise ExpectedError(expected)
    return str.__str__(value)


def check_events(value: object) -> tuple[str, ...]:
    """Return patterns of event names; a single one is a list of one."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not items:
        raise ExpectedError("an event name, a shell pattern over event names, or a list of these")
    for item in items:
        if not isinstance(item, str) or not item or _UNFIT.search(item):
            raise ExpectedError("event names or shell patterns without blanks, such as shop.checkout.*")
    return tuple(dict.fromkeys(str.__str__(item) for item in items))


def check_measurement(value: object) -> str | Callable[..., object]:
    """Return the name of a measurement, or a function that works one out."""
    if callable(value):
        arguments_of(value)
        return value
    if isinstance(value, str) and value.strip():
        return str.__str__(value)
    raise ExpectedError("the name of a measurement, or a function of measurements and metadata")


def check_tags(value: object) -> tuple[str, ...]:
    """Return metadata keys; a single one is a list of one."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)):
        raise ExpectedError("a list of metadata keys")
    for number, item in enumerate(items, start=1):
        if not isinstance(item, str) or not item.strip():
            raise ExpectedError(f"a list of metadata keys, but item {number} is {value_words(item)}")
    tags = tuple(dict.fromkeys(str.__str__(item) for item in items))
    if len(tags) > _MAX_TAGS:
        raise ExpectedError(f"at most {_MAX_TAGS} metadata keys")
    labels: dict[str, str] = {}
    for tag in tags:
        other = labels.setdefault(PROMETHEUS.label(tag), tag)
        if other != tag:
            raise ExpectedError(
                f"keys that differ as labels too, but {other!r} and {tag!r} are both {PROMETHEUS.label(tag)}"
            )
    return tags


def check_tag_values(value: object) -> Callable[..., object] | Constants:
    """Return a function of metadata that gives tags their values, or what a table says of these."""
    expected = 'a function of metadata, or a table of tags with a constant or { from = "another key" } each'
    if isinstance(value, Constants):
        return value
    if callable(value):
        if arguments_of(value) == 2:  # noqa: PLR2004 - measurements and metadata
            raise ExpectedError("a function of one argument, the metadata")
        return value
    if not isinstance(value, Mapping) or not value:
        raise ExpectedError(expected)
    found: list[tuple[str, str | TagSource]] = []
    for tag, item in value.items():
        if not isinstance(tag, str) or not tag:
            raise ExpectedError(expected)
        if isinstance(item, Mapping):
            key = item.get("from")
            if set(item) != {"from"} or not isinstance(key, str) or not key:
                raise ExpectedError(f'{expected}, but that of {tag} is no {{ from = "another key" }}')
            found.append((tag, TagSource(str.__str__(key))))
        else:
            text = label_text(item)
            if not text:
                raise ExpectedError(f"{expected}, but that of {tag} is {value_words(item)}")
            found.append((tag, text))
    return Constants(tuple(sorted(found, key=lambda pair: pair[0])))


def check_predicate(value: object) -> Callable[..., object] | Match:
    """Return what tells of an event whether it counts."""
    expected = (
        "a function of metadata, or a table of metadata keys with a value, a pattern or a list of these"
    )
    if callable(value):
        arguments_of(value)
        return value
    if not isinstance(value, Mapping) or not value:
        raise ExpectedError(expected)
    conditions: list[tuple[str, tuple[str, ...]]] = []
    for key, wanted in value.items():
        items = wanted if isinstance(wanted, (list, tuple)) else [wanted]
        texts = tuple(item if type(item) is str else label_text(item) for item in items)
        if not isinstance(key, str) or not texts:
            raise ExpectedError(expected)
        for item, text in zip(items, texts, strict=True):
            if not text and not isinstance(item, str):
                raise ExpectedError(f"{expected}, but that of {key} is {value_words(item)}")
        conditions.append((str.__str__(key), texts))
    return Match(tuple(sorted(conditions)))


def check_unit(value: object) -> Conversion:
    """Return the unit measured in, and the one exported: the same, or two with a conversion."""
    units = [value, value] if isinstance(value, str) else value
    if value is None:
        return Conversion(NO_UNIT, NO_UNIT)
    if not isinstance(units, (list, tuple)) or len(units) != 2 or not all(isinstance(u, str) for u in units):  # noqa: PLR2004 - from and to
        raise ExpectedError('a unit such as "ms", or two to convert from and to, such as ("ms", "s")')
    try:
        return conversion(units[0].strip(), units[1].strip())
    except UnitError as error:
        raise ExpectedError(str(error)) from None


def check_description(value: object) -> str:
    """Return a text without what UTF-8 cannot carry."""
    if not isinstance(value, str):
        raise ExpectedError("a text")
    return value.encode("utf-8", "replace").decode("utf-8").strip()


def check_buckets(value: object) -> tuple[float, ...] | Base2:
    """Return the buckets of a distribution."""
    if isinstance(value, Base2):
        return value
    if isinstance(value, str) and value.strip() == "exponential":
        return Base2()
    if isinstance(value, Mapping):
        return _buckets_of_table(value)
    if not isinstance(value, (list, tuple)):
        raise ExpectedError(_BUCKETS)
    return check_bounds(value)


def _buckets_of_table(table: Mapping[Any, Any]) -> tuple[float, ...] | Base2:
    try:
        if set(table) == {"start", "factor", "count"}:
            return exponential(table["start"], table["factor"], table["count"])
        if table and set(table) <= {"max_size", "max_scale"}:
            return Base2(**table)
    except DefinitionError as error:
        raise ExpectedError(f"{_BUCKETS}, but {error}") from None
    raise ExpectedError(_BUCKETS)


def check_bounds(value: list[Any] | tuple[Any, ...]) -> tuple[float, ...]:
    """Return upper bounds of buckets; a last one of +Inf is implied and goes."""
    items = list(value)
    if len(items) > 1 and type(items[-1]) is float and items[-1] == math.inf:
        items.pop()
    if not 1 <= len(items) <= _MAX_BOUNDS:
        raise ExpectedError(_BUCKETS)
    for number, item in enumerate(items, start=1):
        if not _is_number(item):
            raise ExpectedError(f"{_BOUNDS}, but number {number} is {value_words(item)}")
    bounds = tuple(float(item) for item in items)
    for number, (lower, upper) in enumerate(itertools.pairwise(bounds), start=2):
        if not lower < upper:
            raise ExpectedError(f"{_BOUNDS}, but number {number} is not above the one before it")
    return bounds


def check_quantiles(value: object) -> tuple[float, ...]:
    """Return quantiles, ascending."""
    expected = f"from 1 to {_MAX_QUANTILES} different numbers from 0 to 1"
    items = [value] if _is_number(value) else value
    if not isinstance(items, (list, tuple)) or not 1 <= len(items) <= _MAX_QUANTILES:
        raise ExpectedError(expected)
    for number, item in enumerate(items, start=1):
        if not _is_number(item) or not 0 <= item <= 1:
            raise ExpectedError(f"{expected}, but number {number} is {value_words(item)}")
    if len({float(item) for item in items}) < len(items):
        raise ExpectedError(expected)
    return tuple(sorted(float(item) for item in items))


def check_error(value: object) -> float:
    """Return a relative error."""
    return _number_from(value, _LEAST_ERROR, _GREATEST_ERROR, "a relative error")


def check_window(value: object) -> float:
    """Return a length of time in seconds."""
    return _number_from(value, 1, _LONGEST_WINDOW, "a number of seconds")


def check_max_series(value: object) -> int:
    """Return how many series a metric may have."""
    if type(value) is not int or not 1 <= value <= _MAX_SERIES:
        raise ExpectedError(f"a whole number from 1 to {_MAX_SERIES}")
    return value


def check_monotonic(value: object) -> bool:
    """Return whether a sum only rises."""
    if type(value) is not bool:
        raise ExpectedError("true (the sum only rises) or false (it rises and falls)")
    return value


def check_multiprocess_mode(value: object) -> str:
    """Return how the gauges of several processes become one."""
    if not isinstance(value, str) or value not in MULTIPROCESS_MODES:
        raise ExpectedError(f"one of {', '.join(MULTIPROCESS_MODES)}")
    return str.__str__(value)


def _is_number(value: Any) -> bool:
    if type(value) is not int and type(value) is not float:
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def _number_from(value: Any, least: float, most: float, what: str) -> float:
    if not _is_number(value) or not least <= value <= most:
        raise ExpectedError(f"{what} from {least:g} to {most:g}")
    return float(value)
