"""What a unit is called in the name of a Prometheus metric.

OpenTelemetry tells units by the case-sensitive symbols of UCUM (https://ucum.org/ucum); Prometheus spells
them out. The rules are those of "Prometheus and OpenMetrics compatibility" (OpenTelemetry specification,
section "Metric Metadata"). Pure.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from otpylib_telemetry.units import KNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["unit_word"]

#: By UCUM's symbol. A ratio is a plain number, and OpenTelemetry also knows kilobytes by a capital letter.
_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {unit.ucum: unit.word for unit in KNOWN} | {"1": "", "KBy": "kilobytes"}
)

#: After "per" there is one of them.
_PER: Final[Mapping[str, str]] = MappingProxyType(
    {
        "s": "second",
        "m": "minute",
        "min": "minute",
        "h": "hour",
        "d": "day",
        "w": "week",
        "wk": "week",
        "mo": "month",
        "y": "year",
        "a": "year",
    }
)

_ANNOTATION: Final = re.compile(r"\{[^}]*\}")
_ILLEGAL: Final = re.compile(r"[^a-zA-Z0-9]+")


def unit_word(unit: str) -> str:
    """Return what a unit is called, for instance ``meters_per_second`` for ``m/s``.

    Args:
        unit: The unit's symbol; one that is unknown is taken as it is.

    Returns:
        Its word; empty for what is counted, such as ``{request}``, and for a plain number.
    """
    above, divided, below = _ANNOTATION.sub("", unit).strip().partition("/")
    word = _spelled(_WORDS, above)
    per = _spelled(_PER, below) if divided else ""
    return f"{word}_per_{per}".lstrip("_") if per else word


def _spelled(words: Mapping[str, str], symbol: str) -> str:
    symbol = symbol.strip()
    return words[symbol] if symbol in words else _ILLEGAL.sub("_", symbol).strip("_")
