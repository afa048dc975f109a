"""Everything that runs during the demonstration, in one place for its steps."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
from otpylib import gen_server
from rich.text import Text

from examples.shop import pictures
from examples.shop.application import Application
from examples.shop.claims import Claims
from examples.shop.configuration import copy_to
from examples.shop.load import Load
from examples.shop.monitor import EXPORTERS, Monitor
from examples.shop.pictures import BAD
from examples.shop.receiver import Receiver
from examples.shop.scrape import Scrape, fetch
from examples.shop.web import WebServer
from examples.shop.witness import OperatorsLog, Witness

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from examples.shop.load import Answer
    from examples.shop.screen import Screen

#: Seconds to wait for something that takes a fraction of one, unless the machine is busy.
PATIENCE = 30.0

#: The same for a collector that was told to stay dead.
SHORT_PATIENCE = 3.0

#: Seconds that telemetry under way gets to settle around the ends of a stretch that is looked at.
MARGIN = 0.15


@dataclass(frozen=True, slots=True)
class Options:
    """How to run.

    Attributes:
        keep: Whether to stay until Ctrl-C.
        port: Of the shop; 0 for any free one.
        metrics_port: Of the metrics endpoint to begin with; 0 for any free one.
        rate: Requests per second.
        collector_stays_dead: Break the demonstration, to see that it notices.
        quick: Look at everything for half as long.
    """

    keep: bool = False
    port: int = 0
    metrics_port: int = 0
    rate: float = 150.0
    collector_stays_dead: bool = False
    quick: bool = False


async def until(so: Callable[[], Any], seconds: float = PATIENCE) -> bool:
    """Wait for something to become so; False if it did not."""
    deadline = time.monotonic() + seconds
    while not so():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def is_refused(port: int) -> bool:
    """Tell whether nobody listens on a port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.close()
    return False


class Stage:
    """A shop, its customers, a collector, and those who watch.

    Args:
        options: How to run.
        screen: Where to show it.
        log: Where log messages end up.
        directory: For the configuration file.
    """

    def __init__(self, options: Options, screen: Screen, log: OperatorsLog, directory: Path) -> None:
        self.options = options
        self.screen = screen
        self.log = log
        self.claims = Claims()
        self.receiver = Receiver()
        self.witness = Witness()
        self.web = WebServer(options.port)
        #: Stretches of time, in monotonic seconds, in which every trace was to be sent.
        self.full: list[tuple[float, float]] = []
        self._directory = directory
        self._cleanup = contextlib.AsyncExitStack()

    async def open(self) -> bool:
        """Start everything.

        Returns:
            Whether both exporters work as the file says.

        Raises:
            OSError: A port that was asked for is taken.
        """
        self.receiver.start()
        self._cleanup.callback(self.receiver.stop)
        self.config = copy_to(
            self._directory,
            {
                ("telemetry.otel", "endpoint"): self.receiver.url,
                ("telemetry.prometheus", "port"): self.options.metrics_port or free_port(),
            },
        )
        await self.witness.attach()
        self._cleanup.push_async_callback(self.witness.detach)
        application = Application(self.config)
        self._cleanup.push_async_callback(application.stop)
        await application.start()
        await self.web.start()
        self._cleanup.push_async_callback(self.web.stop)
        self.load = Load(self.web.url, self.options.rate)
        self.monitor = Monitor(self.load, self.receiver, self.screen)
        self.screen.say(
            f"the shop is open at {self.web.url}, its collector at {self.receiver.url} (OTLP over gRPC)"
        )
        if not await self._exporters_run():
            return False
        self.screen.say(f"both exporters run; metrics at {self.monitor.stats['prometheus_exporter']['url']}")
        self.load.start()
        self._cleanup.push_async_callback(self.load.stop)
        self.monitor.start()
        self._cleanup.push_async_callback(self.monitor.stop)
        self.screen.open()
        self._cleanup.callback(self.screen.close)
        return True

    async def close(self) -> None:
        """Stop everything, in the opposite order."""
        await self._cleanup.aclose()

    async def _exporters_run(self) -> bool:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            await self.monitor.look()
            running = [stats["state"] == "running" for stats in self.monitor.stats.values()]
            if len(running) == len(EXPORTERS) and all(running):
                return True
            await asyncio.sleep(0.05)
        return False

    # --- what several steps do ------------------------------------------------------------------------------

    @property
    def patience(self) -> float:
        """Seconds to wait for what the collector has to do with."""
        return SHORT_PATIENCE if self.options.collector_stays_dead else PATIENCE

    async def watch(self, seconds: float) -> None:
        """Let the shop work for a while."""
        await asyncio.sleep(seconds / 2 if self.options.quick else seconds)

    def say_latency(self, what: str, begin: float, end: float) -> None:
        """Say what the customers saw of the shop in a stretch of time."""
        rate, p50, p95, worst = pictures.latency_cells(self.load.summary(begin, end))
        self.screen.say(f"{what}: {rate}, median {p50}, p95 {p95}, slowest {worst}")

    async def applied(self, since: float, exporter: str, key: str) -> float | None:
        """Wait until an exporter says on the bus that it has applied a change.

        Args:
            since: When the change was made, in monotonic seconds.
            exporter: Its name.
            key: What was changed, for the screen.

        Returns:
            The seconds it took, or None if it never did.
        """

        def at() -> float | None:
            return self.witness.when("telemetry.config.applied", since, exporter=exporter)

        await until(at)
        when = at()
        if when is None:
            self.screen.say(Text(f"{exporter} never took the new {key} into use", BAD))
            return None
        self.screen.say(f"{exporter} has the new {key} in force, {when - since:.2f} s later", when)
        return when - since

    async def scrape(self, port: int | None = None) -> Scrape | None:
        """Read the metrics; None if they cannot be read.

        Args:
            port: Where; by default where the exporter says.
        """
        port = port or self.monitor.stats["prometheus_exporter"]["port"]
        try:
            return await fetch(f"http://127.0.0.1:{port}/metrics")
        except (aiohttp.ClientError, TimeoutError) as error:
            self.screen.say(Text(f"the metrics cannot be read: {error}", BAD))
            return None

    async def settled(self) -> None:
        """Wait until what has been emitted so far has arrived, and take it in."""
        await asyncio.sleep(MARGIN)
        for name in EXPORTERS:
            with contextlib.suppress(TimeoutError, ValueError):
                await gen_server.call(name, ("flush", self.patience), timeout=2 * self.patience)
        await self.monitor.look()

    def is_full(self, answer: Answer) -> bool:
        """Tell whether a request's trace was to arrive whatever its id."""
        return any(begin <= answer.at < end for begin, end in self.full)

    def spans_by_trace(self) -> dict[str, set[str]]:
        """Return the ids of the spans that ended in the application, by trace."""
        found: dict[str, set[str]] = {}
        for span, seen in self.witness.spans.items():
            found.setdefault(seen.trace_id, set()).add(span)
        return found
