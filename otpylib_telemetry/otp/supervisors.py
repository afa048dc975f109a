"""Supervisors that trap exits and end as if shut down."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from otpylib import process
from otpylib.module import SUPERVISOR

from otpylib_telemetry.otp.own_work import OWN_PROCESS
from otpylib_telemetry.otp.starting import check_startable, end_quietly, otp_module, spawn_in_new_context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def start_supervisor(run: Callable[..., Awaitable[None]], args: list[Any], name: str | None) -> Any:
    """Start a supervisor process: it traps exits, is linked to the caller, and has a context of its own.

    Defects: ``supervisor.start_link`` takes the first message in the caller's mailbox for its own handshake;
    and a supervisor that was told to shut down ends as if by itself, so that the one above starts it again.
    ``run(ready, parent, *args)`` sets ``ready`` to its pid when its children are up.
    """
    called = name or "the supervisor"
    check_startable(called)
    parent = process.self()
    ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def body() -> None:
        OWN_PROCESS.set(True)
        try:
            await run(ready, parent, *args)
            # This is how a process says that it was shut down.
            raise asyncio.CancelledError
        finally:
            if not ready.done():
                ready.set_exception(RuntimeError(f"{called} was stopped before it was up"))

    pid = await spawn_in_new_context(body, args=[], name=name, mailbox=True, trap_exits=True)
    try:
        await ready
    except asyncio.CancelledError:
        await end_quietly(pid)
        raise
    if parent is not None:
        await process.link(pid)
    return pid


def supervisor_module(name: str, start_link: Any, *, module: str, doc: str) -> Any:
    """Make an OTPModule supervisor class with a ``start_link`` of our own.

    Defect: OTPModule's ``start_link`` always runs otpylib's supervisor loop.
    """

    async def init(_self: Any, _arg: Any) -> Any:
        raise NotImplementedError(f"{name} runs a loop of its own: start it with start_link")

    async def terminate(_self: Any, _reason: Any, _state: Any) -> None:
        """The loop cleans up by itself."""

    return otp_module(
        name, {"init": init, "terminate": terminate}, SUPERVISOR, start_link, module=module, doc=doc
    )
