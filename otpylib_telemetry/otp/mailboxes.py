"""Mailboxes: of the process that is running, of another one overheard, and of the logger."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from typing import TYPE_CHECKING, Any

from otpylib import process
from otpylib.runtime.backends.asyncio_backend import backend as _backend

from otpylib_telemetry.otp.own_work import OWN_PROCESS
from otpylib_telemetry.otp.processes import process_record
from otpylib_telemetry.otp.runtimes import get_runtime
from otpylib_telemetry.otp.starting import spawn_in_new_context
from otpylib_telemetry.otp.tasks import run_in_background

if TYPE_CHECKING:
    from collections.abc import Callable

#: The name of the process that hears what otpylib itself says: an Atom, which is no string of the same text.
LOGGER = _backend.LOGGER


async def start_logger() -> Any:
    """Start a process that bears the name of the logger and does nothing with what it gets; its pid."""
    return await spawn_in_new_context(_receive_for_ever, name=LOGGER, mailbox=True)


async def _receive_for_ever() -> None:
    OWN_PROCESS.set(True)
    while True:
        await process.receive()


def overhear(pid: Any, hear: Callable[[Any], bool]) -> Callable[[], None]:
    """Have ``hear`` called with each message to a process, in its sender's context; what returns undoes it.

    What ``hear`` returns True for does not get into the mailbox. Defect: mailboxes have no limit, and
    otpylib says up to three things for each message that anybody sends.
    """
    mailbox = process_record(pid).mailbox
    before = mailbox.__dict__.get("send")

    async def send(message: Any) -> None:
        if hear(message):
            return
        # Not that of the class as it was: it is another one while actors are instrumented.
        await (type(mailbox).send(mailbox, message) if before is None else before(message))

    mailbox.send = send

    def undo() -> None:
        if mailbox.__dict__.get("send") is send:
            del mailbox.send
            if before is not None:
                mailbox.send = before

    return undo


class OwnProcess:
    """The process that is running, as its callbacks, background tasks and threads reach it later.

    Defects: a pid is a number that the next runtime gives out again, and a name is borne by whoever comes
    next, so that a message or an exit signal may reach another process; ``process.send`` is a coroutine, and
    from another thread it does not wake the loop; ``process.send_after`` counts ticks of 10 ms that it does
    not catch up with, and comes twice as late on a busy loop. This is the process itself: what comes too late
    for it comes to nobody.
    """

    def __init__(self) -> None:
        pid, runtime = process.self(), get_runtime()
        if pid is None or runtime is None:
            raise RuntimeError("only an otpylib process has a mailbox of its own")
        self.pid = pid
        self.loop = asyncio.get_running_loop()
        self._runtime = runtime
        self._process = runtime._processes[pid]  # noqa: SLF001  # there is no other way to it than by its number

    @property
    def in_runtime(self) -> bool:
        """Whether its runtime is still the one that is set; else what it starts would belong to another."""
        return get_runtime() is self._runtime

    def post(self, message: Any) -> None:
        """Put a message into its mailbox, from any thread; a process that has ended is no error."""
        # The loop may be closed: there is no process left to be told.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._deliver, message, context=contextvars.Context())

    def post_later(self, seconds: float, message: Any) -> asyncio.TimerHandle:
        """Put a message into its mailbox after a while."""
        return self.loop.call_later(seconds, self._deliver, message, context=contextvars.Context())

    async def receive(self) -> Any:
        """Take the next message out of its mailbox."""
        return await self._process.mailbox.receive()

    def end(self) -> None:
        """End it so that no supervisor takes it for a crash."""
        if self._process.task is not None:
            self._process.task.cancel()

    def _deliver(self, message: Any) -> None:
        # Woken in a runtime that is set no more, otpylib's loop would go on to read the mailbox of whoever
        # has its pid in the present one.
        if self.in_runtime:
            run_in_background(self.loop, self._process.mailbox.send(message))
