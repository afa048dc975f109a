"""Exporters by name: what belongs to each, who runs it, who will restart it."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
from typing import Any

from otpylib_telemetry.bus import table as table_module
from otpylib_telemetry.exporter.state import ExporterState

_log = logging.getLogger("otpylib_telemetry")


class RestartPromise:
    """A supervisor's word that whoever bears a name will be restarted, however it ends.

    Without it nobody knows whether a process that died comes back, and what it held has to be exported at
    once.

    Args:
        supervisor: The supervisor's task; one that is being cancelled restarts nobody.
    """

    def __init__(self, supervisor: asyncio.Task[Any]) -> None:
        self.released = asyncio.Event()
        self._supervisor = supervisor

    @property
    def holds(self) -> bool:
        """Whether the word still counts."""
        return not (self.released.is_set() or self._supervisor.done() or self._supervisor.cancelling())


_states: dict[str, ExporterState] = {}

_promises: dict[str, RestartPromise] = {}


def state_of(name: str) -> ExporterState:
    """Return what belongs to a name; made when first asked for, kept as long as the interpreter runs."""
    return _states.setdefault(name, ExporterState(name))


def find(name: str) -> ExporterState | None:
    """Return what belongs to a name, or None if nothing ever bore it."""
    return _states.get(name)


def forget(name: str) -> None:
    """Let go of all that belongs to a name; for tests, which start from nothing."""
    _states.pop(name, None)
    _promises.pop(name, None)


def names() -> list[str]:
    """Return the names that own something."""
    return list(_states)


def promise_restart(name: str, promise: RestartPromise) -> None:
    """Promise that a supervisor will restart whoever bears a name."""
    _promises[name] = promise


def restart_is_promised(name: str) -> bool:
    """Return whether a supervisor will restart whoever bears the name."""
    promise = _promises.get(name)
    return promise is not None and promise.holds


def restart_promise_of(name: str) -> RestartPromise | None:
    """Return the promise given for a name, if any."""
    return _promises.get(name)


@atexit.register
def _say_what_was_left() -> None:
    for state in _states.values():
        if state.left and state.left != state.left_reported:
            _log.warning(
                "The application ends with %d events that %s had accepted and could not export.",
                state.left,
                state.name,
            )


def _after_fork() -> None:
    """Leave all that belongs to the parent's exporters to the parent, which goes on exporting it.

    The child takes no events for them either: nobody here would ever collect them. Exporters that it starts
    itself begin with nothing.
    """
    inherited = list(_states.values())
    _states.clear()
    _promises.clear()
    names = {found.name for found in inherited}
    table = table_module.current.table.handlers
    table_module.current.table = table_module.Table(
        {key: item for key, item in table.items() if key not in names}
    )
    for found in inherited:
        found.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
