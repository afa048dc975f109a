"""Series into data points, slice by slice: for every exporter that sends metrics rather than serves them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation.cursors import Cursors
from otpylib_telemetry.aggregation.temporality import Reading, Wanted
from otpylib_telemetry.primitives.clock import wall_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping, Sequence

    from otpylib_telemetry.aggregation.metric import AnyMetric, Series
    from otpylib_telemetry.aggregation.points import MetricPoint
    from otpylib_telemetry.aggregation.store import SeriesStore


#: Series read in one go: some hundred microseconds, during which the store is locked.
_SLICE: Final = 200

_NS_PER_SECOND: Final = 1_000_000_000

#: Key into the memory that survives the exporter.
_CURSORS: Final = "metric_cursors"


class SeriesReader:
    """Reads the series of one exporter again and again, and remembers what was read.

    What is read is remembered for the exporter, or for one who reads ``beside`` it.
    """

    def __init__(self, memory: MutableMapping[str, Any], store: SeriesStore, *, beside: bool = False) -> None:
        self._store = store
        cursors: Cursors = memory.setdefault(_CURSORS, Cursors())
        with store.lock:
            self._cursors = Cursors(cursors) if beside else cursors
            store.folding = cursors.fold

    def leave(self) -> None:
        """Read no more; for one who reads beside the exporter."""
        with self._store.lock:
            self._cursors.leave()

    def due(self, now_ns: int, interval: float) -> bool:
        """Tell whether the last reading began so many seconds ago; the first is due after as many."""
        cursors = self._cursors
        if cursors.read_ns is None:
            cursors.read_ns = now_ns
        return now_ns - cursors.read_ns >= interval * _NS_PER_SECOND

    def begin(self, now_ns: int) -> None:
        """Take notice that the series are being read, or are left unread on purpose."""
        self._cursors.read_ns = now_ns

    def remember(self) -> None:
        """Take notice of all series there are: of those that go now, the next reading says the rest."""
        with self._store.lock:
            self._cursors.remember(self._store.metrics, wall_clock.offset_ns())

    async def read(
        self,
        preference: Wanted,
        enter: Callable[[Callable[[], list[MetricPoint]]], bool],
        ttl: float | None = None,
    ) -> bool:
        """Read and enter all series, each slice in one step; tell whether all of it was entered."""
        reading = _reading(preference)
        for step in self._steps(reading):
            if not enter(step):
                return False
            await asyncio.sleep(0)
        self._end(preference)
        if ttl is not None:
            for _ in self._expiring(reading, ttl):
                # What is measured in the meantime stays; what goes has been read.
                await asyncio.sleep(0)
        return True

    def read_now(self, preference: Wanted, ttl: float | None = None) -> list[MetricPoint]:
        """Read all series at one go, on whatever thread; others measure between two slices."""
        reading = _reading(preference)
        points = [point for step in self._steps(reading) for point in step()]
        self._end(preference)
        if ttl is not None:
            for _ in self._expiring(reading, ttl):
                pass
        return points

    def _steps(self, reading: Reading) -> Iterator[Callable[[], list[MetricPoint]]]:
        cursors, store = self._cursors, self._store
        with store.lock:
            gone = cursors.gone(store.metrics) if cursors.generation != store.generation else []
            generation = store.generation
        for start in range(0, len(gone), _SLICE):

            def finish(some: list[Series] = gone[start : start + _SLICE]) -> list[MetricPoint]:
                with store.lock:
                    return cursors.finish(some, reading, store)

            yield finish
        cursors.generation = generation
        for slice_ in _slices(store.metrics):

            def read(slice_: list[tuple[AnyMetric, Sequence[Series]]] = slice_) -> list[MetricPoint]:
                with store.lock:
                    points: list[MetricPoint] = []
                    for metric, series in slice_:
                        points += cursors.advance(metric, series, reading)
                    return points

            yield read

    def _end(self, preference: Wanted) -> None:
        with self._store.lock:
            self._cursors.grant(self._store, preference)

    def _expiring(self, reading: Reading, ttl: float) -> Iterator[None]:
        """Let series go for which nothing is measured any more; yields where others may have a turn."""
        store, ttl_ns = self._store, int(ttl * _NS_PER_SECOND)
        with store.lock:
            self._cursors.remember(store.metrics, reading.wall_offset_ns)
            store.expire(reading.now_ns, ttl_ns)
        while store.expiring:
            yield
            with store.lock:
                store.expire(reading.now_ns, ttl_ns)


def _reading(preference: Wanted) -> Reading:
    return Reading(time.monotonic_ns(), wall_clock.offset_ns(), preference)


def _slices(metrics: Sequence[AnyMetric]) -> Iterator[list[tuple[AnyMetric, Sequence[Series]]]]:
    """Yield the series of all metrics in portions of about one size."""
    portion: list[tuple[AnyMetric, Sequence[Series]]] = []
    size = 0
    for metric in metrics:
        series = metric.all_series()
        for start in range(0, len(series), _SLICE):
            some = series[start : start + _SLICE]
            portion.append((metric, some))
            size += len(some)
            if size >= _SLICE:
                yield portion
                portion, size = [], 0
    if portion:
        yield portion
