import os
import random
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpylib_telemetry.tracing.propagation import (
    IdSource,
    TraceParent,
    derive_trace_id,
    format_span_id,
    format_trace_id,
    format_traceparent,
    new_span_id,
    new_trace_id,
    parse_span_id,
    parse_trace_id,
    parse_traceparent,
    use_ids_of,
    use_own_ids,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
ARABIC_ONE = "\u0661"  # a digit to str.isdigit and to int


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-fe", False),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
        (f"cc-{TRACE}-{SPAN}-01-what it will be like", True),
        (f" 00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00\t", False),
        (f"\t  00-{TRACE}-{SPAN}-01 \t ", True),
        # As OpenTelemetry has it.
        (f"00-{TRACE}-{SPAN}-01\n", True),
    ],
)
def test_a_valid_traceparent_is_read(text, sampled):
    assert parse_traceparent(text) == TraceParent(int(TRACE, 16), int(SPAN, 16), sampled)


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}0-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01\n\n",
        f"00-{TRACE}-{SPAN}-01{' ' * 500}",
        f"\u00a000-{TRACE}-{SPAN}-01",
        f"00- {TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-\nmore",
        f"00-{'g' * 32}-{SPAN}-01",
        f"00-{ARABIC_ONE * 32}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01".encode(),
        None,
        17,
        [],
        object(),
    ],
)
def test_an_invalid_traceparent_is_none(text):
    assert parse_traceparent(text) is None


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_what_is_written_is_read_back(trace_id, span_id, sampled):
    written = format_traceparent(trace_id, span_id, int(sampled))
    assert len(written) == 55
    assert parse_traceparent(written) == (trace_id, span_id, sampled)
    assert parse_traceparent(Text(written)) == (trace_id, span_id, sampled)
    assert parse_trace_id(format_trace_id(trace_id)) == trace_id
    assert parse_span_id(format_span_id(span_id)) == span_id
    assert parse_trace_id(trace_id) == trace_id
    assert parse_span_id(span_id) == span_id


@pytest.mark.parametrize(
    "value",
    [
        "",
        "0" * 32,
        "0" * 31,
        "g" * 32,
        " " + "1" * 31,
        "1" * 15 + "  " + "1" * 15,
        "0x" + "1" * 30,
        "+" + "1" * 31,
        "1_" * 16,
        ARABIC_ONE * 32,
        "1" * 33,
        0,
        -1,
        2**128,
        pytest.param(10**5000, id="huge"),
        True,
        1.0,
        None,
        b"1" * 32,
        [],
        object(),
    ],
)
def test_what_is_no_trace_id_is_none(value):
    assert parse_trace_id(value) is None


def test_a_trace_id_is_no_span_id():
    assert parse_span_id(TRACE) is None
    assert parse_span_id(2**64) is None
    assert parse_span_id(SPAN) == int(SPAN, 16)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.binary(), st.none(), st.lists(st.integers())))
def test_no_value_raises(value):
    assert parse_trace_id(value) is None or 0 < parse_trace_id(value) < 2**128
    assert parse_span_id(value) is None or 0 < parse_span_id(value) < 2**64
    assert parse_traceparent(value) is None


@pytest.mark.parametrize(
    ("correlation_id", "expected"),
    [
        (TRACE, int(TRACE, 16)),
        (TRACE.upper(), int(TRACE, 16)),
        # What other releases and other processes derive must not change.
        ("req-17", 0x5BAA32DE1DFDFEBD469B5B156328FC4E),
        (17, 0x87E0DAA22569B62D493F43F337043488),
        ("0" * 32, 0x662274D75EB292500E46C055934EA32E),
    ],
)
def test_a_trace_id_follows_from_a_correlation_id(correlation_id, expected):
    assert derive_trace_id(correlation_id) == expected


def test_traces_derived_from_uuids_are_spread_evenly_for_samplers():
    ids = [derive_trace_id(str(uuid.UUID(int=number * 7919, version=4))) for number in range(4000)]
    low = [trace_id & (2**64 - 1) for trace_id in ids]
    for quarter in range(4):
        share = sum(quarter * 2**62 <= value < (quarter + 1) * 2**62 for value in low) / len(low)
        assert 0.2 < share < 0.3, f"quarter {quarter}"


def test_a_number_and_its_digits_lead_to_the_same_trace():
    assert derive_trace_id(17) == derive_trace_id("17")


@given(
    st.one_of(st.text(min_size=1), st.integers(), st.just(10**5000), st.just("a\ud800"), st.uuids().map(str))
)
def test_every_correlation_id_leads_to_a_valid_trace(correlation_id):
    assert 0 < derive_trace_id(correlation_id) < 2**128
    assert derive_trace_id(correlation_id) == derive_trace_id(correlation_id)


@given(st.sets(st.text(min_size=1, max_size=8), min_size=2))
def test_different_correlation_ids_lead_to_different_traces(correlation_ids):
    assert len({derive_trace_id(one) for one in correlation_ids}) == len(correlation_ids)


def test_new_ids_are_valid_and_differ():
    traces = {new_trace_id() for _ in range(1000)}
    spans = {new_span_id() for _ in range(1000)}
    assert len(traces) == len(spans) == 1000
    assert all(0 < trace_id < 2**128 for trace_id in traces)
    assert all(0 < span_id < 2**64 for span_id in spans)


def test_seeding_the_shared_generator_does_not_repeat_ids():
    random.seed(1)
    first = new_trace_id()
    random.seed(1)
    assert new_trace_id() != first


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_process_draws_ids_of_its_own():
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writable, format_trace_id(new_trace_id()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    drawn_by_child = os.read(readable, 32).decode()
    os.close(readable)
    os.close(writable)
    assert parse_trace_id(drawn_by_child)
    assert drawn_by_child != format_trace_id(new_trace_id())


@pytest.fixture
def own_ids_again():
    used = []
    yield used.append
    for source in used:
        use_own_ids(source)


def test_ids_may_come_from_somewhere_else_until_that_ends(own_ids_again):
    source = use_ids_of(IdSource(lambda: 7, lambda: 8))
    own_ids_again(source)
    assert (new_trace_id(), new_span_id()) == (7, 8)
    use_own_ids(source)
    assert new_trace_id() != 7


def test_the_end_of_a_replaced_source_does_not_end_its_successor(own_ids_again):
    first = use_ids_of(IdSource(lambda: 1, lambda: 1))
    second = use_ids_of(IdSource(lambda: 2, lambda: 2))
    own_ids_again(second)
    use_own_ids(first)
    assert new_trace_id() == 2


def _raise():
    raise RuntimeError("no ids today")


@pytest.mark.parametrize(
    "make", [_raise, lambda: 0, lambda: -1, lambda: 1 << 128, lambda: "id", lambda: None]
)
def test_a_source_that_fails_does_not_break_the_operation(make, own_ids_again):
    own_ids_again(use_ids_of(IdSource(make, make)))
    assert 0 < new_trace_id() < 1 << 128
    assert 0 < new_span_id() < 1 << 64
