"""A message on its way: the envelope around it in the mailbox, which no receiver sees.

It says where in a trace the sender was, and when the message came. It is taken off where the message is taken
out of the queue, so whoever waits for a message gets exactly what was sent.
"""

from __future__ import annotations

import asyncio
import weakref
from contextvars import ContextVar
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.bus.context import innermost
from otpylib_telemetry.otp import is_quiet
from otpylib_telemetry.tracing import bridge as bridge_module
from otpylib_telemetry.tracing.operation import Place, with_baggage
from otpylib_telemetry.tracing.places import place_here
from otpylib_telemetry.tracing.record import enter_alone

if TYPE_CHECKING:
    from collections.abc import Callable

#: How many messages sent from one place are part of what was done there; whatever is sent beyond is linked to
#: it. A trace of more is of no use to anybody.
FAN_OUT: Final = 1_000

#: How many timers, each set while the one before was handled, are part of one trace; the next begins another,
#: which is linked to it. Otherwise the trace of a process that wakes itself every second would never end.
TIMER_CHAIN: Final = 32

#: Seconds for which what a process does belongs to what its maker was doing, where it receives nothing: one
#: that was started inside a request may go on for as long as the program.
ORIGIN_SECONDS = 300.0


class Inbound(Place):
    """Where a process is because of the message it has received last; the next one takes it elsewhere."""

    chain: int = 0


class Origin(Inbound):
    """Where a process is that has not received anything yet: where its maker was, but not for ever."""

    def __init__(self) -> None:
        self.over_ns = monotonic_ns() + int(ORIGIN_SECONDS * 1e9)
        self._has_ended = False

    @property
    def is_over(self) -> bool:  # type: ignore[override]  # nobody sets it
        """Whether it was long ago."""
        return monotonic_ns() >= self.over_ns

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self._has_ended or self.is_over

    @ended.setter
    def ended(self, value: bool) -> None:
        self._has_ended = value


class Envelope:
    """A message, with what its sender was doing.

    Attributes:
        message: What was sent.
        place: Where in a trace that was; None for nowhere.
        sent_ns: When it came into the mailbox, on the monotonic clock, in nanoseconds.
        quiet: Whether it is telemetry's own, of which telemetry does not tell.
        linked: Whether it is linked to that place and no part of it.
        chain: How many timers have led to it, each set while the one before was handled.
    """

    __slots__ = ("chain", "linked", "message", "place", "quiet", "sent_ns")

    message: Any
    place: Place | None
    sent_ns: int
    quiet: bool
    linked: bool
    chain: int


_new = object.__new__

#: The envelope of the message that the running process has received last; None where it had none.
arrived: ContextVar[Envelope | None] = ContextVar("otpylib_telemetry_arrived", default=None)


def place_of_sender() -> Place | None:
    """Return where in a trace the running code is."""
    place: Place | None = innermost.get()  # type: ignore[assignment]  # nothing else is entered
    bridge = bridge_module.installed
    if bridge is not None:
        place = place_here()
        own = "" if place is None else place.baggage
        baggage = bridge.baggage(own)
        return place if baggage == own else with_baggage(place, baggage)
    return place_here() if place is not None and place.ended else place


def enveloped(message: Any, place: Place | None) -> Envelope:
    """Put a message that is sent from a place into an envelope."""
    envelope = _new(Envelope)
    envelope.message = message
    envelope.place = place
    envelope.sent_ns = monotonic_ns()
    envelope.quiet = is_quiet()
    envelope.linked = False
    envelope.chain = 0
    if place is not None:
        if type(place) is Inbound and place.chain:
            envelope.chain = place.chain
            envelope.linked = place.chain > TIMER_CHAIN
        place.sent = sent = place.sent + 1
        if sent > FAN_OUT:
            envelope.linked = True
    return envelope


def inbound(place: Place, kind: type[Inbound] = Inbound) -> Inbound:
    """Return a place of its own at a place, for whoever goes on from there."""
    made = kind()
    if not place.is_place:
        made.is_place = made.is_parent = False
        made.carried = place.carried
        return made
    made.trace = place.trace
    made.span_id = place.span_id
    made.carried = place.carried
    made.correlation = place.correlation
    if not place.is_parent:
        made.is_parent = False
        made.beyond = place.beyond
    return made


def nowhere() -> Inbound:
    """Return the place of whoever goes on from nowhere in a trace."""
    made = Inbound()
    made.is_place = made.is_parent = False
    return made


def leave_for(origin: Place | None) -> None:
    """Have the running code be at a place, or else nowhere, and out of all that it was inside of."""
    if origin is not None:
        enter_alone(origin)
    elif bridge_module.installed is not None:
        enter_alone(nowhere())
    elif innermost.get() is not None:
        innermost.set(None)


class WatchedQueue(asyncio.Queue[Any]):
    """The queue of a mailbox, which takes messages out of their envelopes.

    A queue becomes one, and stops being one, with whatever waits in it or for it.

    Attributes:
        deepest: How many messages waited at once, at most, since somebody asked.
    """

    deepest: int = 0

    def _get(self) -> Any:
        """Return the next message, and leave its envelope where its receiver finds it."""
        item = self._queue.popleft()  # type: ignore[attr-defined]  # as asyncio's own does
        if type(item) is Envelope:
            message = item.message
            # What is remembered of a message keeps nothing of it alive.
            item.message = None
            arrived.set(item)
            return message
        if arrived.get() is not None:
            arrived.set(None)
        return item


_watched: weakref.WeakSet[WatchedQueue] = weakref.WeakSet()


def watch(queue: asyncio.Queue[Any]) -> bool:
    """Have a queue take messages out of envelopes from now on; False if it is of a kind of its own."""
    if type(queue) is not asyncio.Queue or queue.maxsize > 0:
        return False
    queue.__class__ = WatchedQueue
    _watched.add(queue)  # type: ignore[arg-type]  # it is one now
    return True


def watched() -> list[WatchedQueue]:
    """Return all queues that are watched."""
    return list(_watched)


def unwatch_all() -> None:
    """Take all messages that wait out of their envelopes, and make the queues what they were."""
    for queue in watched():
        waiting: Any = queue._queue  # type: ignore[attr-defined]  # noqa: SLF001  # the only way to what waits
        for index, item in enumerate(waiting):
            if type(item) is Envelope:
                waiting[index] = item.message
        queue.__dict__.pop("deepest", None)
        queue.__class__ = asyncio.Queue  # type: ignore[assignment]  # as it was
    _watched.clear()


async def take(get: Callable[[], Any]) -> tuple[Any, Envelope | None]:
    """Return the next message with its envelope, be it from a task of its own."""
    message = await get()
    return message, arrived.get()
