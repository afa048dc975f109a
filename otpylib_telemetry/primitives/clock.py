"""From the monotonic clock, by which everything is measured, to the wall clock, by which it is shown."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Nanoseconds by which the two clocks may drift apart before the difference is taken anew. Two readings
#: differ by microseconds from one moment to the next; taken anew each time, that would put a child before its
#: parent.
TOLERANCE_NS = 1_000_000

#: Readings of which the first difference is the surest.
_FIRST_READINGS = 5


class WallClock:
    """Keeps the difference between the two clocks steady, and follows the wall clock when it is set."""

    __slots__ = ("_monotonic_ns", "_offset_ns", "_wall_ns")

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._wall_ns = wall_ns
        self._monotonic_ns = monotonic_ns
        readings = [self._read() for _ in range(_FIRST_READINGS)]
        self._offset_ns, _ = min(readings, key=lambda reading: reading[1])

    def offset_ns(self) -> int:
        """Return what to add to a monotonic time to get nanoseconds since the epoch."""
        now, uncertain = self._read()
        if abs(now - self._offset_ns) > TOLERANCE_NS + uncertain:
            self._offset_ns = now
        return self._offset_ns

    @contextmanager
    def held_at(self, offset_ns: int) -> Iterator[None]:
        """Let the difference be what a test says, whatever the clocks do."""
        before = self._wall_ns, self._monotonic_ns, self._offset_ns
        self._wall_ns, self._monotonic_ns, self._offset_ns = (lambda: offset_ns), (lambda: 0), offset_ns
        try:
            yield
        finally:
            self._wall_ns, self._monotonic_ns, self._offset_ns = before

    def _read(self) -> tuple[int, int]:
        """Return the difference, and by how much it may be wrong.

        The thread may lose the processor between the readings of the two clocks, for many milliseconds: that
        must not be taken for a clock that was set.
        """
        before = self._monotonic_ns()
        wall = self._wall_ns()
        after = self._monotonic_ns()
        return wall - (before + after) // 2, (after - before + 1) // 2


#: One for the whole process, so that all its exporters show an event at the same time.
wall_clock = WallClock()
