"""Attributes and requests as OTLP has them, for every signal.

The messages to be filled are passed in: this module imports no OpenTelemetry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from otpylib_telemetry.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.resources import Resource


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


class Encoder:
    """Makes requests of the items of one resource, grouped by instrumentation scope."""

    #: The message class of the request.
    request: ClassVar[type[Any]]
    #: Its repeated field of resources, that of scopes in a resource, and that of items in a scope.
    fields: ClassVar[tuple[str, str, str]]

    def __init__(self, resource: Resource) -> None:
        self._template = self.request()
        group = getattr(self._template, self.fields[0]).add(schema_url=resource.schema_url)
        fill(group.resource.attributes, resource.attributes)
        self._scope = ("otpylib_telemetry", __version__)

    def encode(self, items: Sequence[Any]) -> Encoded:
        """Encode items; one that cannot be encoded is left out, so that the others go."""
        request = self.request()
        request.CopyFrom(self._template)
        _, of_scopes, of_items = self.fields
        groups = getattr(getattr(request, self.fields[0])[0], of_scopes)
        encode = self.encode_item
        scopes: dict[tuple[Any, ...], Any] = {}
        refused, reason = 0, ""
        for item in items:
            # Name and version, and perhaps the URL of a schema and attributes as pairs.
            scope = item.scope or self._scope
            messages = scopes.get(scope)
            if messages is None:
                group = groups.add()
                group.scope.name, group.scope.version, *more = scope
                if more:
                    group.schema_url, pairs = more
                    fill(group.scope.attributes, dict(pairs))
                messages = scopes[scope] = getattr(group, of_items)
            message = messages.add()
            try:
                encode(message, item)
            except Exception as error:  # noqa: BLE001 - whatever is in it, it must not hold up the others
                del messages[-1]
                refused, reason = refused + 1, f"{type(error).__name__}: {error}"
        return Encoded(request.SerializeToString(), refused, reason)

    @staticmethod
    def encode_item(message: Any, item: Any) -> None:
        """Fill one message from one item."""
        raise NotImplementedError
