"""From series to what is said of them: one data point each, cumulative or as the difference to the last.

A series knows its result and when it began. A :class:`Cursor` beside it remembers what was said of it last,
and so can say the rest. Rules: OpenTelemetry's metrics data model, "Temporality" and "Resets and Gaps".

* A cumulative point counts from the series' beginning, whatever was said before. A sum that its owner has
  let fall has begun anew: its start moves to the last point before the fall.
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

    from otpylib_telemetry.aggregation.exponential import ExponentialBuckets
    from otpylib_telemetry.aggregation.metric import AnyMetric
    from otpylib_telemetry.aggregation.store import SeriesStore


#: By how much what was reported may lie above what there is without a fall: by rounding alone.
_ROUNDING: Final = 1e-12


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
    """The moment of a reading.

    Attributes:
        now_ns: The monotonic time.
        wall_offset_ns: What to add to it to get nanoseconds since the epoch.
        preference: Which temporality is wanted.
    """

    now_ns: int
    wall_offset_ns: int
    preference: Preference


class Cursor:
    """What was said last of one series."""

    __slots__ = ("at_ns", "last", "metric", "overflow", "read_ns", "start_ns")

    def __init__(self, metric: AnyMetric, start_ns: int, *, overflow: bool) -> None:
        self.metric = metric
        self.overflow = overflow
        #: When the series began, since the epoch: said once, so that no setting of the clock can move it.
        self.start_ns = start_ns
        #: The time of the last point, since the epoch, and the monotonic one at which it was read.
        self.at_ns = start_ns
        self.read_ns = -1
        #: What had been reported by then: a number, or a point; None if nothing was.
        self.last: Any = None


def temporality_of(metric: AnyMetric, preference: Preference) -> Temporality:
    """Return what the points of a metric count from.

    The table is that of the OTLP metrics exporter specification,
    ``OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE``.
    """
    if preference is Preference.CUMULATIVE or metric.kind in {Kind.UP_DOWN, Kind.GAUGE}:
        return Temporality.CUMULATIVE
    if preference is Preference.LOWMEMORY and metric.observed:
        return Temporality.CUMULATIVE
    return Temporality.DELTA


class Cursors:
    """What was said of every series of a store. Belongs to an exporter's name, as the store does.

    Attributes:
        read_ns: The monotonic time of the last reading; None before the first.
        generation: The store's generation when gone series were last looked for.
    """

    def __init__(self) -> None:
        self.read_ns: int | None = None
        self.generation = 0
        self._known: dict[Series, Cursor] = {}

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
            if isinstance(one, GaugeSeries) or (cursor.last is not None and _unchanged(cursor.last, one)):
                continue
            successor = _successor(cursor, one, store)
            now_ns = reading.now_ns if successor is None else min(reading.now_ns, successor.born_ns)
            stream = _stream(cursor.metric, reading.preference)
            point = _read(cursor, one, stream, reading._replace(now_ns=now_ns))
            if point is not None:
                points.append(point)
        return points


def _successor(cursor: Cursor, series: Series, store: SeriesStore) -> Series | None:
    metric = store.find(cursor.metric.name)
    if metric is None:
        return None
    found: Series | None = metric.overflow if cursor.overflow else metric.series.get(series.labels)
    return found


def _begin(metric: AnyMetric, series: Series, wall_offset_ns: int) -> Cursor:
    return Cursor(metric, series.born_ns + wall_offset_ns, overflow=series is metric.overflow)


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
    return bool(series.count == last.size if isinstance(last, ExponentialPoint) else _result(series) == last)


def _result(series: Any) -> Any:
    return (tuple(series.counts), series.sum) if isinstance(series, HistogramSeries) else series.value


def _read(cursor: Cursor, series: Series, stream: Stream, reading: Reading) -> MetricPoint | None:
    at_ns = max(reading.now_ns + reading.wall_offset_ns, cursor.at_ns)
    delta = stream.temporality is Temporality.DELTA
    since = cursor.read_ns
    point: _Point | None
    if isinstance(series, HistogramSeries):
        point = _histogram(cursor, series, at_ns, since, delta=delta)
    elif isinstance(series, ExponentialSeries):
        exemplars = _recent((series.exemplar,), since)
        point = _exponential(cursor, series.buckets, at_ns, exemplars, delta=delta)
    elif isinstance(series, SummarySeries):
        point = _exponential(cursor, series.total(), at_ns, (), delta=delta)
    elif isinstance(series, CounterSeries):
        point = _counter(cursor, series, at_ns, since, delta=delta)
    else:
        point = NumberPoint(cursor.start_ns, at_ns, series.value)
        cursor.last = series.value
    cursor.at_ns, cursor.read_ns = at_ns, reading.now_ns
    if point is None:
        return None
    labels = None if cursor.overflow else series.labels
    return MetricPoint(stream, labels, point, reading.wall_offset_ns)


def _recent(exemplars: Iterable[Exemplar | None], since: int) -> tuple[Exemplar, ...]:
    """Return the exemplars that were not told of yet."""
    return tuple(one for one in exemplars if one is not None and one.traced.at_ns > since)


def _counter(
    cursor: Cursor, series: CounterSeries, at_ns: int, since: int, *, delta: bool
) -> NumberPoint | None:
    value, last = series.value, cursor.last
    if last is not None and value < last and not math.isclose(value, last, rel_tol=_ROUNDING):
        # Whoever keeps the sum has begun anew.
        cursor.start_ns, last = cursor.at_ns, None
    exemplars = _recent((series.exemplar,), since)
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


def _histogram(
    cursor: Cursor, series: HistogramSeries, at_ns: int, since: int, *, delta: bool
) -> HistogramPoint | None:
    counts, total, last = tuple(series.counts), series.sum, cursor.last
    exemplars = _recent(series.exemplars or (), since)
    if not delta or last is None:
        cursor.last = (counts, total)
        start_ns = cursor.at_ns if delta else cursor.start_ns
        return HistogramPoint(start_ns, at_ns, series.bounds, counts, total, exemplars)
    before, reported = last
    if counts == before:
        return None
    difference = total - reported
    cursor.last = (counts, reported + difference)
    rest = tuple(now - then for now, then in zip(counts, before, strict=True))
    return HistogramPoint(cursor.at_ns, at_ns, series.bounds, rest, difference, exemplars)


def _exponential(
    cursor: Cursor,
    buckets: ExponentialBuckets,
    at_ns: int,
    exemplars: tuple[Exemplar, ...],
    *,
    delta: bool,
) -> ExponentialPoint | None:
    last: ExponentialPoint | None = cursor.last
    if delta and last is not None and buckets.count == last.size:
        return None
    some = buckets.count > 0
    whole = ExponentialPoint(
        cursor.at_ns if delta else cursor.start_ns,
        at_ns,
        buckets.scale,
        buckets.zeros,
        dict(buckets.positive),
        dict(buckets.negative),
        buckets.count,
        buckets.sum,
        float(buckets.least) if some else None,
        float(buckets.greatest) if some else None,
        exemplars,
    )
    if not delta or last is None:
        cursor.last = whole
        return whole
    difference = whole.sum - last.sum
    cursor.last = whole._replace(sum=last.sum + difference)
    steps = last.scale - whole.scale
    return whole._replace(
        zeros=whole.zeros - last.zeros,
        positive=_less(whole.positive, last.positive, steps),
        negative=_less(whole.negative, last.negative, steps),
        size=whole.size - last.size,
        sum=difference,
        # Which of them were the extremes of this part alone is not known.
        least=None,
        greatest=None,
    )


def _less(counts: Mapping[int, int], before: Mapping[int, int], steps: int) -> Mapping[int, int]:
    """Return what was added to buckets since, be they coarser now by so many halvings of the resolution."""
    rest = dict(counts)
    for index, count in before.items():
        rest[index >> steps] -= count
    return {index: count for index, count in rest.items() if count}
