import enum
import itertools
import math
import sys
import typing
import uuid

import opentelemetry.trace
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpylib_telemetry.tracing.propagation import (
    SpanContext,
    TraceParent,
    derive_trace_id,
    format_span_id,
    format_trace_id,
    format_traceparent,
)
from otpylib_telemetry_otel.semantics import MAX_LINKS
from otpylib_telemetry_otel.traces import ended as ended_module
from otpylib_telemetry_otel.traces.assembly import Assembler
from otpylib_telemetry_otel.traces.spans import INCOMPLETE, MAX_EVENTS
from tests.otel.test_attributes import Hostile, HostileKey, Nameless, cyclic

MILLISECOND = 1_000_000
SECOND = 1_000_000_000
WALL = 1_700_000_000 * SECOND
TRACE = 0x0AF7651916CD43DD8448EB211C80319C
CALLER = 0xB7AD6B7169203331


class Trace:
    """An assembler with ids 1, 2, 3 ... and a clock that stands still unless told otherwise."""

    def __init__(self, limit=1000, ttl_ns=300 * SECOND):
        self.assembler = Assembler(
            limit, ttl_ns, trace_ids=itertools.count(1001).__next__, span_ids=itertools.count(1).__next__
        )
        self.now_ns = 0
        self.wall_offset_ns = WALL
        self.spans = []
        self.accepted = self.unused = self.rejected = self.repeated = 0

    def emit(self, name, measurements=None, metadata=None, *, after_ms=0, emitter="p", **more):
        self.now_ns += int(after_ms * MILLISECOND)
        event = (name, measurements or {}, {**(metadata or {}), **more}, self.now_ns, emitter)
        return self.take([event])

    def take(self, events):
        result = self.assembler.collect(events, self.wall_offset_ns)
        self.accepted += len(events)
        self.unused += result.unused
        self.rejected += result.rejected
        self.repeated += result.repeated
        self.spans += result.spans
        self.balance()
        return result.spans

    def tick(self, after_ms=0, alive=lambda emitter: True):
        self.now_ns += int(after_ms * MILLISECOND)
        ended = self.assembler.tick(self.now_ns, alive)
        self.spans += ended
        self.balance()
        return ended

    def settle(self):
        ended = self.assembler.end_open()
        self.spans += ended
        self.balance()
        return ended

    def balance(self):
        handled = sum(span.weight for span in self.spans) + self.unused + self.rejected
        assert self.accepted == handled + self.assembler.held

    def one(self):
        assert len(self.spans) == 1
        self.spans[0].seal()
        return self.spans[0]

    def named(self, name):
        (found,) = [span for span in self.spans if span.name == name]
        return found


@pytest.fixture
def trace():
    return Trace()


class TestTimes:
    def test_a_start_and_a_stop_make_a_span_with_the_times_of_the_events(self, trace):
        trace.emit("shop.checkout.start", after_ms=5)
        trace.emit("shop.checkout.stop", after_ms=20)
        span = trace.one()
        assert (span.name, span.weight) == ("shop.checkout", 2)
        assert span.start_ns == WALL + 5 * MILLISECOND
        assert span.end_ns == WALL + 25 * MILLISECOND
        assert (span.error, span.incomplete, span.parent_span_id) == (False, None, 0)

    def test_a_wall_clock_that_is_set_meanwhile_changes_no_duration(self, trace):
        trace.emit("a.start", correlation_id="x")
        trace.wall_offset_ns -= 3600 * SECOND
        trace.emit("note", correlation_id="x", after_ms=4)
        trace.emit("a.stop", correlation_id="x", after_ms=6)
        span = trace.one()
        assert (span.start_ns, span.end_ns) == (WALL, WALL + 10 * MILLISECOND)
        assert span.events[0].at_ns == WALL + 4 * MILLISECOND

    @pytest.mark.parametrize("step", [-3600 * SECOND, 3600 * SECOND])
    def test_a_wall_clock_that_is_set_meanwhile_changes_no_order_within_a_trace(self, trace, step):
        trace.emit("outer.start", correlation_id="x", span_id=format_span_id(7))
        trace.wall_offset_ns += step
        trace.emit("inner.start", correlation_id="x", after_ms=1)
        trace.emit("query.success", {"duration_ms": 1}, correlation_id="x", after_ms=2)
        trace.emit("inner.stop", correlation_id="x", after_ms=3)
        trace.emit("outer.stop", correlation_id="x", span_id=format_span_id(7), after_ms=4)
        trace.emit("late.start", parent_span_id=format_span_id(7), after_ms=5)
        trace.emit("late.stop", after_ms=6)
        trace.emit("other.success", {"duration_ms": 0})
        times = {
            span.name: tuple((at - WALL) / MILLISECOND for at in (span.start_ns, span.end_ns))
            for span in trace.spans
        }
        assert times == {
            "outer": (0, 10),
            "inner": (1, 6),
            "query": (2, 3),
            "late": (15, 21),
            "other": (21 + step / MILLISECOND,) * 2,
        }

    @pytest.mark.parametrize(
        ("duration", "expected_ns"), [(7.5, 7_500_000), (0, 0), (3, 3_000_000), (10**12, 10**18)]
    )
    def test_a_measured_duration_decides_the_length(self, trace, duration, expected_ns):
        trace.emit("a.start")
        trace.emit("a.stop", {"duration_ms": duration}, after_ms=100)
        span = trace.one()
        assert (span.start_ns, span.end_ns - span.start_ns) == (WALL, expected_ns)

    @pytest.mark.parametrize(
        "duration",
        [-1, math.nan, math.inf, -math.inf, True, None, "5", [], 10**13, pytest.param(10**5000, id="huge")],
    )
    def test_a_duration_that_cannot_be_believed_does_not(self, trace, duration):
        trace.emit("a.start")
        trace.emit("a.stop", {"duration_ms": duration}, after_ms=100)
        span = trace.one()
        assert span.end_ns - span.start_ns == 100 * MILLISECOND

    def test_a_stop_stamped_before_its_start_makes_no_negative_length(self, trace):
        trace.take([("a.start", {}, {}, 10, "p"), ("a.stop", {}, {}, 5, "p")])
        span = trace.one()
        assert span.start_ns == span.end_ns

    def test_an_ending_without_start_is_a_span_of_the_measured_length(self, trace):
        trace.emit("a.success", {"duration_ms": 30}, after_ms=100, item="tea")
        span = trace.one()
        assert (span.name, span.weight) == ("a", 1)
        assert span.end_ns == WALL + 100 * MILLISECOND
        assert span.start_ns == WALL + 70 * MILLISECOND
        assert span.attributes == {"item": "tea", "duration_ms": 30}

    def test_an_ending_without_start_and_duration_is_unused(self, trace):
        trace.emit("a.stop")
        assert (trace.spans, trace.unused) == ([], 1)

    def test_no_time_lies_before_the_epoch(self, trace):
        trace.wall_offset_ns = 0
        trace.emit("a.success", {"duration_ms": 10**12})
        assert trace.one().start_ns == 0


class TestAttributes:
    def test_they_are_the_starts_and_the_stops_metadata_and_the_measurements(self, trace):
        trace.emit("a.start", {"queue": 3}, item="tea", state="new", correlation_id="x")
        trace.emit("a.stop", {"cups": 2, "duration_ms": 1.5}, state="done", correlation_id="x")
        assert trace.one().attributes == {
            "queue": 3,
            "item": "tea",
            "state": "done",
            "correlation_id": "x",
            "cups": 2,
            "duration_ms": 1.5,
        }

    def test_the_ids_of_the_span_are_not_repeated(self, trace):
        ids = {
            "trace_id": format_trace_id(TRACE),
            "span_id": format_span_id(7),
            "parent_span_id": format_span_id(6),
            "traceparent": format_traceparent(TRACE, 6),
        }
        trace.emit("a.start", {}, ids, correlation_id="x")
        trace.emit("a.stop", {}, ids)
        assert trace.one().attributes == {"correlation_id": "x"}

    def test_ids_of_the_applications_own_making_stay_visible(self, trace):
        trace.emit("a.start", {}, {"span_id": "order-7", "trace_id": "run-1"})
        trace.emit("a.stop", {}, {"span_id": "order-7"})
        span = trace.one()
        assert span.attributes == {"span_id": "order-7", "trace_id": "run-1"}
        assert (span.trace_id, span.span_id) == (1001, 1)

    def test_what_an_event_carries_is_not_changed(self, trace):
        started, stopped, measured = {"a": [1, "x"]}, {"b": 2}, {"c": 3}
        trace.take([("a.start", {}, started, 0, "p"), ("a.stop", measured, stopped, 0, "p")])
        trace.one()
        assert (started, stopped, measured) == ({"a": [1, "x"]}, {"b": 2}, {"c": 3})


class TestNesting:
    def test_under_one_correlation_id_the_later_is_the_child_of_the_earlier(self, trace):
        for name in ("checkout", "payment", "card"):
            trace.emit(f"{name}.start", correlation_id="x", emitter=name)
        for name in ("card", "payment", "checkout"):
            trace.emit(f"{name}.stop", correlation_id="x", emitter="anybody")
        checkout, payment, card = (trace.named(name) for name in ("checkout", "payment", "card"))
        assert len({span.trace_id for span in trace.spans}) == 1
        assert (checkout.parent_span_id, payment.parent_span_id) == (0, checkout.span_id)
        assert card.parent_span_id == payment.span_id
        assert not card.parent_is_remote

    def test_siblings_have_one_parent(self, trace):
        trace.emit("outer.start", correlation_id="x")
        for name in ("first", "second"):
            trace.emit(f"{name}.start", correlation_id="x")
            trace.emit(f"{name}.stop", correlation_id="x")
        trace.emit("outer.stop", correlation_id="x")
        outer = trace.named("outer")
        assert {trace.named(name).parent_span_id for name in ("first", "second")} == {outer.span_id}

    def test_different_correlation_ids_are_different_traces(self, trace):
        for key in ("x", "y"):
            trace.emit("a.start", correlation_id=key)
        for key in ("x", "y"):
            trace.emit("a.stop", correlation_id=key)
        assert [span.trace_id for span in trace.spans] == [1001, 1002]
        assert [span.parent_span_id for span in trace.spans] == [0, 0]

    def test_without_correlation_id_nothing_nests(self, trace):
        trace.emit("outer.start")
        trace.emit("inner.start")
        trace.emit("inner.stop")
        trace.emit("outer.stop")
        assert trace.named("inner").parent_span_id == 0
        assert trace.named("inner").trace_id != trace.named("outer").trace_id

    def test_an_ending_without_start_is_a_child_as_well(self, trace):
        trace.emit("outer.start", correlation_id="x")
        trace.emit("query.success", {"duration_ms": 1}, correlation_id="x", after_ms=5)
        trace.emit("outer.stop", correlation_id="x")
        assert trace.named("query").parent_span_id == trace.named("outer").span_id
        assert trace.named("outer").weight == 2

    def test_ids_given_in_the_metadata_are_used(self, trace):
        ids = {
            "trace_id": format_trace_id(TRACE),
            "span_id": format_span_id(7),
            "parent_span_id": format_span_id(6),
            "correlation_id": "x",
        }
        trace.emit("other.start", correlation_id="x")
        trace.emit("a.start", {}, ids)
        trace.emit("a.success", {"duration_ms": 1}, ids)
        span = trace.named("a")
        assert (span.trace_id, span.span_id, span.parent_span_id) == (TRACE, 7, 6)

    def test_an_explicit_trace_is_not_left_for_the_one_under_the_correlation_id(self, trace):
        trace.emit("other.start", correlation_id="x")
        trace.emit("a.start", correlation_id="x", trace_id=format_trace_id(TRACE))
        trace.emit("a.stop", correlation_id="x")
        span = trace.named("a")
        assert (span.trace_id, span.parent_span_id) == (TRACE, 0)

    def test_plain_events_nest_under_a_span_with_ids_of_its_own(self, trace):
        ids = {"trace_id": format_trace_id(TRACE), "span_id": format_span_id(7), "correlation_id": "x"}
        trace.emit("outer.start", {}, ids)
        trace.emit("inner.start", correlation_id="x")
        trace.emit("inner.stop", correlation_id="x")
        inner = trace.named("inner")
        assert (inner.trace_id, inner.parent_span_id) == (TRACE, 7)

    def test_a_parent_that_is_open_here_brings_its_trace(self, trace):
        trace.emit("outer.start", correlation_id="x", span_id=format_span_id(7))
        trace.emit("other.start", correlation_id="x")
        trace.emit("inner.start", parent_span_id=format_span_id(7))
        trace.emit("inner.stop")
        inner = trace.named("inner")
        assert (inner.trace_id, inner.parent_span_id, inner.parent_is_remote) == (1001, 7, False)

    def test_a_parent_that_has_ended_here_brings_its_trace(self, trace):
        trace.emit("outer.start", span_id=format_span_id(7))
        trace.emit("outer.stop", span_id=format_span_id(7))
        trace.emit("inner.success", {"duration_ms": 1}, parent_span_id=format_span_id(7))
        assert trace.named("inner").trace_id == trace.named("outer").trace_id
        assert trace.named("inner").parent_span_id == 7

    def test_a_parent_may_be_named_by_an_id_of_the_applications_own_making(self, trace):
        trace.emit("outer.start", span_id="order-7")
        trace.emit("inner.start", parent_span_id="order-7")
        trace.emit("inner.stop")
        trace.emit("outer.stop", span_id="order-7")
        outer, inner = trace.named("outer"), trace.named("inner")
        assert (inner.trace_id, inner.parent_span_id) == (outer.trace_id, outer.span_id)

    def test_an_explicit_trace_is_not_left_for_the_parents(self, trace):
        trace.emit("outer.start", span_id=format_span_id(7))
        trace.emit(
            "inner.success",
            {"duration_ms": 1},
            parent_span_id=format_span_id(7),
            trace_id=format_trace_id(TRACE),
        )
        assert (trace.named("inner").trace_id, trace.named("inner").parent_span_id) == (TRACE, 7)

    def test_operations_that_run_at_the_same_time_under_one_correlation_id_are_kept_apart_by_their_ids(
        self, trace
    ):
        trace.emit("outer.start", correlation_id="x", span_id="o")
        for key in "abc":
            trace.emit("part.start", correlation_id="x", span_id=key, parent_span_id="o", key=key)
        for key in "bca":
            trace.emit("note", correlation_id="x", span_id=key)
            trace.emit("part.stop", correlation_id="x", span_id=key, after_ms=1, ended=key)
        trace.emit("outer.stop", correlation_id="x", span_id="o")
        outer = trace.named("outer")
        parts = [span for span in trace.spans if span.name == "part"]
        assert [span.parent_span_id for span in parts] == [outer.span_id] * 3
        assert all(span.attributes["key"] == span.attributes["ended"] for span in parts)
        assert [len(span.events) for span in parts] == [1, 1, 1]

    def test_a_span_is_not_its_own_parent(self, trace):
        own = format_span_id(7)
        trace.emit("a.success", {"duration_ms": 1}, span_id=own, parent_span_id=own)
        assert trace.one().parent_span_id == 0


class TestTraceparent:
    def test_it_joins_the_callers_trace(self, trace):
        given_by_caller = format_traceparent(TRACE, CALLER, sampled=False)
        trace.emit("a.start", traceparent=given_by_caller)
        trace.emit("a.stop")
        span = trace.one()
        assert (span.trace_id, span.parent_span_id, span.parent_is_remote) == (TRACE, CALLER, True)
        assert span.caller == TraceParent(TRACE, CALLER, sampled=False)

    def test_repeated_on_nested_operations_it_does_not_flatten_them(self, trace):
        common = {"traceparent": format_traceparent(TRACE, CALLER), "correlation_id": "x"}
        for name in (
            "outer.start",
            "inner.start",
            "innermost.start",
            "innermost.stop",
            "inner.stop",
            "outer.stop",
        ):
            trace.emit(name, {}, common)
        outer, inner, innermost = (trace.named(name) for name in ("outer", "inner", "innermost"))
        assert (outer.parent_span_id, outer.parent_is_remote) == (CALLER, True)
        assert (inner.parent_span_id, inner.parent_is_remote) == (outer.span_id, False)
        assert innermost.parent_span_id == inner.span_id
        assert {span.trace_id for span in trace.spans} == {TRACE}

    def test_one_that_names_a_closer_parent_goes_before_the_correlation_id(self, trace):
        trace.emit("outer.start", correlation_id="x", traceparent=format_traceparent(TRACE, CALLER))
        trace.emit("sibling.start", correlation_id="x")
        trace.emit("a.start", correlation_id="x", traceparent=format_traceparent(TRACE, 1))
        trace.emit("a.stop", correlation_id="x")
        assert trace.named("a").parent_span_id == 1

    def test_given_together_with_the_ids_it_still_says_that_the_parent_is_elsewhere(self, trace):
        ids = {
            "trace_id": format_trace_id(TRACE),
            "span_id": format_span_id(7),
            "parent_span_id": format_span_id(CALLER),
            "traceparent": format_traceparent(TRACE, CALLER),
        }
        trace.emit("a.success", {"duration_ms": 1}, ids)
        assert trace.one().parent_is_remote

    def test_what_is_inside_knows_the_caller(self, trace):
        trace.emit("a.start", traceparent=format_traceparent(TRACE, CALLER, sampled=False), span_id="a")
        trace.emit("b.start", parent_span_id="a")
        trace.emit("b.stop")
        assert trace.named("b").caller == TraceParent(TRACE, CALLER, sampled=False)
        assert not trace.named("b").parent_is_remote

    def test_an_invalid_one_starts_a_trace_of_its_own_and_stays_visible(self, trace):
        trace.emit("a.success", {"duration_ms": 1}, traceparent="00-nonsense")
        span = trace.one()
        assert (span.trace_id, span.parent_span_id) == (1001, 0)
        assert span.attributes["traceparent"] == "00-nonsense"


class RefusedError(Exception):
    pass


class TestErrors:
    @pytest.mark.parametrize("suffix", ["error", "exception", "failed"])
    def test_an_error_ending_carries_the_message_and_an_exception_event(self, trace, suffix):
        trace.emit("a.start")
        trace.emit(f"a.{suffix}", error="card refused", error_type="PaymentError", after_ms=3)
        span = trace.one()
        assert (span.error, span.message) == (True, "card refused")
        (event,) = span.events
        assert (event.name, event.at_ns) == ("exception", span.end_ns)
        assert event.attributes == {"exception.message": "card refused", "exception.type": "PaymentError"}
        assert span.attributes == {"error": "card refused", "error_type": "PaymentError"}

    def test_an_exception_object_brings_its_type_and_stack(self, trace):
        try:
            raise LookupError("no such shelf")
        except LookupError as error:
            caught = error
        trace.emit("a.error", {"duration_ms": 1}, error=caught)
        span = trace.one()
        assert span.message == "no such shelf"
        details = span.events[0].attributes
        assert details["exception.type"] == "LookupError"
        assert "no such shelf" in details["exception.stacktrace"]
        assert "test_assembly.py" in details["exception.stacktrace"]

    def test_an_exception_beside_the_error_brings_the_same(self, trace):
        try:
            raise RefusedError("declined")
        except RefusedError as error:
            caught = error
        trace.emit("a.error", {"duration_ms": 1}, error="card refused", exception=caught)
        span = trace.one()
        assert span.message == "card refused"
        details = span.events[0].attributes
        assert details["exception.message"] == "card refused"
        assert details["exception.type"] == "tests.otel.test_assembly.RefusedError"
        assert details["exception.stacktrace"].endswith("tests.otel.test_assembly.RefusedError: declined\n")
        assert span.attributes == {"error": "card refused", "duration_ms": 1}

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("line 1\nline 2", "line 1\nline 2"),
            (["line 1", "line 2\n"], "line 1\nline 2\n"),
            (("what", "ever"), '["what", "ever"]'),
        ],
    )
    def test_a_stack_may_be_given(self, trace, given, expected):
        trace.emit("a.error", {"duration_ms": 1}, error=ValueError("x"), stacktrace=given)
        span = trace.one()
        assert span.events[0].attributes["exception.stacktrace"] == expected
        assert "stacktrace" not in span.attributes

    def test_a_traceback_is_a_stack(self, trace):
        try:
            raise LookupError
        except LookupError:
            trace.emit("a.error", {"duration_ms": 1}, error="x", stacktrace=sys.exc_info()[2])
        assert "test_assembly.py" in trace.one().events[0].attributes["exception.stacktrace"]

    def test_of_a_deep_stack_the_end_is_kept(self, trace):
        def descend(depth):
            if depth == 0:
                raise LookupError("at the bottom " + "x" * 20_000)
            descend(depth - 1)

        try:
            descend(500)
        except LookupError as error:
            trace.emit("a.error", {"duration_ms": 1}, error="x", exception=error)
        stack = trace.one().events[0].attributes["exception.stacktrace"]
        assert stack.startswith("…")
        assert stack.endswith("xxx\n")
        assert len(stack) == 16_384

    def test_the_names_of_the_semantic_conventions_are_understood_and_kept(self, trace):
        told = {
            "exception.type": "shop.Refused",
            "exception.message": "declined",
            "exception.stacktrace": "line 1",
        }
        trace.emit("a.error", {"duration_ms": 1}, told)
        span = trace.one()
        assert span.events[0].attributes == told
        assert span.attributes == {**told, "duration_ms": 1}
        assert span.message == "declined"

    @pytest.mark.parametrize("flag", [True, False])
    def test_a_mere_flag_is_no_message(self, trace, flag):
        trace.emit("a.error", {"duration_ms": 1}, error=flag, error_type="Refused")
        assert trace.one().message == "Refused"

    def test_the_description_of_the_status_may_be_given(self, trace):
        trace.emit("a.error", {"duration_ms": 1}, {"otel.status_description": "try again"}, error="E17")
        span = trace.one()
        assert (span.message, span.events[0].attributes["exception.message"]) == ("try again", "E17")
        assert "otel.status_description" not in span.attributes

    def test_without_an_error_an_exception_is_an_attribute(self, trace):
        trace.emit("a.success", {"duration_ms": 1}, exception=ValueError("harmless"), stacktrace="none")
        assert trace.one().attributes == {"exception": "harmless", "stacktrace": "none", "duration_ms": 1}

    def test_an_error_that_says_nothing_is_named_after_its_event(self, trace):
        trace.emit("a.start")
        trace.emit("a.failed")
        span = trace.one()
        assert (span.error, span.message) == (True, "a.failed")
        assert span.events[0].attributes == {"exception.message": "a.failed"}

    def test_a_type_without_message_is_the_message(self, trace):
        trace.emit("a.start")
        trace.emit("a.error", error_type="CancelledError")
        assert trace.one().message == "CancelledError"

    def test_success_has_no_error(self, trace):
        trace.emit("a.start", error="of the past")
        trace.emit("a.success")
        span = trace.one()
        assert (span.error, span.message, span.events) == (False, "", None)


class TestEventsInBetween:
    def test_an_event_with_the_correlation_id_is_put_on_the_innermost_span(self, trace):
        trace.emit("outer.start", correlation_id="x")
        trace.emit("inner.start", correlation_id="x")
        trace.emit("stock.low", {"left": 2}, correlation_id="x", item="tea", after_ms=2)
        trace.emit("inner.stop", correlation_id="x", after_ms=3)
        trace.emit("outer.stop", correlation_id="x")
        inner, outer = trace.named("inner"), trace.named("outer")
        inner.seal()
        (event,) = inner.events
        assert (event.name, event.at_ns) == ("stock.low", WALL + 2 * MILLISECOND)
        assert event.attributes == {"correlation_id": "x", "item": "tea", "left": 2}
        assert (inner.weight, outer.weight, outer.events) == (3, 2, None)

    def test_an_ending_that_ends_nothing_is_such_an_event(self, trace):
        trace.emit("a.start", correlation_id="x")
        trace.emit("payment.failed", correlation_id="x", error="refused")
        trace.emit("a.stop", correlation_id="x")
        span = trace.one()
        assert [event.name for event in span.events] == ["payment.failed"]
        assert not span.error

    def test_an_event_that_belongs_to_nothing_is_unused(self, trace):
        trace.emit("stock.low", {"left": 2})
        trace.emit("stock.low", {"left": 2}, correlation_id="nobody's")
        assert (trace.unused, trace.spans) == (2, [])

    def test_beyond_the_limit_events_are_dropped_counted_and_accounted_for(self, trace):
        trace.emit("a.start", correlation_id="x")
        for _ in range(MAX_EVENTS + 5):
            trace.emit("tick", correlation_id="x")
        trace.emit("a.error", correlation_id="x", error="at last")
        span = trace.one()
        assert len(span.events) == MAX_EVENTS
        assert span.events[-1].name == "exception"
        assert span.dropped_events == 6
        assert span.weight == MAX_EVENTS + 5 + 2

    def test_an_event_is_put_on_the_span_that_its_span_id_names(self, trace):
        trace.emit("outer.start", correlation_id="x", span_id="1")
        trace.emit("inner.start", correlation_id="x", span_id="2")
        trace.emit("note", correlation_id="x", span_id="1")
        trace.emit("note", correlation_id="x", span_id="elsewhere")
        trace.settle()
        assert [len(trace.named(name).events) for name in ("outer", "inner")] == [1, 1]


class TestRepeatedAndOutOfOrder:
    IDS: typing.ClassVar = {"span_id": format_span_id(7), "correlation_id": "x"}

    def test_an_ending_that_comes_again_makes_no_second_span(self, trace):
        trace.emit("a.start", {}, self.IDS)
        for _ in range(3):
            trace.emit("a.success", {"duration_ms": 1}, self.IDS)
        assert (len(trace.spans), trace.unused, trace.repeated) == (1, 2, 2)

    def test_a_start_that_comes_again_adds_its_metadata_to_the_open_span(self, trace):
        trace.emit("a.start", {}, self.IDS, item="tea")
        trace.emit("a.start", {"queue": 3}, self.IDS, shelf=5, after_ms=2)
        trace.emit("a.stop", {}, self.IDS, after_ms=3)
        span = trace.one()
        assert span.attributes == {"correlation_id": "x", "item": "tea", "queue": 3, "shelf": 5}
        assert (span.weight, span.end_ns - span.start_ns) == (3, 5 * MILLISECOND)

    @pytest.mark.parametrize("ids", [IDS, {"span_id": "mine"}, {"correlation_id": "x"}, {"request_id": 3}])
    @pytest.mark.parametrize("measured", [{}, {"duration_ms": 4}])
    def test_an_end_that_comes_before_its_start_makes_one_span_with_it(self, trace, ids, measured):
        trace.take(
            [
                ("a.error", measured, {**ids, "error": "no"}, 9 * MILLISECOND, "q"),
                ("a.start", {}, {**ids, "item": "tea"}, 5 * MILLISECOND, "p"),
            ]
        )
        span = trace.one()
        assert (span.end_ns - span.start_ns, span.end_ns) == (4 * MILLISECOND, WALL + 9 * MILLISECOND)
        assert (span.error, span.message, len(trace.assembler)) == (True, "no", 0)
        if not measured:
            assert span.attributes["item"] == "tea"

    @pytest.mark.parametrize("ids", [{"correlation_id": "x"}, {"request_id": 3}])
    def test_a_start_emitted_after_the_end_is_another_operation(self, trace, ids):
        trace.emit("a.failed", {}, ids)
        trace.emit("a.start", {}, ids, after_ms=1)
        assert (trace.spans, len(trace.assembler)) == ([], 1)

    def test_the_end_of_another_operation_is_not_taken_for_its_own(self, trace):
        trace.take(
            [
                ("a.failed", {}, {"correlation_id": "x"}, 5, "p"),
                ("a.failed", {}, {"correlation_id": "y"}, 9, "p"),
                ("a.start", {}, {"correlation_id": "x"}, 7, "p"),
            ]
        )
        assert (trace.spans, len(trace.assembler)) == ([], 1)

    def test_an_early_end_is_an_event_of_the_span_around_it_only_until_its_start_comes(self, trace):
        trace.emit("outer.start", correlation_id="x")
        trace.emit("inner.failed", correlation_id="x", after_ms=5, error="no")
        trace.take([("inner.start", {}, {"correlation_id": "x"}, 2 * MILLISECOND, "q")])
        trace.emit("outer.stop", correlation_id="x")
        outer, inner = trace.named("outer"), trace.named("inner")
        assert (outer.weight, outer.events, inner.weight) == (2, [], 2)
        assert (inner.parent_span_id, inner.error) == (outer.span_id, True)

    def test_an_early_end_stays_with_a_span_that_has_ended_meanwhile(self, trace):
        trace.emit("outer.start", correlation_id="x")
        trace.emit("inner.stop", correlation_id="x", after_ms=5)
        trace.emit("outer.stop", correlation_id="x")
        trace.take([("inner.start", {}, {"correlation_id": "x"}, 2 * MILLISECOND, "q")])
        outer, inner = trace.named("outer"), trace.named("inner")
        assert (outer.weight, len(outer.events), inner.weight) == (3, 1, 1)

    def test_the_end_of_a_span_that_was_given_up_makes_no_second_one(self):
        trace = Trace(limit=0)
        trace.emit("a.start", {}, self.IDS)
        trace.emit("a.success", {"duration_ms": 1}, self.IDS)
        trace.emit("a.start", {}, self.IDS)
        assert [span.incomplete for span in trace.spans] == ["evicted"]
        assert trace.repeated == 2

    def test_a_span_id_that_another_operation_uses_is_not_used_twice(self, trace):
        trace.emit("a.start", {}, self.IDS)
        trace.emit("b.start", {}, self.IDS)
        trace.emit("b.stop", {}, self.IDS)
        trace.emit("a.stop", {}, self.IDS)
        trace.emit("c.success", {"duration_ms": 1}, self.IDS)
        assert [trace.named(name).span_id for name in "abc"] == [7, 1, 2]
        trace.named("b").seal()
        assert trace.named("b").attributes["span_id"] == format_span_id(7)

    def test_what_is_remembered_is_bounded(self, trace):
        for number in range(ended_module.MAX_ENDED + 10):
            trace.take([("a.success", {"duration_ms": 1}, {"span_id": number}, 0, "p")])
        for number in range(ended_module.MAX_EARLY + 10):
            trace.take([("b.stop", {}, {"span_id": str(number), "correlation_id": str(number)}, 0, "p")])
            trace.take([("b.stop", {}, {"correlation_id": str(number), "request_id": number}, 0, "p")])
        assert len(trace.assembler._ended) <= ended_module.MAX_ENDED
        assert len(trace.assembler._early._by_span_id) <= ended_module.MAX_EARLY
        assert len(trace.assembler._early._by_id) <= ended_module.MAX_EARLY

    def test_the_latest_are_remembered(self, trace):
        for number in range(ended_module.MAX_ENDED * 2):
            trace.take([("a.success", {"duration_ms": 1}, {"span_id": number}, 0, "p")])
        before = len(trace.spans)
        for number in range(
            ended_module.MAX_ENDED * 2 - ended_module.MAX_ENDED // 2, ended_module.MAX_ENDED * 2
        ):
            trace.take([("a.success", {"duration_ms": 1}, {"span_id": number}, 0, "p")])
        assert len(trace.spans) == before


class TestTraceIdFromCorrelation:
    def test_processes_that_share_only_the_correlation_id_share_a_trace(self):
        traces = [Trace(), Trace()]
        for one in traces:
            one.assembler.trace_id_from_correlation = True
            one.emit("a.start", correlation_id="req-17")
            one.emit("b.success", {"duration_ms": 1}, correlation_id="req-17")
            one.emit("a.stop", correlation_id="req-17")
            one.emit("c.success", {"duration_ms": 1}, correlation_id="req-17")
        assert {span.trace_id for one in traces for span in one.spans} == {derive_trace_id("req-17")}
        assert traces[0].named("c").parent_span_id == 0

    def test_one_that_is_a_trace_id_is_taken_as_it_is(self, trace):
        trace.assembler.trace_id_from_correlation = True
        trace.emit("a.success", {"duration_ms": 1}, correlation_id=format_trace_id(TRACE))
        assert trace.one().trace_id == TRACE

    def test_a_uuid_and_its_text_lead_to_the_same_trace(self, trace):
        trace.assembler.trace_id_from_correlation = True
        trace.emit("a.success", {"duration_ms": 1}, correlation_id=uuid.UUID(int=TRACE))
        trace.emit("b.success", {"duration_ms": 1}, correlation_id=str(uuid.UUID(int=TRACE)))
        assert len({span.trace_id for span in trace.spans}) == 1

    def test_ids_that_are_given_go_first(self, trace):
        trace.assembler.trace_id_from_correlation = True
        trace.emit(
            "a.success", {"duration_ms": 1}, correlation_id="x", traceparent=format_traceparent(TRACE, 9)
        )
        trace.emit("b.success", {"duration_ms": 1}, correlation_id="x", trace_id=format_trace_id(TRACE))
        trace.emit("c.success", {"duration_ms": 1}, correlation_id=[])
        assert [span.trace_id for span in trace.spans] == [TRACE, TRACE, 1001]

    def test_it_is_off_unless_asked_for(self, trace):
        trace.emit("a.success", {"duration_ms": 1}, correlation_id="x")
        assert trace.one().trace_id == 1001


class Context:
    def __init__(self, trace_id, span_id):
        self.trace_id = trace_id
        self.span_id = span_id


class Link:
    def __init__(self, context, attributes):
        self.context = context
        self.attributes = attributes


class TestMeaning:
    @pytest.mark.parametrize("key", ["span.kind", "kind"])
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("server", "SERVER"),
            ("Client", "CLIENT"),
            ("PRODUCER", "PRODUCER"),
            ("SPAN_KIND_CONSUMER", "CONSUMER"),
            ("internal", "INTERNAL"),
            (opentelemetry.trace.SpanKind.SERVER, "SERVER"),
        ],
    )
    def test_the_kind_is_read(self, trace, key, given, expected):
        trace.emit("a.success", {"duration_ms": 1}, {key: given})
        span = trace.one()
        assert span.kind == expected
        assert ("span.kind" in span.attributes, "kind" in span.attributes) == (False, key == "kind")

    @pytest.mark.parametrize("given", ["", "tea", 3, True, [], Hostile, "unspecified"])
    def test_what_is_no_kind_stays_an_attribute(self, trace, given):
        trace.emit("a.success", {"duration_ms": 1}, {"span.kind": given() if given is Hostile else given})
        span = trace.one()
        assert span.kind == "INTERNAL"
        assert "span.kind" in span.attributes

    def test_the_scope_is_read(self, trace):
        trace.emit("a.start", {}, {"otel.scope.name": "shop.cart", "otel.scope.version": 2})
        trace.emit("a.stop")
        trace.emit("b.success", {"duration_ms": 1}, {"otel.scope.version": "2"})
        for span in trace.spans:
            span.seal()
        assert (trace.named("a").scope, trace.named("a").attributes) == (("shop.cart", "2"), {})
        assert (trace.named("b").scope, trace.named("b").attributes["otel.scope.version"]) == (None, "2")

    def test_the_name_is_read_when_all_pairing_is_done(self, trace):
        trace.emit("http.request.start", {}, {"span.name": "GET /orders"})
        trace.emit("http.request.stop", {}, {"span.name": "GET /orders/{id}"})
        span = trace.spans[0]
        assert span.name == "http.request"
        span.seal()
        assert (span.name, span.attributes) == ("GET /orders/{id}", {})

    @pytest.mark.parametrize("given", ["", 7, None])
    def test_a_name_that_is_no_text_is_none(self, trace, given):
        trace.emit("a.success", {"duration_ms": 1}, {"span.name": given})
        assert trace.one().name == "a"

    def test_names_of_semantic_conventions_are_kept(self, trace):
        said = {"http.request.method": "GET", "db.system.name": "postgresql", "error.type": "timeout"}
        trace.emit("a.success", {}, said)
        trace.emit("a.success", {"duration_ms": 0}, said)
        assert trace.one().attributes == {**said, "duration_ms": 0}

    @pytest.mark.parametrize(
        "link",
        [
            format_traceparent(TRACE, 9),
            (format_trace_id(TRACE), format_span_id(9)),
            (TRACE, 9),
            [TRACE, 9],
            TraceParent(TRACE, 9, sampled=True),
            {"trace_id": format_trace_id(TRACE), "span_id": 9},
            {"traceparent": format_traceparent(TRACE, 9), "attributes": {"why": "retry"}},
            SpanContext(format_trace_id(TRACE), format_span_id(9), "x"),
            opentelemetry.trace.SpanContext(TRACE, 9, is_remote=True),
            opentelemetry.trace.Link(
                opentelemetry.trace.SpanContext(TRACE, 9, is_remote=True), {"why": "retry"}
            ),
            Context(TRACE, 9),
            Link(Context(TRACE, 9), {"why": "retry"}),
        ],
    )
    def test_links_are_read(self, trace, link):
        trace.emit("a.success", {"duration_ms": 1}, links=[link])
        span = trace.one()
        assert [(one.trace_id, one.span_id) for one in span.links] == [(TRACE, 9)]
        assert span.links[0].attributes in ({}, {"why": "retry"})
        assert "links" not in span.attributes

    @pytest.mark.parametrize(
        "link", [format_traceparent(TRACE, 9), (TRACE, 9), {"trace_id": TRACE, "span_id": 9}]
    )
    def test_a_single_link_needs_no_list(self, trace, link):
        trace.emit("a.success", {"duration_ms": 1}, links=link)
        assert [(one.trace_id, one.span_id) for one in trace.one().links] == [(TRACE, 9)]

    def test_links_of_start_and_end_come_together_each_once(self, trace):
        trace.emit("a.start", links=[(TRACE, 1), (TRACE, 2)])
        trace.emit("a.stop", links=[(TRACE, 2), (TRACE, 3)])
        trace.emit("b.start", links=[(TRACE, 1)])
        trace.emit("b.stop")
        for span in trace.spans:
            span.seal()
        assert [one.span_id for one in trace.named("a").links] == [1, 2, 3]
        assert [one.span_id for one in trace.named("b").links] == [1]

    def test_absurd_links_are_left_out_and_counted(self, trace):
        absurd = [
            "x",
            None,
            7,
            (0, 1),
            (1, 2, 3, 4),
            {},
            {"traceparent": "x"},
            Hostile(),
            object(),
            [cyclic()],
        ]
        trace.emit("a.success", {"duration_ms": 1}, links=[*absurd, (TRACE, 9)])
        span = trace.one()
        assert (len(span.links), span.dropped_links) == (1, len(absurd))

    def test_too_many_links_are_counted(self, trace):
        trace.emit("a.success", {"duration_ms": 1}, links=[(TRACE, number) for number in range(1, 5001)])
        span = trace.one()
        assert (len(span.links), span.dropped_links) == (MAX_LINKS, 5000 - MAX_LINKS)

    @pytest.mark.parametrize("given", [["https://example.org"], 7, "x", []])
    def test_links_that_are_none_are_the_applications_own(self, trace, given):
        trace.emit("a.success", {"duration_ms": 1}, links=given)
        span = trace.one()
        assert (span.links, span.dropped_links) == (None, 0)
        assert "links" in span.attributes


class TestIncomplete:
    def test_a_span_whose_end_never_comes_is_ended_after_its_time(self):
        trace = Trace(ttl_ns=2 * SECOND)
        trace.emit("a.start", item="tea")
        assert trace.tick(after_ms=1999) == []
        trace.tick(after_ms=5000)
        span = trace.one()
        assert (span.incomplete, span.end_ns - span.start_ns, span.error) == ("ttl", 2 * SECOND, False)
        assert span.attributes == {"item": "tea", INCOMPLETE: "ttl"}

    def test_the_end_that_comes_too_late_ends_nothing(self):
        trace = Trace(ttl_ns=2 * SECOND)
        trace.emit("a.start")
        trace.tick(after_ms=3000)
        trace.emit("a.stop")
        assert (len(trace.spans), trace.unused) == (1, 1)

    def test_the_oldest_is_ended_when_too_many_are_open(self):
        trace = Trace(limit=2)
        for number in range(3):
            trace.emit("a.start", number=number, after_ms=1)
        span = trace.one()
        assert (span.incomplete, span.attributes["number"]) == ("evicted", 0)
        assert span.end_ns - span.start_ns == 2 * MILLISECOND
        assert len(trace.assembler) == 2

    def test_a_span_ends_with_its_emitter(self, trace):
        trace.emit("a.start", correlation_id="x", emitter="dead")
        trace.emit("note", correlation_id="x", emitter="alive")
        trace.emit("b.start", emitter="alive")
        trace.tick(after_ms=700, alive=lambda emitter: emitter == "alive")
        span = trace.one()
        assert (span.name, span.incomplete, span.weight) == ("a", "emitter_died", 2)
        assert span.end_ns - span.start_ns == 700 * MILLISECOND

    def test_what_is_open_at_the_end_is_ended_at_the_latest_time_heard_of(self, trace):
        trace.emit("a.start")
        trace.emit("b.start", after_ms=5)
        trace.tick(after_ms=5)
        assert [span.incomplete for span in trace.settle()] == ["shutdown", "shutdown"]
        assert trace.named("a").end_ns == trace.named("b").end_ns == WALL + 10 * MILLISECOND
        assert (trace.assembler.held, len(trace.assembler)) == (0, 0)

    def test_limits_can_be_changed_on_the_way(self, trace):
        for _ in range(5):
            trace.emit("a.start")
        trace.assembler.limit = 3
        assert len(trace.emit("a.start")) == 3
        trace.assembler.ttl_ns = 1
        assert len(trace.tick(after_ms=1)) == 3

    def test_the_mark_is_there_whatever_else_is_dropped(self):
        trace = Trace(limit=0)
        trace.emit("a.start", {}, {f"key{number}": number for number in range(500)})
        span = trace.one()
        assert span.attributes[INCOMPLETE] == "evicted"
        assert span.dropped_attributes == 500 - 128


class Raising(dict):
    def get(self, *_):
        raise RuntimeError("no")

    def keys(self):
        raise RuntimeError("no")


class HalfRaising(dict):
    def __iter__(self):
        raise RuntimeError("no")

    keys = __iter__


def test_the_traces_that_are_open_are_told_with_their_beginning(trace):
    trace.emit("a.start", correlation_id="x", after_ms=1)
    trace.emit("b.start", correlation_id="x", after_ms=1)
    trace.emit("c.start", after_ms=1)
    trace.emit("a.stop", correlation_id="x")
    assert trace.assembler.open_traces() == {1001: 2 * MILLISECOND, 1002: 3 * MILLISECOND}


class TestAbsurdities:
    def test_an_event_that_cannot_be_used_costs_that_event_only(self, trace):
        trace.take(
            [
                ("a.start", {}, {}, 0, "p"),
                ("b.start", {}, Raising(), 0, "p"),
                ("b.start", {}, {}, 0, []),
                (None, {}, {}, 0, "p"),
                ("a.stop", {}, {}, 0, "p"),
            ]
        )
        assert (trace.rejected, len(trace.spans), len(trace.assembler)) == (2, 1, 1)

    def test_an_ending_that_breaks_half_way_takes_its_start_along_and_both_are_counted(self, trace):
        trace.emit("a.start", correlation_id="x")
        trace.emit("note", correlation_id="x")

        trace.take([("a.stop", HalfRaising(), {"correlation_id": "x"}, 0, "p")])
        assert (trace.spans, trace.rejected, trace.assembler.held) == ([], 3, 0)

    @pytest.mark.parametrize("error", [SystemExit, GeneratorExit])
    def test_not_even_an_exception_that_ends_a_program_gets_out_of_an_event(self, trace, error):
        class Ending(dict):
            def get(self, *_):
                raise error

        trace.take([("a.start", {}, Ending(), 0, "p")])
        assert trace.rejected == 1

    def test_a_hostile_duration_is_no_duration(self, trace):
        trace.emit("a.start")
        trace.emit("a.stop", {"duration_ms": Hostile()}, after_ms=4)
        span = trace.one()
        assert span.end_ns - span.start_ns == 4 * MILLISECOND

    @pytest.mark.parametrize("name", ["", "x" * 100_000, "a\ud800", "\0", "ü"])
    def test_any_name_becomes_one_that_can_be_exported(self, trace, name):
        trace.emit(f"{name}.part.start")
        trace.emit(f"{name}.part.stop")
        span = trace.one()
        assert span.name.encode("utf-8")
        assert len(span.name) <= 1024


class Odd(enum.Enum):
    """Stands for a value that would break the test's own tools."""

    HUGE = enum.auto()
    HOSTILE = enum.auto()
    NAMELESS = enum.auto()
    CYCLIC = enum.auto()
    EXCEPTION = enum.auto()
    KEY = enum.auto()


MAKERS = {
    Odd.HUGE: lambda: 10**5000,
    Odd.HOSTILE: Hostile,
    Odd.NAMELESS: Nameless,
    Odd.CYCLIC: cyclic,
    Odd.EXCEPTION: lambda: Exception(Hostile()),
    Odd.KEY: HostileKey,
}


def made(table):
    def make(value):
        return MAKERS[value]() if type(value) is Odd else value

    return {make(key): make(value) for key, value in table.items()}


odd_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["x", "y", format_trace_id(TRACE), format_span_id(7), format_traceparent(TRACE, CALLER)]),
    st.sampled_from(Odd),
)
MEANINGS = ["links", "span.kind", "kind", "span.name", "otel.scope.name", "exception", "stacktrace"]
IDS = ["trace_id", "span_id", "parent_span_id", "traceparent", "correlation_id", "request_id"]
odd_tables = st.dictionaries(
    st.one_of(
        st.sampled_from([*IDS, *MEANINGS, "error", "error_type", "duration_ms", Odd.KEY]),
        st.text(max_size=3),
        st.integers(),
    ),
    odd_values,
    max_size=5,
)
odd_events = st.tuples(
    st.sampled_from(["a.start", "a.stop", "a.error", "b.start", "b.failed", "note", "", ".", "start"]),
    odd_tables,
    odd_tables,
    st.integers(0, 10**12),
    st.sampled_from(["p", "q", 7]),
)


@given(st.lists(odd_events, max_size=30), st.integers(0, 4))
def test_whatever_comes_every_event_is_accounted_for_once(events, limit):
    trace = Trace(limit=limit, ttl_ns=10**9)
    events = [(name, made(measured), made(metadata), *rest) for name, measured, metadata, *rest in events]
    middle = len(events) // 2
    trace.take(events[:middle])
    trace.tick(alive=lambda emitter: emitter != "q")
    trace.take(events[middle:])
    trace.settle()
    assert trace.assembler.held == 0
    for span in trace.spans:
        span.seal()
        assert 0 <= span.start_ns <= span.end_ns < 2**64
        assert 0 < span.trace_id < 2**128
        assert 0 < span.span_id < 2**64
        assert span.parent_span_id != span.span_id
