"""How long the shop waited for a processor that other programs were using."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

#: The share of a stretch of time from which on nothing can be said about how fast the shop was in it.
MUCH = 0.1

#: Linux: nanoseconds that the thread ran, nanoseconds that it could have run and did not, and turns.
_SCHEDULED = Path("/proc/thread-self/schedstat")


@dataclass(frozen=True, slots=True)
class Waited:
    """What the event loop waited for a processor in some stretch of time, in seconds."""

    seconds: float
    of: float

    @property
    def is_much(self) -> bool:
        """Whether that explains why something was slow."""
        return self.seconds > MUCH * self.of

    def __str__(self) -> str:
        """Say it in words."""
        return f"other programs kept the shop waiting for a processor, {self.seconds:.1f} of {self.of:.1f} s"


class Stopwatch:
    """Started when it is made, by the thread of the event loop."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._waited = _waited()

    def read(self) -> Waited:
        """Return what was waited since; where the system does not tell, a guess from its load."""
        of = time.monotonic() - self._began
        if self._waited is not None and (now := _waited()) is not None:
            return Waited(now - self._waited, of)
        return Waited(of * _share_of_load(), of)


def _waited() -> float | None:
    """Return the seconds this thread has waited for a processor so far, if the system counts them."""
    try:
        return int(_SCHEDULED.read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return None


def _share_of_load() -> float:
    """Return which share of what wants to run has to wait, by the load of the last minute."""
    try:
        load = os.getloadavg()[0]
    except (OSError, AttributeError):
        return 0.0
    return max(0.0, 1 - (os.cpu_count() or 1) / max(load, 1.0))
