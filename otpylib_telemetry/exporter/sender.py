"""From finished items to the backend: batches, breaker, retries; every lane by itself."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otpylib_telemetry import otp
from otpylib_telemetry.exporter.base import ExportError, ExportOutcome, TooLargeError, overridden
from otpylib_telemetry.exporter.outages import Began, Ended, Outages, named
from otpylib_telemetry.primitives.backoff import full_jitter
from otpylib_telemetry.primitives.circuit import ORDINARY
from otpylib_telemetry.primitives.errors import describe, error_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.config.settings import ExporterSettings
    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry.exporter.lanes import Batch
    from otpylib_telemetry.exporter.state import ExporterState

_log = logging.getLogger("otpylib_telemetry")

#: Seconds a server can make an exporter wait at most: beyond that, what it asked for is taken for a mistake.
LONGEST_DELAY = 3600.0

#: Seconds between two reports of what a backend says about batches it takes.
REMARK_INTERVAL = 60.0


@dataclass(slots=True)
class _Outlet:
    """How one lane is doing.

    Attributes:
        name: The lane's.
        attempts: Failures in a row, of attempts that follow each other.
        round: Counts failures; a batch that was sent before the latest one says nothing new about it.
        forced: Items that are due although their time has not come.
        not_before: When, on the clock, the next batch may be sent.
        waiting_since: Since when something waits.
        in_pieces: Items left of a batch that was too large.
        piece: How many of those go at once.
        settled: Items delivered or refused.
        retryable: Attempts that failed though another might help.
    """

    name: str
    attempts: int = 0
    round: int = 0
    forced: int = 0
    not_before: float = 0.0
    waiting_since: float | None = None
    in_pieces: int = 0
    piece: int = 1
    settled: int = 0
    retryable: int = 0


@dataclass(slots=True, eq=False)
class _Flight:
    """A batch under way.

    Attributes:
        exporter: Through whom.
        outlet: Its lane.
        batch: What.
        permit: The breaker's.
        round: The lane's, when it was sent.
        is_piece: Whether it is part of a batch that was too large.
        attempt: What the outages know it by.
    """

    exporter: Exporter[Any]
    outlet: _Outlet
    batch: Batch
    permit: int
    round: int
    is_piece: bool
    attempt: int


@dataclass(frozen=True, slots=True)
class _Goal:
    """When a lane counts as empty: so many items settled, or so many attempts failed."""

    settled: int
    retryable: int


class Delivery:
    """Sends what waits in the state through the exporter of the moment.

    Args:
        state: Where items wait.
        settings: Batch size, interval, retries and concurrency.
        changed: Called on the loop whenever a batch has ended.
        clock: Monotonic seconds.
        dice: Gives numbers from 0 to 1.
        scrub: Takes out of a text what must not be seen.
    """

    def __init__(  # noqa: PLR0913  # the last three by name
        self,
        state: ExporterState,
        settings: ExporterSettings,
        changed: Callable[[], None],
        *,
        clock: Callable[[], float],
        dice: Callable[[], float] = random.random,
        scrub: Callable[[str], str] = str,
    ) -> None:
        self.settings = settings
        #: Batches sent, and attempts that failed.
        self.batches = 0
        self.failures = 0
        self._state = state
        self._changed = changed
        self._clock = clock
        self._dice = dice
        self._scrub = scrub
        self._exporter: Exporter[Any] | None = None
        self._flights: dict[asyncio.Task[None], _Flight] = {}
        self._outlets: dict[str, _Outlet] = {}
        self._outages = Outages()
        # Items refused by a backend that takes the rest, and when its remarks may be told again.
        self._refused_unsaid = 0
        self._remark_at = {True: -math.inf, False: -math.inf}
        self._nudged = asyncio.Event()
        # Whether a batch came back since the urgent items were put first.
        self._disordered = False

    @property
    def trouble(self) -> str | None:
        """What the backend said last, while it is in trouble."""
        return self._outages.trouble

    def use(self, exporter: Exporter[Any] | None, *, same_backend: bool = False) -> None:
        """Send through another exporter from now on.

        Args:
            exporter: An opened one; None stops sending.
            same_backend: Whether it has the backend of the one before, as after a restart: the breaker's
                record still counts then. Otherwise it starts with a clean one.
        """
        if exporter is self._exporter:
            return
        self._exporter = exporter
        for outlet in self._outlets.values():
            outlet.attempts = 0
            outlet.not_before = 0.0
            outlet.in_pieces = 0
        if exporter is None:
            return
        if same_backend:
            # Whoever was probing the backend does not report to this record any more.
            self._state.breaker.released()
        else:
            self._state.breaker.reset()

    def disown(self) -> None:
        """Send nothing any more: this is a forked child, and what is under way is its parent's."""
        self._exporter = None
        self._flights.clear()
        self._outlets.clear()
        self._outages.forget()

    def busy(self, exporter: Exporter[Any] | None = None) -> bool:
        """Tell whether a batch is under way, through this exporter or through any."""
        return any(exporter is None or flight.exporter is exporter for flight in self._flights.values())

    def pump(self, *, force: bool = False, ignore_rest: bool = False) -> None:
        """Send what is due, as many batches of each lane as ``concurrency`` allows.

        Args:
            force: All that waits now is due, in as many batches as it takes.
            ignore_rest: Try although a back-off or the breaker says to wait; one batch per lane while the
                breaker is not closed.
        """
        for lane in list(self._state.lanes):
            self._pump_lane(self._outlet(lane), force=force, ignore_rest=ignore_rest)

    def _pump_lane(self, outlet: _Outlet, *, force: bool, ignore_rest: bool) -> None:
        self._note_waiting(outlet)
        if force:
            outlet.forced = self._waiting(outlet)
        while self._exporter is not None and self._waiting(outlet) and self._due(outlet):
            flying = self._flying(outlet)
            if flying >= self.settings.concurrency:
                return
            if ignore_rest:
                outlet.not_before = 0.0
            if self._clock() < outlet.not_before:
                return
            permit = self._state.breaker.permit()
            if not permit:
                if not ignore_rest or flying:
                    return
                # No probe: the one that may be under way decides about the breaker.
                permit = ORDINARY
            self._send(self._exporter, outlet, permit)

    def _send(self, exporter: Exporter[Any], outlet: _Outlet, permit: int) -> None:
        size = self.settings.batch_size
        is_piece = outlet.in_pieces > 0
        if is_piece:
            size = min(size, outlet.piece, outlet.in_pieces)
        batch = self._state.load(size, outlet.name)
        outlet.forced = max(0, outlet.forced - len(batch))
        # What is left is younger: its time begins now.
        outlet.waiting_since = None
        self._note_waiting(outlet)
        attempt = self._outages.sent(outlet.name)
        flight = _Flight(exporter, outlet, batch, permit, outlet.round, is_piece, attempt)
        loop = asyncio.get_running_loop()
        name = f"{self._state.name} export"
        task = otp.run_in_background(loop, self._fly(flight), name=name, outlasting=True)
        self._flights[task] = flight
        task.add_done_callback(self._landed)

    async def empty(
        self,
        seconds: float,
        *,
        insist: bool,
        give_way: Callable[[], bool] = lambda: False,
        urgent_first: bool = False,
    ) -> None:
        """Send what waits now, until it is sent, time is up, or the backend has shown that it is down.

        Args:
            seconds: How long that may take.
            insist: Whether not to wait between attempts: there will be no later.
            give_way: Ends it when true; asked after every batch and every :meth:`nudge`.
            urgent_first: Whether items the exporter calls urgent go before the others.
        """
        deadline = self._clock() + seconds
        resting = self._state.breaker.state != "closed"
        goals = self._goals(1 if resting else 1 + self.settings.retry_attempts)
        self._disordered = True
        while outlets := [outlet for outlet in self._outlets.values() if self._is_short_of(outlet, goals)]:
            left = deadline - self._clock()
            if left <= 0 or give_way():
                return
            if urgent_first:
                self._put_urgent_first()
            self._nudged.clear()
            for outlet in outlets:
                self._pump_lane(outlet, force=True, ignore_rest=insist or resting)
            if not any(self._flying(outlet, of_any=True) for outlet in outlets):
                at = min((self._lane_next_at(outlet) for outlet in outlets), default=math.inf)
                if at >= deadline:
                    return
                left = min(left, at - self._clock())
            await self._nudge_within(max(0.0, left))

    def _goals(self, attempts: int) -> dict[str, _Goal]:
        goals = {}
        flights = self._flights.values()
        for name in {*self._state.lanes, *(flight.outlet.name for flight in flights)}:
            outlet = self._outlet(name)
            flying = sum(len(flight.batch) for flight in flights if flight.outlet is outlet)
            settled = outlet.settled + self._waiting(outlet) + flying
            goals[name] = _Goal(settled, outlet.retryable + attempts)
        return goals

    def _is_short_of(self, outlet: _Outlet, goals: dict[str, _Goal]) -> bool:
        """Tell whether a lane has something to send, and should go on trying."""
        goal = goals.get(outlet.name)
        if goal is None or outlet.settled >= goal.settled or outlet.retryable >= goal.retryable:
            return False
        sendable = self._exporter is not None and self._waiting(outlet) > 0
        return sendable or self._flying(outlet, of_any=True) > 0

    def _put_urgent_first(self) -> None:
        urgent = overridden(self._exporter, "urgent")
        if self._disordered and urgent is not None:
            self._state.put_first(urgent)
        self._disordered = False

    def nudge(self) -> None:
        """Let :meth:`empty` look again whether it is to go on."""
        self._nudged.set()

    async def _nudge_within(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._nudged.wait()
        except TimeoutError:
            return

    def next_at(self) -> float | None:
        """Return when, on the clock, what cannot be sent now could be; None if nothing waits for time."""
        times = [self._lane_next_at(self._outlet(lane)) for lane in self._state.lanes]
        at = min(times, default=math.inf)
        return None if math.isinf(at) else at

    def _lane_next_at(self, outlet: _Outlet) -> float:
        """Return when a lane may send again; never, as far as the clock goes, if a batch has to end first."""
        breaker = self._state.breaker
        if self._exporter is None or not self._waiting(outlet) or breaker.probing:
            return math.inf
        if self._flying(outlet) >= self.settings.concurrency:
            return math.inf
        due = self._clock() if self._due(outlet) else self._due_at(outlet)
        return max(due, outlet.not_before, self._clock() + breaker.remaining_rest)

    async def wait_for(self, exporter: Exporter[Any]) -> None:
        """Return when no batch is under way through this exporter."""
        while flights := [task for task, flight in self._flights.items() if flight.exporter is exporter]:
            await asyncio.wait(flights)

    async def abandon(self, grace: float) -> None:
        """Cancel what is under way: time is up, and the batches go back to the state.

        Args:
            grace: Seconds the exporters may take to stop; what has not stopped by then stays in flight.
        """
        flights = list(self._flights)
        for task in flights:
            task.cancel()
        if flights:
            await asyncio.wait(flights, timeout=grace)

    def _outlet(self, lane: str) -> _Outlet:
        outlet = self._outlets.get(lane)
        if outlet is None:
            outlet = self._outlets[lane] = _Outlet(lane)
        return outlet

    def _waiting(self, outlet: _Outlet) -> int:
        lane = self._state.lanes.get(outlet.name)
        return 0 if lane is None else len(lane)

    def _flying(self, outlet: _Outlet, *, of_any: bool = False) -> int:
        """Return how many batches of a lane are under way, through the exporter of the moment or any."""
        return sum(
            flight.outlet is outlet and (of_any or flight.exporter is self._exporter)
            for flight in self._flights.values()
        )

    def _note_waiting(self, outlet: _Outlet) -> None:
        if not self._waiting(outlet):
            outlet.waiting_since = None
        elif outlet.waiting_since is None:
            outlet.waiting_since = self._clock()

    def _due(self, outlet: _Outlet) -> bool:
        full = self._waiting(outlet) >= self.settings.batch_size
        return full or outlet.forced > 0 or outlet.in_pieces > 0 or self._clock() >= self._due_at(outlet)

    def _due_at(self, outlet: _Outlet) -> float:
        since = self._clock() if outlet.waiting_since is None else outlet.waiting_since
        return since + self.settings.flush_interval

    def _landed(self, task: asyncio.Task[None]) -> None:
        flight = self._flights.pop(task, None)
        if flight is not None and not self._flying(flight.outlet, of_any=True):
            flight.outlet.waiting_since = None
        self._nudged.set()
        self._changed()

    async def _fly(self, flight: _Flight) -> None:
        try:
            outcome = await flight.exporter.export([item for item, _ in flight.batch])
        except Exception as error:  # noqa: BLE001  # whatever the backend's library raises is a failed delivery
            self._failed(flight, error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                strange = ExportError("its export ended with a CancelledError nobody had sent")
                self._failed(flight, strange)
                return
            self._give_back(flight)
            raise
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            self._give_back(flight)
            raise
        except BaseException as error:  # noqa: BLE001  # a panic out of a native library, for instance
            self._failed(flight, ExportError(describe(error)))
        else:
            self._arrived(flight, outcome)

    def _put_back(self, flight: _Flight) -> None:
        self._state.put_back(flight.batch)
        self._disordered = True

    def _give_back(self, flight: _Flight) -> None:
        self._put_back(flight)
        if flight.exporter is self._exporter:
            self._state.breaker.released(flight.permit)

    def _arrived(self, flight: _Flight, outcome: object) -> None:
        outlet, batch = flight.outlet, flight.batch
        refused, message = _refused(outcome, len(batch))
        outlet.settled += len(batch)
        self._state.delivered(batch, refused)
        self._remark(refused, message)
        self.batches += 1
        if flight.exporter is not self._exporter:
            return
        self._piece_settled(flight)
        self._state.breaker.succeeded()
        if flight.round == outlet.round:
            outlet.attempts = 0
            outlet.not_before = 0.0
            self._recovered(flight)

    @staticmethod
    def _piece_settled(flight: _Flight) -> None:
        if flight.is_piece:
            flight.outlet.in_pieces = max(0, flight.outlet.in_pieces - len(flight.batch))

    def _remark(self, refused: int, message: str) -> None:
        """Pass on what the backend says about a batch it took, unless it has said such a thing just now."""
        self._refused_unsaid += refused
        if not refused and not message:
            return
        now = self._clock()
        if now < self._remark_at[refused > 0]:
            return
        self._remark_at[refused > 0] = now + REMARK_INTERVAL
        message = self._scrub(message)
        if not refused:
            _log.warning("%s: the backend takes everything, but says: %s", self._state.name, message)
            return
        _log.warning(
            "%s: the backend refuses items of batches it takes; %d are counted as rejected: %s",
            self._state.name,
            self._refused_unsaid,
            message or "it gave no reason",
        )
        self._refused_unsaid = 0

    def _split(self, flight: _Flight) -> None:
        """Have a batch that is too large sent in smaller ones, at once: the backend is up."""
        self._give_back(flight)
        if flight.exporter is self._exporter:
            outlet, half = flight.outlet, (len(flight.batch) + 1) // 2
            outlet.piece = min(outlet.piece, half) if outlet.in_pieces else half
            outlet.in_pieces = max(outlet.in_pieces, len(flight.batch))

    def _failed(self, flight: _Flight, error: Exception) -> None:
        outlet, batch = flight.outlet, flight.batch
        self.failures += 1
        too_large = isinstance(error, TooLargeError)
        if too_large and len(batch) > 1:
            self._split(flight)
            return
        permanent = isinstance(error, ExportError) and not error.retryable
        news = flight.round == outlet.round
        if permanent:
            outlet.settled += len(batch)
            self._state.delivered(batch, len(batch), "too_large" if too_large else "refused")
        else:
            outlet.retryable += news
            self._put_back(flight)
        if flight.exporter is not self._exporter:
            return
        if permanent:
            self._piece_settled(flight)
        else:
            # It was due before it failed: only the back-off holds it up, not the interval.
            outlet.forced = max(outlet.forced, len(batch))
        self._state.breaker.failed(flight.permit)
        self._report(flight, error, permanent=permanent)
        self._back_off(outlet, error, permanent=permanent, news=news)

    def _back_off(self, outlet: _Outlet, error: Exception, *, permanent: bool, news: bool) -> None:
        """Wait before the next attempt; of batches that fail side by side the first one decides how long."""
        server_delay = _delay(error.retry_after) if isinstance(error, ExportError) else None
        if not news:
            outlet.not_before = max(outlet.not_before, self._clock() + (server_delay or 0.0))
            return
        outlet.round += 1
        outlet.attempts = 0 if permanent else outlet.attempts + 1
        if outlet.attempts > self.settings.retry_attempts:
            # These attempts are used up; the batch keeps its place, and the next round begins after a rest.
            outlet.attempts = 0
            wait = max(self.settings.flush_interval, server_delay or 0.0)
        else:
            wait = full_jitter(max(1, outlet.attempts), self._dice, server_delay=server_delay)
        outlet.not_before = self._clock() + wait

    def _report(self, flight: _Flight, error: Exception, *, permanent: bool) -> None:
        """Say once per outage that the backend is in trouble."""
        said = error_text(error) if isinstance(error, ExportError) else ""
        reason = self._scrub(said or describe(error))
        fate = (
            f"The items of this batch ({len(flight.batch)}) are counted as rejected"
            if permanent
            else f"Nothing is lost: up to {self._state.queue_limit} events wait, and it is tried again"
        )
        lane = flight.outlet.name
        self._tell(self._outages.failed(lane, flight.attempt, reason, is_refusal=permanent), fate)

    def _recovered(self, flight: _Flight) -> None:
        self._tell(self._outages.arrived(flight.outlet.name, flight.attempt, self._is_idle))

    def _is_idle(self, lane: str) -> bool:
        outlet = self._outlet(lane)
        return not self._waiting(outlet) and not self._flying(outlet)

    def _tell(self, news: list[Began | Ended], fate: str = "") -> None:
        for item in news:
            what = named(item.lanes)
            if isinstance(item, Began):
                _log.warning(
                    "%s cannot export%s: %s. %s. Further failures are only counted.",
                    self._state.name,
                    what,
                    item.reason,
                    fate,
                )
            else:
                _log.info(
                    "%s exports%s again after %d failed attempts; %d events wait.",
                    self._state.name,
                    what,
                    item.failures,
                    self._state.left,
                )


def _refused(outcome: object, items: int) -> tuple[int, str]:
    """Return how many items were refused and why, whatever an exporter returned."""
    if not isinstance(outcome, ExportOutcome) or not isinstance(outcome.rejected, int):
        return 0, ""
    return min(max(0, outcome.rejected), items), str(outcome.message)


def _delay(seconds: object) -> float | None:
    """Return the delay a server asked for, if it is one that can be waited for."""
    if not isinstance(seconds, int | float):
        return None
    try:
        delay = float(seconds)
    except OverflowError:
        return None
    return min(delay, LONGEST_DELAY) if math.isfinite(delay) and delay >= 0 else None
