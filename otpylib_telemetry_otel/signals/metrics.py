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

from otpylib_telemetry import otp
from otpylib_telemetry.aggregation.exporter_stores import store_in
from otpylib_telemetry.aggregation.observers import refresh
from otpylib_telemetry.aggregation.temporality import Preference
from otpylib_telemetry.exporter.collected import Collected
from otpylib_telemetry.exporter.registry import all_stats
from otpylib_telemetry.metrics.automatic.events import MetricOptions
from otpylib_telemetry.metrics.exporting import MetricsPlan, RecordedMetrics
from otpylib_telemetry.metrics.labels import LabelRules
from otpylib_telemetry.metrics.names import OPENTELEMETRY
from otpylib_telemetry.metrics.options import DefinitionError
from otpylib_telemetry.metrics.reading import SeriesReader
from otpylib_telemetry.metrics.settings import definitions_in
from otpylib_telemetry.scrubbing.settings import SCRUB_KEYS
from otpylib_telemetry_otel.metrics.producer_deltas import Deltas
from otpylib_telemetry_otel.metrics.producers import Producers, producers_in
from otpylib_telemetry_otel.metrics.self_metrics import SelfMetrics
from otpylib_telemetry_otel.sdk.readers import readers_in
from otpylib_telemetry_otel.signals.base import Batch, Signal
from otpylib_telemetry_otel.signals.scrubbing import scrubbed_points

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from otpylib_telemetry.aggregation.points import MetricPoint
    from otpylib_telemetry.bus.event_log import Entry
    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry_otel.settings.model import OtelSettings


_log = logging.getLogger("otpylib_telemetry")

#: How events become series: what needs another beginning, if only of a part of them.
_MAKING: Final = frozenset(
    {
        *("metrics_definitions", "automatic_metrics", "span_metrics", "metrics_labels"),
        *("metrics_drop_labels", "metrics_buckets", "metrics_exemplars", "metrics_histogram", "max_series"),
        *SCRUB_KEYS,
    }
)

#: Producers' points entered in one go.
_SLICE: Final = 200

#: Seconds a producer may take, and the part of the time there is that it may take at most.
_PRODUCING: Final = 5.0
_PRODUCING_SHARE: Final = 0.7

#: The part of the time there is that the callbacks of observable instruments may take: the series are to be
#: read whatever a callback does.
_OBSERVING_SHARE: Final = 0.5

#: The part of the time there is that given readers may take to flush.
_FLUSHING_SHARE: Final = 0.8

#: Key into the memory that survives the exporter.
_DELTAS: Final = "metric_producer_deltas"

# Keys into the counts that survive the exporter.
_POINTS: Final = "metric_points"
_READINGS: Final = "metric_readings"
_READING_NS: Final = "metric_readings_ns"
_SKIPPED: Final = "metric_readings_skipped"
_CUT_OFF: Final = "metric_readings_cut_off"
_UNOBSERVED: Final = "metric_readings_unobserved"


class Metrics(Signal):
    """Makes data points and sends them."""

    name = "metrics"
    lane = "metrics"
    in_place = _MAKING | {
        *("metrics_interval", "metrics_temporality", "series_ttl", "metric_producers", "self_metrics"),
    }

    def __init__(self, exporter: Exporter[OtelSettings], counts: Counter[str]) -> None:
        super().__init__(exporter, counts)
        memory, name = exporter.context.memory, exporter.context.name
        self._reader = SeriesReader(memory, store_in(memory, name))
        self._recorded = RecordedMetrics(
            memory, name, OPENTELEMETRY, _plan(self._settings), self._reader.remember
        )
        self._self_metrics = SelfMetrics(memory)
        self._deltas: Deltas = memory.setdefault(_DELTAS, Deltas())
        self._producers = producers_in(memory, name)
        # Those of the settings end with the exporter.
        self._given = Producers(name)
        self._use_given(self._settings)
        self._readers = readers_in(memory, name)
        self._last_held = 0

    @property
    def taken(self) -> bool:
        """Whether any are made: for given readers, also where none are sent."""
        return self._wanted and (self._off is None or bool(self._settings.metric_readers))

    async def open(self, resource: Mapping[str, Any]) -> None:
        """Build what sends them, and have given readers read."""
        settings = self._settings
        given = [one.objects[0] for one in settings.metric_readers] if settings.metrics else []
        await self._readers.use(given, resource, self._given, self._without_secrets)
        if given and not settings.connection(self.name).has_target:
            self._off = await self._why_not_made()
            return
        await super().open(resource)

    async def _why_not_made(self) -> str | None:
        # What was emitted before a change is measured as was the rule then, by whoever was there.
        await self._context.catch_up()
        try:
            self._recorded.use()
        except DefinitionError as error:
            return f"the definitions do not go with the metrics that are there ({error})"
        return None

    async def apply(self, settings: OtelSettings, changed: frozenset[str]) -> None:
        """Take settings into use that need no other connection: all of them, or none."""
        if changed & _MAKING:
            # What was emitted before the change is measured as was the rule then.
            await self._context.catch_up()
            if self._wanted:
                self._recorded.use(_plan(settings))
        await super().apply(settings, changed)
        self._use_given(settings)

    def _use_given(self, settings: OtelSettings) -> None:
        self._given.use([one.objects[0] for one in settings.metric_producers])

    def collect(self, batch: Batch) -> None:
        """Add all events to the series, in their order. Of those left over, some are used by that."""
        if not self.taken:
            return
        try:
            self._recorded.use()
        except DefinitionError:  # ``open`` says so; spans and log records go on
            return
        recorder = self._recorded.recorder
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
        if self.taken:
            self._recorded.recorder.expire(now_ns, alive)

    def give_up_held(self, collected: Collected) -> None:
        """Give up every open operation: nothing more will come."""
        del collected
        self._recorded.recorder.give_up_held()

    def produce_due(self, now_ns: int) -> bool:
        """Tell whether it is time to read the series."""
        if not self._sends:
            return False
        return self._reader.due(now_ns, self._settings.metrics_interval)

    async def produce(
        self, book: Callable[[Callable[[], Collected]], bool], held: int, seconds: float, *, last_chance: bool
    ) -> None:
        """Read the series and ask the producers, and have readers flush; see ``Exporter.produce``."""
        if not last_chance or not self._readers:
            await self._produce_own(book, held, seconds, last_chance=last_chance)
            return
        flushing = otp.run_in_background(
            asyncio.get_running_loop(),
            self._readers.flush(seconds * _FLUSHING_SHARE),
            name=f"{self._context.name} metric readers",
        )
        try:
            await self._produce_own(book, held, seconds, last_chance=last_chance)
            await flushing
        finally:
            flushing.cancel()

    @property
    def _sends(self) -> bool:
        return self._wanted and self._off is None and self._destination is not None

    async def _produce_own(
        self, book: Callable[[Callable[[], Collected]], bool], held: int, seconds: float, *, last_chance: bool
    ) -> None:
        if not self._sends:
            return
        began_ns = time.monotonic_ns()
        self._reader.begin(began_ns)
        if held and (not last_chance or held > self._last_held):
            # The backend is behind: what was measured stays in the series, where it costs nothing more.
            self._counts[_SKIPPED] += 1
            return
        try:
            made = await self._produce(book, seconds, at_interval=not last_chance)
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
            self._counts[_READING_NS] += time.monotonic_ns() - began_ns

    async def _produce(
        self, book: Callable[[Callable[[], Collected]], bool], seconds: float, *, at_interval: bool
    ) -> int | None:
        """Read everything; returns how many points were made, or None if they are not wanted any more."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        produced = self._producers.start(min(_PRODUCING, seconds * _PRODUCING_SHARE), self._given)
        observing = seconds * _OBSERVING_SHARE
        if not await refresh(self._context.name, observing):
            self._counts[_UNOBSERVED] += 1
            self._warn_once(
                "callbacks of observable instruments have not come back in time. All other metrics are sent, "
                "and of the observed ones what was observed before"
            )
        before = self._counts[_POINTS]
        preference = Preference(self._settings.metrics_temporality)

        def enter(read: Callable[[], list[MetricPoint]]) -> bool:
            return book(lambda: self._made(read()))

        await self._reader.read(preference, enter, self._settings.series_ttl)
        if self._settings.self_metrics and self._self_metrics.wanted(
            answers := all_stats(), at_interval=at_interval
        ):
            self._self_metrics.observe(answers)
            await self._self_metrics.read(preference, enter)
        made = self._counts[_POINTS] - before
        for points in await produced.within(max(0.0, end - loop.time())):
            for start in range(0, len(points), _SLICE):
                some = points[start : start + _SLICE]
                if not book(functools.partial(self._made_elsewhere, some)):
                    return None
                made += len(some)
        return made

    def _warn_once(self, message: str, *args: object) -> None:
        if self._said.is_news(message):
            _log.warning(f"%s: {message}. Further cases are only counted.", self._context.name, *args)

    def _made_elsewhere(self, points: Sequence[MetricPoint]) -> Collected:
        """Enter what producers brought, as deltas where these are wanted."""
        if Preference(self._settings.metrics_temporality) is Preference.DELTA:
            points = self._deltas.convert(points, time.monotonic_ns())
        return self._made(points)

    def _without_secrets(self, points: Sequence[MetricPoint]) -> Sequence[MetricPoint]:
        return points if self._scrubber is None else scrubbed_points(points, self._scrubber)

    def _made(self, points: Sequence[MetricPoint]) -> Collected:
        points = self._without_secrets(points)
        self._counts[_POINTS] += len(points)
        return Collected(produced_items=[(point, 1) for point in points])

    def forget(self, request: tuple[Any, ...]) -> bool:
        """Forget a metric or a series; see :func:`otpylib_telemetry.metrics.recorder.answer_removal`."""
        return self._recorded.remove(request)

    def stats(self) -> Mapping[str, Any]:
        """Return what there is, what was made of it, and why nothing is; nothing if nothing ever was."""
        counts = self._counts
        told: dict[str, Any] = {}
        if self._wanted and (len(self._recorded.store) or counts[_READINGS] or counts[_CUT_OFF]):
            told = {
                "points": counts[_POINTS],
                "readings": counts[_READINGS],
                "reading_seconds": counts[_READING_NS] / 1e9,
                "skipped": counts[_SKIPPED],
                "cut_off": counts[_CUT_OFF],
                "unobserved": counts[_UNOBSERVED],
                **self._recorded.recorder.stats(),
            }
        if readers := self._readers.stats():
            told["readers"] = readers
        if producers := [*self._producers.stats(), *self._given.stats()]:
            told["producers"] = producers
        if self._off is not None:
            told["off"] = self._off
        return {"metrics": told} if told else {}


def _plan(settings: OtelSettings) -> MetricsPlan:
    """Return how events become series; they expire when they have been read, see ``produce``."""
    options = MetricOptions(
        LabelRules.of(settings.metrics_labels, settings.metrics_drop_labels),
        settings.metrics_buckets,
        settings.span_metrics,
        settings.metrics_exemplars,
        exponential=settings.metrics_histogram == "exponential",
    )
    return MetricsPlan(
        options,
        definitions_in(settings.metrics_definitions),
        settings.automatic_metrics,
        settings.max_series,
        scrub=settings.scrub_plan(),
    )


def _in_runs(events: Sequence[Entry], chosen: Sequence[Entry]) -> Iterator[tuple[bool, Sequence[Entry]]]:
    """Yield the events in their order, those that are chosen apart from those that are not."""
    run: list[Entry] = []
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
