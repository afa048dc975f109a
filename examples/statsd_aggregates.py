"""A third-party exporter of metrics: sums and distributions to a StatsD server, in some fifty lines.

Events become series here, so that a million events cost a few datagrams. Tags are written as DogStatsD has
them, which most servers read.
"""

import asyncio
import socket
from collections.abc import Iterator, Sequence

from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry import execute, exporter_module, start_exporter
from otpylib_telemetry.metrics.exporting import (
    OPENTELEMETRY,
    Form,
    MetricPoint,
    Preference,
    PushedMetricsExporter,
    PushedMetricsSettings,
)

#: What fits into a packet on any network.
MAX_DATAGRAM = 1_432


class StatsdSettings(PushedMetricsSettings):
    """``[telemetry.statsd]``: what every exporter of metrics has, and the server."""

    host: str = "127.0.0.1"
    port: int = 8125


class Statsd(PushedMetricsExporter[StatsdSettings]):
    """Series, definitions, limits and intervals come with the base class; here points become lines."""

    settings_type = StatsdSettings
    naming = OPENTELEMETRY
    preference = Preference.DELTA  # a StatsD server adds up itself
    udp: socket.socket | None = None

    async def open(self) -> None:
        """Have a socket; nobody need listen."""
        await super().open()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    async def export(self, batch: Sequence[MetricPoint]) -> None:
        """Send the lines of a batch, as many to a datagram as fit."""
        lines = [line for point in batch for line in lines_of(point)]
        while self.udp is not None and lines:
            datagram = lines.pop(0)
            while lines and len(datagram) + 1 + len(lines[0]) <= MAX_DATAGRAM:
                datagram += b"\n" + lines.pop(0)
            self.udp.sendto(datagram, (self.settings.host, self.settings.port))

    async def close(self) -> None:
        """Close the socket."""
        if self.udp is not None:
            self.udp.close()


def lines_of(measured: MetricPoint) -> Iterator[bytes]:
    """Yield what a point is in StatsD: a counter, a gauge, or the count and the sum of a distribution."""
    stream, point = measured.stream, measured.point
    tags = ",".join(f"{name}:{value}" for name, value in measured.labels or ())
    match stream.form:
        case Form.GAUGE:
            parts = [("", point.value, "g")]
        case Form.SUM:
            parts = [("", point.value, "c" if stream.monotonic else "g")]
        case Form.HISTOGRAM:
            parts = [(".count", sum(point.counts), "c"), (".sum", point.sum, "c")]
        case _:
            parts = [(".count", point.size, "c"), (".sum", point.sum, "c")]
    for suffix, value, kind in parts:
        yield f"{stream.name}{suffix}:{value}|{kind}{f'|#{tags}' if tags else ''}".encode()


StatsdExporter = exporter_module(
    "StatsdExporter", Statsd, name="statsd_exporter", section="telemetry.statsd", module=__name__
)


async def main() -> None:
    """Start it without a supervision tree, and emit some events; what they add up to is sent at the end."""
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    await start_exporter(StatsdExporter, {"event_patterns": ["shop.*"]})
    for number in range(1_000):
        execute("shop.orders", {"count": 2, "duration_ms": number % 10}, {"country": "de"})
    execute("shop.stock", {"value": 40})
    await backend.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
