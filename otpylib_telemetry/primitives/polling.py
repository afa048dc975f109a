"""Callbacks of observable instruments: called one after the other on a thread, each with its own time limit.

One that takes long is left to its thread, and another thread goes on with the rest: so it costs the others
nothing, and a round with several of them hardly lasts longer than one. One that has not come back is not
called again before it has.

Knows nothing of OpenTelemetry's packages.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from dataclasses import dataclass
from inspect import isgenerator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LATE", "Outcome", "Watch", "run_round"]

#: Seconds after which the callbacks behind one that takes long are taken over by another thread.
_STEP: Final = 0.05

#: Not that of the threads that export: what a callback logs is the application's.
_THREAD: Final = "otpylib-telemetry-observations"

#: Why there is no outcome, where no exception tells it.
LATE: Final = "it takes too long"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call.

    Attributes:
        observations: What was returned, in order.
        error: What it raised; None if it was well.
    """

    observations: Sequence[Any] = ()
    error: BaseException | None = None


class Watch:
    """One callback.

    Args:
        callback: A function that takes the options and returns observations, or a generator that is sent the
            options and yields them, as ``opentelemetry.metrics.CallbackT`` has it.

    Attributes:
        busy: Whether a call has not come back.
    """

    __slots__ = ("_begun", "busy", "callback")

    def __init__(self, callback: Any) -> None:
        self.callback = callback
        self.busy = False
        self._begun = False

    def call(self, options: Any) -> Outcome:
        """Call it, whatever it does.

        Args:
            options: What the callback is given.
        """
        try:
            return Outcome(tuple(self._ask(options) or ()))
        except BaseException as error:  # noqa: BLE001 - on a thread of ours, SystemExit included
            return Outcome(error=error)
        finally:
            self.busy = False

    def _ask(self, options: Any) -> Any:
        if not isgenerator(self.callback):
            return self.callback(options)
        if not self._begun:
            self._begun = True
            next(self.callback)
        try:
            return self.callback.send(options)
        except StopIteration:
            raise RuntimeError("the generator has ended; it is to yield for ever") from None


class _Worker:
    """A thread that calls what is left, until it is relieved."""

    def __init__(
        self, left: deque[Watch], done: queue.SimpleQueue[tuple[Watch, Outcome]], options: Any
    ) -> None:
        self.relieved = False
        self.at: tuple[Watch, float] | None = None
        self._left, self._done, self._options = left, done, options
        threading.Thread(target=self._work, name=_THREAD, daemon=True).start()

    def at_it_for(self, now: float) -> float:
        """Return for how many seconds it has been at the same callback."""
        at = self.at
        return 0.0 if at is None else now - at[1]

    def _work(self) -> None:
        while not self.relieved:
            try:
                watch = self._left.popleft()
            except IndexError:
                return
            watch.busy = True
            self.at = watch, time.monotonic()
            outcome = watch.call(self._options)
            self.at = None
            self._done.put((watch, outcome))


def run_round(
    watches: Sequence[Watch], options: Any, limit: float, step: float = _STEP
) -> dict[Watch, Outcome | None]:
    """Call callbacks, and wait for them within limits.

    Args:
        watches: The callbacks.
        options: What each is given.
        limit: Seconds a callback may take.
        step: Seconds after which the rest goes on without one that takes long.

    Returns:
        What became of each: None where it did not come back in time, or not from an earlier round.

    Raises:
        RuntimeError: No thread can be started, as when the interpreter is exiting.
    """
    outcomes: dict[Watch, Outcome | None] = dict.fromkeys(watches)
    left = deque(watch for watch in watches if not watch.busy)
    waited_for = set(left)
    done: queue.SimpleQueue[tuple[Watch, Outcome]] = queue.SimpleQueue()
    workers = [_Worker(left, done, options)] if left else []
    while waited_for:
        try:
            watch, outcome = done.get(timeout=step)
        except queue.Empty:
            pass
        else:
            if watch in waited_for:
                outcomes[watch] = outcome
                waited_for.discard(watch)
        now = time.monotonic()
        if left and workers[-1].at_it_for(now) >= step:
            try:
                workers.append(_Worker(left, done, options))
            except RuntimeError:
                continue
            workers[-2].relieved = True
        for worker in workers:
            if worker.at_it_for(now) >= limit and (at := worker.at) is not None:
                waited_for.discard(at[0])
    return outcomes
