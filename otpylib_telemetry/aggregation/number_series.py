"""Series of one number: counters, up-down counters and gauges.

Sums of floats are compensated, see :mod:`.summation`; sums of integers are exact. Pure.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, ClassVar, Final, Self

from otpylib_telemetry.aggregation.series import Labels, Operation, TracedSeries, later
from otpylib_telemetry.aggregation.summation import FLOAT_MAX, corrected, halves

if TYPE_CHECKING:
    from collections.abc import Callable

#: Counts the settings of gauges, so that of two the one that was set last is known.
_next_setting: Final = count(1).__next__


class SumSeries(TracedSeries):
    """A sum, and what rounding has taken away from it; ``least`` is the least it takes.

    Both kinds have an ``add`` of their own: to ask which it is costs an increment 7 %.
    """

    __slots__ = ("_lost", "_total")

    least: ClassVar[float]
    add: Callable[..., bool]
    _grows = "value"

    def __init__(self, labels: Labels, born_ns: int = 0) -> None:
        super().__init__(labels, born_ns)
        self._total: float = 0
        self._lost = 0.0

    @property
    def value(self) -> float:
        """The sum; an int as long as only integers were added."""
        return corrected(self._total, self._lost)

    def advance_to(self, value: float, traced: Operation | None = None) -> bool:
        """Take over a sum that somebody else keeps; it is taken as it is, also when a counter has fallen.

        Returns False if it was refused: it is less than ``least`` or not finite.
        """
        if self.least <= value <= FLOAT_MAX:
            self._total, self._lost = value, 0.0
            self._seen = None  # that it has been observed, be it unchanged, is news as well
            if traced is not None:
                self._exemplify(value, traced)
            return True
        return False

    def absorb(self, other: Self) -> None:
        """Go on with what another one has as well; it becomes a way to this one."""
        self.add(other._total)
        self._lost += other._lost
        self.exemplar = later(self.exemplar, other.exemplar)
        other._give_way_to(self)

    def _as_floats(self, old: float, amount: float) -> tuple[float, float]:
        """Return the floats Python takes two numbers for, and note what it rounds away thereby."""
        old, below = halves(old)
        amount, rest = halves(amount)
        self._lost += below + rest
        return old, amount


class CounterSeries(SumSeries, takes="add"):
    """A sum that never falls."""

    __slots__ = ()

    least = 0

    def add(self, amount: float, traced: Operation | None = None) -> bool:
        """Add to the sum; integers are added exactly.

        Returns False if the amount was refused: it is negative or not finite, or the sum would not be finite.
        """
        if amount >= 0:
            old = self._total
            try:
                total = old + amount
            except OverflowError:  # an integer beyond every float, on a sum that is a float
                return False
            if total <= FLOAT_MAX:
                if type(total) is float:
                    if type(old) is int or type(amount) is int:
                        old, amount = self._as_floats(old, amount)
                    part = total - old
                    self._lost += (old - (total - part)) + (amount - part)
                self._total = total
                if traced is not None:
                    self._exemplify(amount, traced)
                return True
        return False


class UpDownSeries(SumSeries, takes="add"):
    """A sum that rises and falls."""

    __slots__ = ()

    least = -FLOAT_MAX

    def add(self, amount: float, traced: Operation | None = None) -> bool:
        """Move it. Returns False if the amount was refused: it is not finite, or the sum would not be."""
        old = self._total
        try:
            total = old + amount
        except OverflowError:  # an integer beyond every float
            return False
        if -FLOAT_MAX <= total <= FLOAT_MAX:
            if type(total) is float:
                if type(old) is int or type(amount) is int:
                    old, amount = self._as_floats(old, amount)
                part = total - old
                self._lost += (old - (total - part)) + (amount - part)
            self._total = total
            if traced is not None:
                self._exemplify(amount, traced)
            return True
        return False

    def stirred(self) -> bool:
        """Tell whether it was changed or told again since this was asked last, or counts something."""
        return super().stirred() or self._seen != 0


class GaugeSeries(TracedSeries, takes="set"):
    """A number that is what it was last set to; ``fresh`` tells of a setting since it was made False."""

    __slots__ = ("_set", "fresh", "value")

    _grows = "_set"

    def __init__(self, labels: Labels, born_ns: int = 0) -> None:
        super().__init__(labels, born_ns)
        self.value: float = 0
        self.fresh = True
        #: The how manieth setting of all gauges was the last of this one.
        self._set = 0

    def set(self, value: float, traced: Operation | None = None) -> bool:
        """Set it. Returns False if the value was refused because it is not finite."""
        if -FLOAT_MAX <= value <= FLOAT_MAX:
            self.value = value
            self.fresh = True
            self._set = _next_setting()
            if traced is not None:
                self._exemplify(value, traced)
            return True
        return False

    def absorb(self, other: GaugeSeries) -> None:
        """Be what another one is if that was set later; it becomes a way to this one."""
        if other._set >= self._set:
            self.value, self._set = other.value, other._set
        self.exemplar = later(self.exemplar, other.exemplar)
        other._give_way_to(self)
