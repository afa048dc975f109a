"""Any Python object becomes a value that OTLP has."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import math
import pathlib
import types
import typing
import uuid
from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValueList

from otpylib_telemetry.primitives.any_value import (
    CUT,
    MAX_TEXT_LENGTH,
    WHOLE,
    Bounds,
    any_value,
    any_values,
    text,
)
from otpylib_telemetry_otel.otlp.values import fill, put
from tests.support.absurd import Malicious, MaliciousDict, MaliciousMapping, MaliciousStr, UnprintableError


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 3


class Odd(type):
    """A metaclass whose classes have no name."""

    @property
    def __name__(cls):
        raise RuntimeError("odd")


class OddlyMade(metaclass=Odd):
    def __str__(self):
        raise RuntimeError("odd")


class Endless(collections.abc.Sequence):
    def __getitem__(self, index):
        return index

    def __len__(self):
        return 2**62


class Torn(collections.abc.Mapping):
    """Breaks off in the middle of being read."""

    def __getitem__(self, key):
        return key

    def __iter__(self):
        yield "first"
        raise RuntimeError("torn")

    def __len__(self):
        return 2


class Point(typing.NamedTuple):
    x: int
    y: str


@dataclasses.dataclass
class Order:
    number: int


def endless(make):
    inner = make()
    if isinstance(inner, dict):
        inner["self"] = inner
    else:
        inner.append(inner)
    return inner


def deep(levels, wrap):
    value = "ground"
    for _ in range(levels):
        value = wrap(value)
    return value


#: What is given, and what becomes of it.
CONVERTED = [
    (None, None),
    (True, True),
    (0, 0),
    (2**63 - 1, 2**63 - 1),
    (2**70, str(2**70)),
    (-(2**63) - 1, str(-(2**63) - 1)),
    (10**5000, "<integer of 16610 bits>"),
    (1.5, 1.5),
    (math.inf, math.inf),
    ("Grüße 🎈", "Grüße 🎈"),
    ("a\ud83eb", "a?b"),
    (b"/srv/\xff.txt".decode("utf-8", "surrogateescape"), "/srv/?.txt"),
    (MaliciousStr("still text"), "still text"),
    (b"\x00\xff", b"\x00\xff"),
    (bytearray(b"ab"), b"ab"),
    (memoryview(b"abcd")[::2], b"ac"),
    ([], ()),
    ([1, "a", None, 2.5, True, b"x"], (1, "a", None, 2.5, True, b"x")),
    ([[1], [2, ["\ud800"]]], ((1,), (2, ("?",)))),
    ([1, 2**70], (1, str(2**70))),
    ({3, 1, 2}, (1, 2, 3)),
    (frozenset("ba"), ("a", "b")),
    (range(3), (0, 1, 2)),
    (collections.deque([1]), (1,)),
    (Point(1, "y"), (1, "y")),
    ({"a": {"b": [1, {"c": None}]}}, {"a": {"b": (1, {"c": None})}}),
    (
        {1: "int", None: "none", (1, 2): "pair", "\ud800": 0},
        {"1": "int", "None": "none", "[1, 2]": "pair", "?": 0},
    ),
    ({Colour.RED: 2, Level.HIGH: 3}, {"Colour.RED": 2, "3": 3}),
    (collections.OrderedDict(a=1), {"a": 1}),
    (types.MappingProxyType({"a": (1,)}), {"a": (1,)}),
    (Colour.RED, "Colour.RED"),
    (Level.HIGH, 3),
    (decimal.Decimal("1.10"), "1.10"),
    (fractions.Fraction(1, 3), "1/3"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (pathlib.PurePosixPath("/srv"), "/srv"),
    (dt.datetime(2024, 2, 29, tzinfo=dt.UTC), "2024-02-29T00:00:00+00:00"),
    (1j, "1j"),
    (Order(7), "Order(number=7)"),
    (ValueError("no such card"), "no such card"),
    (UnprintableError(), "<UnprintableError that cannot be shown>"),
    (Malicious(SystemExit), "<Malicious that cannot be shown>"),
    (OddlyMade(), "<object that cannot be shown>"),
    (np.int64(3), 3),
    (np.uint64(2**64 - 1), str(2**64 - 1)),
    (np.float32(0.5), 0.5),
    (np.bool_(True), True),
    (np.str_("a\ud800"), "a?"),
    (np.bytes_(b"\xff"), b"\xff"),
    (np.array([[1, 2], [3, 4]]), ((1, 2), (3, 4))),
    (np.array(["a", None], dtype=object), ("a", None)),
    (endless(list), (CUT,)),
    (endless(dict), {"self": CUT}),
    ([endless(list), 1], ((CUT,), 1)),
]


def encoded(value):
    message = AnyValue()
    put(message, value)
    return AnyValue.FromString(message.SerializeToString())


def decoded(message):
    kind = message.WhichOneof("value")
    if kind == "array_value":
        return tuple(decoded(one) for one in message.array_value.values)
    if kind == "kvlist_value":
        return {one.key: decoded(one.value) for one in message.kvlist_value.values}
    return None if kind is None else getattr(message, kind)


@pytest.mark.parametrize(("value", "expected"), CONVERTED, ids=range(len(CONVERTED)))
def test_whatever_it_is_becomes_a_value_that_arrives(value, expected):
    found = any_value(value)
    assert (found, type(found)) == (expected, type(expected))
    assert decoded(encoded(value)) == decoded(encoded(found)) == expected


@pytest.mark.parametrize("value", [MaliciousMapping(), MaliciousDict(a=1), Torn()])
def test_a_table_that_cannot_be_read_is_still_something(value):
    assert type(any_value(value)) in {str, dict}
    assert decoded(encoded({"inner": value, "fine": 1}))["fine"] == 1


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"k": inner}])
def test_what_is_nested_too_deep_for_a_receiver_is_cut_off(wrap):
    found = any_value(deep(500, wrap))
    assert found == deep(WHOLE.depth, wrap) or CUT in str(found)
    outer = KeyValueList()
    fill(outer.values, {"deep": deep(500, wrap)})
    # Eight more levels are around it in the event of a span.
    assert decoded(AnyValue.FromString(AnyValue(kvlist_value=outer).SerializeToString()))


def test_what_is_wide_and_deep_or_endless_takes_bounded_work():
    wide = deep(6, lambda inner: [inner] * 100)
    assert str(any_value(wide)).count("ground") <= WHOLE.elements
    assert len(any_value(Endless())) == WHOLE.width


def test_ordinary_data_is_not_cut():
    embedding = [0.5] * 10_000
    assert any_value(embedding) == tuple(embedding)
    assert any_value("x" * 100_000) == "x" * 100_000


def test_a_limit_cuts_text_wherever_it_is_and_nothing_else():
    bounds = Bounds(24, 100, 100, length=3)
    value = {"long key": ["abcdef", {"k": "abcdef"}, 123456, b"abcdef", decimal.Decimal("1.23456"), 2**70]}
    assert any_value(value, bounds) == {"long key": ("abc", {"k": "abc"}, 123456, b"abcdef", "1.2", "118")}
    assert any_value("abcdef", bounds) == "abc"


def test_what_is_returned_does_not_change_with_what_was_given():
    inner = [1]
    found = any_value({"a": inner})
    inner.append(2)
    assert found == {"a": (1,)}


def test_a_table_tells_how_many_entries_it_could_not_keep():
    table = {"a": 1, "": 2, "x" + chr(0xD800): 3, "x" + chr(0xDFFF): 4, 5: None}
    assert any_values(table) == ({"a": 1, "x?": 4, "5": None}, 2)
    assert any_values(Torn()) == ({"first": "first"}, 1)
    assert any_values(5) == ({}, 1)


def test_an_interrupt_of_the_program_gets_through():
    class Interrupted:
        def __str__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        any_value([Interrupted()])


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text(st.characters()),
        st.binary(),
        st.decimals(allow_nan=False),
        st.uuids(),
        st.datetimes(),
        st.builds(object),
        st.builds(Malicious),
        st.sampled_from([Colour.RED, int, len, array("i", [1]), np.float16(1), np.array([1.5])]),
    ),
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.text(st.characters()), st.integers(), st.binary(), st.none()), inner),
    ),
)


@given(values)
def test_everything_can_be_encoded_and_is_the_same_after_it(value):
    found = any_value(value)
    assert decoded(encoded(found)) == found
    # Converted once more, nothing changes.
    assert any_value(found) == found
    assert len(text(value)) <= MAX_TEXT_LENGTH
