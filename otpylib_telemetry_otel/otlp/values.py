"""Attributes and values put into OTLP's messages, for every signal.

The messages to be filled are passed in: this module imports no OpenTelemetry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib_telemetry.primitives.any_value import WHOLE, any_value, scope_text, text
from otpylib_telemetry.primitives.errors import describe

if TYPE_CHECKING:
    from collections.abc import Mapping


class Encoded(NamedTuple):
    """A request; how many items could not be encoded and are not in it, and why the last one could not."""

    body: bytes
    refused: int = 0
    reason: str = ""


def fill(pairs: Any, attributes: Mapping[str, Any]) -> None:
    """Put attributes into a repeated field of key-value pairs; what OTLP cannot say is mended."""
    add = pairs.add
    for key, value in attributes.items():
        pair = add()
        try:
            pair.key = key
            kind = type(value)
            if kind is str:
                pair.value.string_value = value
            elif kind is float:
                pair.value.double_value = value
            elif kind is int:
                pair.value.int_value = value
            else:
                _put(pair.value, value)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - whatever it is, neither the others nor the item may be lost for it
            pair.Clear()
            pair.key = text(key, None)
            _put(pair.value, any_value(value))


def put(message: Any, value: Any) -> None:
    """Put a value of any kind into an ``AnyValue``; what OTLP cannot say is mended."""
    try:
        _put(message, value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - as above
        message.Clear()
        _put(message, any_value(value))


def _put(message: Any, value: Any, depth: int = 0) -> None:
    """Put a value that OTLP has into an ``AnyValue``."""
    kind = type(value)
    field = _FIELDS.get(kind)
    if field is not None:
        setattr(message, field, value)
    elif depth > WHOLE.depth:
        raise ValueError("an attribute is nested too deep")
    elif kind is list or kind is tuple:
        # An empty one is there as well.
        message.array_value.SetInParent()
        add = message.array_value.values.add
        for element in value:
            _put(add(), element, depth + 1)
    elif kind is dict:
        message.kvlist_value.SetInParent()
        add = message.kvlist_value.values.add
        for key, element in value.items():
            pair = add()
            pair.key = key
            _put(pair.value, element, depth + 1)
    elif value is None:
        # There, though nothing is in it: "nothing" is said, not left open.
        message.SetInParent()
    else:
        raise TypeError(f"an attribute cannot be of type {kind.__name__}")


_FIELDS: Final[Mapping[type, str]] = {
    bool: "bool_value",
    str: "string_value",
    int: "int_value",
    float: "double_value",
    bytes: "bytes_value",
}


def say(message: Any, field: str, value: Any) -> None:
    """Put text into a field that has to be Unicode; what is none is mended, None is nothing."""
    try:
        setattr(message, field, value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - as above
        setattr(message, field, scope_text(value))


def why(item: Any, error: BaseException) -> str:
    """Return what is said of an item that cannot be encoded: its name, and why."""
    name = getattr(item, "name", "")
    return f"{text(name, _MAX_NAME)!r}: {describe(error)}" if name else describe(error)


#: How much is quoted of a name.
_MAX_NAME: Final = 120
