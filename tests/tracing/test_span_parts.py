"""What is put on an open span: attributes, measurements, events, links, exceptions, and that it failed."""

import asyncio
import threading

import pytest
from opentelemetry.trace import Link, SpanContext, TraceFlags, TraceState

from otpylib_telemetry import current_span, span, trace_context
from otpylib_telemetry.bus import table
from otpylib_telemetry.exporter.queue import EventQueue
from otpylib_telemetry.tracing import parts
from tests.tracing.span_forms import PARENT, Sync, every_block

TRACE, SPAN = PARENT.split("-")[1:3]


@pytest.fixture
def records():
    """The records of the operations that end, as exporters get them."""
    queue = EventQueue(10_000)
    queue.read_log(("*",))
    table.add("reader", ["*"], queue.offer, reads_log=True)
    yield lambda: [entry[0] for entry in queue.take(10_000) if type(entry) is tuple and len(entry) == 1]
    table.remove("reader")
    queue.leave_log()


@pytest.fixture(autouse=True)
def as_by_default(monkeypatch):
    """How much is kept: other tests' exporters may have asked for more."""
    for name, count in {"attributes": 1024, "events": 128, "links": 128}.items():
        monkeypatch.setattr(parts._Kept, name, count)


# --- attributes and measurements --------------------------------------------------------------------------


@every_block
async def test_an_attribute_is_in_the_metadata_of_the_end(run, events):
    def body(made):
        made.set_attribute("items", 3)
        made.set_attribute("user", "w")

    await run(span("a", {"user": "u"}), body)
    assert events.metadata("a.start")["user"] == "u"
    end = events.metadata("a.success")
    assert (end["user"], end["items"]) == ("w", 3)


async def test_attributes_and_metadata_are_one(events):
    with span("a", {"x": 0}) as made:
        made.set_attribute("x", 1)
        assert made.metadata["x"] == 1
        assert made.metadata["span_id"] == made.context.span_id
        made.metadata["y"] = 2
        made.set_attribute("z", 3)
        assert made.metadata["z"] == 3
        del made.metadata["x"]
    end = events.metadata("a.success")
    assert "x" not in end
    assert (end["y"], end["z"]) == (2, 3)


async def test_what_is_done_to_the_metadata_after_the_end_changes_nothing(records):
    with span("a") as made:
        made.metadata["x"] = 1
    made.metadata["x"] = 2
    made.set_attribute("x", 3)
    (record,) = records()
    assert record.final["x"] == 1


async def test_no_attribute_is_the_identity(events):
    with span("a") as made:
        for key in ("trace_id", "span_id", "parent_span_id", "correlation_id"):
            made.set_attribute(key, "mine")
    start, end = events.metadata("a.start"), events.metadata("a.success")
    assert start == end


async def test_measurements_are_in_the_end_and_the_last_of_a_name_counts(events):
    with span("a") as made:
        made.measure(rows=12, bytes=7)
        made.measure(rows=13)
        made.measure()
    measurements = events[1][1]
    assert measurements.pop("duration_ms") >= 0
    assert measurements == {"rows": 13, "bytes": 7}


@pytest.mark.parametrize("given", [12, 12.5, 0])
async def test_a_measured_duration_goes_before_the_time_it_took(events, records, given):
    with span("a") as made:
        made.measure(duration_ms=given)
    assert events[1][1] == {"duration_ms": given}
    assert records()[0].duration_ms == given


@pytest.mark.parametrize(
    "given", [-1, float("nan"), float("inf"), 1e300, 10**18, 10**400, "12", None, True, [1]], ids=range(10)
)
async def test_what_is_no_duration_is_left_out(events, given):
    with span("a") as made:
        made.measure(duration_ms=given)
    (duration,) = events[1][1].values()
    assert 0 <= duration < 60_000


async def test_there_is_an_end_to_attributes(records):
    with span("a") as made:
        for number in range(2000):
            made.set_attribute(f"k{number}", number)
        made.set_attribute("k0", "again")
    (record,) = records()
    assert len(record.final) == 1024
    assert record.final["k0"] == "again"
    assert record.dropped_attributes == 2000 - 1024


# --- events and links -------------------------------------------------------------------------------------


async def test_an_event_has_its_time_and_what_it_had_then(events, monkeypatch):
    now = [10**9]
    for module in ("span", "record", "parts"):
        monkeypatch.setattr(f"otpylib_telemetry.tracing.{module}.monotonic_ns", lambda: now[0])
    told = {"key": "user:1"}
    with span("a") as made:
        now[0] += 2_000_000
        made.add_event("cache.miss", told)
        told["key"] = "user:2"
        now[0] += 3_000_000
        made.add_event("retry", lambda: {"n": 1})
        made.add_event("plain")
    assert "span_events" not in events.metadata("a.start")
    assert events.metadata("a.success")["span_events"] == [
        {"name": "cache.miss", "at_ms": 2.0, "attributes": {"key": "user:1"}},
        {"name": "retry", "at_ms": 5.0, "attributes": {"n": 1}},
        {"name": "plain", "at_ms": 5.0, "attributes": {}},
    ]


async def test_there_is_an_end_to_events_and_links_and_the_rest_is_counted(records):
    with span("a") as made:
        for number in range(1, 1001):
            made.add_event("e")
            made.add_link({"trace_id": number, "span_id": number})
    (record,) = records()
    assert (len(record.happenings), record.dropped_happenings) == (128, 872)
    assert (len(record.links), record.dropped_links) == (128, 872)


async def test_an_exporter_may_have_more_kept(records):
    parts.keep_at_least(events=300)
    parts.keep_at_least(events=200)
    with span("a") as made:
        for _ in range(400):
            made.add_event("e")
    (record,) = records()
    assert (len(record.happenings), record.dropped_happenings) == (300, 100)


THERE = int(TRACE, 16), int(SPAN, 16)

LINKS = {
    "header": PARENT,
    "header with blanks": f" {PARENT}\t",
    "context of ours": current_span,
    "metadata": trace_context,
    "pair": (TRACE, SPAN),
    "table of ids": {"trace_id": TRACE, "span_id": THERE[1]},
    "context of OpenTelemetry": SpanContext(*THERE, is_remote=True, trace_flags=TraceFlags(1)),
    "link of OpenTelemetry": Link(SpanContext(*THERE, is_remote=True, trace_flags=TraceFlags(1))),
}


@pytest.mark.parametrize("which", LINKS)
async def test_a_link_is_whatever_names_a_span(events, which):
    given = LINKS[which]
    with span("there", {"traceparent": PARENT}) as there:
        expected = there.context.traceparent if callable(given) else PARENT
        if callable(given):
            given = given()
    with span("a") as made:
        made.add_link(given)
        made.add_link(given, {"why": "batch"})
    # Of the others nobody says where the span is.
    there = {"traceparent": expected, **({"is_remote": True} if "OpenTelemetry" in which else {})}
    assert events.metadata("a.success")["links"] == [there, {**there, "attributes": {"why": "batch"}}]


async def test_a_span_is_linked_to_an_open_one_by_itself(events):
    with span("there") as there, span("a") as made:
        made.add_link(there)
    start = events.metadata("there.start")
    (link,) = events.metadata("a.success")["links"]
    assert link["traceparent"] == f"00-{start['trace_id']}-{start['span_id']}-01"


async def test_a_link_keeps_flags_and_tracestate(events):
    context = SpanContext(
        *THERE, is_remote=True, trace_flags=TraceFlags(0), trace_state=TraceState([("vendor", "x")])
    )
    with span("a") as made:
        made.add_link(Link(context, {"n": 1}))
    (link,) = events.metadata("a.success")["links"]
    assert link == {
        "traceparent": f"{PARENT[:-2]}00",
        "tracestate": "vendor=x",
        "is_remote": True,
        "attributes": {"n": 1},
    }


@pytest.mark.parametrize("given", [None, 5, "", "nonsense", (1,), (0, 0), {}, {"trace_id": TRACE}, object()])
async def test_what_names_no_span_is_no_link(events, given):
    with span("a") as made:
        made.add_link(given)
    assert "links" not in events.metadata("a.success")


async def test_links_join_those_of_the_metadata(events):
    with span("a", {"links": PARENT}) as made:
        made.add_link((1, 2))
    first, second = events.metadata("a.success")["links"]
    assert first == PARENT
    assert second["traceparent"] == f"00-{1:032x}-{2:016x}-01"


# --- failing ----------------------------------------------------------------------------------------------


@every_block
async def test_a_span_may_fail_without_an_exception(run, events):
    await run(span("a", {"user": "u"}), lambda made: made.fail("status 502"))
    assert events.names == ["a.start", "a.error"]
    end = events.metadata("a.error")
    assert end["error"] == "status 502"
    assert "error_type" not in end
    assert "stacktrace" not in end


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (None, ""),
        ("", ""),
        (502, "502"),
        (ValueError("bad"), "bad"),
        (KeyError(), "KeyError"),
        (b"x", "x"),
    ],
)
async def test_whatever_the_reason_it_is_text(events, reason, said):
    with span("a") as made:
        made.fail("first")
        made.fail(reason)
    assert events.metadata("a.error")["error"] == said


async def test_an_exception_goes_before_a_reason(events):
    def body(made):
        made.fail("status 502")
        raise KeyError("k")

    with pytest.raises(KeyError):
        await Sync()(span("a"), body)
    end = events.metadata("a.error")
    assert (end["error"], end["error_type"]) == ("'k'", "KeyError")


async def test_an_exception_that_is_recorded_is_no_failure(events):
    with span("a") as made:
        try:
            raise ValueError("survived")
        except ValueError as error:
            made.record_exception(error, {"attempt": 1})
    assert events.names == ["a.start", "a.success"]
    (event,) = events.metadata("a.success")["span_events"]
    attributes = event["attributes"]
    assert event["name"] == "exception"
    assert attributes.pop("exception.stacktrace").endswith("ValueError: survived\n")
    assert attributes == {
        "exception.type": "ValueError",
        "exception.message": "survived",
        "attempt": 1,
    }


async def test_what_is_no_exception_is_recorded_as_what_it_is(events):
    with span("a") as made:
        made.record_exception("not one")
    (event,) = events.metadata("a.success")["span_events"]
    assert event["attributes"] == {"exception.type": "str", "exception.message": "not one"}


@pytest.mark.parametrize("code", [None, 0, False])
@every_block
async def test_a_clean_exit_is_a_success_and_passes(run, events, code):
    def leave(_):
        raise SystemExit(code)

    with pytest.raises(SystemExit):
        run(span("a"), leave).send(None)
    assert events.names == ["a.start", "a.success"]


@pytest.mark.parametrize("code", [1, "no config", "", True, 0.0, [], -1])
@every_block
async def test_any_other_exit_is_an_error_and_passes(run, events, code):
    def leave(_):
        raise SystemExit(code)

    with pytest.raises(SystemExit):
        run(span("a"), leave).send(None)
    assert events.names == ["a.start", "a.error"]
    assert events.metadata("a.error")["error_type"] == "SystemExit"


async def test_a_reason_stays_where_the_program_ends_well(events):
    def body(made):
        made.fail("status 502")
        raise SystemExit(0)

    with pytest.raises(SystemExit):
        Sync()(span("a"), body).send(None)
    assert events.metadata("a.error")["error"] == "status 502"


# --- when there is nothing to be put on --------------------------------------------------------------------


def put_on(made):
    made.set_attribute("k", 1)
    made.add_event("e", {"k": 1})
    made.add_link(PARENT)
    made.record_exception(ValueError("x"))
    made.measure(rows=1)
    made.fail("late")


async def test_before_the_beginning_and_after_the_end_nothing_happens(events, records):
    made = span("a")
    put_on(made)
    with made:
        pass
    put_on(made)
    assert events.names == ["a.start", "a.success"]
    assert events.metadata("a.success") == events.metadata("a.start")
    (record,) = records()
    assert record.is_plain
    assert (record.final, record.measured, record.failure) == (None, None, None)
    assert (record.happenings, record.links) == ((), ())


async def test_where_nobody_listens_nothing_happens():
    with span("a") as made:
        put_on(made)
        assert made.context is None


async def test_the_next_use_of_a_span_begins_anew(events):
    made = span("a")
    with made:
        put_on(made)
    with made:
        pass
    assert events.names == ["a.start", "a.error", "a.start", "a.success"]
    assert events[3][2] == events[2][2]


# --- many at once -----------------------------------------------------------------------------------------


async def test_threads_lose_nothing(events, records):
    with span("a") as made:

        def work(number):
            for one in range(200):
                made.set_attribute(f"k{number}.{one}", one)
                made.add_event("e")
                made.measure(**{f"m{number}": one})

        threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    (record,) = records()
    assert len(record.final) == 1000
    assert len(record.happenings) + record.dropped_happenings == 1000
    assert record.measured == {f"m{number}": 199 for number in range(5)}


async def test_other_tasks_and_threads_put_on_the_span_they_were_given(events):
    async def work(made, number):
        with span("inner") as inner:
            await asyncio.to_thread(made.set_attribute, f"k{number}", number)
            inner.set_attribute("own", number)

    async with span("a") as made, asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(work(made, number))
    end = events.metadata("a.success")
    assert [end[f"k{number}"] for number in range(10)] == [*range(10)]
    inner = [metadata for name, _, metadata in events if name == "inner.success"]
    assert {one["parent_span_id"] for one in inner} == {end["span_id"]}
    assert sorted(one["own"] for one in inner) == [*range(10)]
