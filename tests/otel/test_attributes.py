import asyncio
import collections
import datetime as dt
import decimal
import enum
import fractions
import logging
import math
import pathlib
import uuid
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext
from otpylib import atom
from otpylib.runtime.backends.base import Pid

from otpylib_telemetry.primitives.any_value import MAX_TEXT_LENGTH, text
from otpylib_telemetry_otel import attributes as attributes_module
from otpylib_telemetry_otel.attributes import (
    MAX_ATTRIBUTES,
    MAX_ELEMENTS,
    MAX_KEY_LENGTH,
    attribute,
    attributes,
    sorted_out,
)


def exported(value):
    return attributes({"key": value})[0].get("key")


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 3


class Mode(enum.StrEnum):
    FAST = "fast"


class Real(float):
    __slots__ = ()


class ArrayScalar:
    """Looks like what an array library makes of a single value."""

    dtype = "anything"

    def __init__(self, value):
        self.value = value

    def item(self):
        if isinstance(self.value, list):
            raise ValueError("only arrays of one element")
        return self.value

    def __str__(self):
        return f"{'2**64' if self.value == 2**64 else self.value} as an array scalar"


PID = Pid(atom.ensure("shop@127.0.0.1"), 101, 0, 1)


@dataclass
class Point:
    x: int
    y: int


class Hostile:
    """Raises at everything one can do to it."""

    def _refuse(self, *_):
        raise RuntimeError("leave me alone")

    __class__ = property(_refuse)
    __str__ = __repr__ = __eq__ = __bool__ = __len__ = __iter__ = __getattr__ = _refuse
    __int__ = __float__ = __index__ = __format__ = __lt__ = __le__ = _refuse

    def __hash__(self):
        raise RuntimeError("leave me alone")


class HostileKey(Hostile):
    def __hash__(self):
        return 1


class Unnamed(type):
    @property
    def __name__(cls):
        raise RuntimeError("no name")


class Nameless(metaclass=Unnamed):
    def __str__(self):
        raise RuntimeError("no text")


def cyclic():
    value = []
    value.append(value)
    return value


def cyclic_table():
    value = {}
    value["self"] = value
    return value


class TestScalars:
    @pytest.mark.parametrize(
        "value",
        ["", "text", "Grüße, 世界", "nul\0", True, False, 0, -(2**63), 2**63 - 1, 1.5, math.inf, -math.inf],
    )
    def test_what_opentelemetry_takes_is_kept_as_it_is(self, value):
        assert exported(value) == value
        assert type(exported(value)) is type(value)

    def test_not_a_number_stays_one(self):
        assert math.isnan(exported(math.nan))

    def test_none_is_no_attribute(self):
        assert attributes({"error": None}) == ({}, 0)

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (2**63, "9223372036854775808"),
            (-(2**63) - 1, "-9223372036854775809"),
            (Level.HIGH, 3),
            (Mode.FAST, "fast"),
            (Colour.RED, "Colour.RED"),
            (Real(2.5), 2.5),
            (b"bytes", "bytes"),
            (b"\xff\x00", "\\xff\x00"),
            (bytearray(b"ab"), "ab"),
            (atom.ensure("payment"), "payment"),
            (ValueError("no such card"), "no such card"),
            (KeyboardInterrupt(), "KeyboardInterrupt"),
            (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
            (dt.date(2024, 2, 29), "2024-02-29"),
            (dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC), "2024-02-29T12:00:00+00:00"),
            (dt.timedelta(seconds=90), "0:01:30"),
            (decimal.Decimal("1.10"), "1.10"),
            (fractions.Fraction(1, 3), "1/3"),
            (pathlib.PurePosixPath("/srv/shop"), "/srv/shop"),
            (ArrayScalar(3), 3),
            (ArrayScalar(0.5), 0.5),
            (ArrayScalar(True), True),
            (ArrayScalar(2**64), "2**64 as an array scalar"),
            (ArrayScalar([1, 2]), "[1, 2] as an array scalar"),
            (PID, "#Pid<shop@127.0.0.1.101.0>"),
            (Point(1, 2), "Point(x=1, y=2)"),
            (int, "<class 'int'>"),
        ],
    )
    def test_what_it_does_not_take_becomes_something_it_does(self, value, expected):
        assert exported(value) == expected
        assert type(exported(value)) is type(expected)

    def test_a_whole_number_too_long_to_write_is_described(self):
        assert exported(10**5000) == "<integer of 16610 bits>"

    def test_half_of_a_surrogate_pair_is_replaced(self):
        assert exported("a\ud800b") == "a?b"

    def test_long_text_is_cut(self):
        assert exported("x" * MAX_TEXT_LENGTH) == "x" * MAX_TEXT_LENGTH
        cut = exported("x" * (MAX_TEXT_LENGTH + 1))
        assert len(cut) == MAX_TEXT_LENGTH
        assert cut.endswith("x…")
        assert len(exported(b"x" * 10 * MAX_TEXT_LENGTH)) == MAX_TEXT_LENGTH

    def test_a_value_that_raises_at_everything_is_named(self):
        assert exported(Hostile()) == "<Hostile that cannot be shown>"
        assert exported(Nameless()) == "<object that cannot be shown>"

    @pytest.mark.parametrize("error", [SystemExit, GeneratorExit, asyncio.CancelledError])
    def test_not_even_an_exception_that_ends_a_program_gets_out_of_a_value(self, error):
        class Ending:
            def __str__(self):
                raise error

        assert exported(Ending()) == "<Ending that cannot be shown>"

    def test_an_interrupt_of_the_program_does(self):
        class Interrupted:
            def __str__(self):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            exported(Interrupted())


class TestSequences:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ([], ()),
            (["a", "b"], ("a", "b")),
            ((1, 2), (1, 2)),
            ([1.5, math.inf], (1.5, math.inf)),
            ([True, False], (True, False)),
            ([2**63, 1], ("9223372036854775808", "1")),
            (["a\ud800"], ("a?",)),
            ([1, "a"], '[1, "a"]'),
            ([1, True], "[1, true]"),
            ([1, None], "[1, null]"),
            ([[1], [2]], "[[1], [2]]"),
            ({"a": {"b": (1, 2)}}, '{"a": {"b": [1, 2]}}'),
            ({1: Point(1, 2)}, '{"1": "Point(x=1, y=2)"}'),
            ({5}, (5,)),
            ({"b", "a", "c"}, ("a", "b", "c")),
            (frozenset({2.5, 1.5}), (1.5, 2.5)),
            (frozenset({(1,)}), "[[1]]"),
            (set(), ()),
            ([atom.ensure("a"), atom.ensure("b")], '["a", "b"]'),
            (collections.OrderedDict(a=1), "OrderedDict({'a': 1})"),
        ],
    )
    def test_only_sequences_of_one_scalar_type_are_kept(self, value, expected):
        if type(value) is collections.OrderedDict:
            expected = str(value)  # its text differs between versions of Python
        assert exported(value) == expected
        assert type(exported(value)) is type(expected)

    def test_long_sequences_are_cut(self):
        assert exported(list(range(100_000))) == tuple(range(MAX_ELEMENTS))

    @pytest.mark.parametrize("make", [cyclic, cyclic_table])
    def test_what_contains_itself_ends(self, make):
        assert "…" in exported(make())

    def test_a_wide_and_deep_structure_is_not_copied_whole(self):
        value = ["x"]
        for _ in range(3):
            value = [value] * 128
        assert len(exported(value)) < MAX_TEXT_LENGTH

    def test_hostile_elements_do_not_spoil_the_rest(self):
        assert exported([1, Hostile()]) == '[1, "<Hostile that cannot be shown>"]'
        assert exported({HostileKey(): 1}) == '{"<HostileKey that cannot be shown>": 1}'


class TestTables:
    def test_keys_become_text(self):
        source = {1: "a", None: "b", ("x", "y"): "c", b"k": "d", "k\ud800": "e", Mode.FAST: "f"}
        assert attributes(source)[0] == {
            "1": "a",
            "None": "b",
            '["x", "y"]': "c",
            "k": "d",
            "k?": "e",
            "fast": "f",
        }

    def test_an_empty_key_is_dropped_and_counted(self):
        assert attributes({"": 1, "a": 2, b"": 3}) == ({"a": 2}, 2)

    def test_a_long_key_is_cut(self):
        assert len(next(iter(attributes({"k" * 1000: 1})[0]))) == MAX_KEY_LENGTH

    def test_keys_to_skip_are_skipped(self):
        assert attributes({"a": 1, "b": 2}, frozenset({"a"})) == ({"b": 2}, 0)

    def test_beyond_the_limit_attributes_are_dropped_and_counted(self):
        kept, dropped = attributes({f"key{number}": number for number in range(MAX_ATTRIBUTES + 7)})
        assert len(kept) == MAX_ATTRIBUTES
        assert dropped == 7
        assert "key0" in kept

    def test_keys_made_of_data_do_not_fill_the_memory(self):
        for number in range(attributes_module._MAX_FIT + 5):
            attributes({f"order{number}": number})
        assert len(attributes_module._fit) <= attributes_module._MAX_FIT

    def test_special_keys_are_given_back_as_they_are(self):
        value = object()
        assert sorted_out({"a": 1, "b": value, "c": 2, "d": None}, frozenset({"c"}), frozenset("bcd")) == (
            {"a": 1},
            0,
            {"b": value},
        )

    def test_one_more_attribute_is_added_where_there_is_room(self):
        exportable = {}
        assert attribute(exportable, "a", b"x")
        assert attribute(exportable, "b", "\ud800")
        assert exportable == {"a": "x", "b": "?"}
        full = {str(number): 1 for number in range(MAX_ATTRIBUTES)}
        assert not attribute(full, "a", 1)
        assert attribute(full, "1", 2)
        assert len(full) == MAX_ATTRIBUTES


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.builds(object),
    st.builds(Hostile),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner), st.tuples(inner, inner)),
    max_leaves=25,
)


@pytest.mark.slow
@given(st.dictionaries(st.one_of(st.text(), st.integers(), st.none(), st.binary()), values))
def test_opentelemetry_encodes_whatever_comes_out(source):
    complaints = []
    handler = logging.Handler()
    handler.emit = complaints.append
    logging.getLogger("opentelemetry").addHandler(handler)
    try:
        exportable, _ = attributes(source)
        context = SpanContext(1, 1, is_remote=False)
        span = ReadableSpan(
            "a", context, resource=Resource({}), attributes=exportable, start_time=1, end_time=2
        )
        message = encode_spans([span])
        assert len(message.resource_spans[0].scope_spans[0].spans[0].attributes) == len(exportable)
        message.SerializeToString()
        span.to_json()
    finally:
        logging.getLogger("opentelemetry").removeHandler(handler)
    assert complaints == []


@given(values, st.integers(1, 50))
def test_text_is_never_longer_than_asked_for_and_always_encodable(value, limit):
    written = text(value, limit)
    assert len(written) <= limit
    assert written.encode("utf-8").decode("utf-8") == written


# --- tables with keys seen before


class Pretender:
    """Compares and hashes like a text without being one."""

    def __init__(self, says):
        self.says = says

    def __eq__(self, other):
        if self.says == "trouble":
            raise RuntimeError("trouble")
        return self.says == other

    def __hash__(self):
        return hash("n" if self.says == "trouble" else self.says)


SPECIAL = frozenset({"links", "span_id"})
TABLES = [
    {"n": 1, "who": "ann", "fine": True, "ratio": 0.5},
    {"n": 2**70, "who": "ann", "fine": True, "ratio": 0.5},
    {"n": 1, "who": "x" * (MAX_TEXT_LENGTH + 1), "fine": True, "ratio": 0.5},
    {"n": 1, "who": "bär \ud800", "fine": None, "ratio": [1, 2]},
    {"n": Colour, "who": b"ann", "fine": {}, "ratio": math.nan},
    {"n": 1, "links": "a", "span_id": "b"},
    {"n": None, "links": None, "span_id": None},
    {"": 1, "n": 2},
    {3: 1, "n": 2},
    {Pretender("n"): 1, "who": "ann"},
    {Pretender("trouble"): 1},
    {f"k{number}": number for number in range(MAX_ATTRIBUTES + 3)},
    {},
]


@pytest.mark.parametrize("skip", [frozenset(), frozenset({"span_id"}), SPECIAL])
@pytest.mark.parametrize("table", TABLES, ids=range(len(TABLES)))
def test_a_table_with_keys_seen_before_is_sorted_out_like_the_first_of_its_kind(table, skip):
    attributes_module._plans.clear()
    first = repr(sorted_out(table, skip, SPECIAL))
    # Known by now, if they ever will be: with values that need no look, and with its own.
    sorted_out(dict.fromkeys(table, 1), skip, SPECIAL)
    sorted_out(dict.fromkeys(table, 1), skip, frozenset())
    sorted_out({"n": 1, "who": 1}, skip, SPECIAL)
    assert repr(sorted_out(table, skip, SPECIAL)) == first


def test_what_is_exported_of_a_table_is_no_part_of_it():
    for _ in range(3):
        table = {"n": 1}
        exportable, _, _ = sorted_out(table, frozenset(), SPECIAL)
        table["n"] = "changed"
        assert exportable == {"n": 1}
        assert type(exportable) is dict


def test_keys_made_of_data_do_not_fill_the_memory_of_tables():
    for number in range(3 * attributes_module._MAX_PLANS):
        sorted_out({f"k{number}": 1}, frozenset(), SPECIAL)
    assert len(attributes_module._plans[SPECIAL]) <= attributes_module._MAX_PLANS
