"""What a scrape costs: 20,000 counters and 20,000 histograms, against prometheus_client.

Both have the same series with the same numbers, and both write the same page, which is shown by reading both
pages with prometheus_client's parser. Measured are pages after which nothing, or everything, has changed, the
first page, and how long an event loop cannot run anything else while one is written. The whole exporter is
measured by :mod:`benchmarks.endpoint`.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import harness
from benchmarks.harness import Case, Comparison
from otpylib_telemetry.aggregation.metric_spec import Kind, MetricSpec
from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry.metrics.buckets import DURATION_BOUNDS
from otpylib_telemetry_prometheus.exposition.negotiation import CLASSIC, OPENMETRICS, TextFormat
from otpylib_telemetry_prometheus.exposition.writer import Exposition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SERIES = 20_000

#: Rounds with the real number of series; prometheus_client needs seconds for each.
ROUNDS = 5

_KEYS = ("method", "route", "status")
_TICK = 0.001


def _labels(number: int) -> tuple[str, str, str]:
    return ("GET" if number % 2 else "POST", f"/orders/{number}", "200")


class Ours:
    """Our series, and our page.

    Args:
        series: How many counters, and how many histograms.
        store: Where they are; a store of their own if there is none.
    """

    def __init__(self, series: int = SERIES, store: SeriesStore | None = None) -> None:
        self.store = SeriesStore(series) if store is None else store
        self.exposition = Exposition()
        counter: Any = self.store.declare(
            MetricSpec(kind=Kind.COUNTER, name="requests_total", description="Requests.")
        )
        histogram: Any = self.store.declare(
            MetricSpec(
                kind=Kind.HISTOGRAM,
                name="request_seconds",
                description="How long requests take.",
                bounds=DURATION_BOUNDS,
            )
        )
        named = [tuple(zip(_KEYS, _labels(number), strict=True)) for number in range(series)]
        self.counters = [counter.at(labels) for labels in named]
        self.histograms = [histogram.at(labels) for labels in named]

    def measure(self, seconds: float) -> None:
        """Count one, and observe a time, for every series."""
        for number, (counter, histogram) in enumerate(zip(self.counters, self.histograms, strict=True)):
            counter.add(1)
            histogram.observe(seconds * (number % 1000))

    def page(self, form: TextFormat = CLASSIC) -> bytes:
        """Return the page."""
        return b"".join(self.exposition.render(form, [self.store]))

    def first_page(self) -> bytes:
        """Return the page as a process writes its first."""
        self.exposition = Exposition()
        return self.page()

    async def scrape(self) -> None:
        """Write a page as the exporter does it, on the event loop."""
        for _ in self.exposition.render(CLASSIC, [self.store]):
            await asyncio.sleep(0)


class Theirs:
    """prometheus_client's series, and its page.

    Args:
        series: As for :class:`Ours`.
        prefix: What the names begin with.
    """

    def __init__(self, series: int = SERIES, prefix: str = "") -> None:
        self.registry = CollectorRegistry()
        counter = Counter(f"{prefix}requests", "Requests.", _KEYS, registry=self.registry)
        histogram = Histogram(
            f"{prefix}request_seconds",
            "How long requests take.",
            _KEYS,
            registry=self.registry,
            buckets=DURATION_BOUNDS,
        )
        self.counters = [counter.labels(*_labels(number)) for number in range(series)]
        self.histograms = [histogram.labels(*_labels(number)) for number in range(series)]

    def measure(self, seconds: float) -> None:
        """Count one, and observe a time, for every series."""
        for number, (counter, histogram) in enumerate(zip(self.counters, self.histograms, strict=True)):
            counter.inc()
            histogram.observe(seconds * (number % 1000))

    def page(self) -> bytes:
        """Return the page."""
        return generate_latest(self.registry)

    async def scrape(self) -> None:
        """Write a page on the event loop, where a handler of an asyncio server would."""
        self.page()

    async def scrape_in_thread(self) -> None:
        """Write a page in a thread, as prometheus_client's own server does."""
        await asyncio.to_thread(self.page)


def read(page: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return what is on a page: the value by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def _timed(cases: dict[str, tuple[Callable[[], object], Callable[[], object]]], rounds: int) -> list[Case]:
    """Measure calls in turns; what prepares each is not measured."""
    measured = [Case(name, lambda _count: None, 1) for name in cases]
    for _ in range(rounds):
        for case, (prepare, run) in zip(measured, cases.values(), strict=True):
            prepare()
            gc.collect()
            began = time.process_time_ns()
            run()
            case.samples.append(time.process_time_ns() - began)
    return measured


def comparisons(ours: Ours, theirs: Theirs, rounds: int, series: int) -> list[Comparison]:
    """Measure pages.

    Args:
        ours: Our series.
        theirs: The same of prometheus_client.
        rounds: Of which the median is taken.
        series: How many counters, and how many histograms, there are.
    """

    def settled() -> None:
        ours.page()
        ours.page()

    def settled_openmetrics() -> None:
        ours.page(OPENMETRICS)
        ours.page(OPENMETRICS)

    def changed() -> None:
        ours.page()
        ours.measure(0.0011)

    nothing = lambda: None  # noqa: E731 - a column of the table below
    peer = "`generate_latest` (prometheus_client)"
    classic = _timed(
        {
            peer: (nothing, theirs.page),
            "nothing changed since the last page": (settled, ours.page),
            "every series changed": (changed, ours.page),
            "first page": (nothing, ours.first_page),
        },
        rounds,
    )
    openmetrics = _timed(
        {
            peer: (nothing, lambda: generate_openmetrics(theirs.registry)),
            "nothing changed since the last page": (
                settled_openmetrics,
                lambda: ours.page(OPENMETRICS),
            ),
        },
        rounds,
    )
    return [
        Comparison(f"A page of {series} counters and {series} histograms, classic text", classic),
        Comparison("The same page, OpenMetrics", openmetrics),
    ]


async def longest_gap(scrape: Callable[[], Awaitable[None]]) -> float:
    """Return the longest time, in seconds, a task that wants to run every millisecond has to wait."""
    gaps: list[float] = []
    done = asyncio.Event()

    async def tick() -> None:
        while not done.is_set():
            began = time.perf_counter()
            await asyncio.sleep(_TICK)
            gaps.append(time.perf_counter() - began - _TICK)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(_TICK * 5)
    await scrape()
    done.set()
    await ticking
    return max(gaps)


def stalls(ours: Ours, theirs: Theirs, rounds: int) -> dict[str, float]:
    """Return by what writes a page the median of the longest gaps, in milliseconds."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, scrape in {
            "`generate_latest` on the loop (prometheus_client)": theirs.scrape,
            "`generate_latest` in a thread (prometheus_client)": theirs.scrape_in_thread,
            "otpylib-telemetry, on the loop": ours.scrape,
        }.items():
            ours.measure(0.0007)
            found.setdefault(name, []).append(asyncio.run(longest_gap(scrape)) * 1000)
    return {name: statistics.median(gaps) for name, gaps in found.items()}


def table(rounds: int = ROUNDS, series: int = SERIES) -> str:
    """Measure, and return the result as Markdown.

    Args:
        rounds: Of which the median is taken.
        series: How many counters, and how many histograms.

    Raises:
        AssertionError: The pages differ.
    """
    disable_created_metrics()
    ours, theirs = Ours(series), Theirs(series)
    for seconds in (0.004, 0.01):
        ours.measure(seconds)
        theirs.measure(seconds)
    if read(ours.page()) != read(theirs.page()):
        raise AssertionError("the pages differ")
    measured = comparisons(ours, theirs, rounds, series)
    pages = harness.table(measured)
    faster = ["| a page | times faster than prometheus_client |", "|---|---:|"]
    for comparison in measured:
        peer, *cases = comparison.cases
        faster += [f"| {comparison.title}: {one.name} | {peer.median / one.median:.0f} |" for one in cases]
    gaps = stalls(ours, theirs, rounds)
    rows = ["| longest gap a task sees during a scrape, everything changed | ms |", "|---|---:|"]
    rows += [f"| {name} | {gap:.1f} |" for name, gap in gaps.items()]
    return "\n\n".join([pages, "\n".join(faster), "\n".join(rows)])
