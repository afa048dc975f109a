"""What is put on an open span arrives at an OTLP receiver, as what is put on a span of the SDK does."""

import asyncio
import re

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

from otpylib_telemetry import otp, span
from otpylib_telemetry_mock.otlp_receiver import HttpReceiver
from otpylib_telemetry_otel import start_otel_exporter
from tests.support.chassis import up
from tests.support.ledger import quiet_stats
from tests.support.telemetry_service import EXPORTER, settings
from tests.tracing.span_forms import Sync

THERE = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(1))


class Collector:
    """A receiver with an exporter before it."""

    def __init__(self, receiver):
        self.receiver = receiver

    async def spans(self):
        assert (await otp.safe_call(EXPORTER, ("flush", 60.0), timeout=70.0))["left"] == 0
        return {each.name: each for each in self.receiver.spans}

    async def raw(self, name):
        await self.spans()
        (found,) = [
            one
            for request in self.receiver.taken
            for group in request.message.resource_spans
            for scoped in group.scope_spans
            for one in scoped.spans
            if one.name == name
        ]
        return found


@pytest.fixture
async def started(runtime):
    collectors = []

    async def start(**more):
        receiver = HttpReceiver().__enter__()
        await start_otel_exporter(settings(receiver, metrics=False, **more))
        await up(EXPORTER)
        collectors.append(receiver)
        return Collector(receiver)

    yield start
    await otp.safe_call(EXPORTER, ("drain", 10.0), timeout=20.0)
    for receiver in collectors:
        receiver.__exit__(None, None, None)


@pytest.fixture
async def collector(started):
    return await started()


def of_the_sdk(body):
    """The span that a body makes through the OpenTelemetry API."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    body(provider.get_tracer("shop"))
    (made,) = exporter.get_finished_spans()
    return made


async def test_attributes_and_measurements_are_attributes(collector):
    with span("a", {"user": "u", "n": 1}) as made:
        made.set_attribute("user", "w")
        made.set_attribute("list", ["a", "b"])
        made.measure(rows=12, duration_ms=250)
    found = (await collector.spans())["a"]
    attributes = {key: value for key, value in found.attributes.items() if key != "correlation_id"}
    assert attributes == {"user": "w", "n": 1, "list": ["a", "b"], "rows": 12, "duration_ms": 250}
    assert found.end_ns - found.start_ns == 250_000_000
    assert (found.status, found.events, found.links) == ("UNSET", [], [])


async def test_events_arrive_in_the_order_of_time(collector):
    with span("a") as made:
        made.add_event("first", {"n": 1, "odd": {"a": [1]}})
        await asyncio.sleep(0.001)
        made.add_event("second")
    found = (await collector.spans())["a"]
    assert [(event.name, event.attributes) for event in found.events] == [
        ("first", {"n": 1, "odd": '{"a": [1]}'}),
        ("second", {}),
    ]
    times = [event.time_ns for event in found.events]
    assert [found.start_ns, *times, found.end_ns] == sorted([found.start_ns, *times, found.end_ns])


async def test_links_arrive_once_each(collector):
    with span("a", {"links": ["00-" + "1" * 32 + "-" + "1" * 16 + "-01"]}) as made:
        made.add_link(THERE, {"why": "batch"})
        made.add_link(Link(THERE))
        made.add_link("nonsense")
    raw = await collector.raw("a")
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in raw.links] == [
        ("1" * 32, "1" * 16),
        (f"{0xABC:032x}", f"{0xDEF:016x}"),
    ]
    assert [(each.key, each.value.string_value) for each in raw.links[1].attributes] == [("why", "batch")]
    assert raw.dropped_links_count == 0
    assert "links" not in {each.key for each in raw.attributes}


async def test_metadata_that_only_looks_like_links_stays_beside_them(collector):
    with span("a", {"links": 5}) as made:
        made.add_link(THERE)
    found = (await collector.spans())["a"]
    assert (found.attributes["links"], len(found.links)) == (5, 1)


async def test_a_failure_without_an_exception_is_a_status_and_no_event(collector):
    with span("a") as made:
        made.fail("status 502")
    found = (await collector.spans())["a"]
    assert (found.status, found.status_message, found.events) == ("ERROR", "status 502", [])
    theirs = of_the_sdk(_failed)
    assert (theirs.status.status_code.name, theirs.status.description) == (
        found.status,
        found.status_message,
    )


def _failed(tracer):
    with tracer.start_as_current_span("a") as made:
        made.set_status(Status(StatusCode.ERROR, "status 502"))


class OwnError(Exception):
    pass


def raise_from():
    try:
        raise KeyError("cause")
    except KeyError as cause:
        raise OwnError("declined") from cause


def group():
    raise ExceptionGroup("several", [ValueError(1), OwnError(2)])


def noted():
    error = ValueError("with a note")
    error.add_note("look there")
    raise error


@pytest.mark.parametrize("fail", [raise_from, group, noted, lambda: 1 / 0, lambda: {}["k"]])
async def test_an_exception_says_what_the_sdk_has_it_say(collector, fail):
    with pytest.raises(Exception), span("a"):  # noqa: B017, PT011
        fail()
    found = (await collector.spans())["a"]
    (event,) = found.events

    def body(tracer):
        with pytest.raises(Exception), tracer.start_as_current_span("a"):  # noqa: B017, PT011
            fail()

    (theirs,) = of_the_sdk(body).events
    assert event.name == theirs.name == "exception"
    for key in ("exception.type", "exception.message"):
        assert event.attributes[key] == theirs.attributes[key]
    # Theirs also passes through the frames of the API's own context manager, before those that failed.
    ours, others = event.attributes["exception.stacktrace"], theirs.attributes["exception.stacktrace"]
    assert ours.splitlines()[-1] == others.splitlines()[-1]
    assert _functions(ours) == [one for one in _functions(others) if one in _functions(ours)]
    assert event.time_ns == found.end_ns


def _functions(stack):
    own = {"body", "test_an_exception_says_what_the_sdk_has_it_say", "use_span", "__exit__"}
    return [name for name in re.findall(r", in (\S+)", stack) if name not in own]


async def test_an_exception_that_is_recorded_is_an_event_and_no_status(collector):
    with span("a") as made:
        try:
            raise_from()
        except OwnError as error:
            made.record_exception(error, {"attempt": 1})
    found = (await collector.spans())["a"]
    (event,) = found.events
    assert (found.status, event.name) == ("UNSET", "exception")
    assert event.attributes["exception.type"] == f"{__name__}.OwnError"
    assert event.attributes["exception.message"] == "declined"
    assert "The above exception was the direct cause" in event.attributes["exception.stacktrace"]
    assert event.attributes["attempt"] == 1


async def test_the_limits_of_opentelemetry_hold(started, monkeypatch):
    for name, value in {
        "OTEL_SPAN_EVENT_COUNT_LIMIT": "2",
        "OTEL_SPAN_LINK_COUNT_LIMIT": "3",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "4",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "5",
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "1",
        "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    collector = await started()
    with span("a") as made:
        for number in range(1, 11):
            made.set_attribute(f"k{number}", "abcdefgh")
            made.add_event(f"e{number}", {"x": "abcdefgh", "y": 1})
            made.add_link((number, number), {"x": "abcdefgh", "y": 1})
    raw = await collector.raw("a")
    assert [event.name for event in raw.events] == ["e1", "e2"]
    assert (len(raw.links), len(raw.attributes)) == (3, 4)
    assert (raw.dropped_events_count, raw.dropped_links_count, raw.dropped_attributes_count) == (8, 7, 8)
    for part in (*raw.events, *raw.links):
        assert [(each.key, each.value.string_value) for each in part.attributes] == [("x", "abcde")]
        assert part.dropped_attributes_count == 1


async def test_limits_beyond_ours_hold_as_well(started, monkeypatch):
    for part in ("EVENT", "LINK", "ATTRIBUTE"):
        monkeypatch.setenv(f"OTEL_SPAN_{part}_COUNT_LIMIT", "2000")
    collector = await started()
    with span("a") as made:
        for number in range(1, 1501):
            made.set_attribute(f"k{number}", number)
            made.add_event("e")
            made.add_link((number, number))
    raw = await collector.raw("a")
    assert (len(raw.events), len(raw.links)) == (1500, 1500)
    assert len(raw.attributes) >= 1500
    assert (raw.dropped_events_count, raw.dropped_links_count, raw.dropped_attributes_count) == (0, 0, 0)


async def test_of_many_events_the_first_stay_and_how_it_failed(collector):
    def body(made):
        for number in range(200):
            made.add_event(f"e{number}")
        raise_from()

    with pytest.raises(OwnError):
        await Sync()(span("a"), body)
    found = await collector.raw("a")
    assert len(found.events) == 128
    assert (found.events[0].name, found.events[-1].name) == ("e0", "exception")
    assert found.dropped_events_count == 73


async def test_what_was_put_on_a_span_that_never_ends_is_sent(started):
    collector = await started(span_ttl=1.0)
    made = span("a", {"user": "u"}).__enter__()
    made.set_attribute("items", 3)
    made.add_event("e")
    made.add_link(THERE)
    found = {}
    async with asyncio.timeout(30):
        while "a" not in found:
            await asyncio.sleep(0.05)
            found = await collector.spans()
    made.__exit__(None, None, None)
    span_found = found["a"]
    assert span_found.attributes["otpylib.telemetry.incomplete"] == "ttl"
    assert span_found.attributes["items"] == 3
    assert ([event.name for event in span_found.events], len(span_found.links)) == (["e"], 1)
    assert (await quiet_stats(EXPORTER))["dropped"] == {}


async def test_a_failure_of_which_there_is_nothing_to_say_has_no_empty_attribute(collector):
    with span("a") as made:
        made.set_attribute("error.type", "502")
        made.fail("")
    found = (await collector.spans())["a"]
    assert (found.status, found.attributes["error.type"]) == ("ERROR", "502")
    assert "error" not in found.attributes


async def test_the_type_of_an_error_is_told_once(collector):
    for name, attributes in (("a", {"error.type": "KeyError"}), ("b", {})):
        with pytest.raises(KeyError), span(name, attributes):
            raise KeyError(name)
    spans = await collector.spans()
    assert spans["a"].attributes["error.type"] == "KeyError"
    assert "error_type" not in spans["a"].attributes
    assert spans["b"].attributes["error_type"] == "KeyError"
    assert [event.attributes["exception.type"] for each in spans.values() for event in each.events] == [
        "KeyError"
    ] * 2
