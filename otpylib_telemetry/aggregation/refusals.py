"""Why a metric, or a measurement, is not taken; the reasons are counted under these words."""

from __future__ import annotations

from typing import Final

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


class MetricRefusedError(Exception):
    """A metric cannot be added to the store; the message says why, for a person to read."""
