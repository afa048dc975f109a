"""Metric readers of OpenTelemetry given by a program: each reads for itself, and harms nobody."""

import asyncio
import threading

import pytest
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import Counter, Histogram, ObservableCounter, UpDownCounter
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ConsoleMetricExporter,
    InMemoryMetricReader,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from otpylib_telemetry import execute, otp
from otpylib_telemetry.config.resolve import resolve
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.meters.provider import MeterProvider
from otpylib_telemetry.meters.streams import Feed
from otpylib_telemetry.metrics.names import OPENTELEMETRY
from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver
from otpylib_telemetry_otel import CallbackProducer, Measured, OtelSettings, child_spec, start_otel_exporter
from otpylib_telemetry_otel.exporter import OtelExporter
from otpylib_telemetry_otel.service import TelemetryService
from tests.otel.test_given_objects import QUICK, MetricsInMemory, put
from tests.otel.test_metrics_signal import NAME, flush
from tests.support.chassis import crash
from tests.support.ledger import quiet_stats, stats_of
from tests.support.otlp_metrics import points_at
from tests.support.waiting import eventually

DELTA = AggregationTemporality.DELTA
CUMULATIVE = AggregationTemporality.CUMULATIVE
NEVER = {"export_interval_millis": 3_600_000}


class Failing(MetricReader):
    """Raises whatever is asked of it."""

    def _receive_metrics(self, metrics_data, timeout_millis=10_000, **kwargs):
        raise RuntimeError("no disk")

    def shutdown(self, timeout_millis=30_000, **kwargs):
        pass


class Hanging(Failing):
    """Hangs when it is given metrics, until it is released."""

    def __init__(self):
        super().__init__()
        self.released = threading.Event()
        self.received = 0

    def _receive_metrics(self, metrics_data, timeout_millis=10_000, **kwargs):
        self.received += 1
        self.released.wait(60)


class Duck:
    """Has the methods of a reader and no class of OpenTelemetry."""

    def __init__(self):
        self.told = []
        self._callback = None

    def _set_collect_callback(self, callback):
        self._callback = callback

    def collect(self, timeout_millis=None):
        self.told.append(self._callback(self, timeout_millis=timeout_millis))


@pytest.fixture
def pulled():
    return InMemoryMetricReader()


async def start(*readers, **settings):
    await start_otel_exporter({**QUICK, "metric_readers": list(readers), **settings})
    await quiet_stats(NAME)


def data_in(data):
    """By name of a metric the data of it."""
    return {
        metric.name: metric.data
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def values_of(reader):
    """By name of a metric the values or counts of its points, now."""
    return {
        name: [getattr(point, "value", None) or getattr(point, "count", 0) for point in data.data_points]
        for name, data in data_in(reader.get_metrics_data()).items()
    }


def sold(count=1, **metadata):
    execute("shop.sold", {"count": count}, metadata)


@pytest.mark.parametrize(
    "value",
    ["console", 7, True, {"a": 1}, object(), InMemoryMetricReader, ALWAYS_ON, ConsoleMetricExporter(), [3],
     [InMemoryMetricReader(), ALWAYS_ON]],
)  # fmt: skip
def test_what_is_no_reader_is_refused_with_one_message(value):
    with pytest.raises(ValueError, match=r"telemetry\.otel\.metric_readers.*expected a list of") as refused:
        child_spec({"metric_readers": value})
    assert len(str(refused.value).splitlines()) == 2


def test_files_and_the_environment_cannot_give_any():
    for layers in ({"config": {"metric_readers": ["a"]}}, {"environ": {"TELEMETRY_METRIC_READERS": "a"}}):
        (problem,) = resolve(OtelSettings, "otel", **{"environ": {}, **layers}).problems
        assert "which only a program can give" in problem.message


def test_metrics_are_made_for_a_reader_without_an_endpoint(pulled):
    settings = OtelSettings(metric_readers=pulled)
    assert [name for name in ("traces", "logs", "metrics") if settings.sends(name)] == ["metrics"]
    assert not OtelSettings(metric_readers=pulled, metrics=False).sends("metrics")


async def test_a_reader_reads_on_the_loop_on_any_thread_and_after_the_end(runtime, pulled):
    await start(pulled)
    for number, read in enumerate((values_of, lambda reader: asyncio.to_thread(values_of, reader)) * 2, 1):
        sold(2)
        found = read(pulled)
        if asyncio.iscoroutine(found):
            found = await found
        # What is on its way is collected first, and the loop never waits for itself.
        assert found == {"shop.sold.total": [2 * number]}
    sold(2)
    assert (await otp.safe_call(NAME, ("drain", 5.0)))["left"] == 0
    assert values_of(pulled) == {"shop.sold.total": [10]}


async def test_several_readers_and_the_exporter_each_have_their_own_temporality(runtime, pulled):
    deltas = InMemoryMetricReader(preferred_temporality=dict.fromkeys((Counter, Histogram), DELTA))
    periodic = PeriodicExportingMetricReader(exported := MetricsInMemory(), export_interval_millis=20)
    duck = Duck()
    with GrpcReceiver() as receiver:
        settings = {"endpoint": receiver.endpoint, "metrics_temporality": "delta", "metrics_interval": 3600}
        await start(deltas, periodic, pulled, duck, **settings)
        for number in (1, 2, 3):
            for duration in (number, 10 * number):
                execute("shop.paid", {"count": 1, "duration_ms": 1000 * duration})
            found = data_in(deltas.get_metrics_data())
            assert found["shop.paid.total"].data_points[0].value == 2
            (point,) = found["shop.paid.duration"].data_points
            assert (point.count, point.sum, point.min, point.max) == (2, 11 * number, number, 10 * number)
            assert {each.aggregation_temporality for each in found.values()} == {DELTA}
            found = data_in(pulled.get_metrics_data())
            (point,) = found["shop.paid.duration"].data_points
            assert (point.count, point.min, point.max) == (2 * number, 1, 10 * number)
            assert {each.aggregation_temporality for each in found.values()} == {CUMULATIVE}
        assert values_of(deltas) == {}
        await flush()
        sent = [one for one in points_at(receiver) if one.name == "shop.paid.duration"]
        assert [(one.point.count, one.point.min, one.point.max) for one in sent] == [(6, 1, 30)]
        assert data_in(duck.told[-1])["shop.paid.total"].data_points[0].value == 6
    await eventually(lambda: {"shop.paid.total", "shop.paid.duration"} <= {*exported.names})
    resource = pulled.get_metrics_data().resource_metrics[0].resource
    assert resource.attributes["service.name"] == "otpylib"
    periodic.shutdown()


async def test_up_down_counters_and_observed_ones_are_told_as_deltas_where_that_is_preferred(runtime):
    every = dict.fromkeys((UpDownCounter, ObservableCounter), DELTA)
    deltas = InMemoryMetricReader(preferred_temporality=every)
    await start(deltas)
    provider = MeterProvider([Feed(NAME, OPENTELEMETRY)])
    meter = provider.get_meter("shop")
    total = iter((3, 5, 5))
    meter.create_observable_counter("seen", [lambda _: [Observation(next(total))]])
    changes = meter.create_up_down_counter("open")
    counter = meter.create_counter("sold")
    told = []
    for change in (4, -3, 0):
        changes.add(change)
        counter.add(1)
        told.append(values_of(deltas))
    assert told == [
        {"open": [4], "seen": [3], "sold": [1]},
        {"open": [-3], "seen": [2], "sold": [2]},
        {"sold": [3]},
    ]


async def test_a_reader_that_pushes_reads_for_the_last_time_when_the_exporter_ends(runtime):
    periodic = PeriodicExportingMetricReader(exported := MetricsInMemory(), **NEVER)
    await start(periodic)
    sold()
    assert (await otp.safe_call(NAME, ("drain", 5.0)))["left"] == 0
    # Its maker shuts it down.
    assert exported.names == ["shop.sold.total"]
    periodic.shutdown()


def test_an_application_without_otpylib_gives_them_too(pulled):
    periodic = PeriodicExportingMetricReader(exported := MetricsInMemory(), **NEVER)
    telemetry = TelemetryService("shop", metric_readers=[periodic, pulled], **QUICK)
    telemetry.initialize_metrics().create_counter("sold").add(2)
    assert values_of(pulled)["sold"] == [2]
    telemetry.shutdown()
    assert "sold" in exported.names
    assert pulled.get_metrics_data().resource_metrics[0].resource.attributes["service.name"] == "shop"
    periodic.shutdown()


async def test_readers_outlive_crashes_and_changes(runtime, pulled):
    deltas = InMemoryMetricReader(preferred_temporality={Counter: DELTA})
    await start(deltas)
    sold(1)
    assert values_of(deltas) == {"shop.sold.total": [1]}
    await crash(NAME)
    sold(2)
    await start(deltas)
    assert values_of(deltas) == {"shop.sold.total": [2]}
    sold(4)
    await put(metric_readers=[pulled])
    await eventually(lambda: values_of(pulled) == {"shop.sold.total": [7]})
    # The one that was taken away has read once more, and asks here no more.
    (point,) = data_in(deltas.get_metrics_data())["shop.sold.total"].data_points
    assert point.value == 4
    assert deltas.get_metrics_data() is None
    await put(metric_readers=[deltas, pulled])
    await eventually(lambda: data_in(deltas.get_metrics_data()))
    config = (await otp.safe_call(NAME, ("get_config",)))["config"]
    assert config["metric_readers"] == ["InMemoryMetricReader", "InMemoryMetricReader"]


async def test_metrics_may_be_switched_off_and_on(runtime, pulled):
    await start(pulled)
    sold(1)
    await put(metrics=False, traces=False, logs=True)
    await eventually(lambda: (registry.status_of(NAME)[0]) == "idle")
    sold(2)
    await put(metrics=True)
    await eventually(lambda: (registry.status_of(NAME)[0]) == "running")
    sold(4)
    await eventually(lambda: values_of(pulled) == {"shop.sold.total": [5]})


async def test_a_reader_that_fails_or_hangs_harms_nothing(runtime, pulled, caplog):
    async def all_have_failed():
        told = {one["reader"]: one["failures"] for one in (await stats_of(NAME))["metrics"]["readers"]}
        if told["Failing"] >= 3 and told["Hanging"] >= 3:
            return told["InMemoryMetricReader"] == 0
        await flush(1.0)
        return False

    hanging = Hanging()
    await start(Failing(), hanging, pulled)
    try:
        for _ in range(3):
            sold()
            assert (await flush(1.0))["left"] == 0
        assert values_of(pulled) == {"shop.sold.total": [3]}
        assert hanging.received == 1
        (said,) = [one.getMessage() for one in caplog.records if "Failing" in one.getMessage()]
        assert said == (
            "otel_exporter: the metric reader Failing cannot be flushed (RuntimeError: no disk). "
            "Further cases are not logged."
        )
        assert sum("Hanging takes too long to flush" in one.getMessage() for one in caplog.records) == 1
        # On a busy machine a flush may have no time left for one of them.
        await eventually(all_have_failed)
        assert (await otp.safe_call(NAME, ("drain", 1.0)))["left"] == 0
    finally:
        hanging.released.set()


async def test_a_loop_that_is_blocked_does_not_hold_up_a_reader(runtime, pulled):
    await start(pulled)
    sold()
    assert values_of(pulled) == {"shop.sold.total": [1]}
    found, done = [], threading.Event()

    def read():
        pulled.collect(timeout_millis=50)
        found.append(values_of(pulled))
        done.set()

    threading.Thread(target=read, daemon=True).start()
    # The loop is not free until the reader has read.
    assert done.wait(30)
    assert found == [{"shop.sold.total": [1]}]


@pytest.mark.parametrize("millis", [0, -1, None, float("inf"), float("nan"), "soon"])
async def test_any_timeout_is_taken(runtime, millis):
    duck = Duck()
    await start(duck)
    sold()
    await flush()
    await asyncio.to_thread(duck.collect, millis)
    assert data_in(duck.told[-1])["shop.sold.total"].data_points[0].value == 1


async def test_producers_are_asked_for_readers_too(runtime, pulled):
    deltas = InMemoryMetricReader(preferred_temporality={Counter: DELTA})
    producer = CallbackProducer(lambda: [Measured("brought", 3, kind="counter")])
    await start(pulled, deltas, metric_producers=[producer])
    for expected in ({"brought": [3]}, {}):
        assert (await asyncio.to_thread(values_of, pulled)) == {"brought": [3]}
        assert (await asyncio.to_thread(values_of, deltas)) == expected


async def test_a_reader_belongs_to_one_source(runtime, pulled, caplog):
    taken = InMemoryMetricReader()
    provider = SdkMeterProvider(metric_readers=[taken], shutdown_on_exit=False)
    await start(pulled, taken)
    sold()
    other = "second_exporter"
    own = InMemoryMetricReader()
    await otp.start_server(OtelExporter, {**QUICK, "metric_readers": [pulled, own]}, other, link=False)
    await quiet_stats(other)
    said = [one.getMessage() for one in caplog.records if "leaves out" in one.getMessage()]
    assert said == [
        f"{who} leaves out the metric reader InMemoryMetricReader: it belongs to {owner} already, and a "
        "reader can have one source only. Give each exporter a reader of its own."
        for who, owner in ((NAME, "a MeterProvider"), (other, NAME))
    ]
    assert values_of(pulled) == {"shop.sold.total": [1]}
    assert taken.get_metrics_data() is None
    refused = {"reader": "InMemoryMetricReader", "refused": f"it belongs to {NAME}"}
    assert refused in (await stats_of(other))["metrics"]["readers"]
    provider.shutdown()


async def test_a_reader_drops_what_it_prefers_to_drop_and_says_what_it_cannot_have(runtime, caplog):
    dropping = InMemoryMetricReader(preferred_aggregation={Histogram: DropAggregation()})
    exponential = InMemoryMetricReader(
        preferred_aggregation={Histogram: ExponentialBucketHistogramAggregation()}
    )
    explicit = InMemoryMetricReader(preferred_aggregation={Histogram: ExplicitBucketHistogramAggregation()})
    await start(dropping, exponential, explicit)
    for _ in range(2):
        execute("shop.paid", {"count": 1, "duration_ms": 1})
        assert [*values_of(dropping)] == ["shop.paid.total"]
        assert (
            [*values_of(exponential)] == [*values_of(explicit)] == ["shop.paid.duration", "shop.paid.total"]
        )
    (said,) = [one.getMessage() for one in caplog.records if "prefers" in one.getMessage()]
    assert said == (
        "otel_exporter: the metric reader InMemoryMetricReader prefers ExponentialBucketHistogramAggregation "
        "and gets histograms: what becomes of measurements is up to the exporter's settings and to views. "
        "Further cases are not logged."
    )


async def test_series_expire_where_only_readers_read(runtime, pulled):
    await start(pulled, series_ttl=1)
    sold()
    assert values_of(pulled) == {"shop.sold.total": [1]}
    await eventually(lambda: values_of(pulled) == {})
