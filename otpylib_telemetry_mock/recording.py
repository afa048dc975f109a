"""What was emitted, kept so that a test can look at it."""

from __future__ import annotations

import contextlib
import fnmatch
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.exporter.queue import as_plain_dict
from otpylib_telemetry.primitives.fork import new_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

#: Events kept where nobody says otherwise: far more than a test looks at, and some 100 MB of memory at most.
MAX_EVENTS = 100_000

#: Nested containers copied with an event; what lies deeper is shared with whoever emitted it.
_MAX_DEPTH = 20

_CONTAINERS = frozenset({dict, list, set, tuple})


class RecordedEvent(dict[str, Any]):
    """One event: a dict with ``event_name``, ``measurements``, ``metadata`` and ``timestamp``.

    It is equal to a plain dict of the same content. The entries can also be read as attributes.

    Args:
        event_name: The event's name.
        measurements: Its measurements.
        metadata: Its metadata.
        timestamp: When it was emitted, in seconds since the epoch.
        emitter: The otpylib pid of the emitting process or, outside any process, the thread's identifier;
            None where nobody knows. Not an entry of the dict.
    """

    __slots__ = ("emitter",)

    def __init__(
        self,
        event_name: str,
        measurements: dict[str, Any],
        metadata: dict[str, Any],
        timestamp: float,
        emitter: object = None,
    ) -> None:
        if isinstance(event_name, str):
            # A subclass may print, compare and hash as it likes.
            event_name = str.__str__(event_name)
        super().__init__(
            event_name=event_name, measurements=measurements, metadata=metadata, timestamp=timestamp
        )
        self.emitter = emitter

    @property
    def event_name(self) -> str:
        """The event's name."""
        return self["event_name"]  # type: ignore[no-any-return]  # as it was made

    @property
    def measurements(self) -> dict[str, Any]:
        """Its measurements."""
        return self["measurements"]  # type: ignore[no-any-return]  # as it was made

    @property
    def metadata(self) -> dict[str, Any]:
        """Its metadata."""
        return self["metadata"]  # type: ignore[no-any-return]  # as it was made

    @property
    def timestamp(self) -> float:
        """When it was emitted, in seconds since the epoch."""
        return self["timestamp"]  # type: ignore[no-any-return]  # as it was made


class Recording:
    """Events in the order in which they were emitted; written from any thread.

    Args:
        max_events: How many to keep; beyond it the oldest are forgotten.

    Attributes:
        events: The events, oldest first.
        forgotten: How many events went for want of room.
    """

    def __init__(self, *, max_events: int = MAX_EVENTS) -> None:
        if max_events < 1:
            raise ValueError(f"max_events is at least 1, not {max_events}")
        self.max_events = max_events
        self.events: list[RecordedEvent] = []
        self.forgotten = 0
        self._lock = new_lock()
        self._watchers: tuple[Callable[[], None], ...] = ()

    def get_events_matching(self, pattern: str) -> list[RecordedEvent]:
        """Return the events whose name matches a shell glob.

        Args:
            pattern: Matched over the whole name as by ``attach``: case counts, and ``*`` crosses dots.
        """
        return [event for event in list(self.events) if matches(event["event_name"], pattern)]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self.events.clear()
            self.forgotten = 0

    @contextlib.contextmanager
    def watched(self, watcher: Callable[[], None]) -> Generator[None]:
        """Have a function called after every event, in the thread that emitted it.

        Args:
            watcher: It must neither block nor raise.
        """
        with self._lock:
            self._watchers = (*self._watchers, watcher)
        try:
            yield
        finally:
            with self._lock:
                self._watchers = tuple(known for known in self._watchers if known is not watcher)

    def remarks(self) -> list[str]:
        """Return what somebody who misses an event should know."""
        if not self.forgotten:
            return []
        return [f"{self.forgotten} older events were forgotten: only {self.max_events} are kept (max_events)"]

    def record(
        self,
        event_name: str,
        measurements: Mapping[str, Any] | None,
        metadata: Mapping[str, Any] | None,
        timestamp: float,
        emitter: object,
    ) -> None:
        """Keep an event; it is copied, because the emitter may go on using its own.

        Args:
            event_name: The event's name.
            measurements: Its measurements.
            metadata: Its metadata.
            timestamp: When it was emitted, in seconds since the epoch.
            emitter: Pid or thread identifier.
        """
        measured, described = snapshot(as_plain_dict(measurements)), snapshot(as_plain_dict(metadata))
        event = RecordedEvent(event_name, measured, described, timestamp, emitter)
        with self._lock:
            self.events.append(event)
            excess = len(self.events) - self.max_events
            if excess > 0:
                del self.events[:excess]
                self.forgotten += excess
        for watcher in self._watchers:
            watcher()


def matches(name: object, pattern: str) -> bool:
    """Tell whether an event name matches a shell glob."""
    return isinstance(name, str) and fnmatch.fnmatchcase(name, pattern)


def snapshot(value: Any) -> Any:
    """Copy what the emitter may go on changing: nested dicts, lists, sets and tuples.

    Everything else is kept as it is. To copy a process, a socket or an exception would be costly at best, and
    a test may well ask for the very object.
    """
    return _copied(value, _MAX_DEPTH, {})


def _copied(value: Any, depth: int, made: dict[int, Any]) -> Any:
    kind = type(value)
    if kind not in _CONTAINERS or depth == 0:
        return value
    known = made.get(id(value))
    if known is not None:
        return known
    if kind is dict:
        result = made[id(value)] = value.copy()
        for key, item in list(result.items()):
            if type(item) in _CONTAINERS:
                with contextlib.suppress(Exception):  # a key whose hash raises by now: its value stays shared
                    result[key] = _copied(item, depth - 1, made)
        return result
    if kind is list:
        items = made[id(value)] = value.copy()
        items[:] = [_copied(item, depth - 1, made) for item in items]
        return items
    return value.copy() if kind is set else tuple(_copied(item, depth - 1, made) for item in value)
