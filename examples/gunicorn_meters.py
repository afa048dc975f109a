"""Metrics of the OpenTelemetry API under gunicorn, without an exporter and without otpylib.

Run it as it is: it starts gunicorn with two workers that are replaced after some requests, buys a hundred
times and prints what prometheus_client serves of all workers. In earnest, beside a process that serves:

    PROMETHEUS_MULTIPROC_DIR=/dev/shm/shop python -m gunicorn gunicorn_meters:app --workers 4
"""

import http.client
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from opentelemetry import metrics
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector

from otpylib_telemetry_prometheus.meter_provider import PrometheusMeterProvider

metrics.set_meter_provider(PrometheusMeterProvider())
meter = metrics.get_meter("shop")
sales = meter.create_counter("shop.sales", description="Sales.")
amount = meter.create_histogram(
    "shop.sale.amount", unit="EUR", explicit_bucket_boundaries_advisory=[5, 10, 20]
)
open_baskets = meter.create_up_down_counter("shop.baskets")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Sell something: what gunicorn's workers run."""
    open_baskets.add(1)
    sales.add(1, {"item": environ["PATH_INFO"].strip("/")})
    amount.record(7.5)
    open_baskets.add(-1)
    start_response("200 OK", [("Content-Length", "5")])
    return [b"sold\n"]


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def get(port: int, path: str, until: float) -> str:
    """Return an answer; there may be nobody yet."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        finally:
            connection.close()


def main() -> None:
    """Start gunicorn, serve the metrics of its workers, buy, and print what there is when it has ended."""
    until = time.monotonic() + 50
    with tempfile.TemporaryDirectory() as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        port, metrics_port = free_port(), free_port()
        page, thread = start_http_server(metrics_port, "127.0.0.1", registry=registry)
        command = "-m gunicorn gunicorn_meters:app --workers 2 --max-requests 30 --no-control-socket"
        server = subprocess.Popen(  # noqa: S603  # the command is ours
            [sys.executable, *command.split(), "--log-level", "warning", "--bind", f"127.0.0.1:{port}"],
            cwd=pathlib.Path(__file__).parent,
        )
        try:
            for number in range(100):
                get(port, "/tea" if number % 4 else "/jam", until)
        finally:
            server.terminate()
            server.wait()
        print(get(metrics_port, "/metrics", until), end="")
        page.shutdown()
        page.server_close()
        thread.join()


if __name__ == "__main__":
    main()
