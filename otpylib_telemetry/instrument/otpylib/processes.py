"""Processes: what a new one is inside of, which names it has, and that it is forgotten when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otpylib.runtime.backends.asyncio_backend.backend import AsyncIOBackend

from otpylib_telemetry.bus.context import innermost
from otpylib_telemetry.instrument.otpylib import identity
from otpylib_telemetry.instrument.otpylib.envelope import inbound, place_of_sender

if TYPE_CHECKING:
    from collections.abc import Callable

_spawn = AsyncIOBackend.spawn
_register = AsyncIOBackend.register
_unregister = AsyncIOBackend.unregister
_cleanup_process = AsyncIOBackend._cleanup_process  # noqa: SLF001  # what an instrumentor is there for


async def spawn(self: AsyncIOBackend, func: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Spawn a process that is where its maker is, until it receives its first message."""
    if innermost.get() is None or (place := place_of_sender()) is None:
        return await _spawn(self, func, *args, **options)
    # It begins with a copy of this context.
    token = innermost.set(inbound(place))
    try:
        return await _spawn(self, func, *args, **options)
    finally:
        innermost.reset(token)


async def register(self: AsyncIOBackend, name: Any, pid: Any = None) -> None:
    """Give a name to a process."""
    await _register(self, name, pid)
    found = identity.known.get(pid if pid is not None else self.self())
    if found is not None:
        found.rename(name)


async def unregister(self: AsyncIOBackend, name: Any) -> None:
    """Take a name from a process."""
    found = identity.known.get(self.whereis(name))
    await _unregister(self, name)
    if found is not None and found.server == identity.readable_name(name):
        found.rename(None)


def cleanup_process(self: AsyncIOBackend, pid: Any) -> None:
    """Forget a process that has ended."""
    _cleanup_process(self, pid)
    identity.known.pop(pid, None)
