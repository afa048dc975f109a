"""Whatever is in an event, it costs that event only."""

import enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpylib_telemetry.tracing.propagation import (
    format_span_id,
    format_trace_id,
    format_traceparent,
)
from tests.otel.test_attributes import Hostile, HostileKey, Nameless, cyclic
from tests.support.assembly import CALLER, MILLISECOND, TRACE, Trace


class Raising(dict):
    def get(self, *_):
        raise RuntimeError("no")

    def keys(self):
        raise RuntimeError("no")


class HalfRaising(dict):
    def __iter__(self):
        raise RuntimeError("no")

    keys = __iter__


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
    trace.end_open()
    assert trace.assembler.held == 0
    for span in trace.spans:
        span.seal()
        assert 0 <= span.start_ns <= span.end_ns < 2**64
        assert 0 < span.trace_id < 2**128
        assert 0 < span.span_id < 2**64
        assert span.parent_span_id != span.span_id
