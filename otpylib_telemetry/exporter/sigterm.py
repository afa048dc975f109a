"""SIGTERM: what asks a service to end must not cost the telemetry it had ready."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any, ClassVar

from otpylib_telemetry import otp
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.primitives.fork import after_fork_in_child

if TYPE_CHECKING:
    import asyncio


def drain_on_sigterm(loop: asyncio.AbstractEventLoop) -> None:
    """Drain every exporter when SIGTERM arrives, and then die of it as before.

    Only where nobody handles the signal: an application with a handler of its own ends in an orderly way by
    itself, and ours would be in its way.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return
    try:
        loop.add_signal_handler(signal.SIGTERM, _begin, loop)
    except (NotImplementedError, RuntimeError, ValueError):
        # A platform or a loop without signal handlers.
        return
    _Ours.handler = signal.getsignal(signal.SIGTERM)


class _Ours:
    """What is installed for the signal while it is ours, and whether it has arrived."""

    handler: ClassVar[Any] = None
    draining: ClassVar[asyncio.Task[None] | None] = None


def _begin(loop: asyncio.AbstractEventLoop) -> None:
    if signal.getsignal(signal.SIGTERM) is not _Ours.handler:
        # The application has installed its own meanwhile; asyncio goes on telling us all the same.
        return
    if _Ours.draining is not None and not _Ours.draining.done():
        # Asked twice: at once.
        _die(loop)
    work = _drain_and_die(loop)
    _Ours.draining = otp.run_in_background(loop, work, name="telemetry SIGTERM", outlasting=True)


async def _drain_and_die(loop: asyncio.AbstractEventLoop) -> None:
    try:
        await registry.stop_all_for_good()
    finally:
        _die(loop)


def _die(loop: asyncio.AbstractEventLoop) -> None:
    loop.remove_signal_handler(signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)


def _after_fork() -> None:
    """Give a forked child the signal back: until it is told otherwise, it dies of it like any process.

    With the parent's handler it would not; and the signal would be written to the parent's loop, which the
    two share, so that the parent would end in place of the child.
    """
    handler, _Ours.handler, _Ours.draining = _Ours.handler, None, None
    if handler is not None and signal.getsignal(signal.SIGTERM) is handler:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


after_fork_in_child(_after_fork)
