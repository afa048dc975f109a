"""The OpenTelemetry API as a source: put up, taken down, one context, one queue, one sampling."""

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from opentelemetry import _logs as logs_api
from opentelemetry import context as api_context
from opentelemetry import metrics as metrics_api
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled, is_instrumentation_enabled
from opentelemetry.metrics import Observation
from opentelemetry.trace import Link, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from otpylib import process, supervisor
from otpylib.module import SUPERVISOR, OTPModule
from otpylib.runtime.atoms import KILLED, SHUTDOWN

from otpylib_telemetry import current_span, exporter_module, otp, span, start_exporter, trace_context
from otpylib_telemetry.aggregation import observers
from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.bus import table
from otpylib_telemetry.instrument.logging import LOG_EVENT
from otpylib_telemetry.meters.views import View
from otpylib_telemetry.tracing import bridge
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.api.forwarding import MAX_WAITING, SpanForwarder
from otpylib_telemetry_otel.backend import OtelBackend
from otpylib_telemetry_otel.sdk.suppression import unobserved
from otpylib_telemetry_otel.service import SERVICE, TelemetryService, child_spec, start_telemetry_service
from otpylib_telemetry_otel.traces import api_spans
from otpylib_telemetry_prometheus import start_prometheus_exporter
from tests.support.chassis import cast, collect_events, crash, up
from tests.support.ledger import settled, stats_of
from tests.support.otlp_metrics import points_at
from tests.support.otlp_receiver import HttpStatus
from tests.support.runtime import in_process
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
EXPORTER = "otel_exporter"
W3C = TraceContextTextMapPropagator()


@pytest.fixture(autouse=True)
async def _taken_down(request):
    """No test leaves the service up for the next."""
    yield
    if "runtime" not in request.fixturenames:
        return
    await eventually(lambda: bridge.installed is None, message="the service is taken down")
    api_spans._open.clear()


@pytest.fixture
async def receiver(runtime, http_receiver):
    """A receiver, and an exporter and the service in front of it."""
    await start_otel_exporter(settings(http_receiver))
    await up(EXPORTER)
    await start_telemetry_service()
    yield http_receiver
    await stop()


def settings(http_receiver, **more):
    return {
        "endpoint": http_receiver.endpoint,
        "protocol": "http/protobuf",
        "flush_interval": 0.02,
        "service_name": "shop",
        **more,
    }


def tracer():
    return trace.get_tracer("shop.client", "1.2")


async def stop(name=SERVICE):
    pid = process.whereis(name)
    if pid is not None:
        await otp.end_quietly(pid)
        await eventually(lambda: not process.is_alive(pid))


async def stats():
    return await otp.safe_call(SERVICE, ("get_stats",))


async def exporters_view():
    return (await stats())["exporters"][EXPORTER]


async def arrived(receiver, *names):
    """The spans by name, once all of these are there; none may be there twice."""
    await eventually(lambda: {each.name for each in receiver.spans} >= set(names))
    by_name = {each.name: each for each in receiver.spans}
    assert len(by_name) == len(receiver.spans)
    return by_name


def outgoing():
    headers = {}
    W3C.inject(headers)
    return headers.get("traceparent")


# --- what arrives ------------------------------------------------------------------------------------------


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
    books = await settled(EXPORTER)
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
    books = await settled(EXPORTER)
    assert (books["exported"], books["rejected"]) == (1, 2)


# --- one context -------------------------------------------------------------------------------------------


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


async def test_a_span_that_is_open_while_it_is_taken_down_still_leaves_its_context(receiver):
    with span("shop.checkout"), tracer().start_as_current_span("pay"), span("shop.card"):
        await stop()
    assert not trace.get_current_span().get_span_context().is_valid
    with span("shop.later") as later:
        assert later.metadata["parent_span_id"] is None


# --- sampling ----------------------------------------------------------------------------------------------


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
    books = await settled(EXPORTER)
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
    await settled(EXPORTER)
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
    books = await settled(EXPORTER)
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
    books = await settled(EXPORTER)
    assert books["accepted"] == 8
    assert books["dropped"].get("queue_full", 0) + books["sampled_out"] == 8
    assert books["dropped"]["queue_full"] > 0
    await stop()


# --- life --------------------------------------------------------------------------------------------------


async def test_it_may_be_up_before_the_exporter(runtime, http_receiver):
    await start_telemetry_service()
    for number in range(MAX_WAITING + 3):
        with tracer().start_as_current_span(f"early {number}"):
            pass
    assert await exporters_view() == {
        "handed_over": 0,
        "waiting": MAX_WAITING,
        "dropped": {"no_exporter": 3},
    }
    await start_otel_exporter(settings(http_receiver, event_patterns=["shop.*"], batch_size=1000))
    await eventually(lambda: len(http_receiver.spans) == MAX_WAITING)
    assert http_receiver.spans[0].name == "early 0"
    assert (await exporters_view())["handed_over"] == MAX_WAITING
    await stop()


async def test_it_says_once_that_no_exporter_comes(runtime, caplog, monkeypatch):
    monkeypatch.setattr("otpylib_telemetry_otel.service._PATIENCE", 0.0)
    await start_telemetry_service({"exporters": ["nobody"]})
    await eventually(lambda: caplog.records)
    await asyncio.sleep(0.6)
    (told,) = [record.getMessage() for record in caplog.records]
    assert "no exporter is up under the name nobody" in told
    await stop()


async def test_taken_down_and_put_up_again(receiver):
    with tracer().start_as_current_span("first"):
        pass
    across = tracer().start_span("across")
    await stop()
    across.end()
    with tracer().start_as_current_span("meanwhile") as made:
        assert not made.is_recording()
    with span("shop.meanwhile"):
        assert outgoing() is None
    await start_telemetry_service()
    with tracer().start_as_current_span("again"):
        pass
    await arrived(receiver, "first", "shop.meanwhile", "again")
    assert {each.name for each in receiver.spans} == {"first", "shop.meanwhile", "again"}
    assert api_spans._open == {}
    assert (await stats())["provider"] == "otpylib-telemetry"


async def test_a_tracer_from_before_the_service_works_with_it(runtime, http_receiver):
    script = """
        early = trace.get_tracer("early")
        await start_otel_exporter(settings)
        with early.start_as_current_span("too early"): pass
        await start_telemetry_service()
        with early.start_as_current_span("in time"): pass
        await flush()
    """
    run(script, http_receiver)
    assert [each.name for each in http_receiver.spans] == ["in time"]


async def test_a_crash_of_the_service_costs_no_span(receiver):
    open_through_it = tracer().start_span("open")
    await crash(SERVICE)
    with tracer().start_as_current_span("meanwhile"):
        pass
    await start_telemetry_service()
    open_through_it.end()
    with tracer().start_as_current_span("after"):
        pass
    await arrived(receiver, "open", "meanwhile", "after")
    await asyncio.sleep(1.1)
    with tracer().start_as_current_span("later"):
        pass
    await arrived(receiver, "later")


async def test_a_crash_costs_neither_what_waits_nor_the_counts(runtime, http_receiver):
    await start_telemetry_service()
    with tracer().start_as_current_span("before"):
        pass
    await crash(SERVICE)
    await start_telemetry_service()
    with tracer().start_as_current_span("after"):
        pass
    assert (await exporters_view())["waiting"] == 2
    await start_otel_exporter(settings(http_receiver))
    await arrived(http_receiver, "before", "after")
    assert [each.name for each in http_receiver.spans] == ["before", "after"]
    await crash(SERVICE)
    await start_telemetry_service()
    assert (await exporters_view())["handed_over"] == 2
    await stop()


async def test_what_reaches_a_former_life_too_late_goes_to_its_heir(runtime):
    loop = asyncio.get_running_loop()
    former, successor = SpanForwarder(["nobody", "other"], loop), SpanForwarder(["nobody"], loop)
    successor.take_over(former)
    former.give("span")
    assert successor.targets[0].waiting == 1
    # The heir does not serve the other one: what comes for it still has a place, and is counted in the end.
    assert [target.waiting for target in former.targets] == [0, 1]
    former.give_up()
    assert former.targets[1].dropped == {"no_exporter": 1}


async def test_a_crash_that_nobody_makes_good_takes_it_down(receiver):
    await crash(SERVICE)
    assert bridge.installed is not None
    await eventually(lambda: bridge.installed is None)
    with tracer().start_as_current_span("too late") as made:
        assert not made.is_recording()


async def test_a_crash_of_the_exporter_costs_no_span(receiver):
    with tracer().start_as_current_span("before"):
        pass
    await crash(EXPORTER)
    with tracer().start_as_current_span("meanwhile"):
        pass
    await start_otel_exporter(settings(receiver))
    with tracer().start_as_current_span("after"):
        pass
    await arrived(receiver, "before", "meanwhile", "after")


async def test_a_change_of_endpoint_and_of_sampling_holds_for_the_api(receiver, grpc_receiver):
    with tracer().start_as_current_span("first"):
        pass
    await arrived(receiver, "first")
    in_force = collect_events("telemetry.config.applied")
    changes = {"endpoint": grpc_receiver.endpoint, "protocol": "grpc"}
    await cast(("config_changed", "telemetry.otel", None, changes), EXPORTER)
    await eventually(lambda: len(in_force) == 1)
    with tracer().start_as_current_span("second"):
        pass
    await arrived(grpc_receiver, "second")
    await cast(("config_changed", "telemetry.otel.sampling_rate", 1.0, 0.0), EXPORTER)
    await eventually(lambda: len(in_force) == 2)
    with tracer().start_as_current_span("third"):
        pass
    await eventually(lambda: stats_with(sampled_out=1))


async def stats_with(**expected):
    found = await stats_of(EXPORTER)
    return all(found[key] == value for key, value in expected.items()) and found["state"] == "running"


async def test_an_exporter_that_is_switched_off_gets_nothing_and_says_so(receiver):
    await cast(("config_changed", "telemetry.otel.enabled", True, False), EXPORTER)
    await up(EXPORTER, "disabled")
    with tracer().start_as_current_span("off"):
        pass
    assert (await exporters_view())["dropped"] == {"exporter_off": 1}
    await cast(("config_changed", "telemetry.otel.enabled", False, True), EXPORTER)
    await up(EXPORTER)
    with tracer().start_as_current_span("on"):
        pass
    await arrived(receiver, "on")
    assert (await exporters_view())["handed_over"] == 1


async def test_a_dead_receiver_holds_nobody_up_and_costs_nothing(receiver):
    receiver.script(HttpStatus(503), HttpStatus(503))
    for number in range(10):
        with tracer().start_as_current_span(f"pay {number}"):
            pass
    await eventually(lambda: len(receiver.spans) == 10, timeout=60)
    assert (await settled(EXPORTER))["exported"] == 10


async def test_several_exporters_have_each_their_own(receiver, grpc_receiver):
    name = "second_exporter"
    second = exporter_module("Second", OtelBackend, name=name, section="telemetry.second", module=__name__)
    await start_exporter(second, {"endpoint": grpc_receiver.endpoint, "flush_interval": 0.02})
    await up(name)
    await stop()
    await start_telemetry_service({"exporters": [EXPORTER, name]})
    with span("shop.checkout"), tracer().start_as_current_span("pay") as made:
        made.set_attribute("amount", 3)
    for each in (receiver, grpc_receiver):
        found = await arrived(each, "shop.checkout", "pay")
        assert found["pay"].attributes == {"amount": 3}
        assert found["pay"].parent_span_id == found["shop.checkout"].span_id


async def test_flushing_the_provider_from_a_thread_flushes_the_exporter(runtime, http_receiver):
    await start_otel_exporter(settings(http_receiver, flush_interval=3600.0))
    await up(EXPORTER)
    await start_telemetry_service()
    provider = trace.get_tracer_provider()
    with tracer().start_as_current_span("pay"):
        pass
    assert await asyncio.to_thread(provider.force_flush, 5000)
    assert [each.name for each in http_receiver.spans] == ["pay"]
    with tracer().start_as_current_span("pay again"):
        pass
    # On the loop it cannot be waited for: it is begun.
    assert not provider.force_flush(5000)
    await arrived(http_receiver, "pay", "pay again")
    await stop()
    assert provider.force_flush(5000)


async def test_shutting_the_provider_down_is_not_ours_to_obey(receiver):
    trace.get_tracer_provider().shutdown()
    with tracer().start_as_current_span("pay"):
        pass
    await arrived(receiver, "pay")


async def test_a_wrong_argument_is_refused_where_it_is_given(runtime):
    for wrong, word in (
        ({"exporter": "x"}, "no setting 'exporter'"),
        ({"exporters": "otel_exporter"}, "list of registered names"),
        ({"exporters": []}, "list of registered names"),
        ({"exporters": [3]}, "list of registered names"),
        ({"metrics": "yes"}, "metrics is true or false, got 'yes'"),
        ({"views": [3]}, "expected one of otpylib_telemetry.meters.views"),
        (["x"], "a table was expected, not list"),
    ):
        with pytest.raises(ValueError, match=word):
            await start_telemetry_service(wrong)
    with pytest.raises(ValueError, match=r"telemetry\.otel\.batch_size"):
        child_spec({"batch_size": "many"})
    with pytest.raises(ValueError, match="where the exporter is started"):
        child_spec({"batch_size": 3}, with_exporter=False)


async def test_a_wrong_argument_that_gets_in_leaves_it_idle_with_the_reason(runtime, caplog):
    await TelemetryService.start_link(init_arg={"exporters": 3}, name=SERVICE)
    found = await stats()
    assert found["state"] == "idle"
    assert "list of registered names" in found["reason"]
    assert "idle" in caplog.text
    assert bridge.installed is None
    await stop()


async def test_unknown_messages_are_counted_and_ignored(receiver):
    assert (await otp.safe_call(SERVICE, ("what",)))[0] == "error"
    await cast(("what",), SERVICE)
    await process.send(SERVICE, "what")
    await eventually(lambda: unknown(3))


async def unknown(count):
    return (await stats())["unknown_messages"] == count


# --- metrics -----------------------------------------------------------------------------------------------


def measured():
    """What is in the exporter's series: by the metric's name and the attributes the number."""
    return {
        (metric.name, *series.labels): series.value
        for metric in store_of(EXPORTER).metrics
        for series in metric.all_series()
        if metric.scope.name == "shop.client"
    }


def meter():
    return metrics_api.get_meter("shop.client", "1.2")


async def test_what_is_measured_through_the_api_is_in_the_series_of_the_exporter(receiver):
    meter().create_counter("sales", "{sale}").add(3, {"to": "x"})
    meter().create_observable_gauge("heat", [lambda _: [Observation(7)]])
    await observers.refresh(EXPORTER)
    assert measured() == {("sales", ("to", "x")): 3, ("heat",): 7}
    found = await stats()
    assert found["signals"] == {"traces": "running", "logs": "running", "metrics": "running"}
    assert found["meters"]["instruments"] >= 2
    (sales,) = (metric for metric in store_of(EXPORTER).metrics if metric.name == "sales")
    assert (sales.unit, sales.scope.version) == ("{sale}", "1.2")


async def test_what_is_measured_arrives_with_its_types_its_unit_and_its_scope(receiver):
    shop = metrics_api.get_meter("shop.arrives", "3", attributes={"team": "blue"})
    shop.create_counter("sold", "{sale}", "What was sold").add(
        3, {"to": "x", "code": 200, "first": True, "share": 0.5, "sizes": [1, 2]}
    )
    shop.create_observable_gauge("warm", [lambda _: [Observation(7)]], "Cel")
    with tracer().start_as_current_span("pay") as paying:
        shop.create_histogram("took", "s", explicit_bucket_boundaries_advisory=[1, 2]).record(2)
    assert (await otp.safe_call(EXPORTER, ("flush", 60.0), timeout=90))["left"] == 0
    points = {point.name: point for point in points_at(receiver) if point.scope[0] == "shop.arrives"}
    assert set(points) == {"sold", "warm", "took"}
    assert points["sold"].value == 3
    assert points["sold"].unit == "{sale}"
    assert points["sold"].attributes == {
        "to": "x",
        "code": 200,
        "first": True,
        "share": 0.5,
        "sizes": [1, 2],
    }
    assert (points["warm"].value, points["warm"].unit) == (7, "Cel")
    assert list(points["took"].point.bucket_counts) == [0, 1, 0]
    (exemplar,) = points["took"].point.exemplars
    assert exemplar.trace_id == paying.get_span_context().trace_id.to_bytes(16, "big")
    assert points["sold"].scope[:2] == ("shop.arrives", "3")


async def test_instruments_made_earlier_work_and_are_without_effect_while_no_service_is_there(
    runtime, http_receiver
):
    counter = meter().create_counter("early")
    counter.add(1)
    await start_otel_exporter(settings(http_receiver))
    await up(EXPORTER)
    await start_telemetry_service()
    counter.add(2)
    assert measured()[("early",)] == 2
    await stop()
    counter.add(4)
    assert measured()[("early",)] == 2
    await start_telemetry_service()
    counter.add(8)
    assert measured()[("early",)] == 10
    metrics_api.get_meter_provider().shutdown()
    counter.add(16)
    assert measured()[("early",)] == 26
    await stop()


async def test_metrics_can_be_left_out(runtime, http_receiver, monkeypatch):
    await start_otel_exporter(settings(http_receiver))
    await up(EXPORTER)
    counter = meter().create_counter("left.out")
    for argument, variable, said in (
        ({"metrics": False}, "", "off: metrics is false"),
        (None, "none", "off: OTEL_METRICS_EXPORTER is none"),
    ):
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", variable)
        await start_telemetry_service(argument)
        counter.add(1)
        assert measured() == {}
        assert (await stats())["signals"]["metrics"] == said
        assert (await stats())["signals"]["traces"] == "running"
        await stop()


async def test_views_are_the_services_and_may_be_others_next_time(runtime, http_receiver):
    await start_otel_exporter(settings(http_receiver))
    await up(EXPORTER)
    counter = meter().create_counter("viewed")
    for views, name in (([View(instrument_name="viewed", name="renamed")], "renamed"), ([], "viewed")):
        await start_telemetry_service({"views": views})
        counter.add(1)
        assert (name,) in measured()
        await stop()
    assert measured() == {("viewed",): 1}, "what is not fed any more is gone"


async def test_a_prometheus_exporter_of_another_name_is_recognised_when_it_comes_up(runtime, caplog):
    await start_telemetry_service({"exporters": ["later_exporter"]})
    counter = meter().create_counter("later.sold", "By")
    counter.add(1)
    await start_prometheus_exporter({"port": 0}, name="later")
    await eventually(lambda: "spells the names of metrics as Prometheus has them" in caplog.text)
    counter.add(2)
    (metric,) = store_of("later_exporter").metrics
    assert (metric.name, metric.all_series()[0].value) == ("later_sold_bytes_total", 2)
    await stop()


async def test_metrics_go_on_when_the_service_crashes_and_is_restarted(runtime, http_receiver):
    await start_otel_exporter(settings(http_receiver))
    await up(EXPORTER)
    await start_telemetry_service()
    counter = meter().create_counter("steady")
    counter.add(1)
    await crash(SERVICE)
    counter.add(1)
    await start_telemetry_service()
    await asyncio.sleep(1.1)  # longer than a crashed one waits for its successor
    counter.add(1)
    assert measured() == {("steady",): 3}
    await stop()


# --- supervised --------------------------------------------------------------------------------------------


async def _nothing(self, *args):
    """Do nothing."""


async def start_tree(*specs):
    async def init(self, arg):
        return (list(specs), supervisor.options())

    body = {"init": init, "terminate": _nothing}
    application = OTPModule("Application", (), body, behavior=SUPERVISOR, version="1.0.0")
    return await in_process(application.start_link, None, "application")


async def test_one_child_spec_is_the_whole_set_up(runtime, http_receiver):
    pid = await start_tree(child_spec(settings(http_receiver, flush_interval=3600.0)))
    await up(EXPORTER)
    with span("shop.checkout"), tracer().start_as_current_span("pay"):
        pass
    await process.send(pid, SHUTDOWN)
    # What had ended by then is exported.
    await arrived(http_receiver, "shop.checkout", "pay")
    await eventually(lambda: bridge.installed is None)


@pytest.mark.parametrize("reason", [KILLED, SHUTDOWN, None])
async def test_supervised_it_comes_back_whatever_ended_it_and_misses_nothing(
    runtime, http_receiver, reason, capsys
):
    pid = await start_tree(child_spec(settings(http_receiver)))
    await up(EXPORTER)
    before = process.whereis(SERVICE)
    if reason is None:
        await crash(SERVICE)
    else:
        await process.exit(before, reason)
    with tracer().start_as_current_span("meanwhile"):
        pass
    await eventually(lambda: process.whereis(SERVICE) not in {None, before})
    with tracer().start_as_current_span("after"):
        pass
    await arrived(http_receiver, "meanwhile", "after")
    await process.send(pid, SHUTDOWN)
    await eventually(lambda: bridge.installed is None)


async def test_beside_an_exporter_that_is_there_already(runtime, http_receiver):
    await start_otel_exporter(settings(http_receiver))
    pid = await start_tree(child_spec(with_exporter=False))
    with tracer().start_as_current_span("pay"):
        pass
    await arrived(http_receiver, "pay")
    await process.send(pid, SHUTDOWN)
    await eventually(lambda: bridge.installed is None)
    assert process.whereis(EXPORTER) is not None


async def test_bare_under_a_supervisor_of_otpylib(runtime, http_receiver, capsys):
    await start_otel_exporter(settings(http_receiver))
    pid = await start_tree(supervisor.child_spec(id=SERVICE, module=TelemetryService, args={}, name=SERVICE))
    before = process.whereis(SERVICE)
    await crash(SERVICE)
    await eventually(lambda: process.whereis(SERVICE) not in {None, before})
    with tracer().start_as_current_span("pay"):
        pass
    await arrived(http_receiver, "pay")
    await process.send(pid, SHUTDOWN)


# --- log records -------------------------------------------------------------------------------------------


async def test_log_records_of_the_api_become_events(receiver):
    seen = []
    table.add("records", ["log.record", "shop.*"], lambda *event: seen.append(event))
    logger = logs_api.get_logger("shop.client", "1.2")
    with tracer().start_as_current_span("pay") as made:
        logger.emit(
            LogRecord(
                timestamp=7,
                severity_text="WARN",
                severity_number=SeverityNumber.WARN,
                body="no stock",
                attributes={"shelf": "a"},
            )
        )
    logger.emit(LogRecord(event_name="shop.sold_out", body={"shelf": "a"}))
    logger.emit(LogRecord(event_name="shop.checkout.start"))
    context = made.get_span_context()
    assert seen[0] == (
        LOG_EVENT,
        {},
        {
            "shelf": "a",
            "otel.scope.name": "shop.client",
            "otel.scope.version": "1.2",
            "body": "no stock",
            "severity": "WARN",
            "severity_number": 13,
            "time_unix_nano": 7,
            "trace_id": f"{context.trace_id:032x}",
            "span_id": f"{context.span_id:016x}",
            "traceparent": f"00-{context.trace_id:032x}-{context.span_id:016x}-01",
        },
    )
    assert (seen[1][0], seen[1][2]["body"]) == ("shop.sold_out", {"shelf": "a"})
    # It is a record: no operation begins by it.
    assert (seen[2][0], seen[2][2]["event.name"]) == (LOG_EVENT, "shop.checkout.start")
    await stop()
    logger.emit(LogRecord(body="nobody hears it"))
    assert len(seen) == 3
    await start_telemetry_service()
    logger.emit(LogRecord(body="heard again"))
    assert seen[3][2]["body"] == "heard again"


async def test_a_handler_that_makes_log_records_does_not_hear_itself(receiver):
    logger = logs_api.get_logger("shop")
    seen = []

    def handle(*event):
        seen.append(event)
        logger.emit(LogRecord(body="I heard something"))

    table.add("records", [LOG_EVENT], handle)
    logger.emit(LogRecord(body="something"))
    assert len(seen) == 1


async def test_log_records_about_exporting_bring_about_no_others(receiver):
    seen = collect_events(LOG_EVENT)
    for scope in ("otpylib_telemetry", "opentelemetry.sdk.trace", "opentelemetry.exporter.otlp"):
        logs_api.get_logger(scope).emit(LogRecord(body="cannot export"))
    exporting = threading.Thread(
        name="otpylib-telemetry",
        target=logs_api.get_logger("urllib3").emit,
        args=(LogRecord(body="retrying"),),
    )
    exporting.start()
    exporting.join()
    logs_api.get_logger("opentelemetry.sdkish").emit(LogRecord(body="a word"))
    assert [metadata["body"] for _, _, metadata in seen] == ["a word"]


def test_a_logger_provider_that_takes_no_processor_is_told_of_and_left_alone(http_receiver):
    run(
        """
        from opentelemetry import _logs
        provider = _logs.NoOpLoggerProvider()
        _logs.set_logger_provider(provider)
        await start_otel_exporter(settings)
        await start_telemetry_service()
        assert _logs.get_logger_provider() is provider
        found = await stats()
        assert found["signals"]["logs"] == "the global LoggerProvider takes no processor", found
        assert found["state"] == "running", found
    """,
        http_receiver,
    )


# --- instrumentation ---------------------------------------------------------------------------------------


def test_what_exports_is_not_observed():
    def look(what, *, also):
        return what, also, is_instrumentation_enabled(), is_http_instrumentation_enabled()

    assert unobserved(look, 1, also=2) == (1, 2, False, False)
    assert is_instrumentation_enabled()
    with pytest.raises(ZeroDivisionError):
        unobserved(lambda: 1 / 0)
    assert is_http_instrumentation_enabled()


# --- in processes of their own, because a global provider is for good --------------------------------------


PRELUDE = """
import asyncio, os, sys, warnings
warnings.simplefilter("error")
from opentelemetry import trace
from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend
from otpylib_telemetry import otp, span
from otpylib_telemetry.tracing import bridge as context_bridge
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.service import start_telemetry_service
settings = {{"endpoint": {endpoint!r}, "protocol": "http/protobuf", "flush_interval": 0.05}}
async def is_up():
    while (await otp.safe_call("otel_exporter", ("get_stats",)))["state"] != "running":
        await asyncio.sleep(0.01)
async def flush():
    await is_up()
    assert (await otp.safe_call("otel_exporter", ("flush", 60.0), 15.0))["left"] == 0
async def stats(): return await otp.safe_call("telemetry_service", ("get_stats",))
async def main():
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
"""


def run(body, receiver=None, **environ):
    endpoint = None if receiver is None else receiver.endpoint
    main = textwrap.indent(textwrap.dedent(body), "    ")
    script = f"{PRELUDE.format(endpoint=endpoint)}{main}\nasyncio.run(main())\n"
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "TELEMETRY_"))}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**kept, **environ},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_importing_it_has_no_effect_and_loads_no_opentelemetry():
    code = (
        "import sys, otpylib_telemetry_otel.service as s, otpylib_telemetry.tracing.bridge as b\n"
        "assert b.installed is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr


def test_a_meter_provider_of_the_applications_own_keeps_its_metrics(http_receiver):
    done = run(
        """
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
        await start_otel_exporter(settings)
        await start_telemetry_service()
        metrics.get_meter("shop").create_counter("sales").add(1)
        said = (await stats())["signals"]
        assert said["traces"] == said["logs"] == "running", said
        assert "opentelemetry.sdk.metrics._internal.MeterProvider" in said["metrics"], said
        assert reader.get_metrics_data().resource_metrics
        """,
        http_receiver,
    )
    assert "its metrics go where that one sends them" in done.stderr


def test_a_meter_provider_for_prometheus_writes_for_the_service_as_well(http_receiver):
    run(
        """
        from opentelemetry import metrics
        from otpylib_telemetry.aggregation.exporter_stores import store_of
        from otpylib_telemetry_prometheus.meter_provider import PrometheusMeterProvider
        metrics.set_meter_provider(PrometheusMeterProvider())
        sales = metrics.get_meter("shop").create_counter("sales")
        sales.add(1)
        await start_otel_exporter(settings)
        await start_telemetry_service()
        sales.add(2)
        def seen(name):
            return [s.value for m in store_of(name).metrics for s in m.all_series() if "sales" in m.name]
        assert (seen("prometheus_exporter"), seen("otel_exporter")) == ([3], [2])
        assert (await stats())["signals"]["metrics"] == "running"
        from otpylib import process
        await otp.end_quietly(process.whereis("telemetry_service"))
        await asyncio.sleep(0.3)
        sales.add(4)
        assert (seen("prometheus_exporter"), seen("otel_exporter")) == ([7], [2])
        """,
        http_receiver,
    )


def test_a_forked_child_leaves_what_the_service_put_up_to_its_parent(http_receiver):
    run(
        """
        import os
        from opentelemetry import metrics
        from otpylib_telemetry.aggregation.exporter_stores import store_of
        await start_otel_exporter(settings)
        await start_telemetry_service()
        sales = metrics.get_meter("shop").create_counter("sales")
        sales.add(1)
        child = os.fork()
        if child == 0:
            sales.add(1)
            os._exit(len(store_of("otel_exporter").metrics))
        assert os.waitpid(child, 0)[1] == 0
        """,
        http_receiver,
    )


def test_without_the_service_the_api_is_left_alone():
    run("""
        await start_otel_exporter({"exporter": "console"})
        assert type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider"
        with span("shop.checkout"):
            assert not trace.get_current_span().get_span_context().is_valid
    """)


def test_switched_off_by_the_environment_it_installs_nothing():
    run(
        """
        await start_telemetry_service()
        found = await stats()
        assert (found["state"], found["reason"]) == ("disabled", "OTEL_SDK_DISABLED is true"), found
        assert type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider"
        assert context_bridge.installed is None
        await asyncio.sleep(0.6)
    """,
        OTEL_SDK_DISABLED="TRUE",
    )


def test_the_variables_of_the_standard_hold(http_receiver):
    run(
        """
        settings = {"flush_interval": 0.05}
        await start_otel_exporter(settings)
        await start_telemetry_service()
        with trace.get_tracer("t").start_as_current_span("pay") as made:
            made.set_attribute("word", "too long a word")
            made.set_attribute("more", 1)
        await flush()
    """,
        OTEL_EXPORTER_OTLP_ENDPOINT=http_receiver.endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_SERVICE_NAME="till",
        OTEL_RESOURCE_ATTRIBUTES="region=north",
        OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="1",
        OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT="3",
        OTEL_TRACES_SAMPLER="always_on",
    )
    (found,) = http_receiver.spans
    assert (found.resource["service.name"], found.resource["region"]) == ("till", "north")
    assert (found.attributes, found.dropped_attributes) == ({"more": 1}, 1)


def test_a_provider_of_the_application_keeps_its_own_and_gives_us_ours(http_receiver):
    run(
        """
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, ALWAYS_ON
        theirs = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False, sampler=ParentBased(ALWAYS_ON))
        provider.add_span_processor(SimpleSpanProcessor(theirs))
        trace.set_tracer_provider(provider)
        await start_otel_exporter(settings)
        tracer = trace.get_tracer("t")
        for number in (1, 2):
            await start_telemetry_service()
            assert trace.get_tracer_provider() is provider
            assert (await stats())["provider"] == "the application"
            with span("shop.checkout"), tracer.start_as_current_span(f"up {number}"): pass
            pid = otp.whereis("telemetry_service")
            await otp.end_quietly(pid)
            await asyncio.sleep(0.1)
            with tracer.start_as_current_span(f"down {number}"): pass
        await flush()
        names = [each.name for each in theirs.get_finished_spans()]
        assert names == ["up 1", "down 1", "up 2", "down 2"], names
    """,
        http_receiver,
    )
    names = [each.name for each in http_receiver.spans]
    assert sorted(names) == ["shop.checkout", "shop.checkout", "up 1", "up 2"]
    [up] = [each for each in http_receiver.spans if each.name == "up 1"]
    [around] = [each for each in http_receiver.spans if each.span_id == up.parent_span_id]
    assert (around.name, around.trace_id) == ("shop.checkout", up.trace_id)


def test_what_the_sampler_of_the_application_left_out_stays_out(http_receiver):
    run(
        """
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
        class OnlyRecord(Sampler):
            def should_sample(self, parent, trace_id, name, *rest, **more):
                keep = name == "kept"
                return SamplingResult(Decision.RECORD_AND_SAMPLE if keep else Decision.RECORD_ONLY)
            def get_description(self): return "x"
        trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False, sampler=OnlyRecord()))
        await start_otel_exporter(settings)
        await start_telemetry_service()
        for name in ("left out", "kept"):
            with trace.get_tracer("t").start_as_current_span(name): pass
        await flush()
    """,
        http_receiver,
    )
    assert [each.name for each in http_receiver.spans] == ["kept"]


def test_a_provider_that_takes_no_processor_is_named_and_our_own_spans_go_on(http_receiver):
    done = run(
        """
        import logging
        logging.basicConfig()
        trace.set_tracer_provider(trace.NoOpTracerProvider())
        await start_otel_exporter(settings)
        await start_telemetry_service()
        found = await stats()
        assert found["state"] == "idle", found
        assert "NoOpTracerProvider" in found["reason"], found
        assert context_bridge.installed is None
        with span("shop.checkout"): pass
        await flush()
    """,
        http_receiver,
    )
    assert "telemetry_service is idle" in done.stderr
    assert [each.name for each in http_receiver.spans] == ["shop.checkout"]


def test_without_opentelemetry_it_says_what_to_install():
    done = run("""
        import logging
        logging.basicConfig()
        for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
            del sys.modules[name]
        sys.modules["opentelemetry"] = None
        sys.modules["opentelemetry.context"] = None
        await start_telemetry_service()
        found = await stats()
        assert found["state"] == "idle", found
        assert "otpylib-telemetry[otel]" in found["reason"], found
    """)
    assert "pip install" in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_leaves_it_to_its_parent(http_receiver):
    run(
        """
        await start_otel_exporter(settings)
        await start_telemetry_service()
        tracer = trace.get_tracer("t")
        with tracer.start_as_current_span("parent"): pass
        warnings.simplefilter("ignore")
        child = os.fork()
        if child == 0:
            try:
                with tracer.start_as_current_span("child") as made:
                    assert not made.is_recording()
                with span("shop.child"):
                    assert context_bridge.installed is None
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        await flush()
    """,
        http_receiver,
    )
    assert [each.name for each in http_receiver.spans] == ["parent"]


def test_at_the_end_of_the_program_everything_that_had_ended_is_exported(http_receiver):
    run(
        """
        settings["flush_interval"] = 3600.0
        await start_otel_exporter(settings)
        await start_telemetry_service()
        for number in range(50):
            with trace.get_tracer("t").start_as_current_span("pay"): pass
        await is_up()
    """,
        http_receiver,
    )
    assert len(http_receiver.spans) == 50
