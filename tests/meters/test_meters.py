"""Instruments of the OpenTelemetry API that write straight into the series of exporters."""

import decimal
import json
import os
import random
import subprocess
import sys
import threading
import time

import pytest
from opentelemetry import trace
from opentelemetry.metrics import NoOpCounter, NoOpMeter, Observation, set_meter_provider
from opentelemetry.sdk.metrics import view as sdk_view

from otpylib_telemetry import attach, span
from otpylib_telemetry.aggregation import observers
from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.aggregation.metric import OVERFLOW_LABELS, Kind, Scope
from otpylib_telemetry.meters.attributes import Attribute, attribute_value
from otpylib_telemetry.meters.provider import MeterProvider
from otpylib_telemetry.meters.streams import Feed
from otpylib_telemetry.meters.views import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS, instrument_name
from tests.support.waiting import eventually

PROM, OTLP = "meters_prom_exporter", "meters_otlp_exporter"


@pytest.fixture
def provide():
    """A function that makes a provider; they are shut down at the end."""
    made = []

    def make(*naming, **more):
        names = {PROMETHEUS: PROM, OPENTELEMETRY: OTLP}
        made.append(MeterProvider([Feed(names[each], each) for each in naming], **more))
        return made[-1]

    yield make
    for provider in made:
        provider.shutdown()


def values(name=OTLP):
    """What is in the store: by metric and attributes, the number."""
    return {
        (metric.name, *((key, attribute_value(value)) for key, value in series.labels)): (
            series.value if hasattr(series, "value") else (series.count, series.sum)
        )
        for metric in store_of(name).metrics
        for series in metric.all_series()
    }


def read(provider):
    reading = provider.take_reading()
    if reading is not None:
        reading.result(10)


# --- what is written ---------------------------------------------------------------------------------------


def test_what_is_measured_is_in_its_series_when_the_call_returns(provide):
    meter = provide(OPENTELEMETRY).get_meter("shop", "1.2", "https://schema", {"team": "blue"})
    meter.create_counter("sales", "{sale}", "What was sold").add(2, {"to": "x"})
    level = meter.create_up_down_counter("open")
    level.add(3)
    level.add(-1)
    meter.create_histogram("took", "s").record(7, {"to": "x"})
    meter.create_gauge("heat").set(-3.5)
    assert values() == {
        ("sales", ("to", "x")): 2,
        ("open",): 2,
        ("took", ("to", "x")): (1, 7),
        ("heat",): -3.5,
    }
    sales = next(metric for metric in store_of(OTLP).metrics if metric.name == "sales")
    assert (sales.unit, sales.description) == ("{sale}", "What was sold")
    assert sales.scope == Scope("shop", "1.2", "https://schema", (("team", "blue"),))


def test_for_prometheus_names_are_spelled_out_and_labels_tell_the_scope(provide):
    meter = provide(PROMETHEUS).get_meter("shop", "1.2", None, {"team": "blue"})
    meter.create_counter("shop..sales", "{sale}").add(
        1, {"a.b": 1, "a_b": True, "empty": "", "many": ["x", 1]}
    )
    meter.create_histogram("took", "s").record(1)
    assert set(values(PROM)) == {
        (
            "shop_sales_total",
            ("a_b", "1;true"),
            ("many", '["x",1]'),
            ("otel_scope_name", "shop"),
            ("otel_scope_team", "blue"),
            ("otel_scope_version", "1.2"),
        ),
        (
            "took_seconds",
            ("otel_scope_name", "shop"),
            ("otel_scope_team", "blue"),
            ("otel_scope_version", "1.2"),
        ),
    }


@pytest.mark.parametrize(
    ("name", "unit", "kind", "expected"),
    [
        ("http.server.duration", "s", "HISTOGRAM", ("http_server_duration_seconds", "seconds")),
        ("lag_seconds", "s", "GAUGE", ("lag_seconds", "seconds")),
        ("seconds_to_go", "s", "GAUGE", ("seconds_to_go_seconds", "seconds")),
        ("io", "By", "COUNTER", ("io_bytes_total", "bytes")),
        ("io_total", "By", "COUNTER", ("io_bytes_total", "bytes")),
        ("io.bytes.total", "By", "COUNTER", ("io_bytes_total", "bytes")),
        ("load", "1", "GAUGE", ("load_ratio", "ratio")),
        ("load", "1", "COUNTER", ("load_total", "")),
        ("requests", "{request}", "UP_DOWN", ("requests", "")),
        ("speed", "m/s", "GAUGE", ("speed_meters_per_second", "meters_per_second")),
        ("rate", "{packet}/min", "GAUGE", ("rate_per_minute", "per_minute")),
        ("x", "furlong", "GAUGE", ("x_furlong", "furlong")),
        ("a--b", "%", "GAUGE", ("a_b_percent", "percent")),
    ],
)
def test_names_for_prometheus(name, unit, kind, expected):
    assert instrument_name(name, unit, Kind[kind]) == expected


def test_both_exits_have_the_same_numbers(provide):
    meter = provide(PROMETHEUS, OPENTELEMETRY).get_meter("shop")
    counter, histogram = meter.create_counter("n"), meter.create_histogram("h")
    meter.create_observable_gauge("g", [lambda _: [Observation(3)]])
    for number in range(20):
        counter.add(number, {"a": number % 3})
        histogram.record(number)
    assert observers.refresh_blocking(OTLP)
    assert sorted(map(str, values(PROM).values())) == sorted(map(str, values(OTLP).values()))


def test_values_that_python_calls_equal_are_told_apart(provide):
    counter = provide(OPENTELEMETRY).get_meter("shop").create_counter("n")
    for value in (1, True, 1.0, "1", "true"):
        counter.add(1, {"a": value})
        counter.add(1, {"a": value})
    (metric,) = store_of(OTLP).metrics
    found = [(attribute_value(series.labels[0][1]), series.value) for series in metric.all_series()]
    assert sorted((type(value).__name__, str(value), count) for value, count in found) == [
        ("bool", "True", 2),
        ("float", "1.0", 2),
        ("int", "1", 2),
        ("str", "1", 2),
        ("str", "true", 2),
    ]
    assert Attribute("1", 1) != "1"
    assert Attribute("1", 1) == Attribute("1", 1)


def test_scopes_are_metrics_of_their_own_over_otlp_and_one_for_prometheus(provide):
    provider = provide(PROMETHEUS, OPENTELEMETRY)
    for scope in ("shop", "stock"):
        provider.get_meter(scope).create_counter("n").add(1)
    assert [metric.scope.name for metric in store_of(OTLP).metrics] == ["shop", "stock"]
    (one,) = store_of(PROM).metrics
    assert len(one.series) == 2


def test_buckets_are_those_of_the_view_else_those_suggested_else_those_of_the_specification(provide):
    views = [
        View(instrument_name="VIEW*", aggregation=ExplicitBucketHistogramAggregation([1, 2])),
        View(instrument_name="wide", aggregation=ExponentialBucketHistogramAggregation(40, 3)),
    ]
    meter = provide(OPENTELEMETRY, views=views).get_meter("shop")
    for name in ("viewed", "advised", "plain", "wide"):
        bounds = {"explicit_bucket_boundaries_advisory": [5, 6]} if name in {"viewed", "advised"} else {}
        meter.create_histogram(name, **bounds).record(1)
    found = {metric.name: metric for metric in store_of(OTLP).metrics}
    assert (found["viewed"].bounds, found["advised"].bounds) == ((1, 2), (5, 6))
    assert (found["plain"].bounds[0], found["plain"].bounds[-1]) == (0, 10_000)
    assert (found["wide"].max_size, found["wide"].scale) == (40, 3)


def test_a_view_renames_drops_and_filters(provide):
    views = [
        View(instrument_name="sales", name="sold", description="else", attribute_keys={"to"}),
        View(instrument_type=type(provide().get_meter("x").create_gauge("y")), aggregation=DropAggregation()),
        View(meter_name="noise", aggregation=DropAggregation()),
    ]
    provider = provide(OPENTELEMETRY, views=views)
    sales = provider.get_meter("shop").create_counter("sales")
    for number in range(5):
        sales.add(1, {"to": "x", "order": number})
    provider.get_meter("shop").create_gauge("heat").set(1)
    provider.get_meter("noise").create_counter("n").add(1)
    assert values() == {("sold", ("to", "x")): 5}


def test_two_views_that_make_one_metric_of_an_instrument_are_reported(provide, caplog):
    views = [View(instrument_name="n", attribute_keys=["a"]), View(instrument_name="*", attribute_keys=["b"])]
    provide(OPENTELEMETRY, views=views).get_meter("shop").create_counter("n")
    assert caplog.text.count("Two views make one metric n of the instrument n (shop)") == 1


def test_a_limit_of_a_view_overflows_into_one_series(provide):
    provider = provide(OPENTELEMETRY, views=[View(instrument_name="n", aggregation_cardinality_limit=3)])
    counter = provider.get_meter("shop").create_counter("n")
    for number in range(10):
        counter.add(1, {"a": number})
        counter.add(1, {"a": number})
    (metric,) = store_of(OTLP).metrics
    assert len(metric.series) == 3
    assert (metric.overflow.labels, metric.overflow.value) == (OVERFLOW_LABELS, 14)


def test_views_that_cannot_be_meant_are_refused_with_what_was_expected():
    for wrong, word in (
        (View, "at least one of"),
        (lambda: View(instrument_name="a*", name="b"), "several instruments"),
        (lambda: View(instrument_name="a", aggregation_cardinality_limit=0), "positive integer, got 0"),
        (lambda: ExplicitBucketHistogramAggregation([2, 1]), "ascending"),
        (lambda: ExplicitBucketHistogramAggregation([float("nan")]), "finite"),
        (lambda: ExponentialBucketHistogramAggregation(max_size=1), "2 or more, got 1"),
        (lambda: ExponentialBucketHistogramAggregation(max_scale=21), "-10 to 20, got 21"),
        (lambda: MeterProvider(callback_timeout=0), "seconds above 0"),
    ):
        with pytest.raises(ValueError, match=word):
            wrong()
    with pytest.raises(TypeError, match="View with the same arguments"):
        MeterProvider(views=[sdk_view.View(instrument_name="a")])
    with pytest.raises(TypeError, match="DropAggregation with the same arguments"):
        View(instrument_name="a", aggregation=sdk_view.DropAggregation())
    with pytest.raises(TypeError, match="set of names"):
        View(instrument_name="a", attribute_keys="abc")


# --- what cannot be taken ----------------------------------------------------------------------------------


class Hostile:
    def __float__(self):
        raise RuntimeError("no")

    def __bool__(self):
        raise RuntimeError("no")


def test_no_measurement_raises_and_what_is_refused_is_counted_and_said_once(provide, caplog):
    meter = provide(OPENTELEMETRY).get_meter("shop")
    counter = meter.create_counter("n")
    for amount in (-1, float("nan"), float("inf"), "3", None, Hostile(), 10**400):
        counter.add(amount)
        counter.add(amount)
    for given in (Hostile(), [1], "text"):
        counter.add(1, given)
    meter.create_histogram("h").record(-1)
    assert values() == {}
    assert store_of(OTLP).refused == {
        "not finite, or negative where that cannot be": 9,
        "not a number": 6,
        "failed": 3,
    }
    assert len([record for record in caplog.records if " n (shop)" in record.getMessage()]) == 3


def test_numbers_of_other_types_are_taken(provide):
    counter = provide(OPENTELEMETRY).get_meter("shop").create_counter("n")
    counter.add(True)
    counter.add(decimal.Decimal("1.5"))
    assert values() == {("n",): 2.5}


def test_attributes_that_are_none_are_left_out(provide):
    counter = provide(OPENTELEMETRY).get_meter("shop").create_counter("n")
    for _ in range(2):
        counter.add(1, {"a": object(), 3: "x", "": "y", "b": "z"})
        counter.add(1, {"b": "z", "a": None})
    assert values() == {("n", ("b", "z")): 4}


def test_an_instrument_with_an_impossible_name_has_no_effect_and_is_reported_once(provide, caplog):
    provider = provide(OPENTELEMETRY)
    meter = provider.get_meter("shop")
    for name in ("", "1a", "a b", "ä", "a" * 256, None, 3):
        for _ in range(2):
            made = meter.create_counter(name)
            assert type(made) is NoOpCounter
            made.add(1)
    meter.create_observable_gauge("1a", [lambda _: []])
    assert values() == {}
    assert len(provider.refused) == 7
    assert len(caplog.records) == 7


def test_instruments_of_one_name_are_one_whatever_the_case(provide, caplog):
    provider = provide(OPENTELEMETRY)
    first = provider.get_meter("shop").create_counter("Sales")
    assert provider.get_meter("shop") is provider.get_meter("shop")
    assert provider.get_meter("shop").create_counter("Sales") is first
    assert caplog.text == ""
    first.add(1)
    provider.get_meter("shop").create_counter("sALES").add(1)
    assert values() == {("Sales",): 2}


def test_two_instruments_of_one_name_that_differ_both_work_and_it_is_said_once(provide, caplog):
    meter = provide(OPENTELEMETRY).get_meter("shop")
    for _ in range(3):
        meter.create_counter("n", "s", "One").add(1)
        meter.create_counter("n", "s", "Other").add(1)
        meter.create_gauge("n", "s", "One").set(5)
    assert sorted((metric.kind.value, metric.all_series()[0].value) for metric in store_of(OTLP).metrics) == [
        ("counter", 6),
        ("gauge", 5),
    ]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "the description 'One' and 'Other'" in said[0]
    assert "the kind 'Counter' and 'Gauge'" in said[1]


def test_other_buckets_for_the_same_histogram_are_reported_and_not_used(provide, caplog):
    meter = provide(OPENTELEMETRY).get_meter("shop")
    meter.create_histogram("h", explicit_bucket_boundaries_advisory=[1]).record(1)
    meter.create_histogram("h", explicit_bucket_boundaries_advisory=[2]).record(1)
    meter.create_histogram("odd", explicit_bucket_boundaries_advisory=["x"]).record(1)
    assert values() == {("h",): (2, 2), ("odd",): (1, 1)}
    assert "those of then stay" in caplog.text
    assert "The buckets that odd (shop) suggests are not used" in caplog.text


def test_a_name_that_prometheus_cannot_have_twice_is_counted_and_the_first_goes_on(provide, caplog):
    provider = provide(PROMETHEUS)
    first = provider.get_meter("shop").create_gauge("n")
    first.set(1)
    other = provider.get_meter("stock").create_histogram("n")
    for _ in range(3):
        other.record(1)
    first.set(2)
    assert list(values(PROM).values()) == [2]
    assert store_of(PROM).refused == {"metric refused": 3}
    assert caplog.text.count("metric n (histogram) is left out") == 1


def test_a_disabled_sdk_makes_no_metrics(provide, monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "True")
    provider = provide(OPENTELEMETRY)
    assert type(provider.get_meter("shop")) is NoOpMeter
    provider.get_meter("shop").create_counter("n").add(1)
    assert values() == {}


def test_after_shutdown_instruments_have_no_effect_and_what_was_written_stays(provide, caplog):
    provider = provide(OPENTELEMETRY)
    counter = provider.get_meter("shop").create_counter("n")
    provider.get_meter("shop").create_observable_gauge("g", [lambda _: [Observation(7)]])
    counter.add(1)
    provider.shutdown()
    counter.add(1)
    assert values() == {("n",): 1, ("g",): 7}
    assert type(provider.get_meter("shop")) is NoOpMeter
    assert "shut down" in caplog.text
    provider.shutdown()


def test_a_flush_reads_what_is_observed_and_has_it_exported(provide):
    flushed = []
    provider = provide(OPENTELEMETRY, flush=lambda seconds: flushed.append(seconds) or True)
    provider.get_meter("shop").create_observable_gauge("g", [lambda _: [Observation(7)]])
    assert provider.force_flush(5_000) is True
    assert values() == {("g",): 7}
    assert 0 < flushed[0] <= 5
    provider.flush = lambda _seconds: False
    assert provider.force_flush() is False


# --- series that go, stores that change --------------------------------------------------------------------


def test_a_series_that_has_gone_comes_back_with_the_next_measurement(provide):
    counter = provide(OPENTELEMETRY).get_meter("shop").create_counter("n")
    counter.add(1, {"a": "x"})
    counter.add(1)
    store = store_of(OTLP)
    store.expire(0, 10)
    store.expire(1, 10)
    assert store.expire(20, 10) == 2
    counter.add(5, {"a": "x"})
    counter.add(7)
    assert values() == {("n", ("a", "x")): 5, ("n",): 7}
    assert store.remove(store.metrics[0].name) is False  # it is known by name and scope
    (key,) = store._metrics
    store.remove(key)
    counter.add(2)
    assert values() == {("n",): 2}


def test_an_exporter_can_be_added_and_taken_away(provide):
    provider = provide()
    counter = provider.get_meter("shop").create_counter("n")
    counter.add(1)
    feed = Feed(OTLP, OPENTELEMETRY)
    provider.add_feed(feed)
    provider.add_feed(feed)
    counter.add(2)
    provider.remove_feed(feed)
    counter.add(4)
    assert values() == {("n",): 2}


FORKED = """
import json, os, sys, threading
from opentelemetry.metrics import Observation
from otpylib_telemetry.meters.streams import Feed; from otpylib_telemetry.meters.provider import MeterProvider
from otpylib_telemetry.aggregation import observers as observations
from otpylib_telemetry.metrics.names import PROMETHEUS
from otpylib_telemetry.aggregation.exporter_stores import store_of

provider = MeterProvider([Feed("p", PROMETHEUS)])
meter = provider.get_meter("shop")
counter = meter.create_counter("n")
stuck, entered = threading.Event(), threading.Event()

def observe(options):
    if os.getpid() == parent:
        entered.set()
        stuck.wait(20)
    return [Observation(os.getpid())]

parent = os.getpid()
meter.create_observable_gauge("pid", [observe])
counter.add(100)
provider.take_reading()
entered.wait(10)

def seen():
    return sorted(series.value for metric in store_of("p").metrics for series in metric.all_series())

provider._lock.acquire()   # as if another thread held it
child = os.fork()
if child == 0:
    counter.add(1)
    observations.refresh_blocking("p")
    assert seen() == sorted([1, os.getpid()]), seen()
    os._exit(0)
provider._lock.release()
stuck.set()
_, status = os.waitpid(child, 0)
counter.add(1)
observations.refresh_blocking("p")
assert seen() == sorted([101, parent]), seen()
assert status == 0
print("well")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_counts_for_itself_from_nothing():
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", FORKED],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "well\n", done.stderr


# --- threads -----------------------------------------------------------------------------------------------


def test_no_increment_is_lost_or_torn_by_eight_threads(provide):
    meter = provide(PROMETHEUS, OPENTELEMETRY).get_meter("shop")
    counter, histogram = meter.create_counter("n"), meter.create_histogram("h")
    threads, each = 8, 3_000
    start, torn, running = threading.Barrier(threads + 1), [], threading.Event()

    def work(seed):
        order = random.Random(seed)
        start.wait()
        for _ in range(each):
            counter.add(1, {"a": order.choice("xyz")})
            histogram.record(2, {"a": order.choice("xyz")})

    def look():
        store = store_of(OTLP)
        while not running.is_set():
            for metric in store.metrics:
                with store.lock:
                    torn.extend(
                        one for one in metric.all_series() if hasattr(one, "sum") and one.sum != 2 * one.count
                    )

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
    reader = threading.Thread(target=look)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in (*workers, reader):
            thread.start()
        start.wait()
        for thread in workers:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
        running.set()
        reader.join()
    assert torn == []
    for name in (PROM, OTLP):
        found = values(name)
        assert sum(value for value in found.values() if not isinstance(value, tuple)) == threads * each
        assert sum(value[0] for value in found.values() if isinstance(value, tuple)) == threads * each


# --- exemplars ---------------------------------------------------------------------------------------------


def in_span(sampled):
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if sampled else 0)
    return trace.set_span_in_context(
        trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=flags))
    )


def exemplars():
    found = {}
    for metric in store_of(OTLP).metrics:
        for series in metric.all_series():
            several = [each for each in getattr(series, "exemplars", None) or [] if each is not None]
            one = getattr(series, "exemplar", None)
            found[metric.name] = several[0] if several else one
    return found


def test_an_exemplar_names_the_sampled_span_of_opentelemetry(provide):
    meter = provide(OPENTELEMETRY).get_meter("shop")
    meter.create_counter("n").add(3, context=in_span(sampled=True))
    meter.create_histogram("h").record(4, context=in_span(sampled=True))
    meter.create_counter("unsampled").add(1, context=in_span(sampled=False))
    meter.create_counter("none").add(1)
    meter.create_counter("odd").add(1, context="what")
    found = exemplars()
    for name, value in (("n", 3), ("h", 4)):
        assert found[name].value == value
        assert (found[name].traced.trace_id, found[name].traced.span_id) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert found["unsampled"] is found["none"] is found["odd"] is None
    assert ("odd",) in values()


async def test_an_exemplar_names_our_own_span_where_there_is_no_other(provide, runtime):
    meter = provide(OPENTELEMETRY).get_meter("shop")
    await attach("listener", "shop.*", lambda *_: None)
    with span("shop.checkout", {}) as here:
        meter.create_counter("n").add(1)
        ids = here.context.trace_id, here.context.span_id
    found = exemplars()["n"]
    assert (found.traced.trace_id, found.traced.span_id) == ids


def test_exemplars_can_be_turned_off(provide, monkeypatch):
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "always_off")
    provide(OPENTELEMETRY).get_meter("shop").create_counter("n").add(3, context=in_span(sampled=True))
    assert exemplars() == {"n": None}


# --- observable instruments --------------------------------------------------------------------------------


def test_what_is_not_observed_any_more_goes_and_comes_back(provide):
    provider = provide(PROMETHEUS, OPENTELEMETRY)
    present = {"x": 1, "y": 2}

    def observe(_options):
        return [Observation(value, {"a": key}) for key, value in present.items()]

    meter = provider.get_meter("shop")
    meter.create_observable_gauge("g", [observe])
    meter.create_observable_counter("c", [observe])
    meter.create_observable_up_down_counter("u", [observe])
    read(provider)
    assert values() == {(name, ("a", key)): value for name in "gcu" for key, value in present.items()}
    present = {"y": 5}
    read(provider)
    assert values() == {(name, ("a", "y")): 5 for name in "gcu"}
    assert len(values(PROM)) == 3
    present = {"x": 7, "y": 5}
    read(provider)
    assert len(values()) == 6


def test_a_failing_callback_costs_its_own_series_alone_until_it_works_again(provide, caplog):
    provider = provide(OPENTELEMETRY)
    meter = provider.get_meter("shop")
    failing = True

    def sometimes(_options):
        yield Observation(1, {"a": "early"})
        if failing:
            raise KeyError("gone")

    meter.create_observable_gauge("sometimes", [sometimes])
    meter.create_observable_gauge("always", [lambda _: [Observation(2)]])
    failing = False
    read(provider)
    assert values() == {("sometimes", ("a", "early")): 1, ("always",): 2}
    failing = True
    for _ in range(3):
        read(provider)
        assert values() == {("always",): 2}
    assert caplog.text.count("The callback of sometimes (shop) cannot be used: KeyError") == 1
    failing = False
    read(provider)
    assert values() == {("sometimes", ("a", "early")): 1, ("always",): 2}
    failing = True
    read(provider)
    assert caplog.text.count("The callback of sometimes") == 2


@pytest.mark.parametrize("returned", [3, "text", [3], [Observation("x")], [Observation(1, 5)]])
def test_a_callback_that_returns_something_else_is_reported(provide, caplog, returned):
    provider = provide(OPENTELEMETRY)
    provider.get_meter("shop").create_observable_gauge("g", [lambda _: returned])
    read(provider)
    assert values() == {}
    assert "The callback of g (shop) cannot be used" in caplog.text


def test_a_callback_may_exit_and_be_a_generator_and_return_nothing(provide):
    def exits(_options):
        raise SystemExit

    def generator():
        options = yield
        for number in (1, 2):
            assert options.timeout_millis == 1_000
            options = yield [Observation(number)]

    provider = provide(OPENTELEMETRY)
    meter = provider.get_meter("shop")
    meter.create_observable_gauge("exits", [exits])
    meter.create_observable_gauge("nothing", [lambda _: None])
    meter.create_observable_gauge("generator", [generator()])
    meter.create_observable_gauge("none")
    for number in (1, 2):
        read(provider)
        assert values() == {("generator",): number}
    read(provider)
    assert values() == {}


def test_slow_callbacks_cost_themselves_alone_and_are_not_called_twice_at_once(provide, caplog):
    provider = provide(OPENTELEMETRY, callback_timeout=0.3)
    meter = provider.get_meter("shop")
    go = threading.Event()
    calls = []

    def slow(name):
        def call(_options):
            calls.append(name)
            go.wait(20)
            return [Observation(1)]

        return call

    for number in range(5):
        meter.create_observable_gauge(f"slow{number}", [slow(number)])
        meter.create_observable_gauge(f"quick{number}", [lambda _: [Observation(2)]])
    quick = {(f"quick{number}",): 2 for number in range(5)}
    for _ in range(2):
        read(provider)
        assert values() == quick
        # All of them are at it at once, and none is called again before it has come back.
        assert sorted(calls) == [0, 1, 2, 3, 4]
    assert caplog.text.count("it takes too long") == 5
    go.set()

    def all_back():
        read(provider)
        return len(values()) == 10

    deadline = time.monotonic() + 10
    while not all_back() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(values()) == 10


def test_a_callback_given_twice_is_asked_once_and_the_later_observation_counts(provide):
    provider = provide(OPENTELEMETRY)
    calls = []

    def observe(_options):
        calls.append(1)
        return [Observation(1, {"a": "x"}), Observation(2, {"a": "x"})]

    for _ in range(2):
        provider.get_meter("shop").create_observable_counter("n", [observe])
    provider.get_meter("shop").create_observable_counter("n", [lambda _: [Observation(9, {"a": "y"})]])
    read(provider)
    assert (len(calls), values()) == (1, {("n", ("a", "x")): 2, ("n", ("a", "y")): 9})


def test_an_attribute_filter_adds_up_observed_sums(provide):
    views = [View(instrument_name="*", attribute_keys=["a"])]
    provider = provide(OPENTELEMETRY, views=views)
    found = [Observation(3, {"a": "x", "b": "1"}), Observation(4, {"a": "x", "b": "2"})]
    provider.get_meter("shop").create_observable_counter("n", [lambda _: found])
    provider.get_meter("shop").create_observable_gauge("g", [lambda _: found])
    for _ in range(2):
        read(provider)
        assert values() == {("n", ("a", "x")): 7, ("g", ("a", "x")): 4}


def test_observed_series_beyond_the_limit_add_up_in_the_overflow_series_and_leave_it(provide):
    views = [View(instrument_name="n", aggregation_cardinality_limit=2)]
    provider = provide(OPENTELEMETRY, views=views)
    count = 5
    provider.get_meter("shop").create_observable_counter(
        "n", [lambda _: [Observation(10, {"a": number}) for number in range(count)]]
    )
    for _ in range(2):
        read(provider)
        (metric,) = store_of(OTLP).metrics
        assert (len(metric.series), metric.overflow.value) == (2, 30)
    count = 1
    read(provider)
    assert (len(metric.series), metric.overflow) == (1, None)


def test_a_negative_or_infinite_observation_is_refused_and_its_series_goes(provide):
    provider = provide(OPENTELEMETRY)
    observed = [1]
    provider.get_meter("shop").create_observable_counter("n", [lambda _: [Observation(observed[-1])]])
    read(provider)
    assert values() == {("n",): 1}
    for value in (-1, float("inf"), float("nan")):
        observed.append(value)
        read(provider)
        assert values() == {}
    assert store_of(OTLP).refused == {"not finite, or negative where that cannot be": 3}


def test_an_observed_counter_that_stands_still_does_not_expire(provide):
    provider = provide(OPENTELEMETRY)
    provider.get_meter("shop").create_observable_counter("n", [lambda _: [Observation(5)]])
    provider.get_meter("shop").create_observable_up_down_counter("u", [lambda _: [Observation(0)]])
    for now in (0, 5, 10, 15, 20):
        read(provider)
        store_of(OTLP).expire(now, 8)
    assert len(values()) == 2


async def test_readings_at_the_same_time_share_one_round(provide, runtime):
    provider = provide(PROMETHEUS, OPENTELEMETRY)
    calls, go = [], threading.Event()

    def observe(_options):
        calls.append(1)
        go.wait(5)
        return [Observation(len(calls))]

    provider.get_meter("shop").create_observable_gauge("g", [observe])
    first = provider.take_reading()
    await eventually(lambda: calls)
    assert provider.take_reading() is first
    go.set()
    await observers.refresh(OTLP)
    assert values(PROM) == {("g", ("otel_scope_name", "shop")): 1}
    await observers.refresh(PROM)
    assert values() == {("g",): 2}


async def test_a_reading_where_nobody_observes_does_nothing(provide, runtime):
    await observers.refresh("nobody_exporter")
    assert provide(OPENTELEMETRY).take_reading() is None

    class Broken:
        def take_reading(self):
            raise RuntimeError

    broken = Broken()
    observers.register(OTLP, broken)
    await observers.refresh(OTLP)
    observers.unregister(OTLP, broken)


def test_what_is_read_without_being_asked_is_observed_from_time_to_time(provide):
    provider = provide(OPENTELEMETRY)
    calls = []
    provider.get_meter("shop").create_observable_gauge("g", [lambda _: calls.append(1)])
    regularly = observers.Regularly(OTLP, interval=5)
    assert [regularly.tick(int(seconds * 1e9)) for seconds in (1, 2, 5.9, 6, 10, 11.1)] == [
        *(True, False, False),
        *(True, False, True),
    ]
    read(provider)
    assert calls


# --- what is imported --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("imported", "absent"),
    [
        ("otpylib_telemetry.aggregation.observers", ["opentelemetry"]),
        ("otpylib_telemetry.meters.views", ["opentelemetry"]),
        ("otpylib_telemetry.meters.streams", ["opentelemetry"]),
        (
            "otpylib_telemetry_prometheus.meter_provider",
            ["opentelemetry.sdk", "aiohttp", "prometheus_client"],
        ),
    ],
)
def test_no_more_is_imported_than_needed(imported, absent):
    program = f"import {imported}, json, sys; print(json.dumps([m for m in {absent!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_it_is_a_meter_provider_to_opentelemetry():
    assert callable(set_meter_provider)
    program = """
from opentelemetry import metrics
early = metrics.get_meter("early").create_counter("n")
from otpylib_telemetry_prometheus.meter_provider import PrometheusMeterProvider
from otpylib_telemetry.aggregation.exporter_stores import store_of
metrics.set_meter_provider(PrometheusMeterProvider())
early.add(2)
metrics.get_meter("late").create_counter("n").add(3)
print(sorted(one.value for metric in store_of("prometheus_exporter").metrics for one in metric.all_series()))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert done.stdout == "[2, 3]\n", done.stderr


# --- other views while it runs ------------------------------------------------------------------------------


def buckets(*bounds):
    return View(instrument_name="took", aggregation=ExplicitBucketHistogramAggregation(bounds))


@pytest.mark.parametrize("naming", [OPENTELEMETRY, PROMETHEUS])
def test_other_buckets_are_used_at_once_and_begin_with_nothing(provide, naming, caplog):
    provider = provide(naming, views=[buckets(1, 2)])
    took = provider.get_meter("shop").create_histogram("took")
    took.record(1.5)
    provider.use_views([buckets(1, 5)])
    took.record(4)
    (metric,) = store_of(PROM if naming is PROMETHEUS else OTLP).metrics
    (series,) = metric.all_series()
    assert (metric.bounds, series.counts) == ((1, 5), [0, 1, 0])
    assert "two sets of buckets" not in caplog.text


@pytest.mark.parametrize("naming", [OPENTELEMETRY, PROMETHEUS])
def test_what_a_view_drops_or_renames_goes_and_the_rest_goes_on(provide, naming):
    provider = provide(naming)
    name = PROM if naming is PROMETHEUS else OTLP
    meter = provider.get_meter("shop")
    gone, other = meter.create_up_down_counter("gone"), meter.create_up_down_counter("other")

    def names():
        return {key[0]: number for key, number in values(name).items()}

    gone.add(1)
    other.add(1)
    provider.use_views([View(instrument_name="gone", aggregation=DropAggregation())])
    gone.add(1)
    other.add(1)
    assert names() == {"other": 2}
    provider.use_views([View(instrument_name="gone", name="renamed")])
    gone.add(1)
    other.add(1)
    assert names() == {"other": 3, "renamed": 1}
    provider.use_views([])
    gone.add(1)
    assert names() == {"other": 3, "gone": 1}


def test_other_attributes_leave_no_frozen_series(provide):
    provider = provide(OPENTELEMETRY)
    sales = provider.get_meter("shop").create_counter("sales")
    sales.add(1, {"to": "x"})
    sales.add(1, {"to": "y"})
    provider.use_views([View(instrument_name="sales", attribute_keys=[])])
    sales.add(1, {"to": "x"})
    assert values() == {("sales",): 1}


def test_another_description_or_limit_costs_no_number(provide):
    provider = provide(OPENTELEMETRY)
    sales = provider.get_meter("shop").create_counter("sales")
    sales.add(1)
    provider.use_views([View(instrument_name="sales", description="Sold.", aggregation_cardinality_limit=3)])
    sales.add(1)
    (metric,) = store_of(OTLP).metrics
    assert (values(), metric.description, metric.max_series) == ({("sales",): 2}, "Sold.", 3)
    provider.use_views([View(instrument_name="sales", name="renamed")])
    assert values() == {}, "also what was begun under earlier views goes"


def test_on_a_shared_metric_only_what_is_ones_own_goes(provide):
    provider = provide(PROMETHEUS)
    mine, theirs = (provider.get_meter(name).create_counter("sales") for name in ("mine", "theirs"))
    mine.add(1)
    theirs.add(2)
    provider.use_views([View(instrument_name="sales", meter_name="mine", aggregation=DropAggregation())])
    mine.add(4)
    theirs.add(2)
    assert values(PROM) == {("sales_total", ("otel_scope_name", "theirs")): 4}


def test_views_changed_while_an_exporter_is_not_fed_hold_when_it_is_again(provide):
    feed = Feed(OTLP, OPENTELEMETRY)
    provider = provide(OPENTELEMETRY, views=[buckets(1, 2)])
    took = provider.get_meter("shop").create_histogram("took")
    took.record(1)
    provider.remove_feed(feed)
    assert values() == {("took",): (1, 1)}, "what was written stays"
    provider.use_views([buckets(7)])
    provider.add_feed(feed)
    took.record(5)
    (metric,) = store_of(OTLP).metrics
    assert (metric.bounds, values()) == ((7,), {("took",): (1, 5)})


def test_a_measurement_on_its_way_while_views_change_is_counted_and_makes_no_series(provide):
    provider = provide(OPENTELEMETRY)
    sales = provider.get_meter("shop").create_counter("sales")
    sales.add(1)
    (late,) = sales.streams
    provider.use_views([View(instrument_name="sales", aggregation=DropAggregation())])
    late.write(1, {}, None)
    assert values() == {}
    assert store_of(OTLP).refused == {"view changed": 1}


def test_series_that_come_and_go_are_not_remembered_for_ever(provide):
    provider = provide(OPENTELEMETRY)
    seen = iter(range(100))
    gauge = provider.get_meter("shop").create_observable_gauge(
        "turn", [lambda _: [Observation(1, {"turn": next(seen)})]]
    )
    for _ in range(20):
        read(provider)
    assert len(gauge.streams[0].written) == 1


def test_lists_that_differ_are_two_series(provide):
    sales = provide(OPENTELEMETRY).get_meter("shop").create_counter("sales")
    for to in ([], ["x"], ["x"]):
        sales.add(1, {"to": to})
    assert values() == {("sales", ("to", ())): 1, ("sales", ("to", ("x",))): 2}


def test_threads_that_measure_first_all_write_into_one_store(provide):
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for turn in range(60):
            feed = Feed(f"first_{turn}_exporter", OPENTELEMETRY)
            provider = provide()
            provider.add_feed(feed)
            counter, start = provider.get_meter("shop").create_counter("n"), threading.Barrier(8)

            def work(counter=counter, start=start):
                start.wait()
                counter.add(1)

            workers = [threading.Thread(target=work) for _ in range(8)]
            for thread in workers:
                thread.start()
            for thread in workers:
                thread.join()
            assert values(feed.exporter) == {("n",): 8}
    finally:
        sys.setswitchinterval(interval)
