"""What a real collector makes of our requests, byte for byte, and how it refuses them."""

import random
import string

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource

from otpylib_telemetry import otp, span
from otpylib_telemetry.exporter import TooLargeError
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.assembly import FinishedSpan, SpanEvent
from otpylib_telemetry_otel.backends import build, own_version
from otpylib_telemetry_otel.otlp_spans import SpanEncoder
from otpylib_telemetry_otel.settings import OtelSettings
from otpylib_telemetry_otel.spans import SpanLink
from tests.support.ledger import settled, stats_of
from tests.support.waiting import eventually, wait_until

pytestmark = pytest.mark.peer

RESOURCE = {"service.name": "shop", "replica": 3, "zones": ("a", "b"), "ratio": 0.5, "canary": True}
WAYS = [("grpc", "none"), ("grpc", "gzip"), ("http/protobuf", "none"), ("http/protobuf", "gzip")]
BATCH = 500
LETTERS = string.ascii_letters + string.digits + " .-_/äöüß€漢字😀\n\"'\\"


class Anything:
    """Random spans, the same ones for the same seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def text(self, longest=20):
        return "".join(self.random.choices(LETTERS, k=self.random.randint(1, longest)))

    def value(self):
        draw = self.random
        kinds = [
            lambda: self.text(200),
            lambda: draw.random() < 0.5,
            lambda: draw.randint(-(2**63), 2**63 - 1),
            lambda: draw.uniform(-1e300, 1e300),
            lambda: float("inf"),
        ]
        kind = draw.choice(kinds)
        return tuple(kind() for _ in range(draw.randint(1, 4))) if draw.random() < 0.2 else kind()

    def attributes(self, most=6):
        return {self.text(): self.value() for _ in range(self.random.randint(0, most))}

    def trace(self):
        """A few spans of one trace, each but the first below one of those before it."""
        draw = self.random
        trace_id, spans = draw.getrandbits(128) or 1, []
        for _ in range(draw.randint(1, 4)):
            start = draw.randint(1_600_000_000 * 10**9, 1_900_000_000 * 10**9)
            made = FinishedSpan(
                self.text(40),
                trace_id,
                draw.getrandbits(64) or 1,
                draw.choice(spans).span_id if spans else 0,
                None,
                start,
                self.attributes(),
                end_ns=start + draw.randint(0, 10**12),
                events=[
                    SpanEvent(self.text(), start + draw.randint(0, 10**9), self.attributes(3))
                    for _ in range(draw.randint(0, 2))
                ],
            )
            made.seal()
            made.kind = draw.choice(["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"])
            made.scope = draw.choice([None, None, ("shop", "1.2"), ("stock", "")])
            if draw.random() < 0.3:
                made.error, made.message = True, self.text(100)
            if draw.random() < 0.2:
                made.links = [
                    SpanLink(draw.getrandbits(128) or 1, draw.getrandbits(64) or 1, {"why": self.text()})
                ]
            made.dropped_attributes = draw.choice([0, 0, 7])
            spans.append(made)
        return spans


def by_id(message):
    """The spans of a request, each with its scope and its resource."""
    return {
        found.span_id: (
            found,
            (scoped.scope.name, scoped.scope.version),
            sorted(pair.SerializeToString() for pair in group.resource.attributes),
        )
        for group in message.resource_spans
        for scoped in group.scope_spans
        for found in scoped.spans
    }


def settings_for(collector, protocol, **more):
    endpoint = collector.grpc_endpoint if protocol == "grpc" else collector.http_endpoint
    return OtelSettings(endpoint=endpoint, protocol=protocol, resource=RESOURCE, service_name="shop", **more)


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "compression"), WAYS)
def test_five_thousand_random_traces_are_decoded_as_they_were_encoded(collector, protocol, compression):
    anything = Anything(f"{protocol} {compression}")
    settings = settings_for(collector, protocol, compression=compression)
    resource = Resource.create(settings.resource_attributes())
    encoder = SpanEncoder(resource.attributes, resource.schema_url, ("otpylib_telemetry", own_version()))
    backend, expected, batch = build(settings), {}, []
    try:
        for number in range(5000):
            batch += anything.trace()
            if len(batch) >= BATCH or number == 4999:
                assert backend.send(batch) is None
                expected |= by_id(ExportTraceServiceRequest.FromString(encoder.encode(batch).body))
                batch = []
    finally:
        backend.close()
    assert len(expected) > 5000
    wait_until(lambda: len(collector.spans) >= len(expected), 60)
    arrived = {}
    for request in collector.receiver.requests:
        arrived |= by_id(request.message)
    assert arrived.keys() == expected.keys()
    different = [key for key, sent in expected.items() if arrived[key] != sent]
    assert different == [], (expected[different[0]], arrived[different[0]])


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_request_that_is_too_large_for_it_is_told_as_such(collector, protocol):
    backend = build(settings_for(collector, protocol))
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
            "flush_interval": 0.05,
            "timeout": 2.0,
            "reset_timeout": 0.2,
        }
    )
    with span("shop.before"):
        pass
    await eventually(lambda: {each.name for each in collector.spans} == {"shop.before"}, timeout=20)
    collector.stop()
    for number in range(300):
        with span("shop.meanwhile", {"number": number}):
            pass
    await eventually(failures)
    collector.start()
    report = await otp.safe_call("otel_exporter", ("flush", 20.0), timeout=30.0)
    assert report["left"] == 0, report
    await eventually(lambda: len(collector.spans) >= 301, timeout=20)
    numbers = [each.attributes["number"] for each in collector.spans if each.name == "shop.meanwhile"]
    assert sorted(numbers) == list(range(300))
    assert (await settled("otel_exporter"))["exported"] == 602


async def failures():
    return (await stats_of("otel_exporter"))["export_failures"]
