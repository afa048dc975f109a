"""The exporter for tests: remembers what was emitted, as a plain object and as a process.

The object is a handler like any other::

    mock = MockExporter()
    await attach("mock", "*", mock.handle_telemetry_event)

The process, ``MockExporterServer``, stands where an application has a real exporter: in a supervision tree,
with a configuration section, understanding every message an exporter understands.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any, ClassVar

from otpylib.runtime import get_runtime

from otpylib_telemetry import otp
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.exporter.base import Exporter
from otpylib_telemetry.exporter.collected import Collected
from otpylib_telemetry.exporter.server import exporter_module
from otpylib_telemetry.otp import current_emitter
from otpylib_telemetry.supervision.specs import exporter_child_spec, start_exporter
from otpylib_telemetry_mock import clock as clocks
from otpylib_telemetry_mock.recording import MAX_EVENTS, RecordedEvent, Recording, snapshot
from otpylib_telemetry_mock.settings import MockSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence

    from otpylib_telemetry.bus.events import RawEvent

#: The name the process is registered under, which is its handler id as well.
NAME = "mock_exporter"

SECTION = "telemetry.mock"

_RECORDING = "recording"


class _Done:
    """Something to await that is over already.

    A coroutine would make the bus take the handler for an async one, and hand the events of plain functions
    to another process: a test would not find them where it looks.
    """

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


_DONE = _Done()


class MockExporter(Recording):
    """Remembers events and configuration changes.

    Args:
        max_events: How many to keep of each; beyond it the oldest are forgotten.
        clock: Seconds since the epoch, for the timestamps.

    Attributes:
        events: Dicts of ``event_name``, ``measurements``, ``metadata`` and ``timestamp``, oldest first.
        config_changes: Dicts of ``path``, ``old_value``, ``new_value`` and ``timestamp``, oldest first.
        forgotten: How many events went for want of room.
    """

    def __init__(self, *, max_events: int = MAX_EVENTS, clock: Callable[[], float] = clocks.now) -> None:
        super().__init__(max_events=max_events)
        self.config_changes: list[dict[str, Any]] = []
        self._clock = clock

    def handle_telemetry_event(
        self, event_name: str, measurements: Mapping[str, Any] | None, metadata: Mapping[str, Any] | None
    ) -> Awaitable[None]:
        """Remember an event; done when this returns, whether the result is awaited or not.

        Args:
            event_name: The event's name.
            measurements: Its measurements; copied.
            metadata: Its metadata; copied.
        """
        self.record(event_name, measurements, metadata, self._clock(), current_emitter())
        return _DONE

    def handle_config_change(self, path: str, old_value: Any, new_value: Any) -> Awaitable[None]:
        """Remember a configuration change; done when this returns, whether the result is awaited or not.

        Args:
            path: For instance ``telemetry.mock.batch_size``.
            old_value: What it was.
            new_value: What it is now.
        """
        change = {
            "path": path,
            "old_value": snapshot(old_value),
            "new_value": snapshot(new_value),
            "timestamp": self._clock(),
        }
        with self._lock:
            self.config_changes.append(change)
            del self.config_changes[: -self.max_events]
        return _DONE

    def clear(self) -> None:
        """Forget every event and every configuration change."""
        super().clear()
        with self._lock:
            self.config_changes.clear()


class MockRecorder(Exporter[MockSettings]):
    """What the process runs: every event is recorded, and thereby exported."""

    settings_type: ClassVar[type[MockSettings]] = MockSettings

    def _recording(self) -> MockExporter:
        """Return the recording: kept through crash and restart, begun anew with another otpylib runtime."""
        runtime = get_runtime()
        born_in, recording = self.context.memory.get(_RECORDING, (None, None))
        if born_in is None or born_in() is not runtime:
            recording = MockExporter()
            self.context.memory[_RECORDING] = (weakref.ref(runtime), recording)
        kept: MockExporter = recording
        kept.max_events = self.settings.max_events
        return kept

    def collect(self, events: Sequence[RawEvent], wall_offset_ns: int) -> Collected:
        """Record events."""
        recording = self._recording()
        for name, measurements, metadata, monotonic_ns, emitter in events:
            recording.record(name, measurements, metadata, (monotonic_ns + wall_offset_ns) / 1e9, emitter)
        return Collected(exported=len(events))

    async def apply(self, settings: MockSettings, changed: frozenset[str]) -> bool:
        """Take new settings into use, all of them at once."""
        del settings, changed
        return True

    def noticed(self, path: str, old_value: Any, new_value: Any) -> None:
        """Record a configuration change."""
        self._recording().handle_config_change(path, old_value, new_value)

    def answer(self, request: tuple[Any, ...]) -> Any:
        """Answer ``("get_events", pattern)``, ``("get_config_changes",)`` and ``("clear",)``."""
        recording = self._recording()
        if otp.is_request(request, "get_events"):
            return snapshot_of(recording.events)
        if otp.is_request(request, "get_events", 2):
            pattern = request[1]
            if not isinstance(pattern, str):
                return ("error", f"get_events takes an event pattern, a string, not {type(pattern).__name__}")
            return snapshot_of(recording.get_events_matching(pattern))
        if otp.is_request(request, "get_config_changes"):
            return [snapshot(change) for change in list(recording.config_changes)]
        if otp.is_request(request, "clear"):
            recording.clear()
            return "ok"
        raise LookupError(request)

    def stats(self) -> dict[str, Any]:
        """Return how much is remembered."""
        recording = self._recording()
        return {
            "events": len(recording.events),
            "config_changes": len(recording.config_changes),
            "forgotten": recording.forgotten,
        }


def snapshot_of(events: Sequence[RecordedEvent]) -> list[RecordedEvent]:
    """Copy events, so that whoever gets them cannot change what was recorded."""
    return [
        RecordedEvent(
            event.event_name,
            snapshot(event.measurements),
            snapshot(event.metadata),
            event.timestamp,
            event.emitter,
        )
        for event in list(events)
    ]


MockExporterServer = exporter_module(
    "MockExporterServer",
    MockRecorder,
    name=NAME,
    section=SECTION,
    module=__name__,
    doc=(
        "GenServer registered as ``mock_exporter``: a :class:`MockExporter` that is a process.\n\n"
        "Besides what every exporter understands it answers the calls ``('get_events', pattern)``,\n"
        "``('get_config_changes',)`` and ``('clear',)``."
    ),
)

#: The same under the name that goes with the other exporters.
mock_callbacks = MockExporterServer


def child_spec(config: Mapping[str, Any] | None = None) -> Any:
    """Return a child spec that runs the exporter under a supervisor of its own.

    Args:
        config: Settings that go before configuration.

    Returns:
        A ``supervisor.child_spec``.

    Raises:
        ValueError: The settings are wrong; the message lists every mistake.
    """
    return exporter_child_spec(MockExporterServer, config)


async def start_mock_exporter(config: Mapping[str, Any] | None = None) -> Any:
    """Start the exporter by itself, unsupervised; from anywhere a runtime is set.

    It starts from nothing: events, counts and changes of configuration left by an earlier one are forgotten.
    When this returns it is at work.

    Args:
        config: Settings that go before configuration.

    Returns:
        Its pid.

    Raises:
        ValueError: The settings are wrong; the message lists every mistake.
        RuntimeError: No otpylib runtime is set, or the exporter is running already.
    """
    if not registry.is_running(NAME):
        registry.forget(NAME)
    elif otp.whereis(NAME) is None:
        # One that crashed a moment ago hands over all it has; not these.
        registry.memory_of(NAME).pop(_RECORDING, None)
        registry.forget_waiting(NAME)
    pid = await start_exporter(MockExporterServer, config)
    while (await otp.safe_call(NAME, ("get_stats",)))["state"] == "starting":  # noqa: ASYNC110  # only the process knows, and it can be asked
        await asyncio.sleep(0)
    return pid
