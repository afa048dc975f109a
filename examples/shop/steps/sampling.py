"""Step 2: the share of traces that are sent, changed in the file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.text import Text

from examples.shop import pictures
from examples.shop.configuration import edit
from examples.shop.pictures import GOOD
from examples.shop.processor import Stopwatch
from examples.shop.stage import MARGIN, SHORT_PATIENCE, until

if TYPE_CHECKING:
    from examples.shop.load import Answer
    from examples.shop.stage import Stage

#: What is tried instead of 1.0.
LOW_RATE = 0.2

#: Events that a hundred and fifty requests per second have open at a time, with much room.
UNDER_WAY = 150


async def run(stage: Stage) -> None:
    """Edit the file, watch, and edit it back."""
    stage.screen.step(
        f"2 · sampling_rate 1.0 → {LOW_RATE}, by editing config.toml",
        "A fifth of the traces arrives from then on; those in which something failed arrive all the same.",
    )
    before_begin, before_end = stage.full[0]
    stopwatch = Stopwatch()
    applied = await _edit_sampling(stage, LOW_RATE)
    first = stopwatch.read()
    begin = time.monotonic()
    await stage.watch(4.5)
    end = time.monotonic()
    await stage.load.answered(end)
    await stage.settled()
    stopwatch = Stopwatch()
    restored = await _edit_sampling(stage, 1.0)
    second = stopwatch.read()
    stage.full.append((time.monotonic() + MARGIN, float("inf")))
    await _decided(stage)
    await stage.settled()
    low = stage.load.between(begin, end)
    failed = [answer for answer in low if answer.failed]
    await until(lambda: _are_whole(stage, failed))
    rows = [
        [
            *_share(stage, "1.0", stage.load.between(before_begin, before_end)),
            *_latency(stage, before_begin, before_end),
        ],
        [*_share(stage, str(LOW_RATE), low), *_latency(stage, begin, end)],
    ]
    heads = ["sampling", "requests", "traces arrived", "share", "failed", "arrived", "p50", "p95"]
    stage.screen.gap()
    stage.screen.show(pictures.comparison(heads, rows))
    stage.screen.log(stage.log.news())
    stage.claims.check(
        "a saved edit is in force within 2 seconds",
        applied is not None and restored is not None and max(applied, restored) < 2.0,  # noqa: PLR2004  # as it says
        " and ".join("never" if t is None else f"{t:.2f} s" for t in (applied, restored)),
        waited=max(first, second, key=lambda waited: waited.seconds),
    )
    _judge(stage, low)


async def _edit_sampling(stage: Stage, rate: float) -> float | None:
    """Edit the file; return the seconds until the change was in force, or None."""
    saved = time.monotonic()
    old, new = edit(stage.config, "telemetry.otel", "sampling_rate", rate)
    stage.screen.say(
        Text.assemble("config.toml: ", (old, "red"), " → ", (new.partition("= ")[2], GOOD)), saved
    )
    return await stage.applied(saved, "otel_exporter", "sampling_rate")


async def _decided(stage: Stage) -> None:
    """Wait until only what is under way is held: a trace is decided about when it is over."""
    await until(lambda: stage.monitor.stats["otel_exporter"]["held"] < UNDER_WAY, SHORT_PATIENCE)


def _share(stage: Stage, name: str, answers: list[Answer]) -> list[Any]:
    traces = stage.monitor.archive.traces
    arrived = [answer for answer in answers if (t := traces.get(answer.trace_id)) and t.root]
    failed = [answer for answer in answers if answer.failed]
    kept = [answer for answer in failed if answer in arrived]
    share = len(arrived) / max(1, len(answers))
    return [name, len(answers), len(arrived), f"{share:.1%}", len(failed), len(kept)]


def _latency(stage: Stage, begin: float, end: float) -> tuple[str, str]:
    return pictures.latency_cells(stage.load.summary(begin, end))[1:3]


def _judge(stage: Stage, answers: list[Answer]) -> None:
    traces, expected = stage.monitor.archive.traces, stage.spans_by_trace()
    fine = [answer for answer in answers if not answer.failed]
    arrived = [answer for answer in fine if answer.trace_id in traces]
    share = len(arrived) / max(1, len(fine))
    # Four and a half standard deviations of a share among so many: once in some hundred thousand runs.
    tolerance = 4.5 * (LOW_RATE * (1 - LOW_RATE) / max(1, len(fine))) ** 0.5
    stage.claims.check(
        f"at {LOW_RATE}, that share of traces arrives",
        fine and abs(share - LOW_RATE) <= tolerance,
        f"{share:.1%} of {len(fine)}, chance is ±{tolerance:.1%}",
    )
    whole = [answer for answer in answers if _is_whole(stage, answer, expected)]
    stage.claims.check(
        "and those arrive whole",
        set(arrived) <= set(whole),
        f"{len(set(arrived) & set(whole))} of {len(arrived)} traces",
    )
    failed = [answer for answer in answers if answer.failed]
    stage.claims.check(
        "every trace with a failure arrives, whole",
        failed and set(failed) <= set(whole),
        f"{len(set(failed) & set(whole))} of {len(failed)} traces",
    )


def _are_whole(stage: Stage, answers: list[Answer]) -> bool:
    expected = stage.spans_by_trace()
    return all(_is_whole(stage, answer, expected) for answer in answers)


def _is_whole(stage: Stage, answer: Answer, expected: dict[str, set[str]]) -> bool:
    trace = stage.monitor.archive.traces.get(answer.trace_id)
    return trace is not None and trace.spans.keys() == expected.get(answer.trace_id)
