"""Base-2 exponential buckets: a distribution with a bounded relative error, which merges without loss.

The buckets are those of OpenTelemetry's data model ("ExponentialHistogram"): at scale s the base is
``2 ** (2 ** -s)``, and the bucket of index i takes what is greater than ``base ** i`` and at most
``base ** (i + 1)``; negative numbers have buckets of their own, by their absolute values. Two buckets of one
scale make up one of the scale below, so what grows too wide is coarsened in place, and distributions of
different scales add up.

A quantile read off such buckets has a relative error of at most ``(base - 1) / (base + 1)``: see
:func:`error_at`.

Pure.
"""

from __future__ import annotations

import math
import sys
from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Final, TypeAlias

from otpylib_telemetry.aggregation.summation import FLOAT_MAX, WHOLE, corrected, halves

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


#: Between which scales a distribution may begin, as in OpenTelemetry's SDK.
MAX_SCALE: Final = 20
MIN_SCALE: Final = -10

#: At this scale all positive floats share two buckets. At the one above there is a third, for the subnormal
#: numbers up to ``2 ** -1024``.
_COARSEST: Final = MIN_SCALE - 1

#: Counts up to this have four bytes where they are packed.
_FOUR_BYTES: Final = 2**32 - 1

#: The least and the greatest index of buckets; None if there are none.
_Ends: TypeAlias = "tuple[int, int] | None"

#: The mantissa :func:`math.frexp` gives for a power of two.
_POWER_OF_TWO: Final = 0.5


def error_at(scale: int) -> float:
    """Return the greatest relative error of a quantile at a scale."""
    # With b the base, (b - 1) / (b + 1) is tanh(ln(b) / 2), which neither overflows nor cancels.
    return math.tanh(math.log(2) * 2.0**-scale / 2)


def scale_for(error: float) -> int:
    """Return the coarsest scale up to :data:`MAX_SCALE` at which quantiles keep within a relative error."""
    scale = MIN_SCALE
    while scale < MAX_SCALE and error_at(scale) > error:
        scale += 1
    return scale


def bucket_index(value: float, scale: int) -> int:
    """Return the index of the bucket a number falls into.

    Powers of two fall where they belong at every scale. Any other number that differs from a bound by no more
    than a float can tell may be found in the neighbouring bucket, as OpenTelemetry's data model permits.
    """
    mantissa, exponent = math.frexp(value)
    if mantissa == _POWER_OF_TWO:
        # Exactly the upper bound of a bucket at every scale: no logarithm may push it out.
        index = exponent - 1
        return (index << scale) - 1 if scale > 0 else (index - 1) >> -scale
    if scale <= 0:
        return (exponent - 1) >> -scale
    # Of the mantissa alone, which lies between a half and 1, the logarithm is as exact as it can be; and it
    # must stay between the same two powers of two.
    within = math.ceil(math.log2(mantissa) * (1 << scale))
    return (exponent << scale) - 1 + min(0, max(1 - (1 << scale), within))


def lower_bound(index: int, scale: int) -> float:
    """Return the lower bound of a bucket, exclusive: 0 or infinity where floats end."""
    if scale <= 0:
        power = index << -scale
        return math.ldexp(1.0, power) if power <= sys.float_info.max_exp - 1 else math.inf
    whole, part = index >> scale, index & ((1 << scale) - 1)
    if whole >= sys.float_info.max_exp:
        return math.inf
    return math.ldexp(2.0 ** (part / (1 << scale)), whole)


@dataclass(slots=True, eq=False)
class ExponentialBuckets:
    """A distribution: counts by the index of buckets, of absolute values for either sign.

    There may be so many neighbouring buckets for either sign; where more would be needed, the resolution is
    halved. Without numbers the least is infinity, and the greatest minus infinity.
    """

    scale: int
    max_size: int
    zeros: int = 0
    positive: dict[int, int] = field(default_factory=dict)
    negative: dict[int, int] = field(default_factory=dict)
    count: int = 0
    least: float = math.inf
    greatest: float = -math.inf
    _total: float = 0.0
    _lost: float = 0.0
    # Known without looking at every bucket, of which there may be ten thousands.
    _positive_ends: _Ends = None
    _negative_ends: _Ends = None

    @property
    def sum(self) -> float:
        """The sum of the numbers, as exact as that of a histogram."""
        return corrected(self._total, self._lost)

    @property
    def parts_of_sum(self) -> tuple[float, float]:
        """The sum as it was rounded, and what was lost thereby."""
        return self._total, self._lost

    def empty(self) -> ExponentialBuckets:
        """Return an empty distribution of the same resolution."""
        return ExponentialBuckets(self.scale, self.max_size)

    def add(self, value: float) -> bool:
        """Add a number. Returns False if it was refused: it is not finite, or the sum would not be."""
        if not self._sum_up(value):
            return False
        self.count += 1
        if value < self.least:  # noqa: PLR1730 - calling min and max for each number is what takes longest
            self.least = value
        if value > self.greatest:  # noqa: PLR1730
            self.greatest = value
        if value:
            counts = self.positive if value > 0 else self.negative
            index = bucket_index(abs(float(value)), self.scale)
            present = counts.get(index)
            if present is not None:
                counts[index] = present + 1
            else:
                counts[index] = 1
                if value > 0:
                    self._positive_ends = _stretched(self._positive_ends, index)
                else:
                    self._negative_ends = _stretched(self._negative_ends, index)
                self._fit()
        else:
            self.zeros += 1
        return True

    def merge(self, other: ExponentialBuckets | PackedBuckets) -> None:
        """Add all the numbers of another distribution; the coarser resolution of the two is kept."""
        if other.scale < self.scale:
            self._coarsen(self.scale - other.scale)
        steps = other.scale - self.scale
        for counts, more in ((self.positive, other.positive), (self.negative, other.negative)):
            for index, count in more.items():
                counts[index >> steps] = counts.get(index >> steps, 0) + count
        self._positive_ends, self._negative_ends = _ends(self.positive), _ends(self.negative)
        self.zeros += other.zeros
        self.count += other.count
        self.least = min(self.least, other.least)
        self.greatest = max(self.greatest, other.greatest)
        self.merge_sum(other)
        self._fit()

    def merge_sum(self, other: ExponentialBuckets | PackedBuckets) -> None:
        """Add the sum of another distribution, and nothing else of it."""
        total, lost = other.parts_of_sum
        if self._sum_up(total):
            self._lost += lost
        else:
            # Both sums are finite and the sum of all is not: as near to it as a float gets.
            self._total, self._lost = math.copysign(FLOAT_MAX, total), 0.0

    def quantiles(self, wanted: Sequence[float]) -> list[float]:
        """Return quantiles; buckets are put in order once for all of them.

        Each is a number that differs from the one of rank ``wanted * (count - 1)`` by at most
        :func:`error_at` of it; NaN if there are no numbers.
        """
        if not self.count:
            return [math.nan] * len(wanted)
        # From the least number to the greatest, as (sign, index of the bucket).
        order = [(-1, index) for index in sorted(self.negative, reverse=True)]
        counts = [self.negative[index] for _, index in order]
        if self.zeros:
            order.append((0, 0))
            counts.append(self.zeros)
        above = sorted(self.positive)
        order += [(1, index) for index in above]
        counts += [self.positive[index] for index in above]
        passed = list(accumulate(counts))
        return [self._at(order, passed, quantile * (self.count - 1)) for quantile in wanted]

    def _at(self, order: Sequence[tuple[int, int]], passed: Sequence[int], rank: float) -> float:
        if rank <= 0:
            return float(self.least)
        if rank >= self.count - 1:
            return float(self.greatest)
        sign, index = order[bisect_right(passed, math.floor(rank))]
        found = sign * self._middle(index) if sign else 0.0
        return min(max(found, float(self.least)), float(self.greatest))

    def _middle(self, index: int) -> float:
        """Return the number within a bucket that is relatively as far from one bound as from the other."""
        low, high = lower_bound(index, self.scale), lower_bound(index + 1, self.scale)
        if high == math.inf:
            high = FLOAT_MAX
        return 2 * low * (high / (low + high)) if low + high < math.inf else low

    def _sum_up(self, value: float) -> bool:
        old = self._total
        try:
            total = old + value
        except OverflowError:  # an integer beyond every float
            return False
        if not -FLOAT_MAX <= total <= FLOAT_MAX:
            return False
        if type(value) is int and not -WHOLE <= value <= WHOLE:
            value, rest = halves(value)
            self._lost += rest
        part = total - old
        self._lost += (old - (total - part)) + (value - part)
        self._total = total
        return True

    def _fit(self) -> None:
        """Coarsen the buckets until there are not too many."""
        while self.scale > _COARSEST and (
            _width(self._positive_ends) > self.max_size or _width(self._negative_ends) > self.max_size
        ):
            self._coarsen(1)

    def _coarsen(self, steps: int) -> None:
        self.scale -= steps
        self.positive = _coarser(self.positive, steps)
        self.negative = _coarser(self.negative, steps)
        self._positive_ends, self._negative_ends = _ends(self.positive), _ends(self.negative)


class PackedBuckets:
    """A distribution that is over: to be read and merged, in eight bytes a bucket instead of some sixty."""

    __slots__ = ("count", "greatest", "least", "negative", "parts_of_sum", "positive", "scale", "zeros")

    def __init__(self, buckets: ExponentialBuckets) -> None:
        self.scale = buckets.scale
        self.zeros = buckets.zeros
        self.count = buckets.count
        self.least = buckets.least
        self.greatest = buckets.greatest
        self.positive = _PackedCounts(buckets.positive)
        self.negative = _PackedCounts(buckets.negative)
        self.parts_of_sum = buckets.parts_of_sum


class _PackedCounts:
    """Counts by index, in two arrays."""

    __slots__ = ("counts", "indices")

    def __init__(self, counts: Mapping[int, int]) -> None:
        self.indices = array("i", counts)
        small = max(counts.values(), default=0) <= _FOUR_BYTES
        self.counts = array("I" if small else "Q", counts.values())

    def __len__(self) -> int:
        return len(self.indices)

    def items(self) -> Iterable[tuple[int, int]]:
        """Return the pairs of index and count."""
        return zip(self.indices, self.counts, strict=True)


def sum_of(parts: Iterable[ExponentialBuckets | PackedBuckets]) -> float:
    """Return the sum of the numbers of several distributions; no bucket is looked at."""
    whole = ExponentialBuckets(0, 1)
    for part in parts:
        whole.merge_sum(part)
    return whole.sum


def _ends(counts: Mapping[int, int]) -> _Ends:
    return (min(counts), max(counts)) if counts else None


def _stretched(ends: _Ends, index: int) -> _Ends:
    return (index, index) if ends is None else (min(ends[0], index), max(ends[1], index))


def _width(ends: _Ends) -> int:
    return 0 if ends is None else ends[1] - ends[0] + 1


def _coarser(counts: Mapping[int, int], steps: int) -> dict[int, int]:
    coarse: dict[int, int] = {}
    for index, count in counts.items():
        coarse[index >> steps] = coarse.get(index >> steps, 0) + count
    return coarse
