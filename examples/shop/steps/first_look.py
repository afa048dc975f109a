"""Step 1: traces, metrics and ledgers of the shop as it works."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from examples.shop import pictures
from examples.shop.scrape import operations
from examples.shop.stage import until
from examples.shop.traces import Trace

if TYPE_CHECKING:
    from examples.shop.load import Answer
    from examples.shop.stage import Stage


async def run(stage: Stage) -> None:
    """Watch the shop for a while, and show what its telemetry says."""
    stage.screen.step(
        "1 · What telemetry shows of the shop",
        f"{stage.options.rate:.0f} requests per second. One request is one trace, across every server "
        "that had a part in it; the bank fails at times.",
    )
    await stage.watch(1.0)
    begin = time.monotonic()
    before = await stage.scrape()
    await stage.watch(4.0)
    after = await stage.scrape()
    end = time.monotonic()
    await stage.load.answered(end)
    await stage.settled()
    answers = stage.load.between(begin, end)
    await until(lambda: _whole(stage, answers) == len(answers))
    _show_traces(stage, answers)
    if before and after:
        page = f"{after.bytes / 1024:.0f} KiB in {after.seconds * 1000:.0f} ms"
        stage.screen.say(f"the metrics, as scraped over HTTP ({len(after.samples)} samples, {page}):")
        stage.screen.show(pictures.busiest(operations(before, after)))
    stage.screen.say("the exporters' ledgers, where every event is in exactly one place:")
    stage.screen.show(pictures.ledgers(stage.monitor.stats.values()))
    stage.say_latency("the customers saw", begin, end)
    stage.screen.log(stage.log.news())
    stage.full.append((begin, end))
    _judge_traces(stage, answers)


def _show_traces(stage: Stage, answers: list[Answer]) -> None:
    traces = stage.monitor.archive.traces
    whole = [
        (answer, traces[answer.trace_id])
        for answer in answers
        if answer.trace_id in traces and traces[answer.trace_id].is_whole
    ]
    drawn = []
    for kind, failed in (("item", False), ("checkout", False), ("checkout", True)):
        fitting = [trace for answer, trace in whole if answer.kind == kind and answer.failed is failed]
        if fitting:
            typical = sorted(fitting, key=lambda trace: trace.duration_ns)[len(fitting) // 2]
            drawn.append(pictures.waterfall(typical, stage.screen.width))
    stage.screen.say("some traces, as they arrived at the collector:")
    stage.screen.show(*drawn)


def _whole(stage: Stage, answers: list[Answer]) -> int:
    """Count the answers whose trace has arrived with every span it had in the application."""
    traces, expected = stage.monitor.archive.traces, stage.spans_by_trace()
    found = [(traces.get(answer.trace_id, Trace()), answer.trace_id) for answer in answers]
    return sum(
        trace.is_whole and trace.spans.keys() == expected.get(trace_id, set()) for trace, trace_id in found
    )


def _judge_traces(stage: Stage, answers: list[Answer]) -> None:
    archive = stage.monitor.archive
    whole = _whole(stage, answers)
    largest = max((len(archive.traces.get(answer.trace_id, Trace()).spans) for answer in answers), default=0)
    stage.claims.check(
        "each request is one whole trace",
        answers and whole == len(answers),
        f"{whole} of {len(answers)}, up to {largest} spans",
    )
    failed = [answer for answer in answers if answer.failed]
    red = [
        answer for answer in failed if (t := archive.traces.get(answer.trace_id)) and t.root and t.root.failed
    ]
    wrong = sum(
        archive.traces[answer.trace_id].failed
        for answer in answers
        if not answer.failed and answer.trace_id in archive.traces
    )
    stage.claims.check(
        "failed requests are errors there, others not",
        failed and len(red) == len(failed) and not wrong,
        f"{len(red)} of {len(failed)}, and {wrong} of the others",
    )
