"""TelemetryManager: the process that awaits async handlers for events emitted by plain functions."""

from __future__ import annotations

import asyncio
import contextvars
import time
from typing import TYPE_CHECKING, Any

from otpylib.gen_server.data import NoReply, Reply

from otpylib_telemetry import otp
from otpylib_telemetry.bus import backlog, dispatch, table

if TYPE_CHECKING:
    from otpylib_telemetry.bus.handler import Handler

#: The name it is registered under.
MANAGER = "telemetry_manager"

#: Calls one handler is given before the event loop gets a turn.
_TURN = 50

#: Seconds for the calls that still wait when the manager is told to end.
_GRACE = 1.0


class _Manager:
    """The state of the process: one worker task per async handler that has calls waiting."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.started = time.monotonic()
        self.workers: set[asyncio.Task[None]] = set()
        self.calls = 0
        self.unknown = 0
        self.stopped = False
        for handler in backlog.connect(self._notify):
            self._work_for(handler)

    def _notify(self, handler: Handler) -> None:
        """Start a worker from whatever thread; straight through the loop, where no mailbox can lose it."""
        try:
            self.loop.call_soon_threadsafe(self._work_for, handler, context=contextvars.Context())
        except RuntimeError:
            # The loop is closed. The handler stays announced for the manager of another.
            return

    def _work_for(self, handler: Handler) -> None:
        if self.stopped or not backlog.claim(handler, self.loop):
            return
        task = otp.run_in_background(self.loop, self._work(handler), name=f"telemetry {handler.handler_id}")
        self.workers.add(task)
        # Not at the worker's own end: one that is cancelled before it begins has none.
        task.add_done_callback(lambda _task: backlog.release(handler))
        task.add_done_callback(self.workers.discard)

    async def _work(self, handler: Handler) -> None:
        """Make the calls of one handler, in order."""
        # Or one that sends messages would hear of these, and so on.
        otp.be_quiet()
        while not self.stopped and (call := backlog.next_call(handler)) is not None:
            await dispatch.call_async(handler, *call)
            self.calls += 1
            if self.calls % _TURN == 0:
                await asyncio.sleep(0)

    def stats(self) -> dict[str, Any]:
        handlers = table.current.table.handlers.values()
        return {
            "uptime": time.monotonic() - self.started,
            "handlers": len(handlers),
            "suspended": sorted(handler.handler_id for handler in handlers if handler.suspended),
            "handler_failures": sum(handler.failures for handler in handlers),
            "missed": sum(handler.missed for handler in handlers),
            "async_calls": self.calls,
            "async_calls_waiting": backlog.waiting(),
            "refused_events": dispatch.refused.count,
            "unknown_messages": self.unknown,
        }

    async def finish(self) -> None:
        """Make the calls that wait already; new ones are for the next manager."""
        for handler in backlog.disconnect(self._notify):
            self._work_for(handler)
        while self.workers:
            await asyncio.wait(self.workers)

    def stop(self) -> None:
        """Leave what waits to the next manager; only calls that are being made now are lost."""
        self.stopped = True
        backlog.disconnect(self._notify)
        for worker in self.workers:
            worker.cancel()


async def _init(self: Any, _arg: Any) -> _Manager:
    manager = self._manager = _Manager()
    return manager


async def _handle_call(_self: Any, message: Any, _from: Any, state: _Manager) -> Any:
    if otp.is_request(message, "get_stats"):
        return (Reply(payload=state.stats()), state)
    state.unknown += 1
    return (Reply(payload=("error", "unknown request; TelemetryManager answers ('get_stats',)")), state)


async def _handle_cast(_self: Any, message: Any, state: _Manager) -> Any:
    if otp.is_request(message, "emit", 4):
        dispatch.execute(*message[1:])
    else:
        state.unknown += 1
    return (NoReply(), state)


async def _ignore(_self: Any, _message: Any, state: _Manager) -> Any:
    state.unknown += 1
    return (NoReply(), state)


async def _terminate(self: Any, reason: Any, _state: Any) -> None:
    manager: _Manager | None = getattr(self, "_manager", None)
    if manager is None:
        return
    try:
        if not isinstance(reason, Exception):
            # Told to end, not crashed: there may be no successor.
            finishing = otp.run_in_background(manager.loop, manager.finish(), name="telemetry_manager end")
            await otp.persist(finishing, _GRACE)
    finally:
        manager.stop()


TelemetryManager = otp.server_module(
    "TelemetryManager",
    {
        "init": _init,
        "handle_call": _handle_call,
        "handle_cast": _handle_cast,
        "handle_info": _ignore,
        "terminate": _terminate,
    },
    default_name=MANAGER,
    module=__name__,
    doc=(
        "GenServer registered as ``telemetry_manager``. Makes the calls of async handlers for events that\n"
        "plain functions emitted, each handler's in order, one handler never waiting for another. Answers\n"
        "``('get_stats',)``."
    ),
)
