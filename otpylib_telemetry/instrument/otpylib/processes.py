"""Processes: what a new one is inside of, and which names it has."""

from __future__ import annotations

from typing import Any, Final

from otpylib.runtime.backends.asyncio_backend.backend import AsyncIOBackend

from otpylib_telemetry.bus.context import innermost
from otpylib_telemetry.instrument.otpylib import identity, life
from otpylib_telemetry.instrument.otpylib.envelope import Origin, inbound, nowhere, place_of_sender
from otpylib_telemetry.instrument.otpylib.guarding import guarded
from otpylib_telemetry.tracing import bridge as bridge_module

_spawn = AsyncIOBackend.spawn
_register = AsyncIOBackend.register
_unregister = AsyncIOBackend.unregister

#: Which of the arguments of ``spawn`` is the name, where it is given by position.
_NAME: Final = 3


async def spawn(self: AsyncIOBackend, *args: Any, **options: Any) -> Any:
    """Spawn a process that is where its maker is, until it receives its first message."""
    return await _spawned(self, args, options, linked=False)


async def spawn_link(self: AsyncIOBackend, *args: Any, **options: Any) -> Any:
    """Spawn a process, and link it to the running one."""
    pid = await _spawned(self, args, options, linked=True)
    await self.link(pid)
    return pid


async def _spawned(
    backend: AsyncIOBackend, args: tuple[Any, ...], options: dict[str, Any], *, linked: bool
) -> Any:
    name = options.get("name") or (args[_NAME] if len(args) > _NAME else None)
    before = backend._name_registry.get(name) if name else None  # noqa: SLF001  # what an instrumentor is there for
    bridge = bridge_module.installed
    place = None if innermost.get() is None and bridge is None else place_of_sender()
    if place is None and bridge is None:
        pid = await _spawn(backend, *args, **options)
    else:
        # It begins with a copy of this context.
        origin = nowhere() if place is None else inbound(place, Origin)
        token = innermost.set(origin)
        theirs = None
        if bridge is not None:
            theirs = bridge.enter_alone(origin.parent, origin.baggage)
            origin.bridged = (bridge, None)
        try:
            pid = await _spawn(backend, *args, **options)
        finally:
            innermost.reset(token)
            if bridge is not None:
                bridge.leave(theirs)
    life.begun(backend, pid, name, before, linked=linked)
    return pid


async def register(self: AsyncIOBackend, name: Any, pid: Any = None) -> None:
    """Give a name to a process."""
    await _register(self, name, pid)
    _named(pid if pid is not None else self.self(), name)


@guarded
def _named(pid: Any, name: Any) -> None:
    found = identity.known.get(pid)
    if found is not None:
        found.rename(name)


async def unregister(self: AsyncIOBackend, name: Any) -> None:
    """Take a name from a process."""
    bearer = self.whereis(name)
    await _unregister(self, name)
    _unnamed(bearer, name)


@guarded
def _unnamed(pid: Any, name: Any) -> None:
    found = identity.known.get(pid)
    if found is not None and found.server == identity.readable_name(name):
        found.rename(None)
