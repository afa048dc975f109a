"""From finished items to the backend: batches, breaker, retries; every lane by itself."""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING, Any

from otpylib_telemetry import otp
from otpylib_telemetry.exporter.base import overridden
from otpylib_telemetry.exporter.collected import checked_outcome
from otpylib_telemetry.exporter.errors import DestinationError, ExportError, TooLargeError
from otpylib_telemetry.exporter.lane_state import InFlight, LaneState, Target
from otpylib_telemetry.exporter.reports import Reports
from otpylib_telemetry.exporter.retry import RetryState, after_failure, after_success
from otpylib_telemetry.primitives.circuit import UNASKED
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.waiting import is_set_within

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry.exporter.lease import Lease
    from otpylib_telemetry.exporter.state import ExporterState


#: Items of the one batch that is to show whether a destination takes anything, while more is waiting.
PROBE_ITEMS = 32


class Sender:
    """Sends what waits in the state through the exporter of the moment.

    ``changed`` is called on the loop whenever a batch has ended; ``dice`` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        lease: Lease,
        changed: Callable[[], None],
        *,
        clock: Callable[[], float],
        dice: Callable[[], float] = random.random,
        scrub: Callable[[str], str] = str,
    ) -> None:
        #: Batches sent, and attempts that failed.
        self.batches = 0
        self.failures = 0
        self._lease = lease
        self._changed = changed
        self._clock = clock
        self._dice = dice
        self._exporter: Exporter[Any] | None = None
        # Whether time was up: nothing more is sent through the exporter of the moment.
        self._has_abandoned = False
        self._in_flight: dict[asyncio.Task[None], InFlight] = {}
        self._lane_states: dict[str, LaneState] = {}
        self.reports = Reports(lease, clock=clock, scrub=scrub)
        self._rechecked = asyncio.Event()
        # Whether a batch came back since the urgent items were put first.
        self._disordered = False

    @property
    def _state(self) -> ExporterState:
        return self._lease.state

    def use(self, exporter: Exporter[Any] | None, *, in_doubt: bool = False) -> None:
        """Send through another exporter from now on, an opened one; None stops sending.

        Where it is in doubt whether anything arrives there, a small batch of each lane is to show it.
        """
        if exporter is self._exporter:
            return
        self._exporter = exporter
        self._has_abandoned = False
        for lane in self._lane_states.values():
            lane.retry = RetryState(round=lane.retry.round)
        if exporter is not None:
            # Whoever was probing the backend does not report to the breaker any more.
            self._state.breaker.released()
        for name in self._state.lanes if in_doubt else ():
            self._lane_state(name).in_doubt = True

    def disown(self) -> None:
        """Send nothing any more: this is a forked child, and what is under way is its parent's."""
        self._exporter = None
        self._in_flight.clear()
        self._lane_states.clear()
        self.reports.forget()

    def busy(self, exporter: Exporter[Any] | None = None) -> bool:
        """Tell whether a batch is under way, through this exporter or through any."""
        return any(
            exporter is None or in_flight.exporter is exporter for in_flight in self._in_flight.values()
        )

    def send_due(self, *, force: bool = False, ignore_rest: bool = False) -> None:
        """Send what is due, as many batches of each lane as ``concurrency`` allows.

        With ``force`` all that waits is due. With ``ignore_rest`` it is tried although a back-off or the
        breaker says to wait: one batch per lane while the breaker is not closed.
        """
        for lane in self._in_turn():
            self._send_due_of(self._lane_state(lane), force=force, ignore_rest=ignore_rest)

    def _in_turn(self) -> list[str]:
        """Return the lanes in the order in which they may send: of probes, each lane has its turn."""
        lanes = list(self._state.lanes)
        if self._state.breaker.state != "closed":
            lanes.sort(key=lambda name: self._lane_state(name).tried)
        return lanes

    def _send_due_of(self, lane: LaneState, *, force: bool, ignore_rest: bool) -> None:
        self._note_waiting(lane)
        if force:
            lane.forced = self._waiting(lane)
        while self._exporter is not None and self._can_send(lane) and self._due(lane):
            under_way = self._batches(lane)
            if under_way >= self._most(lane):
                return
            if ignore_rest:
                lane.retry = lane.retry.at_once()
            if self._clock() < lane.retry.not_before:
                return
            permit = self._state.breaker.permit()
            if not permit:
                if not ignore_rest or under_way:
                    return
                # No probe: the one that may be under way decides about the breaker, unless this one arrives.
                permit = UNASKED
            self._send(self._exporter, lane, permit)

    def _send(self, exporter: Exporter[Any], lane: LaneState, permit: int) -> None:
        size = lane.retry.next_size(self._state.settings.batch_size)
        is_probe = lane.in_doubt or self._state.breaker.state != "closed"
        batch = self._state.load(min(size, PROBE_ITEMS) if is_probe else size, lane.name)
        if is_probe and (waiting := len(batch) + self._waiting(lane)) > len(batch):
            # What would have gone with it, or next, goes when it has arrived.
            lane.forced = max(lane.forced, waiting // size * size, min(waiting, size))
        lane.forced = max(0, lane.forced - len(batch))
        # What is left is younger: its time begins now.
        lane.waiting_since = None
        self._note_waiting(lane)
        attempt = lane.retry.attempt(len(batch))
        number = lane.tried = self.reports.sent(lane.name)
        in_flight = InFlight(self._state, exporter, lane, batch, attempt, permit, number, self._clock())
        loop = asyncio.get_running_loop()
        name = f"{self._state.name} export"
        task = otp.run_in_background(loop, self._send_batch(in_flight), name=name, outlasting=True)
        self._in_flight[task] = in_flight
        task.add_done_callback(self._batch_ended)

    def _most(self, lane: LaneState) -> int:
        """Return how many batches of a lane may be under way."""
        return 1 if lane.in_doubt else self._state.settings.concurrency

    async def empty(
        self,
        seconds: float,
        *,
        last_chance: bool,
        give_way: Callable[[], bool] = lambda: False,
        urgent_first: bool = False,
    ) -> bool:
        """Send what waits now, until it is sent, time is up, or the backend has shown that it is down.

        Returns whether it is sent; what came meanwhile may wait all the same. With ``last_chance`` nothing is
        waited for between attempts: there will be no later. ``give_way`` ends it; it is asked after every
        batch and every :meth:`recheck`.
        """
        deadline = self._clock() + seconds
        resting = self._state.breaker.state != "closed"
        targets = self._targets(1 if resting else 1 + self._state.settings.retry_attempts)
        self._disordered = True
        while short := [lane for lane in self._lane_states.values() if self._is_short_of(lane, targets)]:
            left = deadline - self._clock()
            if left <= 0 or give_way():
                break
            if urgent_first:
                self._put_urgent_first()
            self._rechecked.clear()
            for lane in short:
                self._send_due_of(lane, force=True, ignore_rest=last_chance or resting)
            if not any(self._batches(lane, of_any=True) for lane in short):
                at = min((self._lane_next_at(lane) for lane in short), default=math.inf)
                if at >= deadline:
                    break
                left = min(left, at - self._clock())
            await is_set_within(self._rechecked, max(0.0, left))
        return all(self._lane_state(name).done >= target.done for name, target in targets.items())

    def _targets(self, attempts: int) -> dict[str, Target]:
        targets = {}
        under_way = self._in_flight.values()
        for name in {*self._state.lanes, *(each.lane.name for each in under_way)}:
            lane = self._lane_state(name)
            items = self._waiting(lane) + sum(len(each.batch) for each in under_way if each.lane is lane)
            targets[name] = Target(lane.done + items, lane.retryable + attempts)
        return targets

    def _is_short_of(self, lane: LaneState, targets: dict[str, Target]) -> bool:
        """Tell whether a lane has something to send, and should go on trying."""
        target = targets.get(lane.name)
        if target is None or lane.done >= target.done or lane.retryable >= target.retryable:
            return False
        return self._can_send(lane) or self._batches(lane, of_any=True) > 0

    def _put_urgent_first(self) -> None:
        urgent = overridden(self._exporter, "urgent")
        if self._disordered and urgent is not None:
            self._state.put_first(urgent)
        self._disordered = False

    def recheck(self) -> None:
        """Let :meth:`empty` look again whether it is to go on."""
        self._rechecked.set()

    def next_at(self) -> float | None:
        """Return when, on the clock, what cannot be sent now could be; None if nothing waits for time."""
        times = [self._lane_next_at(self._lane_state(lane)) for lane in self._state.lanes]
        at = min(times, default=math.inf)
        return None if math.isinf(at) else at

    def _lane_next_at(self, lane: LaneState) -> float:
        """Return when a lane may send again; never, as far as the clock goes, if a batch has to end first."""
        breaker = self._state.breaker
        if not self._can_send(lane) or breaker.probing:
            return math.inf
        if self._batches(lane) >= self._most(lane):
            return math.inf
        due = self._clock() if self._due(lane) else self._due_at(lane)
        return max(due, lane.retry.not_before, self._clock() + breaker.remaining_rest)

    async def wait_for(self, exporter: Exporter[Any]) -> None:
        """Return when no batch is under way through this exporter."""
        while tasks := [task for task, each in self._in_flight.items() if each.exporter is exporter]:
            await asyncio.wait(tasks)

    async def abandon(self, grace: float) -> None:
        """Send nothing more, and cancel what is under way: time is up.

        The batches go back to the state, save those that have not stopped after ``grace`` seconds.
        """
        self._has_abandoned = True
        tasks = list(self._in_flight)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=grace)

    def _lane_state(self, name: str) -> LaneState:
        lane = self._lane_states.get(name)
        if lane is None:
            lane = self._lane_states[name] = LaneState(name)
        return lane

    def _can_send(self, lane: LaneState) -> bool:
        return self._exporter is not None and not self._has_abandoned and self._waiting(lane) > 0

    def _waiting(self, lane: LaneState) -> int:
        waiting = self._state.lanes.get(lane.name)
        return 0 if waiting is None else len(waiting)

    def _batches(self, lane: LaneState, *, of_any: bool = False) -> int:
        """Return how many batches of a lane are under way, through the exporter of the moment or any."""
        return sum(
            in_flight.lane is lane and (of_any or in_flight.exporter is self._exporter)
            for in_flight in self._in_flight.values()
        )

    def _note_waiting(self, lane: LaneState) -> None:
        if not self._waiting(lane):
            lane.waiting_since = None
        elif lane.waiting_since is None:
            lane.waiting_since = self._clock()

    def _due(self, lane: LaneState) -> bool:
        full = self._waiting(lane) >= self._state.settings.batch_size
        return full or lane.forced > 0 or lane.retry.left_in_pieces > 0 or self._clock() >= self._due_at(lane)

    def _due_at(self, lane: LaneState) -> float:
        since = self._clock() if lane.waiting_since is None else lane.waiting_since
        return since + self._state.settings.flush_interval

    def _batch_ended(self, task: asyncio.Task[None]) -> None:
        in_flight = self._in_flight.pop(task, None)
        if in_flight is not None and not self._batches(in_flight.lane, of_any=True):
            in_flight.lane.waiting_since = None
        self._rechecked.set()
        self._changed()

    async def _send_batch(self, in_flight: InFlight) -> None:
        try:
            outcome = await in_flight.exporter.export([item for item, _ in in_flight.batch])
        except Exception as error:  # noqa: BLE001  # whatever the backend's library raises is a failed export
            self._failed(in_flight, error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                strange = ExportError("its export ended with a CancelledError nobody had sent")
                self._failed(in_flight, strange)
                return
            self._give_back(in_flight)
            raise
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            self._give_back(in_flight)
            raise
        except BaseException as error:  # noqa: BLE001  # a panic out of a native library, for instance
            self._failed(in_flight, ExportError(describe(error)))
        else:
            self._arrived(in_flight, outcome)

    def _put_back(self, in_flight: InFlight) -> None:
        in_flight.state.put_back(in_flight.batch)
        self._disordered = True

    def _give_back(self, in_flight: InFlight) -> None:
        self._put_back(in_flight)
        if in_flight.exporter is self._exporter:
            self._state.breaker.released(in_flight.permit)

    def _arrived(self, in_flight: InFlight, outcome: object) -> None:
        lane, batch = in_flight.lane, in_flight.batch
        refused = checked_outcome(outcome, len(batch))
        lane.done += len(batch)
        in_flight.ended(self._clock(), "rejected" if refused.rejected else "")
        in_flight.state.delivered(batch, refused.rejected, unusable=refused.unusable)
        self.reports.left_out(refused.unusable, refused.why)
        self.reports.took(refused.rejected, refused.message)
        self.batches += 1
        if in_flight.exporter is not self._exporter:
            return
        if refused.unusable == len(batch):
            # Nothing was sent, so that nothing is known of the backend.
            self._state.breaker.released(in_flight.permit)
            lane.retry = lane.retry.without(in_flight.attempt)
            return
        lane.in_doubt = False
        self._state.breaker.succeeded(in_flight.permit)
        if lane.retry.is_news(in_flight.attempt):
            self.reports.arrived(lane.name, in_flight.number, self._is_idle)
        lane.retry = after_success(in_flight.attempt, lane.retry)

    def _failed(self, in_flight: InFlight, error: Exception) -> None:
        lane, batch = in_flight.lane, in_flight.batch
        self.failures += 1
        in_doubt = lane.in_doubt and in_flight.exporter is self._exporter
        retry = after_failure(
            error,
            in_flight.attempt,
            lane.retry,
            in_flight.state.settings,
            now=self._clock(),
            dice=self._dice,
            in_doubt=in_doubt,
        )
        reason = "too_large" if isinstance(error, TooLargeError) else "refused"
        in_flight.ended(self._clock(), "unavailable" if retry.kind == "again" else reason)
        if retry.kind == "rejected":
            lane.done += len(batch)
            in_flight.state.delivered(batch, len(batch), reason)
        else:
            lane.retryable += retry.kind == "again" and lane.retry.is_news(in_flight.attempt)
            self._put_back(in_flight)
        if in_flight.exporter is not self._exporter:
            return
        lane.retry = retry.lane
        lane.in_doubt = lane.in_doubt or isinstance(error, DestinationError)
        if retry.kind == "in_pieces":
            self._state.breaker.released(in_flight.permit)
            return
        if retry.kind == "again":
            # It was due before it failed: only the back-off holds it up, not the interval.
            lane.forced = max(lane.forced, len(batch))
        self._state.breaker.failed(in_flight.permit)
        permanent = retry.kind == "rejected"
        self.reports.failed(
            lane.name, in_flight.number, error, len(batch), permanent=permanent, in_doubt=in_doubt
        )

    def _is_idle(self, name: str) -> bool:
        lane = self._lane_state(name)
        return not self._waiting(lane) and not self._batches(lane)
