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
from otpylib_telemetry.bus.event_log import name_of
from otpylib_telemetry.exporter.base import overridden, takes_operations
from otpylib_telemetry.exporter.collected import Collected
from otpylib_telemetry.primitives.clock import wall_clock
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry.tracing.operation import as_own_events

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.config.settings import ExporterSettings
    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry.exporter.lease import Lease
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

#: Kinds of trouble that are reported.
REPORTS = 20


class QueueConsumer:
    """Takes events out of a name's queue for one life of its process.

    ``wake`` is called from any thread when there is something to collect.
    """

    def __init__(self, lease: Lease, wake: Callable[[], None], *, scrub: Callable[[str], str] = str) -> None:
        #: Who collects; None while there is nobody, and events wait in the queue.
        self.exporter: Exporter[Any] | None = None
        self._lease = lease
        self._wake = wake
        self._scrub = scrub
        self._patterns: tuple[str, ...] = ()
        self._traces = True
        self._said = Once(REPORTS)
        self._producing = asyncio.Lock()
        # The limit of the producing that is under way.
        self._limit: asyncio.Timeout | None = None

    @property
    def _state(self) -> ExporterState:
        return self._lease.state

    def subscribe(
        self, settings: ExporterSettings, *, to_everything: bool = False, traces: bool = True
    ) -> None:
        """Take events from now on; every event where the settings are not final yet.

        ``traces`` says whether what it gets is told of in traces.
        """
        state = self._state
        patterns = ("*",) if to_everything else tuple(settings.event_patterns)
        state.limit(settings.queue_limit)
        state.queue.connect(self._wake, settings.batch_size)
        if (patterns, traces) != (self._patterns, self._traces) or (
            state.name not in table.current.table.handlers
        ):
            state.subscribe(patterns, traces=traces)
            self._patterns, self._traces = patterns, traces

    def unsubscribe(self) -> None:
        """Take no more events; what is queued stays."""
        self._state.unsubscribe()
        self._patterns = ()

    def wants(self, name: str) -> bool:
        """Tell whether an event of this name would be taken if it were emitted now."""
        return _matches(name, self._patterns)

    def keep_wanted(self, settings: ExporterSettings | None) -> None:
        """Forget provisional events that the final settings do not ask for; without settings, all of them."""
        patterns = () if settings is None else tuple(settings.event_patterns)
        self._state.queue.retain(lambda entry: _matches(name_of(entry), patterns))

    def work(self) -> bool:
        """Collect what waits, for one slice of time; return whether there is more to collect at once."""
        queue = self._state.queue
        if not self._collects:
            # Whoever collects next has a look of its own.
            return False
        until = time.monotonic_ns() + SLICE_NS
        while len(queue) and time.monotonic_ns() < until:
            self._collect()
        if len(queue) >= self._state.settings.batch_size:
            return True
        queue.rearm()
        return False

    async def catch_up(self) -> bool:
        """Collect every event emitted before this call, giving the loop its turns; tell whether it did."""
        left = len(self._state.queue)
        while left > 0 and self._collects:
            left -= CHUNK
            self._collect()
            await asyncio.sleep(0)
        return left <= 0

    def collect_now(self) -> None:
        """Collect every event emitted before this call, at one go."""
        left = len(self._state.queue)
        while left > 0 and self._collects:
            left -= CHUNK
            self._collect()

    @property
    def _collects(self) -> bool:
        return self.exporter is not None and self._lease.holds

    def tick(self) -> None:
        """Let the exporter do what is due by the clock."""
        exporter = self.exporter
        if exporter is None or not self._lease.holds:
            return
        now = time.monotonic_ns()
        self._book(exporter.tick, now, wall_clock.offset_ns(), otp.is_running)
        if overridden(exporter, "produce") is None or self._producing.locked():
            return
        if exporter.produce_due(now):
            work = self.produce(PRODUCING, last_chance=False)
            otp.run_in_background(asyncio.get_running_loop(), work, name=f"{self._state.name} producing")

    async def produce(self, seconds: float, *, last_chance: bool) -> None:
        """Let the exporter make items of what it has added up, if it does such a thing.

        What was made when the time is up stays.
        """
        exporter = self.exporter
        if exporter is None or not self._lease.holds or overridden(exporter, "produce") is None:
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
                        self._book, self._state.produced_held, left, last_chance=last_chance
                    )
                finally:
                    self._limit = None
        except TimeoutError:
            if self._said.is_news("cut off"):
                _log.warning(
                    "%s did not produce everything in time (%.3g s); what is missing is part of the next, if "
                    "there is one. That is said once.",
                    self._state.name,
                    seconds,
                )
        except Exception as error:  # noqa: BLE001  # an exporter's defect must not cost the process
            self._report(error, 0)
        self._wake()

    def give_up_held(self) -> None:
        """Let the exporter give up what it holds: nothing more will come."""
        if self.exporter is not None:
            self._book(self.exporter.give_up_held, wall_clock.offset_ns())

    def _collect(self) -> None:
        exporter = self.exporter
        if exporter is None:
            # Nobody to give them to: they wait.
            return
        entries = self._state.queue.take(CHUNK)
        given = len(entries)
        if not takes_operations(exporter):
            entries = as_own_events(entries)
        self._book(exporter.collect, entries, wall_clock.offset_ns(), given=given)

    def _book(self, step: Callable[..., Collected], *arguments: Any, given: int = 0) -> bool:
        """Run a step of the exporter and enter its outcome; what it was given and lost is counted.

        Returns False where it was not run, because nobody collects or somebody else bears the name.
        """
        exporter = self.exporter
        if exporter is None or not self._lease.holds:
            return False
        try:
            collected = _checked(step(*arguments))
            held = int(exporter.held)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  # an exporter's defect must not cost the process
            self._report(error, given)
            # What it held before, it may still hold.
            collected, held = Collected(dropped={"failed": given}), self._state.held_events
        self._state.book(collected, given, held, overridden(exporter, "lane"))
        return True

    def _report(self, error: BaseException, events: int) -> None:
        """Say once per kind of failure that the exporter cannot collect."""
        reason = self._scrub(describe(error))
        if self._said.is_news(reason):
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
    """Return what an exporter said, if it can be reckoned with; raise what is wrong with it otherwise."""
    if not isinstance(collected, Collected):
        raise TypeError(f"a Collected was expected, not {type(collected).__name__}")
    numbers = [collected.exported, collected.sampled_out, collected.rejected, *collected.dropped.values()]
    numbers += [weight for _, weight in (*collected.items, *collected.produced_items)]
    if not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise ValueError("numbers of events are whole and not negative")
    return collected


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
