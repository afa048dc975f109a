"""Step 5: what the customers, the application and the backends counted, compared."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from examples.shop import pictures
from examples.shop.pictures import number
from examples.shop.stage import until

if TYPE_CHECKING:
    from examples.shop.scrape import Sample, Scrape
    from examples.shop.stage import Stage


async def run(stage: Stage) -> None:
    """Stop the customers, and compare."""
    stage.screen.step(
        "5 · the books",
        "The customers pause. What they, the application and the backends counted is compared.",
    )
    await stage.load.stop()
    scraped = await stage.scrape()
    await stage.settled()
    page = _counters_of_the_shop(scraped)
    await until(lambda: not any(_left(stage).values()) and not _untold(stage, page), stage.patience)
    stage.screen.show(pictures.ledgers(stage.monitor.stats.values()))
    stage.screen.say(f"{number(_points(stage))} of what otel accepted are data points of metrics, not events")
    stage.screen.log(stage.log.news())
    _judge_answers(stage, scraped)
    _judge_metrics(stage, page)
    _judge_spans(stage)
    _judge_ledgers(stage)
    errors = stage.log.errors()
    stage.claims.check(
        "no error in the log",
        not errors,
        f"{len(errors)} in {len(stage.log.lines)} lines" + (f": {errors[0].text[:80]}" if errors else ""),
    )


def _judge_answers(stage: Stage, scraped: Scrape | None) -> None:
    answers = stage.load.answers
    wrong = Counter((answer.kind, answer.status) for answer in answers if not answer.fits)
    stage.claims.check(
        "every request was answered as it should be",
        answers and not wrong and len(answers) == stage.load.sent,
        f"{number(len(answers))} of {number(stage.load.sent)}" + _said_of(wrong),
    )
    seen = Counter(str(answer.status) for answer in answers)
    name = "shop_http_request_duration_seconds_count"
    counted = {status: int(scraped.total(name, status=status)) for status in seen} if scraped else {}
    agree = scraped is not None and counted == seen and scraped.total(name) == len(answers)
    stage.claims.check(
        "the metrics count what the customers count",
        agree,
        f"{number(len(answers))}, by status too" if agree else _compared(counted, seen),
    )


def _said_of(wrong: Counter[tuple[str, int]]) -> str:
    """Say which answers were wrong: "; wrong: 3 to 'checkout' with status 500"."""
    said = [
        f"{number(count)} to {kind!r} with " + (f"status {status}" if status else "no answer")
        for (kind, status), count in sorted(wrong.items())
    ]
    return f"; wrong: {', '.join(said)}" if said else ""


def _compared(counted: dict[str, int], seen: Counter[str]) -> str:
    """Say by status how many the metrics counted, and the customers."""
    if not counted:
        return "the metrics could not be read"
    return ", ".join(
        f"{number(counted[status])} of {number(count)} with status {status}"
        for status, count in sorted(seen.items())
    )


def _counters_of_the_shop(scraped: Scrape | None) -> dict[Sample, float]:
    counters = scraped.counters() if scraped else {}
    return {sample: value for sample, value in counters.items() if sample[0].startswith("shop_")}


def _untold(stage: Stage, page: dict[Sample, float]) -> int:
    """Count the samples of a page that the collector was told otherwise, or not yet."""
    told = stage.receiver.samples
    return sum(told.get(sample) != value for sample, value in page.items())


def _judge_metrics(stage: Stage, page: dict[Sample, float]) -> None:
    equal = len(page) - _untold(stage, page)
    stage.claims.check(
        "the collector has the very same metrics",
        page and equal == len(page),
        f"{number(equal)} of {number(len(page))} samples",
    )


def _judge_spans(stage: Stage) -> None:
    archive, full = stage.monitor.archive, {a.trace_id for a in stage.load.answers if stage.is_full(a)}
    due = {span for span, seen in stage.witness.spans.items() if seen.trace_id in full}
    arrived = due & archive.span_ids
    strange = archive.span_ids - stage.witness.spans.keys()
    stage.claims.check(
        "every span arrived once (sampling aside)",
        due and arrived == due and not archive.duplicates and not strange,
        f"{number(len(arrived))} of {number(len(due))}, {archive.duplicates} twice",
    )


def _judge_ledgers(stage: Stage) -> None:
    monitor, stats = stage.monitor, stage.monitor.stats
    stage.claims.check(
        "the ledgers balanced at every look",
        monitor.books and not monitor.unbalanced,
        f"{monitor.books - len(monitor.unbalanced)} of {monitor.books}",
    )
    left = _left(stage)
    stage.claims.check(
        "in the end nothing waits in a queue",
        not any(left.values()),
        _each(left),
    )
    lost = {name: books["rejected"] + sum(books["dropped"].values()) for name, books in stats.items()}
    stage.claims.check(
        "and nothing was dropped or rejected",
        not any(lost.values()),
        _each(lost),
    )
    accepted = stats["otel_exporter"]["accepted"] - _points(stage)
    stage.claims.check(
        "every event the shop emitted was accepted",
        accepted == stage.witness.events,
        f"{number(accepted)} of {number(stage.witness.events)}",
    )


def _points(stage: Stage) -> int:
    """Return how many data points were read from the series; each is in the books, like an event."""
    points: int = stage.monitor.stats["otel_exporter"].get("metrics", {}).get("points", 0)
    return points


def _left(stage: Stage) -> dict[str, int]:
    return {name: books["queued"] + books["in_flight"] for name, books in stage.monitor.stats.items()}


def _each(counts: dict[str, int]) -> str:
    return ", ".join(f"{name.removesuffix('_exporter')} {number(count)}" for name, count in counts.items())
