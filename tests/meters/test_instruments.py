"""What is measured through instruments of the OpenTelemetry API, in the series of exporters."""

import asyncio

import pytest
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import view as sdk_view

from otpylib_telemetry.aggregation import observers
from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.aggregation.metric import OVERFLOW_LABELS
from otpylib_telemetry.aggregation.metric_spec import Kind, Scope
from otpylib_telemetry.meters.attributes import Attribute, attribute_value
from otpylib_telemetry.meters.provider import MeterProvider
from otpylib_telemetry.meters.views import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS, instrument_name
from tests.support.meters import OTLP, PROM, values


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
        ("rate", "{packet}/min", "GAUGE", ("rate_per_min", "per_min")),
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
    assert asyncio.run(observers.refresh(OTLP))
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
