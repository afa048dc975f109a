"""The signal "metrics" of one exporter: events into series, series into data points, and what sends them.

Data points are made by the exporter itself, each of weight 1 in the books: accepted when they are read off
the series, exported or rejected as the backend says. From there on they are items like all others.

They do not pile up. As long as points wait that were made earlier, because a backend is down, the series are
not read again when the interval is over: a cumulative point says later what an earlier one would have said,
and a delta that is not taken is part of the next. A flush, or the end, reads them once more all the same, so
at most the points of two readings wait while the exporter runs.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation.cursors import Cursors, Preference, Reading
from otpylib_telemetry.aggregation.exporter_stores import store_in
from otpylib_telemetry.aggregation.observers import refresh
from otpylib_telemetry.exporter.base import Collected
from otpylib_telemetry.metrics.names import OPENTELEMETRY
from otpylib_telemetry.metrics.options import DefinitionError
from otpylib_telemetry.metrics.recorder import MetricRecorder, answer_removal, metric_options_of
from otpylib_telemetry.metrics.settings import definitions_in
from otpylib_telemetry.primitives.clock import wall_clock
from otpylib_telemetry_otel.metrics.producer_deltas import Deltas
from otpylib_telemetry_otel.metrics.producers import producers_in
from otpylib_telemetry_otel.signals.base import Batch, Signal

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from otpylib_telemetry.aggregation.metric import AnyMetric
    from otpylib_telemetry.aggregation.points import MetricPoint
    from otpylib_telemetry.aggregation.series import Series
    from otpylib_telemetry.bus.events import RawEvent
    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry_otel.settings.model import OtelSettings

__all__ = ["Metrics"]

_log = logging.getLogger("otpylib_telemetry")

#: How events become series: what needs another beginning, if only of a part of them.
_MAKING: Final = frozenset(
    {
        *("metrics_definitions", "automatic_metrics", "span_metrics", "metrics_labels"),
        *("metrics_drop_labels", "metrics_buckets", "metrics_exemplars", "metrics_histogram", "max_series"),
    }
)

#: Series read in one go: some hundred microseconds, during which the store is locked.
_SLICE: Final = 200

#: Seconds a producer may take, and the part of the time there is that it may take at most.
_PRODUCING: Final = 5.0
_PRODUCING_SHARE: Final = 0.7

#: The part of the time there is that the callbacks of observable instruments may take: the series are to be
#: read whatever a callback does.
_OBSERVING_SHARE: Final = 0.5

_NS_PER_SECOND: Final = 1_000_000_000

# Keys into the memory that survives the exporter.
_RECORDER: Final = "metrics_of_events"
_CURSORS: Final = "metric_cursors"
_DELTAS: Final = "metric_producer_deltas"

# Keys into the counts that survive the exporter.
_POINTS: Final = "metric_points"
_READINGS: Final = "metric_readings"
_SKIPPED: Final = "metric_readings_skipped"
_CUT_OFF: Final = "metric_readings_cut_off"
_UNOBSERVED: Final = "metric_readings_unobserved"


class Metrics(Signal):
    """Makes data points and sends them."""

    name = "metrics"
    lane = "metrics"
    in_place = _MAKING | {"metrics_interval", "metrics_temporality", "series_ttl"}

    def __init__(self, exporter: Exporter[OtelSettings], counts: Counter[str]) -> None:
        super().__init__(exporter, counts)
        context = exporter.context
        self._store = store_in(context.memory, context.name)
        self._recorder: MetricRecorder | None = context.memory.get(_RECORDER)
        self._memory = context.memory
        self._cursors: Cursors = context.memory.setdefault(_CURSORS, Cursors())
        self._deltas: Deltas = context.memory.setdefault(_DELTAS, Deltas())
        self._producers = producers_in(context.memory, context.name)
        self._configured = False
        self._last_held = 0

    async def _why_not_made(self) -> str | None:
        # What was emitted before a change is measured as was the rule then, by whoever was there.
        await self._context.catch_up()
        try:
            self._making()
        except DefinitionError as error:
            return f"the definitions do not go with the metrics that are there ({error})"
        return None

    async def apply(self, settings: OtelSettings, changed: frozenset[str]) -> None:
        """Take settings into use that need no other connection: all of them, or none.

        Raises:
            DefinitionError: The definitions cannot be had beside each other.
        """
        if changed & _MAKING:
            # What was emitted before the change is measured as was the rule then.
            await self._context.catch_up()
            if self._wanted:
                self._configure(settings)
        await super().apply(settings, changed)

    def _configure(self, settings: OtelSettings) -> MetricRecorder:
        recorder = self._recorder
        if recorder is None:
            recorder = self._memory.get(_RECORDER) or MetricRecorder(self._store, OPENTELEMETRY)
            self._recorder = self._memory[_RECORDER] = recorder
        making = metric_options_of(
            settings.metrics_labels,
            settings.metrics_drop_labels,
            settings.metrics_buckets,
            span_metrics=settings.span_metrics,
            exemplars=settings.metrics_exemplars,
            exponential=settings.metrics_histogram == "exponential",
        )
        with self._store.lock:
            self._cursors.remember(self._store.metrics, wall_clock.offset_ns())
            recorder.configure(
                making,
                definitions_in(settings.metrics_definitions),
                automatic=settings.automatic_metrics,
                # Series go when they have been read, and not before: see produce.
                series_ttl=None,
            )
            self._store.max_series = settings.max_series
        self._configured = True
        return recorder

    def _making(self) -> MetricRecorder:
        if self._recorder is None or not self._configured:
            return self._configure(self._settings)
        return self._recorder

    def collect(self, batch: Batch) -> None:
        """Add all events to the series, in their order. Of those left over, some are used by that."""
        if not self.taken:
            return
        try:
            recorder = self._making()
        except DefinitionError:  # ``open`` says so; spans and log records go on
            return
        if not batch.others:
            recorder.record(batch.events)
            return
        used = refused = 0
        for is_left_over, some in _in_runs(batch.events, [event for event, _ in batch.others]):
            unused = recorder.unused
            taken, rejected = recorder.record(some)
            if is_left_over:
                used += taken - (recorder.unused - unused)
                refused += rejected
        batch.collected.exported += max(0, used)
        batch.collected.rejected += refused
        batch.unused -= max(0, used) + refused

    def tick(self, now_ns: int, alive: Callable[[object], bool], collected: Collected) -> None:
        """Give up operations whose end will not come."""
        del collected  # a series is no item
        if self.taken and self._recorder is not None:
            self._recorder.expire(now_ns, alive)

    def give_up_held(self, collected: Collected) -> None:
        """Give up every open operation: nothing more will come."""
        del collected
        if self._recorder is not None:
            self._recorder.give_up_held()

    def produce_due(self, now_ns: int) -> bool:
        """Tell whether it is time to read the series."""
        if not self.taken or self._destination is None:
            return False
        cursors = self._cursors
        if cursors.read_ns is None:
            cursors.read_ns = now_ns
        return now_ns - cursors.read_ns >= self._settings.metrics_interval * _NS_PER_SECOND

    async def produce(
        self, book: Callable[[Callable[[], Collected]], bool], held: int, seconds: float, *, last_chance: bool
    ) -> None:
        """Read the series and ask the producers; see ``Exporter.produce``."""
        if not self.taken or self._destination is None:
            return
        now_ns = time.monotonic_ns()
        if held and (not last_chance or held > self._last_held):
            # The backend is behind: what was measured stays in the series, where it costs nothing more.
            self._cursors.read_ns = now_ns
            self._counts[_SKIPPED] += 1
            return
        self._cursors.read_ns = now_ns
        try:
            made = await self._produce(book, seconds)
        except asyncio.CancelledError:
            self._counts[_CUT_OFF] += 1
            self._warn_once(
                "reading its series took longer than the %.3g s there were. What was not read is part of the "
                "next reading; after the last one it is lost",
                seconds,
            )
            raise
        if made is not None:
            self._last_held = made
            self._counts[_READINGS] += 1

    async def _produce(self, book: Callable[[Callable[[], Collected]], bool], seconds: float) -> int | None:
        """Read everything; returns how many points were made, or None if they are not wanted any more."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        produced = self._producers.start(min(_PRODUCING, seconds * _PRODUCING_SHARE))
        observing = seconds * _OBSERVING_SHARE
        if not await refresh(self._context.name, observing):
            self._counts[_UNOBSERVED] += 1
            self._warn_once(
                "callbacks of observable instruments have not come back in time. All other metrics are sent, "
                "and of the observed ones what was observed before"
            )
        made = await self._read(book)
        for points in await produced.within(max(0.0, end - loop.time())):
            for start in range(0, len(points), _SLICE):
                some = points[start : start + _SLICE]
                if not book(functools.partial(self._made_elsewhere, some)):
                    return None
                made += len(some)
        return made

    def _warn_once(self, message: str, *args: object) -> None:
        if self._is_news(message):
            _log.warning(f"%s: {message}. Further cases are only counted.", self._context.name, *args)

    async def _read(self, book: Callable[[Callable[[], Collected]], bool]) -> int:
        """Read all series, slice by slice; each is read and entered in one step."""
        cursors, store = self._cursors, self._store
        reading = Reading(
            time.monotonic_ns(), wall_clock.offset_ns(), Preference(self._settings.metrics_temporality)
        )
        before = self._counts[_POINTS]
        with store.lock:
            gone = cursors.gone(store.metrics) if cursors.generation != store.generation else []
            generation = store.generation
        for start in range(0, len(gone), _SLICE):

            def finish(some: list[Series] = gone[start : start + _SLICE]) -> Collected:
                with store.lock:
                    return self._made(cursors.finish(some, reading, store))

            if not book(finish):
                return 0
            await asyncio.sleep(0)
        cursors.generation = generation
        for slice_ in _slices(store.metrics):

            def read(slice_: list[tuple[AnyMetric, Sequence[Series]]] = slice_) -> Collected:
                with store.lock:
                    points: list[MetricPoint] = []
                    for metric, series in slice_:
                        points += cursors.advance(metric, series, reading)
                return self._made(points)

            if not book(read):
                return 0
            await asyncio.sleep(0)
        if (ttl := self._settings.series_ttl) is not None:
            with store.lock:
                cursors.remember(store.metrics, reading.wall_offset_ns)
                store.expire(reading.now_ns, int(ttl * _NS_PER_SECOND))
            while store.expiring:
                # What is measured in the meantime stays; what goes has been read.
                await asyncio.sleep(0)
                with store.lock:
                    store.expire(reading.now_ns, int(ttl * _NS_PER_SECOND))
        return self._counts[_POINTS] - before

    def _made_elsewhere(self, points: Sequence[MetricPoint]) -> Collected:
        """Enter what producers brought, as deltas where these are wanted."""
        if Preference(self._settings.metrics_temporality) is Preference.DELTA:
            points = self._deltas.convert(points, time.monotonic_ns())
        return self._made(points)

    def _made(self, points: Sequence[MetricPoint]) -> Collected:
        self._counts[_POINTS] += len(points)
        return Collected(produced_items=[(point, 1) for point in points])

    def forget(self, request: tuple[Any, ...]) -> bool:
        """Forget a metric or a series; see :func:`otpylib_telemetry.metrics.recorder.answer_removal`."""
        with self._store.lock:
            self._cursors.remember(self._store.metrics, wall_clock.offset_ns())
            return answer_removal(self._store, request)

    def stats(self) -> Mapping[str, Any]:
        """Return what there is, what was made of it, and why nothing is; nothing if nothing ever was."""
        counts = self._counts
        told: dict[str, Any] = {}
        if self._wanted and (len(self._store) or counts[_READINGS] or counts[_CUT_OFF]):
            told = {
                "points": counts[_POINTS],
                "readings": counts[_READINGS],
                "skipped": counts[_SKIPPED],
                "cut_off": counts[_CUT_OFF],
                "unobserved": counts[_UNOBSERVED],
            }
            if self._recorder is not None:
                told |= self._recorder.stats()
        if producers := self._producers.stats():
            told["producers"] = producers
        if self._off is not None:
            told["off"] = self._off
        return {"metrics": told} if told else {}


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


def _in_runs(
    events: Sequence[RawEvent], chosen: Sequence[RawEvent]
) -> Iterator[tuple[bool, Sequence[RawEvent]]]:
    """Yield the events in their order, those that are chosen apart from those that are not."""
    run: list[RawEvent] = []
    kind = False
    following = iter(chosen)
    awaited = next(following, None)
    for event in events:
        is_chosen = event is awaited
        if is_chosen:
            awaited = next(following, None)
        if is_chosen is not kind and run:
            yield kind, run
            run = []
        kind = is_chosen
        run.append(event)
    if run:
        yield kind, run
