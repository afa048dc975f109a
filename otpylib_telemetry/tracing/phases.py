"""What an event's name says: which operation it means, and whether it begins or ends it.

Everything that turns pairs of events into something longer (a span, a timing, a gauge of what is in flight)
goes by this, so that all exporters agree on what an operation is.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class Phase(enum.Enum):
    """What an event means for the operation it names."""

    NONE = "none"
    START = "start"
    OK = "ok"
    ERROR = "error"


#: Longer operations, some thirty years, are taken for a mistake: their start would lie before the epoch.
#: A float: to reckon with a float and an integer takes twice as long.
MAX_DURATION_MS: Final = 1e12

#: An event with one of these measurements is a measurement.
MEASURED: Final = frozenset({"count", "duration_ms", "value"})

_SUFFIXES: Final[Mapping[str, Phase]] = {
    "start": Phase.START,
    "stop": Phase.OK,
    "success": Phase.OK,
    "error": Phase.ERROR,
    "exception": Phase.ERROR,
    "failed": Phase.ERROR,
}

#: An application has hundreds of event names. One that builds names from data must not grow this for ever.
_MEMO_LIMIT: Final = 10_000

#: What :func:`classify` found so far, for loops that look it up themselves. Always the same dict.
classified: Final[dict[str, tuple[str, Phase]]] = {}


def classify(event_name: str) -> tuple[str, Phase]:
    """Split an event name into operation and phase: ``shop.sale.start`` is ``("shop.sale", Phase.START)``.

    A name without such a suffix, or with nothing before it, is itself and ``Phase.NONE``.
    """
    known = classified.get(event_name)
    if known is None:
        if type(event_name) is not str:
            # A subclass may compare as it likes: one among the keys would spoil its name for everybody else.
            return classify(str.__str__(event_name))
        operation, _, suffix = event_name.rpartition(".")
        phase = _SUFFIXES.get(suffix, Phase.NONE)
        known = (operation, phase) if operation and phase is not Phase.NONE else (event_name, Phase.NONE)
        if len(classified) >= _MEMO_LIMIT:
            # Starting over costs the names in use one split each; keeping a full table would cost every
            # name that comes later a split for ever.
            classified.clear()
        classified[event_name] = known
    return known
