"""What a span carries: attributes, errors, events, and what metadata mean for it."""

import sys

import opentelemetry.trace
import pytest

from otpylib_telemetry.tracing.propagation import (
    SpanContext,
    TraceParent,
    format_span_id,
    format_trace_id,
    format_traceparent,
)
from otpylib_telemetry_otel.semantics import MAX_LINKS
from otpylib_telemetry_otel.traces.out_of_order import MAX_MERGED
from otpylib_telemetry_otel.traces.spans import MAX_EVENTS
from tests.otel.test_attributes import Hostile, cyclic
from tests.support.assembly import MILLISECOND, TRACE, WALL


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
        assert "test_content.py" in details["exception.stacktrace"]

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
        assert details["exception.type"] == "tests.otel.assembly.test_content.RefusedError"
        assert details["exception.stacktrace"].endswith(
            "tests.otel.assembly.test_content.RefusedError: declined\n"
        )
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
        assert "test_content.py" in trace.one().events[0].attributes["exception.stacktrace"]

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
        # The frames nearest to it, and what it says as far as that leaves them their place.
        assert stack.count("in descend") > 3
        assert "in test_of_a_deep_stack" not in stack
        assert "\nLookupError: at the bottom xxx" in stack
        assert stack.endswith("xxx...\n")
        assert len(stack) <= 16_384

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
        # Those that found no place are done with at once: they take up no room while the span is open.
        assert (span.weight, trace.surplus) == (MAX_EVENTS - 1 + 2, 6)

    @pytest.mark.parametrize("name", ["tick", "a.start"])
    def test_a_span_holds_no_more_however_much_happens_in_it(self, trace, name):
        """Ticks find no place; starts that come again may each bring another key."""
        trace.emit("a.start", span_id="1")
        held, carried = [], []
        for number in range(5000):
            trace.emit(name, span_id="1", **{f"key.{number}": number})
            held.append(trace.assembler.held)
            carried.append(max(len(opened.value.attributes) for opened in trace.assembler.paired))
        assert max(held) <= MAX_EVENTS
        assert max(carried) <= MAX_MERGED + 2
        trace.emit("a.stop", span_id="1")
        assert trace.assembler.held == 0

    def test_many_open_spans_hold_no_more_events_together_than_they_may(self, trace):
        trace.assembler.max_held = 50
        for number in range(40):
            trace.emit("a.start", correlation_id=number)
        for number in range(40):
            for _ in range(5):
                trace.emit("tick", correlation_id=number)
        assert trace.assembler.held == 50
        trace.end_open()
        assert sum(len(span.events or ()) + span.dropped_events for span in trace.spans) == 200
        assert sum(span.weight for span in trace.spans) + trace.surplus == 240

    def test_an_end_that_found_no_place_as_an_event_is_still_the_end(self, trace):
        """It came before its start, while a span around it took no more events."""
        trace.assembler.max_held = 1
        trace.emit("around.start", correlation_id="x")
        trace.emit("a.stop", correlation_id="x")
        trace.emit("a.start", correlation_id="x")
        trace.end_open()
        assert trace.named("around").dropped_events == 0
        assert sum(span.weight for span in trace.spans) + trace.surplus == 3

    def test_an_event_is_put_on_the_span_that_its_span_id_names(self, trace):
        trace.emit("outer.start", correlation_id="x", span_id="1")
        trace.emit("inner.start", correlation_id="x", span_id="2")
        trace.emit("note", correlation_id="x", span_id="1")
        trace.emit("note", correlation_id="x", span_id="elsewhere")
        trace.end_open()
        assert [len(trace.named(name).events) for name in ("outer", "inner")] == [1, 1]


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
            TraceParent(TRACE, 9, 1),
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
