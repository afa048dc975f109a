"""OpenTelemetry's attributes as the labels of series.

A series is found by its labels, and labels are text. Where attributes leave as they came, a value that is no
text goes along with its text, and counts: OpenTelemetry tells ``1``, ``True``, ``1.0`` and ``"1"`` apart.

Knows nothing of OpenTelemetry's packages. Pure.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Self

from otpylib_telemetry.metrics.labels import label_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otpylib_telemetry.aggregation.metric import Scope
    from otpylib_telemetry.aggregation.series import Labels
    from otpylib_telemetry.metrics.names import Naming


class Attribute(str):
    """The text of an attribute's value that is no text itself.

    Equal to what has the same text and a value of the same type, and so never to a plain text.

    Attributes:
        value: The value.
    """

    __slots__ = ("value",)

    value: Any

    def __new__(cls, text: str, value: Any) -> Self:
        """Make one."""
        made = super().__new__(cls, text)
        made.value = value
        return made

    def __eq__(self, other: object) -> bool:
        if type(other) is not Attribute or type(other.value) is not type(self.value):
            return False
        return str.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((type(self.value).__name__, str.__hash__(self)))


def attribute_value(text: str) -> Any:
    """Return the value of an attribute by the text a label has."""
    return text.value if type(text) is Attribute else text


def labels_of(attributes: Iterable[tuple[Any, Any]], naming: Naming) -> Labels:
    """Return the labels for attributes, in the order of their names."""
    pairs = [(key, value) for key, value in attributes if type(key) is str and key]
    if naming.scopes:
        found = {key: text for key, value in pairs if (text := _whole(value)) is not None}
        return tuple(sorted(found.items(), key=_by_name))
    texts: dict[str, str] = {}
    for key, value in sorted(pairs, key=_by_name):
        text = _text(value)
        # An empty label is no label: to Prometheus the series would be the one without it.
        if text:
            name = naming.attribute(key)
            # "Prometheus and OpenMetrics compatibility" joins what has become one name.
            texts[name] = f"{texts[name]};{text}" if name in texts else text
    return tuple(sorted(texts.items()))


def scope_labels(scope: Scope, naming: Naming) -> Labels:
    """Return the labels that tell what made a series.

    Section "Instrumentation Scope" of "Prometheus and OpenMetrics compatibility". Returns the labels, in the
    order of their names; none where the exit has another place for it.
    """
    if naming.scopes:
        return ()
    texts = dict(labels_of([(f"otel_scope_{key}", value) for key, value in scope.attributes], naming))
    own = {
        "otel_scope_name": scope.name,
        "otel_scope_version": scope.version,
        "otel_scope_schema_url": scope.schema_url,
    }
    texts.update({name: text for name, text in own.items() if text})
    return tuple(sorted(texts.items()))


def _by_name(pair: tuple[str, Any]) -> str:
    return pair[0]


def _whole(value: Any) -> str | None:
    """Return a value to be sent as it is; None if it is no value of an attribute."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool | int | float):
        return Attribute(repr(value), value)
    plain = _plain(value)
    return None if plain is None else Attribute(_json(plain), plain)


def _text(value: Any) -> str:
    """Return a value as the text of a label; empty if it is no value of an attribute."""
    if isinstance(value, str | bool | int | float):
        return label_text(value)
    plain = _plain(value)
    return "" if plain is None else label_text(_json(plain))


def _plain(value: Any) -> Any:
    """Return a copy of a composed value, of immutable parts; None for what cannot be an attribute."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, list | tuple):
        return tuple(_part(each) for each in value)
    if isinstance(value, dict):
        return {str(key): _part(each) for key, each in value.items()}
    return None


def _part(value: Any) -> Any:
    return value if value is None or isinstance(value, str | bool | int | float) else _plain(value)


def _json(value: Any) -> str:
    """Return a composed value as text, as OpenTelemetry's "Common" specification ("AnyValue") wants it."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=_binary)


def _binary(value: Any) -> str:
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(type(value).__name__)


def frozen(attributes: Mapping[str, Any] | None) -> tuple[tuple[str, Any], ...]:
    """Return attributes as what can be part of an identity."""
    if not attributes:
        return ()
    found = [(key, _part(value)) for key, value in attributes.items() if type(key) is str]
    usable = [(key, value) for key, value in found if value is not None and type(value) is not dict]
    return tuple(sorted(usable, key=_by_name))
