"""The same work through otpylib-telemetry: the emitter's part, and the exporter's, without a network.

Events are collected a chunk at a time, as a running exporter does when a batch has come together.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any

from benchmarks.peers import LABELS
from otpylib_telemetry import execute
from otpylib_telemetry.aggregation.exporter_stores import store_in
from otpylib_telemetry.bus import table as table_module
from otpylib_telemetry.exporter.base import ExportContext, Exporter
from otpylib_telemetry.exporter.consumer import CHUNK
from otpylib_telemetry.exporter.queue import EventQueue
from otpylib_telemetry.primitives.clock import wall_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_numbers = itertools.count()


def nobody_listens() -> Callable[[int], None]:
    """``execute`` of an event that has no handler."""

    def run(count: int) -> None:
        for _ in range(count):
            execute("nobody.listens", {"duration_ms": 12.3}, LABELS)

    return run


def chunks(count: int) -> Iterator[range]:
    """Yield so many operations in parts, as many at a time as an exporter reads."""
    for first in range(0, count, CHUNK):
        yield range(min(CHUNK, count - first))


def one_exporter() -> Callable[[int], None]:
    """``execute`` of an event that one exporter queues: what the emitter pays."""
    queue = attached("bench_queue", "queued.*")

    def run(count: int) -> None:
        with reading(queue):
            for chunk in chunks(count):
                for _ in chunk:
                    execute("queued.event", {"duration_ms": 12.3}, LABELS)
                queue.take(CHUNK)

    return run


async def nothing() -> None:
    """Stand for what an exporter may ask of its process."""


def attached(name: str, pattern: str) -> EventQueue:
    """Return a queue that is filled with the events of a pattern.

    Args:
        name: The handler's id.
        pattern: Which events.
    """
    queue = EventQueue(10_000_000)
    table_module.add(name, [pattern], queue.offer, reads_log=True)
    return queue


@contextlib.contextmanager
def reading(*queues: EventQueue) -> Iterator[None]:
    """Have queues filled meanwhile: those of other cases are none of an application's.

    Args:
        *queues: The queues.
    """
    for queue in queues:
        queue.read_log(("*",))
    yield
    for queue in queues:
        queue.leave_log()


def exporter_of(
    exporter_type: type[Exporter[Any]], settings_for: Callable[[str], dict[str, Any]] = lambda _name: {}
) -> tuple[str, EventQueue, Exporter[Any]]:
    """Return an exporter with a queue and an event name that reaches it alone.

    Args:
        exporter_type: The exporter.
        settings_for: Returns what is configured, given the first word of the names of events.
    """
    name = f"bench{next(_numbers)}"
    context = ExportContext(name, "telemetry.bench", {}, nothing, dict)
    queue = attached(name, f"{name}.*")
    settings_type = exporter_type.settings_type
    # One signal at a time: where an exporter makes metrics as well as spans, the spans alone are measured.
    alone: dict[str, Any] = (
        {"metrics": False} if {"metrics", "traces"} <= settings_type.model_fields.keys() else {}
    )
    return name, queue, exporter_type(settings_type(**alone, **settings_for(name)), context)


def collect(
    queue: EventQueue, exporter: Exporter[Any], use: Callable[[list[Any]], object] = lambda _: None
) -> int:
    """Collect what is queued; return how many items came of it."""
    finished = 0
    while batch := queue.take(CHUNK):
        items = exporter.collect(batch, wall_clock.offset_ns()).items
        if items:
            use([item for item, _ in items])
        finished += len(items)
    return finished


def event_to_series(measurement: str = "duration_ms") -> Callable[[int], None]:
    """One event: emitted, queued, collected into a histogram (``duration_ms``) or a counter (``count``)."""
    from otpylib_telemetry_prometheus.backend import PrometheusBackend  # noqa: PLC0415  # one case, one extra

    name, queue, exporter = exporter_of(PrometheusBackend)
    event = f"{name}.request"
    # What ``inc()`` and ``observe`` are given.
    amount = 1 if measurement == "count" else 12.3

    def run(count: int) -> None:
        with reading(queue):
            for chunk in chunks(count):
                for _ in chunk:
                    execute(event, {measurement: amount}, LABELS)
                collect(queue, exporter)

    return run


def event_to_defined(kind: str, measurement: str, **more: Any) -> Callable[[int], None]:
    """One event: emitted, queued, collected into the series of a definition, with the same labels.

    Args:
        kind: The definition's type.
        measurement: What is measured.
        **more: More of the definition.
    """
    from otpylib_telemetry_prometheus.backend import PrometheusBackend  # noqa: PLC0415  # as above

    def settings_for(name: str) -> dict[str, Any]:
        table = {"type": kind, "name": f"{name}.request.{measurement}", "tags": list(LABELS), **more}
        return {"metrics": [table]}

    name, queue, exporter = exporter_of(PrometheusBackend, settings_for)
    event = f"{name}.request"

    def run(count: int) -> None:
        with reading(queue):
            for chunk in chunks(count):
                for _ in chunk:
                    execute(event, {measurement: 12.3}, LABELS)
                collect(queue, exporter)
            if not store_in(exporter.context.memory, exporter.context.name).series_count():
                raise AssertionError("nothing was measured")

    return run


def start_and_stop_to_span(*, encode: bool = False) -> Callable[[int], None]:
    """A start and a stop event with three attributes: emitted, queued, assembled into a span of a batch.

    Args:
        encode: Whether an OTLP request is made of each batch as well.
    """
    from otpylib_telemetry_otel.backend import OtelBackend  # noqa: PLC0415  # as above

    name, queue, exporter = exporter_of(OtelBackend)
    start, stop = f"{name}.request.start", f"{name}.request.stop"
    use = encoder() if encode else (lambda _: None)

    def run(count: int) -> None:
        with reading(queue):
            finished = 0
            for number in range(count):
                execute(start, {}, {"correlation_id": number, **LABELS})
                execute(stop, {"duration_ms": 1.5}, {"correlation_id": number})
                if number % CHUNK == 0:
                    finished += collect(queue, exporter, use)
            finished += collect(queue, exporter, use)
            if finished != count:
                raise AssertionError(f"{finished} spans of {count} operations")

    return run


def encoder() -> Callable[[list[Any]], object]:
    """Return what makes an OTLP request of spans."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  # one case, one extra

    from otpylib_telemetry_otel.otlp.spans import SpanEncoder  # noqa: PLC0415  # as above

    resource = Resource.create({"service.name": "bench"})
    return SpanEncoder(resource).encode
