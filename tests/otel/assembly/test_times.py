"""When spans begin and end, also where events come twice, in another order, or not at all."""

import math
import typing

import pytest

from otpylib_telemetry.tracing.propagation import (
    format_span_id,
)
from otpylib_telemetry_otel.traces import ended as ended_module
from otpylib_telemetry_otel.traces.spans import INCOMPLETE
from tests.support.assembly import MILLISECOND, SECOND, WALL, Trace


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
        assert (span.weight, span.end_ns - span.start_ns) == (2, 5 * MILLISECOND)

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

    @pytest.mark.slow
    def test_what_is_remembered_is_bounded(self, trace):
        for number in range(ended_module.MAX_ENDED + 10):
            trace.take([("a.success", {"duration_ms": 1}, {"span_id": number}, 0, "p")])
        for number in range(ended_module.MAX_EARLY + 10):
            trace.take([("b.stop", {}, {"span_id": str(number), "correlation_id": str(number)}, 0, "p")])
            trace.take([("b.stop", {}, {"correlation_id": str(number), "request_id": number}, 0, "p")])
        assert len(trace.assembler.ended) <= ended_module.MAX_ENDED
        assert len(trace.assembler.early._by_span_id) <= ended_module.MAX_EARLY
        assert len(trace.assembler.early._by_id) <= ended_module.MAX_EARLY

    @pytest.mark.slow
    def test_the_latest_are_remembered(self, trace):
        for number in range(ended_module.MAX_ENDED * 2):
            trace.take([("a.success", {"duration_ms": 1}, {"span_id": number}, 0, "p")])
        before = len(trace.spans)
        for number in range(
            ended_module.MAX_ENDED * 2 - ended_module.MAX_ENDED // 2, ended_module.MAX_ENDED * 2
        ):
            trace.take([("a.success", {"duration_ms": 1}, {"span_id": number}, 0, "p")])
        assert len(trace.spans) == before


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
        assert [span.incomplete for span in trace.end_open()] == ["shutdown", "shutdown"]
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
