"""OpenTelemetry's attributes as the labels of series.

A series is found by its labels, and labels are text. Where attributes leave as they came, a value that is no
text goes along with its text, and counts: OpenTelemetry tells ``1``, ``True``, ``1.0`` and ``"1"`` apart.

Whatever an attribute is, it is made into what can leave before it becomes a label: two series never leave as
one, nor the other way round.

Knows nothing of OpenTelemetry's packages. Pure.
"""

from __future__ import annotations

import base64
import json
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Self

from otpylib_telemetry.metrics.labels import integer_text, label_text
from otpylib_telemetry.primitives.any_value import INT64_MAX, INT64_MIN, any_value, has_own_text, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.aggregation.metric_spec import Scope
    from otpylib_telemetry.aggregation.series import Labels
    from otpylib_telemetry.metrics.names import Naming


class Attribute(str):
    """The text of an attribute's value that is no text itself; never equal to a plain text."""

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


def labels_of(attributes: Any, naming: Naming, keep: Callable[[str], bool] | None = None) -> Labels:
    """Return the labels for attributes, or for those whose keys are to be kept, in order."""
    pairs = {
        key if type(key) is str and key.isascii() else text(key, None): value
        for key, value in attributes.items()
    }
    pairs.pop("", None)
    if keep is not None:
        pairs = {key: value for key, value in pairs.items() if keep(key)}
    if naming.scopes:
        return tuple((key, _whole(pairs[key])) for key in sorted(pairs))
    texts: dict[str, str] = {}
    for key in sorted(pairs):
        found = _text(pairs[key])
        # An empty label is no label: to Prometheus the series would be the one without it.
        if found:
            name = naming.attribute(key)
            # "Prometheus and OpenMetrics compatibility" joins what has become one name.
            texts[name] = f"{texts[name]};{found}" if name in texts else found
    return tuple(sorted(texts.items()))


def scope_labels(scope: Scope, naming: Naming) -> Labels:
    """Return the labels that tell what made a series; none where the exit has another place for it."""
    if naming.scopes:
        return ()
    attributes = {f"otel_scope_{key}": attribute_value(value) for key, value in scope.attributes}
    texts = dict(labels_of(attributes, naming))
    own = {
        "otel_scope_name": scope.name,
        "otel_scope_version": scope.version,
        "otel_scope_schema_url": scope.schema_url,
    }
    texts.update({name: text for name, text in own.items() if text})
    return tuple(sorted(texts.items()))


def frozen(attributes: Any) -> Labels:
    """Return attributes as what can be part of an identity; none if they are no mapping."""
    try:
        found = {text(key, None): _whole(value) for key, value in attributes.items()}
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - whatever it is, it is no attributes
        return ()
    found.pop("", None)
    return tuple(sorted(found.items(), key=itemgetter(0)))


def _whole(value: Any) -> str:
    """Return a value to be sent as it is, as far as OTLP has such values."""
    if type(value) is str and value.isascii():
        return value
    if issubclass(type(value), int) and not INT64_MIN <= value <= INT64_MAX:
        return integer_text(int.__int__(value))
    plain = any_value(value) if has_own_text(type(value)) else None
    if type(plain) is str:
        return plain
    if type(plain) is float:
        plain += 0.0  # -0.0 equals 0.0, so it is the same attribute
    return Attribute(repr(_ordered(plain)), plain)


def _text(value: Any) -> str:
    """Return a value as the text of a label; empty for what is empty."""
    if issubclass(type(value), str | int | float):
        return label_text(value)
    plain = any_value(value) if has_own_text(type(value)) else None
    if isinstance(plain, tuple | dict):
        return label_text(
            json.dumps(plain, separators=(",", ":"), ensure_ascii=False, sort_keys=True, default=_binary)
        )
    # As OpenTelemetry's "Common" specification ("AnyValue") wants it.
    return label_text(_binary(plain) if type(plain) is bytes else plain)


def _binary(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _ordered(value: Any) -> Any:
    """Return a value that reads the same, whatever the order of its maps."""
    if type(value) is dict:
        return {key: _ordered(value[key]) for key in sorted(value)}
    return tuple(map(_ordered, value)) if type(value) is tuple else value
