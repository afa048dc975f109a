"""The course of the demonstration."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from otpylib import gen_server
from otpylib_config import Config
from rich.text import Text

from examples.shop import pictures
from examples.shop.configuration import edit
from examples.shop.monitor import EXPORTERS
from examples.shop.pictures import FAINT
from examples.shop.stage import MARGIN, PATIENCE
from examples.shop.steps import books, first_look, metrics_port, outage, sampling

if TYPE_CHECKING:
    from examples.shop.stage import Stage

STEPS = (first_look, sampling, metrics_port, outage, books)


async def play(stage: Stage) -> None:
    """Run the demonstration; what came of it is in the stage's claims.

    Args:
        stage: Where it happens.

    Raises:
        OSError: A port that was asked for is taken.
    """
    stage.screen.headline("otpylib-telemetry · a shop under load, reconfigured while it runs")
    try:
        running = await stage.open()
        states = [stage.monitor.stats.get(name, {}).get("state", "is absent") for name in EXPORTERS]
        seen = ", ".join(
            f"{name} {state}" for name, state in zip(("otel", "prometheus"), states, strict=True)
        )
        stage.claims.check("both exporters run, in the shop's tree", running, seen)
        if running:
            for number, step in enumerate(STEPS, start=1):
                stage.claims.step = number
                await step.run(stage)
        _conclude(stage)
        if running and stage.options.keep:
            await _stay(stage)
    finally:
        await stage.close()
        stage.screen.log(stage.log.news())


def _conclude(stage: Stage) -> None:
    claims, screen = stage.claims, stage.screen
    screen.log(stage.log.news())
    held = f"{sum(claim.held for claim in claims.all)} of {len(claims.all)} held"
    busy = f", {len(claims.undecided)} cannot be told" if claims.undecided else ""
    screen.step(f"What was claimed: {held}{busy}", "")
    screen.show(pictures.claim_list(claims.all))
    claims.complete = True


async def _page() -> str | None:
    """Return where the page is served, once it is."""
    for _ in range(100):
        with contextlib.suppress(ValueError, TimeoutError):
            stats = await gen_server.call("telemetry_admin", ("get_stats",), timeout=PATIENCE)
            if stats["url"] is not None:
                return str(stats["url"])
        await asyncio.sleep(MARGIN)
    return None


async def _stay(stage: Stage) -> None:
    # The file is to be in charge again, also of what Config.put had changed.
    endpoint = stage.monitor.stats["prometheus_exporter"]
    edit(stage.config, "telemetry.prometheus", "port", endpoint["port"])
    await asyncio.sleep(MARGIN * 3)
    await Config.put("telemetry.prometheus.port", None)
    await stage.witness.detach()
    stage.load.start()
    edit(stage.config, "telemetry.admin", "enabled", True)
    page = await _page()
    stage.screen.step("The shop stays open", "Open the page in a browser. Ctrl-C closes the shop.")
    addresses = {
        "page": f"{page}/" if page else "not served; the log has the reason",
        "shop": f"{stage.web.url}/items",
        "metrics": endpoint["url"],
        "configuration": f"{stage.config}  (edit it, save it)",
        "collector": f"{stage.receiver.url}  (OTLP over gRPC)",
    }
    stage.screen.show(*(Text.assemble((f"  {name:<14}", FAINT), where) for name, where in addresses.items()))
    while True:
        await asyncio.sleep(0.25)
        stage.screen.log(stage.log.news())
        stage.load.forget()
        stage.monitor.archive.forget()
