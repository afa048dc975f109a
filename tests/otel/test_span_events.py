"""What an event becomes that is emitted inside a span: an event of it, a log record, or both."""

import asyncio
import logging
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otpylib_telemetry import emit, execute, otp, span
from otpylib_telemetry.exporter.base import ExportContext
from otpylib_telemetry.instrument.logging import install, uninstall
from otpylib_telemetry.tracing.propagation import SpanContext
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.backend import OtelBackend
from otpylib_telemetry_otel.log_records.item import LogItem
from otpylib_telemetry_otel.settings.model import OtelSettings
from tests.support.chassis import cast, up
from tests.support.ledger import quiet_stats
from tests.support.waiting import eventually

EXPORTER = "otel_exporter"
START = 1_700_000_000 * 10**9
ORDER = {"correlation_id": "order-7"}
AS_EVENT = {"event", "both"}
AS_LOG = {"log", "both"}


async def start(receiver, **more):
    await start_otel_exporter(
        {"endpoint": receiver.endpoint, "flush_interval": 0.02, "metrics": False, **more}
    )
    await up(EXPORTER)


async def flushed():
    assert (await otp.safe_call(EXPORTER, ("flush", 30.0), 35.0))["left"] == 0


def records(receiver):
    return [
        record
        for request in receiver.requests
        if request.signal == "logs"
        for resource in request.message.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def ids(found):
    return found.trace_id, found.span_id


@pytest.mark.parametrize("becomes", ["event", "log", "both"])
@pytest.mark.parametrize("way", ["span", "start and stop"])
async def test_it_becomes_what_the_setting_says(runtime, http_receiver, becomes, way):
    await start(http_receiver, protocol="http/protobuf", span_events=becomes)
    if way == "span":
        with span("shop.order"):
            await emit("shop.packed", {"boxes": 2}, {"by": "ann"})
    else:
        execute("shop.order.start", {}, ORDER)
        execute("shop.packed", {"boxes": 2}, {"by": "ann", **ORDER})
        execute("shop.order.stop", {}, ORDER)
    await flushed()
    (order,) = http_receiver.spans
    assert [event.name for event in order.events] == ["shop.packed"] * (becomes in AS_EVENT)
    assert [log.event_name for log in http_receiver.logs] == ["shop.packed"] * (becomes in AS_LOG)
    for event in order.events:
        assert event.attributes.items() >= {"by": "ann", "boxes": 2}.items()
        assert order.start_ns <= event.time_ns <= order.end_ns
    for log in http_receiver.logs:
        assert ids(log) == ids(order)
        assert log.attributes.items() >= {"by": "ann", "boxes": 2}.items()
    stats = await quiet_stats(EXPORTER)
    assert (stats["accepted"], stats["exported"]) == (3, 3)


async def test_it_can_be_changed_while_running(runtime, http_receiver):
    await start(http_receiver, protocol="http/protobuf")
    with span("shop.order"):
        execute("shop.first")
        await flushed()
        for number, becomes in enumerate(("log", "both", "event")):
            await cast(("config_changed", "telemetry.otel.span_events", None, becomes), EXPORTER)
            await eventually(lambda wanted=becomes: _is(wanted))
            execute(f"shop.{becomes}{number}")
            await flushed()
    await flushed()
    (order,) = http_receiver.spans
    assert [event.name for event in order.events] == ["shop.first", "shop.both1", "shop.event2"]
    logs = [log for log in http_receiver.logs if log.event_name.startswith("shop.")]
    assert [log.event_name for log in logs] == ["shop.log0", "shop.both1"]
    assert {ids(log) for log in logs} == {ids(order)}


async def _is(wanted):
    config = await otp.safe_call(EXPORTER, ("get_config",))
    return config["config"]["span_events"] == wanted


@pytest.mark.parametrize("becomes", ["event", "log", "both"])
async def test_without_traces_it_is_a_log_record_with_the_ids(runtime, http_receiver, becomes):
    await start(http_receiver, protocol="http/protobuf", span_events=becomes, traces=False)
    install("shop")
    try:
        with span("shop.order") as order:
            told = order.metadata
            execute("shop.packed")
            logging.getLogger("shop").warning("packed")
        with span("shop.order", {"traceparent": f"00-{5:032x}-{6:016x}-03"}):
            execute("shop.packed")
    finally:
        uninstall("shop")
    await flushed()
    assert http_receiver.spans == []
    own = (told["trace_id"], told["span_id"])
    # Of the two that somebody else may tell of, the caller's span is the one to be found.
    caller = (f"{5:032x}", f"{6:016x}")
    assert sorted((log.event_name, *ids(log)) for log in http_receiver.logs) == sorted(
        [("", *own), ("shop.packed", *own), ("shop.packed", *caller)]
    )
    assert sorted(record.flags for record in records(http_receiver)) == [1, 1, 3]


@pytest.mark.parametrize("becomes", ["event", "log", "both"])
async def test_without_logs_it_is_an_event_of_the_span(runtime, http_receiver, becomes):
    await start(http_receiver, protocol="http/protobuf", span_events=becomes, logs=False)
    with span("shop.order"):
        execute("shop.packed")
    await flushed()
    assert [[event.name for event in one.events] for one in http_receiver.spans] == [["shop.packed"]]
    assert http_receiver.logs == []


async def test_what_is_emitted_under_a_caller_bears_its_ids(runtime, http_receiver):
    await start(http_receiver, protocol="http/protobuf", event_patterns=["shop.packed"])
    caller = SpanContext(f"{5:032x}", f"{6:016x}", "5")
    # Nobody listens to the operation: the place in the caller's trace is all that is known.
    with span("shop.order", {"traceparent": caller.traceparent}):
        execute("shop.packed")
    await flushed()
    (log,) = http_receiver.logs
    assert ids(log) == (caller.trace_id, caller.span_id)


async def test_what_outlives_the_span_is_a_log_record_with_its_ids(runtime, http_receiver):
    await start(http_receiver, protocol="http/protobuf")
    ended = asyncio.Event()

    async def later():
        await ended.wait()
        execute("shop.task")

    def in_thread(go):
        go.wait(30)
        execute("shop.thread")

    go = threading.Event()
    with span("shop.order") as order:
        told = order.context
        task = asyncio.ensure_future(later())
        thread = asyncio.ensure_future(asyncio.to_thread(in_thread, go))
        execute("shop.inside")
    await flushed()
    ended.set()
    go.set()
    await asyncio.gather(task, thread)
    await flushed()
    (found,) = http_receiver.spans
    assert [event.name for event in found.events] == ["shop.inside"]
    assert {(log.event_name, *ids(log)) for log in http_receiver.logs} == {
        (name, told.trace_id, told.span_id) for name in ("shop.task", "shop.thread")
    }


async def test_starts_and_stops_nest_in_the_span_around_them(runtime, http_receiver):
    await start(http_receiver, protocol="http/protobuf")
    with span("shop.order"):
        execute("shop.pack.start")
        execute("shop.taped")
        execute("shop.pack.stop")
        execute("shop.bill.stop", {"duration_ms": 1.0})
    await flushed()
    found = {one.name: one for one in http_receiver.spans}
    order = found["shop.order"]
    assert found.keys() == {"shop.order", "shop.pack", "shop.bill"}
    assert {one.trace_id for one in found.values()} == {order.trace_id}
    assert [found[name].parent_span_id for name in ("shop.pack", "shop.bill")] == [order.span_id] * 2
    assert [event.name for event in order.events] == ["shop.taped"]


# --- accounts


async def nothing():
    """Nothing to catch up with."""


def backend(**more):
    context = ExportContext(EXPORTER, "telemetry.otel", {}, nothing, dict)
    return OtelBackend(OtelSettings(endpoint="http://localhost:4317", **more), context)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["a.start", "a.stop", "a.error", "b", "c.failed", "c.start"]),
        st.sampled_from([{}, {"count": 1}, {"duration_ms": 2.0}]),
        st.fixed_dictionaries(
            {}, optional={"correlation_id": st.sampled_from("xy"), "span_id": st.just("00f067aa0ba902b7")}
        ),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["event", "log", "both"]), EVENTS), max_size=4),
    st.booleans(),
    st.booleans(),
    st.sampled_from([2, 20, 1000]),
)
def test_every_event_is_counted_once(parts, traces, logs, queue_limit):
    exporter = backend(traces=traces, logs=logs, queue_limit=queue_limit)
    counted = emitted = at_ns = 0
    for becomes, events in parts:
        exporter.settings = exporter.settings.model_copy(update={"span_events": becomes})
        raw = [(*event, at_ns + number, "p") for number, event in enumerate(events)]
        at_ns += len(raw)
        emitted += len(raw)
        counted += exporter.collect(raw, START).events()
        assert counted + exporter.held == emitted
    counted += exporter.give_up_held(START).events()
    assert (counted, exporter.held) == (emitted, 0)
    assert exporter.traces._assembler.copies == 0


def test_what_is_on_open_spans_is_bounded_also_where_it_is_a_log_record():
    exporter = backend(span_events="both", queue_limit=20)
    starts = [("a.start", {}, {"correlation_id": str(one)}, one, "p") for one in range(5)]
    exporter.collect(starts, START)
    collected = exporter.collect(
        [("b", {}, {"correlation_id": str(one % 5)}, 10 + one, "p") for one in range(100)], START
    )
    assert sum(isinstance(item, LogItem) for item, _ in collected.items) == 100
    ended = [item for item, _ in exporter.give_up_held(START).items]
    assert sum(len(one.events or ()) for one in ended) == 5
    assert sum(one.dropped_events for one in ended) == 95


def test_a_measurement_that_names_its_span_stays_on_it():
    exporter = backend(span_events="log")
    raw = [("a.start", {}, ORDER), ("b", {"count": 1}, ORDER), ("c", {}, ORDER), ("a.stop", {}, ORDER)]
    collected = exporter.collect([(*event, number, "p") for number, event in enumerate(raw)], START)
    made = [item for item, _ in collected.items]
    assert [item.name for item in made if isinstance(item, LogItem)] == ["c"]
    assert [event.name for item in made if item.name == "a" for event in item.events] == ["b"]
