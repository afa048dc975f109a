"""Exponential buckets as buckets whose bounds are powers of two, which every reader of Prometheus takes.

The buckets of any scale from 0 upwards add up exactly to those of scale 0, whose bounds are the powers of
two; so the counts told here are exact, not interpolated. Where a distribution has become so wide that its
scale is below 0, only the powers that still are bounds can be told.

A bucket of negative numbers includes the bound that is further from 0, while ``le`` includes the nearer one.
So the bound told for numbers below ``-2**e`` is the greatest float below it. Pure.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Final

from otpylib_telemetry.metrics.labels import number_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otpylib_telemetry.aggregation.exponential import ExponentialBuckets


#: Exponents of the powers of two that are floats above 0.
_LEAST: Final = sys.float_info.min_exp - sys.float_info.mant_dig
_GREATEST: Final = sys.float_info.max_exp - 1

#: How many powers there may be between the least and the greatest for all of them to be told; beyond, those
#: next to which there is something.
_MAX_SPAN: Final = 128


class PowerBounds:
    """The bounds that are told of all series of a metric. They only ever become more.

    All series of a metric have the same bounds, as far as their resolution allows, because bounds that differ
    cannot be added up: and a bound that was told once is told again, because a series that goes and comes is
    a series that starts from 0.

    Attributes:
        version: Grows whenever there are more bounds.
    """

    __slots__ = ("_bounds", "_negative", "_positive", "_zero", "version")

    def __init__(self) -> None:
        self.version = 0
        self._positive: set[int] = set()
        self._negative: set[int] = set()
        self._zero = False
        #: Sign, exponent, bound and its text, ascending.
        self._bounds: list[tuple[int, int, float, str]] = []

    def cover(self, buckets: ExponentialBuckets) -> None:
        """Tell what these buckets need to be told by, from now on."""
        positive = _widened(self._positive, _exponents(buckets.positive, buckets.scale))
        negative = _widened(self._negative, _exponents(buckets.negative, buckets.scale))
        zero = self._zero or bool(buckets.zeros or buckets.negative)
        if (len(positive), len(negative), zero) == (len(self._positive), len(self._negative), self._zero):
            return
        self._positive, self._negative, self._zero = positive, negative, zero
        bounds = [(-1, power, math.nextafter(-(2.0**power), -math.inf)) for power in negative]
        bounds += [(0, 0, 0.0)] if zero else []
        bounds += [(1, power, math.ldexp(1.0, power)) for power in positive]
        self._bounds = [
            (*bound, number_text(bound[2])) for bound in sorted(bounds, key=lambda bound: bound[2])
        ]
        self.version += 1

    @property
    def negative(self) -> bool:
        """Whether there are bounds below 0."""
        return bool(self._negative)

    def cumulated(self, buckets: ExponentialBuckets) -> list[tuple[float, str, int]]:
        """Return each bound, its text, and how many numbers are at most as great."""
        width = max(0, -buckets.scale)
        fine = max(0, buckets.scale)
        below = sorted(((index >> fine, count) for index, count in buckets.negative.items()), reverse=True)
        above = sorted((index >> fine, count) for index, count in buckets.positive.items())
        found: list[tuple[float, str, int]] = []
        passed = 0
        for sign, power, bound, text in self._bounds:
            if sign and power & ((1 << width) - 1):
                continue  # lies within a bucket by now
            if sign < 0:
                while below and below[0][0] << width >= power:
                    passed += below.pop(0)[1]
                found.append((bound, text, passed))
                continue
            while below:
                passed += below.pop(0)[1]
            while sign and above and (above[0][0] + 1) << width <= power:
                passed += above.pop(0)[1]
            found.append((bound, text, passed + buckets.zeros))
        found.append((math.inf, "+Inf", buckets.count))
        return found


def _exponents(indices: Iterable[int], scale: int) -> set[int]:
    """Return the exponents of the bounds of these buckets at scale 0 or below, both of each."""
    width = max(0, -scale)
    coarse = {index >> max(0, scale) for index in indices}
    return {bound << width for index in coarse for bound in (index, index + 1)}


def _widened(known: set[int], more: set[int]) -> set[int]:
    fresh = {power for power in more if _LEAST <= power <= _GREATEST} - known
    if not fresh:
        return known
    whole = known | fresh
    least, greatest = min(whole), max(whole)
    return set(range(least, greatest + 1)) if greatest - least <= _MAX_SPAN else whole
