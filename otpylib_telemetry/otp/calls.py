"""Calls and tasks that are in no process, so that they take no message from one."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from typing import Any

from otpylib import gen_server

from otpylib_telemetry.otp.emitters import CURRENT_PROCESS
from otpylib_telemetry.otp.own_work import be_quiet


def _outside_any_process() -> contextvars.Context:
    context = contextvars.copy_context()
    context.run(CURRENT_PROCESS.set, None)
    context.run(be_quiet)
    return context


async def safe_call(target: Any, payload: Any, timeout: float = 5.0) -> Any:  # noqa: ASYNC109  # gen_server.call's own name
    """Call a GenServer without losing the caller's own messages.

    Defect: ``gen_server.call`` made from a process throws away every other message that arrives while it
    waits. It is made here from a task that is no process, which otpylib answers through a bridge.
    """
    call = gen_server.call(target, payload, timeout=timeout)
    return await asyncio.create_task(call, context=_outside_any_process())


def step_outside() -> contextvars.Token[Any] | None:
    """Have the running code, and the tasks it makes, be in no process; return what :func:`step_back` needs.

    Defect: a task made inside a process passes for that process, and so does all that a server does that was
    started inside one. Each ``gen_server.call`` there waits for its reply in the mailbox of the process, in
    which it finds the replies to others, and throws them away.
    """
    return None if CURRENT_PROCESS.get() is None else CURRENT_PROCESS.set(None)


def step_back(token: contextvars.Token[Any] | None) -> None:
    """Undo :func:`step_outside`; in another context there is nothing to undo."""
    if token is not None:
        with contextlib.suppress(ValueError):
            CURRENT_PROCESS.reset(token)
