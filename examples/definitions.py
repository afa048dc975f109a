"""Metrics that are defined, not guessed: definitions in Python, and the page that Prometheus would scrape."""

import asyncio
import urllib.request

from otpylib import gen_server, process
from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry import execute, metrics
from otpylib_telemetry_prometheus import start_prometheus_exporter

#: A definition names the events, the measurement, and what the metric is broken down by. What none of them
#: mentions is not measured. ``[[telemetry.prometheus.metrics]]`` tables say the same in configuration.
DEFINITIONS = [
    metrics.counter("shop.orders", event="shop.order", tags=["country"], description="Orders taken."),
    metrics.sum("shop.order.amount", tags=["country"], unit="EUR", description="What they came to."),
    metrics.last_value("shop.stock.items", tags=["item"], description="What is on the shelf."),
    metrics.distribution(
        "shop.order.duration_ms",
        unit=("ms", "s"),
        buckets=[0.05, 0.1, 0.5],
        drop={"country": "test"},
        description="How long an order takes; those of the tests are left out.",
    ),
]


def sell(country: str, amount: float, duration_ms: float) -> None:
    """Emit what an order is known by."""
    execute("shop.order", {"amount": amount, "duration_ms": duration_ms}, {"country": country, "basket": 7})


async def application(done: asyncio.Event) -> None:
    """Sell something, and show the page."""
    await start_prometheus_exporter({"port": 0, "metrics": DEFINITIONS, "self_metrics": False})
    sell("de", 12.5, 40)
    sell("de", 7.5, 90)
    sell("fr", 30, 200)
    sell("test", 1, 9000)
    execute("shop.stock", {"items": 17}, {"item": "tea"})
    # What was emitted is in the series after a flush; a real application just goes on.
    await gen_server.call("prometheus_exporter", ("flush", 5.0), timeout=6)
    url = (await gen_server.call("prometheus_exporter", ("get_stats",), timeout=5))["url"]
    page = await asyncio.to_thread(urllib.request.urlopen, url, timeout=5)
    print(page.read().decode(), end="")
    done.set()


async def main() -> None:
    """Run the application as an otpylib process, to its end."""
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    done = asyncio.Event()
    await process.spawn(application, args=[done], mailbox=True)
    await done.wait()
    await backend.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
