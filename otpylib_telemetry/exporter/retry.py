"""When, and in what size, a batch that failed is sent again: pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from otpylib_telemetry.exporter.errors import ExportError, TooLargeError
from otpylib_telemetry.primitives.backoff import full_jitter

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.config.settings import ExporterSettings

#: Seconds a server can make an exporter wait at most: beyond that, what it asked for is taken for a mistake.
LONGEST_DELAY = 3600.0

#: ``again``: the same items. ``in_pieces``: the same items, in smaller batches. ``rejected``: never.
Kind = Literal["again", "in_pieces", "rejected"]


class Attempt(NamedTuple):
    """A batch that was sent: how many items it has, in which round it went, and whether it is a piece."""

    items: int
    round: int
    is_piece: bool


class RetryState(NamedTuple):
    """What the next batch of a lane depends on.

    Attributes:
        failures: Rounds in a row that failed.
        round: Counts failures. Of batches that fail side by side only the first one says something new.
        not_before: When, on the clock, the next batch may be sent.
        left_in_pieces: Items left of a batch that was too large.
        piece: How many of those go at once.
    """

    failures: int = 0
    round: int = 0
    not_before: float = 0.0
    left_in_pieces: int = 0
    piece: int = 1

    def next_size(self, batch_size: int) -> int:
        """Return how many items the next batch has at most."""
        return min(batch_size, self.piece, self.left_in_pieces) if self.left_in_pieces else batch_size

    def at_once(self) -> RetryState:
        """Return the state without a wait."""
        return self._replace(not_before=0.0)

    def attempt(self, items: int) -> Attempt:
        """Return what to remember of a batch that is sent now."""
        return Attempt(items, self.round, self.left_in_pieces > 0)

    def is_news(self, attempt: Attempt) -> bool:
        """Tell whether nothing has failed since the batch was sent."""
        return attempt.round == self.round

    def without(self, attempt: Attempt) -> RetryState:
        """Return the state when a batch is over and done with."""
        if not attempt.is_piece:
            return self
        return self._replace(left_in_pieces=max(0, self.left_in_pieces - attempt.items))


class Retry(NamedTuple):
    """What becomes of a batch that failed, and how its lane goes on."""

    kind: Kind
    lane: RetryState


def after_success(attempt: Attempt, lane: RetryState) -> RetryState:
    """Return how a lane goes on after a batch that arrived."""
    lane = lane.without(attempt)
    return lane._replace(failures=0, not_before=0.0) if lane.is_news(attempt) else lane


def after_failure(  # noqa: PLR0913  # all that the decision depends on
    error: Exception,
    attempt: Attempt,
    lane: RetryState,
    settings: ExporterSettings,
    *,
    now: float,
    dice: Callable[[], float],
    in_doubt: bool = False,
) -> Retry:
    """Decide about a batch that did not arrive.

    One that is too large goes in halves, at once: the backend is up. One that the backend will never take is
    rejected. Any other keeps its place and is sent again after a back-off; when ``retry_attempts`` are used
    up, the next round begins after a rest of ``flush_interval``.

    While it is ``in_doubt`` whether the backend takes anything, what it refuses goes in halves, so that
    others can show it, and an item by itself goes again before it is rejected.
    """
    if isinstance(error, TooLargeError) and attempt.items > 1:
        return Retry("in_pieces", _halved(attempt, lane))
    is_final = isinstance(error, ExportError) and not error.retryable
    asked = _delay(error.retry_after) if isinstance(error, ExportError) else None
    if is_final and in_doubt and attempt.items > 1:
        wait = full_jitter(1, dice, server_delay=asked)
        return Retry("in_pieces", _halved(attempt, lane)._replace(failures=0, not_before=now + wait))
    is_final = is_final and not (in_doubt and lane.failures < settings.retry_attempts)
    kind: Kind = "rejected" if is_final else "again"
    if is_final:
        lane = lane.without(attempt)
    if not lane.is_news(attempt):
        # Of batches that fail side by side the first one decides how long to wait.
        return Retry(kind, lane._replace(not_before=max(lane.not_before, now + (asked or 0.0))))
    failures = 0 if is_final else lane.failures + 1
    if failures > settings.retry_attempts:
        failures, wait = 0, max(settings.flush_interval, asked or 0.0)
    else:
        wait = full_jitter(max(1, failures), dice, server_delay=asked)
    return Retry(kind, lane._replace(failures=failures, round=lane.round + 1, not_before=now + wait))


def _halved(attempt: Attempt, lane: RetryState) -> RetryState:
    half = (attempt.items + 1) // 2
    return lane._replace(
        piece=min(lane.piece, half) if lane.left_in_pieces else half,
        left_in_pieces=max(lane.left_in_pieces, attempt.items),
    )


def _delay(seconds: object) -> float | None:
    """Return the delay a server asked for, if it is one that can be waited for."""
    if not isinstance(seconds, int | float):
        return None
    try:
        delay = float(seconds)
    except OverflowError:
        return None
    return min(delay, LONGEST_DELAY) if math.isfinite(delay) and delay >= 0 else None
