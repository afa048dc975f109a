"""How much a span carries at most, as OpenTelemetry's variables ``OTEL_SPAN_..._LIMIT`` and settings say.

Pure, and without OpenTelemetry.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib_telemetry.primitives.any_value import MAX_TEXT_LENGTH
from otpylib_telemetry_otel.attributes import MAX_ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Mapping


class Limit(NamedTuple):
    """How many attributes there are at most, and how long their texts; None where nothing was said."""

    most: int | None = None
    length: int | None = None


NO_LIMIT: Final = Limit()


class SpanLimits(NamedTuple):
    """What was said about spans; None where nothing was, and whether exceptions have their stack traces."""

    span: Limit = Limit()
    event: Limit = Limit()
    link: Limit = Limit()
    events: int | None = None
    links: int | None = None
    stack_traces: bool = True


UNLIMITED: Final = SpanLimits()


def at_least_ours(limit: Limit) -> tuple[int, int]:
    """Return a limit's count and length where they are beyond our own, and our own elsewhere."""
    return max(MAX_ATTRIBUTES, limit.most or 0), max(MAX_TEXT_LENGTH, limit.length or 0)


def limited(attributes: Mapping[str, Any], limit: Limit) -> tuple[Mapping[str, Any], int]:
    """Return what a limit leaves of exportable attributes, and how many it does not; the first ones stay."""
    most, length = limit
    dropped = 0
    if most is not None and len(attributes) > most:
        dropped = len(attributes) - most
        attributes = dict(islice(attributes.items(), most))
    if length is not None:
        attributes = {key: _shortened(value, length) for key, value in attributes.items()}
    return attributes, dropped


def _shortened(value: Any, length: int) -> Any:
    """Cut text wherever it is: without a mark, as everywhere in OpenTelemetry."""
    kind = type(value)
    if kind is str:
        return value[:length]
    if kind is tuple or kind is list:
        return tuple(_shortened(element, length) for element in value)
    if kind is dict:
        return {key: _shortened(element, length) for key, element in value.items()}
    return value
