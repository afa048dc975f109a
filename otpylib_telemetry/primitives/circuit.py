"""The state machine of a circuit breaker: pure, with time as an argument of its maker."""

import time
from collections.abc import Callable
from typing import Final, Literal

CircuitState = Literal["closed", "open", "half_open"]

#: The permit of a call that is no probe.
ORDINARY: Final = 1

#: In place of a permit, from who makes one call at a time: where there is a probe, that is it.
UNKNOWN: Final = 0


class Circuit:
    """Counts failures in a row, opens, and lets one probe at a time through after a rest.

    Calls may overlap: one that was let through before the circuit opened may be answered long after. The
    permit that :meth:`admit` gives tells such a late answer from that of the probe, which alone decides what
    a half-open circuit does next.

    Args:
        failure_threshold: Failures in a row that open the circuit; at least 1.
        reset_timeout: Seconds it stays open before a probe is let through; not negative.
        back_off: Factor by which that rest grows with every probe that fails.
        longest_rest: Seconds beyond which the rest does not grow.
        clock: Monotonic seconds.

    Raises:
        ValueError: A threshold below 1 or a negative rest.
    """

    __slots__ = (
        "_back_off",
        "_clock",
        "_longest_rest",
        "_opened_at",
        "_probe",
        "_probes",
        "_rest",
        "failure_count",
        "failure_threshold",
        "last_failure_time",
        "reset_timeout",
        "state",
    )

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
        self._probe = UNKNOWN
        self._probes = ORDINARY

    def admit(self) -> int:
        """Ask to make a call, which must be answered by exactly one of the other methods.

        Returns a permit to answer with; 0 while the circuit is open, or half open with a probe under way.
        """
        if self.state == "closed":
            return ORDINARY
        if self.state == "open":
            if self.remaining_rest() > 0:
                return 0
            self.state = "half_open"
            self._probe = UNKNOWN
        if self._probe:
            return 0
        self._probes += 1
        self._probe = self._probes
        return self._probe

    def succeeded(self) -> None:
        """Report an admitted call that succeeded: the circuit closes and the count is cleared."""
        self.reset()

    def failed(self, permit: int = UNKNOWN) -> None:
        """Report an admitted call that failed."""
        self.failure_count += 1
        self.last_failure_time = self._clock()
        if self.state == "half_open":
            if self._is_probe(permit):
                self._rest = min(self._rest * self._back_off, max(self._longest_rest, self.reset_timeout))
                self._open()
        elif self.state == "closed" and self.failure_count >= self.failure_threshold:
            self._rest = self.reset_timeout
            self._open()

    def released(self, permit: int = UNKNOWN) -> None:
        """Report an admitted call that was cancelled: neither success nor failure."""
        if self._is_probe(permit):
            self._probe = UNKNOWN

    def reset(self) -> None:
        """Close the circuit and forget every failure."""
        self.state = "closed"
        self.failure_count = 0
        self._probe = UNKNOWN
        self._rest = self.reset_timeout

    @property
    def probing(self) -> bool:
        """Whether a probe is under way, and nothing else is let through until it is answered."""
        return self.state == "half_open" and self._probe != UNKNOWN

    def remaining_rest(self) -> float:
        """Return the seconds until a probe will be admitted; 0 unless the circuit is open."""
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

    def _open(self) -> None:
        self.state = "open"
        self._probe = UNKNOWN
        self._opened_at = self._clock()


def _check(failure_threshold: int, reset_timeout: float) -> None:
    if failure_threshold < 1:
        raise ValueError(f"failure_threshold is {failure_threshold}: at least 1 failure must open a circuit")
    if not reset_timeout >= 0:
        raise ValueError(f"reset_timeout is {reset_timeout}: a number of seconds, 0 or more, was expected")
