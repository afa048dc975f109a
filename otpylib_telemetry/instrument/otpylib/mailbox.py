"""Sending and receiving: every message takes along where in a trace its sender was.

A server's handlers are put there by :mod:`.handling`. A process that receives for itself is there from one
message to the next, unless it is inside of something of its own.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from otpylib.runtime.backends.asyncio_backend.process import ProcessMailbox

from otpylib_telemetry.bus import context
from otpylib_telemetry.bus.context import innermost
from otpylib_telemetry.bus.table import current as subscriptions
from otpylib_telemetry.instrument.otpylib.envelope import (
    Envelope,
    Inbound,
    WatchedQueue,
    arrived,
    enveloped,
    inbound,
    nowhere,
    place_of_sender,
    take,
    watch,
)
from otpylib_telemetry.instrument.otpylib.handling import HANDLE, is_serving
from otpylib_telemetry.instrument.otpylib.stalls import watchdog
from otpylib_telemetry.tracing import bridge as bridge_module
from otpylib_telemetry.tracing.record import enter_alone

if TYPE_CHECKING:
    from collections.abc import Callable

#: What otpylib's own start functions are told by those they have started: no message of the application.
_HANDSHAKES: Final = frozenset(
    f"{kind}_init_{outcome}"
    for kind in ("gen_server", "gen_statem", "supervisor", "dynamic_supervisor", "task")
    for outcome in ("ok", "error")
)

#: Whether what is received now is an answer that otpylib waits for: it takes its receiver nowhere.
awaiting_answer: ContextVar[bool] = ContextVar("otpylib_telemetry_awaiting_answer", default=False)

_send = ProcessMailbox.send
_receive = ProcessMailbox.receive


def _watch(queue: Any) -> bool:
    """Watch a queue, and the loop it is on; False if it is of a kind of its own."""
    if not watch(queue):
        return False
    watchdog.watch(asyncio.get_running_loop())
    return True


async def send(  # what it looks up each time is faster found among its arguments
    self: ProcessMailbox,
    message: Any,
    _here: Callable[[], Any] = innermost.get,
    _subscriptions: Any = subscriptions,
    _bridge: Any = bridge_module,
) -> None:
    """Put a message into a mailbox."""
    queue = self.queue
    if self.closed or (type(queue) is not WatchedQueue and not _watch(queue)):
        await _send(self, message)
        return
    place = _here()
    if place is not None or _bridge.installed is not None:
        place = place_of_sender()
    # Without a place, all there is to tell is how long it waits: to whoever listens.
    if place is not None or _subscriptions.table.operations.get(HANDLE, True):
        message = enveloped(message, place)
    queue.put_nowait(message)
    depth = len(queue._queue)  # noqa: SLF001  # qsize() costs five times as much
    if depth > queue.deepest:  # noqa: PLR1730  # max() costs three times as much
        queue.deepest = depth


async def receive(
    self: ProcessMailbox,
    timeout: float | None = None,  # noqa: ASYNC109  # otpylib's name
    _arrived: Callable[[], Envelope | None] = arrived.get,
    _here: Callable[[], Any] = innermost.get,
    _bridge: Any = bridge_module,
) -> Any:
    """Take the next message out of a mailbox."""
    queue = self.queue
    if self.closed or (type(queue) is not WatchedQueue and not _watch(queue)):
        return await _receive(self, timeout)
    if timeout is None:
        # What is there already is taken at once either way.
        message = queue.get_nowait() if queue._queue else await queue.get()  # noqa: SLF001  # as above
    else:
        # Before Python 3.12 it is awaited in a task of its own, whose context is a copy.
        message, envelope = await asyncio.wait_for(take(queue.get), timeout)
        arrived.set(envelope)
    if _arrived() is not None or _here() is not None or _bridge.installed is not None:
        _go_on_from(_arrived(), message)
    return message


def _go_on_from(envelope: Envelope | None, message: Any) -> None:
    """Put the running process where a message came from, unless it is inside of something of its own."""
    here = innermost.get()
    if here is not None and not isinstance(here, Inbound) and not here.ended:
        return
    if is_serving() or awaiting_answer.get():
        return
    bridge = bridge_module.installed
    if bridge is not None and bridge.is_inside():
        return
    if type(message) is tuple and message and type(message[0]) is str and message[0] in _HANDSHAKES:
        return
    leave_inbound()
    if envelope is not None and envelope.place is not None:
        enter_alone(inbound(envelope.place))
    elif bridge is not None:
        # What another API has there of its maker is left, too.
        enter_alone(nowhere())


def leave_inbound() -> None:
    """Take the running process out of what its last message, or its maker, has put it into."""
    here = innermost.get()
    if here is None:
        return
    if isinstance(here, Inbound):
        context.leave(here)
    if innermost.get() is not None:
        # Inherited from its maker.
        innermost.set(None)
