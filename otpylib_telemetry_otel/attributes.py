"""Any value whatever, as one that OpenTelemetry exports.

Metadata holds what the application had at hand: pids, atoms, exceptions, requests, structures that contain
themselves. OpenTelemetry takes text, booleans, 64-bit integers, floats and sequences of one of these; the SDK
logs a traceback for each value it cannot encode. Here everything becomes something it can: nothing raises and
nothing is logged.

None is left out: an attribute without a value means as much as no attribute, and ``error=None`` shown as the
text "None" would make a success look like a failure.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


T = TypeVar("T")

AttributeValue: TypeAlias = (
    "str | bool | int | float | tuple[str, ...] | tuple[bool, ...] | tuple[int, ...] | tuple[float, ...]"
)

#: How many attributes a span or an event has at most. The default of the OpenTelemetry specification
#: ("Attribute Limits": AttributeCountLimit).
MAX_ATTRIBUTES: Final = 128

#: Longest text, in characters. The specification sets no limit; a receiver takes 4 MiB per request by
#: default, and a deep stack trace is some ten thousand characters.
MAX_TEXT_LENGTH: Final = 16_384

MAX_KEY_LENGTH: Final = 255

#: How many elements of a sequence, or entries of a table, are exported.
MAX_ELEMENTS: Final = 128

#: How deep a nested structure is written, and how many elements of it in all: four levels of the widest would
#: otherwise be a quarter of a thousand million.
_MAX_DEPTH: Final = 4
_MAX_NESTED_ELEMENTS: Final = 1024

_INT64_MIN: Final = -(2**63)
_INT64_MAX: Final = 2**63 - 1

#: From here on Python refuses to write an integer in decimal (sys.set_int_max_str_digits: 4300 digits), and
#: would take a time that grows with the square of the length.
_MAX_DECIMAL_BITS: Final = 4096

_NUMBERS: Final = frozenset({bool, int, float})
_SCALARS: Final = _NUMBERS | {str}
_CUT: Final = "…"


#: Keys that have proved fit to be exported as they are. An application has hundreds of them.
_fit: set[str] = set()
_MAX_FIT: Final = 10_000

#: By special keys, the keys of tables that have proved fit as a whole, none of them special. The tables of an
#: event's name have the same keys in the same order, so that there are hundreds of these as well.
_plans: dict[frozenset[str], set[tuple[str, ...]]] = {}
_MAX_PLANS: Final = 2_000


def attributes(
    source: Mapping[Any, Any], skip: frozenset[str] = frozenset()
) -> tuple[dict[str, AttributeValue], int]:
    """Make a table exportable, less the keys in ``skip``; return also how many attributes did not fit.

    These are the ones beyond :data:`MAX_ATTRIBUTES`, in the table's order, and those whose key is empty.
    """
    exportable, dropped, _ = sorted_out(source, skip, skip)
    return exportable, dropped


def sorted_out(  # noqa: C901, PLR0912, PLR0915 - the loop that every attribute goes through: a call costs half of it
    source: Mapping[Any, Any], skip: frozenset[str], special: frozenset[str]
) -> tuple[dict[str, AttributeValue], int, dict[str, Any] | None]:
    """Make a table exportable, but for some keys that are given back as they are; None for none of these.

    Of ``skip``, the keys to leave out, only those count that are in ``special``.
    """
    try:
        keys = tuple(source)
        # Joined, because only text can be: a key may compare like one without being one.
        is_fit = keys in _plans[special] and "".join(keys) != ""
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - the first table of all, or a key whose own code does anything
        is_fit = False
    if is_fit:
        for value in source.values():
            kind = type(value)
            if kind is str:
                if len(value) > MAX_TEXT_LENGTH or not value.isascii():
                    break
            elif kind is int:
                if not _INT64_MIN <= value <= _INT64_MAX:
                    break
            elif kind is not float and kind is not bool:
                break
        else:
            return {**source}, 0, None
    exportable: dict[str, AttributeValue] = {}
    found: dict[str, Any] | None = None
    dropped = 0
    # Only a large table can have more than fit, and only then are they counted on the way.
    is_large = len(source) > MAX_ATTRIBUTES
    for key, value in source.items():
        if type(key) is str and key in _fit:
            name = key
        else:
            name = _key(key)
            if not name:
                dropped += 1
                continue
        if name in special:
            if name not in skip and value is not None:
                if found is None:
                    found = {}
                found[name] = value
            continue
        if is_large and len(exportable) >= MAX_ATTRIBUTES and name not in exportable:
            dropped += 1
            continue
        kind = type(value)
        if kind is str:
            if len(value) <= MAX_TEXT_LENGTH and value.isascii():
                exportable[name] = value
            else:
                exportable[name] = text(value)
        elif kind is float or kind is bool or (kind is int and _INT64_MIN <= value <= _INT64_MAX):
            exportable[name] = value
        elif value is not None and (converted := _value(value)) is not None:
            exportable[name] = converted
    if not is_fit and not dropped and found is None and len(exportable) == len(source):
        _note_plan(source, special)
    return exportable, dropped, found


def _note_plan(source: Mapping[Any, Any], special: frozenset[str]) -> None:
    """Remember the keys of a table all of which are exported as they are."""
    keys = tuple(source)
    if len(keys) <= MAX_ATTRIBUTES and all(type(key) is str and key in _fit for key in keys):
        plans = _plans.setdefault(special, set())
        if len(plans) >= _MAX_PLANS:
            # As for single keys.
            plans.clear()
        plans.add(keys)


def attribute(exportable: dict[str, AttributeValue], name: str, value: object) -> bool:
    """Add one attribute to those that are exportable already.

    Returns:
        Whether there was room for it.
    """
    if len(exportable) >= MAX_ATTRIBUTES and name not in exportable:
        return False
    converted = _value(value)
    if converted is not None:
        exportable[name] = converted
    return True


def _key(key: object) -> str:
    """Write a key, and remember those that need no writing."""
    name = text(key, MAX_KEY_LENGTH)
    if type(key) is str and name == key and name:
        if len(_fit) >= _MAX_FIT:
            # Starting over costs the keys in use one check each; a full table would cost every later one a
            # check for ever.
            _fit.clear()
        _fit.add(key)
    return name


def text(value: object, limit: int = MAX_TEXT_LENGTH) -> str:
    """Write anything as text that can be encoded."""
    kind = type(value)
    if kind is str:
        written: str = value  # type: ignore[assignment]  # `kind` says it is a str
    else:
        try:
            written = _write(value)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - the value's own code, and nothing it does may matter here
            written = _unprintable(kind)
    if len(written) > limit:
        written = written[: max(limit - 1, 0)] + _CUT
    if not written.isascii():
        # Half of a surrogate pair is a character to Python and an error to protobuf.
        written = written.encode("utf-8", "replace").decode("utf-8")
    return written


def _write(value: object) -> str:
    """Write anything but a plain ``str``; may raise what the value raises."""
    kind = type(value)
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, int) and kind is not bool:
        number = int.__int__(value)  # type: ignore[arg-type]  # `kind` says it is an int
        bits = number.bit_length()
        return int.__repr__(number) if bits <= _MAX_DECIMAL_BITS else f"<integer of {bits} bits>"
    if issubclass(kind, BaseException):
        # Many exceptions say nothing, KeyboardInterrupt() for one; their type then says it all.
        return str.__str__(str(value)) or kind.__name__
    writer = _WRITERS.get(kind)
    return str.__str__(str(value)) if writer is None else writer(value)


def _decoded(value: bytes | bytearray) -> str:
    return bytes(value[: MAX_TEXT_LENGTH + 1]).decode("utf-8", "backslashreplace")


def _json(value: object) -> str:
    return json.dumps(_plain(value, 0, [_MAX_NESTED_ELEMENTS]), ensure_ascii=False)


#: How to write what ``str()`` would not write well.
_WRITERS: Final[Mapping[type, Callable[[Any], str]]] = {
    bytes: _decoded,
    bytearray: _decoded,
    datetime: datetime.isoformat,
    **dict.fromkeys((list, tuple, set, frozenset, dict), _json),
}


def _unprintable(kind: type) -> str:
    try:
        return f"<{str.__str__(kind.__name__)} that cannot be shown>"
    except Exception:  # noqa: BLE001 - a metaclass may do anything as well
        return "<object that cannot be shown>"


def _value(value: object) -> AttributeValue | None:
    """Convert what :func:`attributes` did not take as it is."""
    kind = type(value)
    if value is None or kind is bool:
        return value  # type: ignore[return-value]  # one of the two
    if kind in _SEQUENCES:
        return _sequence(value)  # type: ignore[arg-type]  # `kind` says it is one
    try:
        number = _number(kind, value)
    except Exception:  # noqa: BLE001 - a metaclass may do anything
        return _unprintable(kind)
    if number is None or (type(number) is int and not _INT64_MIN <= number <= _INT64_MAX):
        return text(value)
    return number


def _number(kind: type, value: Any) -> int | float | None:
    """The number that a value is, as Python's own; None if it is none."""
    if issubclass(kind, float):
        return float.__float__(value)
    if issubclass(kind, int):
        return int.__int__(value)
    if hasattr(kind, "dtype") and hasattr(kind, "item"):
        # A scalar of an array library, such as numpy.int64(3); an array of several refuses to be an item.
        with suppress(Exception):
            item = value.item()
            return item if type(item) in _NUMBERS else None
    return None


def _sequence(values: list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any]) -> AttributeValue:
    """Keep a sequence, or a set, of one scalar type; anything else becomes text."""
    kept = tuple(islice(values, MAX_ELEMENTS))
    kinds = {type(element) for element in kept}
    if not kinds:
        return ()
    if len(kinds) > 1 or not kinds <= _SCALARS:
        return text(values)
    if type(values) is set or type(values) is frozenset:
        # In the same order each time: the set's own depends on the process.
        kept = tuple(sorted(kept))
    if str in kinds:
        return tuple(text(element) for element in kept)
    if int in kinds and not all(_INT64_MIN <= element <= _INT64_MAX for element in kept):
        return tuple(text(element) for element in kept)
    return kept


_SEQUENCES: Final = frozenset({list, tuple, set, frozenset})
_CONTAINERS: Final = frozenset({list, tuple, set, frozenset, dict})


def _plain(value: object, depth: int, budget: list[int]) -> Any:
    """Copy a structure into what JSON can say, no deeper, wider or larger than is worth reading."""
    kind = type(value)
    if value is None or kind is bool or kind is float:
        return value
    if kind is int and _INT64_MIN <= value <= _INT64_MAX:  # type: ignore[operator]  # `kind` says it is an int
        return value
    if kind not in _CONTAINERS:
        return text(value)
    if depth == _MAX_DEPTH:
        return _CUT
    if kind is dict:
        table: dict[Any, Any] = value  # type: ignore[assignment]  # `kind` says it is a dict
        return {
            text(key, MAX_KEY_LENGTH): _plain(element, depth + 1, budget)
            for key, element in _first(table.items(), budget)
        }
    several: Iterable[Any] = value  # type: ignore[assignment]  # `kind` says it is a list, a tuple or a set
    return [_plain(element, depth + 1, budget) for element in _first(several, budget)]


def _first(elements: Iterable[T], budget: list[int]) -> Iterator[T]:
    for element in islice(elements, MAX_ELEMENTS):
        if budget[0] <= 0:
            return
        budget[0] -= 1
        yield element
