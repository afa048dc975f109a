"""Step 4: the collector dies, and comes back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from examples.shop import pictures
from examples.shop.pictures import BAD, GOOD, number
from examples.shop.processor import Stopwatch
from examples.shop.stage import MARGIN, PATIENCE, is_refused, until

if TYPE_CHECKING:
    from examples.shop.processor import Waited
    from examples.shop.stage import Stage

#: Seconds the collector stays dead.
OUTAGE = 7.0

#: By how much the rate of answers, and the median latency, may differ: room for a machine that is busy
#: with other things, and far below what one blocked event loop would make of them.
TOLERANCE = 0.1
SLACK, SLACK_MS = 2.0, 10.0


@dataclass(slots=True)
class Outage:
    """What was seen of it; all times in monotonic seconds.

    Attributes:
        began: When the stretch before it begins that it is compared with.
        killed: When the collector died.
        back: When it came back, or should have.
        waiting: Events in the queue, at most.
        spans: Spans that ended in the application meanwhile.
        opened: When the breaker opened, if it did.
        closed: When it closed again, if it did.
        arrived: When all that had waited was at the collector, if it was.
        ended: When the last look at it was taken.
    """

    began: float
    killed: float = 0.0
    back: float = 0.0
    waiting: int = 0
    spans: int = 0
    opened: float | None = None
    closed: float | None = None
    arrived: float | None = None
    ended: float = 0.0


async def run(stage: Stage) -> None:
    """Kill the collector under load, and start it again."""
    stage.screen.step(
        "4 · the collector dies, and comes back",
        "Spans wait in the exporter's queue, the breaker opens, and the customers notice nothing. Then "
        "everything arrives, once.",
    )
    seen = Outage(began=time.monotonic())
    stopwatch = Stopwatch()
    await stage.watch(2.5)
    await _kill(stage, seen)
    await stage.watch(max(0.0, seen.killed + OUTAGE - time.monotonic()))
    # Counted at one time, whatever the machine does: the spans first, then what waits.
    spans = len(stage.witness.spans) - seen.spans
    await stage.monitor.look()
    books = stage.monitor.stats["otel_exporter"]
    seen.waiting, seen.spans = books["queued"] + books["in_flight"], spans
    stage.screen.say(f"{number(seen.waiting)} events wait in the queue; the shop serves on")
    waited = stopwatch.read()
    await _revive(stage, seen)
    await stage.watch(1.5)
    seen.ended = time.monotonic()
    _show(stage, seen)
    stage.screen.log(stage.log.news())
    _judge(stage, seen, waited)


async def _kill(stage: Stage, seen: Outage) -> None:
    seen.killed, seen.spans = time.monotonic(), len(stage.witness.spans)
    await asyncio.to_thread(stage.receiver.stop)
    refused = await is_refused(stage.receiver.port)
    what = "the collector is dead: connection refused" if refused else "the collector will not die"
    stage.screen.say(Text(what, BAD), seen.killed)
    seen.opened = await _breaker(stage, "opened", seen.killed)


async def _revive(stage: Stage, seen: Outage) -> None:
    seen.back = time.monotonic()
    if stage.options.collector_stays_dead:
        stage.screen.say(Text("the collector stays dead, as it was told to", BAD))
    else:
        stage.receiver.start()
        stage.screen.say(Text("the collector is back", GOOD), seen.back)
    seen.closed = await _breaker(stage, "closed", seen.back, stage.patience)
    if seen.closed is not None:
        seen.arrived = await _arrive(stage, _spans_before(stage, seen.back))
    if seen.arrived is not None:
        after = f"{seen.arrived - seen.back:.1f} s"
        stage.screen.say(f"all that waited has arrived, {after} after the collector came back")


async def _breaker(stage: Stage, word: str, since: float, patience: float = PATIENCE) -> float | None:
    """Wait for the circuit breaker; return when it did so."""

    def at() -> float | None:
        return stage.witness.when(f"telemetry.breaker.{word}", since, breaker="otel_exporter")

    await until(at, patience)
    when = at()
    if when is None:
        stage.screen.say(Text(f"the breaker never {word}", BAD))
    else:
        stage.screen.say(f"the breaker {word}, {when - since:.1f} s later", when)
    return when


def _spans_before(stage: Stage, then: float) -> set[str]:
    """Return the spans of requests answered before a time that are to arrive."""
    before = {a.trace_id for a in stage.load.answers if stage.is_full(a) and a.at + a.seconds < then - MARGIN}
    return {span for span, seen in stage.witness.spans.items() if seen.trace_id in before}


async def _arrive(stage: Stage, spans: set[str]) -> float | None:
    """Wait until these spans have arrived; return when they had, or None."""
    arrived = await until(lambda: spans <= stage.monitor.archive.span_ids)
    return time.monotonic() if arrived else None


def _show(stage: Stage, seen: Outage) -> None:
    rows = []
    for name, begin, end, colour in (
        ("before", seen.began, seen.killed, ""),
        ("collector dead", seen.killed, seen.back, BAD),
        ("and back", seen.back, seen.ended, GOOD),
    ):
        looks = [look for look in stage.monitor.looks if begin <= look.at < end]
        rows.append(
            [
                Text(name, colour),
                *pictures.latency_cells(stage.load.summary(begin, end)),
                number(max((look.waiting for look in looks), default=0)),
            ]
        )
    stage.screen.gap()
    heads = ["", "requests", "p50", "p95", "slowest", "waiting, at most"]
    stage.screen.show(pictures.comparison(heads, rows))
    looks = stage.monitor.since(seen.began)
    width = stage.screen.width - 34
    stage.screen.show(
        pictures.course("collector", [look.collector for look in looks], width),
        pictures.course("circuit breaker", [look.breaker for look in looks], width),
        pictures.curve("events waiting", [float(look.waiting) for look in looks], "yellow", width),
        pictures.curve("requests per s", [look.rate for look in looks], "bright_blue", width),
        pictures.curve("p95 in ms", [look.p95 for look in looks], "cyan", width, top=20.0),
    )


def _judge(stage: Stage, seen: Outage, waited: Waited) -> None:
    before = stage.load.summary(seen.began, seen.killed)
    during = stage.load.summary(seen.killed, seen.back)
    stage.claims.check(
        "collector dead: the breaker opens",
        seen.opened is not None,
        "never" if seen.opened is None else f"after {seen.opened - seen.killed:.1f} s",
    )
    stage.claims.check(
        "collector dead: what is to be sent waits",
        # Two events to a span; those of the first moment may have left before the collector died.
        seen.waiting > 2 * seen.spans * 0.9,
        f"{number(seen.waiting)} events of {number(seen.spans)} spans",
    )
    stage.claims.check(
        "collector dead: as many answers as before",
        during.rate > (1 - TOLERANCE) * min(before.rate, stage.options.rate) > 0,
        f"{before.rate:.1f}/s before, {during.rate:.1f}/s then",
        waited,
    )
    stage.claims.check(
        "collector dead: as fast as before (median)",
        during.p50 <= before.p50 * SLACK + SLACK_MS,
        f"{before.p50:.1f} ms before, {during.p50:.1f} ms then",
        waited,
    )
    stage.claims.check(
        "collector back: the breaker closes",
        seen.closed is not None,
        "never" if seen.closed is None else f"after {seen.closed - seen.back:.1f} s",
    )
    stage.claims.check(
        "collector back: all that waited arrives",
        seen.arrived is not None,
        "no" if seen.arrived is None else f"after {seen.arrived - seen.back:.1f} s",
    )
