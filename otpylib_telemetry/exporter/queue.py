"""The bounded queue between those who emit and one exporter."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Mapping
from itertools import repeat
from threading import get_ident
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.otp import current_process
from otpylib_telemetry.primitives.fork import after_fork_in_child, new_rlock

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.bus.events import RawEvent


class EventQueue:
    """Takes events from any thread; one consumer, on the event loop's thread, takes them out.

    The hot path is :meth:`offer`: a bound check, one append, and at most one wake-up per batch. The bound is
    checked without a lock: threads that offer at the very same moment may exceed it by one event each.
    """

    __slots__ = (
        "__weakref__",
        "_events",
        "_lock",
        "_signalled",
        "_wake",
        "_wake_at",
        "capacity",
        "overflowed",
        "taken",
        "wakeups",
    )

    def __init__(self, capacity: int) -> None:
        #: Events it holds at most; the exporter lowers it by what it holds elsewhere.
        self.capacity = capacity
        #: Events taken out so far. Only the consumer counts: a counter in :meth:`offer` would need a lock.
        self.taken = 0
        #: Events refused because the queue was full.
        self.overflowed = 0
        #: Wake-ups sent to the consumer.
        self.wakeups = 0
        self._events: deque[RawEvent] = deque()
        # Re-entrant, because a signal handler may emit while its thread is in here.
        self._lock = new_rlock()
        # Whether a wake-up would be too many: one was sent, or nobody is there.
        self._signalled = True
        self._wake: Callable[[], None] | None = None
        self._wake_at = 1
        _queues.add(self)

    def __len__(self) -> int:
        return len(self._events)

    @property
    def accepted(self) -> int:
        """Events that were ever offered, those refused for want of room included."""
        return self.taken + len(self._events) + self.overflowed

    def offer(self, name: str, measurements: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Take an event, or count it as overflow; a handler callback.

        Whoever emits it is the running otpylib process, or else the thread. The metadata is copied, because
        the emitter may go on using its own.
        """
        events = self._events
        waiting = len(events) + 1
        capacity = self.capacity
        if waiting > capacity:
            with self._lock:
                self.overflowed += 1
            return
        events.append(
            (name, measurements.copy(), metadata.copy(), monotonic_ns(), current_process() or get_ident())
        )
        # A queue that is full before a batch is together must be emptied all the same.
        if (waiting >= self._wake_at or waiting >= capacity) and not self._signalled:
            self._signal()

    def take(self, limit: int) -> list[RawEvent]:
        """Take out the oldest events, so many at most."""
        events = self._events
        batch = list(map(deque.popleft, repeat(events, min(limit, len(events)))))
        self.taken += len(batch)
        return batch

    def rearm(self) -> None:
        """Allow the next wake-up; the consumer calls it when it is done with what it was woken for.

        What another thread offers between the consumer's last look and this call is found at its next look,
        which the next event or its clock brings about.
        """
        self._signalled = self._wake is None

    def connect(self, wake: Callable[[], None] | None, wake_at: int) -> None:
        """Say whom to wake, from the emitting thread and once until :meth:`rearm`, and by how many events."""
        with self._lock:
            self._wake = wake
            self._wake_at = max(1, wake_at)
            self._signalled = wake is None

    def retain(self, wanted: Callable[[RawEvent], bool]) -> None:
        """Forget the waiting events that are not wanted, as if they had never been offered."""
        events = self._events
        waiting = kept = [events.popleft() for _ in range(len(events))]
        try:
            kept = [event for event in waiting if wanted(event)]
        finally:
            # In front: whoever offers meanwhile appends behind, so that no emitter's events change order.
            events.extendleft(reversed(kept))

    def _abandon(self) -> None:
        """Forget what waits, and take nothing more until somebody sets the capacity again."""
        self._wake = None
        self._signalled = True
        self._events.clear()
        self.capacity = 0

    def _signal(self) -> None:
        with self._lock:
            if self._signalled or self._wake is None:
                return
            self._signalled = True
            self.wakeups += 1
            wake = self._wake
        wake()


def as_plain_dict(details: object) -> dict[str, Any]:
    """Return a dict of what somebody put into a message by hand; an empty one for anything but a mapping."""
    try:
        return dict(details) if isinstance(details, Mapping) else {}
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  # a mapping of the sender's own making may raise anything
        return {}


_queues: weakref.WeakSet[EventQueue] = weakref.WeakSet()


def _after_fork() -> None:
    """Cut a forked child's queues off: its parent exports what they hold, and it has no loop to wake."""
    for queue in _queues:
        queue._abandon()  # noqa: SLF001  # of this module


after_fork_in_child(_after_fork)
