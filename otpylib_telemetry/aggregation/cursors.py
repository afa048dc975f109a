"""What was said of every series of a store: to each of those who read it.

Some of what a series knows, it tells once: the extremes since, and the buckets since. So where several read
one store, whoever reads first hands these to the others.

Pure: the clocks come in as arguments. Whoever reads holds the store's lock.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation.number_series import CounterSeries, GaugeSeries
from otpylib_telemetry.aggregation.points import MetricPoint, Temporality
from otpylib_telemetry.aggregation.temporality import (
    ROUNDING,
    Cursor,
    Missed,
    Preference,
    Reading,
    Wanted,
    joined,
    read,
    stream_of,
    take_out,
    temporality_of,
    unchanged,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otpylib_telemetry.aggregation.metric import AnyMetric, Series
    from otpylib_telemetry.aggregation.store import SeriesStore


#: Series that are gone and that are remembered for one who does not come to read the rest of them.
_GONE: Final = 1_000


class Cursors:
    """What was said of every series of a store to one of its ``readers``.

    Belongs to an exporter's name, as the store does. ``read_ns`` and ``preference`` are of the last reading.
    """

    def __init__(self, beside: Cursors | None = None) -> None:
        self.read_ns: int | None = None
        self.generation = 0
        self.readers: list[Cursors] = [] if beside is None else beside.readers
        self.readers.append(self)
        self.preference: Wanted | None = None
        self._offset_ns = 0
        self.known: dict[Series, Cursor] = {}
        #: Metrics that were asked for idle series since the last reading: there are none any more.
        self._asked: set[AnyMetric] = set()

    def __len__(self) -> int:
        return len(self.known)

    def leave(self) -> None:
        """Read no more, unlike the others."""
        self.readers.remove(self)
        gone = set(self.gone({cursor.metric for cursor in self.known.values()}))
        for series, cursor in self.known.items():
            for each in self.readers:
                # Of what is gone and unknown there, the rest has been told, or was never to be.
                if series in each.known or series not in gone:
                    known = each.at(cursor.metric, series, cursor.start_ns - cursor.began_ns)
                    known.extremes = cursor.whole_extremes(known.extremes)

    def advance(self, metric: AnyMetric, series: Iterable[Series], reading: Reading) -> list[MetricPoint]:
        """Say what there is to say of some series of a metric, and remember that."""
        stream = stream_of(metric, reading.preference)
        known, points = self.known, []
        offset_ns = self._offset_ns = reading.wall_offset_ns
        shared = len(self.readers) > 1
        for one in series:
            cursor = known.get(one)
            if cursor is None:
                if one.moved:
                    continue  # since these series were listed; another one tells of it the next time
                cursor = self.at(metric, one, offset_ns)
            if shared and (taken := take_out(metric, one, offset_ns)) is not None:
                for each in self.readers:
                    each.at(metric, one, offset_ns).miss(taken)
            point = read(cursor, one, stream, reading)
            if point is not None:
                points.append(point)
        return points

    def at(self, metric: AnyMetric, series: Series, offset_ns: int) -> Cursor:
        """Return what was said of a series; of a new one, nothing."""
        found = self.known.get(series)
        if found is not None:
            return found
        found = Cursor(metric, series.born_ns, offset_ns, overflow=series is metric.overflow)
        self.known[series] = found
        for each in self.readers:
            if each is not self and (known := each.known.get(series)) is not None:
                found.extremes = known.whole_extremes(found.extremes)
        return found

    def fold(self, metric: AnyMetric, merged: Mapping[Series, Sequence[Series]]) -> None:
        """Have what was said of several series be said of the one that was made of them."""
        for whole, parts in merged.items():
            self._hand_on(metric, whole, parts)
            for each in self.readers:
                found = [each.known.pop(one, None) for one in (whole, *parts)]
                known = [cursor for cursor in found if cursor is not None]
                if known:
                    each.known[whole] = joined(known)

    def _hand_on(self, metric: AnyMetric, whole: Series, parts: Iterable[Series]) -> None:
        """Have the exemplars of series that go told with the one that was made of them."""
        sources: Mapping[Any, Any] = metric.reservoirs
        if not sources or not self._offset_ns:
            return
        taken = Missed()
        for one in parts:
            if (source := sources.get(one)) is not None:
                taken.exemplars += source.collect(one.labels, self._offset_ns)
        if taken.exemplars:
            for each in self.readers:
                each.at(metric, whole, self._offset_ns).miss(taken)

    def grant(self, store: SeriesStore, preference: Wanted) -> None:
        """Let a full metric have as many series as it may have once more: to be called after each reading.

        "Cardinality limits" of OpenTelemetry's metrics SDK specification: of what is told as deltas, the
        limit is for one interval. Series of which nothing new came since then make room for others, and
        labels that were folded have values of their own.
        """
        self._asked.clear()
        self.preference = preference
        if len(self.readers) > 1:
            for each in self.readers:
                each.forget_gone(store)
        if any(each.preference is Preference.CUMULATIVE for each in self.readers):
            store.idle = None
            return
        store.idle = self._idle
        for metric in store.metrics:
            overflow = metric.overflow
            if metric.folded and self._is_of_intervals(metric):
                metric.unfold()
            if overflow is not None and self._is_of_intervals(metric) and self._is_idle(overflow):
                self._hand_over(metric, [overflow], self._offset_ns)
                metric.overflow = None
                store.generation += 1

    def _idle(self, metric: AnyMetric) -> list[Series]:
        if metric in self._asked or not self._is_of_intervals(metric):
            return []
        self._asked.add(metric)
        idle = [series for series in metric.series.values() if self._is_idle(series)]
        self._hand_over(metric, idle, self._offset_ns)
        return idle

    def _hand_over(self, metric: AnyMetric, series: Iterable[Series], offset_ns: int) -> None:
        """Have everybody know series that may go."""
        for one in series:
            for each in self.readers:
                each.at(metric, one, offset_ns)

    def _is_of_intervals(self, metric: AnyMetric) -> bool:
        """Tell whether each interval has series of its own, whoever reads them.

        What is observed needs the sums of the one before.
        """
        wanted = [each.preference for each in self.readers if each.preference is not None]
        return not metric.observed and all(temporality_of(metric, one) is Temporality.DELTA for one in wanted)

    def forget_gone(self, store: SeriesStore) -> None:
        """Give up the rest of what is gone where nobody comes to read it."""
        if len(self.known) > 2 * store.series_count() + _GONE:
            for series in self.gone(store.metrics):
                del self.known[series]

    def _is_idle(self, series: Series) -> bool:
        """Tell whether nothing came since, but for what rounding left: that is said when it is gone."""
        cursor = self.known.get(series)
        if cursor is None or cursor.last is None:
            return False
        if unchanged(cursor.last, series):
            return True
        return isinstance(series, CounterSeries) and math.isclose(series.value, cursor.last, rel_tol=ROUNDING)

    def remember(self, metrics: Iterable[AnyMetric], wall_offset_ns: int) -> None:
        """Take notice of all series there are, for all who read: what is removed hereafter is not lost."""
        for metric in metrics:
            self._hand_over(metric, metric.all_series(), wall_offset_ns)

    def gone(self, metrics: Iterable[AnyMetric]) -> list[Series]:
        """Return the series that are known and that the store has no more."""
        present: set[Series] = set()
        for metric in metrics:
            present.update(metric.all_series())
        return [series for series in self.known if series not in present]

    def finish(self, series: Iterable[Series], reading: Reading, store: SeriesStore) -> list[MetricPoint]:
        """Say the rest of series that are gone, and forget them, before their successors are read."""
        points = []
        for one in series:
            cursor = self.known.pop(one)
            others = [known for each in self.readers if (known := each.known.get(one)) is not None]
            if others and (taken := take_out(cursor.metric, one, reading.wall_offset_ns)) is not None:
                for known in (cursor, *others):
                    known.miss(taken)
            point = self._rest(cursor, one, reading, store)
            if point is not None:
                points.append(point)
            sources: dict[Any, Any] = cursor.metric.reservoirs
            sources.pop(one, None)
        return points

    @staticmethod
    def _rest(cursor: Cursor, series: Series, reading: Reading, store: SeriesStore) -> MetricPoint | None:
        if isinstance(series, GaugeSeries) or (cursor.last is not None and unchanged(cursor.last, series)):
            return None
        successor = _successor(cursor, series, store)
        now_ns = reading.now_ns if successor is None else min(reading.now_ns, successor.born_ns)
        stream = stream_of(cursor.metric, reading.preference)
        return read(cursor, series, stream, reading._replace(now_ns=now_ns))


def _successor(cursor: Cursor, series: Series, store: SeriesStore) -> Series | None:
    metric = store.find(cursor.metric.name)
    if metric is None:
        return None
    found: Series | None = metric.overflow if cursor.overflow else metric.series.get(series.labels)
    return found
