"""Foreign functions, called one after the other on a thread, each with its own time limit.

One that takes long is left to its thread, and another thread goes on with the rest: so it costs the others
nothing, and a round with several of them hardly lasts longer than one. One that has not come back is not
called again before it has.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from inspect import isgenerator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib_telemetry.primitives.process_end import is_ending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


#: Seconds after which the functions behind one that takes long are taken over by another thread.
_STEP: Final = 0.05

#: Not that of the threads that export: what a foreign function logs is the application's.
_THREAD: Final = "otpylib-telemetry-observations"

#: Why there is no outcome, where no exception tells it.
LATE: Final = "it takes too long"


class Outcome(NamedTuple):
    """What became of one call."""

    observations: Sequence[Any] = ()
    error: BaseException | None = None


class Watch:
    """One function, or a generator that is sent the argument and yields; ``busy`` while it is at it."""

    __slots__ = ("_begun", "busy", "callback")

    def __init__(self, callback: Any) -> None:
        self.callback = callback
        self.busy = False
        self._begun = False

    def call(self, argument: Any) -> Outcome:
        """Call it, whatever it does."""
        try:
            return Outcome(tuple(self._ask(argument) or ()))
        except BaseException as error:  # noqa: BLE001 - on a thread of ours, SystemExit included
            return Outcome(error=error)
        finally:
            self.busy = False

    def _ask(self, argument: Any) -> Any:
        if not isgenerator(self.callback):
            return self.callback(argument)
        if not self._begun:
            self._begun = True
            next(self.callback)
        try:
            return self.callback.send(argument)
        except StopIteration:
            raise RuntimeError("the generator has ended; it is to yield for ever") from None


class Watches:
    """A watch for each of objects that come and go, found by their identity.

    One that has not come back is remembered, also when it is not asked for any more.
    """

    def __init__(self, call: Callable[[Any], Iterable[Any]]) -> None:
        self._call = call
        self._known: dict[int, tuple[Any, Watch]] = {}

    def of(self, objects: Sequence[Any]) -> list[Watch]:
        """Return the watches of these objects, in their order."""
        busy = {key: pair for key, pair in self._known.items() if pair[1].busy}
        found = {id(each): self._known.get(id(each)) or (each, self._watch(each)) for each in objects}
        self._known = {**busy, **found}
        return [found[id(each)][1] for each in objects]

    def _watch(self, each: Any) -> Watch:
        return Watch(lambda _argument: self._call(each))


class _Worker:
    """A thread that calls what is left, until it is relieved."""

    def __init__(
        self, left: deque[Watch], done: queue.SimpleQueue[tuple[Watch, Outcome]], argument: Any
    ) -> None:
        self.relieved = False
        self.at: tuple[Watch, float] | None = None
        self._left, self._done, self._argument = left, done, argument
        threading.Thread(target=self._work, name=_THREAD, daemon=True).start()

    def at_it_for(self, now: float) -> float:
        """Return for how many seconds it has been at the same function."""
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
            outcome = watch.call(self._argument)
            self.at = None
            self._done.put((watch, outcome))


class Round:
    """Functions called once, beginning at once; one still busy with an earlier round is left out."""

    def __init__(self, watches: Sequence[Watch], argument: Any, limit: float, step: float = _STEP) -> None:
        self._outcomes: dict[Watch, Outcome | None] = dict.fromkeys(watches)
        self._left = deque(watch for watch in self._outcomes if not watch.busy)
        self._waited_for = set(self._left)
        self._argument, self._limit, self._step = argument, limit, step
        self._done: queue.SimpleQueue[tuple[Watch, Outcome]] = queue.SimpleQueue()
        self._workers = [_Worker(self._left, self._done, argument)] if self._left else []

    def wait(self, seconds: float = math.inf) -> dict[Watch, Outcome | None]:
        """Return what became of each: None where it did not come back in time, or its turn did not come.

        To be called once, on a thread that may block, for ``seconds`` at most.
        """
        end = time.monotonic() + seconds
        while self._waited_for and (left := end - time.monotonic()) > 0:
            self._take(min(self._step, left))
            self._relieve(time.monotonic())
        while self._take(0.0):
            pass
        self._left.clear()
        return self._outcomes

    def _take(self, seconds: float) -> bool:
        """Wait for an outcome; return whether there was one."""
        try:
            watch, outcome = self._done.get(timeout=seconds)
        except queue.Empty:
            return False
        if watch in self._waited_for:
            self._outcomes[watch] = outcome
            self._waited_for.discard(watch)
        return True

    def _relieve(self, now: float) -> None:
        """Have another thread go on where one takes long, and wait no longer for what is late."""
        for worker in self._workers:
            if worker.at_it_for(now) >= self._limit and (at := worker.at) is not None:
                self._waited_for.discard(at[0])
        if self._left and self._workers[-1].at_it_for(now) >= self._step:
            try:
                self._workers.append(_Worker(self._left, self._done, self._argument))
            except RuntimeError:
                return
            self._workers[-2].relieved = True


def call_each(watches: Sequence[Watch], argument: Any, seconds: float) -> dict[Watch, Outcome | None]:
    """Call each function once, all of them within so many seconds; see :meth:`Round.wait`. Never raises."""
    try:
        round_ = Round(watches, argument, seconds)
    except RuntimeError as error:
        # Too late for a thread: nobody else needs this one any more.
        return {watch: watch.call(argument) if is_ending() else Outcome(error=error) for watch in watches}
    return round_.wait(seconds)
