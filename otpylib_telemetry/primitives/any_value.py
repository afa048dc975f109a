"""Any Python object, as a value that OpenTelemetry's protocol has: the one place where that is decided.

OTLP's ``AnyValue`` is text, a boolean, a signed 64-bit integer, a float, bytes, a list of these, or a map
from text to these; it may also be empty. An application passes what it has at hand: pids, exceptions, numbers
of an array library, structures that contain themselves, objects that raise at whatever they are asked. Here
each becomes something that can be encoded. Nothing raises, and nothing is logged.

Pure; it knows nothing of OpenTelemetry's packages.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import datetime, tzinfo
from enum import Enum
from itertools import islice
from numbers import Number
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

AnyValue: TypeAlias = "str | bool | int | float | bytes | tuple[AnyValue, ...] | dict[str, AnyValue] | None"

#: What a type has whose objects have no order.
_NO_ORDER: Final = object.__dict__["__lt__"]

#: Longest text that is written of an object, in characters. The specification sets no limit; a receiver takes
#: 4 MiB per request by default, and a deep stack trace is some ten thousand characters.
MAX_TEXT_LENGTH: Final = 16_384

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

#: From here on Python refuses to write an integer in decimal (sys.set_int_max_str_digits: 4300 digits), and
#: would take a time that grows with the square of the length.
_MAX_DECIMAL_BITS: Final = 4096

_NUMBERS: Final = frozenset({bool, int, float})

#: What an array library calls its times and durations: as items they are numbers of whatever unit they have.
_TIMES: Final = frozenset("mM")

#: The types whose values are scalars; others may be, see :func:`is_scalar`.
_SCALARS: Final = (str, Number, bytes, bytearray, Enum, os.PathLike, tzinfo)

#: How many parts a version has at most.
_MAX_PARTS: Final = 16

#: What stands for what was cut off, and for a structure inside itself.
CUT: Final = "…"


class Bounds(NamedTuple):
    """How much of a structure is taken over.

    Attributes:
        depth: How deep it may be nested.
        width: How many elements one list or map of it may have.
        elements: How many it may have in all.
        length: How long a text in it may be; None: as long as it is. What is beyond is cut off without a
            mark, as OpenTelemetry's limits want it.
    """

    depth: int
    width: int
    elements: int
    length: int | None = None


#: Protobuf's readers refuse messages that are nested a hundred deep, and a map takes three of these a level.
#: The number of elements is that of a request of some 1 MiB.
WHOLE: Final = Bounds(depth=24, width=65_536, elements=65_536)


def any_value(value: object, bounds: Bounds = WHOLE) -> AnyValue:
    """Return any object as a value that OTLP has. A copy, but for what cannot be changed."""
    kind = type(value)
    if kind in _CONTAINERS or kind not in _PLAIN:
        return _Walk(bounds).value(value, 0)
    return _scalar(value, kind, bounds.length)


def any_values(source: Mapping[Any, Any], bounds: Bounds = WHOLE) -> tuple[dict[str, AnyValue], int]:
    """Return a table with keys and values that OTLP has; also how many entries had to be left out.

    These have an empty key, or one that is another's once it is text.
    """
    exportable: dict[str, AnyValue] = {}
    entries = 0
    try:
        for key, value in source.items():
            entries += 1
            name = key if type(key) is str and key.isascii() else text(key, None)
            if name:
                exportable[name] = any_value(value, bounds)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - the table's own code
        entries += 1
    return exportable, entries - len(exportable)


def text(value: object, limit: int | None = MAX_TEXT_LENGTH) -> str:
    """Write anything as text that can be encoded; what is longer than the limit ends in an ellipsis.

    Without a limit, text stays as long as it is.
    """
    kind = type(value)
    if kind is str:
        written: str = value  # type: ignore[assignment]  # `kind` says it is a str
    else:
        try:
            written = _write(value)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - the value's own code, and nothing it does may matter here
            written = unprintable(kind)
    if limit is not None and len(written) > limit:
        written = written[: max(limit - 1, 0)] + CUT
    if not written.isascii():
        # Half of a surrogate pair is a character to Python and an error to protobuf.
        written = written.encode("utf-8", "replace").decode("utf-8")
    return written


def scope_text(value: Any, limit: int | None = None) -> str:
    """Return the name, the version or the schema URL of a scope, whatever was given as such.

    Nothing is empty. A version such as ``(1, 2, 3)`` is its parts between dots; anything else is its text.
    """
    if value is None:
        return ""
    if issubclass(type(value), tuple | list):
        with suppress(Exception):
            return text(".".join([text(part) for part in islice(value, _MAX_PARTS)]), limit)
    return text(value, limit)


def unprintable(kind: type) -> str:
    """Return what is said of an object that raises when it is to be written."""
    try:
        return f"<{str.__str__(kind.__name__)} that cannot be shown>".encode("utf-8", "replace").decode(
            "utf-8"
        )
    except Exception:  # noqa: BLE001 - a metaclass may do anything as well
        return "<object that cannot be shown>"


def number(kind: type, value: Any) -> int | float | None:
    """Return the number that a value of this type is, as Python's own; None if it is none.

    Raises:
        Exception: Whatever the type's own code raises.
    """
    if issubclass(kind, float):
        return float.__float__(value)
    if issubclass(kind, int):
        return int.__int__(value)
    if _is_of_an_array_library(kind):
        # Such as numpy.int64(3); an array of several refuses to be an item.
        with suppress(Exception):
            item = value.item()
            is_time = getattr(value.dtype, "kind", "") in _TIMES
            return item if type(item) in _NUMBERS and not is_time else None
    return None


def is_scalar(kind: Any) -> bool:
    """Tell of a type whether a value of it is one thing that a few words say, as those of a label have to.

    Numbers of any library, members of an enumeration, paths and bytes are; and whatever else is a value: what
    has an order, can be a key and has a text of its own, as times, UUIDs and addresses have. Collections are
    not, nor are objects with an identity, whose text tells one from the next. The type is asked, never the
    value.
    """
    if kind in _PLAIN:
        return kind not in _CONTAINERS and kind is not type(None)
    try:
        if not has_own_text(kind):
            return False
        if issubclass(kind, _SCALARS) or _is_of_an_array_library(kind):
            return True
        is_ordered = kind.__lt__ is not _NO_ORDER and kind.__eq__ is not object.__eq__
        return is_ordered and bool(kind.__hash__) and not issubclass(kind, Collection | Callable)
    except Exception:  # noqa: BLE001 - a metaclass may do anything
        return False


def has_own_text(kind: Any) -> bool:
    """Tell of a type whether its objects have a text of their own; their address would be none."""
    try:
        return kind.__str__ is not object.__str__ or kind.__repr__ is not object.__repr__
    except Exception:  # noqa: BLE001 - a metaclass may do anything
        return False


def scalar(value: object) -> str | bool | int | float:
    """Return a value of a scalar type as the attribute of an event that it would be; empty if it is none."""
    found = any_value(value)
    if type(found) is bytes:
        return text(found)
    return found if isinstance(found, str | int | float) else ""


def _is_of_an_array_library(kind: type) -> bool:
    return hasattr(kind, "dtype") and hasattr(kind, "item")


class _Walk:
    """One way through a structure, which may be endless."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._left = bounds.elements
        #: The structures around the one that is looked at.
        self._around: set[int] = set()

    def value(self, value: object, depth: int) -> AnyValue:
        kind = type(value)
        length = self._bounds.length
        if kind in _PLAIN and kind not in _CONTAINERS:
            return _scalar(value, kind, length)
        try:
            return self._other(value, kind, depth)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - the value's own code, and nothing it does may matter here
            return _shortened(text(value), length)

    def _other(self, value: Any, kind: type, depth: int) -> AnyValue:
        if issubclass(kind, str):
            return _scalar(str.__str__(value), str, self._bounds.length)
        if issubclass(kind, bytes | bytearray | memoryview):
            return bytes(value)
        if (found := number(kind, value)) is not None:
            return _scalar(found, type(found), self._bounds.length)
        if kind in _CONTAINERS or issubclass(kind, Mapping | Sequence | AbstractSet):
            return self._structure(value, kind, depth)
        is_array = hasattr(kind, "dtype") and hasattr(kind, "tolist") and value.shape
        if is_array and value.size <= self._bounds.width:
            # Of numbers, such as numpy's.
            return self.value(value.tolist(), depth)
        return _shortened(text(value), self._bounds.length)

    def _structure(self, value: Any, kind: type, depth: int) -> AnyValue:
        if depth >= self._bounds.depth or id(value) in self._around:
            return _shortened(CUT, self._bounds.length)
        self._around.add(id(value))
        try:
            if kind is dict or issubclass(kind, Mapping):
                entries = self._some(value.items())
                return {text(key, None): self.value(element, depth + 1) for key, element in entries}
            elements = tuple(self.value(element, depth + 1) for element in self._some(value))
        finally:
            self._around.discard(id(value))
        if issubclass(kind, AbstractSet):
            # In the same order each time: the set's own depends on the process.
            with suppress(TypeError):
                elements = tuple(sorted(elements))  # type: ignore[type-var]  # what has no order says so
        return elements

    def _some(self, elements: Iterable[Any]) -> Iterator[Any]:
        for element in islice(elements, self._bounds.width):
            if self._left <= 0:
                return
            self._left -= 1
            yield element


def _scalar(value: Any, kind: type, length: int | None) -> AnyValue:
    """Return a value of a type in ``_PLAIN`` that is no container."""
    if kind is str:
        return _shortened(value if value.isascii() else text(value, None), length)
    if kind is int and not INT64_MIN <= value <= INT64_MAX:
        return _shortened(text(value), length)
    kept: AnyValue = value
    return kept


def _shortened(written: str, length: int | None) -> str:
    return written if length is None or len(written) <= length else written[:length]


def _write(value: Any) -> str:
    """Write anything but a plain ``str``; may raise what the value raises."""
    kind = type(value)
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, int) and kind is not bool:
        whole = int.__int__(value)
        bits = whole.bit_length()
        return int.__repr__(whole) if bits <= _MAX_DECIMAL_BITS else f"<integer of {bits} bits>"
    if issubclass(kind, BaseException):
        # Many exceptions say nothing, KeyboardInterrupt() for one; their type then says it all.
        return str.__str__(str(value)) or kind.__name__
    if issubclass(kind, bytes | bytearray):
        return _decoded(value)
    writer = _WRITERS.get(kind)
    return str.__str__(str(value)) if writer is None else writer(value)


def _decoded(value: bytes | bytearray) -> str:
    return bytes(value[: MAX_TEXT_LENGTH + 1]).decode("utf-8", "backslashreplace")


def _json(value: object) -> str:
    return json.dumps(any_value(value, _READABLE), ensure_ascii=False, default=_decoded)


#: How much of a structure is worth reading as text: four levels of the widest would otherwise be a quarter of
#: a thousand million elements.
_READABLE: Final = Bounds(depth=4, width=128, elements=1024, length=MAX_TEXT_LENGTH)

#: How to write what ``str()`` would not write well.
_WRITERS: Final[Mapping[type, Callable[[Any], str]]] = {
    datetime: datetime.isoformat,
    **dict.fromkeys((list, tuple, set, frozenset, dict), _json),
}

_CONTAINERS: Final = frozenset({list, tuple, set, frozenset, dict})
_PLAIN: Final = _CONTAINERS | {str, bool, int, float, bytes, type(None)}
