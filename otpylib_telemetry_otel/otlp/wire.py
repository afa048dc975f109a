"""Texts, attributes and values as bytes of protobuf's wire format, with what repeats kept encoded.

What most items consist of is written here by hand; whatever else an attribute is goes through OpenTelemetry's
generated classes, one value at a time. See docs/decisions/0025-items-are-written-as-bytes.md.

What is kept is shared by all threads and never changed, so that the worst of two at once is that one does
again what the other has done.

Imports OpenTelemetry: to be imported only where something is about to be exported.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from otpylib_telemetry.primitives.any_value import INT64_MAX, INT64_MIN
from otpylib_telemetry.primitives.any_value import text as mended
from otpylib_telemetry_otel.otlp.values import put

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How many texts are kept, how many keys of attributes, and how many values of each. An application has
#: hundreds of names and keys. A key whose values do not repeat costs the others nothing.
MAX_TEXTS: Final = 1024
MAX_KEYS: Final = 512
MAX_VALUES: Final = 128

#: Longest text, key or attribute that is kept, in bytes: what is long seldom repeats.
MAX_KEPT_LENGTH: Final = 128

_UINT32_MAX: Final = 2**32 - 1
_UINT64: Final = 2**64 - 1
_LOW: Final = 0x7F

_double: Final = struct.Struct("<d").pack

#: Of texts up to this length, that of the value, its tag and that of the text, which are one byte each.
_MAX_SHORT: Final = _LOW - 2
_BEFORE_SHORT: Final = tuple(bytes((2 + size, 0x0A, size)) for size in range(_MAX_SHORT + 1))

#: Seven bits of a number that has more of them.
_SEVEN_BITS: Final = tuple(bytes((0x80 | bits,)) for bits in range(0x80))

#: The numbers below this are kept: they are what most lengths are.
KNOWN: Final = 2048


#: The numbers below this are one of these with seven bits before it.
_MAX_SHORT_NUMBER: Final = KNOWN << 7


def _varints() -> tuple[bytes, ...]:
    written = [bytes((number,)) for number in range(0x80)]
    written += [_SEVEN_BITS[number & _LOW] + written[number >> 7] for number in range(0x80, KNOWN)]
    return tuple(written)


VARINTS: Final = _varints()


def varint(number: int) -> bytes:
    """Write a number that is not negative."""
    before = b""
    while number >= KNOWN:
        before += _SEVEN_BITS[number & _LOW]
        number >>= 7
    return before + VARINTS[number]


def sized(content: bytes) -> bytes:
    """Put its length before what a field contains."""
    size = len(content)
    return (VARINTS[size] if size < KNOWN else varint(size)) + content


def count(tag: bytes, number: int) -> bytes:
    """Write a field that counts, or nothing for none."""
    if not 0 <= number <= _UINT32_MAX:
        raise OverflowError(f"{number} is no count")
    return tag + varint(number) if number else b""


#: Names and error messages, each with its length before it.
_texts: Final[dict[str, bytes]] = {}

#: What is kept of a text.
known_text: Final = _texts.get


def text(written: str) -> bytes:
    """Write text that is Unicode, its length before it; raises for anything else."""
    found = known_text(written)
    if found is None:
        if type(written) is not str:
            raise TypeError(f"{type(written).__name__} is no text")
        found = sized(written.encode())
        if len(found) <= MAX_KEPT_LENGTH:
            if len(_texts) >= MAX_TEXTS:
                # Starting over costs those in use one encoding each.
                _texts.clear()
            _texts[written] = found
    return found


def any_value(value: Any) -> bytes:
    """Write a value of any kind as an ``AnyValue``; what OTLP cannot say is mended."""
    if type(value) is str and value.isascii():
        return b"\x0a" + sized(value.encode())
    message = AnyValue()
    put(message, value)
    encoded: bytes = message.SerializeToString()
    return encoded


class _Key(dict[str, bytes]):
    """The key of an attribute: by text that is its value, both as a pair, its length before it."""

    __slots__ = ("_before", "_before_double", "_flags", "before_number")

    def __init__(self, key: bytes) -> None:
        super().__init__()
        #: The key, and the tag of the value.
        self._before = before = b"\x0a" + sized(key) + b"\x12"
        #: What comes before a number, by the length of this.
        self.before_number = tuple(
            varint(len(before) + 2 + size) + before + bytes((1 + size, 0x18)) for size in range(11)
        )
        self._before_double = varint(len(before) + 10) + before + b"\x09\x21"
        self._flags = sized(before + b"\x02\x10\x00"), sized(before + b"\x02\x10\x01")

    def pair(self, value: Any) -> bytes:
        """Write the pair of a value of any kind, and keep it if it is a short text, which may repeat."""
        kind = type(value)
        if kind is str:
            try:
                made = self._text(value.encode())
            except UnicodeEncodeError:
                return self._other(value)
            if len(made) <= MAX_KEPT_LENGTH:
                if len(self) >= MAX_VALUES:
                    # As for texts.
                    self.clear()
                self[value] = made
            return made
        if kind is int and INT64_MIN <= value <= INT64_MAX:
            number = VARINTS[value] if 0 <= value < KNOWN else varint(value & _UINT64)
            return self.before_number[len(number)] + number
        if kind is float:
            return self._before_double + _double(value)
        if kind is bool:
            return self._flags[value]
        return self._other(value)

    __missing__ = pair

    def _text(self, value: bytes) -> bytes:
        before, size = self._before, len(value)
        if size <= _MAX_SHORT and (whole := len(before) + 3 + size) < KNOWN:
            return VARINTS[whole] + before + _BEFORE_SHORT[size] + value
        # Written so that a long text is copied once.
        tagged = b"\x0a" + varint(size)
        said = varint(len(tagged) + size) + tagged
        return varint(len(before) + len(said) + size) + before + said + value

    def _other(self, value: Any) -> bytes:
        return sized(self._before + sized(any_value(value)))


#: What is kept of attributes, by key.
_keys: Final[dict[str, _Key]] = {}


def _key(key: Any) -> _Key:
    """Return what is kept of a key; what is no text, or none in Unicode, is mended and not kept."""
    if type(key) is not str:
        return _Key(mended(key, None).encode())
    made = _keys.get(key)
    if made is None:
        try:
            encoded = key.encode()
        except UnicodeEncodeError:
            return _Key(mended(key, None).encode())
        made = _Key(encoded)
        if len(encoded) <= MAX_KEPT_LENGTH:
            if len(_keys) >= MAX_KEYS:
                # As for texts.
                _keys.clear()
            _keys[key] = made
    return made


def add_pairs(fields: list[bytes], attributes: Mapping[str, Any]) -> None:
    """Append attributes to a first field, as key-value pairs with their length before them and no tag."""
    append = fields.append
    try:
        for key, value in attributes.items():
            if type(value) is int and 0 <= value < _MAX_SHORT_NUMBER:
                number = VARINTS[value] if value < KNOWN else _SEVEN_BITS[value & _LOW] + VARINTS[value >> 7]
                append(_keys[key].before_number[len(number)] + number)
            else:
                append(_keys[key][value])
    except (KeyError, TypeError):
        # A key that is not kept, or a value that cannot be looked up, such as a list.
        del fields[1:]
        for key, value in attributes.items():
            append(_key(key).pair(value))
