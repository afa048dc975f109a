"""What to have room for: bytes of what waits, by tracemalloc, and what a core can do in a second."""

from __future__ import annotations

import gc
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

from benchmarks import memory, ours
from benchmarks.peers import LABELS
from otpylib_telemetry import execute, span
from otpylib_telemetry_otel.backend import OtelBackend
from otpylib_telemetry_prometheus.backend import PrometheusBackend

if TYPE_CHECKING:
    from collections.abc import Callable

_SECOND = 1_000_000_000


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


def _per_second(rounds: int, count: int) -> list[tuple[str, float]]:
    name, queue, exporter = ours.exporter_of(OtelBackend)
    encode = ours.encoder()
    page_name, page_queue, page = ours.exporter_of(PrometheusBackend)

    def spans() -> None:
        with ours.reading(queue):
            for _ in range(0, count, 200):
                for _ in range(200):
                    with span(f"{name}.operation", LABELS):
                        pass
                ours.collect(queue, exporter, encode)

    def counted() -> None:
        with ours.reading(page_queue):
            for _ in range(0, count, 200):
                for _ in range(200):
                    execute(f"{page_name}.sold", {"count": 1}, LABELS)
                ours.collect(page_queue, page)

    return [
        ("events into counters", 1 / _least(counted, count, rounds)),
        ("operations into spans, encoded for OTLP", 1 / _least(spans, count, rounds)),
    ]


def table(rounds: int, count: int) -> str:
    """Measure, and return the results as two Markdown tables."""
    rows = [
        ("event in a queue, four labels", _queued_events(count)),
        ("operation in a queue (two events)", _queued_operations(count)),
        ("span that waits for a collector", _finished_spans(count)),
        ("open span", memory.own()),
    ]
    rates = _per_second(rounds, count)
    return "\n".join(
        [
            "| memory of one | bytes | 100,000 of them |",
            "|---|---:|---:|",
            *(f"| {what} | {size:.0f} | {size * 100_000 / 2**20:.0f} MiB |" for what, size in rows),
            "",
            "| one core does | in a second |",
            "|---|---:|",
            *(f"| {what} | {round(rate, -3):,.0f} |" for what, rate in rates),
        ]
    )
