"""One subscription: its callback, its circuit breaker and the calls that wait for it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from otpylib_telemetry.bus import log
from otpylib_telemetry.primitives.circuit import ORDINARY, Circuit
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.fork import new_rlock

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Coroutine


#: Name, measurements and metadata, of exactly these types.
PlainEvent: TypeAlias = "tuple[str, dict[str, Any], dict[str, Any]]"

#: The same, and the coroutine the callback has given for it already, if it has.
Call: TypeAlias = "tuple[str, dict[str, Any], dict[str, Any], Coroutine[Any, Any, Any] | None]"

#: Failures in a row after which a handler is left alone for a while.
FAILURES_BEFORE_REST = 5

#: Seconds of the first rest; every failed trial doubles it, up to the longest.
FIRST_REST = 1.0

LONGEST_REST = 60.0

#: Seconds between two reports of one handler: failing every other time is one trouble.
REPORT_INTERVAL = 1.0

#: Calls that may wait for an async handler whose events come from plain functions.
BACKLOG_LIMIT = 1000


FAILURE_EVENT = "telemetry.handler.failure"

RECOVERY_EVENT = "telemetry.handler.recovered"


@dataclass(slots=True, eq=False, repr=False)
class Handler:
    """A callback with its patterns, its circuit and, where it is async, its backlog."""

    handler_id: str
    patterns: tuple[str, ...]
    callback: Callable[..., Any]
    _: KW_ONLY
    matches: Callable[[str], Any]
    is_async: bool
    #: Whether it reads the log of events, and so is not called for each.
    reads_log: bool = False
    #: Whether what it gets is told of in traces, so that operations it listens to are parents of others.
    traces: bool = True
    clock: Callable[[], float] = time.monotonic
    #: Whether the last call failed; while False, calling costs nothing beyond the call.
    troubled: bool = field(default=False, init=False)
    failures: int = field(default=0, init=False)
    missed: int = field(default=0, init=False)
    backlog: deque[Call] = field(default_factory=deque, init=False)
    # Not taken for plain functions that succeed. Re-entrant: a signal handler may emit at any point.
    _lock: threading.RLock = field(default_factory=new_rlock, init=False)
    _circuit: Circuit = field(init=False)
    _reported: bool = field(default=False, init=False)
    _reported_at: float = field(default=float("-inf"), init=False)

    def __post_init__(self) -> None:
        self._circuit = Circuit(
            FAILURES_BEFORE_REST, FIRST_REST, back_off=2.0, longest_rest=LONGEST_REST, clock=self.clock
        )

    @property
    def suspended(self) -> bool:
        """Whether it rests because it kept failing."""
        return self._circuit.state == "open"

    def admit(self) -> int:
        """Return a permit for a call, or 0; an event it does not see is counted.

        To be asked where it is :attr:`troubled`, and before a call that takes its time.
        """
        with self._lock:
            permit = self._circuit.permit()
            if not permit:
                self.missed += 1
            return permit

    def succeeded(self, permit: int = ORDINARY) -> PlainEvent | None:
        """End its trouble; return the event that says so, if the trouble was reported."""
        with self._lock:
            self._circuit.succeeded(permit)
            if self._circuit.state != "closed" or self._circuit.failure_count:
                # A call from before it rested.
                return None
            self.troubled = False
            reported, self._reported = self._reported, False
        if not reported:
            return None
        log.info("Telemetry handler %r works again.", self.handler_id)
        return RECOVERY_EVENT, {"failures": self.failures}, {"handler_id": self.handler_id}

    def failed(self, error: BaseException, event_name: str, permit: int = ORDINARY) -> PlainEvent | None:
        """Count a failure; return the event that reports it, once per outage."""
        with self._lock:
            self.troubled = True
            self.failures += 1
            self._circuit.failed(permit)
            now = self.clock()
            if self._reported or now - self._reported_at < REPORT_INTERVAL:
                return None
            self._reported = True
            self._reported_at = now
        reason = describe(error)
        log.warning(
            "Telemetry handler %r failed on event %r: %s. Other handlers are not affected. It is called "
            "again with the next event, and rests for growing intervals after %d failures in a row.",
            self.handler_id,
            event_name,
            reason,
            FAILURES_BEFORE_REST,
        )
        metadata = {
            "handler_id": self.handler_id,
            "event_name": event_name,
            "error": reason,
            "error_type": type(error).__name__,
        }
        return FAILURE_EVENT, {"failures": self.failures}, metadata

    def released(self, permit: int = ORDINARY) -> None:
        """Take back an admission: the call was cancelled, which says nothing about the handler."""
        with self._lock:
            self._circuit.released(permit)

    def remember(self, call: Call) -> bool:
        """Keep a call for the manager; False, and counted as missed, where the backlog is full."""
        with self._lock:
            if len(self.backlog) >= BACKLOG_LIMIT:
                self.missed += 1
                return False
            self.backlog.append(call)
            return True


def ends_the_caller(error: BaseException) -> bool:
    """Tell whether a caught exception ends the awaiting task, and was not raised by the handler itself.

    That is so for the cancellation of the running task and for the closing of its coroutine. Ask right where
    the handler was awaited.
    """
    if isinstance(error, asyncio.CancelledError):
        try:
            task = asyncio.current_task()
        except RuntimeError:
            return False
        return task is not None and task.cancelling() > 0
    if isinstance(error, GeneratorExit):
        # A coroutine that is closed closes the one it awaits first, and only then sees the exception itself:
        # it has passed through no other frame.
        return error.__traceback__ is None or error.__traceback__.tb_next is None
    return False
