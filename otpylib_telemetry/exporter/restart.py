"""A supervisor's word that whoever bears a name will be restarted."""

from __future__ import annotations

import asyncio
from typing import Any


class RestartPromise:
    """The promise of one supervisor, for as long as its task can keep it.

    Without it nobody knows whether a process that died comes back, and what it held has to be exported at
    once.
    """

    def __init__(self, supervisor: asyncio.Task[Any]) -> None:
        self.released = asyncio.Event()
        self._supervisor = supervisor

    @property
    def holds(self) -> bool:
        """Whether the promise still counts."""
        return not (self.released.is_set() or self._supervisor.done() or self._supervisor.cancelling())


_promises: dict[str, RestartPromise] = {}


def promise_restart(name: str, promise: RestartPromise) -> None:
    """Promise that a supervisor will restart whoever bears a name."""
    _promises[name] = promise


def promised(name: str) -> RestartPromise | None:
    """Return the promise that holds for a name, if there is one."""
    promise = _promises.get(name)
    return promise if promise is not None and promise.holds else None


def forget(name: str) -> None:
    """Forget the promise given for a name."""
    _promises.pop(name, None)


def forget_all() -> None:
    """Forget every promise: this is a forked child, and the supervisors are its parent's."""
    _promises.clear()
