"""One log for all who read events later: an emitter appends once, however many exporters there are.

What is appended waits in one list. It is handed out to the readers' own queues when one of them has enough
for a batch, has no room for more, or looks. So the emitter pays for one append, and a share of handing out.

An entry is one of

* an event, a plain tuple of five;
* the same with the operation in which it was emitted as sixth;
* an operation, which has begun;
* a tuple of one operation, which has ended.

Readers share the entries, and change nothing in them.
"""

from __future__ import annotations

from threading import get_ident
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from otpylib_telemetry.bus.context import here, innermost
from otpylib_telemetry.otp import current_process
from otpylib_telemetry.primitives.fork import after_fork_in_child, new_rlock

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.bus.context import Scope

#: How many entries may wait where a reader has no more room.
_FULL: Final = 64

#: Parts of an entry that tells of an end.
_ENDED: Final = 1

#: See above; told apart by their types and lengths.
Entry: TypeAlias = Any


class Reader(Protocol):
    """Somebody with a queue of its own."""

    def receive(self, entries: list[Entry], names: Callable[[], list[str]]) -> None:
        """Take what is wanted of these, as far as there is room, and count the rest.

        ``names`` gives the names of the events that they are, or stand for.
        """
        ...

    @property
    def patience(self) -> int:
        """How many entries more may come before handing out is due."""
        ...

    def wake(self) -> None:
        """Tell the consumer that there is enough to do, if there is, and it was not told yet."""
        ...


class _Names:
    """The names of the events that entries are, or stand for: worked out once, if anybody asks."""

    __slots__ = ("_names", "_some")

    def __init__(self, some: list[Entry]) -> None:
        self._some = some
        self._names: list[str] | None = None

    def __call__(self) -> list[str]:
        if self._names is None:
            self._names = list(map(name_of, self._some))
        return self._names


def name_of(entry: Entry) -> str:
    """Return the name of the event that an entry of the log is, or stands for."""
    if type(entry) is tuple:
        return entry[0] if len(entry) > _ENDED else entry[0].outcome  # type: ignore[no-any-return]  # a name
    return entry.route.start  # type: ignore[no-any-return]  # a name


class Due:
    """When handing out is due, and whether it is under way."""

    #: How many entries may wait: fewer, where a reader has little room.
    at = 1
    busy = False


#: What waits. Whoever appends hands out when that is due.
entries: Final[list[Entry]] = []
_readers: list[Reader] = []
#: When handing out is due.
due: Final = Due
# Re-entrant, because a signal handler may emit while its thread is in here.
_lock = new_rlock()


#: What tells where the running code is, where there is more to ask than our own context.
_where: Callable[[], Scope | None] | None = None


def ask_instead(where: Callable[[], Scope | None] | None) -> None:
    """Have this say what the running code is inside of when it emits; None for our own context alone."""
    global _where  # noqa: PLW0603  # there is one
    _where = where


def offer(  # what it looks up each time is faster found among its arguments
    name: str,
    measurements: dict[str, Any],
    metadata: dict[str, Any],
    _inside: Callable[[], Scope | None] = innermost.get,
    _append: Callable[[Entry], None] = entries.append,
    _now: Callable[[], int] = monotonic_ns,
    _process: Callable[[], object] = current_process,
    _entries: list[Entry] = entries,
) -> None:
    """Append an event; a handler callback.

    Whoever emits it is the running otpylib process, or else the thread. The metadata is copied, because the
    emitter may go on using its own.
    """
    if (
        (_where is None and _inside() is None)
        or (within := here() if _where is None else _where()) is None
        or not within.is_place
    ):
        _append((name, measurements.copy(), metadata.copy(), _now(), _process() or get_ident()))
    else:
        emitter = _process() or get_ident()
        _append((name, measurements.copy(), metadata.copy(), _now(), emitter, within))
    if len(_entries) >= due.at:
        hand_out()


def hand_out() -> None:
    """Give everybody what has come since this was last done."""
    with _lock:
        if due.busy:
            # A signal handler or a finaliser that emits: whoever it has interrupted goes on in a moment.
            return
        due.busy = True
        try:
            # Others append meanwhile: what they append comes next.
            count = len(entries)
            if count:
                some = entries[:count]
                del entries[:count]
                names = _Names(some)
                for reader in _readers:
                    reader.receive(some, names)
            _set_due()
        finally:
            due.busy = False
        readers = list(_readers)
    for reader in readers:
        reader.wake()


def waits() -> bool:
    """Tell whether anything waits to be handed out."""
    return bool(entries)


def reconsider() -> None:
    """Take into account that a reader has more room, or less, or waits to be woken."""
    with _lock:
        _set_due()


def join(reader: Reader) -> None:
    """Hand out to this reader, too, from now on."""
    hand_out()
    with _lock:
        if reader not in _readers:
            _readers.append(reader)
        _set_due()


def quit_log(reader: Reader) -> None:
    """Hand out to this reader what has come, and nothing that comes."""
    hand_out()
    with _lock:
        if reader in _readers:
            _readers.remove(reader)
        _set_due()


def _set_due() -> None:
    # A reader without room loses what comes, now or later: during an outage no emitter is to pay for each.
    # Without readers at once: what nobody reads must not pile up.
    due.at = min(
        (patience if patience > 0 else _FULL for patience in [reader.patience for reader in _readers]),
        default=1,
    )


def _after_fork() -> None:
    """Leave to the parent what waits, and its readers."""
    entries.clear()
    _readers.clear()
    due.at, due.busy = 1, False


after_fork_in_child(_after_fork)
