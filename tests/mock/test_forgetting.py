"""What ended exporters leave for the next of their names, forgotten: tests that pass in any order."""

import asyncio

import pytest
from opentelemetry.metrics import Observation

from otpylib_telemetry import execute, otp, start_exporter
from otpylib_telemetry.exporter import registry
from otpylib_telemetry_mock import assert_metric, assert_span, deterministic, forget_exporters
from otpylib_telemetry_mock.otlp_receiver import GrpcStatus, OtlpReceiver
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_prometheus.meter_provider import PrometheusMeterProvider
from tests.prometheus.test_prometheus_exporter import page
from tests.prometheus.test_prometheus_exporter import start as start_prometheus
from tests.support.chassis import NAME, call, cast, emit, make_exporter, up
from tests.support.runtime import running_runtime

OTEL, PROMETHEUS = "otel_exporter", "prometheus_exporter"


async def life(work):
    """What a test does: a runtime of its own, and something in it."""
    async with running_runtime():
        return await work()


async def count_and_send():
    with OtlpReceiver() as receiver:
        await start_otel_exporter({"endpoint": receiver.endpoint, "flush_interval": 0.05})
        with deterministic():
            execute("shop.pay.success", {"duration_ms": 2, "count": 1}, {"span_id": "1" * 16})
        await otp.safe_call(OTEL, ("flush", 30))
        assert_span(receiver, "shop.pay", count=1)
        assert_metric(receiver, "shop.pay.success.total", 1)


async def leave_behind():
    with OtlpReceiver() as receiver:
        receiver.always(GrpcStatus("UNAVAILABLE"))
        settings = {"endpoint": receiver.endpoint, "flush_interval": 0.05, "shutdown_timeout": 0.1}
        await start_otel_exporter(settings)
        execute("shop.pay.success", {"duration_ms": 2, "count": 1}, {"span_id": "1" * 16})
        await otp.safe_call(OTEL, ("flush", 0.2))
        assert registry.find(OTEL).left


def test_spans_queues_and_series_of_one_test_do_not_reach_the_next():
    for work in (leave_behind, count_and_send, count_and_send, leave_behind):
        asyncio.run(life(work))
        assert OTEL in forget_exporters()
        assert registry.find(OTEL) is None


async def test_instruments_that_the_application_keeps_begin_at_nothing():
    provider = PrometheusMeterProvider()
    meter = provider.get_meter("shop")
    sold = meter.create_counter("sold")
    meter.create_observable_gauge("open", [lambda _: [Observation(7)]])
    for _ in range(2):
        sold.add(1)

        async def read():
            _, body = await page(await start_prometheus())
            text = body.decode()
            assert_metric(text, "sold_total", 1)
            assert_metric(text, "open", 7)

        await life(read)
        forget_exporters()
    provider.shutdown()


async def test_changes_at_runtime_books_and_memory_are_gone():
    for _ in range(2):

        async def change():
            module, _ = make_exporter()
            await start_exporter(module, {"event_patterns": ["shop.*"], "endpoint": "one"})
            await up()
            answer = await call(("get_config",))
            assert (answer["config"]["endpoint"], answer["generation"]) == ("one", 1)
            stats = await call(("get_stats",))
            assert (stats["accepted"], stats["lives"]) == (0, 1)
            emit(3)
            await cast(("config_changed", "telemetry.x.endpoint", "one", "two"))

        await life(change)
        assert forget_exporters() == [NAME]


async def test_one_that_runs_keeps_everything(runtime):
    module, _ = make_exporter()
    await start_exporter(module, {"event_patterns": ["shop.*"], "flush_interval": 60})
    await up()
    emit(3)
    assert forget_exporters() == []
    assert (await call(("get_stats",)))["accepted"] == 3


def test_one_whose_loop_was_closed_has_ended():
    async def begin():
        async with running_runtime():
            module, _ = make_exporter()
            await start_exporter(module, {"event_patterns": ["shop.*"], "flush_interval": 60})
            await up()
            emit(3)
            left.append(registry._runners[NAME])

    left = []
    asyncio.run(begin())
    # As if the application's loop had been closed over its head.
    registry._runners[NAME] = left[0]
    assert registry.is_running(NAME)
    assert forget_exporters() == [NAME]
    assert not registry.is_running(NAME)
    assert forget_exporters() == []


@pytest.mark.parametrize("name", [OTEL, PROMETHEUS])
def test_what_was_measured_before_any_exporter_is_forgotten_as_well(name):
    registry.offer(name, "shop.sold", {"count": 1}, {})
    assert name in forget_exporters()
    assert registry.find(name) is None
