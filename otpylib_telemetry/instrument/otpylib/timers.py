"""Timers: what is sent later is sent from where it was asked for."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

from otpylib.runtime.backends.asyncio_backend.backend import AsyncIOBackend

from otpylib_telemetry.instrument.otpylib.envelope import arrived, inbound, leave_for, place_of_sender

if TYPE_CHECKING:
    from otpylib.runtime.backends.asyncio_backend.timing_wheel import Timer

_send_after = AsyncIOBackend.send_after


async def send_after(self: AsyncIOBackend, delay: float, target: Any, message: Any) -> str:
    """Send a message later."""
    ref: str = await _send_after(self, delay, target, message)
    timer = _timer(self, ref)
    if timer is None:
        return ref
    place = place_of_sender()
    origin = None if place is None else inbound(place)
    if origin is not None and timer.target == self.self():
        handled = arrived.get()
        origin.chain = (0 if handled is None or handled.linked else handled.chain) + 1

    def fire() -> None:
        # As otpylib does it. Whatever is instrumented by then, nothing of ours is in the message.
        there = contextvars.copy_context()
        # From where whoever has started the runtime was.
        there.run(leave_for, origin)
        task = asyncio.get_running_loop().create_task(self.send(timer.target, message), context=there)
        _firing.add(task)
        task.add_done_callback(_firing.discard)

    timer.callback = fire
    return ref


#: asyncio keeps only weak references to tasks.
_firing: set[asyncio.Task[None]] = set()


def _timer(backend: AsyncIOBackend, ref: str) -> Timer | None:
    """Return a timer that has just been set; None if it cannot be found."""
    wheel = backend.timing_wheel
    location = wheel.timer_index.get(ref)
    if location is None:
        return None
    found: Timer = wheel.wheel[location.slot][location.index]
    return found if found.ref == ref else None
