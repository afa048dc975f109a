"""The exporter under test on a real chassis: started, fed, asked, crashed, watched."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from otpylib import gen_server, process
from otpylib.runtime import reset_runtime, set_runtime

from otpylib_telemetry import otp
from otpylib_telemetry.bus import table
from otpylib_telemetry.bus.dispatch import execute
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.exporter.base import ExportContext
from otpylib_telemetry.supervision.specs import start_exporter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping

    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry_mock.conformance.odd import EventData

_POLL = 0.01

#: Handler id of whatever the suite listens with.
_LISTENER = "exporter_conformance"


def require(condition: object, message: str) -> None:
    """Fail the test with a message unless the condition holds."""
    if not condition:
        raise AssertionError(message)


async def eventually(condition: Callable[[], object], what: str, patience: float) -> None:
    """Wait until a function, plain or async, gives something true; fail when patience is at its end."""
    end = time.monotonic() + patience
    while True:
        found = condition()
        if await found if inspect.isawaitable(found) else found:
            return
        require(time.monotonic() < end, f"{what}: not so within {patience:g} s")
        await asyncio.sleep(_POLL)


class _Poison:
    """A message that crashes any GenServer: otpylib compares messages, and comparing this one raises."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, _other: object) -> bool:
        raise RuntimeError("the conformance suite crashes this process")


class Subject:
    """The exporter under test."""

    def __init__(self, module: Any, settings: Mapping[str, Any], patience: float, directory: Path) -> None:
        self.module = module
        self.name: str = module.registered_name
        self.settings = dict(settings)
        self.patience = patience
        self.directory = directory

    @contextlib.asynccontextmanager
    async def runtime(self) -> AsyncIterator[None]:
        """Give it an otpylib runtime, and leave nothing behind."""
        registry.forget(self.name)
        backend = otp.Runtime()
        await backend.initialize()
        set_runtime(backend)
        try:
            yield
        finally:
            await backend.shutdown()
            if (pid := otp.whereis(self.name)) is not None:
                await self.gone(pid)
            reset_runtime()
            table.remove(self.name)
            registry.forget(self.name)

    async def start(self, *expected: str, **settings: Any) -> None:
        """Start it, and wait for one of some states; ``running`` if none is named."""
        await start_exporter(self.module, {**self.settings, **settings})
        await self.reaches(*(expected or ("running",)))

    async def says_what_is_wrong(self) -> dict[str, Any]:
        """Wait until its statistics have a reason; return them."""
        found: dict[str, Any] = {}

        async def told() -> bool:
            found.update(await self.stats())
            return bool(found["reason"])

        await eventually(told, "its backend is away and get_stats has no reason", self.patience)
        return found

    async def reaches(self, *states: str) -> dict[str, Any]:
        """Wait until it is in one of some states; return its statistics."""
        found: dict[str, Any] = {}

        async def there() -> bool:
            found.update(await self.stats())
            return found["state"] in states

        try:
            await eventually(there, "state", self.patience)
        except AssertionError:
            message = (
                f"{self.name} is {found.get('state')} ({found.get('reason')}), not {' or '.join(states)}"
            )
            raise AssertionError(f"{message}, after {self.patience:g} s") from None
        return found

    async def call(self, request: Any) -> Any:
        """Ask its process something."""
        return await otp.safe_call(self.name, request, self.patience)

    async def cast(self, message: Any) -> None:
        """Tell its process something."""
        await gen_server.cast(self.name, message)

    async def stats(self) -> dict[str, Any]:
        """Return its statistics, in which every event is accounted for."""
        stats: dict[str, Any] = await self.call(("get_stats",))
        parts = ("exported", "rejected", "sampled_out", "queued", "in_flight")
        accounted = sum(stats[part] for part in parts) + sum(stats["dropped"].values())
        require(
            stats["accepted"] == accounted,
            f"the ledger does not balance: {stats['accepted']} events accepted, {accounted} accounted for",
        )
        return stats

    async def change(self, **settings: Any) -> None:
        """Change settings at run time."""
        for key, value in settings.items():
            await self.cast(("config_changed", f"{self.module.section}.{key}", None, value))

    async def flush(self, seconds: float) -> dict[str, Any]:
        """Flush it; fail if it does not keep to its time, or keeps events for no reason."""
        return await self._ended("flush", seconds)

    async def drain(self, seconds: float) -> dict[str, Any]:
        """Drain it likewise."""
        return await self._ended("drain", seconds)

    async def _ended(self, what: str, seconds: float) -> dict[str, Any]:
        began = time.monotonic()
        report: dict[str, Any] = await self.call((what, seconds))
        took = time.monotonic() - began
        # Half of it again is for a machine that is busy: what matters is whether it ends by itself.
        require(took < seconds * 1.5 + 1.0, f"({what!r}, {seconds:g}) took {took:.1f} s")
        require(isinstance(report, dict), f"({what!r}, {seconds:g}) was answered with {report!r}")
        require(
            not report["left"] or report["reason"], f"{what} leaves {report['left']} events for no reason"
        )
        return report

    async def crash(self) -> None:
        """Crash its process, and start it again."""
        pid = otp.whereis(self.name)
        await process.send(pid, (_Poison(), "crash"))
        await self.gone(pid)
        await self.start()

    async def end(self) -> None:
        """End its process in order."""
        pid = otp.whereis(self.name)
        await otp.end_quietly(pid)
        await self.gone(pid)

    async def gone(self, pid: Any) -> None:
        """Wait until a process has ended."""
        await eventually(lambda: not process.is_alive(pid), f"the end of {self.name}", self.patience)

    def running(self) -> Exporter[Any]:
        """Return the exporter that its process runs now."""
        exporter = registry.exporter_of(self.name)
        if exporter is None:
            raise AssertionError(f"{self.name} runs no exporter")
        return exporter

    def alone(self) -> Exporter[Any]:
        """Return an exporter that no process runs, not opened."""
        exporter_type = self.module.exporter_type

        async def nothing() -> None:
            """Catch up with nothing."""

        context = ExportContext(self.name, self.module.section, {}, nothing, dict)
        exporter: Exporter[Any] = exporter_type(exporter_type.settings_type(**self.settings), context)
        return exporter


def emit(events: Iterable[EventData]) -> None:
    """Emit events as an application does."""
    for name, measurements, metadata in events:
        execute(name, measurements, metadata)


def raw_events(events: Iterable[EventData]) -> list[Any]:
    """Return events as :meth:`~otpylib_telemetry.exporter.base.Exporter.collect` gets them."""
    now = time.monotonic_ns()
    return [
        (name, measurements, metadata, now + number, threading.get_ident())
        for number, (name, measurements, metadata) in enumerate(events)
    ]


def open_descriptors() -> int | None:
    """Return how many files and sockets this process has open; None where nobody can tell."""
    for place in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            gc.collect()
            return len(list(Path(place).iterdir()))
    return None


@contextlib.contextmanager
def listening(pattern: str) -> Iterator[list[EventData]]:
    """Record the events of a pattern."""
    seen: list[EventData] = []
    table.add(_LISTENER, [pattern], lambda *event: seen.append(event))
    try:
        yield seen
    finally:
        table.remove(_LISTENER)


@contextlib.contextmanager
def recorded_logs() -> Iterator[list[str]]:
    """Record what is logged, with tracebacks."""
    lines: list[str] = []
    formatter = logging.Formatter()

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(formatter.format(record))

    handler = Recorder()
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


class StallWatch:
    """Measures for how long the event loop ran nothing, less what the whole process had to wait.

    A thread ticks beside the loop. On a busy machine both are late; late alone is a loop that is blocked.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self._ticked = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="conformance stall watch", daemon=True)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._beat())
        self._thread.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._ended.set()
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _beat(self) -> None:
        while True:
            self._ticked = time.monotonic()
            await asyncio.sleep(_POLL)

    def _tick(self) -> None:
        blocked, seen, last = 0.0, self._ticked, time.monotonic()
        while not self._ended.wait(_POLL):
            now = time.monotonic()
            # A thread that is late itself says nothing about the loop in that time.
            step, last = min(now - last, 2 * _POLL), now
            ticked = self._ticked
            blocked = blocked + step if ticked == seen else 0.0
            seen = ticked
            self.longest = max(self.longest, blocked)


def plain_data_faults(value: object, where: str = "stats") -> Iterator[str]:
    """Say what in a value is not plain data, as JSON has it."""
    match value:
        case None | bool() | int() | float() | str():
            if type(value) not in {type(None), bool, int, float, str}:
                yield f"{where} is a {type(value).__name__}"
        case dict():
            for key, item in value.items():
                if type(key) is not str:
                    yield f"{where} has the key {key!r}"
                yield from plain_data_faults(item, f"{where}[{key!r}]")
        case list() | tuple():
            for number, item in enumerate(value):
                yield from plain_data_faults(item, f"{where}[{number}]")
        case _:
            yield f"{where} is a {type(value).__name__}"
