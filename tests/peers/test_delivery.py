"""What a real collector makes of our requests, field by field, and how it refuses them."""

import asyncio

import pytest

from otpylib_telemetry import otp, span
from otpylib_telemetry.exporter.errors import TooLargeError
from otpylib_telemetry.primitives.clock import TOLERANCE_NS
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_otel.traces.spans import FinishedSpan
from tests.support.chassis import up
from tests.support.destinations import destination_of
from tests.support.ledger import quiet_stats, stats_of
from tests.support.random_traces import NUMBER, Application, expected, without_times, wrong_times
from tests.support.said import OURS, resources_of, seen_by, told
from tests.support.waiting import eventually

pytestmark = pytest.mark.peer

RESOURCE = {"service.name": "shop", "replica": 3, "zones": ("a", "b"), "ratio": 0.5, "canary": True}
WAYS = [("grpc", "none"), ("grpc", "gzip"), ("http/protobuf", "none"), ("http/protobuf", "gzip")]
#: What OpenTelemetry itself adds to the resource.
ADDED = {"service.instance.id", "telemetry.sdk.language", "telemetry.sdk.name", "telemetry.sdk.version"}
BATCH = 100
#: By each way; two thousand in all.
TRACES = 500


def settings_for(collector, protocol, **more):
    endpoint = collector.grpc_endpoint if protocol == "grpc" else collector.http_endpoint
    return OtelSettings(endpoint=endpoint, protocol=protocol, resource=RESOURCE, service_name="shop", **more)


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "compression"), WAYS)
async def test_what_is_decoded_of_two_thousand_random_traces_is_what_the_application_emitted(
    runtime, collector, protocol, compression
):
    # Not what our encoder says it sends, but what the application said: nothing of ours is on both sides.
    application = Application(f"{protocol} {compression}")
    await start_otel_exporter(
        {
            "endpoint": collector.grpc_endpoint if protocol == "grpc" else collector.http_endpoint,
            "protocol": protocol,
            "compression": compression,
            "service_name": "shop",
            "resource": RESOURCE,
            "event_patterns": ["shop.*"],
            "metrics": False,
            "batch_size": BATCH,
            "flush_interval": 0.05,
            # What is not answered in time is sent again, rightly, and would arrive twice.
            "timeout": 60,
        }
    )
    await up("otel_exporter")
    for number in range(TRACES):
        application.trace()
        if number % 20 == 0:
            await asyncio.sleep(0)
    report = await otp.safe_call("otel_exporter", ("flush", 100.0), timeout=110.0)
    assert report["left"] == 0, report
    operations = application.operations
    await eventually(lambda: len(collector.spans) >= len(operations), 60)

    seen = seen_by(collector)
    arrived = {found["attributes"][NUMBER][1]: found for found in seen}
    assert len(seen) == len(arrived) == len(operations)
    assert min(application.forms.values()) > TRACES / 10
    for key, operation in operations.items():
        assert without_times(arrived[key]) == expected(operation, arrived, OURS), operation
        assert wrong_times(operation, arrived[key], TOLERANCE_NS) == [], (operation, arrived[key])
    assert len({found["id"] for found in seen} - {0}) == len(seen)
    separate = [key for key, operation in operations.items() if operation.trace is None]
    assert len({arrived[key]["trace"] for key in separate} - {0}) == len(separate)
    for resource in resources_of(collector):
        assert {key: resource[key] for key in RESOURCE} == told(RESOURCE), resource
        assert resource.keys() - RESOURCE.keys() <= ADDED, resource
    assert (await quiet_stats("otel_exporter"))["dropped"] == {}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_request_that_is_too_large_for_it_is_told_as_such(collector, protocol):
    backend = destination_of(settings_for(collector, protocol))
    backend._transport._max_request = 2**31
    large = FinishedSpan("shop.sale", 1, 1, 0, None, 5, {}, end_ns=6)
    large.seal()
    large.attributes = {f"part{number}": "x" * 1_000_000 for number in range(21 if protocol != "grpc" else 5)}
    with pytest.raises(TooLargeError):
        backend.send([large])
    backend.close()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_what_is_emitted_while_it_is_away_arrives_once_it_is_back(runtime, collector, protocol):
    endpoint = collector.grpc_endpoint if protocol == "grpc" else collector.http_endpoint
    await start_otel_exporter(
        {
            "endpoint": endpoint,
            "protocol": protocol,
            "compression": "gzip",
            "event_patterns": ["shop.*"],
            "metrics": False,
            "flush_interval": 0.05,
            "timeout": 2.0,
            "reset_timeout": 0.2,
        }
    )
    with span("shop.before"):
        pass
    await eventually(lambda: {each.name for each in collector.spans} == {"shop.before"}, timeout=60)
    collector.stop()
    for number in range(300):
        with span("shop.meanwhile", {"number": number}):
            pass
    await eventually(failures)
    collector.start()
    report = await otp.safe_call("otel_exporter", ("flush", 60.0), timeout=60)
    assert report["left"] == 0, report
    await eventually(lambda: len(collector.spans) >= 301, timeout=60)
    numbers = [each.attributes["number"] for each in collector.spans if each.name == "shop.meanwhile"]
    assert sorted(numbers) == list(range(300))
    assert (await quiet_stats("otel_exporter"))["exported"] == 602


async def failures():
    return (await stats_of("otel_exporter"))["export_failures"]
