"""Whether an application notices that its collector refuses, hangs or resets.

One application emits spans at a steady pace while its collector takes them, refuses connections, accepts and
never answers, and resets what it accepts, in turns. Measured is what the application feels: the time one span
takes it, and how late its event loop is for a timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import statistics
import struct
import threading
import time
from dataclasses import dataclass, field

from otpylib import gen_server
from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry import otp, span
from otpylib_telemetry_otel import start_otel_exporter

SITUATIONS = ("takes spans", "refuses connections", "accepts, never answers", "resets connections")
ROUNDS = 5
SECONDS = 1.0
SPANS_PER_TURN = 10
TURN = 0.004

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


@dataclass(slots=True)
class Felt:
    """What the application felt in one situation, in microseconds."""

    span: list[float] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)


def _collector(situation: str) -> tuple[str, socket.socket]:
    """Return the address of a collector that behaves as told; closing the socket ends it."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    if situation == "refuses connections":
        listener.close()
    elif situation != "accepts, never answers":
        threading.Thread(target=_serve, args=(listener, situation), daemon=True).start()
    return endpoint, listener


def _serve(listener: socket.socket, situation: str) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            if situation == "resets connections":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
            else:
                threading.Thread(target=_answer, args=(client,), daemon=True).start()


def _answer(client: socket.socket) -> None:
    """Take every request of one connection."""
    with contextlib.suppress(OSError, ValueError), client, client.makefile("rb") as stream:
        while stream.readline():
            length = 0
            while (line := stream.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            stream.read(length)
            client.sendall(_OK)


async def _phase(felt: Felt) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        began = time.perf_counter()
        for _ in range(SPANS_PER_TURN):
            with span("shop.request", {"method": "GET"}):
                pass
        done = time.perf_counter()
        felt.span.append((done - began) / SPANS_PER_TURN * 1e6)
        await asyncio.sleep(TURN)
        felt.lateness.append((time.perf_counter() - done - TURN) * 1e6)


async def _run() -> dict[str, Felt]:
    logging.getLogger("otpylib_telemetry").disabled = True
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    collectors = {situation: _collector(situation) for situation in SITUATIONS}
    felt = {situation: Felt() for situation in SITUATIONS}
    settings = {
        "protocol": "http/protobuf",
        "timeout": 1.0,
        "event_patterns": ["shop.*"],
        "flush_interval": 0.1,
    }
    await start_otel_exporter({**settings, "endpoint": collectors["takes spans"][0], "reset_timeout": 0.2})
    await otp.safe_call("otel_exporter", ("flush", 10.0), timeout=20.0)
    await _phase(Felt())
    for _ in range(ROUNDS):
        for situation in SITUATIONS:
            change = ("config_changed", "telemetry.otel.endpoint", None, collectors[situation][0])
            await gen_server.cast("otel_exporter", change)
            await asyncio.sleep(0.1)
            await _phase(felt[situation])
    for _, listener in collectors.values():
        listener.close()
    await backend.shutdown()
    return felt


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


def table() -> str:
    """Run every situation in turns, and return the result as a Markdown table."""
    felt = asyncio.run(_run())
    rows = [
        "| the collector | a span, median | ratio | the loop is late, median | ratio | p99 |",
        "|---|" + "---:|" * 5,
    ]
    healthy = felt[SITUATIONS[0]]
    normal_cost, normal_late = statistics.median(healthy.span), statistics.median(healthy.lateness)
    for situation, feeling in felt.items():
        cost, late = statistics.median(feeling.span), statistics.median(feeling.lateness)
        worst = _percentile(feeling.lateness, 99) / 1000
        rows.append(
            f"| {situation} | {cost:.1f} µs | {cost / normal_cost:.2f} "
            f"| {late:.0f} µs | {late / normal_late:.2f} | {worst:.1f} ms |"
        )
    return "\n".join(rows)
