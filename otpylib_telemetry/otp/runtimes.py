"""Which runtime is meant: the one that is set, one of this thread alone, or one that a fork inherited."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any

from otpylib.atom import core as _atoms
from otpylib.process import api as _process_api
from otpylib.runtime import get_runtime as global_runtime
from otpylib.runtime import registry as _registry
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Runtime(AsyncIOBackend):  # type: ignore[misc]  # otpylib has no types
    """A runtime whose processes end once it has forgotten them.

    Defect: the loop of a supervisor swallows every error of ``receive`` and asks again at once. If a runtime
    is shut down while a child starts again, ``asyncio.wait_for`` of Python 3.11 may lose the cancellation;
    the supervisor then asks for ever, and the event loop stands.
    """

    async def receive(self, timeout: float | None = None, match: Callable[[Any], bool] | None = None) -> Any:  # noqa: ASYNC109  # otpylib's signature
        """Wait for a message to the process that is running."""
        pid = self.self()
        if pid is not None and pid not in self._processes:
            raise asyncio.CancelledError
        return await super().receive(timeout, match)


#: The runtimes that exist for the thread of their loop alone, by that thread's identifier.
_private: dict[int, Any] = {}


def get_runtime() -> Any | None:
    """Return the runtime for whoever asks: that of this thread alone, or else the one that is set."""
    return _private.get(threading.get_ident()) or global_runtime()


def reachable_runtimes() -> list[Any]:
    """Return the runtimes that a process may be of: the one that is set, and that of this thread alone."""
    return [each for each in (global_runtime(), _private.get(threading.get_ident())) if each is not None]


@contextlib.contextmanager
def private_runtime(backend: Any) -> Iterator[None]:
    """Have a runtime on this thread that no other thread sees.

    Defect: there is one runtime in a program, and whoever sets one takes the place of the other's. Telemetry
    that runs beside an application must neither be there for its ``get_runtime`` nor lose its own by its
    ``set_runtime``.
    """
    thread = threading.get_ident()
    _private[thread] = backend
    _process_api.get_runtime = get_runtime
    try:
        yield
    finally:
        del _private[thread]
        if not _private:
            _process_api.get_runtime = global_runtime


class _Inherited:
    """The runtime that the parent of a forked process had: its loop does not run here."""

    runtime: Any = None


def _after_fork() -> None:
    """Begin a forked child.

    Defect: locks that other threads held in the parent stay taken, and ``get_runtime`` would wait for ever.
    """
    for lock in (_registry._backend_lock, _registry._distribution_lock, _atoms._table._creation_lock):  # noqa: SLF001
        lock._at_fork_reinit()  # noqa: SLF001  # as the standard library does
    _private.clear()
    _Inherited.runtime = global_runtime()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def is_inherited() -> bool:
    """Tell whether the runtime that is set is that of the parent of this forked process."""
    return _Inherited.runtime is not None and get_runtime() is _Inherited.runtime
