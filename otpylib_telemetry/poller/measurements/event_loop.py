"""How late the event loop is: a timer on it that says by how much it was."""

from __future__ import annotations

import contextvars
from collections import deque
from typing import TYPE_CHECKING, Final

from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.meters.observed import Observation, ObservedMetric
from otpylib_telemetry.poller.polls import Measured

if TYPE_CHECKING:
    import asyncio

NAME: Final = "telemetry.poller.event_loop"

#: Seconds between two calls of the timer: a loop that stands is found to be late by so much less, at most.
_PERIOD: Final = 0.05

#: Seconds for which the longest lag is told: no less than what lies between two scrapes, as a rule.
WINDOW: Final = 60.0

LAG: Final = ObservedMetric(
    Kind.GAUGE,
    "event_loop.lag",
    "event_loop_lag_seconds",
    "s",
    "How late the event loop was with a timer, at most, in the last minute.",
    "livemax",
)


class LoopLag:
    """Measures the lag of a loop from now until :meth:`stop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # Times and lags, each lag less than the one before: the first is the longest.
        self._longest: deque[tuple[float, float]] = deque()
        self._since_poll = 0.0
        self._due = 0.0
        self._timer = self._next()

    def _next(self) -> asyncio.TimerHandle:
        self._due = self._loop.time() + _PERIOD
        return self._loop.call_at(self._due, self._tick, context=contextvars.Context())

    def _tick(self) -> None:
        now = self._loop.time()
        self.note(now, max(0.0, now - self._due))
        self._timer = self._next()

    def note(self, now: float, lag: float) -> None:
        """Take notice of a lag."""
        longest = self._longest
        while longest and longest[-1][1] <= lag:
            longest.pop()
        longest.append((now, lag))
        while longest[0][0] < now - WINDOW:
            longest.popleft()
        self._since_poll = max(self._since_poll, lag)

    def observations(self) -> list[Observation]:
        """Return the longest lag, as it is known by now; from any thread."""
        try:
            return [Observation(LAG, self._longest[0][1])]
        except IndexError:
            return []

    def measure(self) -> Measured:
        """Return the longest lag since this was called last; its metric is read whenever somebody asks."""
        lag, self._since_poll = self._since_poll, 0.0
        return Measured([({"lag_seconds": lag}, {})], [], [])

    def stop(self) -> None:
        """Measure no more."""
        self._timer.cancel()
