"""SIGTERM: what asks a service to end must not cost the telemetry it had ready."""

from __future__ import annotations

import _thread
import functools
import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar, Final

from otpylib_telemetry import otp
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.primitives.fork import after_fork_in_child, new_lock
from otpylib_telemetry.primitives.process_end import end_process

if TYPE_CHECKING:
    import asyncio


_log = logging.getLogger("otpylib_telemetry")


#: Seconds beyond the longest ``shutdown_timeout`` after which the process ends whatever its event loop does.
GRACE: Final = 2.0

#: Seconds that saying so may take, on a machine that has much else to do.
_LAST_WORDS: Final = 2.0


def drain_on_sigterm(loop: asyncio.AbstractEventLoop) -> None:
    """Drain every exporter when SIGTERM arrives, and then die of it as before.

    Only where nobody handles the signal: an application with a handler of its own ends in an orderly way by
    itself, and ours would be in its way.
    """
    if not _is_free():
        return
    try:
        # The loop's own handler does nothing. But the loop takes it back when it is closed, and ours with it.
        loop.add_signal_handler(signal.SIGTERM, lambda: None)
    except (NotImplementedError, RuntimeError, ValueError):
        # A platform or a loop without signal handlers.
        return
    _Ours.loop, _Ours.handler = loop, functools.partial(_arrived, loop)
    signal.signal(signal.SIGTERM, _Ours.handler)


def end_on_sigterm() -> None:
    """Do all that the end of the process asks for when SIGTERM arrives, and then die of it as before.

    For processes without an event loop on the main thread; where and when as for :func:`drain_on_sigterm`.
    """
    if _is_free():
        _Ours.loop, _Ours.handler = None, _arrived_without_loop
        signal.signal(signal.SIGTERM, _Ours.handler)


def _is_free() -> bool:
    """Tell whether the signal may be handled here, and nobody else does."""
    if threading.current_thread() is not threading.main_thread():
        return False
    return signal.getsignal(signal.SIGTERM) is signal.SIG_DFL or _Ours.is_left_over()


class _Ours:
    """What is installed for the signal while it is ours."""

    loop: ClassVar[asyncio.AbstractEventLoop | None] = None
    handler: ClassVar[Any] = None

    @classmethod
    def is_left_over(cls) -> bool:
        """Tell whether the handler is that of a loop which is closed: uvloop leaves it behind."""
        installed = signal.getsignal(signal.SIGTERM) is cls.handler
        return installed and cls.loop is not None and cls.loop.is_closed()


def _arrived(loop: asyncio.AbstractEventLoop, _signum: int, _frame: object) -> None:
    """Begin to end. It is called between two steps of whatever runs, be it for ever: the loop may never turn.

    Therefore no lock is taken here: whatever was interrupted may hold it.
    """
    # Asked once more, the process ends at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _thread.start_new_thread(_die_at_last, (registry.longest_shutdown() + GRACE,))
    try:
        loop.call_soon_threadsafe(_begin, loop)
    except RuntimeError:
        # It is closed: nothing is left that could export anything.
        _die()


def _arrived_without_loop(_signum: int, _frame: object) -> None:
    """Begin to end, on a thread: what was interrupted may hold locks, and goes on meanwhile."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _thread.start_new_thread(_die_at_last, (registry.longest_shutdown() + GRACE,))
    _thread.start_new_thread(_end_and_die, ())


def _end_and_die() -> None:
    try:
        end_process()
    finally:
        _die()


def _begin(loop: asyncio.AbstractEventLoop) -> None:
    otp.run_in_background(loop, _drain_and_die(), name="telemetry SIGTERM", outlasting=True)


async def _drain_and_die() -> None:
    try:
        await registry.stop_all_for_good()
    finally:
        _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _die_at_last(seconds: float) -> None:
    """End a process whose event loop does not; on a thread."""
    time.sleep(seconds)
    # Whatever is blocked may hold the locks that logging needs.
    said = new_lock()
    said.acquire()
    _thread.start_new_thread(_say, (seconds, said))
    said.acquire(timeout=_LAST_WORDS)
    _die()


def _say(seconds: float, said: _thread.LockType) -> None:
    try:
        _log.warning(
            "SIGTERM came %g s ago, and the event loop is blocked: the process ends without exporting "
            "what is held.",
            seconds,
        )
    finally:
        said.release()


def _after_fork() -> None:
    """Give a forked child the signal back: until it is told otherwise, it dies of it like any process.

    With the parent's handler it would not; and the signal would be written to the parent's loop, which the
    two share, so that the parent would end in place of the child.
    """
    handler, _Ours.handler = _Ours.handler, None
    if handler is not None and signal.getsignal(signal.SIGTERM) is handler:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


after_fork_in_child(_after_fork)
