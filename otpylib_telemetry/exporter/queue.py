"""The bounded queue between those who emit and one exporter."""

from __future__ import annotations

import fnmatch
import re
import weakref
from collections import deque
from collections.abc import Mapping
from itertools import repeat
from threading import get_ident
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.bus import event_log
from otpylib_telemetry.otp import current_process
from otpylib_telemetry.primitives.fork import after_fork_in_child, new_rlock

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.bus.event_log import Entry


#: Names whose answer is remembered.
_MAX_NAMES = 10_000


class EventQueue:
    """What one exporter has still to collect; one consumer, on the event loop's thread, takes it out.

    It is filled from the log of events (:meth:`receive`), or by hand (:meth:`offer`). The bound is checked
    without a lock: threads that offer at the very same moment may exceed it by one event each.
    """

    __slots__ = (
        "__weakref__",
        "_capacity",
        "_entries",
        "_lock",
        "_matches",
        "_reads",
        "_signalled",
        "_wake",
        "_wake_at",
        "_wanted",
        "overflowed",
        "taken",
        "wakeups",
    )

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        #: Events taken out so far. Only the consumer counts: a counter in :meth:`offer` would need a lock.
        self.taken = 0
        #: Events refused because the queue was full.
        self.overflowed = 0
        #: Wake-ups sent to the consumer.
        self.wakeups = 0
        self._entries: deque[Entry] = deque()
        # Re-entrant, because a signal handler may emit while its thread is in here.
        self._lock = new_rlock()
        # Whether a wake-up would be too many: one was sent, or nobody is there.
        self._signalled = True
        self._wake: Callable[[], None] | None = None
        self._wake_at = 1
        #: Whether it is filled from the log; which names are wanted, None for all; and what is known of them.
        self._reads = False
        self._matches: Callable[[str], Any] | None = None
        self._wanted: dict[str, bool] = {}
        _queues.add(self)

    def __len__(self) -> int:
        self._catch_up()
        return len(self._entries)

    @property
    def capacity(self) -> int:
        """Events it holds at most; the exporter lowers it by what it holds elsewhere."""
        return self._capacity

    @capacity.setter
    def capacity(self, capacity: int) -> None:
        if capacity != self._capacity:
            self._capacity = capacity
            if self._reads:
                event_log.reconsider()

    @property
    def accepted(self) -> int:
        """Events that were ever offered, those refused for want of room included."""
        return len(self) + self.taken + self.overflowed

    def read_log(self, patterns: tuple[str, ...]) -> None:
        """Be filled from the log with what any of the patterns matches, from now on."""
        # What has come until now came under the earlier patterns.
        event_log.hand_out()
        self._wanted = {}
        self._matches = (
            None if "*" in patterns else re.compile("|".join(map(fnmatch.translate, patterns))).match
        )
        self._reads = True
        event_log.join(self)

    def leave_log(self) -> None:
        """Be filled no more; what has come stays."""
        if self._reads:
            event_log.quit_log(self)
            self._reads = False

    def receive(self, entries: list[Entry], names: Callable[[], list[str]]) -> None:
        """Take what is wanted out of what the log hands out, as far as there is room."""
        if self._matches is not None:
            wanted = self._wanted
            try:
                entries = [entry for entry, name in zip(entries, names(), strict=True) if wanted[name]]
            except KeyError:
                entries = [entry for entry, name in zip(entries, names(), strict=True) if self._wants(name)]
        room = self._capacity - len(self._entries)
        if len(entries) > room:
            room = max(room, 0)
            self.overflowed += len(entries) - room
            entries = entries[:room]
        self._entries.extend(entries)

    @property
    def patience(self) -> int:
        """How many entries more may come before handing out is due."""
        waiting = len(self._entries)
        if self._signalled:
            return self._capacity - waiting
        return min(self._wake_at, self._capacity) - waiting

    def wake(self) -> None:
        """Wake the consumer, if there is a batch for it and it was not woken yet."""
        waiting = len(self._entries)
        # A queue that is full before a batch is together must be emptied all the same.
        if not self._signalled and (waiting >= self._wake_at or waiting >= self._capacity):
            self._signal()

    def offer(self, name: str, measurements: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Take an event that is for this exporter alone, or count it as overflow.

        Whoever emits it is the running otpylib process, or else the thread. The metadata is copied, because
        the emitter may go on using its own.
        """
        self._catch_up()
        if len(self._entries) >= self._capacity:
            with self._lock:
                self.overflowed += 1
            return
        emitter = current_process() or get_ident()
        self._entries.append((name, measurements.copy(), metadata.copy(), monotonic_ns(), emitter))
        self.wake()

    def take(self, limit: int) -> list[Entry]:
        """Take out the oldest events, so many at most."""
        self._catch_up()
        entries = self._entries
        batch = list(map(deque.popleft, repeat(entries, min(limit, len(entries)))))
        self.taken += len(batch)
        return batch

    def rearm(self) -> None:
        """Allow the next wake-up; the consumer calls it when it is done with what it was woken for.

        What another thread offers between the consumer's last look and this call is found at its next look,
        which the next event or its clock brings about.
        """
        self._signalled = self._wake is None
        if self._reads:
            event_log.reconsider()

    def connect(self, wake: Callable[[], None] | None, wake_at: int) -> None:
        """Say whom to wake, from the emitting thread and once until :meth:`rearm`, and by how many events."""
        with self._lock:
            self._wake = wake
            self._wake_at = max(1, wake_at)
        self.rearm()

    def retain(self, wanted: Callable[[Entry], bool]) -> None:
        """Forget the waiting events that are not wanted, as if they had never been offered."""
        self._catch_up()
        entries = self._entries
        waiting = kept = [entries.popleft() for _ in range(len(entries))]
        try:
            kept = [entry for entry in waiting if wanted(entry)]
        finally:
            # In front: whoever offers meanwhile appends behind, so that no emitter's events change order.
            entries.extendleft(reversed(kept))

    def _catch_up(self) -> None:
        if self._reads and event_log.waits():
            event_log.hand_out()

    def _wants(self, name: str) -> bool:
        wanted = self._wanted.get(name)
        if wanted is None:
            if len(self._wanted) >= _MAX_NAMES:
                self._wanted.clear()
            matches = self._matches
            wanted = self._wanted[name] = matches is None or matches(name) is not None
        return wanted

    def _abandon(self) -> None:
        """Forget what waits, and take nothing more until somebody sets the capacity again."""
        self._wake = None
        self._signalled = True
        self._reads = False
        self._entries.clear()
        self._capacity = 0

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
