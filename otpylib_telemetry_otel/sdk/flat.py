"""Items with plain attributes, for exporters that cannot encode what OTLP has: console's JSON has no bytes.

Imports no OpenTelemetry.
"""

from __future__ import annotations

import copy
from typing import Any

from otpylib_telemetry.primitives.any_value import text
from otpylib_telemetry_otel.attributes import attributes

_PLAIN = frozenset({str, bool, int, float, type(None)})


def flat(item: Any) -> Any:
    """Return a copy of an item in which maps, bytes and lists of several types are text."""
    made = copy.copy(item)
    for parts in ("events", "links"):
        if several := getattr(item, parts, None):
            setattr(made, parts, [flat(one) for one in several])
    if (given := getattr(item, "attributes", None)) is not None:
        made.attributes, _ = attributes(given)
    if type(body := getattr(item, "body", None)) not in _PLAIN:
        made.body = text(body)
    return made
