"""From series to what is said of them: one data point each, cumulative or as the difference to the last.

A series knows its result and when it began. A :class:`Cursor` beside it, of each who reads it, remembers
what was said of it last, and so can say the rest. Rules: OpenTelemetry's metrics data model, "Temporality"
and "Resets and Gaps".

* A cumulative point counts from the series' beginning, whatever was said before. A sum that its owner has
  let fall has begun anew: its start moves to the last point before the fall.
* Times are those of the wall clock as it is now. A beginning that was said once is said again, unless the
  clock was set back to before it: then it is said as the clock has it now, for no point may end before it
  begins. A delta that the clock was set in begins as long before its end as the last point was read.
* A delta point counts from the last point, of whichever temporality, and nothing is counted in two of them.
  What is reported is added up in floating point as a receiver would do it, and the next delta closes the gap
  that rounding leaves: the sum of all deltas does not drift away from the cumulative value.
* A series that was removed has a last point if there is anything left to say. One that comes back under the
  same labels is another: it has a beginning of its own.

Pure: the clocks come in as arguments. Whoever reads holds the store's lock.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from otpylib_telemetry.aggregation.distribution_series import ExponentialSeries, HistogramSeries
from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.aggregation.number_series import CounterSeries, UpDownSeries
from otpylib_telemetry.aggregation.points import (
    ExponentialPoint,
    Form,
    HistogramPoint,
    MetricPoint,
    NumberPoint,
    Stream,
    Temporality,
)
from otpylib_telemetry.aggregation.summary_series import SummarySeries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from otpylib_telemetry.aggregation.exponential import ExponentialBuckets
    from otpylib_telemetry.aggregation.metric import AnyMetric, ExemplarSource, Series
    from otpylib_telemetry.aggregation.series import Exemplar


#: By how much what was reported may lie above what there is without a fall: by rounding alone.
ROUNDING: Final = 1e-12

#: How many exemplars are kept of a series for whom others have taken them.
_EXEMPLARS: Final = 20

#: Nanoseconds by which a clock is set, rather than held to the right time.
_SET_NS: Final = 1_000_000_000


class Preference(enum.Enum):
    """Which temporality is wanted, in the words of the OTLP exporter specification."""

    CUMULATIVE = "cumulative"
    DELTA = "delta"
    LOWMEMORY = "lowmemory"


#: A preference of the specification, or what tells the temporality of a metric otherwise.
Wanted: TypeAlias = "Preference | Callable[[AnyMetric], Temporality]"


_FORMS: Final[Mapping[Kind, Form]] = {
    Kind.COUNTER: Form.SUM,
    Kind.UP_DOWN: Form.SUM,
    Kind.GAUGE: Form.GAUGE,
    Kind.HISTOGRAM: Form.HISTOGRAM,
    Kind.EXPONENTIAL: Form.EXPONENTIAL,
    Kind.SUMMARY: Form.EXPONENTIAL,
}


_Point: TypeAlias = NumberPoint | HistogramPoint | ExponentialPoint


class Reading(NamedTuple):
    """The moment of a reading; ``wall_offset_ns`` makes of the monotonic time the time since the epoch."""

    now_ns: int
    wall_offset_ns: int
    preference: Wanted


@dataclass(slots=True, eq=False)
class Missed:
    """What others have taken out of a series since its last point: it gives some things once only."""

    least: float = math.inf
    greatest: float = -math.inf
    buckets: ExponentialBuckets | None = None
    exemplars: tuple[Exemplar, ...] = ()

    def take(self, other: Missed) -> None:
        """Add what was taken once more."""
        self.least, self.greatest = min(self.least, other.least), max(self.greatest, other.greatest)
        self.exemplars = (*self.exemplars, *other.exemplars)[-_EXEMPLARS:]
        if other.buckets is not None:
            if self.buckets is None:
                self.buckets = other.buckets.empty()
            self.buckets.merge(other.buckets)


class Cursor:
    """What was said last of one series."""

    __slots__ = (
        *("at_ns", "began_ns", "extremes", "last", "metric", "missed", "overflow", "read_ns"),
        "start_ns",
    )

    def __init__(self, metric: AnyMetric, born_ns: int, wall_offset_ns: int, *, overflow: bool) -> None:
        self.metric = metric
        self.overflow = overflow
        #: When the series began, on the monotonic clock and since the epoch.
        self.began_ns = born_ns
        self.start_ns = born_ns + wall_offset_ns
        #: The time of the last point likewise.
        self.read_ns = born_ns
        self.at_ns = self.start_ns
        #: What had been reported by then: a number, or the count and the sum of a distribution; None if
        #: nothing was.
        self.last: Any = None
        #: The least and the greatest observation of a histogram by then.
        self.extremes = (math.inf, -math.inf)
        #: None where nobody else reads the series.
        self.missed: Missed | None = None

    def whole_extremes(self, others: tuple[float, float] = (math.inf, -math.inf)) -> tuple[float, float]:
        """Return the extremes of all that was told or missed, and of others."""
        least, greatest = min(self.extremes[0], others[0]), max(self.extremes[1], others[1])
        if self.missed is None:
            return least, greatest
        return min(least, self.missed.least), max(greatest, self.missed.greatest)

    def miss(self, taken: Missed) -> None:
        """Take notice of what was taken out of the series, for whom ever."""
        if self.missed is None:
            self.missed = Missed()
        self.missed.take(taken)

    def go_on(self, reading: Reading) -> int:
        """Keep the times said before true by a clock that was set; returns the time of the reading."""
        offset_ns = reading.wall_offset_ns
        at_ns = reading.now_ns + offset_ns
        if abs(self.at_ns - self.read_ns - offset_ns) > _SET_NS or self.at_ns > at_ns:
            self.at_ns = min(self.read_ns + offset_ns, at_ns)
        if self.start_ns > at_ns:
            self.start_ns = self.began_ns + offset_ns
        return at_ns


def joined(known: Sequence[Cursor]) -> Cursor:
    """Return what was said of several series as what was said of the one that was made of them."""
    first = min(known, key=lambda one: one.began_ns)
    cursor = Cursor(first.metric, first.began_ns, first.start_ns - first.began_ns, overflow=False)
    told = [one for one in known if one.last is not None]
    if told:
        latest = max(told, key=lambda one: one.read_ns)
        cursor.at_ns, cursor.read_ns = latest.at_ns, latest.read_ns
        cursor.last = _added([one.last for one in told])
    for one in known:
        cursor.extremes = (
            min(cursor.extremes[0], one.extremes[0]),
            max(cursor.extremes[1], one.extremes[1]),
        )
        if one.missed is not None:
            cursor.miss(one.missed)
    return cursor


def _added(said: Sequence[Any]) -> Any:
    """Add up what was reported: numbers, or counts, of each bucket or of all, with sums."""
    if not isinstance(said[0], tuple):
        return _sum(said)
    counts, sums = zip(*said, strict=True)
    if isinstance(counts[0], tuple):
        return tuple(map(sum, zip(*counts, strict=True))), _sum(sums)
    return sum(counts), _sum(sums)


def _sum(numbers: Sequence[float]) -> float:
    return sum(numbers) if all(type(one) is int for one in numbers) else math.fsum(numbers)


def temporality_of(metric: AnyMetric, preference: Wanted) -> Temporality:
    """Return what the points of a metric count from, as the OTLP metrics exporter specification has it."""
    if not isinstance(preference, Preference):
        return preference(metric)
    if preference is Preference.CUMULATIVE or metric.kind in {Kind.UP_DOWN, Kind.GAUGE}:
        return Temporality.CUMULATIVE
    if preference is Preference.LOWMEMORY and metric.observed:
        return Temporality.CUMULATIVE
    return Temporality.DELTA


def take_out(metric: AnyMetric, series: Series, wall_offset_ns: int) -> Missed | None:
    """Take what a series gives once only, to be handed to all who read it."""
    taken = Missed()
    source: ExemplarSource | None = metric.reservoirs.get(series)  # type: ignore[arg-type]  # of one kind
    if source is not None:
        taken.exemplars = source.collect(series.labels, wall_offset_ns)
    if isinstance(series, HistogramSeries):
        taken.least, taken.greatest = series.take_extremes()
    elif isinstance(series, (ExponentialSeries, SummarySeries)):
        taken.buckets = series.turn()
    elif source is None:
        return None
    return taken


def stream_of(metric: AnyMetric, preference: Wanted) -> Stream:
    """Return what the points of a metric stand in."""
    return Stream(
        metric.scope,
        metric.name,
        metric.description,
        metric.unit,
        _FORMS[metric.kind],
        temporality_of(metric, preference),
        metric.kind is Kind.COUNTER,
    )


def unchanged(last: Any, series: Any) -> bool:
    """Tell whether nothing came since so much was reported."""
    match series:
        case HistogramSeries():
            return bool(tuple(series.counts) == last[0])
        case ExponentialSeries() | SummarySeries():
            return bool(series.count == last[0])
    return bool(series.value == last)


def read(cursor: Cursor, series: Series, stream: Stream, reading: Reading) -> MetricPoint | None:
    """Say what there is to say of a series, and remember that."""
    at_ns = cursor.go_on(reading)
    delta = stream.temporality is Temporality.DELTA
    point: _Point | None
    if isinstance(series, HistogramSeries):
        point = _histogram(cursor, series, at_ns, delta=delta)
    elif isinstance(series, (ExponentialSeries, SummarySeries)):
        point = _exponential(cursor, series, at_ns, delta=delta)
    elif isinstance(series, (CounterSeries, UpDownSeries)):
        point = _sum_point(cursor, series, at_ns, delta=delta)
    else:
        exemplars = _recent((series.exemplar,), cursor)
        point = NumberPoint(cursor.start_ns, at_ns, series.value, exemplars)
        cursor.last = series.value
    cursor.at_ns, cursor.read_ns = at_ns, reading.now_ns
    if point is None:
        return None
    sources: Mapping[Any, ExemplarSource] = cursor.metric.reservoirs
    source = sources.get(series) if sources else None
    missed, cursor.missed = cursor.missed, None
    found = () if missed is None else missed.exemplars
    if source is not None:
        found = (*found, *source.collect(series.labels, reading.wall_offset_ns))
    if found or source is not None:
        point = point._replace(exemplars=found)
    labels = None if cursor.overflow else series.labels
    return MetricPoint(stream, labels, point, reading.wall_offset_ns)


def _recent(exemplars: Iterable[Exemplar | None], cursor: Cursor) -> tuple[Exemplar, ...]:
    """Return the exemplars that were not told of yet."""
    since = cursor.read_ns if cursor.last is not None else -1
    return tuple(one for one in exemplars if one is not None and one.traced.at_ns > since)


def _sum_point(
    cursor: Cursor, series: CounterSeries | UpDownSeries, at_ns: int, *, delta: bool
) -> NumberPoint | None:
    value, last = series.value, cursor.last
    rises_only = isinstance(series, CounterSeries)
    exemplars = _recent((series.exemplar,), cursor)
    fell = rises_only and last is not None and value < last
    if fell and not math.isclose(value, last, rel_tol=ROUNDING):
        # Whoever keeps the sum has begun anew.
        cursor.began_ns, cursor.start_ns, last = cursor.read_ns, cursor.at_ns, None
    if not delta or last is None:
        cursor.last = value
        return NumberPoint(cursor.at_ns if delta else cursor.start_ns, at_ns, value, exemplars)
    difference = value - last
    if not difference or (rises_only and difference < 0):
        return None
    cursor.last = last + difference
    return NumberPoint(cursor.at_ns, at_ns, difference, exemplars)


def _histogram(cursor: Cursor, series: HistogramSeries, at_ns: int, *, delta: bool) -> HistogramPoint | None:
    counts, total, last = tuple(series.counts), series.sum, cursor.last
    if delta and last is not None and counts == last[0]:
        return None
    exemplars = _recent(series.exemplars or (), cursor)
    least, greatest = series.take_extremes()
    if (missed := cursor.missed) is not None:
        least, greatest = min(least, missed.least), max(greatest, missed.greatest)
    cursor.extremes = whole = min(cursor.extremes[0], least), max(cursor.extremes[1], greatest)
    if not delta or last is None:
        cursor.last = (counts, total)
        start_ns = cursor.at_ns if delta else cursor.start_ns
        told = _told_extremes(cursor, *whole)
        return HistogramPoint(start_ns, at_ns, series.bounds, counts, total, exemplars, *told)
    before, reported = last
    difference = total - reported
    cursor.last = (counts, reported + difference)
    rest = tuple(now - then for now, then in zip(counts, before, strict=True))
    told = _told_extremes(cursor, least, greatest)
    return HistogramPoint(cursor.at_ns, at_ns, series.bounds, rest, difference, exemplars, *told)


def _exponential(
    cursor: Cursor, series: ExponentialSeries | SummarySeries, at_ns: int, *, delta: bool
) -> ExponentialPoint | None:
    """Tell of all buckets, or of those of the observations since, which are as fine as these alone allow."""
    last = cursor.last
    if delta and last is not None and series.count == last[0]:
        return None
    exemplars = () if isinstance(series, SummarySeries) else _recent((series.exemplar,), cursor)
    recent = series.turn()
    if delta and (missed := cursor.missed) is not None and missed.buckets is not None:
        missed.buckets.merge(recent)
        recent = missed.buckets
    count, total = series.count, series.sum
    reported = last[1] if delta and last is not None else 0
    buckets = recent if delta and last is not None else series.buckets
    difference = total - reported
    cursor.last = (count, reported + difference)
    least, greatest = _told_extremes(cursor, buckets.least, buckets.greatest)
    return ExponentialPoint(
        cursor.at_ns if delta else cursor.start_ns,
        at_ns,
        buckets.scale,
        buckets.zeros,
        dict(buckets.positive),
        dict(buckets.negative),
        buckets.count,
        difference,
        least,
        greatest,
        exemplars,
    )


def _told_extremes(cursor: Cursor, least: float, greatest: float) -> tuple[float, float] | tuple[None, None]:
    """Return the extremes as a point has them; none where there was nothing, or nobody wants them."""
    if not cursor.metric.extremes or least > greatest:
        return None, None
    return float(least), float(greatest)
