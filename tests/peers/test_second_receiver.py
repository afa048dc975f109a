"""A second decoder, in another language: does it read the same in our requests as the collector does?

What is compared is not our encoder's output but the spans and records themselves, field by field, in words
of this file. The collector is asked about the same sample in the same words, so that the two must agree.
"""

import random

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otpylib_telemetry import execute, otp, span
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.signals.proof import prove
from tests.peers.test_delivery import RESOURCE, settings_for
from tests.peers.test_logs import anything as anything_to_log
from tests.support.chassis import up
from tests.support.destinations import destination_of
from tests.support.mockotlp import SecondReceiver, attributes_of, identity, number, value_of
from tests.support.random_traces import Anything
from tests.support.said import ERROR, OURS, emitted, received, seen_by, told, typed
from tests.support.waiting import eventually, wait_until

pytestmark = pytest.mark.peer

TRACES = 300
RECORDS = 500
PROTOCOLS = ["grpc", "http/protobuf"]


@pytest.fixture
def second(tmp_path):
    running = SecondReceiver(tmp_path)
    try:
        running.start()
        yield running
    finally:
        running.close()


def seen_by_collector(collector):
    return {found["id"]: found for found in seen_by(collector)}


def send(backend, items, size=100):
    try:
        for start in range(0, len(items), size):
            assert backend.send(items[start : start + size]) is None
    finally:
        backend.close()


def resource_is_ours(resource):
    assert {key: resource[key] for key in RESOURCE} == RESOURCE
    assert resource["telemetry.sdk.name"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_both_receivers_read_in_random_traces_what_was_emitted(collector, second, protocol):
    anyone = Anything(f"second {protocol}")
    sample = [each for _ in range(TRACES) for each in anyone.trace()]
    expected = {each.span_id: emitted(each) for each in sample}
    for receiver in (second, collector):
        send(destination_of(settings_for(receiver, protocol)), sample)
    wait_until(lambda: len(second.spans) >= len(sample), 60)
    wait_until(lambda: len(collector.spans) >= len(sample), 60)

    ours = {identity(found["spanId"]): received(scope, found) for _, scope, found in second.spans}
    theirs = seen_by_collector(collector)
    assert len(second.spans) == len(ours) == len(theirs) == len(sample)
    for key, said in expected.items():
        assert ours[key] == said
        assert theirs[key] == said
    resource_is_ours(second.spans[0][0])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_reads_in_random_log_records_what_was_emitted(second, protocol):
    # All but the event's name: its decoder is of a time when OTLP had no field for that, and passes it over.
    anyone = Anything(f"second logs {protocol}")
    anyone.random = random.Random(protocol)
    sample = [anything_to_log(anyone, count) for count in range(RECORDS)]
    settings = settings_for(second, protocol)
    send(destination_of(settings, "logs"), sample)
    wait_until(lambda: len(second.records) >= len(sample), 60)
    found = {number(record["timeUnixNano"]): (scope, record) for _, scope, record in second.records}
    assert len(second.records) == len(found) == len(sample)
    for item in sample:
        scope, record = found[item.at_ns]
        assert number(record["observedTimeUnixNano"]) == item.observed_ns
        assert (record["severityNumber"], record["severityText"]) == (item.severity, item.severity_text)
        assert typed(value_of(record.get("body"))) == typed(item.body)
        assert told(attributes_of(record)) == told(item.attributes)
        assert record.get("droppedAttributesCount", 0) == item.dropped_attributes
        assert identity(record.get("traceId")) == item.trace_id
        assert identity(record.get("spanId")) == item.span_id
        assert record.get("flags", 0) == item.flags
        assert scope == (item.scope or OURS)
    resource_is_ours(second.records[0][0])


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_what_an_application_emits_arrives_there_as_one_tree_with_its_log_record(
    runtime, second, protocol
):
    endpoint = second.grpc_endpoint if protocol == "grpc" else second.http_endpoint
    await start_otel_exporter(
        {
            "endpoint": endpoint,
            "protocol": protocol,
            "service_name": "shop",
            "event_patterns": ["shop.*"],
            "metrics": False,
            "flush_interval": 0.05,
        }
    )
    await up("otel_exporter")
    with span("shop.checkout", {"basket": 3, "span.kind": "server"}) as checkout:
        context = checkout.context
        with pytest.raises(ValueError, match="declined"), span("shop.payment"):
            raise ValueError("declined")
        execute("shop.reserved", {"items": 2}, {"correlation_id": context.correlation_id})
    execute("shop.closed", {}, {"message": "good night", "severity": "warning"})
    report = await otp.safe_call("otel_exporter", ("flush", 20.0), timeout=30.0)
    assert report["left"] == 0, report
    await eventually(lambda: len(second.spans) == 2 and len(second.records) == 1)

    found = {item["name"]: item for _, _, item in second.spans}
    top, below = found["shop.checkout"], found["shop.payment"]
    assert top["traceId"]["hex"] == below["traceId"]["hex"] == context.trace_id
    assert (top["spanId"]["hex"], below["parentSpanId"]["hex"]) == (context.span_id, context.span_id)
    assert top["kind"] == Span.SPAN_KIND_SERVER
    assert (below["status"]["code"], below["status"]["message"]) == (ERROR, "declined")
    assert [event["name"] for event in top["events"]] == ["shop.reserved"]
    (event,) = below["events"]
    assert event["name"] == "exception"
    assert attributes_of(event)["exception.type"] == "ValueError"
    ((resource, _, record),) = second.records
    assert resource["service.name"] == "shop"
    assert (value_of(record["body"]), record["severityNumber"]) == ("good night", 13)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_both_receivers_prove_themselves_with_an_empty_request(collector, second, protocol):
    for there in (collector, second):
        await prove(settings_for(there, protocol), None)
