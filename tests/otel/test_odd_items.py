"""One odd item costs at most itself: whatever is in a span, all others arrive, and nothing is blocked."""

import logging

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan

from otpylib_telemetry import otp, span
from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver, HttpReceiver
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.destinations import build
from otpylib_telemetry_otel.service import start_telemetry_service
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_otel.traces import api_spans
from otpylib_telemetry_otel.traces.spans import FinishedSpan
from tests.support.chassis import up
from tests.support.destinations import destination_of
from tests.support.ledger import quiet_stats
from tests.support.odd_items import OBJECTS, make_all
from tests.support.telemetry_service import EXPORTER, stop


@pytest.fixture(params=[GrpcReceiver, HttpReceiver], ids=["grpc", "http"])
def receiver(request):
    with request.param() as started:
        yield started


def settings(receiver, **more):
    return {
        "endpoint": receiver.endpoint,
        "protocol": receiver.protocol,
        "flush_interval": 0.02,
        "metrics": False,
        "logs": False,
        **more,
    }


async def flushed():
    assert (await otp.safe_call(EXPORTER, ("flush", 60.0), timeout=70.0))["left"] == 0


async def test_any_object_anywhere_in_a_span_costs_no_span(runtime, receiver, caplog):
    caplog.set_level(logging.CRITICAL, logger="opentelemetry")
    await start_otel_exporter(settings(receiver, queue_limit=100_000, batch_size=200))
    await up(EXPORTER)
    await start_telemetry_service()
    expected = make_all()
    with span("the last one"):
        pass
    await flushed()
    arrived = {each.name for each in receiver.spans}
    assert expected - arrived == set()
    assert "the last one" in arrived
    assert len(expected) > 20 * len(OBJECTS)
    stats = await quiet_stats(EXPORTER)
    assert (stats["breaker"], stats["export_failures"], stats["rejected"], stats["dropped"]) == (
        "closed",
        0,
        0,
        {},
    )
    await stop()


async def test_what_cannot_be_mended_is_named_and_counted_and_harms_no_other(runtime, receiver, caplog):
    await start_otel_exporter(settings(receiver, failure_threshold=1, batch_size=3))
    await up(EXPORTER)
    await start_telemetry_service()

    for number in range(3):
        trace.get_tracer("shop").start_span(f"shop.fine{number}").end()
    # Nothing says what its id should be instead.
    context = trace.SpanContext(2**130, 7, is_remote=False)
    api_spans.offer(EXPORTER, ReadableSpan("shop.broken", context, start_time=1, end_time=2))
    with span("shop.ours"):
        pass
    with span("shop.later"):
        pass
    await flushed()
    fine = {*(f"shop.fine{number}" for number in range(3)), "shop.ours", "shop.later"}
    assert {each.name for each in receiver.spans} == fine
    stats = await quiet_stats(EXPORTER)
    assert stats["rejected_for"] == {"unusable": 1}
    assert (stats["breaker"], stats["export_failures"]) == ("closed", 0)
    (line,) = [record.getMessage() for record in caplog.records if "cannot be encoded" in record.getMessage()]
    assert "1 items cannot be encoded" in line
    assert "'shop.broken': OverflowError" in line
    await stop()


def item(number, **fields):
    made = FinishedSpan("shop.sale", 1, number, 0, None, 5, {}, end_ns=6)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


#: Scopes that no encoder should ever be given, and what is said of them.
SCOPES = {
    "unhashable": (("shop", "1", "", (("k", {"a": [1]}),)), "shop"),
    "surrogate": (("shop\ud800", "1\ud800", "\ud800", (("\ud800", "\ud800"),)), "shop?"),
    "numbers": ((5, (1, 2)), "5"),
    "nothing": ((None, None), ""),
    "no pairs": (("shop", "1", "", 5), None),
    "too much": (("shop", "1", "", (), 5), None),
}


@pytest.mark.parametrize("scope", SCOPES)
def test_an_odd_scope_costs_at_most_its_own_items(receiver, scope):
    odd, name = SCOPES[scope]
    backend = destination_of(OtelSettings(endpoint=receiver.endpoint, protocol=receiver.protocol))
    outcome = backend.send(
        [item(1), item(2, scope=odd), item(3, scope=("fine", "1")), item(4, scope=odd), item(5)]
    )
    backend.close()
    arrived = {int(each.span_id, 16): each.scope for each in receiver.spans}
    if name is None:
        assert outcome.unusable == 2
        assert set(arrived) == {1, 3, 5}
    else:
        assert outcome is None
        assert arrived == {1: "otpylib_telemetry", 2: name, 3: "fine", 4: name, 5: "otpylib_telemetry"}


def test_scopes_whose_attributes_are_equal_and_not_the_same_stay_apart(receiver):
    backend = destination_of(OtelSettings(endpoint=receiver.endpoint, protocol=receiver.protocol))
    values = [1, True, 1.0, "1"]
    assert (
        backend.send([item(n, scope=("shop", "1", "", (("k", v),))) for n, v in enumerate(values, 1)]) is None
    )
    backend.close()
    told = [each.scope_attributes["k"] for each in sorted(receiver.spans, key=lambda each: each.span_id)]
    assert list(map(type, told)) == [int, bool, float, str]


RESOURCES = {
    "service name": {"service_name": "caf\udce9"},
    "value": {"resource": {"team": "caf\udce9"}},
    "name": {"resource": {"caf\udce9": 1}},
    "huge": {"resource": {"n": 2**70}},
    **{
        f"object {label}": {"resource": {"k": odd}}
        for label, odd in OBJECTS.items()
        if label in {"decimal", "uuid", "enumeration", "path", "bytes", "number of numpy", "object", "class"}
    },
}


@pytest.mark.parametrize("odd", RESOURCES)
async def test_an_odd_resource_stops_nothing(runtime, receiver, odd):
    await start_otel_exporter(settings(receiver, **RESOURCES[odd]))
    await up(EXPORTER)
    with span("shop.sale"):
        pass
    await flushed()
    (arrived,) = receiver.spans
    assert arrived.name == "shop.sale"
    given = RESOURCES[odd].get("resource", {})
    assert len(given.keys() & arrived.resource.keys()) == sum(key.isascii() for key in given)
    if odd == "service name":
        assert arrived.resource["service.name"] == "caf?"


@pytest.mark.parametrize("raw", [b"caf\xe9", b"\xff"])
async def test_an_environment_that_is_no_unicode_stops_nothing(runtime, receiver, monkeypatch, raw):
    monkeypatch.setenv("OTEL_SERVICE_NAME", raw.decode("utf-8", "surrogateescape"))
    monkeypatch.setenv(
        "OTEL_RESOURCE_ATTRIBUTES", "team=" + raw.decode("utf-8", "surrogateescape") + ",pod=%ff,zone=a"
    )
    await start_otel_exporter(settings(receiver))
    await up(EXPORTER)
    with span("shop.sale"):
        pass
    await flushed()
    (arrived,) = receiver.spans
    assert arrived.resource["service.name"] == raw.decode("ascii", "replace").replace("\ufffd", "?")
    assert arrived.resource["zone"] == "a"


@pytest.mark.parametrize("odd", OBJECTS)
def test_a_detector_may_find_anything(receiver, odd):
    found = {"odd": OBJECTS[odd], "fine": 1}
    backend = build(OtelSettings(endpoint=receiver.endpoint, protocol=receiver.protocol), "traces", found)
    assert backend.send([item(1)]) is None
    backend.close()
    assert receiver.spans[0].resource["fine"] == 1
