"""Other views while instruments are in use."""

import sys
import threading

import pytest
from opentelemetry.metrics import Observation

from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.meters.streams import Feed
from otpylib_telemetry.meters.views import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    View,
)
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS
from tests.support.meters import OTLP, PROM, read, values


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
