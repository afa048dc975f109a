"""Series of a distribution: over explicit buckets, or over exponential ones.

Sums are compensated, see :mod:`.summation`. Pure.
"""

from __future__ import annotations

import math
from bisect import bisect_left

from otpylib_telemetry.aggregation.exponential import ExponentialBuckets, sum_of
from otpylib_telemetry.aggregation.series import (
    BaseSeries,
    Exemplar,
    Labels,
    Operation,
    TracedSeries,
    due,
    later,
)
from otpylib_telemetry.aggregation.summation import FLOAT_MAX, WHOLE, corrected, halves


class HistogramSeries(BaseSeries, takes="observe"):
    """Observations by bucket, not cumulated, and their sum; extremes since :meth:`take_extremes`."""

    __slots__ = ("_lost", "_total", "bounds", "counts", "exemplars", "greatest", "least")

    def __init__(self, labels: Labels, bounds: tuple[float, ...], born_ns: int = 0) -> None:
        super().__init__(labels, born_ns)
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.least = math.inf
        self.greatest = -math.inf
        self.exemplars: list[Exemplar | None] | None = None
        self._total = 0.0
        self._lost = 0.0

    @property
    def count(self) -> int:
        """How many observations there were."""
        return sum(self.counts)

    @property
    def sum(self) -> float:
        """The sum of the observations."""
        return corrected(self._total, self._lost)

    def observe(self, value: float, traced: Operation | None = None) -> bool:
        """Add an observation. Returns False if it was refused: it is not finite, or the sum would not be."""
        old = self._total
        try:
            total = old + value
        except OverflowError:  # an integer beyond every float
            return False
        # NaN and the infinities make a sum that lies outside as well: one comparison sees to all of them.
        if -FLOAT_MAX <= total <= FLOAT_MAX:
            bucket = bisect_left(self.bounds, value)
            self.counts[bucket] += 1
            # One comparison for both, for nearly every observation lies within.
            if not self.least <= value <= self.greatest:
                self.least = min(self.least, value)
                self.greatest = max(self.greatest, value)
            number = value
            if type(value) is int and not -WHOLE <= value <= WHOLE:
                number, rest = halves(value)
                self._lost += rest
            part = total - old
            self._lost += (old - (total - part)) + (number - part)
            self._total = total
            if traced is not None:
                self._exemplify(bucket, value, traced)
            return True
        return False

    def advance_to(self, count: int, total: float) -> None:
        """Take over a number of observations, and their sum, that somebody else keeps: without buckets."""
        self.counts, self._total, self._lost = [*[0] * len(self.bounds), count], total, 0.0

    def absorb(self, other: HistogramSeries) -> None:
        """Go on with what another one has as well; it becomes a way to this one."""
        old, amount = self._total, other._total
        total = old + amount
        if -FLOAT_MAX <= total <= FLOAT_MAX:
            part = total - old
            self._lost += (old - (total - part)) + (amount - part) + other._lost
            self._total = total
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.least, self.greatest = min(self.least, other.least), max(self.greatest, other.greatest)
        if other.exemplars is not None:
            mine = self.exemplars or [None] * len(self.counts)
            self.exemplars = [later(one, its) for one, its in zip(mine, other.exemplars, strict=True)]
        other._give_way_to(self)

    def take_extremes(self) -> tuple[float, float]:
        """Return the least and the greatest observation since this was called last."""
        found = self.least, self.greatest
        self.least, self.greatest = math.inf, -math.inf
        return found

    def _exemplify(self, bucket: int, value: float, traced: Operation) -> None:
        exemplars = self.exemplars
        if exemplars is None:
            exemplars = self.exemplars = [None] * len(self.counts)
        if due(exemplars[bucket], traced):
            exemplars[bucket] = Exemplar(value, traced.settled())


class ExponentialSeries(TracedSeries, takes="observe"):
    """A distribution over buckets that widen by a constant factor, as fine as their number allows."""

    __slots__ = ("_recent", "_scale", "told")

    def __init__(self, labels: Labels, scale: int, max_size: int, born_ns: int = 0) -> None:
        super().__init__(labels, born_ns)
        self.told: ExponentialBuckets | None = None
        self._recent = ExponentialBuckets(scale, max_size)
        self._scale = scale

    @property
    def buckets(self) -> ExponentialBuckets:
        """All that was observed; not to be changed."""
        if self.told is None:
            return self._recent
        whole = self.told.empty()
        whole.merge(self.told)
        whole.merge(self._recent)
        return whole

    @property
    def count(self) -> int:
        """How many observations there were."""
        return self._recent.count if self.told is None else self.told.count + self._recent.count

    @property
    def sum(self) -> float:
        """The sum of the observations."""
        return self._recent.sum if self.told is None else sum_of((self.told, self._recent))

    def observe(self, value: float, traced: Operation | None = None) -> bool:
        """Add an observation; see :meth:`HistogramSeries.observe`."""
        if not self._recent.add(value):
            return False
        if traced is not None:
            self._exemplify(value, traced)
        return True

    def absorb(self, other: ExponentialSeries) -> None:
        """Go on with what another one has as well; it becomes a way to this one."""
        if other.told is not None:
            self.told = self.told or other.told.empty()
            self.told.merge(other.told)
        self._recent.merge(other._recent)
        self.exemplar = later(self.exemplar, other.exemplar)
        other._give_way_to(self)

    def turn(self) -> ExponentialBuckets:
        """Return what was observed since this was called last; what comes is as fine as the first again."""
        recent = self._recent
        if self.told is None:
            self.told = recent.empty()
        self.told.merge(recent)
        self._recent = ExponentialBuckets(self._scale, recent.max_size)
        return recent
