"""The state machine of a circuit breaker: pure, with time as an argument of its maker."""

import time
from collections.abc import Callable
from typing import Final, Literal

CircuitState = Literal["closed", "open", "half_open"]

#: In place of a permit, for a call made while the circuit was closed, whenever that was.
ORDINARY: Final = 1

#: In place of a permit, from who makes one call at a time: where there is a probe, that is it.
UNKNOWN: Final = 0

#: In place of a permit, for a call made although the circuit said no: its success alone tells something.
UNASKED: Final = -1


class Circuit:
    """Counts failures in a row, opens, and lets one probe at a time through after a rest.

    Calls may overlap: one that was let through before the circuit opened may be answered long after, and
    changes nothing then, even if the circuit has closed meanwhile. The permit that :meth:`permit` gives tells
    such a late answer from a present one, and from that of the probe, which alone decides what a half-open
    circuit does next.

    Args:
        failure_threshold: Failures in a row that open the circuit; at least 1.
        reset_timeout: Seconds it stays open before a probe is let through; not negative.
        back_off: Factor by which that rest grows with every probe that fails.
        longest_rest: Seconds beyond which the rest does not grow.
        clock: Monotonic seconds.

    Raises:
        ValueError: A threshold below 1 or a negative rest.
    """

    def __init__(
        self,
        failure_threshold: int = 5,
        reset_timeout: float = 60.0,
        *,
        back_off: float = 1.0,
        longest_rest: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check(failure_threshold, reset_timeout)
        self.failure_threshold = failure_threshold
        self.reset_timeout = reset_timeout
        self.failure_count = 0
        self.last_failure_time: float | None = None
        self.state: CircuitState = "closed"
        self._back_off = back_off
        self._longest_rest = longest_rest
        self._clock = clock
        self._opened_at = 0.0
        self._rest = reset_timeout
        # The permits of the probe under way, and of calls since the circuit closed; the latest given out.
        self._probe = UNKNOWN
        self._ordinary = self._latest = ORDINARY + 1

    def permit(self) -> int:
        """Ask to make a call, which must be answered by exactly one of the other methods.

        Returns a permit to answer with; 0 while the circuit is open, or half open with a probe under way.
        """
        if self.state == "closed":
            return self._ordinary
        if self.state == "open":
            if self.remaining_rest > 0:
                return 0
            self.state = "half_open"
            self._probe = UNKNOWN
        if self._probe:
            return 0
        self._latest += 1
        self._probe = self._latest
        return self._probe

    def succeeded(self, permit: int = UNKNOWN) -> None:
        """Report a call that succeeded: the count is cleared, and a probe closes the circuit."""
        if permit == UNASKED or (self.state == "half_open" and self._is_probe(permit)):
            self.reset()
        elif self._is_present(permit):
            self.failure_count = 0

    def failed(self, permit: int = UNKNOWN) -> None:
        """Report a call that failed."""
        if self.state == "half_open" and self._is_probe(permit):
            self._count_failure()
            self._rest = min(self._rest * self._back_off, max(self._longest_rest, self.reset_timeout))
            self._open()
        elif self._is_present(permit):
            self._count_failure()
            if self.failure_count >= self.failure_threshold:
                self._rest = self.reset_timeout
                self._open()

    def released(self, permit: int = UNKNOWN) -> None:
        """Report an admitted call that was cancelled: neither success nor failure."""
        if self._is_probe(permit):
            self._probe = UNKNOWN

    def reset(self) -> None:
        """Close the circuit and forget every failure, and whatever calls made until now will say."""
        self.state = "closed"
        self.failure_count = 0
        self._probe = UNKNOWN
        self._rest = self.reset_timeout
        self._latest += 1
        self._ordinary = self._latest

    @property
    def probing(self) -> bool:
        """Whether a probe is under way, and nothing else is let through until it is answered."""
        return self.state == "half_open" and self._probe != UNKNOWN

    @property
    def remaining_rest(self) -> float:
        """Seconds until a probe will be let through; 0 unless the circuit is open."""
        if self.state != "open":
            return 0.0
        return max(0.0, self._opened_at + self._rest - self._clock())

    def adjust(self, failure_threshold: int, reset_timeout: float) -> None:
        """Take other limits into use; an open circuit waits for the shorter of the old rest and the new."""
        _check(failure_threshold, reset_timeout)
        self.failure_threshold = failure_threshold
        self.reset_timeout = reset_timeout
        self._rest = reset_timeout if self.state == "closed" else min(self._rest, reset_timeout)

    def _is_probe(self, permit: int) -> bool:
        return permit in (UNKNOWN, self._probe)

    def _is_present(self, permit: int) -> bool:
        """Tell whether a call was made since the circuit closed, which it still is."""
        return self.state == "closed" and permit in (UNKNOWN, ORDINARY, self._ordinary)

    def _count_failure(self) -> None:
        self.failure_count += 1
        self.last_failure_time = self._clock()

    def _open(self) -> None:
        self.state = "open"
        self._probe = UNKNOWN
        self._opened_at = self._clock()


def _check(failure_threshold: int, reset_timeout: float) -> None:
    if failure_threshold < 1:
        raise ValueError(f"failure_threshold is {failure_threshold}: at least 1 failure must open a circuit")
    if not reset_timeout >= 0:
        raise ValueError(f"reset_timeout is {reset_timeout}: a number of seconds, 0 or more, was expected")
