"""The TOML files are looked at all the time, so that an edit counts within a second.

One timer on each event loop. A look is one ``stat`` of each file: it costs some microseconds, sees whatever
took the file's place (``mv``, the ``..data`` link of a Kubernetes volume), and works on file systems whose
changes the kernel does not tell of.
"""

from __future__ import annotations

import contextlib
import contextvars
import weakref
from typing import TYPE_CHECKING, ClassVar, Final

from otpylib_telemetry.config import sighup, toml_source

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

#: Seconds between two looks.
INTERVAL: Final = 0.5


def reload() -> None:
    """Read the files now, and tell everybody; what is written there is believed, however young it is."""
    _look(at_once=True)
    _wake_all()


def _look(*, at_once: bool = False) -> bool:
    """Read the files that otpylib-config uses, and that may have changed; return whether there are any."""
    in_use = [source for source in toml_source.known_sources() if source.in_use]
    for source in in_use:
        source.refresh(at_once=at_once)
    return bool(in_use)


def _wake_all() -> None:
    for loop, watcher in list(_watchers.items()):
        # It may be closed: there is nobody left on it.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(watcher.look, context=contextvars.Context())


def _asked_by_signal() -> None:
    """Have the files read on whichever loop comes first; nothing is read in the middle of what runs."""
    _Watcher.at_once = True
    _wake_all()


def begin(loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
    """Call ``changed`` on this loop whenever a file says something else."""
    watcher = _watchers.get(loop)
    if watcher is None:
        watcher = _watchers[loop] = _Watcher(loop)
        if any(source.in_use for source in toml_source.known_sources()):
            sighup.reload_on_sighup(_asked_by_signal)
    watcher.add(changed)


def end(loop: asyncio.AbstractEventLoop, changed: Callable[[], None]) -> None:
    """Call it no more."""
    if (watcher := _watchers.get(loop)) is not None:
        watcher.remove(changed)


class _Watcher:
    """What is done on one loop."""

    #: Whether what stands in the files is to be believed at the next look.
    at_once: ClassVar[bool] = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # The loop is a key of what holds this.
        self._loop = weakref.ref(loop)
        self._listeners: dict[Callable[[], None], int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, listener: Callable[[], None]) -> None:
        self._listeners[listener] = _version()
        self._arm()

    def remove(self, listener: Callable[[], None]) -> None:
        self._listeners.pop(listener, None)
        if not self._listeners and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        loop = self._loop()
        if self._timer is None and loop is not None:
            # In no process: what it calls is not done by whoever happened to begin it.
            self._timer = loop.call_later(INTERVAL, self._run, context=contextvars.Context())

    def _run(self) -> None:
        self._timer = None
        self.look()
        if self._listeners:
            self._arm()

    def look(self) -> None:
        """Read the files, and tell those who have not heard of it."""
        at_once, _Watcher.at_once = _Watcher.at_once, False
        if _look(at_once=at_once):
            sighup.reload_on_sighup(_asked_by_signal)
        now = _version()
        for listener, seen in list(self._listeners.items()):
            if seen != now and listener in self._listeners:
                self._listeners[listener] = now
                listener()


def _version() -> int:
    """Return a number that grows whenever a file says something else."""
    return sum(source.version for source in toml_source.known_sources())


_watchers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Watcher] = weakref.WeakKeyDictionary()
