"""Attributes as OTLP has them, for every signal.

Pure, and without OpenTelemetry: the messages to be filled are passed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Encoded", "encode_by_scope", "fill", "put"]


class Encoded(NamedTuple):
    """A request.

    Attributes:
        body: The message.
        refused: How many items could not be encoded and are not in it.
        reason: Why the last of these could not.
    """

    body: bytes
    refused: int = 0
    reason: str = ""


def fill(pairs: Any, attributes: Mapping[str, Any]) -> None:
    """Put attributes into a repeated field of key-value pairs.

    Args:
        pairs: The field.
        attributes: Exportable ones.

    Raises:
        TypeError: One is of no type that OTLP has.
        ValueError: One is beyond what its type can say.
    """
    add = pairs.add
    for key, value in attributes.items():
        pair = add()
        pair.key = key
        kind = type(value)
        if kind is str:
            pair.value.string_value = value
        elif kind is float:
            pair.value.double_value = value
        elif kind is int:
            pair.value.int_value = value
        else:
            put(pair.value, value)


def put(message: Any, value: Any) -> None:
    """Put a value of any exportable kind into an ``AnyValue``.

    Args:
        message: The ``AnyValue``.
        value: The value; None leaves it empty.

    Raises:
        TypeError: It is of no type that OTLP has.
        ValueError: It is beyond what its type can say.
    """
    if isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, str):
        message.string_value = value
    elif isinstance(value, int):
        message.int_value = value
    elif isinstance(value, float):
        message.double_value = value
    elif isinstance(value, bytes):
        message.bytes_value = value
    elif isinstance(value, list | tuple):
        # An empty one is there as well.
        message.array_value.SetInParent()
        add = message.array_value.values.add
        for element in value:
            put(add(), element)
    elif value is not None:
        raise TypeError(f"an attribute cannot be of type {type(value).__name__}")


def encode_by_scope(
    groups: Any,
    field: str,
    items: Sequence[Any],
    default: tuple[str, str],
    encode: Callable[[Any, Any], None],
) -> tuple[int, str]:
    """Encode items of any signal, grouped by instrumentation scope.

    Args:
        groups: The repeated field of scopes; empty.
        field: The name of the repeated field of items in one of them.
        items: What to encode; each has a ``scope``, or None for the default: name and version, and perhaps
            the URL of a schema and attributes as pairs.
        default: Name and version of the default scope.
        encode: Fills one message from one item.

    Returns:
        How many items could not be encoded and were left out, and why the last one could not.
    """
    scopes: dict[tuple[Any, ...], Any] = {}
    refused, reason = 0, ""
    for item in items:
        scope = item.scope or default
        messages = scopes.get(scope)
        if messages is None:
            group = groups.add()
            group.scope.name, group.scope.version, *more = scope
            if more:
                group.schema_url, pairs = more
                fill(group.scope.attributes, dict(pairs))
            messages = scopes[scope] = getattr(group, field)
        message = messages.add()
        try:
            encode(message, item)
        except Exception as error:  # noqa: BLE001 - whatever is in it, it must not hold up the others
            del messages[-1]
            refused, reason = refused + 1, f"{type(error).__name__}: {error}"
    return refused, reason
