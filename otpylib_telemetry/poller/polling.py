"""Calls what is polled, each in its own time: one that fails or hangs is of no concern to the others."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry import otp
from otpylib_telemetry.bus.dispatch import execute
from otpylib_telemetry.instrument.log_events import severity_number
from otpylib_telemetry.instrument.log_record import RECORD, LogRecord
from otpylib_telemetry.poller.polls import MOST_NUMBERS, Measured
from otpylib_telemetry.primitives.any_value import any_values
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.threads import start_in_thread
from otpylib_telemetry.primitives.waiting import is_set_within

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otpylib_telemetry.meters.observed import Observation
    from otpylib_telemetry.poller.polls import Poll

_log = logging.getLogger("otpylib_telemetry")

FAILURE_EVENT: Final = "telemetry.poller.failure"
RECOVERY_EVENT: Final = "telemetry.poller.recovered"

#: Seconds until the next attempt at most, unless the interval is longer.
_LONGEST_PAUSE: Final = 300.0

_DOUBLINGS: Final = 20

#: How many numbers are read, or events emitted, before the event loop has its turn.
_AT_ONCE: Final = 100

_END: Final = object()


class Polling:
    """Calls functions again and again, as long as they are among those that are wanted."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: dict[Poll, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self.interval = 10.0
        self.timeout = 5.0

    def use(self, wanted: Iterable[Poll], interval: float, timeout: float) -> None:
        """Poll these and no others, in these times."""
        if (interval, timeout) != (self.interval, self.timeout):
            self.interval, self.timeout = interval, timeout
            self._changed.set()
            self._changed = asyncio.Event()
        present = list(wanted)
        for gone in self._tasks.keys() - set(present):
            self._tasks.pop(gone).cancel()
            gone.observations = []
        for each in present:
            if each not in self._tasks or self._tasks[each].done():
                self._tasks[each] = otp.run_in_background(
                    self._loop, self._go_on(each), name=f"poll {each.name}"
                )

    def observations(self) -> list[Observation]:
        """Return what was found last, from any thread."""
        return [
            one
            for each, task in list(self._tasks.items())
            # What nobody measures any more is no measurement.
            if not task.done()
            for one in each.observations
        ]

    def stats(self) -> dict[str, Any]:
        """Return by name what is polled, how often it was, and what is wrong with it."""
        return {
            each.name: {
                "calls": each.calls,
                "failures": each.failures,
                "trouble": each.trouble,
                "left_out": each.left_out,
            }
            for each in list(self._tasks)
        }

    async def _go_on(self, each: Poll) -> None:
        if each.first_delay:
            await asyncio.sleep(each.first_delay)
        failed_in_a_row = 0
        while True:
            began = time.monotonic()
            if await self._poll(each):
                failed_in_a_row = 0
            else:
                failed_in_a_row += 1
            await self._wait(each, began, failed_in_a_row)

    async def _wait(self, each: Poll, began: float, failed_in_a_row: int) -> None:
        """Wait until it is time for the next call; the interval may change meanwhile."""
        while True:
            interval = each.interval or self.interval
            pause = interval * 2 ** min(max(0, failed_in_a_row - 1), _DOUBLINGS)
            left = began + min(pause, max(interval, _LONGEST_PAUSE)) - time.monotonic()
            changed = self._changed
            if not await is_set_within(changed, max(0.001, left)):
                return

    async def _poll(self, each: Poll) -> bool:
        """Call one; tells whether that went well. Never raises."""
        try:
            found = await _read(each, await self._call(each))
        except Exception as error:  # noqa: BLE001 - whatever the application's function does
            self._failed(each, describe(error))
            return False
        each.calls += 1
        each.observations = found.observations
        if each.trouble is not None:
            message = f"The poll {each.name} works again."
            _log.info("%s", message)
            each.trouble = None
            _emit(RECOVERY_EVENT, each, {"poll": each.name}, message, logging.INFO)
        _take_notice(each, sum(found.beyond))
        for number, (measurements, metadata) in enumerate(found.events, 1):
            execute(each.name, measurements, metadata)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return True

    def _failed(self, each: Poll, trouble: str) -> None:
        each.failures += 1
        each.observations = []
        said, each.trouble = each.trouble, trouble
        if said is None:
            message = (
                f"The poll {each.name} failed: {trouble}. Its series are gone until it works; it is tried "
                "again, ever more seldom, and this is not reported again before it has worked."
            )
            _log.warning("%s", message)
            _emit(FAILURE_EVENT, each, {"poll": each.name, "reason": trouble}, message, logging.WARNING)

    async def _call(self, each: Poll) -> Any:
        """Return what the function returns, if it does in time."""
        if each.pending is not None and not each.pending.done():
            raise TimeoutError("the call before has not come back")
        end = self._loop.time() + self.timeout
        if _called(lambda: each.is_async):
            result = await self._until(each, self._task(_called(each.function)), end)
        elif each.blocks:
            result = await self._until(each, start_in_thread(lambda: _Returned(each.function())), end)
        else:
            result = _called(each.function)
        if _called(inspect.isawaitable, result):
            result = await self._until(each, self._task(result), end)
        return result

    def _task(self, awaitable: Any) -> asyncio.Future[_Returned]:
        async def guarded() -> _Returned:
            try:
                return _Returned(await awaitable)
            except SystemExit as error:
                # Out of a task it would end the program.
                raise _failure(error) from error

        task = self._loop.create_task(guarded(), context=contextvars.Context())
        # A task that is cancelled before its first step has awaited nothing.
        task.add_done_callback(lambda _: _close(awaitable))
        return task

    async def _until(self, each: Poll, call: asyncio.Future[_Returned], end: float) -> Any:
        """Wait for a call; one that is late is given up, and remembered as long as it goes on."""
        each.pending = call
        call.add_done_callback(_seen)
        try:
            await asyncio.wait({call}, timeout=max(0.0, end - self._loop.time()))
        finally:
            # A thread cannot be ended; what it returns is of no use any more.
            if not call.done() and isinstance(call, asyncio.Task):
                call.cancel()
        if not call.done():
            raise TimeoutError(f"it has not come back within {self.timeout:g} s")
        if call.cancelled():
            raise RuntimeError("it ended with a CancelledError that nobody had sent")
        error = call.exception()
        if error is not None and not isinstance(error, Exception):
            raise _failure(error) from error
        return call.result().take()


class _Returned:
    """What a call returned; a coroutine that nobody took, because it came too late, ends with this."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def take(self) -> Any:
        result, self._result = self._result, None
        return result

    def __del__(self) -> None:
        _close(self._result)


def _close(result: object) -> None:
    """End a coroutine, of which Python says otherwise that it was never awaited."""
    if isinstance(result, Coroutine):
        with contextlib.suppress(Exception):
            result.close()


def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what comes of the application's code; whatever it raises is an exception of an ordinary kind.

    Out of the task that polls, any other would end all polling of this function, or the program. So each
    CancelledError that the task meets is meant for it. An interrupt may hit any code, and ends the program.
    """
    try:
        return function(*arguments)
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise _failure(error) from error


def _failure(error: BaseException) -> RuntimeError:
    return RuntimeError(f"it raised {describe(error)}")


def _emit(event: str, each: Poll, metadata: dict[str, Any], message: str, level: int) -> None:
    """Emit what became of a poll; as a log record it says what the log says, and is as severe."""
    measurements = {"failures": each.failures}
    record = LogRecord(
        message,
        any_values({**metadata, **measurements})[0],
        severity_number=severity_number(level),
        severity_text=logging.getLevelName(level),
        event_name=event,
    )
    execute(event, measurements, {**metadata, RECORD: record})


async def _read(each: Poll, result: Any) -> Measured:
    """Return what a result says, without keeping the event loop from anything else."""
    if each.built_in:
        return result  # type: ignore[no-any-return]  # ours return it
    found = Measured([], [], [])
    steps = each.read(result, found)
    # What is returned may be of the application's own classes.
    for number, _ in enumerate(iter(lambda: _called(next, steps, _END), _END), 1):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
    return found


def _take_notice(each: Poll, left_out: int) -> None:
    """Count what went beyond the limit, and say so once."""
    each.left_out += left_out
    if left_out and not each.said_left_out:
        each.said_left_out = True
        _log.warning(
            "The poll %s returns more than %d numbers: what goes beyond is left out (%d this time). It is "
            "counted (left_out in get_stats of the poller), and not reported again.",
            each.name,
            MOST_NUMBERS,
            left_out,
        )


def _seen(call: asyncio.Future[Any]) -> None:
    if not call.cancelled():
        call.exception()


def start_soon(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Call a function on a loop, from any thread; a loop that is closed is no error."""
    try:
        loop.call_soon_threadsafe(function, context=contextvars.Context())
    except RuntimeError:
        return
