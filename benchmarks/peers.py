"""The libraries called directly, and the design otpylib's own documentation suggests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from otpylib import gen_server, process
from otpylib.gen_server.data import NoReply, Reply
from otpylib.module import GEN_SERVER, OTPModule
from prometheus_client import CollectorRegistry, Counter, Histogram, Summary

if TYPE_CHECKING:
    from collections.abc import Callable

LABELS = {"method": "GET", "route": "/orders", "status": "200"}


def prometheus_observe() -> Callable[[int], None]:
    """``Histogram.labels(**labels).observe(value)``."""
    histogram = Histogram("request_seconds", "Requests.", list(LABELS), registry=CollectorRegistry())

    def run(count: int) -> None:
        for _ in range(count):
            histogram.labels(**LABELS).observe(0.0123)

    return run


def prometheus_summary() -> Callable[[int], None]:
    """``Summary.labels(**labels).observe(value)``, which keeps a count and a sum, and no quantiles."""
    summary = Summary("request_seconds", "Requests.", list(LABELS), registry=CollectorRegistry())

    def run(count: int) -> None:
        for _ in range(count):
            summary.labels(**LABELS).observe(0.0123)

    return run


def prometheus_increment() -> Callable[[int], None]:
    """``Counter.labels(**labels).inc()``."""
    counter = Counter("requests", "Requests.", list(LABELS), registry=CollectorRegistry())

    def run(count: int) -> None:
        for _ in range(count):
            counter.labels(**LABELS).inc()

    return run


class Discard(SpanExporter):
    """Forgets what it is given."""

    def export(self, spans):
        """Take them."""
        del spans
        return SpanExportResult.SUCCESS


class Encode(SpanExporter):
    """What the OTLP exporter does with a batch, up to the wire."""

    def export(self, spans):
        """Encode them."""
        if not encode_spans(spans).SerializeToString():
            raise AssertionError("nothing was encoded")
        return SpanExportResult.SUCCESS


def sdk_span(*, encode: bool = False) -> Callable[[int], None]:
    """``start_span``, three attributes, ``end``, through a BatchSpanProcessor to an exporter that discards.

    Args:
        encode: Whether the exporter makes an OTLP request of each batch before.
    """
    exporter = Encode() if encode else Discard()
    provider = TracerProvider(resource=Resource.create({"service.name": "bench"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=100_000))
    tracer = provider.get_tracer("bench")

    def run(count: int) -> None:
        for _ in range(count):
            one = tracer.start_span("shop.request")
            for key, value in LABELS.items():
                one.set_attribute(key, value)
            one.end()
        provider.force_flush()

    return run


class _Manager(metaclass=OTPModule, behavior=GEN_SERVER, version="1.0.0"):
    """Passes every event on to the exporter with a cast of its own."""

    async def init(self, _arg):
        return None

    async def handle_call(self, _message, _from, state):
        return (Reply(payload=None), state)

    async def handle_cast(self, message, state):
        await gen_server.cast("bench_exporter", message)
        return (NoReply(), state)

    async def handle_info(self, _message, state):
        return (NoReply(), state)

    async def terminate(self, _reason, _state):
        return None


class _Exporter(metaclass=OTPModule, behavior=GEN_SERVER, version="1.0.0"):
    """Counts what it gets."""

    async def init(self, _arg):
        return 0

    async def handle_call(self, _message, _from, state):
        return (Reply(payload=state), state)

    async def handle_cast(self, _message, state):
        return (NoReply(), state + 1)

    async def handle_info(self, _message, state):
        return (NoReply(), state)

    async def terminate(self, _reason, _state):
        return None


def cast_per_event(loop: asyncio.AbstractEventLoop) -> Callable[[int], None]:
    """One cast per event to a manager, one more from there to an exporter, until the last has arrived."""

    async def start() -> None:
        await gen_server.start(_Exporter, None, name="bench_exporter")
        await gen_server.start(_Manager, None, name="bench_manager")

    async def send(count: int) -> None:
        for _ in range(count):
            message = ("telemetry", "shop.request.stop", {"duration_ms": 12.3}, dict(LABELS))
            await gen_server.cast("bench_manager", message)
        while await _pending():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0)

    async def _pending() -> int:
        from otpylib.runtime import get_runtime  # noqa: PLC0415  # set by the caller

        runtime = get_runtime()
        pids = [process.whereis(name) for name in ("bench_manager", "bench_exporter")]
        return sum(runtime.process_info(pid).message_queue_length for pid in pids)

    async def in_process(func, *args) -> None:
        done = loop.create_future()

        async def body() -> None:
            await func(*args)
            done.set_result(None)

        await process.spawn(body)
        await done

    loop.run_until_complete(in_process(start))
    return lambda count: loop.run_until_complete(in_process(send, count))
