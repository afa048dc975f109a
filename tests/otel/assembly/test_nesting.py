"""Which trace a span belongs to, and which span is around it."""

import uuid

from otpylib_telemetry.tracing.propagation import (
    TraceParent,
    derive_trace_id,
    format_span_id,
    format_trace_id,
    format_traceparent,
)
from tests.support.assembly import CALLER, MILLISECOND, TRACE, Trace


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
        given_by_caller = format_traceparent(TRACE, CALLER, 0)
        trace.emit("a.start", traceparent=given_by_caller)
        trace.emit("a.stop")
        span = trace.one()
        assert (span.trace_id, span.parent_span_id, span.parent_is_remote) == (TRACE, CALLER, True)
        assert span.caller == TraceParent(TRACE, CALLER, 0)

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
        trace.emit("a.start", traceparent=format_traceparent(TRACE, CALLER, 0), span_id="a")
        trace.emit("b.start", parent_span_id="a")
        trace.emit("b.stop")
        assert trace.named("b").caller == TraceParent(TRACE, CALLER, 0)
        assert not trace.named("b").parent_is_remote

    def test_an_invalid_one_starts_a_trace_of_its_own_and_stays_visible(self, trace):
        trace.emit("a.success", {"duration_ms": 1}, traceparent="00-nonsense")
        span = trace.one()
        assert (span.trace_id, span.parent_span_id) == (1001, 0)
        assert span.attributes["traceparent"] == "00-nonsense"


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


def test_the_traces_that_are_open_are_told_with_their_beginning(trace):
    trace.emit("a.start", correlation_id="x", after_ms=1)
    trace.emit("b.start", correlation_id="x", after_ms=1)
    trace.emit("c.start", after_ms=1)
    trace.emit("a.stop", correlation_id="x")
    assert trace.assembler.open_traces() == {1001: 2 * MILLISECOND, 1002: 3 * MILLISECOND}
