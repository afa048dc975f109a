"""What a user feels: an aiohttp application at full load with the suite, with the libraries, with nothing.

Each variant is a process of its own, with a collector in another process. This process is the load: on a few
connections that stay open, each asks again as soon as it is answered, so that the server is never idle. The
servers are loaded in turns, and of all rounds the median is taken.

Of the figures, CPU time per request depends least on what else the machine does. It is that of the
server's whole process, all threads, until everything is exported and the page of metrics was read once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The variants, and what they are called.
VARIANTS = {
    "nothing": "no telemetry",
    "suite": "otpylib-telemetry",
    "suite in large batches": "otpylib-telemetry, `batch_size = 512`",
    "libraries": "OpenTelemetry SDK and prometheus_client",
}
ROUNDS = 9
SECONDS = 2.0
CONNECTIONS = 16
SPANS_PER_REQUEST = 2

HEAD = "| an aiohttp application with | requests/s | p50 | p99 | CPU per request | telemetry | ratio | lost |"

_REQUEST = b"GET /orders/7 HTTP/1.1\r\nHost: shop\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
_COUNT = re.compile(r"^shop_request_duration_seconds_count\{.*?\} (\S+)", re.MULTILINE)


class Program:
    """One of our own modules in a process of its own.

    Args:
        module: Which.
        *arguments: What it is told at its start.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
        self.process = subprocess.Popen(  # noqa: S603  # ourselves
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        #: What it says of itself.
        self.says = self._answer()

    def ask(self) -> dict[str, Any]:
        """Have it say how things stand."""
        stdin = cast("IO[str]", self.process.stdin)
        stdin.write("\n")
        stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(cast("IO[str]", self.process.stdout).readline())
        return answer

    def stop(self) -> None:
        """End it."""
        self.process.communicate(timeout=60)


@dataclass(slots=True)
class Measured:
    """What one variant showed; one value for each round.

    Attributes:
        per_second: Requests that were answered.
        median_ms: How long one took.
        worst_ms: What one of a hundred took at least.
        cpu_us: CPU time of the server for one request.
        lost: Share of spans that did not arrive.
    """

    per_second: list[float] = field(default_factory=list)
    median_ms: list[float] = field(default_factory=list)
    worst_ms: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)


class Connections:
    """Some connections to one server.

    Args:
        port: Where it listens.
    """

    def __init__(self, port: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
        for connection in self._sockets:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._length = self._ask(connection)
            self._selector.register(connection, selectors.EVENT_READ)

    @staticmethod
    def _ask(connection: socket.socket) -> int:
        """Ask once; return how long an answer is, which is the same for all."""
        connection.sendall(_REQUEST)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(65536)
        head, _, body = answer.partition(b"\r\n\r\n")
        found = re.search(rb"Content-Length: (\d+)", head)
        if not head.startswith(b"HTTP/1.1 200 ") or found is None:
            raise AssertionError(f"not what was asked for: {head!r}")
        missing = int(found[1]) - len(body)
        while missing:
            missing -= len(connection.recv(missing)) or missing
        return len(head) + 4 + int(found[1])

    def load(self, seconds: float) -> list[float]:
        """Ask for as long as told; return how long each answer took, in seconds."""
        took = []
        now = time.perf_counter
        asked = {}
        missing = dict.fromkeys(self._sockets, self._length)
        for connection in self._sockets:
            asked[connection] = now()
            connection.sendall(_REQUEST)
        end = now() + seconds
        under_way = len(self._sockets)
        while under_way:
            for key, _ in self._selector.select():
                connection = cast("socket.socket", key.fileobj)
                missing[connection] -= len(connection.recv(65536)) or 2 * self._length
                if missing[connection] > 0:
                    continue
                if missing[connection] < 0:
                    raise AssertionError("an answer unlike the first one")
                arrived = now()
                took.append(arrived - asked[connection])
                if arrived < end:
                    missing[connection], asked[connection] = self._length, arrived
                    connection.sendall(_REQUEST)
                else:
                    under_way -= 1
        return took

    def close(self) -> None:
        """Close them."""
        self._selector.close()
        for connection in self._sockets:
            connection.close()


class Server:
    """The application in one of its variants, with a collector and connections of its own.

    Args:
        variant: Which.
    """

    def __init__(self, variant: str) -> None:
        self.measured = Measured()
        self._collector = Program("collector")
        self._program = Program("application_server", variant, self._collector.says["endpoint"])
        self._connections = Connections(self._program.says["port"])
        self._has_telemetry = bool(self._program.says["page"])
        self._asked = CONNECTIONS

    def round(self, seconds: float) -> None:
        """Load it once, and add what it showed."""
        self._program.ask()
        self._collector.ask()
        before = self._program.ask()["cpu_ns"]
        began = time.perf_counter()
        took = self._connections.load(seconds)
        passed = time.perf_counter() - began
        self._asked += len(took)
        self._read_page()
        cpu = self._program.ask()["cpu_ns"] - before
        arrived = self._collector.ask()["spans"]
        quantiles = statistics.quantiles(took, n=100)
        self.measured.per_second.append(len(took) / passed)
        self.measured.median_ms.append(quantiles[49] * 1e3)
        self.measured.worst_ms.append(quantiles[98] * 1e3)
        self.measured.cpu_us.append(cpu / 1e3 / len(took))
        if self._has_telemetry:
            self.measured.lost.append(1 - arrived / (SPANS_PER_REQUEST * len(took)))

    def _read_page(self) -> None:
        """Scrape, and see that the page has every request."""
        if not self._has_telemetry:
            return
        with urllib.request.urlopen(self._program.says["page"], timeout=60) as answer:  # noqa: S310  # our own
            found = _COUNT.search(answer.read().decode())
        if found is None or float(found[1]) != self._asked:
            raise AssertionError(f"{found and found[1]} requests on the page, of {self._asked}")

    def stop(self) -> None:
        """End it."""
        self._connections.close()
        self._program.stop()
        self._collector.stop()


@contextlib.contextmanager
def _servers() -> Iterator[dict[str, Server]]:
    with contextlib.ExitStack() as cleanup:
        servers = {}
        for variant in VARIANTS:
            servers[variant] = Server(variant)
            cleanup.callback(servers[variant].stop)
        yield servers


def measure(rounds: int, seconds: float) -> dict[str, Measured]:
    """Load every variant in turns, each time beginning with another.

    Args:
        rounds: How often.
        seconds: How long each time.
    """
    with _servers() as servers:
        for server in servers.values():
            server.round(seconds / 2)  # imports, caches, first-time look-ups
            server.measured = Measured()
        order = list(servers.values())
        for _ in range(rounds):
            for server in order:
                server.round(seconds)
            order.append(order.pop(0))
        return {variant: server.measured for variant, server in servers.items()}


def table(rounds: int = ROUNDS, seconds: float = SECONDS) -> str:
    """Measure, and return the result as text and a Markdown table.

    Args:
        rounds: How often.
        seconds: How long each variant is loaded each time.
    """
    busy_before = os.getloadavg()[0]
    measured = measure(rounds, seconds)
    rows = [
        _conditions(rounds, seconds, busy_before),
        "",
        HEAD,
        "|---|" + "---:|" * 7,
    ]
    median = statistics.median
    # What telemetry takes in one round, less the rest in the same round: both had the same neighbours.
    takes = {
        variant: median(
            [cpu - rest for cpu, rest in zip(figures.cpu_us, measured["nothing"].cpu_us, strict=True)]
        )
        for variant, figures in measured.items()
    }
    for variant, name in VARIANTS.items():
        figures = measured[variant]
        cells = [
            name,
            f"{median(figures.per_second):.0f}",
            f"{median(figures.median_ms):.1f} ms",
            f"{median(figures.worst_ms):.1f} ms",
            f"{median(figures.cpu_us):.0f} µs",
            f"{takes[variant]:.0f} µs" if figures.lost else "",
            f"{takes[variant] / takes['libraries']:.2f}" if figures.lost else "",
            f"{median(figures.lost):.1%}" if figures.lost else "",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _conditions(rounds: int, seconds: float, busy_before: float) -> str:
    return (
        f"{CONNECTIONS} connections; median of {rounds} rounds of {seconds:g} s; load of the machine "
        f"{busy_before:.1f} before, {os.getloadavg()[0]:.1f} after, of {os.cpu_count()} cores."
    )
