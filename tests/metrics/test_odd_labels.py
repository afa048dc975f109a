"""Values that are neither text nor Python's own numbers, as labels of events."""

import asyncio
import datetime as dt
import decimal
import enum
import fractions
import ipaddress
import logging
import pathlib
import random
import re
import threading
import types
import uuid
import zoneinfo
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry.metrics import definitions
from otpylib_telemetry.metrics.automatic.events import AutomaticMetrics, MetricOptions
from otpylib_telemetry.metrics.automatic.operations import OPEN_TTL_NS
from otpylib_telemetry.metrics.defined.events import DefinedMetrics
from otpylib_telemetry.metrics.labels import LabelRules, label_text
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS
from otpylib_telemetry.metrics.recorder import answer_removal
from otpylib_telemetry.tracing.open_operations import OpenOperations
from otpylib_telemetry_otel.attributes import attributes
from tests.support.absurd import Malicious


class Colour(enum.Enum):
    RED = 1


class Channel(enum.Flag):
    WEB = 1
    MAIL = 2


class Sullen(enum.Enum):
    """Raises when it is to say something."""

    NO = 1

    def __str__(self):
        raise SystemExit("absurd")

    __repr__ = __str__


class Amount(decimal.Decimal):
    pass


class Version:
    """A value of somebody's library: it has an order, and can be a key."""

    def __init__(self, text):
        self.text = text

    def __str__(self):
        return self.text

    def __eq__(self, other):
        return self.text == other.text

    def __lt__(self, other):
        return self.text < other.text

    def __hash__(self):
        return hash(self.text)


class Listed(Version):
    """The same, but a collection as well."""

    def __len__(self):
        return 1

    def __iter__(self):
        return iter(())

    def __contains__(self, item):
        return False


class Kind(type):
    """Raises when a type of its own is asked about its methods."""

    def __getattribute__(cls, name):
        raise RuntimeError(name)


class Made(metaclass=Kind):
    pass


@dataclass(frozen=True)
class Customer:
    name: str


class Numbers(NamedTuple):
    a: int


NOON = dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)

SCALARS = [
    (np.int64(3), "3"),
    (np.uint64(2**64 - 1), "18446744073709551615"),
    (np.int8(-1), "-1"),
    (np.float32(0.5), "0.5"),
    (np.float64(0.5), "0.5"),
    (np.float32("nan"), "NaN"),
    (np.float16("inf"), "+Inf"),
    (np.longdouble(1.5), "1.5"),
    (np.complex64(1j), "1j"),
    (np.bool_(True), "true"),
    (np.bool_(False), "false"),
    (np.str_("x\ud800"), "x?"),
    (np.bytes_(b"GET"), "GET"),
    (np.array(7), "7"),
    (np.datetime64("2024-02-29"), "2024-02-29"),
    (np.datetime64("2024-02-29T12", "ns"), "2024-02-29T12:00:00.000000000"),
    (np.timedelta64(5, "ns"), "5 nanoseconds"),
    (decimal.Decimal("1.50"), "1.50"),
    (decimal.Decimal("1.5"), "1.5"),
    (decimal.Decimal("NaN"), "NaN"),
    (decimal.Decimal("sNaN"), "sNaN"),
    (Amount("2"), "2"),
    (fractions.Fraction(1, 3), "1/3"),
    (2 + 1j, "(2+1j)"),
    (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (pathlib.PurePosixPath("/srv"), "/srv"),
    (pathlib.PureWindowsPath("A"), "A"),
    (pathlib.PureWindowsPath("a"), "a"),
    (Colour.RED, "Colour.RED"),
    (Channel.WEB, "Channel.WEB"),
    (Sullen.NO, "<Sullen that cannot be shown>"),
    (NOON, "2024-02-29T12:00:00+00:00"),
    (NOON.astimezone(dt.timezone(dt.timedelta(hours=1))), "2024-02-29T13:00:00+01:00"),
    (NOON.date(), "2024-02-29"),
    (NOON.time(), "12:00:00"),
    (dt.timedelta(hours=1), "1:00:00"),
    (dt.UTC, "UTC"),
    (zoneinfo.ZoneInfo("UTC"), "UTC"),
    (ipaddress.ip_address("::1"), "::1"),
    (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
    (b"GET", "GET"),
    (b"\xff", "\\xff"),
    (bytearray(b"GET"), "GET"),
    (Version("1.2"), "1.2"),
]

NO_LABELS = [
    None,
    "",
    b"",
    [1],
    (1,),
    {1},
    frozenset({1}),
    {"a": 1},
    OrderedDict(a=1),
    types.MappingProxyType({"a": 1}),
    range(3),
    Numbers(1),
    np.array([1, 2]),
    object(),
    Customer("x"),
    Listed("1"),
    ValueError("x"),
    int,
    Colour,
    logging,
    len,
    [].append,
    lambda: 1,
    logging.getLogger("x"),
    threading.current_thread(),
    threading.Lock(),
    asyncio.Event(),
    random.Random(1),
    memoryview(b"x"),
    Malicious,
    Made,
]


def named(pairs):
    return [pytest.param(*pair, id=f"{type(pair[0]).__name__} {number}") for number, pair in enumerate(pairs)]


def automatic(naming, **rules):
    store = SeriesStore(2000, 1000, lambda _: None)
    options = MetricOptions(LabelRules.of(**{"labels": None, "drop_labels": (), **rules}), (1.0,))
    return store, AutomaticMetrics(store, OpenOperations(100, OPEN_TTL_NS), options, naming)


def defined(naming, **options):
    store = SeriesStore(2000, 1000, lambda _: None)
    return store, DefinedMetrics(store, [definitions.counter("e.total", tags=["a", "b"], **options)], naming)


def fed(made, values):
    """Return how much every series of a metric has counted, by labels, after events with these values."""
    store, metrics = made
    for value in values:
        assert metrics.record([("e", {"count": 1}, {"a": value, "b": "kept"}, 0, 1)]) == (1, 0)
    (metric,) = store.metrics
    return {series.labels: series.value for series in metric.all_series()}


WAYS = [
    pytest.param(make, naming, id=f"{make.__name__} {name}")
    for make in (automatic, defined)
    for name, naming in (("prometheus", PROMETHEUS), ("otlp", OPENTELEMETRY))
]


@pytest.mark.parametrize(("value", "text"), named(SCALARS))
@pytest.mark.parametrize(("make", "naming"), WAYS)
def test_a_scalar_of_any_type_is_a_label_the_same_at_both_exits_however_often_it_comes(
    make, naming, value, text
):
    assert fed(make(naming), [value] * 3) == {(("a", text), ("b", "kept")): 3}


@pytest.mark.parametrize(("value", "text"), named(SCALARS))
def test_the_label_reads_as_the_attribute_of_a_span_of_the_same_event(value, text):
    assert label_text(attributes({"a": value})[0]["a"]) == text


@pytest.mark.parametrize("value", [pytest.param(one, id=str(n)) for n, one in enumerate(NO_LABELS)])
@pytest.mark.parametrize(("make", "naming"), WAYS)
def test_a_collection_and_an_object_with_an_identity_are_no_labels(make, naming, value):
    value = value() if any(value is one for one in (Malicious, Made)) else value
    assert fed(make(naming), [value] * 2) == {(("b", "kept"),): 2}


@pytest.mark.parametrize(("make", "naming"), WAYS)
def test_values_that_are_equal_and_read_differently_stay_apart(make, naming):
    values = [1, 1.0, True, "1", *(value for value, _ in SCALARS), decimal.Decimal(1), np.float32(1)]
    texts = {label_text(value) for value in values}
    assert len(fed(make(naming), [*values, *reversed(values)])) == len(texts)


@given(
    st.lists(
        st.sampled_from([value for value, _ in SCALARS])
        | st.decimals()
        | st.uuids()
        | st.datetimes(timezones=st.timezones())
        | st.times()
        | st.timedeltas()
        | st.fractions()
        | st.complex_numbers()
        | st.binary(max_size=8)
        | st.ip_addresses()
        | st.text(max_size=3)
        | st.none(),
        max_size=20,
    )
)
@pytest.mark.parametrize(("make", "naming"), WAYS)
def test_any_values_make_as_many_series_as_there_are_texts(make, naming, values):
    counted = fed(make(naming), [*values, *values, "at least one"])
    expected = {}
    for text in [*map(label_text, [*values, *values]), "at least one"]:
        labels = ((("a", text),) if text else ()) + (("b", "kept"),)
        expected[labels] = expected.get(labels, 0) + 1
    assert counted == expected


def test_what_was_made_of_such_a_value_is_found_again():
    made = defined(PROMETHEUS)
    fed(made, [decimal.Decimal("1.5"), uuid.UUID(int=1), Colour.RED, np.int64(1)] * 3)
    assert made[1].resolved == 4


def test_a_condition_of_a_definition_reads_such_values():
    made = defined(PROMETHEUS, keep={"a": ["Colour.*", "1.5"]})
    counted = fed(made, [Colour.RED, decimal.Decimal("1.5"), 2])
    assert sum(counted.values()) == 2


def test_a_fixed_tag_may_be_such_a_value():
    made = defined(PROMETHEUS, tag_values={"a": NOON.date()})
    assert fed(made, ["x"]) == {(("a", "2024-02-29"), ("b", "kept")): 1}


def test_a_series_is_removed_by_such_a_value():
    made = automatic(PROMETHEUS)
    fed(made, [Colour.RED, uuid.UUID(int=1)])
    for value in (Colour.RED, uuid.UUID(int=1)):
        assert answer_removal(made[0], ("remove", "e_total", {"a": value, "b": "kept"}))
    assert not made[0].find("e_total").all_series()


def test_a_pattern_is_found_by_its_text():
    assert label_text(re.compile("x")) == "re.compile('x')"


LONG = [
    ["x" * 300 + "a", "x" * 300 + "b"],
    ["é" * 300 + "a", "é" * 300 + "b"],
    ["😀" * 300, "😀" * 299 + "é"],
    ["x" * 238 + "\ud800" + "y" * 50, "x" * 238 + "\ud800" + "z" * 50],
    ["x" * 300 + "\ud800", "x" * 300 + "?"],
    ["x" * 238 + "\ud800" + "y" * 50, "x" * 238 + "\udfff" + "y" * 50],
    [b"x" * 300 + b"a", b"x" * 300 + b"b"],
    [pathlib.PurePosixPath("/" + "x" * 300 + "a"), pathlib.PurePosixPath("/" + "x" * 300 + "b")],
]


@pytest.mark.parametrize("values", LONG, ids=range(len(LONG)))
@pytest.mark.parametrize(("make", "naming"), WAYS)
def test_long_values_are_as_many_as_there_are_texts_that_can_leave(make, naming, values):
    texts = {str(value).encode("utf-8", "replace") for value in values}
    counted = fed(make(naming), values * 2)
    assert len(counted) == len(texts)
    for (_, text), _ in counted:
        assert len(text) == 256
        assert text.encode()
