"""Forks while another thread holds every lock of the library; the child emits in every way there is."""

import asyncio
import os
import signal
import sys
import threading

from opentelemetry import metrics, trace
from otpylib import process
from otpylib.runtime import set_runtime
from otpylib.runtime.atoms import SHUTDOWN
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

import otpylib_telemetry
import otpylib_telemetry_otel
from otpylib_telemetry import attach, detach, execute, list_handlers, span, trace_context
from otpylib_telemetry.primitives import fork
from otpylib_telemetry_mock.exporter import MockExporter

#: Seconds after which a child that hangs is ended by a signal.
PATIENCE = 60


async def asynchronous(*_event):
    """Do nothing."""


def failing(*_event):
    raise ValueError("no")


async def failing_later(*_event):
    raise ValueError("no")


async def set_up(endpoint):
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    settings = {"endpoint": endpoint, "protocol": "http/protobuf", "flush_interval": 0.05}
    await otpylib_telemetry.start_link({"otel": settings, "prometheus": {"port": 0}})
    await otpylib_telemetry_otel.TelemetryService.start_link(None, "telemetry_service")
    mock = MockExporter()
    await attach("async", "e.*", asynchronous)
    await attach("failing", "e.*", failing)
    await attach("failing later", "e.*", failing_later)
    await attach("mock", "e.*", mock.handle_telemetry_event)
    for _ in range(20):
        emit()
        await asyncio.sleep(0.01)
    return mock


def emit():
    """Every way into the library that does not await."""
    execute("e.x", {"count": 1, "value": 2, "duration_ms": 3}, {"a": 1})
    execute("e.refused", 5)
    execute(7)
    with span("e.operation") as current:
        execute("e.inside", {"count": 1}, trace_context())
        current.metadata["more"] = 1
    with trace.get_tracer("t").start_as_current_span("api"):
        metrics.get_meter("m").create_counter("c").add(1, {"a": "b"})
        metrics.get_meter("m").create_histogram("h").record(1, {"a": "b"})


async def subscribe():
    await attach("another", "e.*", asynchronous)
    emit()
    list_handlers()
    await detach("another")


def in_child(mock):
    signal.alarm(PATIENCE)
    emit()
    list(mock.events)
    asyncio.run(subscribe())
    os._exit(0)


def hold_all(held, release):
    taken = [lock for lock in fork.locks() if lock.acquire(blocking=True, timeout=5)]
    held.append(len(taken))
    release.wait()
    for lock in taken:
        lock.release()


def fork_with_all_locks_held(mock):
    """Return how many locks were held, and how the child ended."""
    held, release = [], threading.Event()
    holder = threading.Thread(target=hold_all, args=(held, release))
    holder.start()
    while not held:
        pass
    child = os.fork()
    if child == 0:
        in_child(mock)
    release.set()
    holder.join()
    return held[0], len(fork.locks()), os.waitpid(child, 0)[1]


async def main(endpoint):
    mock = await set_up(endpoint)
    held, there_are, status = fork_with_all_locks_held(mock)
    sys.stdout.write(f"{held} {there_are} {status}\n")
    sys.stdout.flush()
    await process.send("telemetry_sup", SHUTDOWN)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
