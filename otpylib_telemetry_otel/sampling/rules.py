"""Sampling rules: rates of their own for operations that are told by name and by what they carry.

A rule is a table in the configuration::

    { name = "health.*", rate = 0.0 }
    { name = "shop.*", attributes = { tenant = ["gold", "plat*"] }, rate = 1.0 }

Pure, and safe with values of any kind: what an application puts into an event never raises here.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from otpylib_telemetry.config.refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from otpylib_telemetry_otel.traces.spans import FinishedSpan


#: What an attribute can be compared with.
Scalar: TypeAlias = "str | bool | int | float"

_SCALARS: Final = (str, bool, int, float)
_KEYS: Final = ("name", "attributes", "rate")
_PUBLIC: Final = (
    "expected a list of tables such as { name = 'health.*', attributes = { tenant = 'gold' }, rate = 0.5 }"
)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rate for the operations whose name and attributes match; texts are shell patterns."""

    name: str
    rate: float
    attributes: tuple[tuple[str, tuple[Scalar, ...]], ...] = ()
    _pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pattern", re.compile(fnmatch.translate(self.name)))

    def matches(self, span: FinishedSpan) -> bool:
        """Tell whether the rule is about this span."""
        if self._pattern.match(span.name) is None:
            return False
        try:
            return all(
                any(_is(span.attributes.get(key), wanted) for wanted in allowed)
                for key, allowed in self.attributes
            )
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - a key of the application's own may raise when it is compared
            return False


def _is(value: object, wanted: Scalar) -> bool:
    kind = type(value)
    if isinstance(wanted, str):
        # Called on the class: a subclass may say something else about itself.
        return issubclass(kind, str) and fnmatch.fnmatchcase(str.__str__(value), wanted)
    if isinstance(wanted, bool) or kind is bool:
        return value is wanted
    return kind in {int, float} and value == wanted


def ruling(rules: Sequence[Rule], spans: Sequence[FinishedSpan]) -> tuple[float | None, bool]:
    """Return the highest rate of the rules that match a trace, and whether that decides about it.

    Of each span the first rule that matches counts. Spans at the top of the trace decide; a rule matched by
    one further down can only raise the rate, so that a health check inside an order costs no order.
    """
    ids = {span.span_id for span in spans}
    decides = True
    highest: float | None = None
    for span in spans:
        rate = next((rule.rate for rule in rules if rule.matches(span)), None)
        if rate is not None:
            highest = rate if highest is None else max(rate, highest)
        elif span.parent_span_id not in ids:
            decides = False
    return highest, decides


def rules_from(settings: Iterable[Mapping[str, Any]]) -> tuple[Rule, ...]:
    """Make rules of what :func:`tables` returned."""
    return tuple(
        Rule(table["name"], table["rate"], tuple((key, tuple(v)) for key, v in table["attributes"].items()))
        for table in settings
    )


def tables(value: object) -> tuple[Mapping[str, Any], ...]:
    """Return the configured rules as plain tables, with what may be left out; refuse what cannot be used."""
    if isinstance(value, Mapping):
        value = (value,)
    if not isinstance(value, (list, tuple)):
        raise RefusedError(_PUBLIC)
    return tuple(_table(number, item) for number, item in enumerate(value, start=1))


def _table(number: int, item: object) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise RefusedError(f"{_PUBLIC}, but item {number} is no table", _PUBLIC)
    unknown = [key for key in item if key not in _KEYS]
    if unknown:
        raise RefusedError(
            f"rule {number} has the key {str(unknown[0])[:40]!r}; expected only name, attributes and rate",
            _PUBLIC,
        )
    name = item.get("name", "*")
    if not isinstance(name, str) or not name.strip():
        raise RefusedError(f"expected the name of rule {number} to be a pattern such as 'health.*'", _PUBLIC)
    attributes = item.get("attributes", {})
    if not isinstance(attributes, Mapping):
        raise RefusedError(f"expected the attributes of rule {number} to be a table", _PUBLIC)
    if "name" not in item and not attributes:
        raise RefusedError(
            f"rule {number} matches everything, which sampling_rate is for; expected a name or attributes",
            _PUBLIC,
        )
    return {
        "name": str(name.strip()),
        "attributes": {_key(number, key): _allowed(number, key, one) for key, one in attributes.items()},
        "rate": _rate(number, item.get("rate")),
    }


def _key(number: int, key: object) -> str:
    if not isinstance(key, str) or not key:
        raise RefusedError(f"expected the attributes of rule {number} to have names", _PUBLIC)
    return str(key)


def _allowed(number: int, key: object, value: object) -> list[Scalar]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    allowed = [str(one) if isinstance(one, str) else one for one in values if isinstance(one, _SCALARS)]
    if not values or len(allowed) < len(values):
        raise RefusedError(
            f"expected the attribute {str(key)[:40]!r} of rule {number} to be a string, a number, a boolean "
            "or a list of these",
            _PUBLIC,
        )
    return allowed


def _rate(number: int, value: object) -> float:
    refusal = RefusedError(f"expected rule {number} to have a rate from 0 to 1", _PUBLIC)
    if isinstance(value, str):
        # A placeholder from the environment is text.
        try:
            value = float(value)
        except ValueError:
            raise refusal from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise refusal
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise refusal
    return float(value)
