"""Attributes and requests as OTLP has them, for every signal.

The messages to be filled are passed in: this module imports no OpenTelemetry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from otpylib_telemetry.primitives.any_value import WHOLE, any_value, scope_text, text
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.resources import Resource


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


class Encoder:
    """Makes requests of the items of one resource, grouped by instrumentation scope."""

    #: The message class of the request.
    request: ClassVar[type[Any]]
    #: Its repeated field of resources, that of scopes in a resource, and that of items in a scope.
    fields: ClassVar[tuple[str, str, str]]

    def __init__(self, resource: Resource) -> None:
        self._template = self.request()
        group = getattr(self._template, self.fields[0]).add()
        say(group, "schema_url", resource.schema_url)
        fill(group.resource.attributes, resource.attributes)
        self._scope = ("otpylib_telemetry", __version__)

    def encode(self, items: Sequence[Any]) -> Encoded:
        """Encode items; one that cannot be encoded is left out, so that the others go."""
        request = self.request()
        request.CopyFrom(self._template)
        groups = getattr(getattr(request, self.fields[0])[0], self.fields[1])
        encode = self.encode_item
        scopes: dict[tuple[Any, ...] | str, Any] = {}
        refused, reason = 0, ""
        for item in items:
            # Name and version, and perhaps the URL of a schema and attributes as pairs.
            scope = item.scope or self._scope
            message: Any = None
            try:
                # The text tells 1 from True, which are equal, and may be of what cannot be a key.
                key = scope if len(scope) == 2 else repr(scope)  # noqa: PLR2004 - name and version
                messages: Any = scopes.get(key)
                if messages is None:
                    messages = scopes[key] = self._begin(groups, *scope)
                message = messages.add()
                encode(message, item)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - whatever is in it, it must not hold up the others
                if message is not None:
                    del messages[-1]
                refused, reason = refused + 1, why(item, error)
        try:
            return Encoded(request.SerializeToString(), refused, reason)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            return self._encode_what_can_be(items, error)

    def _begin(
        self, groups: Any, name: Any, version: Any, schema_url: Any = "", attributes: Sequence[Any] = ()
    ) -> Any:
        """Begin the items of a scope."""
        group = groups.add()
        say(group.scope, "name", name)
        say(group.scope, "version", version)
        say(group, "schema_url", schema_url)
        fill(group.scope.attributes, dict(attributes))
        return getattr(group, self.fields[2])

    def _encode_what_can_be(self, items: Sequence[Any], error: BaseException) -> Encoded:
        """Encode items that are no message together, as far as each is one by itself."""
        alone = [self.encode([item]) for item in items] if len(items) > 1 else []
        fit = [item for item, encoded in zip(items, alone, strict=False) if not encoded.refused]
        if not fit or len(fit) == len(items):
            return Encoded(b"", len(items), why(items[-1], error))
        reason = next(encoded.reason for encoded in reversed(alone) if encoded.refused)
        together = self.encode(fit)
        return Encoded(together.body, together.refused + len(items) - len(fit), reason)

    @staticmethod
    def encode_item(message: Any, item: Any) -> None:
        """Fill one message from one item."""
        raise NotImplementedError
