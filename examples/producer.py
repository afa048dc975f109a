"""A metric producer: metrics that something else keeps, sent with ours over OTLP.

Give the endpoint of a collector; without one the metrics are printed::

    python producer.py http://localhost:4317
"""

import asyncio
import sys
import time

from opentelemetry.sdk.metrics.export import AggregationTemporality as Temporality
from opentelemetry.sdk.metrics.export import (
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from otpylib import gen_server, process
from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry_otel import (
    CallbackProducer,
    Measured,
    MetricProducer,
    add_metric_producer,
    start_otel_exporter,
)


class Printer:
    """Stands for a device or a library that counts for itself."""

    pages = 0
    paper = 500

    def print_pages(self, number: int) -> None:
        """Print so many pages."""
        self.pages += number
        self.paper -= number


class PagesProducer(MetricProducer):
    """The whole of it: any object with ``produce`` is a producer. It is asked whenever metrics are sent."""

    def __init__(self, printer: Printer) -> None:
        self._printer = printer
        self._began = time.time_ns()

    def produce(self, timeout_millis: float) -> MetricsData:  # noqa: ARG002 - there is nothing to wait for
        """Return the pages printed so far. This runs on a thread of its own and may block."""
        point = NumberDataPoint({"tray": "a4"}, self._began, time.time_ns(), self._printer.pages)
        total = Sum([point], Temporality.CUMULATIVE, is_monotonic=True)
        metric = Metric("printer.pages", "Pages printed.", "{page}", total)
        scope = ScopeMetrics(InstrumentationScope("printer"), [metric], "")
        return MetricsData([ResourceMetrics(Resource.get_empty(), [scope], "")])


async def application(endpoint: str | None, done: asyncio.Event) -> None:
    """Print a few pages, and send what both producers say."""
    where = {"endpoint": endpoint} if endpoint else {"exporter": "console"}
    await start_otel_exporter({"service_name": "office", **where})
    printer = Printer()
    add_metric_producer(PagesProducer(printer))
    # Where a few numbers are all there is, a function that returns them is enough.
    add_metric_producer(CallbackProducer(lambda: [Measured("printer.paper", printer.paper, unit="{sheet}")]))
    printer.print_pages(12)
    # Metrics leave every ``metrics_interval``; a flush sends them now.
    await gen_server.call("otel_exporter", ("flush", 10.0), timeout=15)
    done.set()


async def main(endpoint: str | None) -> None:
    """Run the application as an otpylib process, to its end."""
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    done = asyncio.Event()
    await process.spawn(application, args=[endpoint, done], mailbox=True)
    await done.wait()
    await backend.shutdown()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if sys.argv[1:] else None))
