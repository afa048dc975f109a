"""What to have room for: bytes of what waits, by tracemalloc, and CPU time of what is done, for a core."""

from __future__ import annotations

import gc
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

from benchmarks import memory, ours, scrape
from benchmarks.peers import LABELS
from otpylib_telemetry import execute, span
from otpylib_telemetry_otel.backend import OtelBackend
from otpylib_telemetry_prometheus.backend import PrometheusBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.exporter.queue import EventQueue

_SECOND = 1_000_000_000
_CHUNK = 200


def _bytes_of(make: Callable[[], object], count: int) -> float:
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = make()
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return (after - before) / count


def _queued_events(count: int) -> float:
    """Events in the log of events, with one measurement and labels of their own."""
    queue = ours.attached("sizing_events", "sizing.event")

    def fill() -> object:
        queue.read_log(("sizing.event",))
        for number in range(count):
            execute("sizing.event", {"duration_ms": number / 10}, {**LABELS, "order": f"order-{number}"})
        return queue

    found = _bytes_of(fill, count)
    queue.take(count)
    queue.leave_log()
    return found


def _queued_operations(count: int) -> float:
    """Operations written as ``with span()``: each is two events."""
    queue = ours.attached("sizing_operations", "sizing.operation.*")

    def fill() -> object:
        queue.read_log(("sizing.operation.*",))
        for number in range(count):
            with span("sizing.operation", {**LABELS, "order": f"order-{number}"}):
                pass
        return queue

    found = _bytes_of(fill, count)
    queue.take(2 * count)
    queue.leave_log()
    return found


def _finished_spans(count: int) -> float:
    """Spans that are finished and wait for the collector, which is down."""
    name, queue, exporter = ours.exporter_of(OtelBackend)
    kept: list[Any] = []

    def fill() -> object:
        with ours.reading(queue):
            for number in range(count):
                with span(f"{name}.operation", {**LABELS, "order": f"order-{number}"}):
                    pass
                if not number % 200:
                    ours.collect(queue, exporter, kept.extend)
            ours.collect(queue, exporter, kept.extend)
        return kept

    return _bytes_of(fill, count)


def _least(run: Callable[[], object], count: int, rounds: int) -> float:
    """Return seconds of CPU for one, the least of some rounds: what else the machine does is not ours."""
    found = []
    for _ in range(rounds):
        begun = time.process_time_ns()
        run()
        found.append((time.process_time_ns() - begun) / count / _SECOND)
    return min(found)


def _in_chunks(count: int, do: Callable[[], None], collect: Callable[[], object]) -> Callable[[], None]:
    """Return what does something so often, and has it collected from time to time, as an exporter does."""

    def run() -> None:
        for _ in range(0, count, _CHUNK):
            for _ in range(_CHUNK):
                do()
            collect()

    return run


def _of_events(rounds: int, count: int) -> list[tuple[str, float]]:
    """Return seconds of CPU that one of each takes, all threads of the process together."""
    name, queue, exporter = ours.exporter_of(OtelBackend)
    page_name, page_queue, page = ours.exporter_of(PrometheusBackend)
    encode = ours.encoder()

    def operation() -> None:
        with span(f"{name}.operation", LABELS):
            pass

    def counted() -> None:
        execute(f"{page_name}.counted", {"count": 1}, LABELS)

    def timed() -> None:
        execute(f"{page_name}.timed", {"duration_ms": 12.3}, LABELS)

    def to_page() -> None:
        ours.collect(page_queue, page)

    def to_spans() -> None:
        ours.collect(queue, exporter, encode)

    def to_both() -> None:
        to_spans()
        to_page()

    def least(do: Callable[[], None], collect: Callable[[], None], *queues: EventQueue) -> float:
        with ours.reading(*queues):
            return _least(_in_chunks(count, do, collect), count, rounds)

    return [
        ("event into a counter", least(counted, to_page, page_queue)),
        ("event into a histogram", least(timed, to_page, page_queue)),
        ("operation into a span, encoded for OTLP", least(operation, to_spans, queue)),
        (
            "operation into a span, encoded, and into the metrics of a page",
            least(operation, to_both, queue, page_queue),
        ),
    ]


def _of_a_scrape(rounds: int, series: int) -> list[tuple[str, float]]:
    """Return the same of a series that is written: of so many counters, and as many histograms."""
    scraped = scrape.Ours(series)

    def changed() -> float:
        scraped.measure(0.001)
        begun = time.process_time_ns()
        scraped.page()
        return (time.process_time_ns() - begun) / (2 * series) / _SECOND

    changed()
    return [
        ("series written for a scrape, all of them changed", min(changed() for _ in range(rounds))),
        ("series written for a scrape, none of them changed", _least(scraped.page, 2 * series, rounds)),
    ]


def table(rounds: int, count: int) -> str:
    """Measure, and return the results as two Markdown tables."""
    rows = [
        ("event in a queue, four labels", _queued_events(count)),
        ("operation in a queue (two events)", _queued_operations(count)),
        ("span that waits for a collector", _finished_spans(count)),
        ("open span", memory.own()),
    ]
    return "\n".join(
        [
            "| memory of one | bytes | 100,000 of them |",
            "|---|---:|---:|",
            *(f"| {what} | {size:.0f} | {size * 100_000 / 2**20:.0f} MiB |" for what, size in rows),
            "",
            "| what | CPU of one | one core does in a second |",
            "|---|---:|---:|",
            *(
                f"| {what} | {cost * 1e6:.2f} µs | {round(1 / cost, -3):,.0f} |"
                for what, cost in (*_of_events(rounds, count), *_of_a_scrape(rounds, count))
            ),
        ]
    )
