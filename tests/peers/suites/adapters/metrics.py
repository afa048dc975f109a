"""OpenTelemetry's metric tests against our ``MeterProvider``.

Their readers stay, and ask us: each has a feed of its own, whose series become OpenTelemetry's data points on
the way they take to exporters of other packages.
"""

import asyncio
import contextlib
import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import opentelemetry.sdk.metrics as sdk
import opentelemetry.sdk.metrics.view as sdk_view
import pytest
from adapters import exponential, recording
from opentelemetry import metrics as api
from opentelemetry.sdk.environment_variables import OTEL_METRICS_EXEMPLAR_FILTER
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, AlwaysOnExemplarFilter
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otpylib_telemetry.aggregation import observers
from otpylib_telemetry.aggregation.exporter_stores import DEFAULT_MAX_SERIES, store_of
from otpylib_telemetry.aggregation.temporality import Preference
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.meters import provider as ours
from otpylib_telemetry.meters import views
from otpylib_telemetry.meters.attributes import attribute_value
from otpylib_telemetry.meters.meter import Meter
from otpylib_telemetry.meters.streams import Feed
from otpylib_telemetry.metrics.names import OPENTELEMETRY
from otpylib_telemetry.metrics.reading import SeriesReader
from otpylib_telemetry_otel.sdk.metrics import MetricConverter

_AGGREGATIONS = (
    "DefaultAggregation",
    "DropAggregation",
    "ExplicitBucketHistogramAggregation",
    "ExponentialBucketHistogramAggregation",
    "LastValueAggregation",
    "SumAggregation",
)

_KINDS = (
    *(api.Counter, api.UpDownCounter, api.Histogram, api._Gauge),
    *(api.ObservableCounter, api.ObservableUpDownCounter, api.ObservableGauge),
)

CUMULATIVE, DELTA = AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA

_numbers = itertools.count()


class View(views.View):
    """Our view, asked as the SDK asks its own."""

    @property
    def _aggregation_cardinality_limit(self):
        recording.take_part()
        return self.aggregation_cardinality_limit

    def _match(self, instrument):
        recording.take_part()
        scope = instrument.instrumentation_scope
        of = SimpleNamespace(
            name=_text(instrument.name),
            unit=_text(instrument.unit),
            scope=SimpleNamespace(name=scope.name, version=scope.version, schema_url=scope.schema_url),
        )
        kinds = [kind for kind in _KINDS if isinstance(instrument, kind)]
        return self.matches(of, kinds[0] if kinds else type(instrument))


class MeterProvider(ours.MeterProvider):
    """Our provider, made with the SDK's arguments."""

    def __init__(
        self, metric_readers=(), resource=None, exemplar_filter=None, shutdown_on_exit=True, views=()
    ):
        recording.take_part()
        with _exemplars_as(exemplar_filter):
            super().__init__((), _as_views(views, metric_readers))
        self._resource = resource if resource is not None else Resource.create({})
        self._metric_readers = []
        for reader in metric_readers:
            self.add_metric_reader(reader)

    def add_metric_reader(self, reader):
        feed = Feed(f"peer_{next(_numbers)}", OPENTELEMETRY)
        self.add_feed(feed)
        self._metric_readers.append(reader)
        reader._set_collect_callback(_Collect(feed.exporter, self._resource))

    def force_flush(self, timeout_millis=10_000):
        flushed = super().force_flush(timeout_millis)
        for reader in self._metric_readers:
            flushed = reader.force_flush(timeout_millis) and flushed
        return flushed

    def shutdown(self, timeout_millis=30_000):
        readers, self._metric_readers = self._metric_readers, []
        for reader in readers:
            reader.shutdown(timeout_millis=timeout_millis)
        super().shutdown(timeout_millis)


@contextlib.contextmanager
def _exemplars_as(wanted):
    """What a filter says is a matter of OpenTelemetry's environment variable with us."""
    said = {AlwaysOnExemplarFilter: "always_on", AlwaysOffExemplarFilter: "always_off"}.get(type(wanted))
    with pytest.MonkeyPatch.context() as patched:
        if said is not None:
            patched.setenv(OTEL_METRICS_EXEMPLAR_FILTER, said)
        yield


def _as_views(given, readers):
    """The views there are, and those for what the SDK's readers say of limits and aggregations."""
    limits, aggregations = {}, {}
    for reader in readers:
        for kind, limit in reader._instrument_class_cardinality_limit.items():
            if limit != DEFAULT_MAX_SERIES:
                limits[_api_class(kind)] = limit
        for kind, aggregation in reader._instrument_class_aggregation.items():
            if (
                isinstance(aggregation, views.Aggregation)
                and type(aggregation) is not views.DefaultAggregation
            ):
                aggregations[_api_class(kind)] = aggregation
    if given:
        only = next(iter(limits.values())) if len(limits) == 1 else None
        return [
            dataclasses.replace(
                view, aggregation_cardinality_limit=view.aggregation_cardinality_limit or only
            )
            for view in given
        ]
    return [
        View(
            instrument_type=kind,
            aggregation=aggregations.get(kind),
            aggregation_cardinality_limit=limits.get(kind),
        )
        for kind in {**limits, **aggregations}
    ]


def _api_class(kind):
    return next(each for each in _KINDS if issubclass(kind, each))


def _text(value):
    return value if isinstance(value, str) else str(value)


class _Collect:
    """What a reader calls for all data points there are."""

    def __init__(self, exporter, resource):
        self._exporter = exporter
        self._reader = SeriesReader(registry.memory_of(exporter), store_of(exporter))
        self._converter = MetricConverter(resource)

    def __call__(self, reader, timeout_millis=10_000):
        for begun in observers.begin(self._exporter):
            begun.result(timeout_millis / 1000)
        points = []

        def enter(read):
            points.extend(read())
            return True

        # The reader may be asked on the thread of a loop.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, self._reader.read(_preference(reader), enter)).result()
        return self._converter.convert(points) if points else None


def _preference(reader):
    wanted = {_api_class(kind): each for kind, each in reader._instrument_class_temporality.items()}
    if {wanted[api.Counter], wanted[api.Histogram], wanted[api.ObservableCounter]} == {CUMULATIVE}:
        return Preference.CUMULATIVE
    return Preference.DELTA if wanted[api.ObservableCounter] is DELTA else Preference.LOWMEMORY


def _scope(scope):
    attributes = {key: attribute_value(value) for key, value in scope.attributes}
    return InstrumentationScope(scope.name, scope.version, scope.schema_url, attributes)


def _substitute():
    exponential.substitute()
    sdk.MeterProvider = MeterProvider
    sdk_view.View = View
    for name in _AGGREGATIONS:
        setattr(sdk_view, name, getattr(views, name))
    # What their tests read of a meter, under the SDK's name.
    Meter._instrumentation_scope = property(lambda self: _scope(self._scope))


_substitute()


@pytest.fixture(autouse=True)
def _stores_end_with_the_test():
    yield
    for name in registry.names():
        registry.forget(name)
