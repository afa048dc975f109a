"""Requests of spans and of log records: a resource, the scopes in it, and their items.

Each item becomes bytes by itself, so that one that cannot be encoded is left out and the others go.

Imports OpenTelemetry: to be imported only where something is about to be exported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from otpylib_telemetry.version import __version__
from otpylib_telemetry_otel.otlp.values import Encoded, fill, say, why
from otpylib_telemetry_otel.otlp.wire import KNOWN, VARINTS, sized, varint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk.resources import Resource


#: How many scopes are kept encoded: an application has one for each library that reports.
MAX_SCOPES: Final = 256

#: The tags of the first and of the second field, which are alike for the items of resources and of scopes:
#: whose they are, and what there is of them.
_FIRST: Final = b"\x0a"
_SECOND: Final = b"\x12"


class Encoder:
    """Makes requests of the items of one resource, grouped by instrumentation scope."""

    #: The message classes of the request, of what one resource has in it, what one scope has, and one item.
    request: ClassVar[type[Any]]
    of_resource: ClassVar[type[Any]]
    of_scope: ClassVar[type[Any]]
    of_item: ClassVar[type[Any]]

    def __init__(self, resource: Resource) -> None:
        group = self.of_resource()
        say(group, "schema_url", resource.schema_url)
        fill(group.resource.attributes, resource.attributes)
        self._resource = _around(group)
        self._scope = ("otpylib_telemetry", __version__)
        #: By scope, what is written before its items and after them.
        self._scopes: dict[tuple[Any, ...] | str, tuple[bytes, bytes]] = {}

    def encode(self, items: Sequence[Any]) -> Encoded:
        """Encode items; one that cannot be encoded is left out, so that the others go."""
        encode_item: Callable[[Any], bytes] = self.encode_item
        groups: dict[tuple[Any, ...] | str, tuple[list[bytes], bytes]] = {}
        latest = None
        contents: list[bytes] = []
        refused, reason = 0, ""
        for item in items:
            try:
                # Name and version, and perhaps the URL of a schema and attributes as pairs.
                scope = item.scope or self._scope
                if scope is not latest:
                    contents = self._contents(groups, scope)
                    latest = scope
                try:
                    encoded = encode_item(item)
                except KeyboardInterrupt:
                    raise
                except BaseException:  # noqa: BLE001 - the generated class may take it, and else says why not
                    encoded = self._encode_odd(item)
                size = len(encoded)
                contents.append((VARINTS[size] if size < KNOWN else varint(size)) + encoded)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - whatever is in it, it must not hold up the others
                refused, reason = refused + 1, why(item, error)
        before, after = self._resource
        members = [before]
        for contents, end in groups.values():
            if len(contents) > 1:
                members.append(sized(_SECOND.join(contents) + end))
        return Encoded(_FIRST + sized(_SECOND.join(members) + after), refused, reason)

    def _contents(
        self, groups: dict[tuple[Any, ...] | str, tuple[list[bytes], bytes]], scope: tuple[Any, ...]
    ) -> list[bytes]:
        """Return what a scope's items of this request are to be appended to."""
        # The text tells 1 from True, which are equal, and may be of what cannot be a key.
        key = scope if len(scope) == 2 else repr(scope)  # noqa: PLR2004 - name and version
        found = groups.get(key)
        if found is None:
            around = self._scopes.get(key)
            if around is None:
                around = self._around_items(*scope)
                if len(self._scopes) >= MAX_SCOPES:
                    self._scopes.clear()
                self._scopes[key] = around
            found = groups[key] = ([around[0]], around[1])
        return found[0]

    def _around_items(
        self, name: Any, version: Any, schema_url: Any = "", attributes: Sequence[Any] = ()
    ) -> tuple[bytes, bytes]:
        group = self.of_scope()
        say(group.scope, "name", name)
        say(group.scope, "version", version)
        say(group, "schema_url", schema_url)
        fill(group.scope.attributes, dict(attributes))
        return _around(group)

    def _encode_odd(self, item: Any) -> bytes:
        """Encode an item with the generated class."""
        message = self.of_item()
        self.fill_item(message, item)
        encoded: bytes = message.SerializeToString()
        return encoded

    @staticmethod
    def encode_item(item: Any) -> bytes:
        """Write one item; raises for what it does not know how to write."""
        raise NotImplementedError

    @staticmethod
    def fill_item(message: Any, item: Any) -> None:
        """Fill one message of the generated class from any item; raises for what OTLP does not have."""
        raise NotImplementedError


def _around(group: Any) -> tuple[bytes, bytes]:
    """Return what is written before and after the members of a group: the URL of the schema comes last."""
    end = type(group)(schema_url=group.schema_url)
    group.ClearField("schema_url")
    return group.SerializeToString(), end.SerializeToString()
