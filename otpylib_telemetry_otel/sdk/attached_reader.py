"""One metric reader of OpenTelemetry that a program gives, and what it calls for metrics.

A reader calls back for the metrics, on a thread of its own or of the application. The series are read there:
nothing waits for the exporter's event loop but, for a limited time, events that are on their way.

Importing this imports no OpenTelemetry: whoever has made a reader has imported it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import math
import time
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from otpylib_telemetry.aggregation import observers
from otpylib_telemetry.aggregation.exporter_stores import store_in
from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.aggregation.points import Temporality
from otpylib_telemetry.aggregation.temporality import Preference
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.metrics.reading import SeriesReader
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.fork import importing, new_lock
from otpylib_telemetry.primitives.polling import Watch
from otpylib_telemetry_otel.metrics.producer_deltas import Deltas
from otpylib_telemetry_otel.metrics.producers import Producers, Reading, producers_in
from otpylib_telemetry_otel.resources import complete
from otpylib_telemetry_otel.sdk.suppression import unobserved

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping, Sequence

    from otpylib_telemetry.aggregation.metric import AnyMetric
    from otpylib_telemetry.aggregation.points import MetricPoint
    from otpylib_telemetry.aggregation.store import SeriesStore
    from otpylib_telemetry.aggregation.temporality import Wanted
    from otpylib_telemetry.primitives.once import Once

    #: Takes secrets out of data points.
    Clean: TypeAlias = Callable[[Sequence[MetricPoint]], Sequence[MetricPoint]]

_log = logging.getLogger("otpylib_telemetry")

#: Seconds a reading may take at most, whatever the reader grants; and where it is called on an event loop.
PATIENCE: Final = 10.0
_ON_A_LOOP: Final = 0.5

#: The part of the time for a reading in which events on their way are waited for: a loop that is blocked
#: must not cost what is in the series already.
_CATCHING_UP: Final = 0.3

_INSTRUMENTS: Final = {
    Kind.COUNTER: "Counter",
    Kind.UP_DOWN: "UpDownCounter",
    Kind.GAUGE: "Gauge",
    Kind.HISTOGRAM: "Histogram",
    Kind.EXPONENTIAL: "Histogram",
    Kind.SUMMARY: "Histogram",
}

#: The aggregations of the SDK that say no more than what is so already.
_FITTING: Final[Mapping[str, frozenset[Kind]]] = {
    "DefaultAggregation": frozenset(Kind),
    "SumAggregation": frozenset({Kind.COUNTER, Kind.UP_DOWN}),
    "LastValueAggregation": frozenset({Kind.GAUGE}),
    "ExplicitBucketHistogramAggregation": frozenset({Kind.HISTOGRAM}),
    "ExponentialBucketHistogramAggregation": frozenset({Kind.EXPONENTIAL, Kind.SUMMARY}),
}
#: Readers, and what derives from them, that read when somebody asks.
_PULLED: Final = frozenset({"InMemoryMetricReader", "PrometheusMetricReader"})

_DROP: Final = "DropAggregation"


class Attached:
    """One reader, and what it calls for metrics."""

    def __init__(self, reader: Any, exporter: str, said: Once) -> None:
        self.reader = reader
        self.exporter = exporter
        self.watch = Watch(self._flush)
        self.readings = self.failures = self.points = 0
        self._said = said
        self._preference = _preference(reader)
        self._aggregations = _by_instrument(reader, "_instrument_class_aggregation")
        self._deltas = Deltas()
        # Held while the series are read, and at no other time: never for long.
        self._lock = new_lock()
        self._series: tuple[SeriesStore, SeriesReader] | None = None
        self._resource: Mapping[str, Any] = {}
        self._converter: Any = None
        self._producers: Producers | None = None
        self._clean: Clean | None = None

    @property
    def is_ours(self) -> bool:
        """Whether the reader still asks here."""
        return getattr(self.reader, "_collect", self) is self

    @property
    def is_pulled(self) -> bool:
        """Whether the reader reads when it is asked for metrics, and not by itself."""
        return any(kind.__name__ in _PULLED for kind in type(self.reader).__mro__)

    def use(self, resource: Mapping[str, Any], producers: Producers, clean: Clean) -> None:
        """Have the reader ask here, for metrics of this resource and of the settings' producers."""
        if resource != self._resource:
            self._resource, self._converter = resource, None
        self._producers, self._clean = producers, clean
        self.reader._set_collect_callback(self)  # noqa: SLF001 - there is no other way

    def detach(self) -> None:
        """Have the reader ask here no more."""
        if self.is_ours:
            self.reader._set_collect_callback(None)  # noqa: SLF001 - as above
        with self._lock:
            if self._series is not None:
                self._series[1].leave()
                self._series = None

    def __call__(self, _reader: Any, timeout_millis: float = PATIENCE * 1_000) -> Any:
        """Return the metrics as the SDK's ``MetricsData``; None if there is nothing to say. Never raises."""
        try:
            return self._collect(_seconds(timeout_millis))
        except Exception as error:  # noqa: BLE001 - it would end the thread of a reader that reads periodically
            self.failed("gets no metrics", error)
            return None

    def _collect(self, seconds: float) -> Any:
        end = time.monotonic() + seconds
        memory = registry.memory_of(self.exporter)
        produced = self._begin_to_produce(memory, seconds)
        begun = observers.begin(self.exporter)
        registry.collect_now(self.exporter, seconds * _CATCHING_UP)
        concurrent.futures.wait(begun, max(0.0, end - time.monotonic()))
        points = self._read(memory)
        for some in produced.wait(max(0.0, end - time.monotonic())):
            points += self._deltas.convert(some, time.monotonic_ns()) if self._wants_deltas else some
        self.readings += 1
        self.points += len(points)
        return self._converted(points if self._clean is None else self._clean(points)) if points else None

    def _begin_to_produce(self, memory: MutableMapping[str, Any], seconds: float) -> Reading:
        given = self._producers if registry.is_running(self.exporter) else None
        others = given or Producers(self.exporter)
        return producers_in(memory, self.exporter).start(seconds, others, beside=True)

    def _read(self, memory: MutableMapping[str, Any]) -> list[MetricPoint]:
        # In a forked child the series are other ones.
        store = store_in(memory, self.exporter)
        with self._lock:
            if self._series is None or self._series[0] is not store:
                self._series = store, SeriesReader(memory, store, beside=True)
            ttl = getattr(registry.settings_of(self.exporter), "series_ttl", None)
            points = self._series[1].read_now(self._preference, ttl)
        unwanted = self._unwanted(store.metrics) if self._aggregations else ()
        if unwanted:
            points = [each for each in points if (each.stream.scope, each.stream.name) not in unwanted]
        return points

    @property
    def _wants_deltas(self) -> bool:
        preference = self._preference
        return isinstance(preference, _Temporalities) and preference.counters is Temporality.DELTA

    def _unwanted(self, metrics: Sequence[AnyMetric]) -> set[tuple[Any, str]]:
        """Return the metrics that the reader drops; say of which others it would have another aggregation."""
        unwanted = set()
        for metric in metrics:
            preferred = type(self._aggregations.get(_instrument(metric))).__name__
            if preferred == _DROP:
                unwanted.add((metric.scope, metric.name))
            elif metric.kind not in _FITTING.get(preferred, _FITTING["DefaultAggregation"]):
                self._say(
                    f"prefers {preferred} and gets {metric.kind.value}s",
                    ": what becomes of measurements is up to the exporter's settings and to views",
                )
        return unwanted

    def _converted(self, points: Sequence[MetricPoint]) -> Any:
        if self._converter is None:
            with importing():
                from otpylib_telemetry_otel.sdk.metrics import MetricConverter  # noqa: PLC0415 - OpenTelemetry's

            self._converter = MetricConverter(complete(self._resource))
        try:
            return self._converter.convert(points)
        except Exception:  # noqa: BLE001 - whatever is in one of them, the others are to go
            usable = [each for each in points if self._is_usable(each)]
        return self._converter.convert(usable) if usable else None

    def _is_usable(self, point: MetricPoint) -> bool:
        try:
            self._converter.convert([point])
        except Exception as error:  # noqa: BLE001 - as above
            self.failed("goes without a data point", error)
            return False
        return True

    def _flush(self, timeout_millis: float) -> tuple[()]:
        flush = getattr(self.reader, "force_flush", None) or self.reader.collect
        unobserved(flush, timeout_millis=timeout_millis)
        return ()

    def failed(self, what: str, error: BaseException | None = None) -> None:
        """Count a failure, and say the first of its kind."""
        self.failures += 1
        self._say(what, "" if error is None else f" ({describe(error)})")

    def _say(self, what: str, more: str) -> None:
        if self._said.is_news((id(self), what)):
            reader = type(self.reader).__name__
            message = "%s: the metric reader %s %s%s. Further cases are not logged."
            _log.warning(message, self.exporter, reader, what, more)

    def stats(self) -> dict[str, Any]:
        """Return how it does."""
        return {
            "reader": type(self.reader).__name__,
            "readings": self.readings,
            "failures": self.failures,
            "points": self.points,
        }


class _Temporalities:
    """Which temporality a reader wants of each metric."""

    def __init__(self, by_instrument: Mapping[str, Temporality]) -> None:
        self._by_instrument = by_instrument
        self.counters = by_instrument.get("Counter", Temporality.CUMULATIVE)

    def __call__(self, metric: AnyMetric) -> Temporality:
        if metric.kind is Kind.GAUGE:
            return Temporality.CUMULATIVE
        return self._by_instrument.get(_instrument(metric), Temporality.CUMULATIVE)


def _preference(reader: Any) -> Wanted:
    wanted = {
        name: Temporality(each.value)
        for name, each in _by_instrument(reader, "_instrument_class_temporality").items()
    }
    return _Temporalities(wanted) if Temporality.DELTA in wanted.values() else Preference.CUMULATIVE


def _by_instrument(reader: Any, attribute: str) -> dict[str, Any]:
    """Return what a reader says of each class of instruments; the SDK has them under two names each."""
    said = getattr(reader, attribute, None) or {}
    return {kind.__name__.lstrip("_"): each for kind, each in said.items()}


def _instrument(metric: AnyMetric) -> str:
    name = _INSTRUMENTS[metric.kind]
    return f"Observable{name}" if metric.observed else name


def _seconds(timeout_millis: Any) -> float:
    """Return how long a reading may take."""
    try:
        seconds = float(timeout_millis) / 1_000
    except (TypeError, ValueError):
        seconds = PATIENCE
    try:
        asyncio.get_running_loop()
        limit = _ON_A_LOOP
    except RuntimeError:
        limit = PATIENCE
    return limit if math.isnan(seconds) else min(max(seconds, 0.0), limit)
