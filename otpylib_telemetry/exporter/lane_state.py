"""How the lanes of a sender are doing, and the batches of them that are under way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from otpylib_telemetry.exporter.retry import Attempt, RetryState

if TYPE_CHECKING:
    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry.exporter.lanes import Batch
    from otpylib_telemetry.exporter.state import ExporterState


@dataclass(slots=True)
class LaneState:
    """How one lane is doing.

    Attributes:
        name: The lane's.
        retry: How its attempts went.
        forced: Items that are due although their time has not come.
        waiting_since: Since when something waits.
        done: Items delivered or refused.
        retryable: Attempts that failed though another might help.
        tried: The number of its last attempt.
        in_doubt: Whether one small batch has to arrive before more is sent.
    """

    name: str
    retry: RetryState = field(default_factory=RetryState)
    forced: int = 0
    waiting_since: float | None = None
    done: int = 0
    retryable: int = 0
    tried: int = 0
    in_doubt: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class InFlight:
    """A batch under way, the state it was taken from, and the permit of the breaker it goes by."""

    state: ExporterState
    exporter: Exporter[Any]
    lane: LaneState
    batch: Batch
    attempt: Attempt
    permit: int
    number: int
    began: float

    def ended(self, now: float, failure: str = "") -> None:
        """Enter the attempt in the books."""
        self.state.lane_books[self.batch.lane].tried(now - self.began, failure)


class Target(NamedTuple):
    """When a lane counts as empty: so many items done, or so many attempts failed."""

    done: int
    retryable: int
