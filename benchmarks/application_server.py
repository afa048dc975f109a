"""One small aiohttp application: with the suite, with the libraries called directly, or with nothing.

A process of its own, so that its CPU time is that of what it serves. Asked by a line on its standard input,
it exports everything that is held, and says how much CPU time the process has taken until then.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from aiohttp import web

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType

#: What both operations of a request carry.
REQUEST = {"method": "GET", "route": "/orders/{order}"}
LOOK_UP = {"table": "orders", "cached": True}

ORDERS = {str(number): {"order": number, "item": "tea", "quantity": 2} for number in range(100)}


EXPORTERS = ("otel_exporter", "prometheus_exporter")


class Telemetry(Protocol):
    """What a variant of the application does around its work."""

    async def start(self, endpoint: str) -> str:
        """Start, given the collector's address; return that of the page of metrics."""

    def application(self) -> web.Application:
        """Return what is served."""

    async def flush(self) -> None:
        """Export what is held."""


def _serving(handler: Any) -> web.Application:
    app = web.Application()
    app.add_routes([web.get("/orders/{order}", handler)])
    return app


class Nothing:
    """No telemetry."""

    async def start(self, _endpoint: str) -> str:
        """Start nothing."""
        return ""

    def application(self) -> web.Application:
        """Return what is served."""

        async def show(request: web.Request) -> web.Response:
            order = ORDERS[request.match_info["order"]]
            return web.json_response(order)

        return _serving(show)

    async def flush(self) -> None:
        """Export nothing."""


class Suite:
    """``span()``, and both exporters as they are, but that the first makes spans alone."""

    settings: ClassVar[dict[str, Any]] = {}

    async def start(self, endpoint: str) -> str:
        """Start otpylib and both exporters."""
        from otpylib import gen_server  # noqa: PLC0415  # one variant, its libraries
        from otpylib.runtime import set_runtime  # noqa: PLC0415
        from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend  # noqa: PLC0415

        from otpylib_telemetry_otel import start_otel_exporter  # noqa: PLC0415
        from otpylib_telemetry_prometheus import start_prometheus_exporter  # noqa: PLC0415

        backend = AsyncIOBackend()
        await backend.initialize()
        set_runtime(backend)
        # Spans over OTLP, metrics on the page: as with the libraries.
        ours = {"endpoint": endpoint, "protocol": "http/protobuf", "metrics": False, **self.settings}
        await start_otel_exporter(ours)
        await start_prometheus_exporter({"port": 0})
        while True:
            stats = [await gen_server.call(name, ("get_stats",), timeout=30) for name in EXPORTERS]
            if all(one["state"] == "running" for one in stats):
                return str(stats[1]["url"])
            await asyncio.sleep(0.01)

    def application(self) -> web.Application:
        """Return what is served."""
        from otpylib_telemetry import span  # noqa: PLC0415  # as above

        async def show(request: web.Request) -> web.Response:
            with span("shop.request", REQUEST):
                with span("shop.look_up", LOOK_UP):
                    order = ORDERS[request.match_info["order"]]
                return web.json_response(order)

        return _serving(show)

    async def flush(self) -> None:
        """Have both exporters export."""
        from otpylib import gen_server  # noqa: PLC0415  # as above

        # The application runs outside every process of otpylib: a call brings a mailbox of its own.
        for exporter in EXPORTERS:
            await gen_server.call(exporter, ("flush", 30.0), timeout=60)


class SuiteInLargeBatches(Suite):
    """The same with as many spans to a request as the SDK has by default."""

    settings: ClassVar[dict[str, Any]] = {"batch_size": 512}


class Libraries:
    """The OpenTelemetry SDK and prometheus_client, with as little around them as there can be."""

    async def start(self, endpoint: str) -> str:
        """Start the exporting thread of one and the server of the other."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415  # as above
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from prometheus_client import start_http_server  # noqa: PLC0415

        self._provider = TracerProvider(shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        server, _ = start_http_server(0, addr="127.0.0.1")
        return f"http://127.0.0.1:{server.server_port}/metrics"

    def _instrument(self, name: str, attributes: dict[str, Any]) -> type[AbstractContextManager[None]]:
        """Return what an operation is put inside of: a span, a gauge, a histogram."""
        from prometheus_client import Gauge, Histogram  # noqa: PLC0415  # as above

        labels = list(attributes)
        metric = name.replace(".", "_")
        in_flight = Gauge(f"{metric}_in_flight", "Under way.", labels)
        seconds = Histogram(f"{metric}_duration_seconds", "How long it took.", [*labels, "outcome"])
        start_span = self._provider.get_tracer("shop").start_as_current_span

        class Operation:
            __slots__ = ("began", "span")

            def __enter__(self) -> None:
                in_flight.labels(**attributes).inc()
                self.began = time.perf_counter()
                self.span = start_span(name, attributes=attributes)
                self.span.__enter__()

            def __exit__(
                self,
                kind: type[BaseException] | None,
                error: BaseException | None,
                trace: TracebackType | None,
            ) -> None:
                self.span.__exit__(kind, error, trace)
                in_flight.labels(**attributes).dec()
                outcome = "success" if kind is None else "error"
                seconds.labels(**attributes, outcome=outcome).observe(time.perf_counter() - self.began)

        return Operation

    def application(self) -> web.Application:
        """Return what is served."""
        operation = self._instrument("shop.request", REQUEST)
        look_up = self._instrument("shop.look_up", LOOK_UP)

        async def show(request: web.Request) -> web.Response:
            with operation():
                with look_up():
                    order = ORDERS[request.match_info["order"]]
                return web.json_response(order)

        return _serving(show)

    async def flush(self) -> None:
        """Have the processor export; the page has everything as it is."""
        await asyncio.to_thread(self._provider.force_flush)


VARIANTS: dict[str, type[Telemetry]] = {
    "nothing": Nothing,
    "suite": Suite,
    "suite in large batches": SuiteInLargeBatches,
    "libraries": Libraries,
}


async def serve(variant: str, endpoint: str) -> None:
    """Serve until standard input ends.

    Args:
        variant: With which telemetry.
        endpoint: The collector's address.
    """
    telemetry = VARIANTS[variant]()
    page = await telemetry.start(endpoint)
    runner = web.AppRunner(telemetry.application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    say({"port": runner.addresses[0][1], "page": page})
    while await asyncio.to_thread(sys.stdin.readline):
        await telemetry.flush()
        say({"cpu_ns": time.process_time_ns()})
    await runner.cleanup()


def say(answer: dict[str, Any]) -> None:
    """Answer whoever started this process."""
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    logging.disable()
    asyncio.run(serve(*sys.argv[1:]))
