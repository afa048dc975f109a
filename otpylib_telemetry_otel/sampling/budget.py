"""A budget of spans per second: a token bucket, pure, with the time passed in."""

from __future__ import annotations

from typing import Final

_NS_PER_SECOND: Final = 1_000_000_000

#: The part of a second's worth that only errors and slow operations may use, so that an ordinary rush that
#: came before them has not used it up.
_RESERVED: Final = 0.5


class SpanBudget:
    """Admits traces as long as there is something left of so many spans per second.

    A trace is admitted whole or not at all, and may overdraw what is left: what it is over is missing to the
    next. In the long run no more than ``per_second`` spans are admitted, in the short run no more than one
    second's worth and one trace beyond that.
    """

    __slots__ = ("_left", "_refilled_ns", "per_second")

    def __init__(self, per_second: float | None = None) -> None:
        self.per_second = per_second
        self._left: float | None = None
        self._refilled_ns = 0

    def admit(self, spans: int, now_ns: int, *, urgent: bool) -> bool:
        """Take a trace's spans out of the budget, if it has any left for it."""
        if self.per_second is None:
            return True
        left, full = self._refill(self.per_second, now_ns)
        if left <= (0 if urgent else full * _RESERVED):
            return False
        self._left = left - spans
        return True

    def spend(self, spans: int, now_ns: int) -> None:
        """Take spans out of the budget that belong to a trace admitted before."""
        if self.per_second is not None:
            left, _ = self._refill(self.per_second, now_ns)
            self._left = left - spans

    def _refill(self, per_second: float, now_ns: int) -> tuple[float, float]:
        # Below one span per second a bucket of a second's worth would never hold a span.
        full = max(per_second, 1.0)
        if self._left is None:
            left = full
        else:
            elapsed_ns = max(now_ns - self._refilled_ns, 0)
            left = min(self._left + elapsed_ns * per_second / _NS_PER_SECOND, full)
        self._left = left
        self._refilled_ns = max(now_ns, self._refilled_ns)
        return left, full
