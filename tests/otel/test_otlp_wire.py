"""What is written as bytes is what OpenTelemetry's generated classes write of the same item."""

import itertools
import math
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource

from otpylib_telemetry_otel.log_records.item import LogItem
from otpylib_telemetry_otel.otlp import encoder, wire
from otpylib_telemetry_otel.otlp.logs import LogEncoder
from otpylib_telemetry_otel.otlp.spans import SpanEncoder
from otpylib_telemetry_otel.semantics import SpanLink
from otpylib_telemetry_otel.traces.api_spans import ApiSpan
from otpylib_telemetry_otel.traces.spans import FinishedSpan, Scope, SpanEvent
from tests.support.absurd import MaliciousStr, UnprintableError
from tests.support.examples import examples

#: Mostly what an application has, so that much is taken out of what is kept; and what no application should.
WORDS = st.sampled_from(["", "a", "GET", "/orders", "é", "🎈", "x" * 125, "x" * 126, "x" * 128, "y" * 20_000])
TEXT = st.one_of(WORDS, st.text(max_size=20), st.text(min_size=100, max_size=140))
SURROGATES = st.sampled_from(["\ud800", "ab\udfff", "caf\udce9"])
INTEGERS = st.one_of(
    st.integers(-3, 200),
    st.sampled_from([2047, 2048, 2**14, 2**18 - 1, 2**18, 2**32, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1]),
    st.integers(-(2**70), 2**70),
)
SCALARS = st.one_of(TEXT, SURROGATES, INTEGERS, st.booleans(), st.floats(), st.binary(max_size=5), st.none())


class Text(str):
    """Text all the same."""

    __slots__ = ()


#: Made anew each time, because hypothesis looks values up, at which some of these raise SystemExit.
ODD = st.sampled_from(
    [lambda: ValueError("x"), UnprintableError, lambda: object, lambda: Text("a"), lambda: MaliciousStr("a")]
).map(lambda make: make())
VALUES = st.recursive(
    st.one_of(SCALARS, ODD),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(TEXT, INTEGERS), inner, max_size=3),
    ),
    max_leaves=5,
)
KEYS = st.one_of(TEXT, TEXT, SURROGATES, INTEGERS, st.none(), st.binary(max_size=3), st.just(Text("a")))
ATTRIBUTES = st.dictionaries(KEYS, VALUES, max_size=5)


def mostly(common, *odd):
    """What is common, and once in a while what is not."""
    return st.one_of(*[common] * 8, st.sampled_from(odd))


TIMES = mostly(st.integers(0, 2**64 - 1), -1, 2**64, "now", None, 1.5)
IDS = mostly(st.integers(1, 2**64 - 1), 0, -1, 2**64, "id", None)
TRACE_IDS = mostly(st.integers(1, 2**128 - 1), 0, -1, 2**128, "id", None)
COUNTS = mostly(st.one_of(st.just(0), st.integers(0, 2**32 - 1)), -1, 2**32, "many", 0.5)
TEXTS = mostly(TEXT, "\ud800", 5)
NAMES = mostly(TEXT, "\ud800", None, 5, b"bytes", b"\xff")


@st.composite
def spans(draw):
    """A span with anything in it, fit to be one or not."""
    kind = draw(st.sampled_from([FinishedSpan, FinishedSpan, ApiSpan]))
    span = kind(
        draw(NAMES),
        draw(TRACE_IDS),
        draw(IDS),
        draw(st.one_of(st.just(0), IDS)),
        None,
        draw(TIMES),
        draw(ATTRIBUTES),
        parent_is_remote=draw(st.booleans()),
        end_ns=draw(TIMES),
        error=draw(st.booleans()),
        message=draw(NAMES),
        kind=draw(mostly(st.sampled_from(["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]), "", [])),
        dropped_events=draw(COUNTS),
        dropped_attributes=draw(COUNTS),
        dropped_links=draw(COUNTS),
    )
    span.events = draw(
        st.one_of(st.none(), st.lists(st.builds(SpanEvent, NAMES, TIMES, ATTRIBUTES, COUNTS), max_size=2))
    )
    link = st.builds(SpanLink, TRACE_IDS, IDS, ATTRIBUTES, COUNTS, NAMES, st.booleans())
    span.links = draw(st.one_of(st.none(), st.lists(link, max_size=2)))
    span.tracestate = draw(st.one_of(st.just(""), TEXTS))
    span.flags = draw(st.sampled_from([0, 0, 2, 3, 255]))
    if kind is ApiSpan:
        span.ok = draw(st.booleans())
    return span


LOGS = st.builds(
    LogItem,
    NAMES,
    TIMES,
    TIMES,
    mostly(st.integers(0, 24), 127, 128, -1, 2**31, None),
    NAMES,
    VALUES,
    ATTRIBUTES,
    COUNTS,
    TRACE_IDS,
    IDS,
    COUNTS,
)


def by_class(encoder_type, item):
    """What the generated class makes of an item, or None if it refuses."""
    message = encoder_type.of_item()
    try:
        encoder_type.fill_item(message, item)
    except (Exception, SystemExit):
        return None
    # Not compared as messages: NaN is not equal to itself.
    return message.SerializeToString(deterministic=True)


def by_hand(encoder_type, item):
    """What we write of an item, read and written by the generated class; None if it is refused."""
    try:
        written = encoder_type.encode_item(item)
    except (Exception, SystemExit):
        return None
    return encoder_type.of_item.FromString(written).SerializeToString(deterministic=True)


def both_ways(encoder_type, item):
    """Both; the second time out of what is kept."""
    expected = by_class(encoder_type, item)
    for _ in range(2):
        written = by_hand(encoder_type, item)
        # What is not written by hand, the generated class may take.
        assert written in {expected, None}
    return expected, written


@settings(deadline=None, max_examples=examples(150))
@given(spans())
def test_a_span_is_written_as_the_generated_class_writes_it(span):
    both_ways(SpanEncoder, span)


@settings(deadline=None, max_examples=examples(200))
@given(LOGS)
def test_a_log_record_is_written_as_the_generated_class_writes_it(item):
    both_ways(LogEncoder, item)


@settings(deadline=None, max_examples=examples(40))
@given(st.lists(spans(), max_size=6))
def test_a_request_has_the_spans_that_the_generated_class_takes(batch):
    expected = [made for made in (by_class(SpanEncoder, span) for span in batch) if made is not None]
    encoded = SpanEncoder(Resource.get_empty()).encode(batch)
    assert encoded.refused == len(batch) - len(expected)
    request = SpanEncoder.request.FromString(encoded.body)
    found = [
        span for group in request.resource_spans for scoped in group.scope_spans for span in scoped.spans
    ]
    assert [span.SerializeToString(deterministic=True) for span in found] == expected


def span(attributes=None, **fields):
    made = FinishedSpan("shop.sale", 1, 2, 0, None, 5, {} if attributes is None else attributes, end_ns=6)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


LENGTHS = [0, 1, 120, 121, 122, 123, 124, 125, 126, 127, 128, 129, 2040, 2048, 16_383, 16_384, 2**21]


@pytest.mark.parametrize("letter", ["x", "é"])
@pytest.mark.parametrize("length", LENGTHS)
def test_lengths_at_which_something_takes_one_byte_more(length, letter):
    written = letter * length
    event = SpanEvent(written, 5, {written: written})
    item = span({written: written, "key": written, written + "1": 1, written + "2": 0.5, written + "3": True})
    item.name, item.message, item.error, item.events = written, written, True, [event]
    expected, ours = both_ways(SpanEncoder, item)
    assert ours == expected is not None
    record = LogItem(written, 1, 2, 9, written, written, {written: written})
    expected, ours = both_ways(LogEncoder, record)
    assert ours == expected is not None


@pytest.mark.parametrize("power", range(64))
def test_numbers_at_which_one_takes_one_byte_more(power):
    near = [sign * (2**power + step) for sign in (1, -1) for step in (-1, 0, 1)]
    item = span({str(number): number for number in near})
    item.dropped_attributes = min(2**power, 2**32 - 1)
    expected, ours = both_ways(SpanEncoder, item)
    assert ours == expected is not None


EQUAL = [1, True, 1.0, "1", "True", 0, False, 0.0, -0.0, "", None, math.nan, "0"]


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(EQUAL, 2)))
def test_what_is_kept_of_a_value_is_not_taken_for_one_that_is_equal(first, second):
    for value in (first, second, first, second):
        expected, ours = both_ways(SpanEncoder, span({"equal": value}))
        assert ours == expected is not None


@pytest.mark.parametrize("value", [None, (), [], {}, (1, 2), ["a"], {"a": 1}, b"\x00", 2**63, "\ud800"])
def test_one_odd_value_does_not_cost_the_way_of_the_others(value):
    expected, ours = both_ways(SpanEncoder, span({"before": "a", "odd": value, "after": 1}))
    assert ours == expected is not None


def test_what_is_kept_is_bounded_and_what_is_written_stays_right():
    made = SpanEncoder(Resource.get_empty())
    for number in range(3 * wire.MAX_TEXTS):
        item = span(
            {"id": f"order-{number}", f"key-{number}": "same", "k" * number: 1}, name=f"sale {number}"
        )
        item.scope = Scope(f"scope {number}", "1", "", (("k", number),))
        encoded = made.encode([item])
        assert encoded.refused == 0
        assert len(wire._texts) <= wire.MAX_TEXTS
        assert len(wire._keys) <= wire.MAX_KEYS
        assert len(made._scopes) <= encoder.MAX_SCOPES
        assert all(
            len(kept) <= wire.MAX_VALUES for kept in (wire._keys.get("id", ()), made.encode([])) if kept
        )
    ((group,),) = (SpanEncoder.request.FromString(encoded.body).resource_spans,)
    (scoped,) = group.scope_spans
    assert scoped.scope.name == f"scope {number}"
    assert scoped.spans[0].SerializeToString() == by_class(SpanEncoder, item)


def test_what_is_long_is_not_kept():
    wire._texts.clear()
    wire._keys.clear()
    long = "x" * wire.MAX_KEPT_LENGTH
    both_ways(SpanEncoder, span({"key": long, long + "k": "a", "\ud800": "a", 5: "a"}, name=long))
    assert not wire._texts
    assert {key: dict(kept) for key, kept in wire._keys.items()} == {"key": {}}


def test_several_threads_write_the_same(monkeypatch):
    for limit in ("MAX_TEXTS", "MAX_KEYS", "MAX_VALUES"):
        # So that what is kept is thrown away all the time.
        monkeypatch.setattr(wire, limit, 3)
    batch = [
        span({f"key-{n % 5}": f"value-{n % 7}", "n": n, "t": n % 2 == 0}, name=f"sale {n % 5}")
        for n in range(35)
    ]
    made = SpanEncoder(Resource.get_empty())
    expected = made.encode(batch)
    found = []

    def encode():
        found.extend(made.encode(batch) == expected for _ in range(200))

    threads = [threading.Thread(target=encode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 800


def test_what_is_common_never_takes_the_slow_way(monkeypatch):
    def forbidden(*_):
        raise AssertionError("that took the slow way")

    monkeypatch.setattr(encoder.Encoder, "_encode_odd", forbidden)
    monkeypatch.setattr(wire, "AnyValue", forbidden)
    attributes = {"a": "x", "b": 1, "c": 0.5, "d": True, "e": "é", "f": 2**40, "g": -1}
    api = ApiSpan("shop.api", 1, 3, 2, None, 5, attributes, end_ns=6, parent_is_remote=True)
    api.tracestate, api.ok = "a=1", True
    event, link = SpanEvent("note", 5, attributes), SpanLink(1, 2, attributes)
    failed = span(attributes, events=[event], links=[link], error=True, message="é", dropped_events=1)
    assert SpanEncoder(Resource.get_empty()).encode([span(attributes), api, failed]).refused == 0
    assert (
        LogEncoder(Resource.get_empty()).encode([LogItem("n", 1, 2, 9, "INFO", "said", attributes)]).refused
        == 0
    )


def test_a_request_is_of_fields_in_the_order_of_their_numbers():
    """No reader may insist on it, but one that reads field by field is told first whose items these are."""
    made = SpanEncoder(Resource({"service.name": "shop"}, "https://shop.example/schema"))
    first, second = span({"a": 1}, scope=Scope("s", "1", "https://s.example", (("k", 1),))), span({"b": ()})
    body = made.encode([first, second, first]).body
    assert SpanEncoder.request.FromString(body).SerializeToString() == body
