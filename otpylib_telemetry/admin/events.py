"""``GET /events``: live events as server-sent events.

A reader gets a handler of its own for as long as it reads, and a queue that is bounded. What an emitting call
pays is one append; with the queue full, one addition. Everything else is done by the reader, in small steps.
A reader that takes nothing for a while is cut off, and its handler goes with it.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self

from otpylib_telemetry.admin.plain import dumps, shown, shown_event
from otpylib_telemetry.admin.problems import ProblemError
from otpylib_telemetry.admin.routing import Answer
from otpylib_telemetry.bus import table
from otpylib_telemetry.primitives.waiting import is_set_within

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from otpylib_telemetry.admin.routing import Call

MEDIA: Final = "text/event-stream"

#: Events that wait for one reader, and readers at a time.
QUEUE_LIMIT: Final = 1000
MOST_READERS: Final = 16

#: Bytes after which a step of writing events ends, and the seconds between two steps: an application that
#: emits all the time, or large events, must not spend its time on being watched.
_STEP: Final = 16_384
_PAUSE: Final = 0.02

#: Seconds without an event after which a reader is told that the connection lives.
HEARTBEAT: Final = 15.0

#: What begins the ids of the handlers.
HANDLER: Final = "telemetry.admin.events"

_numbers: Final = itertools.count(1)
_readers: Final[set[Tap]] = set()


class Tap:
    """One reader's handler, and what waits for it."""

    def __init__(self, pattern: str, sample: float) -> None:
        self.handler_id = f"{HANDLER}.{next(_numbers)}"
        self.pattern = pattern
        self.dropped = 0
        self._sample = sample
        self._queue: deque[tuple[str, dict[str, Any], dict[str, Any], float]] = deque()
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._is_told = False

    def __enter__(self) -> Self:
        if len(_readers) >= MOST_READERS:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{MOST_READERS} readers of events are there already",
                expected="to wait until one goes",
                headers={"Retry-After": "5"},
            )
        _readers.add(self)
        # It tells of no traces: what it hears of becomes nobody's parent.
        table.add(self.handler_id, [self.pattern], self.take, traces=False)
        return self

    def __exit__(self, *_error: object) -> None:
        table.remove(self.handler_id)
        _readers.discard(self)

    def take(self, name: str, measurements: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Take an event, in the emitting call, on whatever thread that is."""
        if len(self._queue) >= QUEUE_LIMIT:
            self.dropped += 1
            return
        if self._sample < 1.0 and not self._is_chosen(metadata):
            return
        # Copies: what is in there by the time it is written may be something else.
        self._queue.append((name, dict(measurements), dict(metadata), time.time()))
        if not self._is_told:
            self._is_told = True
            self._loop.call_soon_threadsafe(self._arrived.set)

    def _is_chosen(self, metadata: Mapping[str, Any]) -> bool:
        trace_id = metadata.get("trace_id")
        if type(trace_id) is str and len(trace_id) == 32:  # noqa: PLR2004  # W3C: 16 bytes
            # By its random half, as samplers do.
            try:
                return int(trace_id[16:], 16) < self._sample * 2**64
            except ValueError:
                return False
        return random.random() < self._sample  # noqa: S311  # which events are shown is no secret

    async def wait(self, seconds: float) -> bool:
        """Wait for events; returns whether there are any."""
        return bool(self._queue) or await is_set_within(self._arrived, seconds)

    def next_step(self) -> list[bytes]:
        """Return the next events as they are written, oldest first."""
        self._arrived.clear()
        self._is_told = False
        written: list[bytes] = []
        size = 0
        while self._queue and size < _STEP:
            written.append(_event(*self._queue.popleft()))
            size += len(written[-1])
        return written


def readers() -> int:
    """Return how many readers there are."""
    return len(_readers)


async def get_events(call: Call) -> Answer:
    """Answer with events as they are emitted."""
    tap = Tap(call.parameters.pattern, call.parameters.sample)
    stream = _stream(tap, call.parameters.pattern)
    # Here a reader too many is refused; later the answer has begun.
    first = await anext(stream)
    return Answer(
        HTTPStatus.OK, _after(first, stream), MEDIA, {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )


async def _after(first: bytes, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    try:
        yield first
        async for each in stream:
            yield each
    finally:
        await stream.aclose()


async def _stream(tap: Tap, pattern: str) -> AsyncGenerator[bytes, None]:
    told = 0
    with tap:
        yield _message({"pattern": pattern, "queue_limit": QUEUE_LIMIT}, "open")
        while True:
            if not await tap.wait(HEARTBEAT):
                yield b": heartbeat\n\n"
                continue
            written = tap.next_step()
            if tap.dropped > told:
                written.append(
                    _message({"dropped": tap.dropped - told, "dropped_in_all": tap.dropped}, "dropped")
                )
                told = tap.dropped
            if written:
                yield b"".join(written)
            await asyncio.sleep(_PAUSE)


def _event(name: str, measurements: dict[str, Any], metadata: dict[str, Any], at: float) -> bytes:
    details = {"measurements": shown(measurements), "metadata": shown(metadata)}
    return _message({"event_name": shown_event(name), **details, "time": at})


def _message(data: Mapping[str, Any], kind: str | None = None) -> bytes:
    named = "" if kind is None else f"event: {kind}\n"
    return f"{named}data: {dumps(data)}\n\n".encode()
