"""Observers: what is measured when an exit is about to be read, rather than when it happens.

Whoever is about to read the series of an exporter calls :func:`refresh`, and those who have something to
observe for this exporter do so. Nothing happens where nobody has registered.

Needs no package of OpenTelemetry.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future


#: Seconds after which an exit is read without waiting any longer for an observer, which has limits of its
#: own and keeps to them as a rule.
_PATIENCE: Final = 5.0

#: Seconds between two readings where nobody asks for one: no more than between two scrapes, as a rule.
_INTERVAL: Final = 5.0


class Observer(Protocol):
    """Has something to observe for an exporter."""

    def take_reading(self) -> Future[None] | None:
        """Begin to bring the observed series up to date, in whatever thread it takes.

        Returns what is done when they are; None if there is nothing to wait for. One that is under way
        already may be returned again.
        """
        ...


_observers: dict[str, tuple[Observer, ...]] = {}

#: Asked with the exporter's name before the series of any exporter are read.
_of_all: dict[Callable[[str], Future[None] | None], None] = {}


def register(exporter: str, observer: Observer) -> None:
    """Have an observer asked before an exporter's series are read."""
    present = _observers.get(exporter, ())
    if not any(each is observer for each in present):
        _observers[exporter] = (*present, observer)


def unregister(exporter: str, observer: Observer) -> None:
    """Undo :func:`register`."""
    left = tuple(each for each in _observers.get(exporter, ()) if each is not observer)
    if left:
        _observers[exporter] = left
    else:
        _observers.pop(exporter, None)


def register_for_all(observe: Callable[[str], Future[None] | None]) -> None:
    """Have a function asked as :meth:`Observer.take_reading` is, for every exporter there is or will be."""
    _of_all[observe] = None


class Regularly:
    """Observes from time to time, for an exit that is read without being asked: series in files."""

    def __init__(self, exporter: str, interval: float = _INTERVAL) -> None:
        self._exporter = exporter
        self._interval_ns = int(interval * 1e9)
        self._due_ns = 0

    def tick(self, now_ns: int) -> bool:
        """Begin to observe if it is time; waits for nothing. Returns whether it was time."""
        if now_ns < self._due_ns:
            return False
        self._due_ns = now_ns + self._interval_ns
        begin(self._exporter)
        return True


async def refresh(exporter: str, seconds: float = _PATIENCE) -> bool:
    """Bring up to date what is observed for an exporter, and tell whether all of it was; never raises."""
    begun = [asyncio.wrap_future(each) for each in begin(exporter)]
    if not begun:
        return True
    _, late = await asyncio.wait(begun, timeout=max(0.0, min(seconds, _PATIENCE)))
    return not late


def begin(exporter: str) -> list[Future[None]]:
    """Begin to do so, and return what is done when it is up to date; waits for nothing, never raises."""
    begun: list[Future[None]] = []
    asked: list[Callable[[], Future[None] | None]] = [
        *(each.take_reading for each in _observers.get(exporter, ())),
        *(functools.partial(each, exporter) for each in list(_of_all)),
    ]
    for take_reading in asked:
        try:
            reading = take_reading()
        except Exception:  # noqa: BLE001, S112 - one observer's trouble must not cost the reading
            continue
        if reading is not None:
            begun.append(reading)
    return begun
