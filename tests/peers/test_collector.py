"""What a real OpenTelemetry collector decodes of what we send, over both protocols."""

import time

import pytest
from otpylib import gen_server

from otpylib_telemetry import execute, otp, span
from otpylib_telemetry.primitives.clock import TOLERANCE_NS
from otpylib_telemetry_otel import start_otel_exporter
from tests.support.ledger import quiet_stats, stats_of
from tests.support.waiting import eventually

pytestmark = pytest.mark.peer


@pytest.fixture(params=["grpc", "http/protobuf"])
async def exporter(request, runtime, collector):
    """A running exporter that sends to the collector; gives the collector."""
    endpoint = collector.grpc_endpoint if request.param == "grpc" else collector.http_endpoint
    await start_otel_exporter(
        {
            "endpoint": endpoint,
            "protocol": request.param,
            "service_name": "shop",
            "resource": {"deployment.environment.name": "test", "replica": 3},
            "flush_interval": 0.1,
            "event_patterns": ["shop.*"],
            "metrics": False,
        }
    )
    await eventually(_is_running)
    return collector


async def _is_running():
    return (await stats_of("otel_exporter"))["state"] == "running"


async def spans_named(collector, *names):
    """Wait until spans of these names have come out of the collector; by name."""
    await eventually(lambda: set(names) <= {each.name for each in collector.spans}, timeout=60)
    return {each.name: each for each in collector.spans}


async def test_a_nested_operation_arrives_with_ids_parents_times_status_attributes_and_resource(exporter):
    before = time.time_ns()
    with span("shop.checkout", {"basket": 3, "express": True, "weight": 1.5}) as checkout:
        context = checkout.context
        with pytest.raises(ValueError, match="card declined"), span("shop.payment", {"method": "card"}):
            raise ValueError("card declined")
        execute("shop.stock.reserved", {"items": 3}, {"correlation_id": context.correlation_id})
    after = time.time_ns()

    arrived = await spans_named(exporter, "shop.checkout", "shop.payment")
    checkout, payment = arrived["shop.checkout"], arrived["shop.payment"]

    assert checkout.trace_id == payment.trace_id == context.trace_id
    assert checkout.span_id == context.span_id
    assert checkout.parent_span_id == ""
    assert payment.parent_span_id == checkout.span_id
    assert checkout.start_ns <= payment.start_ns <= payment.end_ns <= checkout.end_ns + TOLERANCE_NS
    assert before - TOLERANCE_NS <= checkout.start_ns
    assert checkout.end_ns <= after + TOLERANCE_NS
    assert checkout.status != "ERROR"
    assert (payment.status, payment.status_message) == ("ERROR", "card declined")
    assert checkout.attributes["basket"] == 3
    assert checkout.attributes["express"] is True
    assert checkout.attributes["weight"] == 1.5
    assert payment.attributes["method"] == "card"
    assert payment.attributes["error_type"] == "ValueError"
    assert [event.name for event in payment.events] == ["exception"]
    assert payment.events[0].attributes["exception.message"] == "card declined"
    assert payment.events[0].attributes["exception.type"] == "ValueError"
    assert [event.name for event in checkout.events] == ["shop.stock.reserved"]
    assert checkout.resource["service.name"] == "shop"
    assert checkout.resource["deployment.environment.name"] == "test"
    assert checkout.resource["replica"] == 3

    stats = await quiet_stats("otel_exporter")
    assert stats["accepted"] == stats["exported"] == 5


async def test_start_and_stop_events_pair_by_correlation_id_and_duration_decides_the_length(exporter):
    execute("shop.order.start", {}, {"correlation_id": "order-7", "customer": "ann"})
    execute("shop.packing.start", {}, {"correlation_id": "order-7"})
    execute("shop.packing.stop", {"duration_ms": 250.0, "boxes": 2}, {"correlation_id": "order-7"})
    execute("shop.order.stop", {"duration_ms": 1500.0}, {"correlation_id": "order-7"})

    arrived = await spans_named(exporter, "shop.order", "shop.packing")
    order, packing = arrived["shop.order"], arrived["shop.packing"]

    assert packing.trace_id == order.trace_id
    assert packing.parent_span_id == order.span_id
    assert order.end_ns - order.start_ns == 1_500_000_000
    assert packing.end_ns - packing.start_ns == 250_000_000
    assert packing.attributes["boxes"] == 2
    assert order.attributes["customer"] == "ann"
    assert order.attributes["correlation_id"] == "order-7"


async def test_a_traceparent_in_the_metadata_joins_that_trace(exporter):
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with span("shop.incoming", {"traceparent": parent}):
        pass
    arrived = await spans_named(exporter, "shop.incoming")
    assert arrived["shop.incoming"].trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert arrived["shop.incoming"].parent_span_id == "b7ad6b7169203331"


async def test_a_thousand_spans_arrive_once_each(exporter):
    for number in range(1000):
        with span("shop.bulk", {"number": number}):
            pass
    report = await otp.safe_call("otel_exporter", ("flush", 60.0), timeout=60)
    assert report["left"] == 0, report
    await eventually(lambda: len(exporter.spans) >= 1000, timeout=60)
    assert sorted(each.attributes["number"] for each in exporter.spans) == list(range(1000))


async def test_the_endpoint_changes_while_running_and_what_is_queued_goes_to_the_new_one(
    runtime, collector, grpc_receiver
):
    grpc_receiver.stop()
    settings = {
        "endpoint": grpc_receiver.endpoint,
        "flush_interval": 0.05,
        "timeout": 1.0,
        "failure_threshold": 2,
        "reset_timeout": 60,
        "event_patterns": ["shop.*"],
        "metrics": False,
    }
    await start_otel_exporter(settings)
    for number in range(50):
        with span("shop.incident", {"number": number}):
            pass
    await eventually(_breaker_is_open, timeout=60)

    change = ("config_changed", "telemetry.otel.endpoint", grpc_receiver.endpoint, collector.grpc_endpoint)
    await gen_server.cast("otel_exporter", change)

    await eventually(lambda: len(collector.spans) >= 50, timeout=60)
    stats = await quiet_stats("otel_exporter")
    assert sorted(each.attributes["number"] for each in collector.spans) == list(range(50))
    assert stats["exported"] == stats["accepted"] == 100
    assert stats["breaker"] == "closed"


async def _breaker_is_open():
    return (await stats_of("otel_exporter"))["breaker"] == "open"
