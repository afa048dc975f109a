"""Looks at everything from outside, a few times a second, and remembers what it saw."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otpylib import gen_server

from examples.shop.load import Load, summary
from examples.shop.pictures import left_side
from examples.shop.traces import Archive

if TYPE_CHECKING:
    from examples.shop.receiver import Receiver
    from examples.shop.screen import Screen

#: Seconds between two looks.
INTERVAL = 0.25

#: Looks the panel remembers.
REMEMBERED = 240

EXPORTERS = ("otel_exporter", "prometheus_exporter")


@dataclass(frozen=True, slots=True)
class Look:
    """One look.

    Attributes:
        at: When, in monotonic seconds.
        waiting: Events the OpenTelemetry exporter has accepted and not yet dealt with.
        breaker: The state of its circuit breaker.
        rate: Requests answered per second since the last look.
        p95: Milliseconds that 95 of 100 of them took at most.
        arriving: Spans per second at the collector, over the last second.
        collector: ``"up"`` or ``"dead"``.
    """

    at: float
    waiting: int
    breaker: str
    rate: float
    p95: float
    arriving: float
    collector: str


async def get_stats(exporter: str) -> dict[str, Any] | None:
    """Ask an exporter how it stands; None if there is no answer."""
    try:
        stats = await gen_server.call(exporter, ("get_stats",), timeout=5.0)
    except (TimeoutError, ValueError):
        return None
    return stats if isinstance(stats, dict) else None


class Monitor:
    """Looks at the exporters' books, the collector and the customers.

    Args:
        load: The customers.
        receiver: The collector.
        screen: Shown the present.
    """

    def __init__(self, load: Load, receiver: Receiver, screen: Screen) -> None:
        self.archive = Archive()
        self.stats: dict[str, dict[str, Any]] = {}
        self.looks: deque[Look] = deque(maxlen=REMEMBERED)
        #: Books looked at, and those that did not balance.
        self.books = 0
        self.unbalanced: list[dict[str, Any]] = []
        self._load = load
        self._receiver = receiver
        self._screen = screen
        self._received: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=5)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run(), name="monitor")

    async def stop(self) -> None:
        """Look no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def look(self) -> None:
        """Look now."""
        for name in EXPORTERS:
            if (stats := await get_stats(name)) is not None:
                self.stats[name] = stats
                self.books += 1
                if left_side(stats) != stats["accepted"]:
                    self.unbalanced.append(stats)
        self.archive.add(self._receiver.take())

    def since(self, begin: float) -> list[Look]:
        """Return the looks since a time, in monotonic seconds."""
        return [look for look in self.looks if look.at >= begin]

    async def _run(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(INTERVAL)
            await self.look()
            now = time.monotonic()
            self._remember(last, now)
            last = now
            self._screen.refresh()

    def _remember(self, last: float, now: float) -> None:
        otel = self.stats.get("otel_exporter", {})
        answered = summary([a for a in self._load.recent() if last <= a.at + a.seconds < now], now - last)
        # Batches come a few times a second: over less than a second there is no rate.
        self._received.append((now, self._receiver.received))
        since, received = self._received[0]
        arriving = (self._receiver.received - received) / max(now - since, INTERVAL)
        waiting = otel.get("queued", 0) + otel.get("in_flight", 0)
        collector = "up" if self._receiver.is_up else "dead"
        breaker = otel.get("breaker", "-").replace("_", " ")
        self.looks.append(Look(now, waiting, breaker, answered.rate, answered.p95, arriving, collector))
        present = self._screen.present
        present.latency = summary(
            [a for a in self._load.recent() if now - 1.0 <= a.at + a.seconds < now], 1.0
        )
        present.rates = [look.rate for look in self.looks]
        present.p95s = [look.p95 for look in self.looks]
        present.arriving = [look.arriving for look in self.looks]
        present.waiting = [float(look.waiting) for look in self.looks]
        present.breaker = otel.get("breaker", "-")
        present.collector_up = self._receiver.is_up
        present.metrics_url = self.stats.get("prometheus_exporter", {}).get("url") or "-"
        present.balanced = not self.unbalanced
