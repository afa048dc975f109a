"""From the monotonic clock, by which everything is measured, to the wall clock, by which it is shown."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Nanoseconds by which the two clocks may drift apart before the difference is taken anew. Two readings
#: differ by microseconds from one moment to the next; taken anew each time, that would put a child before its
#: parent.
TOLERANCE_NS = 1_000_000


class WallClock:
    """Keeps the difference between the two clocks steady, and follows the wall clock when it is set.

    Args:
        wall_ns: Nanoseconds since the epoch.
        monotonic_ns: Monotonic nanoseconds.
    """

    __slots__ = ("_monotonic_ns", "_offset_ns", "_wall_ns")

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        self._offset_ns = self._read()

    def offset_ns(self) -> int:
        """Return what to add to a monotonic time to get nanoseconds since the epoch."""
        now = self._read()
        if abs(now - self._offset_ns) > TOLERANCE_NS:
            self._offset_ns = now
        return self._offset_ns

    def _read(self) -> int:
        before = self._monotonic_ns()
        wall = self._wall_ns()
        return wall - (before + self._monotonic_ns()) // 2


#: One for the whole process, so that all its exporters show an event at the same time.
wall_clock = WallClock()
