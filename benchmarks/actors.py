"""What seeing the actors costs: a message of otpylib bare, instrumented, and with exporters of what it does.

Everything runs on one event loop. What a message costs is the work of sender, loop and receiver together.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from otpylib import gen_server, process
from otpylib.gen_server.data import NoReply, Reply
from otpylib.module import GEN_SERVER, OTPModule
from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from benchmarks import ours
from benchmarks.harness import Case, Comparison, measure, table
from benchmarks.operations import sdk
from otpylib_telemetry.bus import table as table_module
from otpylib_telemetry.exporter.base import ExportContext
from otpylib_telemetry.exporter.consumer import CHUNK
from otpylib_telemetry.exporter.queue import EventQueue
from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor
from otpylib_telemetry_otel.backend import OtelBackend
from otpylib_telemetry_prometheus.backend import PrometheusBackend

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from otpylib_telemetry.exporter.base import Exporter

#: Processes of the ring.
RING: Final = 100

Sending = "Callable[[int], Awaitable[None]]"


class _Sink(metaclass=OTPModule, behavior=GEN_SERVER, version="1.0.0"):
    """Takes messages of every kind, and does nothing with them."""

    async def init(self, expected: Any) -> Any:
        return expected

    async def handle_call(self, _message: Any, _caller: Any, state: Any) -> Any:
        return (Reply(payload=None), state)

    async def handle_cast(self, message: Any, state: Any) -> Any:
        if message[1] == 0:
            state.set()
        return (NoReply(), state)

    async def handle_info(self, message: Any, state: Any) -> Any:
        if message[1] == 0:
            state.set()
        return (NoReply(), state)

    async def terminate(self, _reason: Any, _state: Any) -> None:
        """Nothing to clean up."""


class _Link(metaclass=OTPModule, behavior=GEN_SERVER, version="1.0.0"):
    """Passes a token on to the next process of the ring."""

    async def init(self, state: Any) -> Any:
        return state

    async def handle_call(self, _message: Any, _caller: Any, state: Any) -> Any:
        return (Reply(payload=None), state)

    async def handle_cast(self, message: Any, state: Any) -> Any:
        following, done = state
        if message[1] == 0:
            done.set()
        else:
            await process.send(following[0], ("token", message[1] - 1))
        return (NoReply(), state)

    async def handle_info(self, message: Any, state: Any) -> Any:
        following, done = state
        if message[1] == 0:
            done.set()
        else:
            await process.send(following[0], ("token", message[1] - 1))
        return (NoReply(), state)

    async def terminate(self, _reason: Any, _state: Any) -> None:
        """Nothing to clean up."""


class Actors:
    """A runtime with a sink and a ring of processes, on a loop of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.backend = AsyncIOBackend()
        self.done = asyncio.Event()
        self.sink: Any = None
        self.ring: list[Any] = []
        self.loop.run_until_complete(self.backend.initialize())
        set_runtime(self.backend)
        self.in_process(self._start)

    def in_process(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run something inside a process of otpylib, to its end."""

        async def wait() -> None:
            done = asyncio.Event()

            async def body() -> None:
                try:
                    await work()
                finally:
                    done.set()

            await process.spawn(body, mailbox=True)
            await done.wait()

        self.loop.run_until_complete(wait())

    async def _start(self) -> None:
        self.sink = await gen_server.start(_Sink, self.done, "sink")
        following: list[list[Any]] = [[] for _ in range(RING)]
        self.ring = [
            await gen_server.start(_Link, (following[number], self.done), f"link_{number}")
            for number in range(RING)
        ]
        for number in range(RING):
            following[number].append(self.ring[(number + 1) % RING])

    async def casts(self, count: int) -> None:
        """Cast so many messages, and wait until they are handled."""
        self.done.clear()
        for left in range(count - 1, -1, -1):
            await gen_server.cast("sink", ("work", left))
        await self.done.wait()

    async def sends(self, count: int) -> None:
        """Send so many messages, and wait until they are handled."""
        self.done.clear()
        for left in range(count - 1, -1, -1):
            await process.send(self.sink, ("work", left))
        await self.done.wait()

    async def calls(self, count: int) -> None:
        """Call so many times."""
        for _ in range(count):
            await gen_server.call("sink", ("ask", 1))

    async def laps(self, count: int) -> None:
        """Pass a token so many times from process to process."""
        self.done.clear()
        await process.send(self.ring[0], ("token", count))
        await self.done.wait()

    def close(self) -> None:
        """End everything."""
        self.loop.run_until_complete(self.backend.shutdown())
        self.loop.close()


@contextlib.contextmanager
def _instrumented() -> Iterator[None]:
    instrumentor = OtpylibInstrumentor()
    instrumentor.instrument()
    yield
    instrumentor.uninstrument()


def bare(actors: Actors, work: Callable[[int], Awaitable[None]]) -> Callable[[int], None]:
    """The messages alone."""

    def run(count: int) -> None:
        for _ in range(0, count, CHUNK):
            actors.in_process(lambda: work(CHUNK))

    return run


def alone(actors: Actors, work: Callable[[int], Awaitable[None]]) -> Callable[[int], None]:
    """The same, instrumented, where nobody listens."""
    go = bare(actors, work)

    def run(count: int) -> None:
        with _instrumented():
            go(count)

    return run


def exported(
    actors: Actors, work: Callable[[int], Awaitable[None]], *backends: type[Exporter[Any]]
) -> Callable[[int], None]:
    """The same, and every exporter has collected what became of each message."""
    exporters = [(EventQueue(10_000_000), _exporter(backend)) for backend in backends]

    def run(count: int) -> None:
        queues = [queue for queue, _ in exporters]
        for number, queue in enumerate(queues):
            table_module.add(f"actors_{number}", ["otpylib.*"], queue.offer, reads_log=True)
        with _instrumented(), ours.reading(*queues):
            for _ in range(0, count, CHUNK):
                actors.in_process(lambda: work(CHUNK))
                for queue, exporter in exporters:
                    ours.collect(queue, exporter)
        for number in range(len(queues)):
            table_module.remove(f"actors_{number}")

    return run


def _exporter(backend: type[Exporter[Any]]) -> Exporter[Any]:
    settings = backend.settings_type(**({"metrics": False} if backend is OtelBackend else {}))
    context = ExportContext(backend.__name__, "telemetry.bench", {}, ours.nothing, dict)
    return backend(settings, context)


def comparisons(actors: Actors, count: int) -> list[Comparison]:
    """Return the cases.

    Args:
        actors: The actors.
        count: Messages per round.
    """
    ways = {
        "cast": actors.casts,
        "send": actors.sends,
        "call": actors.calls,
        f"hop in a ring of {RING} processes": actors.laps,
    }
    both = (OtelBackend, PrometheusBackend)
    return [
        *(
            Comparison(
                f"One {name}",
                [
                    Case(f"{name}, bare", bare(actors, work), count),
                    Case(f"{name}, instrumented, nobody listens", alone(actors, work), count),
                    Case(f"{name}, instrumented, both exporters", exported(actors, work, *both), count),
                ],
            )
            for name, work in ways.items()
        ),
        Comparison("For comparison", [Case("one span of the OpenTelemetry SDK", sdk(), count)]),
    ]


def added(found: list[Comparison]) -> str:
    """Return what instrumentation adds to each message, as a part of one span of the OpenTelemetry SDK."""
    *messages, (peer,) = [comparison.cases for comparison in found]
    rows = ["| added by both exporters to one | CPU | of one span of the SDK |", "|---|---:|---:|"]
    for plain, _, exporting in messages:
        more = exporting.median - plain.median
        name = plain.name.removesuffix(", bare")
        rows.append(f"| {name} | {more / 1000:.1f} µs | {more / peer.median:.2f} |")
    return "\n".join(rows)


def report(rounds: int, count: int) -> str:
    """Measure, and return the tables.

    Args:
        rounds: Rounds of which the median is taken.
        count: Messages per round.
    """
    actors = Actors()
    found = comparisons(actors, count)
    measure(found, rounds)
    actors.close()
    return f"{table(found)}\n\n{added(found)}"
