"""Attributes of instruments and scopes are anything at all: each costs at most itself, at both exits."""

import datetime as dt
import decimal
import enum
import fractions
import ipaddress
import pathlib
import time
import uuid
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.resources import Resource
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as classic_families

from otpylib_telemetry.aggregation.cursors import Cursors
from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.aggregation.temporality import Preference, Reading
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.meters.provider import MeterProvider
from otpylib_telemetry.meters.streams import Feed
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS
from otpylib_telemetry_otel.sdk.metrics import MetricConverter, MetricEncoder
from otpylib_telemetry_prometheus.exposition.negotiation import CLASSIC, OPENMETRICS
from otpylib_telemetry_prometheus.exposition.writer import Exposition
from tests.support import absurd
from tests.support.meters import OTLP, PROM
from tests.support.versions import needs_new_sdk


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Size(enum.StrEnum):
    SMALL = "small"
    LARGE = "large"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Key(str):
    __slots__ = ()


#: Pairs of values that are two.
DIFFERENT = {
    "Enum": (Colour.RED, Colour.BLUE),
    "StrEnum": (Size.SMALL, Size.LARGE),
    "IntEnum": (Level.LOW, Level.HIGH),
    "int64": (np.int64(1), np.int64(2)),
    "uint64": (np.uint64(2**64 - 1), np.uint64(2**64 - 2)),
    "float32": (np.float32(0.5), np.float32(0.25)),
    "float64": (np.float64(0.5), np.float64(0.25)),
    "bool_": (np.bool_(1), np.bool_(0)),
    "str_": (np.str_("a"), np.str_("b")),
    "array": (np.array([1, 2]), np.array([1, 3])),
    "datetime64": (np.datetime64("2024-01-01"), np.datetime64("2024-01-02")),
    "Decimal": (decimal.Decimal("1.1"), decimal.Decimal("2.2")),
    "Fraction": (fractions.Fraction(1, 3), fractions.Fraction(2, 3)),
    "UUID": (uuid.UUID(int=1), uuid.UUID(int=2)),
    "Path": (pathlib.PurePosixPath("/a"), pathlib.PurePosixPath("/b")),
    "date": (dt.date(2024, 1, 1), dt.date(2024, 1, 2)),
    "timedelta": (dt.timedelta(1), dt.timedelta(2)),
    "address": (ipaddress.ip_address("::1"), ipaddress.ip_address("::2")),
    "complex": (1j, 2j),
    "exception": (ValueError("a"), ValueError("b")),
    "class": (int, str),
    "beyond 64 bits": (2**70, 2**70 + 1),
    "far beyond": (10**6000, 10**6000 + 1),
    "long text": ("x" * 300 + "a", "x" * 300 + "b"),
    "long text of another script": ("é" * 300 + "a", "é" * 300 + "b"),
    "long text beyond 16 bits": ("😀" * 300, "😀" * 299 + "é"),
    "half a pair at the cut": ("x" * 238 + "\ud800" + "y" * 50, "x" * 238 + "\ud800" + "z" * 50),
    "bytes": (b"\xff", b"\xfe"),
    "bytearray": (bytearray(b"a"), bytearray(b"b")),
    "list": ([1, [2]], [1, [3]]),
    "map": ({"a": {"b": 1}}, {"a": {"b": 2}}),
    "set": ({1, 2}, {1, 3}),
    "list of odd things": ([uuid.UUID(int=1), 2**70], [uuid.UUID(int=2), 2**70]),
    "range": (range(3), range(4)),
}

#: Pairs of values that are one, wherever they are sent.
SAME = {
    "surrogates": ("a\ud800", "a?"),
    "surrogates in long text": ("x" * 300 + "\ud800", "x" * 300 + "?"),
    "surrogates at the cut": ("x" * 238 + "\ud800" + "y" * 50, "x" * 238 + "\udfff" + "y" * 50),
    "surrogates at the limit": ("x" * 255 + "\ud800", "x" * 255 + "?"),
    "integer and its text": (2**70, str(2**70)),
    "within a list": ([2**70], [str(2**70)]),
    "list and tuple": ([1, "a"], (1, "a")),
    "order of a map": ({"a": 1, "b": [2]}, {"b": [2], "a": 1}),
    "zeros": (0.0, -0.0),
    "NaN": (float("nan"), np.float64("nan")),
    "number of numpy": (np.int64(3), 3),
    "objects without text": (object(), object()),
}


def sent(name=OTLP):
    """The data points that a request holds, each as its metric's name, its attributes' bytes, its number."""
    store = store_of(name)
    reading = Reading(time.monotonic_ns(), 0, Preference.CUMULATIVE)
    points = []
    for metric in store.metrics:
        points += Cursors().advance(metric, metric.all_series(), reading)
    made = MetricEncoder(Resource.create()).encode(points)
    assert made.refused == 0, made.reason
    MetricConverter(Resource.create()).convert(points)
    message = ExportMetricsServiceRequest.FromString(made.body)
    return [
        (
            (scoped.scope.SerializeToString(deterministic=True), scoped.schema_url, metric.name),
            tuple(sorted(pair.SerializeToString(deterministic=True) for pair in point.attributes)),
            point.as_int,
        )
        for group in message.resource_metrics
        for scoped in group.scope_metrics
        for metric in scoped.metrics
        for point in metric.sum.data_points
    ]


def shown(name=PROM, *, openmetrics):
    """The samples of the page, each as its name, its labels, its number."""
    page = Exposition().text([store_of(name)], form=OPENMETRICS if openmetrics else CLASSIC)
    parse = openmetrics_families if openmetrics else classic_families
    return [
        (sample.name, tuple(sorted(sample.labels.items())), sample.value)
        for family in parse(page)
        for sample in family.samples
    ]


def everywhere():
    """What each exit says: the identities of the points, and their sum."""
    for points in (sent(), shown(openmetrics=False), shown(openmetrics=True)):
        identities = [(name, labels) for name, labels, _ in points]
        assert len(set(identities)) == len(identities), "two points of one identity"
        yield points


@pytest.mark.parametrize("values", DIFFERENT.values(), ids=DIFFERENT)
def test_two_values_are_two_series(provide, values):
    counter = provide(OPENTELEMETRY, PROMETHEUS).get_meter("shop").create_counter("n")
    for _ in range(2):
        for amount, value in zip((1, 10), values, strict=True):
            counter.add(amount, {"k": value})
    for points in everywhere():
        assert sorted(number for *_, number in points) == [2, 20]


@pytest.mark.parametrize("values", SAME.values(), ids=SAME)
def test_two_values_that_leave_as_one_are_one_series(provide, values):
    counter = provide(OPENTELEMETRY, PROMETHEUS).get_meter("shop").create_counter("n")
    for _ in range(2):
        for value in values:
            counter.add(1, {"k": value})
    for points in everywhere():
        assert [number for *_, number in points] == [4]


@pytest.mark.parametrize(
    "make",
    [
        absurd.Malicious,
        lambda: absurd.MaliciousStr("x"),
        absurd.MaliciousMapping,
        lambda: absurd.MaliciousDict(a=1),
        lambda: absurd.Malicious(SystemExit),
        lambda: np.ones(2),
    ],
)
@pytest.mark.parametrize("place", [lambda odd: odd, lambda odd: {"a": odd}, lambda odd: {"a": [odd], "b": 1}])
def test_what_raises_whatever_it_is_asked_costs_itself_at_most(provide, make, place):
    counter = provide(OPENTELEMETRY, PROMETHEUS).get_meter("shop").create_counter("n")
    for _ in range(2):
        counter.add(1, place(make()))
        counter.add(1, {"a": "other"})
    for points in everywhere():
        assert sum(number for *_, number in points) == 4
        assert len(points) in {2, 3}  # what has no text of its own has its address within a list


@needs_new_sdk
@pytest.mark.parametrize("values", [*DIFFERENT.values(), *SAME.values()], ids=[*DIFFERENT, *SAME])
def test_values_are_told_apart_where_the_sdk_tells_them_apart(provide, values):
    counter = provide(OPENTELEMETRY).get_meter("shop").create_counter("n")
    for value in values:
        counter.add(1, {"k": value})
    cleaned = [BoundedAttributes(attributes={"k": value})["k"] for value in values]
    if cleaned[0] == cleaned[1]:
        assert len(sent()) == 1


def test_types_are_told_apart_over_otlp(provide):
    counter = provide(OPENTELEMETRY).get_meter("shop").create_counter("n")
    values = [1, 1.0, True, "1", b"1", [1], [1.0], [True], ["1"], [b"1"], {"1": 1}, [], {}, "", None, [None]]
    for _ in range(2):
        for value in values:
            counter.add(1, {"k": value})
        counter.add(1)
    assert len(sent()) == len(values) + 1
    assert {number for *_, number in sent()} == {2}


def test_keys_that_are_no_text_count_as_the_text_they_are(provide):
    counter = provide(OPENTELEMETRY).get_meter("shop").create_counter("n")
    for key in (Key("k"), "k"):
        counter.add(1, {key: "x"})
    for key in (1, "1"):
        counter.add(1, {key: "x", "other": "y"})
        counter.add(1, {key: "z", "other": "y"})
    assert sorted(number for *_, number in sent()) == [2, 2, 2]


def test_odd_scopes_are_told_apart_and_sent(provide):
    provider = provide(OPENTELEMETRY, PROMETHEUS)
    meters = [
        provider.get_meter(*arguments)
        for arguments in [
            ("shop", (1, 2)),
            ("shop", "\ud800"),
            ("shop\udfff", "1", "\ud800"),
            (b"store",),
            (3,),
            ("shop", None, None, {"a": 1}),
            ("shop", None, None, {"a": True}),
            ("shop", None, None, {"a": {"b": [2**70]}, 3: uuid.UUID(int=1)}),
            ("shop", None, None, {"a": "\ud800", "": 1}),
            ("shop", None, None, absurd.Malicious()),
        ]
    ]
    for number, meter in enumerate(meters):
        meter.create_counter(f"n{number}", "\ud800", "\ud800" * 3).add(1)
    for points in everywhere():
        assert [number for *_, number in points] == [1] * len(meters)
    assert len({scope for (scope, *_), *_ in sent()}) == len(meters)


class Hostile:
    def _refuse(self, *_):
        raise RuntimeError("no")

    __str__ = __float__ = __bool__ = __len__ = __iter__ = _refuse


class HostileMapping(Hostile, Mapping):
    __getitem__ = items = Hostile._refuse


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=5)
    | st.binary(max_size=4)
    | st.decimals()
    | st.uuids()
    | st.builds(object)
    | st.builds(Hostile)
    | st.builds(HostileMapping)
    | st.sampled_from([*Colour, np.nan, np.int64(1)]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)
keys = st.text(st.characters(codec=None), max_size=4) | st.integers(0, 3) | st.none() | st.binary(max_size=1)
odd = st.builds(Hostile) | st.builds(HostileMapping) | st.sampled_from([3, "text", ("x",)])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.dictionaries(keys, anything, max_size=3) | odd, min_size=1, max_size=8), st.booleans())
def test_whatever_is_in_attributes_everything_is_counted_and_nothing_twice(measured, again):
    for name in (OTLP, PROM):
        registry.memory_of(name).clear()
    provider = MeterProvider([Feed(OTLP, OPENTELEMETRY), Feed(PROM, PROMETHEUS)])
    counter = provider.get_meter("shop", attributes=measured[0]).create_counter("n")
    for _ in range(1 + again):
        for each in measured:
            counter.add(1, each)
    for points in everywhere():
        assert sum(number for *_, number in points) == len(measured) * (1 + again)
    provider.shutdown()
