"""Why a measurement is not taken, wherever it comes from: one text for one cause.

Each is a key of what an exporter's store counts, and the label ``reason`` of a metric about that.
"""

from __future__ import annotations

from typing import Final

__all__ = ["FAILED", "NAME_TAKEN", "NOT_A_NUMBER", "OUT_OF_RANGE", "UNREADABLE", "VIEW_CHANGED"]

#: Something else has the metric's name, or there are too many metrics.
NAME_TAKEN: Final = "metric refused"

#: It is no number.
NOT_A_NUMBER: Final = "not a number"

#: It is a number that cannot be added up.
OUT_OF_RANGE: Final = "not finite, or negative where that cannot be"

#: The event could not be looked at.
UNREADABLE: Final = "not readable"

#: Taking it raised.
FAILED: Final = "failed"

#: A view took the metric away just then.
VIEW_CHANGED: Final = "view changed"
