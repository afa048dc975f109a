"""The series of a summary: quantiles of what was observed recently, count and sum of all of it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otpylib_telemetry.aggregation.exponential import ExponentialBuckets, PackedBuckets, sum_of
from otpylib_telemetry.aggregation.series import BaseSeries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otpylib_telemetry.aggregation.series import Labels, Operation


class SliceClock:
    """Which slice of time has begun, for all the summaries that go by it; the number only grows."""

    __slots__ = ("slice",)

    def __init__(self) -> None:
        self.slice = 0


class SummarySeries(BaseSeries, takes="observe"):
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
        "_slice",
        "_slices",
        "_untold",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - what every series has, and its shape
        self,
        labels: Labels,
        scale: int,
        max_size: int,
        slices: int,
        born_ns: int = 0,
        clock: SliceClock | None = None,
    ) -> None:
        super().__init__(labels, born_ns)
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
        """Add an observation. Returns False if it was refused: it is not finite, or the sum would not be."""
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
        other._give_way_to(self)

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
