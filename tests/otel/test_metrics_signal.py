"""Metrics through the exporter, over real sockets: what arrives, when, and what the books say."""

import asyncio
import io
import logging
import threading

import pytest
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, InMemoryMetricReader
from otpylib import gen_server

from otpylib_telemetry import execute, otp, span
from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.meters.provider import MeterProvider
from otpylib_telemetry.meters.streams import Feed
from otpylib_telemetry.metrics.names import OPENTELEMETRY
from otpylib_telemetry_mock.otlp_receiver import (
    GrpcReceiver,
    GrpcStatus,
    HttpReceiver,
    HttpStatus,
    Ok,
    PartialSuccess,
)
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.destinations import build, why_none
from otpylib_telemetry_otel.errors import BackendUnavailableError
from otpylib_telemetry_otel.presets import DatadogSettings
from otpylib_telemetry_otel.sdk.plugins import load
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_otel.signals.metrics import Metrics
from tests.support import declare
from tests.support.chassis import crash
from tests.support.ledger import quiet_stats, stats_of
from tests.support.otlp_metrics import CUMULATIVE, DELTA, Reference, points_at
from tests.support.waiting import eventually

NAME = "otel_exporter"
#: Nothing but metrics, and none but those asked for.
ALONE = {
    "traces": False,
    "logs": False,
    "flush_interval": 0.02,
    "metrics_interval": 3600,
    "self_metrics": False,
    "shutdown_timeout": 2,
}

A = (("shop", "a"),)
CONSOLE_DEFAULTS = ConsoleMetricExporter.__init__.__defaults__


@pytest.fixture(params=[GrpcReceiver, HttpReceiver])
def receiver(request):
    with request.param() as there:
        yield there


@pytest.fixture
def grpc():
    with GrpcReceiver() as there:
        yield there


async def start(receiver, **settings):
    pid = await start_otel_exporter(
        {"endpoint": receiver.endpoint, "protocol": receiver.protocol, **ALONE, **settings}
    )
    await quiet_stats(NAME)
    return pid


async def flush(seconds=60.0):
    report = await otp.safe_call(NAME, ("flush", seconds), timeout=seconds + 20)
    await stats_of(NAME)
    return report


def sold(count=1, **metadata):
    execute("shop.sold", {"count": count}, {"shop": "a", **metadata})


def values(receiver, name="shop.sold.total"):
    return [point.value for point in points_at(receiver) if point.name == name]


class TestWhatArrives:
    async def test_every_kind_of_automatic_metric(self, runtime, receiver):
        await start(receiver, metrics_buckets=[0.1, 1.0], service_name="shop")
        sold(2)
        execute("shop.stock", {"value": 7}, {"shop": "a"})
        execute("shop.paid", {"duration_ms": 250}, {"shop": "a"})
        with span("shop.order", {"shop": "a"}):
            pass
        assert (await flush())["left"] == 0
        points = {point.name: point for point in points_at(receiver)}
        assert points["shop.sold.total"].value == 2
        assert points["shop.sold.total"].point.attributes
        assert (points["shop.stock"].form, points["shop.stock"].value) == ("gauge", 7)
        paid = points["shop.paid.duration"]
        assert (paid.unit, list(paid.point.bucket_counts), paid.value) == ("s", [0, 1, 0], (1, 0.25))
        assert points["shop.order.duration"].attributes == {"shop": "a", "outcome": "success"}
        assert len(points["shop.order.duration"].point.exemplars) == 1
        assert (points["shop.order.in_flight"].form, points["shop.order.in_flight"].value) == ("sum", 0)
        assert {point.temporality for point in points.values() if point.form != "gauge"} == {CUMULATIVE}
        assert {point.scope[0] for point in points.values()} == {"otpylib_telemetry"}
        assert points["shop.stock"].resource["service.name"] == "shop"

    async def test_defined_metrics_take_the_place_of_automatic_ones(self, runtime, grpc):
        sales = {"type": "counter", "name": "shop.sold.count", "tags": ["shop"]}
        await start(grpc, metrics_definitions=[sales])
        sold(5)
        await flush()
        assert len({point.name for point in points_at(grpc)}) == 1

    async def test_exponential_histograms(self, runtime, grpc):
        await start(grpc, metrics_histogram="exponential")
        execute("shop.paid", {"duration_ms": 250}, {})
        await flush()
        (paid,) = points_at(grpc)
        assert (paid.form, paid.value, paid.point.min, paid.point.max) == (
            "exponential_histogram",
            (1, 0.25),
            0.25,
            0.25,
        )

    async def test_without_exemplars_there_are_none(self, runtime, grpc):
        await start(grpc, metrics_exemplars=False)
        with span("shop.order"):
            pass
        await flush()
        assert not any(point.form == "histogram" and point.point.exemplars for point in points_at(grpc))

    async def test_other_writers_of_the_store_leave_through_the_same_exit(self, runtime, grpc):
        await start(grpc)
        declare.counter(store_of(NAME), "elsewhere", "").at(A).add(3)
        await flush()
        assert values(grpc, "elsewhere") == [3]

    async def test_spans_and_logs_of_the_same_events_are_as_they_were(self, runtime, grpc):
        await start(grpc, traces=True, logs=True)
        with span("shop.order"):
            pass
        sold()
        execute("shop.note", {}, {})
        await flush()
        await quiet_stats(NAME)
        assert {request.signal for request in grpc.taken} == {"traces", "logs", "metrics"}
        stats = await stats_of(NAME)
        points = len(points_at(grpc))
        assert (stats["accepted"], stats["exported"], stats["unused"]) == (4 + points, 4 + points, 0)
        assert (stats["metrics"]["points"], stats["metrics"]["readings"]) == (points, 1)

    async def test_what_became_nothing_at_all_is_unused(self, runtime, grpc):
        await start(grpc)
        sold()
        execute("shop.note", {}, {})
        sold("three")
        await flush()
        stats = await stats_of(NAME)
        assert (stats["unused"], stats["rejected"], stats["rejected_for"]) == (1, 1, {"unusable": 1})

    async def test_the_interval_exports_without_being_asked(self, runtime, grpc):
        await start(grpc, metrics_interval=0.05)
        sold()
        await eventually(lambda: len(values(grpc)) >= 2)
        assert set(values(grpc)) == {1}

    async def test_metrics_go_to_an_endpoint_of_their_own(self, runtime, grpc):
        with HttpReceiver() as other:
            await start(
                grpc,
                traces=True,
                metrics_endpoint=other.endpoint,
                metrics_protocol="http/protobuf",
                metrics_headers={"x-key": "m"},
                metrics_compression="gzip",
            )
            with span("shop.order"):
                pass
            await flush()
            assert {request.signal for request in grpc.requests} == {"traces"}
            assert {request.signal for request in other.requests} == {"metrics"}
            assert {request.headers["x-key"] for request in other.requests} == {"m"}


class TestTrouble:
    @pytest.mark.parametrize("temporality", ["cumulative", "delta"])
    async def test_after_an_outage_every_number_is_there_once(self, runtime, grpc, temporality):
        await start(grpc, metrics_temporality=temporality, metrics_interval=0.02, failure_threshold=1000)
        sold()
        await eventually(lambda: values(grpc))
        grpc.always(GrpcStatus("UNAVAILABLE"))
        for _ in range(20):
            sold()
            execute("shop.paid", {"duration_ms": 5}, {})
            await asyncio.sleep(0.01)
        stats = await stats_of(NAME)
        assert stats["metrics"]["skipped"] > 0
        # However long it lasts, no more wait than one reading had.
        assert registry.find(NAME).produced_held <= 2
        grpc.always(Ok())
        await eventually(
            lambda: sum(values(grpc)) >= 21 if temporality == "delta" else values(grpc)[-1] == 21
        )
        await flush()
        totals = Reference().take(points_at(grpc)).totals
        assert totals["shop.sold.total", A] == 21
        assert totals["shop.paid.duration", ()][0] == 20

    @pytest.mark.parametrize(
        "failure", [GrpcStatus("UNAVAILABLE"), GrpcStatus("UNAVAILABLE", retry_after=0.01)]
    )
    async def test_a_retried_delta_is_counted_once(self, runtime, grpc, failure):
        await start(grpc, metrics_temporality="delta")
        grpc.script(failure, failure)
        sold(3)
        assert (await flush(10))["left"] == 0
        sold(4)
        assert (await flush(10))["left"] == 0
        assert Reference().take(points_at(grpc)).totals["shop.sold.total", A] == 7
        assert store_of(NAME).find("shop.sold.total").at(A).value == 7

    async def test_what_a_partial_success_refuses_is_rejected_by_number(self, runtime, receiver):
        await start(receiver)
        receiver.script(PartialSuccess(2, "too many series"))
        for shop in "abcde":
            execute("shop.sold", {"count": 1}, {"shop": shop})
        await flush()
        stats = await stats_of(NAME)
        assert (stats["metrics"]["points"], stats["rejected_for"]) == (5, {"partial_success": 2})

    @pytest.mark.parametrize(
        ("kind", "answer"),
        [(GrpcReceiver, GrpcStatus("UNIMPLEMENTED")), (HttpReceiver, HttpStatus(404))],
    )
    async def test_a_backend_without_metrics_is_told_of_once_and_asked_no_more(
        self, runtime, caplog, kind, answer
    ):
        with kind() as there:
            there.script(answer)
            await start(there, metrics_interval=0.02, traces=True)
            sold()
            await eventually(lambda: there.requests)
            while "off" not in (await stats_of(NAME)).get("metrics", {}):
                await asyncio.sleep(0.01)
            asked = len(there.requests)
            sold()
            await flush()
            stats = await stats_of(NAME)
            assert len(there.requests) == asked
            assert [each.signal for each in there.requests].count("metrics") == 1
            assert "the backend takes no metrics" in stats["metrics"]["off"]
            assert stats["breaker"] == "closed"
            assert stats["rejected"] == 1
        assert caplog.text.count("takes no metrics") == 1

    async def test_a_request_that_is_too_large_is_split(self, runtime, grpc):
        await start(grpc)
        grpc.script(GrpcStatus("RESOURCE_EXHAUSTED", "received message larger than max"))
        for shop in "abcd":
            execute("shop.sold", {"count": 1}, {"shop": shop})
        assert (await flush())["left"] == 0
        assert sorted(values(grpc)) == [1, 1, 1, 1]
        assert len(grpc.requests) == 3

    async def test_a_delta_that_waits_outlives_a_crash(self, runtime, grpc):
        await start(grpc, metrics_temporality="delta", failure_threshold=1000)
        sold(2)
        await flush()
        grpc.always(GrpcStatus("UNAVAILABLE"))
        sold(3)
        assert (await flush(0.3))["left"] == 1
        await crash(NAME)
        grpc.always(Ok())
        await start(grpc, metrics_temporality="delta")
        sold(5)
        await flush()
        assert Reference().take(points_at(grpc)).totals["shop.sold.total", A] == 10
        await quiet_stats(NAME)


class TestChanges:
    async def test_the_temporality_changes_while_it_runs(self, runtime, grpc):
        await start(grpc)
        for temporality in ("delta", "delta", "cumulative", "lowmemory"):
            sold()
            await flush()
            await gen_server.cast(
                NAME, ("config_changed", "telemetry.otel.metrics_temporality", None, temporality)
            )
            await stats_of(NAME)
        sold()
        await flush()
        points = points_at(grpc)
        told = [(point.temporality, point.value) for point in points]
        assert told == [(CUMULATIVE, 1), (DELTA, 1), (DELTA, 1), (CUMULATIVE, 4), (DELTA, 1)]
        assert Reference().take(points).totals["shop.sold.total", A] == 5

    async def test_other_buckets_cost_nothing_measured_before(self, runtime, grpc):
        await start(grpc, metrics_temporality="delta")
        execute("shop.paid", {"duration_ms": 5}, {})
        await stats_of(NAME)
        for change in ([1.0], [2.0]):
            await gen_server.cast(NAME, ("config_changed", "telemetry.otel.metrics_buckets", None, change))
            await stats_of(NAME)
            execute("shop.paid", {"duration_ms": 5}, {})
        await flush()
        assert sum(count for count, _ in values(grpc, "shop.paid.duration")) == 3

    async def test_an_idle_series_goes_when_all_of_it_was_told(self, runtime, grpc):
        await start(grpc, series_ttl=3, metrics_temporality="delta")
        store = store_of(NAME)
        sold()
        await flush()
        await asyncio.sleep(0.01)
        assert len(store.find("shop.sold.total").series) == 1
        await flush()

        async def gone():
            await flush()
            return store.find("shop.sold.total") is None

        await eventually(gone)
        sold(2)
        await flush()
        assert Reference().take(points_at(grpc)).totals["shop.sold.total", A] == 3


class TestTheEnd:
    async def test_draining_sends_the_last_values(self, runtime, receiver):
        await start(receiver)
        sold(3)
        with span("shop.order"):
            report = await otp.safe_call(NAME, ("drain", 60.0), timeout=60)
        assert (report["left"], values(receiver)) == (0, [3])
        assert values(receiver, "shop.order.in_flight") == [0]

    async def test_switching_off_sends_the_last_values(self, runtime, grpc):
        await start(grpc)
        sold(3)
        await gen_server.cast(NAME, ("config_changed", "telemetry.otel.enabled", True, False))
        await eventually(lambda: values(grpc) == [3])

    async def test_a_dead_backend_does_not_hold_up_the_end(self, runtime, grpc):
        await start(grpc, timeout=600)
        sold(3)
        grpc.stall()
        report = await otp.safe_call(NAME, ("drain", 0.5), timeout=60)
        assert report["left"] == 1


class TestExportersOfOtherPackages:
    async def test_the_console_prints_them(self, runtime, monkeypatch):
        printed = io.StringIO()
        monkeypatch.setattr(ConsoleMetricExporter.__init__, "__defaults__", (printed, *CONSOLE_DEFAULTS[1:]))
        await start_otel_exporter({"exporter": "console", **ALONE})
        await quiet_stats(NAME)
        sold(3)
        assert (await flush())["left"] == 0
        assert '"shop.sold.total"' in printed.getvalue()

    def test_one_that_collects_for_itself_is_refused(self, monkeypatch):
        monkeypatch.setattr("otpylib_telemetry_otel.sdk.plugins.load", lambda *_: InMemoryMetricReader())
        with pytest.raises(BackendUnavailableError, match="MetricReader, which collects for itself"):
            build(OtelSettings(exporter="console"), "metrics", {})

    def test_an_exporter_that_has_none_for_metrics_says_so(self):
        reason = why_none(OtelSettings(exporter="zipkin"), "metrics")
        group = "opentelemetry_metrics_exporter"
        assert (
            reason
            == f"no installed package registers a metric exporter named 'zipkin' (entry points {group})"
        )
        with pytest.raises(BackendUnavailableError, match="metric exporter named 'zipkin'"):
            load(group, "zipkin", "metric exporter", "opentelemetry-exporter-{}")


def test_datadog_gets_deltas():
    settings = DatadogSettings(api_key="k")
    assert (settings.metrics, settings.metrics_temporality) == (True, "delta")
    assert settings.connection("metrics").url == "https://otlp.datadoghq.com/v1/metrics"
    assert settings.connection("metrics").headers == {"dd-api-key": "k"}


class TestTogether:
    async def test_with_lowmemory_what_is_observed_stays_cumulative(self, runtime, grpc):
        await start(grpc, metrics_temporality="lowmemory")
        provider = MeterProvider([Feed(NAME, OPENTELEMETRY)])
        meter = provider.get_meter("tests")
        meter.create_observable_counter("seen", [lambda _options: [Observation(7)]])
        meter.create_counter("counted").add(3)
        await flush()
        provider.shutdown()
        told = {point.name: (point.temporality, point.value) for point in points_at(grpc)}
        assert told == {"seen": (CUMULATIVE, 7), "counted": (DELTA, 3)}

    async def test_definitions_that_clash_at_the_start_cost_the_metrics_and_nothing_else(
        self, runtime, grpc, caplog
    ):
        caplog.set_level(logging.INFO, logger="otpylib_telemetry")
        declare.gauge(store_of(NAME), "shop.sold.count", "Of somebody else.", owner="somebody")
        sales = {"type": "distribution", "name": "shop.sold.count", "buckets": [1.0]}
        await start(grpc, metrics_definitions=[sales], traces=True)
        sold(5)
        with span("shop.order"):
            pass
        assert (await flush())["left"] == 0
        assert [request.signal for request in grpc.taken] == ["traces"]
        stats = await stats_of(NAME)
        assert (stats["state"], stats["rejected"], stats["dropped"]) == ("running", 0, {})
        assert "the definitions do not go with the metrics that are there" in stats["metrics"]["off"]
        assert caplog.text.count(f"{NAME} sends no metrics") == 1


@pytest.fixture
def observed():
    """A function that makes a gauge of a callback; the instruments end with the test."""
    provider = MeterProvider([Feed(NAME, OPENTELEMETRY)])
    yield lambda name, callback: provider.get_meter("shop").create_observable_gauge(name, [callback])
    provider.shutdown(100)


class TestSlowReadings:
    async def test_a_callback_that_hangs_does_not_cost_the_last_values(self, runtime, grpc, observed, caplog):
        let = threading.Event()
        await start(grpc)
        observed("hanging", lambda _: let.wait(20) and [])
        sold(4)
        await flush(0.5)
        sold()
        assert (await stats_of(NAME))["metrics"]["unobserved"] == 1
        assert (await otp.safe_call(NAME, ("drain", 1.0), timeout=60))["left"] == 0
        let.set()
        assert values(grpc) == [4, 5]
        assert caplog.text.count("callbacks of observable instruments have not come back in time") == 1

    async def test_a_reading_under_way_gives_way_to_the_last_one(self, runtime, grpc, observed, caplog):
        let, asked = threading.Event(), threading.Event()

        def hang(_):
            asked.set()
            let.wait(20)
            return []

        await start(grpc, metrics_interval=0.1)
        observed("hanging", hang)
        await asyncio.to_thread(asked.wait, 5)
        sold(5)
        await stats_of(NAME)
        assert (await otp.safe_call(NAME, ("drain", 1.0), timeout=60))["left"] == 0
        let.set()
        assert values(grpc) == [5]

    async def test_one_that_is_cut_off_is_told_of_and_counted(self, runtime, grpc, monkeypatch, caplog):
        async def never(_self, _book, _seconds, **_more):
            await asyncio.sleep(3600)

        await start(grpc)
        monkeypatch.setattr(Metrics, "_produce", never)
        for _ in range(2):
            await flush(0.3)
        assert caplog.text.count("reading its series took longer") == 1
        assert caplog.text.count("did not produce everything in time") == 1
        assert (await stats_of(NAME))["metrics"]["cut_off"] == 2


class TestRemoving:
    async def test_a_series_and_a_metric_can_be_forgotten_and_what_they_had_to_say_is_said(
        self, runtime, grpc
    ):
        await start(grpc)
        sold(3)
        execute("shop.sold", {"count": 2}, {"shop": "b", "code": 5})
        request = ("remove", "shop.sold.total", {"shop": "b", "code": 5})
        assert await gen_server.call(NAME, request) is True
        assert await gen_server.call(NAME, request) is False
        await flush()
        assert sorted(values(grpc)) == [2, 3]
        assert await gen_server.call(NAME, ("remove", "shop.sold.total")) is True
        sold(1)
        await flush()
        assert values(grpc)[-1] == 1, "it begins anew"

    async def test_an_instrument_is_known_by_the_name_it_leaves_under(self, runtime, grpc):
        await start(grpc)
        provider = MeterProvider([Feed(NAME, OPENTELEMETRY)])
        try:
            provider.get_meter("shop").create_counter("sales").add(1, {"code": 200, "to": "x"})
            assert await gen_server.call(NAME, ("remove", "sales", {"code": 200, "to": "x"})) is True
            assert await gen_server.call(NAME, ("remove", "sales")) is True
        finally:
            provider.shutdown(100)
