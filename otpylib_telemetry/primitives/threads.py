"""Blocking work beside the event loop, on threads that never hold the interpreter back from exiting."""

import asyncio
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar, TypeVarTuple

from otpylib_telemetry.primitives.process_end import is_ending

P = ParamSpec("P")
R = TypeVar("R")
Ts = TypeVarTuple("Ts")


def start_in_thread(func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
    """Run ``func``, which must not touch the event loop, on a daemon thread of its own.

    A thread pool joins its threads when the interpreter exits, so one export that hangs in a dead network
    would hang the exit as well. A daemon thread is left behind instead. Starting one costs some 50 µs, once
    per batch. Cancelling the future abandons the result; the thread goes on.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[R] = loop.create_future()

    def hand_back(result: R | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # no error means func returned an R

    def body() -> None:
        result: R | None = None
        error: Exception | None = None
        try:
            result = func(*args, **kwargs)
        except BaseException as raised:  # noqa: BLE001  # it belongs to whoever awaits, not to the thread
            error = _portable(raised)
        try:
            loop.call_soon_threadsafe(hand_back, result, error)
        except RuntimeError:
            # The loop is closed: the application has ended and nobody is left to be told.
            return

    if start_thread(body) is None:
        # Nobody else needs the loop any more.
        body()
    return future


def start_thread(work: Callable[[], None], name: str = "otpylib-telemetry") -> threading.Thread | None:
    """Start a daemon thread; None where the interpreter exits and starts none any more."""
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        if not is_ending():
            raise
        return None
    return thread


def _portable(error: BaseException) -> Exception:
    """Return what an event loop can carry from a thread to a task.

    A future refuses a StopIteration; a CancelledError would pass for a cancellation of the task that awaits,
    and a SystemExit would end the program from within the loop, though on a thread it ends the thread alone.
    """
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    wrapped = RuntimeError(f"the call raised {type(error).__name__}")
    wrapped.__cause__ = error
    return wrapped


async def run_in_thread(func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Await ``func`` run by :func:`start_in_thread`.

    Args:
        func: What to run.
        *args: Positional arguments for ``func``.
        **kwargs: Keyword arguments for ``func``.

    Returns:
        What ``func`` returned.

    Raises:
        Exception: What ``func`` raised; a RuntimeError in place of a SystemExit and its like.
    """
    return await start_in_thread(func, *args, **kwargs)


async def run_in_thread_to_end(
    func: Callable[[*Ts], R],
    *args: *Ts,
    timeout: float,  # noqa: ASYNC109  # see below
    linger: float,
) -> R:
    """Await ``func`` run by :func:`start_in_thread`; a cancellation waits a moment for what is nearly done.

    What is on the wire cannot be called back. To give it up at the very moment of a cancellation means not to
    know whether it arrived, and so to lose it or to send it twice. Most sends end within milliseconds: for
    these the outcome is had, and the cancellation is over with it. :func:`asyncio.timeout` around a call
    cannot tell such an end from one in time, therefore the timeout belongs in here. A cancellation waits
    ``linger`` seconds; cancelling once more waits no longer.
    """
    future = start_in_thread(func, *args)
    try:
        # Unlike wait_for, this leaves the future as it is when time is up or the caller is cancelled.
        await asyncio.wait({future}, timeout=timeout)
    except asyncio.CancelledError:
        await asyncio.wait({future}, timeout=linger)
        if not future.done():
            future.cancel()
            raise
    if not future.done():
        future.cancel()
        raise TimeoutError(f"not done within {timeout:g} s")
    return future.result()
