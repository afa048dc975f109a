"""Units of measurements: what they are called at each exit, and how one becomes another.

OpenTelemetry spells units as UCUM does (https://ucum.org/ucum, case-sensitive: ``s``, ``By``, ``1``),
Prometheus writes them out (``seconds``, ``bytes``, ``ratio``;
https://prometheus.io/docs/practices/naming/#base-units). Only time, amounts of data and ratios are converted.
Any other word is a unit too, and leaves as it is. Pure.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


#: What may be the name of a unit we do not know. Annotations in braces are UCUM's for what is counted.
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*|\{[ -z|~]+\}")

_MAX_UNIT: Final = 63


class UnitError(ValueError):
    """There is no such unit, or no way from one to the other; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit.

    Attributes:
        symbol: How it is written in a definition: ``ms``.
        ucum: How OpenTelemetry writes it: ``ms``.
        word: How Prometheus writes it, ``milliseconds``; empty if no name ends in it.
        dimension: What it measures; units of one dimension can be converted. Empty: of no other.
        factor: How many of the smallest unit of its dimension it is.
        spellings: How else names of measurements end in it.
    """

    symbol: str
    ucum: str
    word: str
    dimension: str = ""
    factor: Fraction = Fraction(1)
    spellings: tuple[str, ...] = field(default=(), compare=False)

    def without(self, name: str) -> str:
        """Return a name without this unit at its end: ``duration`` for ``duration_ms``."""
        endings = {self.symbol, self.word, *self.spellings} - {""} if self.word else ()
        for ending in sorted(endings, key=len, reverse=True):
            base = name.removesuffix(ending)
            if base != name and base.endswith((".", "_")) and base.strip("._"):
                return base.rstrip("._")
        return name


#: What has no unit.
NO_UNIT: Final = Unit("", "", "")


@dataclass(frozen=True, slots=True)
class Conversion:
    """From the unit that is measured in to the one that is exported; often the same."""

    source: Unit = NO_UNIT
    target: Unit = NO_UNIT

    def function(self) -> Callable[[float], float] | None:
        """Return what converts a number; None if there is nothing to convert.

        A conversion is rounded once where its factor or the reciprocal is whole, as between any two units of
        time up to hours, and else twice. Integers that are multiplied stay integers.
        """
        ratio = self.source.factor / self.target.factor
        over, under = ratio.numerator, ratio.denominator
        if ratio == 1:
            return None
        if under == 1:
            return lambda value: value * over
        if over == 1:
            return lambda value: value / under
        return lambda value: value * over / under


def _time(symbol: str, word: str, nanoseconds: int, *spellings: str) -> Unit:
    return Unit(symbol, symbol, word, "time", Fraction(nanoseconds), (word.removesuffix("s"), *spellings))


def _data(symbol: str, ucum: str, word: str, bits: int, *spellings: str) -> Unit:
    return Unit(symbol, ucum, word, "data", Fraction(bits), (word.removesuffix("s"), *spellings))


#: Every unit that is known; what else is said of units follows from this table.
KNOWN: Final = (
    _time("ns", "nanoseconds", 1),
    _time("us", "microseconds", 10**3, "µs", "usec"),
    _time("ms", "milliseconds", 10**6, "msec", "millis"),
    _time("s", "seconds", 10**9, "sec", "secs"),
    _time("min", "minutes", 60 * 10**9, "mins"),
    _time("h", "hours", 3600 * 10**9),
    _time("d", "days", 86_400 * 10**9),
    _data("bit", "bit", "bits", 1),
    _data("B", "By", "bytes", 8, "By"),
    *(
        unit
        for power, (letter, decimal, binary) in enumerate(
            [
                ("k", "kilobytes", "kibibytes"),
                ("M", "megabytes", "mebibytes"),
                ("G", "gigabytes", "gibibytes"),
                ("T", "terabytes", "tebibytes"),
                ("P", "petabytes", "pebibytes"),
            ],
            start=1,
        )
        for unit in (
            _data(f"{letter}B", f"{letter}By", decimal, 8 * 1000**power, f"{letter.upper()}B", f"{letter}By"),
            _data(f"{letter.upper()}iB", f"{letter.upper()}iBy", binary, 8 * 1024**power),
        )
    ),
    Unit("ratio", "1", "ratio", "ratio", Fraction(100)),
    Unit("percent", "%", "percent", "ratio", Fraction(1), ("%", "pct")),
    Unit("1", "1", ""),
    Unit("celsius", "Cel", "celsius", spellings=("Cel",)),
    Unit("hertz", "Hz", "hertz", spellings=("Hz",)),
    Unit("volts", "V", "volts", spellings=("V", "volt")),
    Unit("amperes", "A", "amperes", spellings=("A", "ampere")),
    Unit("watts", "W", "watts", spellings=("W", "watt")),
    Unit("joules", "J", "joules", spellings=("J", "joule")),
    Unit("grams", "g", "grams", spellings=("g", "gram")),
    Unit("meters", "m", "meters", spellings=("meter",)),
)


#: By every way a unit may be written. Case tells a megabyte from a millibyte, so it counts.
_BY_SPELLING: Final = {
    spelling: unit for unit in KNOWN for spelling in (unit.symbol, unit.ucum, unit.word, *unit.spellings)
} | {unit.symbol: unit for unit in KNOWN}

_BY_SPELLING.pop("", None)


def unit_of(text: str) -> Unit:
    """Return a unit by any of its names."""
    if not text:
        return NO_UNIT
    known = _BY_SPELLING.get(text)
    if known is not None:
        return known
    if len(text) > _MAX_UNIT or not _WORD.fullmatch(text):
        raise UnitError(f"a unit such as {_examples(KNOWN)}, or another word{_nearest(text)}")
    return Unit(text, text, "" if text.startswith("{") else text)


def conversion(source: str, target: str) -> Conversion:
    """Return the way from one unit to another."""
    measured, exported = unit_of(source), unit_of(target)
    if measured == exported:
        return Conversion(measured, exported)
    for unit, text in ((measured, source), (exported, target)):
        if not unit.dimension:
            allowed = _examples(known for known in KNOWN if known.dimension)
            raise UnitError(f"two of {allowed} for a conversion, but {text} is none of them{_nearest(text)}")
    if measured.dimension != exported.dimension:
        raise UnitError(
            f"two units of one kind for a conversion, but {source} is one of {measured.dimension} and "
            f"{target} one of {exported.dimension}"
        )
    return Conversion(measured, exported)


def _examples(units: Iterable[Unit]) -> str:
    return ", ".join(unit.symbol for unit in units)


def _nearest(text: str) -> str:
    near = difflib.get_close_matches(text, _BY_SPELLING, n=1) or [
        spelling for spelling in _BY_SPELLING if spelling.lower() == text.lower()
    ]
    return f"; did you mean {near[0]}?" if near else ""


#: Units that OpenTelemetry's exporters for Prometheus have no word for: they are told as they are.
_WITHOUT_WORD: Final = frozenset({"bit", "kBy", "PBy", "PiBy"})

#: By UCUM's symbol, as OpenTelemetry's exporters have them: a ratio is a plain number, kilobytes begin with a
#: capital letter, and tebibytes are misspelt.
_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {unit.ucum: unit.word for unit in KNOWN if unit.ucum not in _WITHOUT_WORD}
    | {"1": "", "KBy": "kilobytes", "TiBy": "tibibytes"}
)


#: After "per" there is one of them.
_PER: Final[Mapping[str, str]] = MappingProxyType(
    {
        "s": "second",
        "m": "minute",
        "h": "hour",
        "d": "day",
        "w": "week",
        "mo": "month",
        "y": "year",
    }
)


_ANNOTATION: Final = re.compile(r"\{.*\}")

_ILLEGAL: Final = re.compile(r"[^a-zA-Z0-9:]+")


def unit_word(unit: str) -> str:
    """Return what a unit is called, for instance ``meters_per_second`` for ``m/s``.

    The words are those of OpenTelemetry's own exporters for Prometheus. Returns its word; empty for what is
    counted, such as ``{request}``, and for a plain number.
    """
    unit = _ANNOTATION.sub("", unit)
    if unit in _WORDS:
        return _WORDS[unit]
    above, _, below = unit.partition("/")
    below = _ILLEGAL.sub("_", below)
    if not below:
        return _ILLEGAL.sub("_", unit).strip("_")
    above = _ILLEGAL.sub("_", above)
    word, per = _WORDS.get(above, above), _PER.get(below, below)
    return f"{word}_per_{per}" if word else f"per_{per}"
