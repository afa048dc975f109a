"""Processes: what a new one is inside of, which names it has, and that it is forgotten when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otpylib.runtime.backends.asyncio_backend.backend import AsyncIOBackend

from otpylib_telemetry.bus.context import innermost
from otpylib_telemetry.instrument.otpylib import identity
from otpylib_telemetry.instrument.otpylib.envelope import inbound, nowhere, place_of_sender
from otpylib_telemetry.tracing import bridge as bridge_module

if TYPE_CHECKING:
    from collections.abc import Callable

_spawn = AsyncIOBackend.spawn
_register = AsyncIOBackend.register
_unregister = AsyncIOBackend.unregister
_cleanup_process = AsyncIOBackend._cleanup_process  # noqa: SLF001  # what an instrumentor is there for


async def spawn(self: AsyncIOBackend, func: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Spawn a process that is where its maker is, until it receives its first message."""
    bridge = bridge_module.installed
    place = None if innermost.get() is None and bridge is None else place_of_sender()
    if place is None and bridge is None:
        return await _spawn(self, func, *args, **options)
    # It begins with a copy of this context.
    origin = nowhere() if place is None else inbound(place)
    token = innermost.set(origin)
    theirs = None
    if bridge is not None:
        theirs = bridge.enter_alone(origin.parent, origin.baggage)
        origin.bridged = (bridge, None)
    try:
        return await _spawn(self, func, *args, **options)
    finally:
        innermost.reset(token)
        if bridge is not None:
            bridge.leave(theirs)


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
