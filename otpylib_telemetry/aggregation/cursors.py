"""From series to what is said of them: one data point each, cumulative or as the difference to the last.

A series knows its result and when it began. A :class:`Cursor` beside it remembers what was said of it last,
and so can say the rest. Rules: OpenTelemetry's metrics data model, "Temporality" and "Resets and Gaps".

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
import functools
import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from otpylib_telemetry.aggregation.metric import Kind
from otpylib_telemetry.aggregation.points import (
    ExponentialPoint,
    Form,
    HistogramPoint,
    MetricPoint,
    NumberPoint,
    Stream,
    Temporality,
)
from otpylib_telemetry.aggregation.series import (
    CounterSeries,
    Exemplar,
    ExponentialSeries,
    GaugeSeries,
    HistogramSeries,
    Series,
    SummarySeries,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otpylib_telemetry.aggregation.metric import AnyMetric, ExemplarSource
    from otpylib_telemetry.aggregation.store import SeriesStore


#: By how much what was reported may lie above what there is without a fall: by rounding alone.
_ROUNDING: Final = 1e-12

#: Nanoseconds by which a clock is set, rather than held to the right time.
_SET_NS: Final = 1_000_000_000


class Preference(enum.Enum):
    """Which temporality is wanted, in the words of the OTLP exporter specification."""

    CUMULATIVE = "cumulative"
    DELTA = "delta"
    LOWMEMORY = "lowmemory"


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
    preference: Preference


class Cursor:
    """What was said last of one series."""

    __slots__ = ("at_ns", "began_ns", "extremes", "last", "metric", "overflow", "read_ns", "start_ns")

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

    def go_on(self, reading: Reading) -> int:
        """Keep the times said before true by a clock that was set; returns the time of the reading."""
        offset_ns = reading.wall_offset_ns
        at_ns = reading.now_ns + offset_ns
        if abs(self.at_ns - self.read_ns - offset_ns) > _SET_NS or self.at_ns > at_ns:
            self.at_ns = min(self.read_ns + offset_ns, at_ns)
        if self.start_ns > at_ns:
            self.start_ns = self.began_ns + offset_ns
        return at_ns


def temporality_of(metric: AnyMetric, preference: Preference) -> Temporality:
    """Return what the points of a metric count from, as the OTLP metrics exporter specification has it."""
    if preference is Preference.CUMULATIVE or metric.kind in {Kind.UP_DOWN, Kind.GAUGE}:
        return Temporality.CUMULATIVE
    if preference is Preference.LOWMEMORY and metric.observed:
        return Temporality.CUMULATIVE
    return Temporality.DELTA


class Cursors:
    """What was said of every series of a store. Belongs to an exporter's name, as the store does."""

    def __init__(self) -> None:
        self.read_ns: int | None = None
        self.generation = 0
        self._known: dict[Series, Cursor] = {}
        #: Metrics that were asked for idle series since the last reading: there are none any more.
        self._asked: set[AnyMetric] = set()

    def __len__(self) -> int:
        return len(self._known)

    def advance(self, metric: AnyMetric, series: Iterable[Series], reading: Reading) -> list[MetricPoint]:
        """Say what there is to say of some series of a metric, and remember that."""
        stream = _stream(metric, reading.preference)
        known, points = self._known, []
        for one in series:
            cursor = known.get(one)
            if cursor is None:
                cursor = known[one] = _begin(metric, one, reading.wall_offset_ns)
            point = _read(cursor, one, stream, reading)
            if point is not None:
                points.append(point)
        return points

    def grant(self, store: SeriesStore, preference: Preference) -> None:
        """Let a full metric have as many series as it may have once more: to be called after each reading.

        "Cardinality limits" of OpenTelemetry's metrics SDK specification: of what is told as deltas, the
        limit is for one interval. Series of which nothing new came since then make room for others.
        """
        self._asked.clear()
        if preference is Preference.CUMULATIVE:
            store.idle = None
            return
        store.idle = functools.partial(self._idle, preference)
        for metric in store.metrics:
            overflow = metric.overflow
            if overflow is not None and _is_of_intervals(metric, preference) and self._is_idle(overflow):
                metric.overflow = None
                store.generation += 1

    def _idle(self, preference: Preference, metric: AnyMetric) -> list[Series]:
        if metric in self._asked or not _is_of_intervals(metric, preference):
            return []
        self._asked.add(metric)
        return [series for series in metric.series.values() if self._is_idle(series)]

    def _is_idle(self, series: Series) -> bool:
        """Tell whether nothing came since, but for what rounding left: that is said when it is gone."""
        cursor = self._known.get(series)
        if cursor is None or cursor.last is None:
            return False
        if _unchanged(cursor.last, series):
            return True
        return isinstance(series, CounterSeries) and math.isclose(
            series.value, cursor.last, rel_tol=_ROUNDING
        )

    def remember(self, metrics: Iterable[AnyMetric], wall_offset_ns: int) -> None:
        """Take notice of all series there are: what is removed hereafter is not lost."""
        known = self._known
        for metric in metrics:
            for one in metric.all_series():
                if one not in known:
                    known[one] = _begin(metric, one, wall_offset_ns)

    def gone(self, metrics: Iterable[AnyMetric]) -> list[Series]:
        """Return the series that are known and that the store has no more."""
        present: set[Series] = set()
        for metric in metrics:
            present.update(metric.all_series())
        return [series for series in self._known if series not in present]

    def finish(self, series: Iterable[Series], reading: Reading, store: SeriesStore) -> list[MetricPoint]:
        """Say the rest of series that are gone, and forget them, before their successors are read."""
        points = []
        for one in series:
            cursor = self._known.pop(one)
            point = self._rest(cursor, one, reading, store)
            if point is not None:
                points.append(point)
            sources: dict[Any, Any] = cursor.metric.reservoirs
            sources.pop(one, None)
        return points

    @staticmethod
    def _rest(cursor: Cursor, series: Series, reading: Reading, store: SeriesStore) -> MetricPoint | None:
        if isinstance(series, GaugeSeries) or (cursor.last is not None and _unchanged(cursor.last, series)):
            return None
        successor = _successor(cursor, series, store)
        now_ns = reading.now_ns if successor is None else min(reading.now_ns, successor.born_ns)
        stream = _stream(cursor.metric, reading.preference)
        return _read(cursor, series, stream, reading._replace(now_ns=now_ns))


def _is_of_intervals(metric: AnyMetric, preference: Preference) -> bool:
    """Tell whether each interval has series of its own; what is observed needs the sums of the one before."""
    return not metric.observed and temporality_of(metric, preference) is Temporality.DELTA


def _successor(cursor: Cursor, series: Series, store: SeriesStore) -> Series | None:
    metric = store.find(cursor.metric.name)
    if metric is None:
        return None
    found: Series | None = metric.overflow if cursor.overflow else metric.series.get(series.labels)
    return found


def _begin(metric: AnyMetric, series: Series, wall_offset_ns: int) -> Cursor:
    return Cursor(metric, series.born_ns, wall_offset_ns, overflow=series is metric.overflow)


def _stream(metric: AnyMetric, preference: Preference) -> Stream:
    return Stream(
        metric.scope,
        metric.name,
        metric.description,
        metric.unit,
        _FORMS[metric.kind],
        temporality_of(metric, preference),
        metric.kind is Kind.COUNTER,
    )


def _unchanged(last: Any, series: Any) -> bool:
    """Tell whether nothing came since so much was reported."""
    match series:
        case HistogramSeries():
            return bool(tuple(series.counts) == last[0])
        case ExponentialSeries() | SummarySeries():
            return bool(series.count == last[0])
    return bool(series.value == last)


def _read(cursor: Cursor, series: Series, stream: Stream, reading: Reading) -> MetricPoint | None:
    at_ns = cursor.go_on(reading)
    delta = stream.temporality is Temporality.DELTA
    point: _Point | None
    if isinstance(series, HistogramSeries):
        point = _histogram(cursor, series, at_ns, delta=delta)
    elif isinstance(series, (ExponentialSeries, SummarySeries)):
        point = _exponential(cursor, series, at_ns, delta=delta)
    elif isinstance(series, CounterSeries):
        point = _counter(cursor, series, at_ns, delta=delta)
    else:
        exemplars = _recent((series.exemplar,), cursor)
        point = NumberPoint(cursor.start_ns, at_ns, series.value, exemplars)
        cursor.last = series.value
    cursor.at_ns, cursor.read_ns = at_ns, reading.now_ns
    if point is None:
        return None
    sources: Mapping[Any, ExemplarSource] = cursor.metric.reservoirs
    if sources and (source := sources.get(series)) is not None:
        point = point._replace(exemplars=source.collect(series.labels, reading.wall_offset_ns))
    labels = None if cursor.overflow else series.labels
    return MetricPoint(stream, labels, point, reading.wall_offset_ns)


def _recent(exemplars: Iterable[Exemplar | None], cursor: Cursor) -> tuple[Exemplar, ...]:
    """Return the exemplars that were not told of yet."""
    since = cursor.read_ns if cursor.last is not None else -1
    return tuple(one for one in exemplars if one is not None and one.traced.at_ns > since)


def _counter(cursor: Cursor, series: CounterSeries, at_ns: int, *, delta: bool) -> NumberPoint | None:
    value, last = series.value, cursor.last
    exemplars = _recent((series.exemplar,), cursor)
    if last is not None and value < last and not math.isclose(value, last, rel_tol=_ROUNDING):
        # Whoever keeps the sum has begun anew.
        cursor.began_ns, cursor.start_ns, last = cursor.read_ns, cursor.at_ns, None
    if not delta:
        cursor.last = value
        return NumberPoint(cursor.start_ns, at_ns, value, exemplars)
    if last is None:
        cursor.last = value
        return NumberPoint(cursor.at_ns, at_ns, value, exemplars)
    difference = value - last
    if not difference > 0:
        return None
    cursor.last = last + difference
    return NumberPoint(cursor.at_ns, at_ns, difference, exemplars)


def _histogram(cursor: Cursor, series: HistogramSeries, at_ns: int, *, delta: bool) -> HistogramPoint | None:
    counts, total, last = tuple(series.counts), series.sum, cursor.last
    if delta and last is not None and counts == last[0]:
        return None
    exemplars = _recent(series.exemplars or (), cursor)
    least, greatest = series.take_extremes()
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
    count, total = series.count, series.sum
    reported = last[1] if delta and last is not None else 0
    buckets = recent if delta else series.buckets
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
