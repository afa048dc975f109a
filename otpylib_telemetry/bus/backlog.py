"""Calls of async handlers that a plain function cannot await: kept per handler until the manager makes them.

A handler with calls waiting is either announced, when nobody is at them yet, or served, when a worker of the
manager is. A worker that ends without having made them all announces the handler again, so that no call
depends on one message, one worker or one manager.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otpylib_telemetry.primitives.fork import after_fork_in_child, new_rlock

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from otpylib_telemetry.bus.handler import Call, Handler

    Notify = Callable[[Handler], None]

_announced: dict[Handler, None] = {}
_served: dict[Handler, asyncio.AbstractEventLoop] = {}
_notify: Notify | None = None

# Re-entrant, because a signal handler may emit while its thread is in here.
_lock = new_rlock()


def hand_over(
    handler: Handler,
    name: str,
    measurements: dict[str, Any],
    metadata: dict[str, Any],
    started: Coroutine[Any, Any, Any] | None = None,
) -> None:
    """Keep a call, with copies of its dicts, in the handler's backlog; tell the manager unless it knows.

    ``started`` is the coroutine the callback has returned for this event already, if it has.
    """
    with _lock:
        if not handler.remember((name, measurements.copy(), metadata.copy(), started)):
            if started is not None:
                started.close()
            return
        if handler in _served or handler in _announced:
            return
        _announced[handler] = None
        notify = _notify
    if notify is not None:
        notify(handler)


def connect(notify: Notify) -> list[Handler]:
    """Have a manager told of handlers with calls waiting, and return those that have some already.

    ``notify`` is called from whatever thread emits: it must neither block nor raise.
    """
    global _notify  # noqa: PLW0603  # one manager per interpreter, like the table it serves
    with _lock:
        _notify = notify
        for handler, loop in list(_served.items()):
            if loop.is_closed():
                # The loop ended before the worker could say so.
                del _served[handler]
                _announced[handler] = None
        return list(_announced)


def disconnect(notify: Notify) -> list[Handler]:
    """Take back :func:`connect`; return the handlers with unserved calls, none if there is a successor."""
    global _notify  # noqa: PLW0603  # as in connect
    with _lock:
        if _notify != notify:
            return []
        _notify = None
        return list(_announced)


def claim(handler: Handler, loop: asyncio.AbstractEventLoop) -> bool:
    """Take on the calls of an announced handler for a worker on ``loop``; False if there are none to take."""
    with _lock:
        if handler not in _announced:
            return False
        del _announced[handler]
        _served[handler] = loop
        return True


def next_call(handler: Handler) -> Call | None:
    """Take the oldest call out of a claimed handler's backlog; None ends the claim: there is none."""
    with _lock:
        if handler.backlog:
            return handler.backlog.popleft()
        _served.pop(handler, None)
        return None


def release(handler: Handler) -> None:
    """End a claim; calls that still wait are announced to whoever is the manager now."""
    with _lock:
        if _served.pop(handler, None) is None or not handler.backlog:
            return
        _announced[handler] = None
        notify = _notify
    if notify is not None:
        notify(handler)


def forget(handler: Handler) -> None:
    """Give up the calls of a handler that was detached while there is no manager to make them.

    With a manager, what was emitted before is still delivered; without one it might wait for ever.
    """
    with _lock:
        if _notify is None and handler not in _served:
            _announced.pop(handler, None)
            _discard(handler)


def waiting() -> int:
    """Return how many calls wait."""
    with _lock:
        return sum(len(handler.backlog) for handler in (*_announced, *_served))


def reset() -> None:
    """Forget every call and the manager: for tests, and for a forked child, whose parent makes the calls."""
    global _notify  # noqa: PLW0603  # as in connect
    _notify = None
    for handler in (*_announced, *_served):
        _discard(handler)
    _announced.clear()
    _served.clear()


def _discard(handler: Handler) -> None:
    for *_, started in handler.backlog:
        if started is not None:
            started.close()
    handler.backlog.clear()


after_fork_in_child(reset)
