"""What is measured through the OpenTelemetry API is in the series of the exporters."""

import asyncio

from opentelemetry import metrics as metrics_api
from opentelemetry.metrics import Observation

from otpylib_telemetry import otp
from otpylib_telemetry.aggregation import observers
from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.meters.views import View
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.service import SERVICE, start_telemetry_service
from otpylib_telemetry_prometheus import start_prometheus_exporter
from tests.support.chassis import crash, up
from tests.support.otlp_metrics import points_at
from tests.support.telemetry_service import (
    EXPORTER,
    settings,
    stats,
    stop,
    tracer,
)
from tests.support.waiting import eventually


def measured():
    """What is in the exporter's series: by the metric's name and the attributes the number."""
    return {
        (metric.name, *series.labels): series.value
        for metric in store_of(EXPORTER).metrics
        for series in metric.all_series()
        if metric.scope.name == "shop.client"
    }


def meter():
    return metrics_api.get_meter("shop.client", "1.2")


async def test_what_is_measured_through_the_api_is_in_the_series_of_the_exporter(receiver):
    meter().create_counter("sales", "{sale}").add(3, {"to": "x"})
    meter().create_observable_gauge("heat", [lambda _: [Observation(7)]])
    await observers.refresh(EXPORTER)
    assert measured() == {("sales", ("to", "x")): 3, ("heat",): 7}
    found = await stats()
    assert found["signals"] == {"traces": "running", "logs": "running", "metrics": "running"}
    assert found["meters"]["instruments"] >= 2
    (sales,) = (metric for metric in store_of(EXPORTER).metrics if metric.name == "sales")
    assert (sales.unit, sales.scope.version) == ("{sale}", "1.2")


async def test_what_is_measured_arrives_with_its_types_its_unit_and_its_scope(receiver):
    shop = metrics_api.get_meter("shop.arrives", "3", attributes={"team": "blue"})
    shop.create_counter("sold", "{sale}", "What was sold").add(
        3, {"to": "x", "code": 200, "first": True, "share": 0.5, "sizes": [1, 2]}
    )
    shop.create_observable_gauge("warm", [lambda _: [Observation(7)]], "Cel")
    with tracer().start_as_current_span("pay") as paying:
        shop.create_histogram("took", "s", explicit_bucket_boundaries_advisory=[1, 2]).record(2)
    assert (await otp.safe_call(EXPORTER, ("flush", 60.0), timeout=90))["left"] == 0
    points = {point.name: point for point in points_at(receiver) if point.scope[0] == "shop.arrives"}
    assert set(points) == {"sold", "warm", "took"}
    assert points["sold"].value == 3
    assert points["sold"].unit == "{sale}"
    assert points["sold"].attributes == {
        "to": "x",
        "code": 200,
        "first": True,
        "share": 0.5,
        "sizes": [1, 2],
    }
    assert (points["warm"].value, points["warm"].unit) == (7, "Cel")
    assert list(points["took"].point.bucket_counts) == [0, 1, 0]
    (exemplar,) = points["took"].point.exemplars
    assert exemplar.trace_id == paying.get_span_context().trace_id.to_bytes(16, "big")
    assert points["sold"].scope[:2] == ("shop.arrives", "3")


async def test_instruments_made_earlier_work_and_are_without_effect_while_no_service_is_there(
    runtime, http_receiver
):
    counter = meter().create_counter("early")
    counter.add(1)
    await start_otel_exporter(settings(http_receiver))
    await up(EXPORTER)
    await start_telemetry_service()
    counter.add(2)
    assert measured()[("early",)] == 2
    await stop()
    counter.add(4)
    assert measured()[("early",)] == 2
    await start_telemetry_service()
    counter.add(8)
    assert measured()[("early",)] == 10
    metrics_api.get_meter_provider().shutdown()
    counter.add(16)
    assert measured()[("early",)] == 26
    await stop()


async def test_metrics_can_be_left_out(runtime, http_receiver, monkeypatch):
    await start_otel_exporter(settings(http_receiver))
    await up(EXPORTER)
    counter = meter().create_counter("left.out")
    for argument, variable, said in (
        ({"metrics": False}, "", "off: metrics is false"),
        (None, "none", "off: OTEL_METRICS_EXPORTER is none"),
    ):
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", variable)
        await start_telemetry_service(argument)
        counter.add(1)
        assert measured() == {}
        assert (await stats())["signals"]["metrics"] == said
        assert (await stats())["signals"]["traces"] == "running"
        await stop()


async def test_views_are_the_services_and_may_be_others_next_time(runtime, http_receiver):
    await start_otel_exporter(settings(http_receiver))
    await up(EXPORTER)
    counter = meter().create_counter("viewed")
    for views, name in (([View(instrument_name="viewed", name="renamed")], "renamed"), ([], "viewed")):
        await start_telemetry_service({"views": views})
        counter.add(1)
        assert (name,) in measured()
        await stop()
    assert measured() == {("viewed",): 1}, "what is not fed any more is gone"


async def test_a_prometheus_exporter_of_another_name_is_recognised_when_it_comes_up(runtime, caplog):
    await start_telemetry_service({"exporters": ["later_exporter"]})
    counter = meter().create_counter("later.sold", "By")
    counter.add(1)
    await start_prometheus_exporter({"port": 0}, name="later")
    await eventually(lambda: "spells the names of metrics as Prometheus has them" in caplog.text)
    counter.add(2)
    (metric,) = store_of("later_exporter").metrics
    assert (metric.name, metric.all_series()[0].value) == ("later_sold_bytes_total", 2)
    await stop()


async def test_metrics_go_on_when_the_service_crashes_and_is_restarted(runtime, http_receiver):
    await start_otel_exporter(settings(http_receiver))
    await up(EXPORTER)
    await start_telemetry_service()
    counter = meter().create_counter("steady")
    counter.add(1)
    await crash(SERVICE)
    counter.add(1)
    await start_telemetry_service()
    await asyncio.sleep(1.1)  # longer than a crashed one waits for its successor
    counter.add(1)
    assert measured() == {("steady",): 3}
    await stop()
