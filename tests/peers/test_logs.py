"""What a real collector decodes of our log records, over both protocols."""

import logging
import time

import pytest

from otpylib_telemetry import execute, otp, span
from otpylib_telemetry.instrument.logging import install, uninstall
from otpylib_telemetry.primitives.clock import TOLERANCE_NS
from otpylib_telemetry.version import __version__
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.log_records.item import LogItem
from otpylib_telemetry_otel.log_records.severity import short_name
from tests.peers.test_delivery import BATCH, WAYS, settings_for
from tests.support.destinations import destination_of
from tests.support.ledger import quiet_stats
from tests.support.random_traces import Anything
from tests.support.said import record_collected, record_emitted
from tests.support.waiting import eventually, wait_until

pytestmark = pytest.mark.peer

#: By each way; two thousand in all.
RECORDS = 500

#: Bodies that are no scalars.
TABLES = [{"tea": {"left": (1, 2.5, None), "raw": b"\x00\xff"}, "open": True}, {}, ({"a": 1}, ("b", ()))]


def anything(anyone, number):
    """A random record; its time is its number, by which it is found again."""
    draw = anyone.random
    severity = draw.randint(1, 24)
    trace_id = draw.choice([0, draw.getrandbits(128) or 1])
    return LogItem(
        draw.choice(["", anyone.text(40)]),
        1_700_000_000 * 10**9 + number,
        draw.randint(1_600_000_000 * 10**9, 1_900_000_000 * 10**9),
        severity,
        draw.choice([short_name(severity), anyone.text()]),
        draw.choice([None, anyone.text(200), draw.random(), 7, True, ("a", "b"), b"\xff", *TABLES]),
        anyone.attributes(),
        draw.choice([0, 0, 7]),
        trace_id,
        draw.getrandbits(64) or 1 if trace_id else 0,
        draw.choice([0, 1, 3]),
        draw.choice([None, None, ("shop", "1.2"), ("stock", "")]),
    )


def by_time(message):
    """The records of a request, each with its scope and its resource."""
    return {
        record.time_unix_nano: (
            record,
            (scoped.scope.name, scoped.scope.version),
            sorted(pair.SerializeToString() for pair in group.resource.attributes),
        )
        for group in message.resource_logs
        for scoped in group.scope_logs
        for record in scoped.log_records
    }


def logs_of(collector):
    arrived = {}
    for request in collector.receiver.requests:
        if request.signal == "logs":
            arrived |= by_time(request.message)
    return arrived


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "compression"), WAYS)
def test_what_is_decoded_of_two_thousand_random_records_is_what_was_handed_over(
    collector, protocol, compression
):
    anyone = Anything(f"logs {protocol} {compression}")
    settings = settings_for(collector, protocol, compression=compression)
    backend, expected = destination_of(settings, "logs"), {}
    try:
        for start in range(0, RECORDS, BATCH):
            batch = [anything(anyone, number) for number in range(start, start + BATCH)]
            assert backend.send(batch) is None
            expected |= {item.at_ns: record_emitted(item) for item in batch}
    finally:
        backend.close()
    assert len(expected) == RECORDS
    wait_until(lambda: len(logs_of(collector)) >= RECORDS, 60)
    arrived = logs_of(collector)
    assert arrived.keys() == expected.keys()
    for key, said in expected.items():
        record, scope, _ = arrived[key]
        assert record_collected(scope, record) == said


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_events_and_records_arrive_as_they_were_emitted(runtime, collector, protocol):
    endpoint = collector.grpc_endpoint if protocol == "grpc" else collector.http_endpoint
    await start_otel_exporter(
        {
            "endpoint": endpoint,
            "protocol": protocol,
            "service_name": "shop",
            "resource": {"replica": 3},
            "event_patterns": ["shop.*", "log.record"],
            "metrics": False,
            "flush_interval": 0.05,
        }
    )
    before = time.time_ns()
    logger = logging.getLogger("shop.stock")
    logger.setLevel(logging.INFO)
    install(logger)
    try:
        with span("shop.order") as order:
            context = order.context
            logger.info("%d left", 3, extra={"warehouse": "north"})
            try:
                raise LookupError("no tea")
            except LookupError:
                logger.exception("out of stock")
        execute("shop.opened", {"doors": 2}, {"message": "we are open", "severity": "warning"})
    finally:
        uninstall(logger)
        logger.setLevel(logging.NOTSET)
    after = time.time_ns()
    await eventually(lambda: len(logs_of(collector)) == 3, timeout=60)
    found = {record.body.string_value: (record, scope) for record, scope, _ in logs_of(collector).values()}

    for record, _ in found.values():
        assert before - TOLERANCE_NS <= record.time_unix_nano <= after + TOLERANCE_NS
        assert before - TOLERANCE_NS <= record.observed_time_unix_nano <= after + TOLERANCE_NS
    opened, scope = found["we are open"]
    assert (opened.event_name, opened.severity_number, opened.severity_text) == ("shop.opened", 13, "warning")
    assert {pair.key: pair.value.int_value for pair in opened.attributes} == {"doors": 2}
    assert (opened.trace_id, opened.span_id, scope) == (b"", b"", ("otpylib_telemetry", __version__))
    left, scope = found["3 left"]
    assert (left.event_name, left.severity_number, left.severity_text) == ("", 9, "INFO")
    assert (left.trace_id.hex(), left.span_id.hex()) == (context.trace_id, context.span_id)
    assert scope == ("shop.stock", "")
    assert {pair.key: pair.value.string_value for pair in left.attributes}["warehouse"] == "north"
    failed, _ = found["out of stock"]
    told = {pair.key: pair.value.string_value for pair in failed.attributes}
    assert (told["exception.type"], told["exception.message"]) == ("LookupError", "no tea")
    assert told["exception.stacktrace"].endswith("LookupError: no tea\n")
    assert failed.severity_number == 17

    report = await otp.safe_call("otel_exporter", ("flush", 60.0), timeout=60)
    assert report["left"] == 0, report
    stats = await quiet_stats("otel_exporter")
    assert (stats["accepted"], stats["exported"]) == (5, 5)
