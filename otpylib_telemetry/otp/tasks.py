"""Tasks of asyncio: in the background, limited in time, and ended cleanly."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

_log = logging.getLogger("otpylib_telemetry")


# asyncio keeps only weak references to tasks.
_background: set[asyncio.Task[Any]] = set()


def run_in_background(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, Any],
    *,
    name: str | None = None,
    outlasting: bool = False,
) -> asyncio.Task[Any]:
    """Start a task that nobody awaits, outside any process and with nobody's context variables.

    Defect: a task made inside a process passes for that process, and keeps the span of whoever made it. An
    exception is logged. ``outlasting`` as for :func:`outlast`.
    """
    task = loop.create_task(work, name=name, context=contextvars.Context())
    if outlasting:
        outlast(task)
    _background.add(task)
    task.add_done_callback(_finished)
    return task


def outlast(task: asyncio.Task[Any]) -> asyncio.Task[Any]:
    """Have ``asyncio.run`` not cancel a task at its end; the caller must see to the task's end.

    An export that is cut off may have arrived or not, and would be sent twice.
    """
    asyncio._unregister_task(task)  # noqa: SLF001  # asyncio documents it
    return task


def _finished(task: asyncio.Task[Any]) -> None:
    _background.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("A background task of otpylib-telemetry failed: %s", task.get_name(), exc_info=error)


async def persist(task: asyncio.Task[Any], seconds: float) -> bool:
    """Wait for clean-up to end, whoever cancels the waiting meanwhile, but never longer than ``seconds``.

    Defect: ``backend.shutdown()`` cancels every process and awaits none; when the main coroutine then
    returns, asyncio cancels them all again, in the middle of their clean-up. At the limit the task is
    cancelled. Returns whether it came to its end.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not task.done() and (left := deadline - loop.time()) > 0:
        try:
            await asyncio.wait({task}, timeout=left)
        except asyncio.CancelledError:
            # Whoever cancels a process wants it to end: it does, at the deadline at the latest.
            _log.debug("cancelled again during clean-up, which goes on")
    if not task.done():
        task.cancel()
        return False
    return not task.cancelled() and task.exception() is None


#: When the time is up that the call under way has; see :func:`within`.
_end: contextvars.ContextVar[float] = contextvars.ContextVar("otpylib_telemetry_end")


def time_left(default: float) -> float:
    """Return the seconds left of the limit that :func:`within` sets, ``default`` without one."""
    end = _end.get(None)
    return default if end is None else max(0.0, end - asyncio.get_running_loop().time())


async def within(seconds: float, work: Coroutine[Any, Any, Any]) -> Any:
    """Await foreign code, but never longer than ``seconds``, even if it swallows its own cancellation.

    At the limit it is cancelled and left to itself, and TimeoutError is raised.
    """
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    context.run(_end.set, loop.time() + seconds)
    task = loop.create_task(work, context=context)
    _background.add(task)
    task.add_done_callback(_background.discard)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.cancel()
        task.add_done_callback(_swallow)
        raise TimeoutError(f"no end within {seconds:g} s")
    if task.cancelled():
        raise RuntimeError("it ended with a CancelledError that nobody had sent")
    return task.result()


def _swallow(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs on this thread, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
