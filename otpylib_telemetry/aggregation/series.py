"""The series of a metric: one running result for one set of labels.

Measurements are added up as they come and forgotten; only the results are kept. What a series cannot take
(NaN, an infinity, a counter's fall) it refuses, and stays as it was.

Sums of floats are compensated: what each addition rounds away is added up beside the sum (Neumaier's variant
of Kahan's method, with Knuth's error-free 2Sum). With ``u = 2**-53`` the sum of n numbers ``x`` differs from
the exact one by at most ``u * |exact| + (n*u / (1 - n*u))**2 * sum(|x|)`` (Ogita, Rump, Oishi, "Accurate
sum and dot product", SIAM J. Sci. Comput. 26, 2005, proposition 4.5): as if it had been rounded once, not n
times. Sums of integers are exact; in a sum with floats, an integer that no float holds counts as two numbers.

Pure: no clock, no thread, no I/O.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import count
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple, Protocol, TypeAlias

from otpylib_telemetry.aggregation.exponential import ExponentialBuckets, PackedBuckets, sum_of
from otpylib_telemetry.aggregation.summation import FLOAT_MAX, WHOLE, corrected, halves

if TYPE_CHECKING:
    from collections.abc import Sequence


#: Pairs of label name and label value, in the order of the names.
Labels: TypeAlias = tuple[tuple[str, str], ...]

#: Counts the settings of gauges, so that of two the one that was set last is known.
_next_setting: Final = count(1).__next__

#: Nanoseconds an exemplar stands before another of its bucket takes its place: what is scraped is recent all
#: the same, and a busy series does not make one per measurement.
_EXEMPLAR_STANDS_NS: Final = 1_000_000_000


class Traced(NamedTuple):
    """The operation during which something was measured, and what was told that is no label of the series."""

    at_ns: int
    trace_id: str
    span_id: str
    attributes: Labels = ()

    def settled(self) -> Traced:
        """Return what an exemplar keeps."""
        return self


class Operation(Protocol):
    """A :class:`Traced`, or what becomes one where an exemplar is made of it: of few measurements one is."""

    @property
    def at_ns(self) -> int:
        """When, on the monotonic clock."""
        ...

    def settled(self) -> Traced:
        """Return what an exemplar keeps."""
        ...


class Exemplar(NamedTuple):
    """One measurement that shows by its trace what the others of its kind are about."""

    value: float
    traced: Traced


def _due(present: Exemplar | None, traced: Operation) -> bool:
    return present is None or traced.at_ns - present.traced.at_ns >= _EXEMPLAR_STANDS_NS


def _later(one: Exemplar | None, other: Exemplar | None) -> Exemplar | None:
    if one is None or other is None:
        return one or other
    return one if one.traced.at_ns >= other.traced.at_ns else other


class _Sum:
    """A sum, and what rounding has taken away from it."""

    __slots__ = ("_lost", "_total")

    def __init__(self) -> None:
        self._total: float = 0
        self._lost = 0.0

    @property
    def value(self) -> float:
        """The sum; an int as long as only integers were added."""
        return corrected(self._total, self._lost)

    def _as_floats(self, old: float, amount: float) -> tuple[float, float]:
        """Return the floats Python takes two numbers for, and note what it rounds away thereby."""
        old, below = halves(old)
        amount, rest = halves(amount)
        self._lost += below + rest
        return old, amount


class CounterSeries(_Sum):
    """A sum that never falls; its exemplar is a recent addition with the trace it was part of."""

    __slots__ = ("_seen", "born_ns", "exemplar", "labels", "successor")

    moved: ClassVar[bool] = False
    successor: CounterSeries

    def __init__(self, labels: Labels, born_ns: int = 0) -> None:
        super().__init__()
        self.labels = labels
        self.born_ns = born_ns
        self.exemplar: Exemplar | None = None
        self._seen: float = -1

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
                if traced is not None and _due(self.exemplar, traced):
                    self.exemplar = Exemplar(amount, traced.settled())
                return True
        return False

    def advance_to(self, value: float, traced: Operation | None = None) -> bool:
        """Take over a sum that somebody else keeps; it is taken as it is, also when it has fallen.

        Returns False if it was refused: it is negative or not finite.
        """
        if 0 <= value <= FLOAT_MAX:
            self._total, self._lost = value, 0.0
            self._seen = -1  # that it has been observed, be it unchanged, is news as well
            if traced is not None and _due(self.exemplar, traced):
                self.exemplar = Exemplar(value, traced.settled())
            return True
        return False

    def absorb(self, other: CounterSeries) -> None:
        """Go on with what another one has as well; it becomes a way to this one."""
        self.add(other._total)
        self._lost += other._lost
        self.exemplar = _later(self.exemplar, other.exemplar)
        other.successor, other.__class__ = self, _MovedCounter

    def stirred(self) -> bool:
        """Tell whether it has changed since this was asked last, or was told again by who keeps it."""
        before, self._seen = self._seen, self.value
        return self._seen != before


class GaugeSeries:
    """A number that is what it was last set to; ``fresh`` tells of a setting since it was made False."""

    __slots__ = ("_seen", "_set", "born_ns", "exemplar", "fresh", "labels", "successor", "value")

    moved: ClassVar[bool] = False
    successor: GaugeSeries

    def __init__(self, labels: Labels, born_ns: int = 0) -> None:
        self.labels = labels
        self.born_ns = born_ns
        self.value: float = 0
        self.exemplar: Exemplar | None = None
        self.fresh = True
        #: The how manieth setting of all gauges was the last of this one.
        self._set = 0
        self._seen = -1

    def set(self, value: float, traced: Operation | None = None) -> bool:
        """Set it. Returns False if the value was refused because it is not finite."""
        if -FLOAT_MAX <= value <= FLOAT_MAX:
            self.value = value
            self.fresh = True
            self._set = _next_setting()
            if traced is not None and _due(self.exemplar, traced):
                self.exemplar = Exemplar(value, traced.settled())
            return True
        return False

    def absorb(self, other: GaugeSeries) -> None:
        """Be what another one is if that was set later; it becomes a way to this one."""
        if other._set >= self._set:
            self.value, self._set = other.value, other._set
        self.exemplar = _later(self.exemplar, other.exemplar)
        other.successor, other.__class__ = self, _MovedGauge

    def stirred(self) -> bool:
        """Tell whether it has been set since this was asked last, be it to the same number."""
        before, self._seen = self._seen, self._set
        return self._seen != before


class UpDownSeries(_Sum):
    """A sum that rises and falls; its exemplar is a recent change with the trace it was part of."""

    __slots__ = ("_seen", "born_ns", "exemplar", "labels", "successor")

    moved: ClassVar[bool] = False
    successor: UpDownSeries

    def __init__(self, labels: Labels, born_ns: int = 0) -> None:
        super().__init__()
        self.labels = labels
        self.born_ns = born_ns
        self.exemplar: Exemplar | None = None
        self._seen: float | None = None

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
            if traced is not None and _due(self.exemplar, traced):
                self.exemplar = Exemplar(amount, traced.settled())
            return True
        return False

    def advance_to(self, value: float, traced: Operation | None = None) -> bool:
        """Take over a sum that somebody else keeps.

        Returns False if it was refused because it is not finite.
        """
        if -FLOAT_MAX <= value <= FLOAT_MAX:
            self._total, self._lost = value, 0.0
            self._seen = None
            if traced is not None and _due(self.exemplar, traced):
                self.exemplar = Exemplar(value, traced.settled())
            return True
        return False

    def absorb(self, other: UpDownSeries) -> None:
        """Go on with what another one has as well; it becomes a way to this one."""
        self.add(other._total)
        self._lost += other._lost
        self.exemplar = _later(self.exemplar, other.exemplar)
        other.successor, other.__class__ = self, _MovedUpDown

    def stirred(self) -> bool:
        """Tell whether it has changed or been told again since this was asked last, or counts something."""
        before, self._seen = self._seen, self.value
        return self._seen != before or self._seen != 0


class HistogramSeries:
    """Observations by bucket, not cumulated, and their sum; extremes since :meth:`take_extremes`."""

    __slots__ = (
        *("_lost", "_seen", "_total", "born_ns", "bounds", "counts", "exemplars", "greatest", "labels"),
        *("least", "successor"),
    )

    moved: ClassVar[bool] = False
    successor: HistogramSeries

    def __init__(self, labels: Labels, bounds: tuple[float, ...], born_ns: int = 0) -> None:
        self.labels = labels
        self.born_ns = born_ns
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.least = math.inf
        self.greatest = -math.inf
        self.exemplars: list[Exemplar | None] | None = None
        self._total = 0.0
        self._lost = 0.0
        self._seen = -1

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
                self._stretch(value)
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

    def stirred(self) -> bool:
        """Tell whether something was observed since this was asked last."""
        before, self._seen = self._seen, self.count
        return self._seen != before

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
            self.exemplars = [_later(one, its) for one, its in zip(mine, other.exemplars, strict=True)]
        other.successor, other.__class__ = self, _MovedHistogram

    def take_extremes(self) -> tuple[float, float]:
        """Return the least and the greatest observation since this was called last."""
        found = self.least, self.greatest
        self.least, self.greatest = math.inf, -math.inf
        return found

    def _stretch(self, value: float) -> None:
        self.least = min(self.least, value)
        self.greatest = max(self.greatest, value)

    def _exemplify(self, bucket: int, value: float, traced: Operation) -> None:
        exemplars = self.exemplars
        if exemplars is None:
            exemplars = self.exemplars = [None] * len(self.counts)
        if _due(exemplars[bucket], traced):
            exemplars[bucket] = Exemplar(value, traced.settled())


class ExponentialSeries:
    """A distribution over buckets that widen by a constant factor, as fine as their number allows."""

    __slots__ = ("_recent", "_scale", "_seen", "born_ns", "exemplar", "labels", "successor", "told")

    moved: ClassVar[bool] = False
    successor: ExponentialSeries

    def __init__(self, labels: Labels, scale: int, max_size: int, born_ns: int = 0) -> None:
        self.labels = labels
        self.born_ns = born_ns
        self.exemplar: Exemplar | None = None
        self.told: ExponentialBuckets | None = None
        self._recent = ExponentialBuckets(scale, max_size)
        self._scale = scale
        self._seen = -1

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
        if traced is not None and _due(self.exemplar, traced):
            self.exemplar = Exemplar(value, traced.settled())
        return True

    def absorb(self, other: ExponentialSeries) -> None:
        """Go on with what another one has as well; it becomes a way to this one."""
        if other.told is not None:
            self.told = self.told or other.told.empty()
            self.told.merge(other.told)
        self._recent.merge(other._recent)
        self.exemplar = _later(self.exemplar, other.exemplar)
        other.successor, other.__class__ = self, _MovedExponential

    def turn(self) -> ExponentialBuckets:
        """Return what was observed since this was called last; what comes is as fine as the first again."""
        recent = self._recent
        if self.told is None:
            self.told = recent.empty()
        self.told.merge(recent)
        self._recent = ExponentialBuckets(self._scale, recent.max_size)
        return recent

    def stirred(self) -> bool:
        """Tell whether something was observed since this was asked last."""
        before, self._seen = self._seen, self.count
        return self._seen != before


class SliceClock:
    """Which slice of time has begun, for all the summaries that go by it; the number only grows."""

    __slots__ = ("slice",)

    def __init__(self) -> None:
        self.slice = 0


class SummarySeries:
    """Quantiles of the recent observations, and count and sum of all of them.

    Time goes in slices. What is older than the last ``slices`` of them counts towards count and sum alone, so
    that quantiles tell how things are and not how they were last week. A slice is closed when the series is
    next observed or read, so that nothing has to be done for each series when time goes on; what is closed
    is packed, and there is nothing of a slice in which nothing was observed.
    """

    __slots__ = (
        "_before",
        "_clock",
        "_closed",
        "_max_size",
        "_open",
        "_quantiles",
        "_scale",
        "_seen",
        "_slice",
        "_slices",
        "_untold",
        "born_ns",
        "labels",
        "successor",
    )

    moved: ClassVar[bool] = False
    successor: SummarySeries

    def __init__(  # noqa: PLR0913, PLR0917 - what every series has, and its shape
        self,
        labels: Labels,
        scale: int,
        max_size: int,
        slices: int,
        born_ns: int = 0,
        clock: SliceClock | None = None,
    ) -> None:
        self.labels = labels
        self.born_ns = born_ns
        self._slices = slices
        self._scale = scale
        self._max_size = max_size
        self._clock = SliceClock() if clock is None else clock
        self._slice = self._clock.slice
        self._open = ExponentialBuckets(scale, max_size)
        #: Slices that are over, each with its number, the oldest first.
        self._closed: list[tuple[int, PackedBuckets]] = []
        #: What is older than these.
        self._before: PackedBuckets | None = None
        #: What :meth:`turn` has not returned yet; None while it was not called, and all of it is.
        self._untold: ExponentialBuckets | None = None
        #: What quantiles were told last, and of what.
        self._quantiles: tuple[tuple[int, int, tuple[float, ...]], list[float]] | None = None
        self._seen = -1

    @property
    def count(self) -> int:
        """How many observations there were."""
        return sum(part.count for part in self._parts())

    @property
    def sum(self) -> float:
        """The sum of the observations."""
        return sum_of(self._parts())

    @property
    def size(self) -> int:
        """How many buckets are kept."""
        return sum(len(part.positive) + len(part.negative) for part in self._parts())

    def observe(self, value: float, traced: Operation | None = None) -> bool:
        """Add an observation; see :meth:`HistogramSeries.observe`."""
        del traced  # neither text format has a place for the exemplar of a summary
        if self._slice != self._clock.slice:
            self._close()
        if not self._open.add(value):
            return False
        if self._untold is not None:
            self._untold.add(value)
        return True

    def absorb(self, other: SummarySeries) -> None:
        """Go on with what another one has as well; it becomes a way to this one."""
        self._close()
        other._close()
        if self._untold is not None or other._untold is not None:
            untold = self.buckets if self._untold is None else self._untold
            untold.merge(other.buckets if other._untold is None else other._untold)
            self._untold = untold
        closed: dict[int, list[PackedBuckets]] = {}
        for number, part in (*self._closed, *other._closed):
            closed.setdefault(number, []).append(part)
        self._closed = [(number, self._packed(closed[number])) for number in sorted(closed)]
        before = [part for part in (self._before, other._before) if part is not None]
        self._before = self._packed(before) if before else None
        self._open.merge(other._open)
        self._quantiles = None
        other.successor, other.__class__ = self, _MovedSummary

    def _packed(self, parts: Sequence[PackedBuckets]) -> PackedBuckets:
        return parts[0] if len(parts) == 1 else PackedBuckets(self._merged(parts))

    def turn(self) -> ExponentialBuckets:
        """Return what was observed since this was called last."""
        untold = self.buckets if self._untold is None else self._untold
        self._untold = ExponentialBuckets(self._scale, self._max_size)
        return untold

    def recent(self) -> ExponentialBuckets:
        """Return what was observed during the last slices, as one; a copy."""
        self._close()
        return self._merged([*(part for _, part in self._closed), self._open])

    @property
    def buckets(self) -> ExponentialBuckets:
        """All that was observed, as one; a copy."""
        return self._merged(self._parts())

    def quantiles(self, wanted: Sequence[float]) -> list[float]:
        """Return quantiles of what was observed recently; NaN each if there was nothing.

        They are worked out anew only where something was observed, or something observed became too old.
        """
        self._close()
        older = 0 if self._before is None else self._before.count
        about = (self.count, older, tuple(wanted))
        if self._quantiles is None or self._quantiles[0] != about:
            self._quantiles = (about, self.recent().quantiles(wanted))
        return list(self._quantiles[1])

    def stirred(self) -> bool:
        """Tell whether something was observed since this was asked last."""
        before, self._seen = self._seen, self.count
        return self._seen != before

    def _parts(self) -> list[ExponentialBuckets | PackedBuckets]:
        older = [] if self._before is None else [self._before]
        return [*older, *(part for _, part in self._closed), self._open]

    def _merged(self, parts: Sequence[ExponentialBuckets | PackedBuckets]) -> ExponentialBuckets:
        whole = ExponentialBuckets(self._scale, self._max_size)
        for part in parts:
            whole.merge(part)
        return whole

    def _close(self) -> None:
        """Close the slice that was open if another one has begun, and let go of those that are too old."""
        now = self._clock.slice
        if now == self._slice:
            return
        if self._open.count:
            self._closed.append((self._slice, PackedBuckets(self._open)))
            # As fine as the first, however coarse the others had to become.
            self._open = ExponentialBuckets(self._scale, self._max_size)
        self._slice = now
        oldest = now - self._slices + 1
        old = [part for number, part in self._closed if number < oldest]
        if old:
            self._closed = self._closed[len(old) :]
            self._before = PackedBuckets(self._merged(old if self._before is None else [self._before, *old]))


# What a series becomes that others have absorbed. An open operation may hold it still, and so may whoever is
# reading: what it had stays to be read, and what comes goes to its successor. That costs the others nothing.


class _MovedCounter(CounterSeries):
    __slots__ = ()

    moved = True

    def add(self, amount: float, traced: Operation | None = None) -> bool:
        return self.successor.add(amount, traced)


class _MovedGauge(GaugeSeries):
    __slots__ = ()

    moved = True

    def set(self, value: float, traced: Operation | None = None) -> bool:
        return self.successor.set(value, traced)


class _MovedUpDown(UpDownSeries):
    __slots__ = ()

    moved = True

    def add(self, amount: float, traced: Operation | None = None) -> bool:
        return self.successor.add(amount, traced)


class _MovedHistogram(HistogramSeries):
    __slots__ = ()

    moved = True

    def observe(self, value: float, traced: Operation | None = None) -> bool:
        return self.successor.observe(value, traced)


class _MovedExponential(ExponentialSeries):
    __slots__ = ()

    moved = True

    def observe(self, value: float, traced: Operation | None = None) -> bool:
        return self.successor.observe(value, traced)


class _MovedSummary(SummarySeries):
    __slots__ = ()

    moved = True

    def observe(self, value: float, traced: Operation | None = None) -> bool:
        return self.successor.observe(value, traced)


Series: TypeAlias = (
    CounterSeries | GaugeSeries | UpDownSeries | HistogramSeries | ExponentialSeries | SummarySeries
)
