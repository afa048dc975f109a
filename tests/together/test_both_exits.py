"""Whoever compares the Prometheus page with what leaves over OTLP finds equal numbers.

Two exporters, each with a store of its own, take the same events and the same measurements of the
OpenTelemetry API. Whenever both have taken what was emitted so far, every number of one is a number of the
other: counts, sums, every bucket and every quantile, in the middle of a load, between changes of
configuration and during them, after a crash, and at the end over real sockets, cumulative or added up.

What is compared of OTLP is decoded from the bytes of requests; the rules by which it is read are those of
OpenTelemetry's data model and of "Prometheus and OpenMetrics compatibility", written down here once more.
"""

import asyncio
import gzip
import math
import random
import time
import urllib.request
from collections import deque
from itertools import accumulate
from typing import NamedTuple

import pytest
from opentelemetry.metrics import Observation
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.resources import Resource
from otpylib import gen_server, process
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from otpylib_telemetry import execute
from otpylib_telemetry.aggregation.cursors import Cursors
from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.aggregation.temporality import Preference, Reading
from otpylib_telemetry.meters.provider import MeterProvider
from otpylib_telemetry.meters.streams import Feed
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS
from otpylib_telemetry.primitives.clock import wall_clock
from otpylib_telemetry_mock.otlp_receiver import HttpReceiver
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.sdk.metrics import MetricEncoder
from otpylib_telemetry_prometheus import start_prometheus_exporter
from otpylib_telemetry_prometheus.exposition.writer import Exposition
from tests.support import declare
from tests.support.chassis import runner
from tests.support.crash import crash
from tests.support.ledger import stats_of
from tests.support.versions import needs_new_client
from tests.support.waiting import eventually

OTEL, PROM = "otel_exporter", "prometheus_exporter"

#: The relative error a summary states where its definition says nothing else.
ERROR = 0.01

DEFINED = [
    {"type": "counter", "name": "shop.order.stop.count", "tags": ["country"]},
    {"type": "sum", "name": "shop.order.stop.amount", "unit": "EUR", "tags": ["country"]},
    {"type": "last_value", "name": "shop.order.stop.value"},
    {"type": "distribution", "name": "shop.order.stop.duration_ms", "unit": ["ms", "s"]},
    {
        "type": "distribution",
        "name": "shop.order.stop.size",
        "buckets": "exponential",
        "tags": ["country"],
    },
    {"type": "summary", "name": "shop.order.stop.weight"},
    {"type": "sum", "name": "shop.größe.count", "tags": ["größe"]},
]

#: How many orders a load has open at a time; the eldest ends first.
MOST_ORDERS = 20

#: Names on the page of what is measured through the OpenTelemetry API.
INSTRUMENTS = {
    "shop.api.calls": "shop_api_calls_total",
    "shop.api.open": "shop_api_open",
    "shop.api.level": "shop_api_level_seconds",
    "shop.api.took": "shop_api_took_seconds",
    "shop.api.seen": "shop_api_seen_bytes_total",
}


@pytest.fixture
async def both(runtime, http_receiver):
    """Start both exporters, with the same settings as far as they have the same."""

    async def start(definitions=(), **settings):
        shared = {"event_patterns": ["shop.*"]}
        await start_prometheus_exporter(
            {"port": 0, "self_metrics": False, "metrics": list(definitions) or "automatic", **shared}
        )
        await start_otel_exporter(
            {
                "endpoint": http_receiver.endpoint,
                "protocol": "http/protobuf",
                "metrics_definitions": list(definitions) or "automatic",
                "metrics_interval": 3600,
                "traces": False,
                "logs": False,
                **shared,
                **settings,
            }
        )
        await eventually(running)

    return start


async def running():
    states = [(await stats_of(name))["state"] for name in (OTEL, PROM)]
    return states == ["running", "running"]


@pytest.fixture
def meter():
    """A meter of the OpenTelemetry API that feeds both exits."""
    provider = MeterProvider([Feed(PROM, PROMETHEUS), Feed(OTEL, OPENTELEMETRY)])
    yield provider.get_meter("shop.api", "1.2")
    provider.shutdown()


# What a page says.


class Page(NamedTuple):
    """The numbers of a page by name and labels, those that are quantiles apart, and which are gauges."""

    numbers: dict
    quantiles: dict
    gauges: set


def of_the_page(text, parse=text_string_to_metric_families):
    page = Page({}, {}, set())
    for family in parse(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            if family.type == "summary" and "quantile" in sample.labels:
                page.quantiles[key] = sample.value
            else:
                page.numbers[key] = sample.value
                if family.type == "gauge":
                    page.gauges.add(key)
    return page


# What requests say.


class Metric(NamedTuple):
    """What tells the points of one stream from those of others."""

    scope: str
    version: str
    name: str
    unit: str
    kind: str
    monotonic: bool
    labels: tuple


class Explicit(NamedTuple):
    bounds: tuple
    counts: tuple
    sum: float

    def plus(self, other):
        assert self.bounds == other.bounds
        return Explicit(
            self.bounds,
            tuple(mine + more for mine, more in zip(self.counts, other.counts, strict=True)),
            self.sum + other.sum,
        )


class Exponential(NamedTuple):
    """Base-2 exponential buckets; those of index i take what is beyond ``base ** i``, up to the next."""

    scale: int
    zeros: int
    positive: dict
    negative: dict
    sum: float
    count: int

    def coarsened(self, scale):
        """The same at a lower scale, where two buckets are one."""
        steps = self.scale - scale
        assert steps >= 0
        return self._replace(
            scale=scale,
            positive=added(((index >> steps, count) for index, count in self.positive.items())),
            negative=added(((index >> steps, count) for index, count in self.negative.items())),
        )

    def plus(self, other):
        scale = min(self.scale, other.scale)
        mine, more = self.coarsened(scale), other.coarsened(scale)
        return Exponential(
            scale,
            mine.zeros + more.zeros,
            added([*mine.positive.items(), *more.positive.items()]),
            added([*mine.negative.items(), *more.negative.items()]),
            mine.sum + more.sum,
            mine.count + more.count,
        )

    def at_most(self, bound):
        """How many numbers are no greater than this bound of the page, told by the buckets of scale 0."""
        whole = self.coarsened(0)
        if bound == math.inf:
            return whole.count
        if bound < 0:
            # The bucket of -2**p reaches from there towards 0 and does not include it; what is told of is the
            # float before.
            power = round(math.log2(-bound))
            assert bound == math.nextafter(-(2.0**power), -math.inf)
            return sum(count for index, count in whole.negative.items() if index >= power)
        below = sum(whole.negative.values()) + whole.zeros
        if bound == 0:
            return below
        mantissa, exponent = math.frexp(bound)
        assert mantissa == 0.5
        return below + sum(count for index, count in whole.positive.items() if index + 1 <= exponent - 1)

    def bounds(self):
        """The bounds without which the page would tell less than the buckets of scale 0."""
        whole = self.coarsened(0)
        return {2.0 ** (index + 1) for index in whole.positive} | {2.0**index for index in whole.positive}

    def quantile(self, wanted):
        """A number of the bucket in which the quantile is: the middle one."""
        passed, rank = 0, math.floor(wanted * (self.count - 1))
        assert not self.negative
        passed += self.zeros
        for index in sorted(self.positive):
            passed += self.positive[index]
            if passed > rank:
                return 2.0 ** ((index + 0.5) * 2.0**-self.scale)
        raise AssertionError("more numbers than are counted")


def added(pairs):
    found = {}
    for index, count in pairs:
        if count:
            found[index] = found.get(index, 0) + count
    return found


def of_requests(messages):
    """What a receiver knows after these requests, of which the deltas are added up: metric -> value."""
    known = {}
    for message in messages:
        for metric, delta, value in points_of(message):
            known[metric] = plus(known[metric], value) if delta and metric in known else value
    return known


def plus(before, value):
    return before + value if isinstance(value, int | float) else before.plus(value)


def points_of(message):
    for resource in message.resource_metrics:
        for scoped in resource.scope_metrics:
            for metric in scoped.metrics:
                kind = metric.WhichOneof("data")
                data = getattr(metric, kind)
                for point in data.data_points:
                    stream = Metric(
                        scoped.scope.name,
                        scoped.scope.version,
                        metric.name,
                        metric.unit,
                        kind,
                        kind == "sum" and data.is_monotonic,
                        tuple(sorted((pair.key, text_of(pair.value)) for pair in point.attributes)),
                    )
                    yield stream, kind != "gauge" and data.aggregation_temporality == 1, value_of(kind, point)


def text_of(value):
    """A label's text of an attribute's value."""
    found = getattr(value, value.WhichOneof("value"))
    return {True: "true", False: "false"}[found] if isinstance(found, bool) else str(found)


def value_of(kind, point):
    if kind == "histogram":
        return Explicit(tuple(point.explicit_bounds), tuple(point.bucket_counts), point.sum)
    if kind == "exponential_histogram":
        positive, negative = (
            added(enumerate(side.bucket_counts, side.offset)) for side in (point.positive, point.negative)
        )
        return Exponential(point.scale, point.zero_count, positive, negative, point.sum, point.count)
    return getattr(point, point.WhichOneof("value"))


def as_a_page(known, page):
    """The same as numbers under the names and labels Prometheus has for them.

    Of exponential buckets those are told that the page tells, which have to be as many as there can be.
    """
    told = Page({}, {}, page.gauges)
    for metric, value in known.items():
        name, labels = name_of(metric), labels_of(metric)
        if isinstance(value, int | float):
            told.numbers[name, labels] = value
            continue
        told.numbers[f"{name}_sum", labels] = value.sum
        if isinstance(value, Explicit):
            told.numbers[f"{name}_count", labels] = sum(value.counts)
            bounds = [*value.bounds, math.inf]
            for bound, count in zip(bounds, accumulate(value.counts), strict=True):
                told.numbers[bucket(name, labels, bound)] = count
            continue
        told.numbers[f"{name}_count", labels] = value.count
        wanted = {key for key in page.quantiles if key[0] == name and without(key, "quantile") == labels}
        for key in wanted:
            told.quantiles[key] = value.quantile(float(dict(key[1])["quantile"]))
        if not wanted:
            bounds = {
                float(dict(key[1])["le"])
                for key in page.numbers
                if key[0] == f"{name}_bucket" and without(key, "le") == labels
            }
            if (f"{name}_count", labels) in page.numbers:
                assert value.bounds() | {math.inf} <= bounds, f"{name} {labels}: the page tells too little"
            for bound in bounds:
                told.numbers[bucket(name, labels, bound)] = value.at_most(bound)
    return told


def name_of(metric):
    if metric.scope != "otpylib_telemetry":
        return INSTRUMENTS[metric.name]
    unit = {"s": "_seconds", "EUR": "_EUR", "": "", "1": ""}[metric.unit]
    name = PROMETHEUS.metric(metric.name)
    name = name if not unit or name.endswith(unit) else name + unit
    return f"{name}_total" if metric.monotonic and not name.endswith("_total") else name


def labels_of(metric):
    if metric.scope == "otpylib_telemetry":
        # That of the overflow series has the name of a label that has a meaning.
        found = {PROMETHEUS.label(key).removeprefix("exported_"): text for key, text in metric.labels}
    else:
        found = {PROMETHEUS.attribute(key): text for key, text in metric.labels}
        found |= {"otel_scope_name": metric.scope, "otel_scope_version": metric.version}
    return tuple(sorted(found.items()))


def bucket(name, labels, bound):
    le = "+Inf" if bound == math.inf else repr(float(bound))
    return f"{name}_bucket", tuple(sorted((*labels, ("le", le))))


def without(key, label):
    return tuple(pair for pair in key[1] if pair[0] != label)


def with_floats(page):
    """The same with each ``le`` written in one way: a page has many ways to write a number."""
    numbers = {}
    for key, value in page.numbers.items():
        le = dict(key[1]).get("le") if key[0].endswith("_bucket") else None
        if le is not None:
            key = bucket(key[0].removesuffix("_bucket"), without(key, "le"), float(le))  # noqa: PLW2901 - the same key
        numbers[key] = value
    return page._replace(numbers=numbers)


# Comparing.


def collected():
    """Have both take what was emitted so far; nobody else runs meanwhile."""
    for name in (OTEL, PROM):
        runner(name).consumer.collect_now()


def exits(beginnings=("",)):
    """What both exits say at this moment: what is on the page, and what a request would hold.

    Of OTLP only metrics whose names on the page begin so.
    """
    collected()
    page = with_floats(of_the_page(Exposition().text([store_of(PROM)])))
    cursors = Cursors()
    reading = Reading(time.monotonic_ns(), wall_clock.offset_ns(), Preference.CUMULATIVE)
    points = []
    for metric in store_of(OTEL).metrics:
        points += cursors.advance(metric, metric.all_series(), reading)
    encoded = MetricEncoder(Resource.create()).encode(points)
    assert encoded.refused == 0, encoded.reason
    message = ExportMetricsServiceRequest.FromString(encoded.body)
    known = of_requests([message])
    return page, as_a_page(
        {m: value for m, value in known.items() if name_of(m).startswith(beginnings)}, page
    )


def compare():
    """Read both exits at this moment; the page, whose numbers are those of the other exit."""
    page, sent = exits()
    assert page.numbers == sent.numbers
    same_quantiles(page, sent)
    return page


def same_quantiles(page, sent):
    """Quantiles read off the same numbers differ by no more than the error that is stated."""
    assert page.quantiles == pytest.approx(sent.quantiles, rel=ERROR)


# What is measured.


@pytest.fixture
async def loads(meter):
    """A function that begins a load: ``loads(seed)``; it ends with the test at the latest."""
    begun = []

    def begin(seed):
        begun.append(Load(seed, meter))
        return begun[-1]

    yield begin
    for load in begun:
        await load.stop()


class Load:
    """Events and measurements of all kinds, from several tasks; the same ones each time for the same seed."""

    def __init__(self, seed, meter, tasks=5):
        self.emitted = 0
        self.weights = []
        self._orders = deque()
        self._random = random.Random(seed)
        self._calls = meter.create_counter("shop.api.calls")
        self._open = meter.create_up_down_counter("shop.api.open", "1")
        self._level = meter.create_gauge("shop.api.level", "s")
        self._took = meter.create_histogram("shop.api.took", "s")
        self._tasks = [asyncio.create_task(self._emit()) for _ in range(tasks)]

    async def _emit(self):
        rand = self._random
        while True:
            for _ in range(rand.randrange(60)):
                self.one()
            await asyncio.sleep(0)

    def one(self):
        """Measure something."""
        self.emitted += 1
        rand = self._random
        labels = {"country": rand.choice(["de", "fr", "it"])}
        match 2 if len(self._orders) > MOST_ORDERS else rand.randrange(6):
            case 0:
                execute("shop.visit", {"count": rand.choice([1, 2, 0.1])}, labels)
            case 1:
                self._orders.append(f"{id(self)}.{self.emitted}")
                execute("shop.order.start", {}, {"correlation_id": self._orders[-1], **labels})
            case 2:
                self.weights.append(rand.uniform(0.01, 1))
                measurements = {
                    "duration_ms": rand.expovariate(0.02),
                    "amount": rand.random() * 100,
                    "value": rand.gauss(0, 1),
                    "size": rand.choice([0, 1, -1, 0.6, -0.6]) * 2.0 ** rand.randrange(-3, 8),
                    "weight": self.weights[-1],
                }
                number = self._orders.popleft() if self._orders else "unknown"
                execute("shop.order.stop", measurements, {"correlation_id": number, **labels})
            case 3:
                execute("shop.odd", {"count": float("nan"), "value": rand.random()}, {"odd": object()})
            case 4:
                execute("shop.größe", {"count": 2}, {"größe": rand.choice(["süß", 'a"b\\c\nd', "", "𝄞"])})
            case 5:
                of_this = {"größe": rand.choice(["süß", "𝄞"]), "ok": rand.random() < 0.5, "n": 1}
                self._calls.add(rand.choice([1, 0.1]), of_this)
                self._open.add(rand.choice([1, -1]), of_this)
                self._level.set(rand.random(), labels)
                self._took.record(rand.expovariate(0.1), labels)

    async def goes_on(self, events):
        """Wait until so many more have been emitted."""
        enough = self.emitted + events
        while self.emitted < enough:
            await asyncio.sleep(0)

    async def stop(self):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.mark.parametrize("definitions", [(), DEFINED], ids=["automatic", "defined"])
async def test_both_exits_have_equal_numbers_at_any_moment_under_load(both, loads, definitions):
    await both(definitions)
    load = loads(1)
    seen = []
    for _ in range(40):
        await asyncio.sleep(random.Random(len(seen)).random() / 50)
        seen.append(compare())
    await load.stop()
    assert load.emitted > 5_000
    assert len(seen[-1].numbers) > 40
    assert seen[0] != seen[-1]
    names = {name for name, _ in seen[-1].numbers}
    assert {*INSTRUMENTS.values()} - {"shop_api_seen_bytes_total", "shop_api_took_seconds"} < names
    assert ("shop_gr__e_total" if not definitions else "shop_gr__e_count_total") in names


async def test_quantiles_on_the_page_and_of_the_buckets_sent_are_within_the_stated_error(both, loads):
    await both(DEFINED)
    load = loads(4)
    for _ in range(10):
        await load.goes_on(500)
        page, sent = exits()
        ordered = sorted(load.weights)
        for told in (page.quantiles, sent.quantiles):
            assert len(told) == 4
            for (_, labels), value in told.items():
                wanted = float(dict(labels)["quantile"])
                assert value == pytest.approx(ordered[math.floor(wanted * (len(ordered) - 1))], rel=ERROR)


async def test_powers_of_two_on_the_page_are_the_buckets_sent_made_coarser(both):
    await both(DEFINED)
    sizes = [0, -4, -4.1, -3.9, 2, 2.1, 8, 7.9, 1e-9, -1e-9, 3]
    for size in sizes:
        execute("shop.order.stop", {"size": size}, {"country": "de"})
    page = compare()
    told = {
        float(dict(labels)["le"]): value
        for (name, labels), value in page.numbers.items()
        if name == "shop_order_stop_size_bucket"
    }
    assert len(told) > 10
    for bound, count in told.items():
        assert count == sum(size <= bound for size in sizes)


# Across changes.

#: (key of the Prometheus exporter, key of the other, value, beginnings of the names that stay as they are)
CHANGES = [
    ("metrics", "metrics_definitions", DEFINED[:3], ("shop_order_stop_count", "shop_order_stop_amount")),
    ("buckets", "metrics_buckets", [0.01, 0.1, 1.0], ("shop_order_stop_count", "shop_order_stop_amount")),
    (
        "metrics",
        "metrics_definitions",
        [*DEFINED[1:], {**DEFINED[0], "tags": []}],
        ("shop_order_stop_amount", "shop_order_stop_value"),
    ),
    ("metrics", "metrics_definitions", "automatic", ()),
    ("drop_labels", "metrics_drop_labels", ["country"], ("shop_gr__e",)),
    ("buckets", "metrics_buckets", [0.02, 0.2], ("shop_gr__e", "shop_visit_total")),
    ("metrics", "metrics_definitions", DEFINED, ()),
]


async def test_both_exits_have_equal_numbers_across_reconfiguration_and_a_crash(both, loads):
    await both(DEFINED)
    load = loads(2)
    changes = [*CHANGES, ("max_series", "max_series", 2, ()), *CHANGES[::-1]]
    for there, here, value, _ in changes:
        await load.goes_on(500)
        compare()
        # The load rests while two processes take a change each at their own time: they would differ by what
        # was emitted between the two. The next test is without a rest. What waits in the queues is for both
        # of them to measure as was the rule when it was emitted.
        await load.stop()
        await change(there, here, value)
        await eventually(in_force(there, here, value))
        compare()
        load = loads(len(here))
    for name in (PROM, OTEL):
        await crash(name)
        await eventually(lambda name=name: process.whereis(name) is None)
    await load.stop()
    await both(DEFINED)
    assert len(compare().numbers) > 20


async def change(there, here, value):
    """Have both exporters told of a change in one step of the loop."""
    for name, section, key in ((PROM, "prometheus", there), (OTEL, "otel", here)):
        await gen_server.cast(name, ("config_changed", f"telemetry.{section}.{key}", None, value))


def in_force(there, here, value):
    def applied():
        for name, key in ((PROM, there), (OTEL, here)):
            at_work = runner(name)
            found = getattr(at_work.exporter.settings, key)
            if at_work.lifecycle.health.status != "running" or plain(found) != plain(value):
                return False
        return True

    async def check():
        return applied()

    return check


def plain(value):
    """A setting so that it can be compared with what was asked for: of definitions it is how many."""
    if isinstance(value, list | tuple) and value and not isinstance(value[0], float | str):
        return len(value)
    return list(value) if isinstance(value, list | tuple | frozenset | set) else value


async def test_a_load_that_never_rests_is_measured_alike_across_reconfiguration(both, loads):
    """Two processes take a change at two moments, and the load goes on in between.

    What stays as it is under the change is the same in both at every moment, during the change too. What is
    measured anew differs from then on by a fixed number: by what was emitted between the two moments, and by
    not one event more. Gauges, which forget, are the same again as soon as they are set.
    """
    await both(DEFINED)
    load = loads(5)
    apart = {}
    for there, here, value, staying in CHANGES:
        await load.goes_on(1_000)
        for _ in range(3):
            await asyncio.sleep(0.002)
            compare_but_for(apart)

        emitted = load.emitted
        await change(there, here, value)
        check = in_force(there, here, value)
        looks = 0
        while not await check():
            looks += 1
            assert looks < 10_000, f"{there} is not in force"
            if looks % 3 == 0:
                compare_but_for(apart, staying)
            await asyncio.sleep(0)
        between = load.emitted - emitted
        compare_but_for(apart, staying)

        # Operations that began in between end, and gauges are set, in both.
        await load.goes_on(3_000)
        earlier, _ = exits()
        await load.goes_on(500)
        page, sent = exits()
        assert page.numbers.keys() == sent.numbers.keys()
        before, apart = apart, differences(page, sent)
        for (name, labels), by in apart.items():
            key, same = (name, labels), before.get((name, labels), 0)
            still_set = key in page.gauges and earlier.numbers.get(key) != page.numbers[key]
            if still_set or name.startswith((*staying, "shop_api_")):
                assert by == pytest.approx(0 if still_set else same, abs=1e-6), (there, key)
            elif key in page.gauges:
                continue  # what nothing sets any more keeps what was set last under the old rule
            elif not name.endswith(("_sum", "_amount_EUR_total")):
                assert abs(by - same) <= 2 * between, (name, labels, by, between)
    await load.stop()
    compare_but_for(apart)


def differences(page, sent):
    return {key: value - sent.numbers[key] for key, value in page.numbers.items()}


def compare_but_for(apart, beginnings=("shop_",)):
    """Compare the numbers whose names begin so, but for what they are known to differ by."""
    page, sent = exits(beginnings)
    expected = {
        key: value + apart.get(key, 0) for key, value in sent.numbers.items() if key[0].startswith(beginnings)
    }
    found = {key: value for key, value in page.numbers.items() if key[0].startswith(beginnings)}
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("first", [PROM, OTEL])
async def test_what_was_emitted_before_a_change_is_measured_as_was_the_rule_then(both, first):
    await both(DEFINED)
    only = [{**DEFINED[0], "tags": []}]
    for number in range(3_000):
        execute("shop.order.stop", {"amount": number}, {"country": "de"})
    # The queues are full of what nobody has looked at when both hear of the change, without a pause.
    await change("metrics", "metrics_definitions", only)
    execute("shop.order.stop", {"amount": 7}, {"country": "de"})
    await eventually(in_force("metrics", "metrics_definitions", only))
    execute("shop.order.stop", {"amount": 7}, {"country": "de"})
    page, sent = exits()
    numbers = {PROM: page, OTEL: sent}[first].numbers
    # One is certainly of the new rule; the one emitted before it was in force may be of either.
    assert {name for name, _ in numbers} == {"shop_order_stop_count_total"}
    assert numbers["shop_order_stop_count_total", ()] in {1, 2}


async def test_what_was_emitted_before_a_change_of_endpoint_as_well_is_measured_as_was_the_rule_then(both):
    await both(DEFINED)
    only = [{**DEFINED[0], "tags": []}]
    for number in range(3_000):
        execute("shop.order.stop", {"amount": number}, {"country": "de"})
    with HttpReceiver() as elsewhere:
        settings = {"endpoint": elsewhere.endpoint, "metrics_definitions": only}
        await gen_server.cast(OTEL, ("config_changed", "telemetry.otel", {}, settings))
        await eventually(lambda: runner(OTEL).exporter.settings.endpoint == elsewhere.endpoint)
        runner(OTEL).consumer.collect_now()
        assert [metric.name for metric in store_of(OTEL).metrics] == ["shop.order.stop.count"]
        assert store_of(OTEL).metrics[0].all_series() == []
        await gen_server.call(OTEL, ("drain", 2.0))


# Over real sockets.


async def fetch(accept=""):
    port = (await stats_of(PROM))["port"]
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept, "Accept-Encoding": "gzip"}
    )

    def get():
        with urllib.request.urlopen(asked, timeout=60) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            return gzip.decompress(answer.read()).decode()

    return await asyncio.to_thread(get)


@needs_new_client
@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
@pytest.mark.parametrize("definitions", [(), DEFINED], ids=["automatic", "defined"])
async def test_both_exits_have_equal_numbers_over_real_sockets(
    both, loads, meter, http_receiver, definitions, temporality
):
    await both(definitions, metrics_temporality=temporality)
    meter.create_observable_counter(
        "shop.api.seen", [lambda _: [Observation(41, {"n": 1}), Observation(1.5, {"n": 2})]], "By"
    )
    for name in (PROM, OTEL):
        declare.counter(store_of(name), "größe_total", "Größe.").at((("straße", 'süß"\\\n'),)).add(3)
    load = loads(3)
    for _ in range(6):
        await load.goes_on(400)
        await gen_server.call(OTEL, ("flush", 60.0), timeout=60)
    await load.stop()
    await gen_server.call(OTEL, ("flush", 60.0), timeout=60)

    messages = [request.message for request in http_receiver.taken if request.signal == "metrics"]
    assert len(messages) > 5
    known = of_requests(messages)
    wire = [point for message in messages for point in points_of(message)]
    of_change = [(kind, delta) for (_, _, _, _, kind, monotonic, _), delta, _ in wire if monotonic]
    assert {delta for _, delta in of_change} >= {temporality == "delta"}

    page = with_floats(of_the_page(await fetch()))
    sent = as_a_page(known, page)
    assert len(page.numbers) > 50
    assert page.numbers.keys() ^ sent.numbers.keys() == set()
    assert page.numbers == pytest.approx(sent.numbers, rel=1e-9, abs=1e-9)
    same_quantiles(page, sent)
    assert len(page.quantiles) == (4 if definitions else 0)
    everything = {name for name, _ in page.numbers}
    assert "shop_api_seen_bytes_total" in everything
    assert "shop_api_took_seconds_bucket" in everything

    # Under its own name, where the scraper reads any.
    utf8 = of_the_page(
        await fetch("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"),
        openmetrics.text_string_to_metric_families,
    )
    (name,) = {metric.name for metric in known if metric.name.startswith("größe")}
    assert utf8.numbers[name, (("straße", 'süß"\\\n'),)] == 3
