"""What is written to the current span of the OpenTelemetry API inside ``span()``: it is ours."""

import asyncio
import threading
import time

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags, TraceState

from otpylib_telemetry import attach, span
from otpylib_telemetry_otel.api import tracer_provider
from otpylib_telemetry_otel.api.added_processors import Added
from tests.support.telemetry_service import arrived, tracer

OTHER = SpanContext(
    5, 6, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState.from_header(["shop=7"])
)


async def one(receiver, name="shop.order"):
    return (await arrived(receiver, name))[name]


async def test_attributes_events_and_links_are_those_of_our_span(receiver):
    now_ns = time.time_ns()
    with span("shop.order", {"by": "ann", "size": 1}):
        current = trace.get_current_span()
        assert current.is_recording()
        current.set_attribute("size", 2)
        current.set_attributes({"tags": ["a", "b"], "rush": True})
        current.add_event("looked", {"shelf": "a"}, now_ns + 5)
        current.add_event("found")
        current.add_link(OTHER, {"why": "x"})
    found = await one(receiver)
    assert found.attributes.items() >= {"by": "ann", "size": 2, "rush": True}.items()
    assert list(found.attributes["tags"]) == ["a", "b"]
    assert [(event.name, event.attributes) for event in found.events] == [
        ("looked", {"shelf": "a"}),
        ("found", {}),
    ]
    assert found.events[0].time_ns == now_ns + 5
    assert found.links == [(f"{5:032x}", f"{6:016x}")]
    assert found.status == "UNSET"


@pytest.mark.parametrize(
    ("said", "status", "message"),
    [
        ([(StatusCode.ERROR, "502")], "ERROR", "502"),
        ([(Status(StatusCode.ERROR, "502"), None)], "ERROR", "502"),
        ([(StatusCode.ERROR, None)], "ERROR", ""),
        ([(StatusCode.OK, None)], "OK", ""),
        ([(StatusCode.UNSET, None)], "UNSET", ""),
        ([(StatusCode.ERROR, "502"), (StatusCode.ERROR, "503")], "ERROR", "503"),
        ([(StatusCode.ERROR, "502"), (StatusCode.UNSET, None)], "ERROR", "502"),
        ([(StatusCode.ERROR, "502"), (StatusCode.OK, None)], "OK", ""),
        ([(StatusCode.OK, None), (StatusCode.ERROR, "502")], "OK", ""),
    ],
)
async def test_the_status_is_what_the_sdk_would_make_of_it(receiver, said, status, message):
    heard = []
    await attach("heard", "shop.order.*", lambda name, *_: heard.append(name))
    for begin in (lambda: span("shop.order"), lambda: tracer().start_as_current_span("theirs")):
        with begin():
            for each in said:
                trace.get_current_span().set_status(*each)
    found = await arrived(receiver, "shop.order", "theirs")
    for name in ("shop.order", "theirs"):
        assert (found[name].status, found[name].status_message) == (status, message)
        assert found[name].events == []
    assert heard == ["shop.order.start", "shop.order.error" if status == "ERROR" else "shop.order.success"]


@pytest.mark.parametrize("is_ok", [True, False])
async def test_what_is_raised_is_told_as_the_sdk_tells_it(receiver, is_ok):
    for begin in (lambda: span("shop.order"), lambda: tracer().start_as_current_span("theirs")):
        with pytest.raises(ValueError, match="no tea"), begin():
            _raise(StatusCode.OK if is_ok else StatusCode.UNSET)
    found = await arrived(receiver, "shop.order", "theirs")
    ours, theirs = found["shop.order"], found["theirs"]
    assert ours.status == theirs.status == ("OK" if is_ok else "ERROR")
    for one_of in (ours, theirs):
        (event,) = one_of.events
        assert event.name == "exception"
        assert event.attributes["exception.type"] == "ValueError"
        assert event.attributes["exception.message"] == "no tea"


def _raise(status):
    trace.get_current_span().set_status(status)
    raise ValueError("no tea")


async def test_an_exception_that_is_survived_is_an_event(receiver):
    with span("shop.order"):
        try:
            raise KeyError("tea")
        except KeyError as error:
            trace.get_current_span().record_exception(error, {"retry": 1}, escaped=True)
    found = await one(receiver)
    (event,) = found.events
    stack = event.attributes.pop("exception.stacktrace")
    assert event.attributes == {
        "exception.type": "KeyError",
        "exception.message": "'tea'",
        "exception.escaped": "True",
        "retry": 1,
    }
    assert 'raise KeyError("tea")' in stack
    assert found.status == "UNSET"


async def test_the_span_may_be_called_something_else(receiver):
    with span("shop.order"):
        trace.get_current_span().update_name("GET /order")
        assert trace.get_current_span().name == "GET /order"
    assert (await one(receiver, "GET /order")).attributes.get("span.name") is None


async def test_what_has_ended_takes_nothing(receiver):
    with span("shop.order"):
        current = trace.get_current_span()
    assert not current.is_recording()
    current.set_attribute("late", 1)
    current.set_attributes({"late": 1})
    current.add_event("late")
    current.add_link(OTHER)
    current.set_status(StatusCode.ERROR, "late")
    current.record_exception(ValueError("late"))
    current.update_name("late")
    current.end()
    found = await one(receiver)
    assert "late" not in found.attributes
    assert (found.events, found.links, found.status) == ([], [], "UNSET")


async def test_it_is_written_to_from_tasks_and_threads(receiver):
    async def in_task():
        trace.get_current_span().add_event("task")

    with span("shop.order"):
        await asyncio.gather(asyncio.create_task(in_task()), asyncio.to_thread(_note, "thread"))
        current = trace.get_current_span()
        several = [threading.Thread(target=_count, args=(current, name)) for name in "abcd"]
        for thread in several:
            thread.start()
        for thread in several:
            thread.join()
    found = await one(receiver)
    assert {event.name for event in found.events} == {"task", "thread", *"abcd"}
    assert (
        found.attributes.items()
        >= {f"{name}{number}": number for name in "abcd" for number in range(20)}.items()
    )


def _note(name):
    trace.get_current_span().add_event(name)


def _count(current, name):
    for number in range(20):
        current.set_attribute(f"{name}{number}", number)
    current.add_event(name)


async def test_it_nests_with_spans_of_the_api_in_both_directions(receiver):
    with span("outer") as outer:
        with tracer().start_as_current_span("middle"):
            trace.get_current_span().set_attribute("of", "middle")
            with span("inner"):
                trace.get_current_span().set_attribute("of", "inner")
        trace.get_current_span().set_attribute("of", "outer")
        told = outer.context
    found = await arrived(receiver, "outer", "middle", "inner")
    assert {name: each.attributes["of"] for name, each in found.items()} == {name: name for name in found}
    assert found["outer"].span_id == told.span_id
    assert found["middle"].parent_span_id == found["outer"].span_id
    assert found["inner"].parent_span_id == found["middle"].span_id
    assert {each.trace_id for each in found.values()} == {told.trace_id}


class Odd:
    def __str__(self):
        raise SystemExit("odd")

    __repr__ = __eq__ = __hash__ = __str__


async def test_nothing_is_raised_whatever_is_written(receiver):
    loop = []
    loop.append(loop)
    with span("shop.order"):
        current = trace.get_current_span()
        for odd in (None, Odd(), loop, object, b"\xff", "\ud800", float("nan"), 2**70, {1: 2}):
            current.set_attribute("odd", odd)
            current.set_attribute(odd, 1)
            current.set_attributes(odd)
            current.add_event(odd, odd, odd)
            current.add_link(odd, odd)
            current.set_status(odd, odd)
            current.record_exception(odd, odd, odd)
            current.update_name(odd)
        current.update_name("shop.order")
    assert (await one(receiver)).status == "UNSET"


class Seen(SpanProcessor):
    def __init__(self):
        self.began, self.ended = [], []

    def on_start(self, span, parent_context=None):
        span.set_attribute("seen", "yes")
        self.began.append((span.name, trace.get_current_span(parent_context).get_span_context().span_id))

    def on_end(self, span):
        self.ended.append(span)


class Broken(SpanProcessor):
    def on_start(self, span, parent_context=None):
        raise ValueError("broken")

    on_end = on_start


async def test_processors_of_our_provider_see_our_spans(receiver, monkeypatch, caplog):
    seen = Seen()
    monkeypatch.setattr(Added, "processors", (Broken(), seen))
    with span("shop.order", {"by": "ann"}):
        trace.get_current_span().add_event("looked", {"shelf": "a"})
        with pytest.raises(ValueError, match="no tea"), span("shop.pack"):
            raise ValueError("no tea")
    found = await arrived(receiver, "shop.order", "shop.pack")
    assert [one.name for one in seen.ended] == ["shop.pack", "shop.order"]
    assert seen.began == [("shop.order", 0), ("shop.pack", int(found["shop.order"].span_id, 16))]
    for theirs in seen.ended:
        ours = found[theirs.name]
        assert f"{theirs.context.trace_id:032x}" == ours.trace_id
        assert f"{theirs.context.span_id:016x}" == ours.span_id
        assert (theirs.start_time, theirs.end_time) == (ours.start_ns, ours.end_ns)
        assert dict(theirs.attributes) == ours.attributes
        assert ours.attributes["seen"] == "yes"
        assert [event.name for event in theirs.events] == [event.name for event in ours.events]
        assert theirs.status.status_code.name == ours.status
        assert theirs.resource.attributes["service.name"] == "shop"
        assert theirs.instrumentation_scope.name == ours.scope
    assert caplog.text.count("The OpenTelemetry Broken failed") == 1


def test_a_processor_added_to_our_provider_is_one_of_these(monkeypatch):
    monkeypatch.setattr(Added, "processors", ())
    provider = tracer_provider._Provider(shutdown_on_exit=False)
    seen = Seen()
    provider.add_span_processor(tracer_provider._Processor(every=True))
    provider.add_span_processor(seen)
    assert Added.processors == (seen,)
