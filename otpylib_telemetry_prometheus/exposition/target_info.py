"""``target_info``: what the process says about itself, as one info metric.

The rules are those of OpenTelemetry's "Prometheus and OpenMetrics compatibility", section "Resource
attributes": one metric with the value 1 whose labels are the attributes. Pure.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.metrics.labels import label_text
from otpylib_telemetry_prometheus.exposition.families import Family, Sample
from otpylib_telemetry_prometheus.exposition.text import printable, underscored_label

if TYPE_CHECKING:
    from collections.abc import Mapping


_UNDERSCORES: Final = re.compile("__+")


def target_info(attributes: Mapping[str, Any]) -> Family | None:
    """Return the family that tells resource attributes."""
    labels: dict[str, str] = {}
    for key in sorted(map(str, attributes)):
        value = attributes[key]
        if isinstance(value, (list, tuple)):
            text = json.dumps(list(value), ensure_ascii=False, separators=(",", ":"))
        else:
            text = value if type(value) is str else label_text(value)
        if not text:
            continue
        name = _UNDERSCORES.sub("_", underscored_label(key))
        # Attributes that have become one name are joined in the order of their keys, says the specification.
        labels[name] = f"{labels[name]};{printable(text)}" if name in labels else printable(text)
    if not labels:
        return None
    return Family("target", "Target metadata", "info", "", (Sample("target_info", labels, 1),))
