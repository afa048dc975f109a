"""Spans of the OpenTelemetry API: what arrives, one context with ours, one sampling."""

import asyncio
import threading

import pytest
from opentelemetry import baggage, propagate, trace
from opentelemetry import context as api_context
from opentelemetry.trace import Link, SpanKind, StatusCode, TraceFlags

from otpylib_telemetry import current_span, extract, inject, span, trace_context
from otpylib_telemetry.bus import table
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.service import start_telemetry_service
from otpylib_telemetry_otel.traces import api_spans
from tests.support.chassis import cast, up
from tests.support.ledger import quiet_stats
from tests.support.telemetry_service import (
    EXPORTER,
    W3C,
    arrived,
    exporters_view,
    outgoing,
    settings,
    stop,
    tracer,
)
from tests.support.waiting import eventually


async def test_a_span_of_the_api_arrives_as_it_was_made(receiver):
    other = trace.SpanContext(3, 4, is_remote=False)
    with tracer().start_as_current_span(
        "GET /stock", kind=SpanKind.CLIENT, attributes={"http.status": 200}, links=[Link(other, {"why": "x"})]
    ) as made:
        made.set_attribute("sizes", [1, 2])
        made.set_attribute("trace_id", "a word of the application's")
        made.set_attribute("traceparent", "so is this")
        made.add_event("looked", {"shelf": "a"})
        made.set_status(StatusCode.OK)
    found = (await arrived(receiver, "GET /stock"))["GET /stock"]
    context = made.get_span_context()
    assert (found.trace_id, found.span_id) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert found.parent_span_id == ""
    assert (found.kind, found.status) == ("CLIENT", "OK")
    assert found.attributes == {
        "http.status": 200,
        "sizes": [1, 2],
        "trace_id": "a word of the application's",
        "traceparent": "so is this",
    }
    assert [(event.name, event.attributes) for event in found.events] == [("looked", {"shelf": "a"})]
    assert found.links == [(f"{3:032x}", f"{4:016x}")]
    assert (found.start_ns, found.end_ns) == (made.start_time, made.end_time)
    assert (found.scope, found.scope_version) == ("shop.client", "1.2")
    assert found.resource["service.name"] == "shop"


async def test_an_exception_is_told_as_the_api_tells_it(receiver):
    with pytest.raises(ValueError, match="no stock"), tracer().start_as_current_span("GET /stock"):
        raise ValueError("no stock")
    found = (await arrived(receiver, "GET /stock"))["GET /stock"]
    assert (found.status, found.status_message) == ("ERROR", "ValueError: no stock")
    assert found.events[0].attributes["exception.type"] == "ValueError"


async def test_what_otlp_cannot_carry_does_not_cost_the_span(receiver):
    with tracer().start_as_current_span("GET /stock") as made:
        made.set_attribute("huge", 2**70)
        made.add_event("e", {"huge": [2**70]})
    found = (await arrived(receiver, "GET /stock"))["GET /stock"]
    assert found.attributes == {"huge": str(2**70)}


async def test_the_state_of_a_trace_is_carried_on(receiver):
    caller = {"traceparent": f"00-{5:032x}-{6:016x}-01", "tracestate": "shop=7"}
    with tracer().start_as_current_span("GET /stock", context=W3C.extract(caller)):
        assert outgoing().startswith(f"00-{5:032x}-")
        with span("shop.look"):
            headers = {}
            W3C.inject(headers)
            assert headers["tracestate"] == "shop=7"
    found = await arrived(receiver, "GET /stock", "shop.look")
    assert found["GET /stock"].trace_state == "shop=7"
    assert found["GET /stock"].parent_span_id == f"{6:016x}"
    assert found["GET /stock"].flags & 0x200
    assert "tracestate" not in found["GET /stock"].attributes


async def test_spans_of_other_threads_arrive(receiver):
    def work(number):
        with tracer().start_as_current_span(f"thread {number}"):
            pass

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    await eventually(lambda: len(receiver.spans) == 5)
    for thread in threads:
        thread.join()


async def test_each_span_is_one_event_in_the_books(receiver):
    with span("shop.checkout"):
        for _ in range(20):
            with tracer().start_as_current_span("GET /stock"):
                pass
    await eventually(lambda: len(receiver.spans) == 21)
    books = await quiet_stats(EXPORTER)
    assert (books["accepted"], books["exported"], books["finished_spans"]) == (22, 22, 21)
    assert (await exporters_view()) == {"handed_over": 20, "waiting": 0, "dropped": {}}


async def test_nobody_but_the_exporter_sees_the_spans(receiver):
    seen = []
    table.add("everything", ["*"], lambda *event: seen.append(event[0]))
    with tracer().start_as_current_span("GET /stock"):
        pass
    await arrived(receiver, "GET /stock")
    assert seen == []


async def test_an_event_that_somebody_made_up_is_rejected(receiver):
    await cast(("telemetry", api_spans.EVENT, {}, {"span": "none"}), EXPORTER)
    await cast(("telemetry", api_spans.EVENT, {}, {}), EXPORTER)
    with tracer().start_as_current_span("GET /stock"):
        pass
    await arrived(receiver, "GET /stock")
    books = await quiet_stats(EXPORTER)
    assert (books["exported"], books["rejected"]) == (1, 2)


async def test_spans_of_both_kinds_nest_in_each_other(receiver):
    with span("shop.checkout"):
        with tracer().start_as_current_span("pay"):
            with span("shop.card"), tracer().start_as_current_span("POST"):
                pass
            with span("shop.receipt"):
                pass
        with tracer().start_as_current_span("notify"):
            pass
    found = await arrived(receiver, "shop.checkout", "pay", "shop.card", "POST", "shop.receipt", "notify")
    assert len({each.trace_id for each in found.values()}) == 1
    above = {"pay": "shop.checkout", "shop.card": "pay", "POST": "shop.card", "shop.receipt": "pay"}
    above["notify"] = "shop.checkout"
    for name, parent in above.items():
        assert found[name].parent_span_id == found[parent].span_id
        assert not found[name].flags & 0x200
    assert found["shop.checkout"].parent_span_id == ""


async def test_a_header_is_that_of_the_innermost_span(receiver):
    assert outgoing() is None
    async with span("shop.checkout") as ours:
        assert outgoing() == ours.context.traceparent == trace_context()["traceparent"]
        with tracer().start_as_current_span("pay") as theirs:
            context = theirs.get_span_context()
            expected = f"00-{context.trace_id:032x}-{context.span_id:016x}"
            assert outgoing().startswith(expected)
            assert trace_context()["traceparent"] == f"{expected}-01"
            assert trace_context()["correlation_id"] == ours.context.correlation_id
        assert outgoing() == ours.context.traceparent
    assert outgoing() is None
    assert current_span() is None


async def test_what_is_handed_on_from_a_span_of_the_api_joins_its_trace(receiver):
    with tracer().start_as_current_span("GET /") as theirs:
        handed_on = trace_context()
    assert handed_on["correlation_id"] == f"{theirs.get_span_context().trace_id:032x}"
    with span("shop.work", handed_on):
        pass
    found = await arrived(receiver, "GET /", "shop.work")
    assert found["shop.work"].parent_span_id == found["GET /"].span_id


async def test_a_caller_that_does_not_record_is_passed_on(receiver):
    with span("shop.checkout", {"traceparent": f"00-{5:032x}-{6:016x}-00"}):
        assert outgoing().endswith("-00")
        with tracer().start_as_current_span("pay"):
            assert outgoing().endswith("-00")
            with span("shop.card"):
                assert outgoing().endswith("-00")
    found = await arrived(receiver, "shop.checkout", "pay", "shop.card")
    assert {each.trace_id for each in found.values()} == {f"{5:032x}"}


async def test_tasks_of_a_span_keep_to_it_and_not_to_each_other(receiver):
    async def work(number):
        with tracer().start_as_current_span(f"pay {number}"):
            await asyncio.sleep(0)
            async with span(f"shop.card{number}"):
                await asyncio.sleep(0)

    async with span("shop.checkout"):
        await asyncio.gather(*(work(number) for number in range(3)))
    names = [f"{name}{number}" for name in ("pay ", "shop.card") for number in range(3)]
    found = await arrived(receiver, "shop.checkout", *names)
    for number in range(3):
        assert found[f"shop.card{number}"].parent_span_id == found[f"pay {number}"].span_id
        assert found[f"pay {number}"].parent_span_id == found["shop.checkout"].span_id


async def test_a_span_that_ends_in_another_context_leaves_no_trace_and_no_complaint(receiver, caplog):
    here = span("shop.checkout")
    await asyncio.create_task(enter(here))
    here.__exit__(None, None, None)
    assert current_span() is None
    assert outgoing() is None
    outer, inner = span("shop.outer"), span("shop.inner")
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert outgoing() == inner.context.traceparent
    inner.__exit__(None, None, None)
    assert outgoing() is None
    assert caplog.records == []


async def enter(manager):
    manager.__enter__()


async def test_what_came_with_a_request_is_there_for_both(runtime, http_receiver):
    """Flags, state and baggage: in spans of ours and of the API, below each other, and in what goes out."""
    state, ids = "vendor=abc,other=1", (f"{5:032x}", f"{6:016x}")
    came = {
        "traceparent": f"00-{ids[0]}-{ids[1]}-03",
        "tracestate": state,
        "baggage": "user=ada;p=1,plan=gold",
    }
    await start_otel_exporter(settings(http_receiver))
    await start_telemetry_service()
    await up(EXPORTER)

    # The SDK's spans keep no flag that it does not know.
    flags = {"ours": 3, "api": 3 if hasattr(TraceFlags, "RANDOM_TRACE_ID") else 1}

    def both(outermost="ours"):
        ours, theirs = {}, {}
        inject(ours)
        propagate.inject(theirs)
        assert ours["traceparent"] == theirs["traceparent"]
        assert int(ours["traceparent"][-2:], 16) == flags[outermost]
        assert ours["tracestate"] == theirs["tracestate"] == state
        return ours["baggage"]

    with extract(came):
        assert both() == came["baggage"]
        with tracer().start_as_current_span("api.first"), span("ours.below"):
            assert both("api") == came["baggage"]
        token = api_context.attach(baggage.remove_baggage("plan"))
        with span("ours.first"):
            assert both() == "user=ada;p=1"
            with tracer().start_as_current_span("api.below"):
                assert baggage.get_baggage("user") == "ada;p=1"
                inner = api_context.attach(baggage.set_baggage("step", "two words"))
                assert both("api") == "user=ada;p=1,step=two%20words"
                api_context.detach(inner)
        api_context.detach(token)
    assert outgoing() is None
    await eventually(lambda: len(http_receiver.spans) == 4)
    await stop()
    spans = {one.name: one for one in http_receiver.spans}
    assert {one.trace_state for one in spans.values()} == {state}
    assert {one.trace_id for one in spans.values()} == {ids[0]}
    # Flags that say no more than that the trace is recorded are not sent.
    assert {name: one.flags & 0xFF for name, one in spans.items()} == {
        "ours.first": 3,
        **dict.fromkeys(["api.below", "api.first", "ours.below"], flags["api"] & 2 and 3),
    }
    assert spans["api.first"].parent_span_id == spans["ours.first"].parent_span_id == ids[1]
    assert spans["ours.below"].parent_span_id == spans["api.first"].span_id
    assert spans["api.below"].parent_span_id == spans["ours.first"].span_id


async def test_nobody_listening_means_that_the_context_is_left_alone(runtime):
    await start_telemetry_service()
    before = api_context.get_current()
    with span("shop.checkout"):
        assert api_context.get_current() is before
    await stop()


async def test_a_span_that_was_open_before_keeps_its_children(runtime, http_receiver):
    await start_otel_exporter(settings(http_receiver))
    await up(EXPORTER)
    with span("shop.checkout") as outer:
        await start_telemetry_service()
        with span("shop.card") as inner:
            assert inner.metadata["parent_span_id"] == outer.context.span_id
            assert outgoing() == inner.context.traceparent
        await stop()
    await arrived(http_receiver, "shop.checkout", "shop.card")


async def test_a_span_that_is_open_while_it_is_uninstalled_still_leaves_its_context(receiver):
    with span("shop.checkout"), tracer().start_as_current_span("pay"), span("shop.card"):
        await stop()
    assert not trace.get_current_span().get_span_context().is_valid
    with span("shop.later") as later:
        assert later.metadata["parent_span_id"] is None


async def sampled(runtime, http_receiver, **more):
    await start_otel_exporter(settings(http_receiver, sampling_wait=0.05, **more))
    await up(EXPORTER)
    await start_telemetry_service()


async def test_a_trace_is_sampled_whole_whoever_made_its_spans(runtime, http_receiver):
    await sampled(runtime, http_receiver, sampling_rate=0.5, always_keep_errors=False)
    for number in range(60):
        with (
            span("shop.checkout", {"number": number}),
            tracer().start_as_current_span("pay"),
            span("shop.card"),
        ):
            pass
    books = await quiet_stats(EXPORTER)
    assert books["accepted"] == 60 * 5
    traces = {}
    for each in http_receiver.spans:
        traces.setdefault(each.trace_id, []).append(each)
    assert 0 < len(traces) < 60
    assert {len(spans) for spans in traces.values()} == {3}
    assert {each.attributes["sampling.weight"] for each in http_receiver.spans} == {2.0}
    assert books["sampled_out"] == 60 * 5 - 5 * len(traces)
    await stop()


async def test_an_error_below_keeps_the_spans_of_the_api_above(runtime, http_receiver):
    await sampled(runtime, http_receiver, sampling_rate=0.0)
    with tracer().start_as_current_span("GET /"):
        with span("shop.well"):
            pass
        # Long enough for the trace to be decided about, if it were taken to be over.
        await asyncio.sleep(0.2)
        with pytest.raises(ValueError, match="no card"), span("shop.card"):
            raise ValueError("no card")
    with tracer().start_as_current_span("GET /well"):
        pass
    await quiet_stats(EXPORTER)
    assert {each.name for each in http_receiver.spans} == {"GET /", "shop.well", "shop.card"}
    await stop()


async def test_an_error_that_the_api_tells_keeps_our_spans(runtime, http_receiver):
    await sampled(runtime, http_receiver, sampling_rate=0.0)
    with span("shop.checkout"), tracer().start_as_current_span("pay") as made:
        made.set_status(StatusCode.ERROR, "declined")
    found = await arrived(http_receiver, "shop.checkout", "pay")
    assert (found["pay"].status_message, found["shop.checkout"].status) == ("declined", "UNSET")
    await stop()


async def test_the_callers_decision_counts_where_it_is_to(runtime, http_receiver):
    await sampled(runtime, http_receiver, sampling_parent_based=True)
    for flag in ("00", "01"):
        caller = W3C.extract({"traceparent": f"00-{5 + int(flag):032x}-{6:016x}-{flag}"})
        with tracer().start_as_current_span(f"GET {flag}", context=caller):
            pass
    books = await quiet_stats(EXPORTER)
    assert [each.name for each in http_receiver.spans] == ["GET 01"]
    assert books["sampled_out"] == 1
    await stop()


def test_spans_that_never_come_through_a_queue_are_not_waited_for_for_ever(monkeypatch):
    now = [0]
    monkeypatch.setattr(api_spans.time, "monotonic_ns", lambda: now[0])
    monkeypatch.setattr(api_spans, "_open", {})
    for number in (1, 2, 3):
        now[0] = number
        api_spans.began(number, 7)
    assert api_spans.with_open_traces({7: 2, 8: 5}) == {7: 1, 8: 5}
    api_spans.ended(1, queued=True)
    api_spans.ended(2, queued=False)
    assert api_spans.with_open_traces({}) == {7: 1}
    now[0] = 4 * 10**9
    assert api_spans.with_open_traces({}) == {7: 3}
    api_spans.ended(3, queued=False)
    api_spans.ended(3, queued=True)
    assert api_spans.with_open_traces({8: 5}) == {8: 5}


def test_only_so_many_open_spans_are_known(monkeypatch):
    now = [0]
    monkeypatch.setattr(api_spans.time, "monotonic_ns", lambda: now[0])
    monkeypatch.setattr(api_spans, "_open", {})
    monkeypatch.setattr(api_spans._Seen, "full_until_ns", -1)
    for number in range(1, 10_010):
        api_spans.began(number, number)
        api_spans.ended(number, queued=True)
    assert len(api_spans._open) == 10_000
    now[0] = 10 * 10**9
    api_spans.began(20_000, 20_000)
    assert api_spans.with_open_traces({}) == {20_000: now[0]}


async def test_a_full_queue_is_counted_and_no_trace_waits_for_what_it_refused(runtime, http_receiver):
    # Not what the exporter says of its drops, which is an event as well.
    patterns = ["shop.*"]
    await sampled(
        runtime, http_receiver, sampling_rate=0.0, queue_limit=5, batch_size=1000, event_patterns=patterns
    )
    for number in range(8):
        with tracer().start_as_current_span(f"pay {number}"):
            pass
    books = await quiet_stats(EXPORTER)
    assert books["accepted"] == 8
    assert books["dropped"].get("queue_full", 0) + books["sampled_out"] == 8
    assert books["dropped"]["queue_full"] > 0
    await stop()
