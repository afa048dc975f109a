"""Series into data points, slice by slice: for every exporter that sends metrics rather than serves them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation.cursors import Cursors, Preference, Reading
from otpylib_telemetry.primitives.clock import wall_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping, Sequence

    from otpylib_telemetry.aggregation.metric import AnyMetric
    from otpylib_telemetry.aggregation.points import MetricPoint
    from otpylib_telemetry.aggregation.series import Series
    from otpylib_telemetry.aggregation.store import SeriesStore


#: Series read in one go: some hundred microseconds, during which the store is locked.
_SLICE: Final = 200

_NS_PER_SECOND: Final = 1_000_000_000

#: Key into the memory that survives the exporter.
_CURSORS: Final = "metric_cursors"


class SeriesReader:
    """Reads the series of one exporter again and again, and remembers what was read."""

    def __init__(self, memory: MutableMapping[str, Any], store: SeriesStore) -> None:
        self._store = store
        self._cursors: Cursors = memory.setdefault(_CURSORS, Cursors())

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
        preference: Preference,
        enter: Callable[[Callable[[], list[MetricPoint]]], bool],
        ttl: float | None = None,
    ) -> bool:
        """Read and enter all series, each slice in one step; tell whether all of it was entered."""
        cursors, store = self._cursors, self._store
        reading = Reading(time.monotonic_ns(), wall_clock.offset_ns(), preference)
        with store.lock:
            gone = cursors.gone(store.metrics) if cursors.generation != store.generation else []
            generation = store.generation
        for start in range(0, len(gone), _SLICE):

            def finish(some: list[Series] = gone[start : start + _SLICE]) -> list[MetricPoint]:
                with store.lock:
                    return cursors.finish(some, reading, store)

            if not enter(finish):
                return False
            await asyncio.sleep(0)
        cursors.generation = generation
        for slice_ in _slices(store.metrics):

            def read(slice_: list[tuple[AnyMetric, Sequence[Series]]] = slice_) -> list[MetricPoint]:
                with store.lock:
                    points: list[MetricPoint] = []
                    for metric, series in slice_:
                        points += cursors.advance(metric, series, reading)
                    return points

            if not enter(read):
                return False
            await asyncio.sleep(0)
        with store.lock:
            cursors.grant(store, preference)
        if ttl is not None:
            await self._expire(reading, int(ttl * _NS_PER_SECOND))
        return True

    async def _expire(self, reading: Reading, ttl_ns: int) -> None:
        store = self._store
        with store.lock:
            self._cursors.remember(store.metrics, reading.wall_offset_ns)
            store.expire(reading.now_ns, ttl_ns)
        while store.expiring:
            # What is measured in the meantime stays; what goes has been read.
            await asyncio.sleep(0)
            with store.lock:
                store.expire(reading.now_ns, ttl_ns)


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
