"""What a real collector decodes of our metrics, over both protocols."""

import asyncio

import pytest

from otpylib_telemetry import execute, otp, span
from otpylib_telemetry.version import __version__
from otpylib_telemetry_otel import (
    CallbackProducer,
    Measured,
    add_metric_producer,
    remove_metric_producer,
    start_otel_exporter,
)
from tests.support.ledger import quiet_stats
from tests.support.otlp_metrics import CUMULATIVE, DELTA, Reference, points_at
from tests.support.waiting import eventually

pytestmark = pytest.mark.peer

NAME = "otel_exporter"
A = (("shop", "a"),)


async def start(collector, protocol, **settings):
    endpoint = collector.grpc_endpoint if protocol == "grpc" else collector.http_endpoint
    await start_otel_exporter(
        {
            "endpoint": endpoint,
            "protocol": protocol,
            "service_name": "shop",
            "traces": False,
            "logs": False,
            "flush_interval": 0.05,
            "metrics_interval": 3600,
            "metrics_buckets": [0.1, 1.0],
            **settings,
        }
    )
    await quiet_stats(NAME)


async def flush():
    report = await otp.safe_call(NAME, ("flush", 60.0), timeout=60)
    assert report["left"] == 0, report


def arrived(collector, name):
    return [point for point in points_at(collector.receiver) if point.name == name]


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
async def test_every_kind_of_point_arrives_as_it_was_made(
    runtime, collector, protocol, temporality, compression
):
    extra = CallbackProducer(lambda: [Measured("depth", 4, {"queue": "a"}, "1")], scope="shop.queues")
    add_metric_producer(extra)
    await start(collector, protocol, metrics_temporality=temporality, metrics_compression=compression)
    try:
        for value in (50, 100, 2000):
            execute("shop.paid", {"duration_ms": value, "count": 1}, {"shop": "a"})
            with span("shop.order", {"shop": "a"}) as order:
                context = order.context
            await flush()
    finally:
        remove_metric_producer(extra)
    await eventually(lambda: len(arrived(collector, "shop.paid.total")) == 3, timeout=60)
    await eventually(lambda: len(arrived(collector, "depth")) == 3, timeout=60)
    points = points_at(collector.receiver)
    wanted = CUMULATIVE if temporality == "cumulative" else DELTA
    sold, paid = arrived(collector, "shop.paid.total"), arrived(collector, "shop.paid.duration")
    assert [point.value for point in sold] == ([1, 2, 3] if wanted == CUMULATIVE else [1, 1, 1])
    assert {point.temporality for point in (*sold, *paid)} == {wanted}
    assert list(paid[0].point.explicit_bounds) == [0.1, 1.0]
    totals = Reference().take(points)
    assert totals.totals["shop.paid.total", A] == 3
    assert totals.totals["shop.paid.duration", A] == (3, pytest.approx(2.15))
    assert totals.buckets["shop.paid.duration", A] == [2, 0, 1]
    levels = arrived(collector, "shop.order.in_flight")
    assert {(point.value, point.temporality) for point in levels} == {(0, CUMULATIVE)}
    (exemplar,) = arrived(collector, "shop.order.duration")[0].point.exemplars
    assert len(exemplar.trace_id) == len(bytes.fromhex(context.trace_id))
    assert sold[0].scope == ("otpylib_telemetry", __version__)
    assert (sold[0].resource["service.name"], paid[0].unit) == ("shop", "s")
    depth = arrived(collector, "depth")[0]
    assert (depth.form, depth.value, depth.attributes, depth.scope[0]) == (
        "gauge",
        4,
        {"queue": "a"},
        "shop.queues",
    )


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
async def test_exponential_histograms_arrive(runtime, collector, protocol, temporality):
    await start(collector, protocol, metrics_temporality=temporality, metrics_histogram="exponential")
    for value in (1, 2000):
        execute("shop.paid", {"duration_ms": value}, {"shop": "a"})
        await flush()
    await eventually(lambda: len(arrived(collector, "shop.paid.duration")) == 2, timeout=60)
    first, second = (point.point for point in arrived(collector, "shop.paid.duration"))
    assert (first.count, first.sum, list(first.positive.bucket_counts)) == (1, 0.001, [1])
    base = 2 ** (2**-first.scale)
    assert (
        base**first.positive.offset <= 0.001 * (1 + 1e-9) <= base ** (first.positive.offset + 1) * (1 + 1e-6)
    )
    assert second.count == sum(second.positive.bucket_counts) == (2 if temporality == "cumulative" else 1)
    assert Reference().take(points_at(collector.receiver)).totals["shop.paid.duration", A][0] == 2


async def test_a_collector_that_was_away_has_every_delta_once(runtime, collector):
    await start(collector, "grpc", metrics_temporality="delta", metrics_interval=0.05, failure_threshold=1000)
    execute("shop.sold", {"count": 1}, {"shop": "a"})
    await flush()
    await eventually(lambda: arrived(collector, "shop.sold.total"), timeout=60)
    collector.stop()
    try:
        for _ in range(10):
            execute("shop.sold", {"count": 1}, {"shop": "a"})
            await asyncio.sleep(0.05)
    finally:
        await asyncio.to_thread(collector.start)
    execute("shop.sold", {"count": 1}, {"shop": "a"})
    await flush()
    await eventually(
        lambda: Reference().take(points_at(collector.receiver)).totals["shop.sold.total", A] == 12, timeout=20
    )
    await quiet_stats(NAME)
