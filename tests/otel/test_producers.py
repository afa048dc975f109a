"""Metrics that somebody else keeps: what becomes of them, and of producers that fail."""

import logging
import threading
import time

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary
from prometheus_client.core import SummaryMetricFamily

from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver
from otpylib_telemetry_otel import (
    CallbackProducer,
    Measured,
    MetricProducer,
    PrometheusRegistryProducer,
    add_metric_producer,
    remove_metric_producer,
)
from otpylib_telemetry_otel.metrics.conversion import of_values, points_of
from otpylib_telemetry_otel.metrics.producer_deltas import Deltas
from otpylib_telemetry_otel.sdk.metrics import MetricEncoder
from tests.otel.test_metrics_signal import NAME, flush, sold, start, values
from tests.support.ledger import quiet_stats, stats_of
from tests.support.otlp_metrics import CUMULATIVE, DELTA, points_at, points_in
from tests.support.versions import needs_new_sdk
from tests.support.waiting import eventually

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def told_by(producer):
    encoded = MetricEncoder(Resource.create({"service.name": "shop"})).encode(
        list(points_of(producer.produce(1000)))
    )
    assert encoded.refused == 0, encoded.reason
    return points_in(ExportMetricsServiceRequest.FromString(encoded.body))


def points_in_data(data):
    return {point.stream.metric.name for point in points_of(data)}


class TestRegistry:
    @pytest.fixture
    def registry(self):
        return CollectorRegistry()

    def test_a_counter_is_a_monotonic_sum_from_its_creation(self, registry):
        counter = Counter("sold", "Sold.", ["shop"], registry=registry)
        counter.labels("a").inc(2.0, {"trace_id": TRACE, "span_id": SPAN, "user": "u"})
        before = time.time_ns()
        (point,) = told_by(PrometheusRegistryProducer(registry))
        assert (point.name, point.form, point.value) == ("sold_total", "sum", 2.0)
        assert (point.temporality, point.attributes) == (CUMULATIVE, {"shop": "a"})
        assert abs(point.point.start_time_unix_nano - before) < 60 * 10**9
        (exemplar,) = point.point.exemplars
        assert (exemplar.trace_id.hex(), exemplar.span_id.hex(), exemplar.as_double) == (TRACE, SPAN, 2.0)
        assert [pair.key for pair in exemplar.filtered_attributes] == ["user"]

    def test_a_histogram_has_its_own_buckets_apart(self, registry):
        histogram = Histogram("took", "Took.", buckets=(1, 5), unit="seconds", registry=registry)
        for value in (0.5, 1, 3, 9):
            histogram.observe(value)
        (point,) = told_by(PrometheusRegistryProducer(registry))
        assert (point.name, point.unit, point.value) == ("took_seconds", "s", (4, 13.5))
        assert (list(point.point.bucket_counts), list(point.point.explicit_bounds)) == ([2, 1, 1], [1, 5])
        assert point.point.start_time_unix_nano > 0

    def test_gauges_information_and_states(self, registry):
        Gauge("level", "Level.", registry=registry).set(3)
        Info("build", "Build.", registry=registry).info({"version": "1"})
        Enum("mode", "Mode.", states=["on", "off"], registry=registry).state("off")
        points = told_by(PrometheusRegistryProducer(registry))
        assert [(point.name, point.form, point.value) for point in points] == [
            ("level", "gauge", 3),
            ("build_info", "sum", 1),
            ("mode", "sum", 0),
            ("mode", "sum", 1),
        ]
        assert points[1].attributes == {"version": "1"}

    def test_a_summary_is_count_and_sum(self, registry):
        Summary("took", "Took.", registry=registry).observe(3)
        (point,) = told_by(PrometheusRegistryProducer(registry))
        assert (point.form, point.value, list(point.point.bucket_counts)) == ("histogram", (1, 3.0), [])

    def test_quantiles_of_a_collector_of_ones_own_are_gauges(self):
        class Own:
            def collect(self):
                family = SummaryMetricFamily("took", "Took.", count_value=4, sum_value=2.0)
                family.add_sample("took", {"quantile": "0.5"}, 0.4)
                return [family]

        whole, half = told_by(PrometheusRegistryProducer(Own()))
        assert (whole.name, whole.value) == ("took", (4, 2.0))
        assert (half.name, half.value, half.attributes) == ("took_quantile", 0.4, {"quantile": "0.5"})
        assert whole.point.start_time_unix_nano == 0, "where no beginning is told it is unknown"

    def test_a_collector_that_fails_or_hangs_costs_itself_alone(self, registry, caplog):
        let = threading.Event()

        class Bad:
            def collect(self):
                raise SystemExit("no")

        class Hanging:
            def collect(self):
                let.wait(10)
                return []

        registry._collector_to_names[Bad()] = ["bad"]
        Gauge("before", "Before.", registry=registry).set(1)
        registry._collector_to_names[Hanging()] = ["hanging"]
        Gauge("after", "After.", registry=registry).set(2)
        producer = PrometheusRegistryProducer(registry)
        for _ in range(2):
            told = points_in_data(producer.produce(400))
            assert told == {"before", "after"}
        let.set()
        assert producer.left_out == 4
        assert caplog.text.count("Bad") == caplog.text.count("Hanging (hanging)") == 1

    def test_what_describes_the_target_comes_along(self):
        registry = CollectorRegistry(target_info={"env": "prod"})
        (point,) = told_by(PrometheusRegistryProducer(registry))
        assert (point.name, point.value, point.attributes) == ("target_info", 1, {"env": "prod"})


class TestDeltas:
    def test_totals_become_differences_and_what_is_none_stays(self):
        totals = iter([(5, 1.0), (7, 4.0), (7, 2.0), (3, 2.0)])

        def measure():
            count, level = next(totals)
            return [Measured("done", count, {"q": "a"}, kind="counter"), Measured("depth", level)]

        producer, deltas = CallbackProducer(measure), Deltas()
        rounds = [
            [
                (p.stream.metric.name, p.point.value, p.point.start_time_unix_nano, p.point.time_unix_nano)
                for p in deltas.convert(list(points_of(producer.produce(1000))), turn)
            ]
            for turn in range(4)
        ]
        assert [[(name, value) for name, value, _, _ in told] for told in rounds] == [
            [("done", 5), ("depth", 1.0)],
            [("done", 2), ("depth", 4.0)],
            [("depth", 2.0)],
            [("done", 3), ("depth", 2.0)],
        ], "the first as it is, then what was added; a fall is a new beginning"
        assert rounds[1][0][2] == rounds[0][0][3]
        assert rounds[3][0][2] >= rounds[1][0][3]

    def test_histograms_are_told_by_what_was_added_to_each_bucket(self):
        registry, deltas = CollectorRegistry(), Deltas()
        took = Histogram("took", "Took.", buckets=(1, 5), registry=registry)
        producer = PrometheusRegistryProducer(registry)

        def told():
            points = deltas.convert(list(points_of(producer.produce(1000))), 0)
            return [(list(p.point.bucket_counts), p.point.count, p.point.sum) for p in points]

        took.observe(0.5)
        assert told() == [([1, 0, 0], 1, 0.5)]
        took.observe(3)
        took.observe(9)
        assert told() == [([0, 1, 1], 2, 12.0)]
        assert told() == []

    def test_a_stream_that_began_later_is_told_whole(self):
        deltas = Deltas()

        def told(start_ns, value, at_ns):
            values = of_values("s", [(Measured("done", value, kind="counter"), start_ns)], at_ns)
            return [p.point for p in deltas.convert(list(points_of(values)), at_ns)]

        assert [p.value for p in told(10, 5, 20)] == [5]
        (again,) = told(25, 8, 30)
        assert (again.value, again.start_time_unix_nano) == (8, 25)

    def test_streams_are_forgotten_a_day_after_they_were_told_of_last(self, monkeypatch):
        monkeypatch.setattr("otpylib_telemetry_otel.metrics.producer_deltas._MANY", 0)
        deltas = Deltas()
        deltas._forget_at = 0
        day = 24 * 3600 * 10**9
        for now, name in ((0, "old"), (day - 1, "new"), (day, "newest")):
            values = of_values("s", [(Measured(name, 1, kind="counter"), 1)], 2)
            deltas._forget_at = 0
            deltas.convert(list(points_of(values)), now)
        assert len(deltas) == 2


class TestCallbacks:
    def test_values_become_points(self):
        producer = CallbackProducer(
            lambda: [
                Measured("depth", 3, {"queue": "a"}, "1", "How deep."),
                Measured("depth", 4.5, {"queue": "b"}, "1", "How deep."),
                Measured("done", 7, kind="counter"),
                Measured("open", 2, kind="up_down_counter"),
            ],
            scope="shop.queues",
        )
        points = told_by(producer)
        assert [(p.name, p.form, p.value, p.scope[0]) for p in points] == [
            ("depth", "gauge", 3, "shop.queues"),
            ("depth", "gauge", 4.5, "shop.queues"),
            ("done", "sum", 7, "shop.queues"),
            ("open", "sum", 2, "shop.queues"),
        ]

    def test_a_counter_that_falls_has_begun_anew(self):
        values = iter([5, 6, 2, 3])
        producer = CallbackProducer(lambda: [Measured("done", next(values), kind="counter")])
        points = [told_by(producer)[0].point for _ in range(4)]
        starts = [point.start_time_unix_nano for point in points]
        assert starts[0] == starts[1] < starts[2] == starts[3]
        assert starts[2] == points[1].time_unix_nano

    def test_a_resource_of_its_own_is_kept_and_none_is_ours(self):
        inner = CallbackProducer(lambda: [Measured("depth", 3)])

        class Elsewhere:
            def produce(self, timeout_millis):
                (group,) = inner.produce(timeout_millis).resource_metrics
                return MetricsData(
                    [ResourceMetrics(Resource({"service.name": "other"}), group.scope_metrics, "")]
                )

        assert told_by(inner)[0].resource["service.name"] == "shop"
        assert told_by(Elsewhere())[0].resource == {"service.name": "other"}


@pytest.fixture
def added():
    there = []

    def add(producer):
        add_metric_producer(producer, NAME)
        there.append(producer)
        return producer

    yield add
    for producer in there:
        remove_metric_producer(producer, NAME)


class Moody:
    """A producer that does as it is told."""

    def __init__(self):
        self.inner = CallbackProducer(lambda: [Measured("mood", 1)])
        self.act = lambda: None

    def produce(self, timeout_millis):
        self.limit = timeout_millis
        self.act()
        return self.inner.produce(timeout_millis)


class TestExporter:
    @pytest.fixture
    def receiver(self):
        with GrpcReceiver() as there:
            yield there

    @needs_new_sdk
    async def test_its_metrics_are_exported_beside_ours(self, runtime, receiver, added):
        registry = CollectorRegistry()
        Counter("theirs", "Theirs.", registry=registry).inc(5)
        added(PrometheusRegistryProducer(registry))
        await start(receiver)
        sold(2)
        assert (await flush())["left"] == 0
        assert (values(receiver), values(receiver, "theirs_total")) == ([2], [5.0])
        points = points_at(receiver)
        assert len({point.resource["service.instance.id"] for point in points}) == 1
        stats = await stats_of(NAME)
        (told,) = stats["metrics"]["producers"]
        assert told == {"producer": "PrometheusRegistryProducer", "readings": 1, "failures": 0, "points": 1}

    async def test_where_deltas_are_wanted_its_totals_are_told_as_such(self, runtime, receiver, added):
        registry = CollectorRegistry()
        counter = Counter("theirs", "Theirs.", registry=registry)
        counter.inc(5)
        added(PrometheusRegistryProducer(registry))
        await start(receiver, metrics_temporality="delta")
        await flush()
        counter.inc(2)
        await flush()
        points = [point for point in points_at(receiver) if point.name == "theirs_total"]
        assert [(point.value, point.temporality) for point in points] == [(5, DELTA), (2, DELTA)]

    async def test_one_that_fails_is_told_of_once_and_costs_nobody_else_anything(
        self, runtime, receiver, added, caplog
    ):
        caplog.set_level(logging.INFO)
        bad = added(Moody())
        added(CallbackProducer(lambda: [Measured("well", 1)]))
        await start(receiver)

        def fail():
            raise SystemExit("no mood today")

        bad.act = fail
        for _ in range(3):
            await flush()
        assert len(values(receiver, "well")) == 3
        assert values(receiver, "mood") == []
        assert caplog.text.count("gets no metrics from the producer Moody") == 1
        bad.act = lambda: None
        await flush()
        assert values(receiver, "mood") == [1]
        assert caplog.text.count("from the producer Moody again after 3 failures") == 1

    async def test_one_that_is_late_is_not_waited_for_and_what_it_brings_is_not_used(
        self, runtime, receiver, added, monkeypatch
    ):
        monkeypatch.setattr("otpylib_telemetry_otel.signals.metrics._PRODUCING", 0.1)
        slow, let = added(Moody()), threading.Event()
        slow.act = let.wait
        others = set(threading.enumerate())
        await start(receiver)
        sold()
        await flush()
        await flush()
        assert len(values(receiver)) == 2
        (told,) = (await stats_of(NAME))["metrics"]["producers"]
        assert (told["failures"], told["points"]) == (2, 0), "asked once, and found busy the second time"
        assert slow.limit == 100
        let.set()
        slow.act = lambda: None
        await eventually(
            lambda: (
                not any(
                    each.name.startswith("otpylib-telemetry") for each in set(threading.enumerate()) - others
                )
            )
        )
        assert values(receiver, "mood") == []
        await flush()
        assert values(receiver, "mood") == [1]

    async def test_one_that_is_removed_is_asked_no_more(self, runtime, receiver, added):
        producer = added(Moody())
        add_metric_producer(producer, NAME)
        await start(receiver)
        await flush()
        assert remove_metric_producer(producer, NAME)
        assert not remove_metric_producer(producer, NAME)
        await flush()
        assert values(receiver, "mood") == [1]

    async def test_what_is_no_metrics_is_a_failure_like_any_other(self, runtime, receiver, added):
        class Odd:
            def produce(self, timeout_millis):
                return [timeout_millis]

        added(Odd())
        await start(receiver)
        sold()
        await flush()
        assert values(receiver) == [1]
        assert (await quiet_stats(NAME))["metrics"]["producers"][0]["failures"] == 1


def test_what_cannot_produce_is_refused_where_it_is_added():
    with pytest.raises(TypeError, match=r"an object with produce\(timeout_millis\), not int"):
        add_metric_producer(5)
    assert isinstance(CallbackProducer(list), MetricProducer)
