"""Events in: the subscription to the bus, and the way from the queue through the exporter into the books."""

from __future__ import annotations

import asyncio
import fnmatch
import logging
import time
import traceback
from typing import TYPE_CHECKING, Any

from otpylib_telemetry import otp
from otpylib_telemetry.bus import table
from otpylib_telemetry.exporter.base import Collected, overridden
from otpylib_telemetry.primitives.clock import wall_clock
from otpylib_telemetry.primitives.errors import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.bus.events import RawEvent
    from otpylib_telemetry.config.settings import ExporterSettings
    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry.exporter.state import ExporterState


_log = logging.getLogger("otpylib_telemetry")


#: Events collected in one go: some hundred microseconds.
CHUNK = 100


#: Nanoseconds of collecting after which the event loop gets a turn.
SLICE_NS = 2_000_000


#: Seconds that producing may take when its time has come.
PRODUCING = 30.0


#: The part of its time that one which may be the last waits for an earlier one to end.
GIVE_WAY = 0.4


#: Kinds of failure that are reported.
REPORTS = 20


class QueueConsumer:
    """Takes events out of a name's queue for one life of its process.

    Args:
        state: What belongs to the exporter's name.
        wake: Called from any thread when there is something to collect.
        scrub: Takes out of a text what must not be seen.
    """

    def __init__(
        self, state: ExporterState, wake: Callable[[], None], *, scrub: Callable[[str], str] = str
    ) -> None:
        #: Who collects; None while there is nobody, and events wait in the queue.
        self.exporter: Exporter[Any] | None = None
        #: Whether another life has begun, and nothing here may touch the name any more.
        self.superseded = False
        self.subscribed = False
        self._state = state
        self._wake = wake
        self._scrub = scrub
        self._patterns: tuple[str, ...] = ()
        self._reported: set[str] = set()
        self._producing = asyncio.Lock()
        # The limit of the producing that is under way.
        self._limit: asyncio.Timeout | None = None
        self._cut_off_said = False

    def subscribe(self, settings: ExporterSettings, *, to_everything: bool = False) -> None:
        """Take events from now on.

        Args:
            settings: Which, in what portions, and how many at most.
            to_everything: Take every event: the settings are not final, and :meth:`keep_wanted` follows.
        """
        state = self._state
        if self.superseded:
            return
        patterns = ("*",) if to_everything else tuple(settings.event_patterns)
        state.limit(settings.queue_limit)
        state.queue.connect(self._wake, settings.batch_size)
        if patterns != self._patterns or state.name not in table.current.table.handlers:
            table.add(state.name, patterns, state.queue.offer)
            self._patterns = patterns
        self.subscribed = True

    def unsubscribe(self) -> None:
        """Take no more events; what is queued stays."""
        if not self.superseded:
            table.remove(self._state.name)
        self._patterns = ()
        self.subscribed = False

    def wants(self, name: str) -> bool:
        """Tell whether an event of this name would be taken if it were emitted now."""
        return self.subscribed and _matches(name, self._patterns)

    def keep_wanted(self, settings: ExporterSettings | None) -> None:
        """Forget provisional events that the final settings do not ask for; without settings, all of them."""
        patterns = () if settings is None else tuple(settings.event_patterns)
        self._state.queue.retain(lambda event: _matches(event[0], patterns))

    def work(self, batch_size: int) -> bool:
        """Collect what waits, for one slice of time.

        Returns:
            Whether there is more to collect at once.
        """
        queue = self._state.queue
        if self.superseded or self.exporter is None:
            queue.rearm()
            return False
        until = time.monotonic_ns() + SLICE_NS
        while len(queue) and time.monotonic_ns() < until:
            self._collect()
        queue.rearm()
        return len(queue) >= batch_size

    async def catch_up(self) -> None:
        """Collect every event emitted before this call."""
        left = len(self._state.queue)
        while left > 0 and self.exporter is not None and not self.superseded:
            left -= CHUNK
            self._collect()
            await asyncio.sleep(0)

    def collect_now(self) -> None:
        """Collect every event emitted before this call, at one go."""
        left = len(self._state.queue)
        while left > 0 and self.exporter is not None and not self.superseded:
            left -= CHUNK
            self._collect()

    def tick(self) -> None:
        """Let the exporter do what is due by the clock."""
        now = time.monotonic_ns()
        self._book(lambda exporter: exporter.tick(now, wall_clock.offset_ns(), otp.is_running))
        exporter = self.exporter
        if overridden(exporter, "produce") is None or self._producing.locked() or self.superseded:
            return
        if exporter is not None and exporter.produce_due(now):
            loop = asyncio.get_running_loop()
            otp.run_in_background(
                loop, self.let_produce(PRODUCING, last_chance=False), name=f"{self._state.name} producing"
            )

    async def let_produce(self, seconds: float, *, last_chance: bool) -> None:
        """Let the exporter make items of what it has added up, if it does such a thing.

        Args:
            seconds: How long that may take; what was made by then stays.
            last_chance: Whether this may be the last time.
        """
        exporter = self.exporter
        if self.superseded or exporter is None or overridden(exporter, "produce") is None:
            return
        clock = asyncio.get_running_loop().time
        end = clock() + max(0.0, seconds)
        earlier = self._limit
        if last_chance and earlier is not None and not earlier.expired():
            # One that takes its time must not use up that of one which may be the last.
            give_way = clock() + max(0.0, seconds) * GIVE_WAY
            earlier.reschedule(min(earlier.when() or give_way, give_way))
        try:
            async with asyncio.timeout_at(end) as limit, self._producing:
                self._limit = limit
                try:
                    left = max(0.0, end - clock())
                    await exporter.produce(
                        self._enter, self._state.produced_held, left, last_chance=last_chance
                    )
                finally:
                    self._limit = None
        except TimeoutError:
            if not self._cut_off_said:
                self._cut_off_said = True
                _log.warning(
                    "%s did not produce everything in time (%.3g s); what is missing is part of the next, if "
                    "there is one. That is said once.",
                    self._state.name,
                    seconds,
                )
        except Exception as error:  # noqa: BLE001  # an exporter's defect must not cost the process
            self._report(error, 0)
        self._wake()

    def _enter(self, step: Callable[[], Collected]) -> bool:
        if self.superseded or self.exporter is None:
            return False
        self._book(lambda _exporter: step())
        return True

    def give_up_held(self) -> None:
        """Let the exporter give up what it holds: nothing more will come."""
        self._book(lambda exporter: exporter.give_up_held(wall_clock.offset_ns()))

    def _collect(self) -> None:
        events = self._state.queue.take(CHUNK)
        self._book(lambda exporter: exporter.collect(events, wall_clock.offset_ns()), events)

    def _book(
        self, step: Callable[[Exporter[Any]], Collected], events: list[RawEvent] | tuple[()] = ()
    ) -> None:
        """Run a step of the exporter and enter its outcome; events it was given and lost are counted."""
        exporter = self.exporter
        if self.superseded or exporter is None:
            return
        try:
            collected = _checked(step(exporter))
            held = int(exporter.held)
        except Exception as error:  # noqa: BLE001  # an exporter's defect must not cost the process
            self._report(error, len(events))
            # What it held before, it may still hold.
            collected, held = Collected(dropped={"failed": len(events)}), self._state.held_events
        self._state.book(collected, len(events), held, overridden(exporter, "lane"))

    def _report(self, error: Exception, events: int) -> None:
        """Say once per kind of failure that the exporter cannot collect."""
        reason = self._scrub(describe(error))
        if reason not in self._reported and len(self._reported) < REPORTS:
            self._reported.add(reason)
            # What is printed with the exception says everything once more.
            written = "".join(traceback.format_exception(error))
            fit = self._scrub(written)
            _log.error(
                "%s failed while collecting (%s); %d events are counted as dropped. Further failures of the "
                "kind are only counted.%s",
                self._state.name,
                reason,
                events,
                "" if fit == written else f"\n{fit}",
                exc_info=error if fit == written else None,
            )


def _checked(collected: object) -> Collected:
    """Return what an exporter said, if it can be reckoned with.

    Raises:
        TypeError: It cannot.
        ValueError: It cannot.
    """
    if not isinstance(collected, Collected):
        raise TypeError(f"a Collected was expected, not {type(collected).__name__}")
    numbers = [collected.exported, collected.sampled_out, collected.rejected, *collected.dropped.values()]
    numbers += [weight for _, weight in (*collected.items, *collected.produced_items)]
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise ValueError("numbers of events are whole and not negative")
    return collected


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


#: The part of the time for a flush or for shutting down that making the last items may take.
PRODUCING_SHARE = 0.3
