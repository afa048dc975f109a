"""The dashboard of the actors, from series that a real Prometheus scraped from a restaurant in trouble.

Needed: ``prometheus`` on the PATH, and two and a half minutes.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import otpylib_config
from otpylib import supervisor
from otpylib.module import SUPERVISOR, OTPModule
from otpylib.runtime import reset_runtime, set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

import otpylib_telemetry_prometheus
from examples.shop.stage import free_port
from otpylib_telemetry import TomlSource
from scripts.pictures import dashboards
from scripts.pictures.restaurant import CONFIGURATION, Restaurant, inside

if TYPE_CHECKING:
    from collections.abc import Awaitable

#: Seconds of the run before the range that is shown, and of that range.
BEFORE, RANGE = 10.0, float(dashboards.RANGE)

#: Seconds between two guests, and that the till and the kitchen need for each.
PAUSE, NEEDED = 0.1, 0.01

BACKLOG: Final = 100

CAPTION: Final = (
    f"Drawn by a script, not by Grafana, from {dashboards.RANGE} s in a real Prometheus: a server stood "
    "still, three crashed, a call timed out, the loop was blocked."
)


class Telemetry(metaclass=OTPModule, behavior=SUPERVISOR, version="1.0.0"):
    """Runs the exporter."""

    async def init(self, _argument: Any) -> Any:
        """Say which children there are."""
        return [otpylib_telemetry_prometheus.child_spec()], supervisor.options()

    async def terminate(self, _reason: Any, _state: Any) -> None:
        """Nothing to clean up."""


def make() -> dict[Path, str]:
    """Run the restaurant under a Prometheus, and draw the dashboard."""
    with tempfile.TemporaryDirectory(prefix="prometheus-") as directory:
        return asyncio.run(_run(Path(directory)))


async def _run(directory: Path) -> dict[Path, str]:
    port = free_port()
    path = directory / "config.toml"
    path.write_text(CONFIGURATION.format(port=port), encoding="utf-8")
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    restaurant = Restaurant()

    async def start() -> None:
        await otpylib_config.start(otpylib_config.ConfigSpec(id="restaurant", sources=[TomlSource(path)]))
        await supervisor.start_link(Telemetry, name="telemetry")

    async with dashboards.watching(directory, port, "restaurant") as prometheus:
        await inside(start)
        await restaurant.open()
        try:
            await _spend_the_evening(restaurant)
            board = await asyncio.to_thread(
                dashboards.draw, "actors", prometheus(), CAPTION, "a restaurant in trouble"
            )
        finally:
            await restaurant.close()
            await backend.shutdown()
            reset_runtime()
    return dict([board])


async def _spend_the_evening(restaurant: Restaurant) -> None:
    """Serve guests; things go wrong one after the other."""
    began = time.monotonic()
    # A guest is not at the till at the very moment when it crashes.
    till = asyncio.Lock()

    async def come_in() -> None:
        while time.monotonic() < began + BEFORE + RANGE:
            async with till:
                await restaurant.serve(1, NEEDED)
            await asyncio.sleep(PAUSE)

    async def at(second: float, trouble: Awaitable[None]) -> None:
        await asyncio.sleep(max(0.0, began + BEFORE + second - time.monotonic()))
        async with till:
            await trouble

    async def relieve() -> None:
        restaurant.hob.set()

    guests = asyncio.create_task(come_in())
    await at(20, restaurant.back_up(BACKLOG))
    await at(35, relieve())
    for second in (50, 53, 56, 59):
        await at(second, restaurant.crash("till", "restarted"))
    await at(65, restaurant.crash("oven", "restarted"))
    await at(66, restaurant.crash("oven", "gave_up"))
    await at(70, restaurant.crash("dishwasher", "restart_failed"))
    await at(80, restaurant.time_out())
    await at(90, restaurant.lose(2))
    await at(100, restaurant.stall(0.5))
    await guests
