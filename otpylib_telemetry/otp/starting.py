"""What every process of ours needs: a free name, a context of its own, and an end that is no crash."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from typing import TYPE_CHECKING, Any

from otpylib import process
from otpylib.module import OTPModule
from otpylib.runtime.atoms import SHUTDOWN

from otpylib_telemetry.otp.processes import task_of, whereis
from otpylib_telemetry.otp.runtimes import get_runtime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: What servers without a registered name work as.
UNNAMED: dict[str, asyncio.Task[Any]] = {}


def is_taken(name: Any) -> bool:
    """Tell whether a process works under a name, registered or not."""
    pid = whereis(name)
    tasks = (None if pid is None else task_of(pid), UNNAMED.get(name))
    return any(task is not None and not task.done() and task.cancelling() == 0 for task in tasks)


def is_shut_down() -> bool:
    """Tell whether the runtime was shut down.

    Defect: it starts processes still, and ends none of them any more.
    """
    return getattr(get_runtime(), "_shutdown_flag", False)


def check_startable(name: Any) -> None:
    """Raise RuntimeError where there is no runtime that works, or a process of this name.

    Defect: a second process under a name silently takes it over, and loses it when the first one ends.
    """
    if get_runtime() is None:
        raise RuntimeError(
            f"{name} cannot start: no otpylib runtime is set. "
            "Call otpylib.runtime.set_runtime(backend) after await backend.initialize()."
        )
    if is_shut_down():
        raise RuntimeError(f"{name} cannot start: the otpylib runtime was shut down")
    if name is not None and is_taken(name):
        raise RuntimeError(
            f"{name} cannot start: a process of that name is running ({whereis(name) or 'unregistered'})"
        )


async def spawn_in_new_context(func: Callable[..., Awaitable[None]], **options: Any) -> Any:
    """Spawn a process that inherits nobody's context variables."""
    return await asyncio.create_task(process.spawn(func, **options), context=contextvars.Context())


async def end_quietly(pid: Any) -> None:
    """End a process so that no supervisor takes it for a crash; one that is gone already is no error."""
    with contextlib.suppress(Exception):
        await process.exit(pid, SHUTDOWN)


def otp_module(  # noqa: PLR0913  # what a class statement would say
    name: str, callbacks: dict[str, Any], behavior: Any, start_link: Any, *, module: str, doc: str
) -> Any:
    """Make a class as the statement would, with a ``start_link`` of our own."""
    body = {**callbacks, "__module__": module, "__qualname__": name, "__doc__": doc}
    cls = OTPModule(name, (), body, behavior=behavior, version="1.0.0")
    cls.start_link = classmethod(start_link)
    return cls
