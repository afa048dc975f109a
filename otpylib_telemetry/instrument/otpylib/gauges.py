"""Gauges of the actors, asked for when an exit is about to be read: mailboxes, and processes alive."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from otpylib.runtime import get_runtime

from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.instrument.otpylib import identity
from otpylib_telemetry.meters import observed
from otpylib_telemetry.meters.actors import PROCESSES, SIZE, observations
from otpylib_telemetry.meters.observed import Observation, ObservedMetric
from otpylib_telemetry.primitives.fork import new_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The name of the source.
_SOURCE: Final = "otpylib actors"

_TRIES: Final = 5

SIZE_MAX: Final = ObservedMetric(
    Kind.GAUGE,
    "otpylib.mailbox.size_max",
    "otpylib_mailbox_size_max",
    "{message}",
    "Messages that waited in the mailboxes of a server, at most, since this was last read.",
    "livemax",
)


class _Deepest:
    """How deep mailboxes were since each exporter has last asked.

    A mailbox remembers its own maximum until it is read by anybody. What was read is kept for all others.
    """

    def __init__(self) -> None:
        self._lock = new_lock()
        self._of: dict[str, dict[str, int]] = {}

    def read(self, exporter: str, sizes: Mapping[str, int], deepest: Mapping[str, int]) -> dict[str, int]:
        """Return the maxima for an exporter, whose next ones begin with what waits now."""
        # The event loop waits for this lock where a process ends: most mailboxes are empty, and left out.
        waited = [(server, depth) for server, depth in deepest.items() if depth]
        waiting = {server: size for server, size in sizes.items() if size}
        with self._lock:
            gone = self._of.keys() - {exporter, *registry.names()}
            for name in gone:
                del self._of[name]
            self._of.setdefault(exporter, {})
            for kept in self._of.values():
                for server, depth in waited:
                    if depth > kept.get(server, 0):
                        kept[server] = depth
            found = self._of[exporter]
            self._of[exporter] = waiting
        # A server that is gone has no mailbox.
        return {server: found.get(server, 0) for server in sizes}

    def note(self, server: str, depth: int) -> None:
        """Take notice of the maximum of a mailbox that is gone, before anybody has read it."""
        if not depth:
            return
        with self._lock:
            for kept in self._of.values():
                if depth > kept.get(server, 0):
                    kept[server] = depth

    def clear(self) -> None:
        """Forget all of it."""
        with self._lock:
            self._of.clear()


deepest: Final = _Deepest()


def begin() -> None:
    """Have every exporter of metrics tell them."""
    observed.observe(_SOURCE, read)


def end() -> None:
    """Have none tell them any more."""
    observed.withdraw(_SOURCE)
    deepest.clear()


def read(exporter: str) -> list[Observation]:
    """Return what there is now."""
    sizes: Counter[str] = Counter()
    peaks: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    for found, record in _processes():
        modules[found.module] += 1
        if record.mailbox is None:
            continue
        queue = record.mailbox.queue
        size = len(queue._queue)  # noqa: SLF001  # as in the mailbox
        sizes[found.server] += size
        # At one stroke: the event loop may be about to write a new one.
        peaks[found.server] += max(size, vars(queue).pop("deepest", 0))
    maxima = deepest.read(exporter, sizes, peaks)
    return [
        *observations(SIZE, "server", sizes),
        *observations(SIZE_MAX, "server", maxima, fold=max),
        *observations(PROCESSES, "module", modules),
    ]


def _processes() -> Iterator[tuple[identity.Identity, Any]]:
    """Go through the processes of the runtime that are to be seen."""
    runtime = get_runtime()
    if runtime is None:
        return
    names: dict[Any, Any] | None = None
    known = identity.known.get
    for pid, record in _items(runtime._processes):  # noqa: SLF001  # what an instrumentor is there for
        found = known(pid)
        if found is None or found.pid is not record.pid:
            if names is None:
                names = {named: name for name, named in _items(runtime._name_registry)}  # noqa: SLF001
            found = identity.met(record, record.name or names.get(pid))
        if not found.ours and not found.ended:
            yield found, record


def _items(table: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """Return what is in a table that the event loop may be changing."""
    for _ in range(_TRIES):
        try:
            return list(table.items())
        except RuntimeError:  # it has
            continue
    return []
