"""A blocked event loop has a culprit: a watchdog thread looks at where a loop stands that does not answer.

The watchdog asks each loop again and again to show that it runs. Where it does not for longer than the bound,
the watchdog samples the stack of the loop's thread. When the loop runs again, the event tells how long it
stood, and where in most of the samples. On the path of a message nothing is done for this.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import weakref
from collections import Counter
from contextvars import Context
from time import monotonic, process_time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib.runtime.backends.asyncio_backend.process import Process

from otpylib_telemetry.instrument.otpylib import aloud
from otpylib_telemetry.instrument.otpylib import identity as identities
from otpylib_telemetry.instrument.otpylib.envelope import inbound
from otpylib_telemetry.instrument.otpylib.handling import UNTOLD, handled
from otpylib_telemetry.instrument.otpylib.rules import in_force
from otpylib_telemetry.primitives.fork import after_fork_in_child, new_lock
from otpylib_telemetry.primitives.threads import start_thread
from otpylib_telemetry.tracing.places import enter

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping
    from types import FrameType

    from otpylib_telemetry.tracing.operation import Operation

_log = logging.getLogger("otpylib_telemetry")

#: The event.
STALLED: Final = "otpylib.loop.stalled"

#: Seconds between two questions to a loop, where the bound is longer than that; and between two samples.
_LONGEST_ROUND: Final = 0.05
_SHORTEST_ROUND: Final = 0.005

#: Seconds between two looks at whether there is a bound again.
_PAUSE_OFF: Final = 0.25

#: Seconds by which this thread is late at least when the program as a whole was stopped.
_STOPPED: Final = 1.0

#: Samples of one stall at most. Of a longer one the later ones are not taken.
_MAX_SAMPLES: Final = 200

#: Frames of the stack that are told, and the longest text of it.
_MAX_FRAMES: Final = 40
_MAX_STACK: Final = 8_000

#: Seconds after which a stall that has not ended is logged: it may never end, and then there is no event.
_ENDLESS: Final = 5.0


class Sample(NamedTuple):
    """Where a loop stood at one moment.

    Attributes:
        where: The innermost lines of the stack, file and line.
        stack: The stack, as Python writes it.
        metadata: The server, the module and the message that was being handled, if one was.
        operation: The operation of that.
    """

    where: tuple[str, ...]
    stack: str
    metadata: dict[str, Any]
    operation: Operation | None


class _Loop:
    """One event loop that is watched."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._thread = threading.get_ident()
        self._asked: float | None = None
        self._answered = 0.0
        self._samples: list[Sample] = []
        self._is_logged = False

    def look(self, now: float, bound: float) -> bool:
        """Ask the loop, or take notice of its answer; False if there is nobody to be asked any more."""
        loop = self._loop()
        if loop is None or loop.is_closed():
            return False
        asked = self._asked
        if asked is None:
            self._asked, self._answered = now, 0.0
            try:
                loop.call_soon_threadsafe(self._answer, context=Context())
            except RuntimeError:
                return False
            return True
        if answered := self._answered:
            stood = answered - asked
            samples, self._samples, self._asked = self._samples, [], None
            if self._is_logged:
                self._is_logged = False
                _log.warning("The event loop runs again, after %.1f s.", stood)
            if stood >= bound:
                _tell(stood, samples)
        elif now - asked >= bound and loop.is_running() and len(self._samples) < _MAX_SAMPLES:
            self._sample()
            if now - asked >= _ENDLESS and not self._is_logged and self._samples:
                self._is_logged = True
                found = self._samples[-1]
                where = found.metadata.get("server", "code outside of any server")
                _log.warning(
                    "The event loop has stood for %.0f s in %s; nothing runs on it meanwhile.\n%s",
                    now - asked,
                    where,
                    found.stack,
                )
        return True

    def start_anew(self) -> None:
        """Forget what was asked: the watchdog itself has not run."""
        if not self._samples:
            self._asked = None

    def _answer(self) -> None:
        self._answered = monotonic()

    def _sample(self) -> None:
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001  # documented, for debuggers
        if frame is not None:
            self._samples.append(_sample_of(frame))


def _sample_of(frame: FrameType) -> Sample:
    metadata: dict[str, Any] = {}
    operation: Operation | None = None
    inner: FrameType | None = frame
    outermost = 0
    while inner is not None:
        outermost += 1
        if inner.f_code is handled.__code__:
            # The call of ours that has the message handled knows what it is.
            found = inner.f_locals
            operation = found.get("operation")
            if operation is not None:
                metadata = dict(operation.metadata)
            elif (identity := found.get("identity")) is not None:
                metadata = identity.told()
            break
        if inner.f_code in UNTOLD:
            # Nobody listens to messages that are handled, so nothing of ours is in between.
            module = getattr(inner.f_locals.get("module_class"), "__name__", "")
            metadata = {"server": module, "module": module}
        if inner.f_code is Process.run.__code__ and (record := inner.f_locals.get("self")) is not None:
            # A process that reads its mailbox itself, or none.
            metadata = metadata or identities.met(record, record.name).told()
            break
        inner = inner.f_back
    summary = traceback.StackSummary.extract(
        ((one, one.f_lineno) for one in _frames(frame, min(outermost, _MAX_FRAMES))), lookup_lines=False
    )
    summary.reverse()
    where = tuple(f"{line.filename}:{line.lineno}" for line in summary[-3:])
    return Sample(where, "".join(summary.format())[-_MAX_STACK:], metadata, operation)


def _frames(frame: FrameType | None, count: int) -> Any:
    while frame is not None and count > 0:
        yield frame
        frame, count = frame.f_back, count - 1


def _tell(stood: float, samples: list[Sample]) -> None:
    """Tell of a stall, by the sample that stands for most of it."""
    if not samples:
        # Something has kept even the watchdog from running: it is known that, and not where.
        aloud.tell(STALLED, {"duration_ms": stood * 1e3}, {"samples": 0}, _said(stood, {}), aloud.WARNING)
        return
    (server, _), _ = Counter((one.metadata.get("server"), one.operation) for one in samples).most_common(1)[0]
    of_it = [one for one in samples if one.metadata.get("server") == server]
    where, count = Counter(one.where for one in of_it).most_common(1)[0]
    found = next(one for one in of_it if one.where == where)
    metadata = {
        **found.metadata,
        "stack": found.stack,
        "samples": len(samples),
        "samples_there": count,
    }

    def emit() -> None:
        if found.operation is not None:
            enter(inbound(found.operation))
        measured = {"duration_ms": stood * 1e3}
        aloud.tell(STALLED, measured, metadata, _said(stood, found.metadata), aloud.WARNING)

    Context().run(emit)


def _said(stood: float, metadata: Mapping[str, Any]) -> str:
    server, message = metadata.get("server"), metadata.get("message")
    where = "" if server is None else f" in {server}"
    handling = "" if message is None else f", which handled {message}"
    return f"The event loop stood for {stood:.3g} s{where}{handling}"


class _Watchdog:
    """The thread, and the loops that it watches."""

    def __init__(self) -> None:
        self._lock = new_lock()
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = weakref.WeakKeyDictionary()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_on = False

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch a loop, from its own thread."""
        if loop in self._loops:
            return
        with self._lock:
            self._loops[loop] = _Loop(loop)
            if self._is_on and self._thread is None:
                self._thread = start_thread(self._run, "otpylib-telemetry watchdog")

    def start(self) -> None:
        """Watch from now on."""
        with self._lock:
            self._is_on = True
            self._wake.clear()
            if self._loops and self._thread is None:
                self._thread = start_thread(self._run, "otpylib-telemetry watchdog")

    def stop(self) -> None:
        """Watch no more."""
        with self._lock:
            self._is_on = False
            thread, self._thread = self._thread, None
            self._wake.set()
            self._loops.clear()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=1.0)

    def after_fork(self) -> None:
        """Begin a child: its parent's thread and loops are not here."""
        is_on = self._is_on
        self.__init__()  # type: ignore[misc]  # as new
        self._is_on = is_on

    def _run(self) -> None:
        woken = self._wake
        before, used_before = monotonic(), process_time()
        while not woken.is_set():
            bound = in_force.rules.loop_stall_ms / 1e3
            pause = min(_LONGEST_ROUND, max(bound / 4, _SHORTEST_ROUND)) if bound > 0 else _PAUSE_OFF
            if woken.wait(pause):
                return
            now, used = monotonic(), process_time()
            late, worked = now - before - pause, used - used_before
            before, used_before = now, used
            if bound <= 0:
                continue
            # Stopped, or on a machine that slept: nobody in here has held anything up.
            was_stopped = late > max(_STOPPED, bound) and worked < late / 10
            try:
                self._look_at_all(now, bound, was_stopped=was_stopped)
            except Exception:  # noqa: BLE001  # one look less is better than none ever again
                _log.debug("the watchdog could not look at a loop", exc_info=True)

    def _look_at_all(self, now: float, bound: float, *, was_stopped: bool) -> None:
        for loop, watched in list(self._loops.items()):
            if was_stopped:
                watched.start_anew()
            if not watched.look(now, bound):
                self._loops.pop(loop, None)


watchdog: Final = _Watchdog()
after_fork_in_child(watchdog.after_fork)
