"""Step 3: the metrics endpoint moves."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from otpylib_config import Config

from examples.shop.pictures import number
from examples.shop.stage import PATIENCE, free_port, is_refused

if TYPE_CHECKING:
    from examples.shop.scrape import Scrape
    from examples.shop.stage import Stage


async def run(stage: Stage) -> None:
    """Put another port, and look at both."""
    stage.screen.step(
        "3 · the metrics move to another port, by Config.put",
        "The new port answers, the old one is closed, and every counter goes on from where it was.",
    )
    old_port = int(stage.monitor.stats["prometheus_exporter"]["port"])
    new_port = free_port()
    before = await stage.scrape()
    saved = time.monotonic()
    stage.screen.say(f'Config.put("telemetry.prometheus.port", {new_port})', saved)
    await Config.put("telemetry.prometheus.port", new_port)
    await stage.applied(saved, "prometheus_exporter", "port")
    after = await stage.scrape(new_port)
    deadline = time.monotonic() + PATIENCE
    closed = False
    while not closed and time.monotonic() < deadline:
        closed = await is_refused(old_port)
    await stage.watch(max(0.0, saved + 2.0 - time.monotonic()))
    await stage.monitor.look()
    stage.say_latency("meanwhile", saved, time.monotonic())
    stage.claims.check(
        "the new port answers, the old one is closed",
        after is not None and closed,
        f"{new_port} {'answers' if after else 'is silent'}, {old_port} is {'closed' if closed else 'open'}",
    )
    if before is None or after is None:
        stage.claims.check("every counter goes on where it was", held=False, evidence="no two readings")
    else:
        _judge_counters(stage, before, after)
    stage.screen.log(stage.log.news())


def _judge_counters(stage: Stage, before: Scrape, after: Scrape) -> None:
    counters, now = before.counters(), after.counters()
    lost = [key for key in counters if key not in now]
    smaller = [key for key, value in counters.items() if key in now and now[key] < value]
    counted = [scrape.total("shop_http_request_duration_seconds_count") for scrape in (before, after)]
    stage.screen.say(
        f"requests counted: {number(counted[0])} on the old port, {number(counted[1])} on the new one"
    )
    stage.claims.check(
        "every counter goes on where it was",
        counters and not lost and not smaller,
        f"{number(len(counters))}, {len(lost)} lost, {len(smaller)} smaller",
    )
