import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpylib_telemetry.aggregation import (
    OVERFLOW_LABELS,
    CounterSeries,
    GaugeSeries,
    HistogramSeries,
    MetricRefusedError,
    SeriesStore,
)

NOT_FINITE = [
    pytest.param(math.nan, id="nan"),
    pytest.param(math.inf, id="inf"),
    pytest.param(-math.inf, id="-inf"),
    pytest.param(10**5000, id="huge"),
    pytest.param(-(10**5000), id="-huge"),
]


def labels(**values):
    return tuple(sorted(values.items()))


@pytest.fixture
def reports():
    return []


@pytest.fixture
def store(reports):
    return SeriesStore(max_series=3, report=reports.append)


def test_a_counter_adds_integers_exactly():
    series = CounterSeries(())
    for _ in range(3):
        assert series.add(2**60 + 1)
    assert series.value == 3 * (2**60 + 1)


@pytest.mark.parametrize("amount", [-1, -0.001, *NOT_FINITE])
@pytest.mark.parametrize("start", [7, 7.5])
def test_a_counter_refuses_what_would_make_it_fall_or_poison_it(amount, start):
    series = CounterSeries(())
    series.add(start)
    assert not series.add(amount)
    assert series.value == start


def test_a_counter_never_becomes_infinite():
    series = CounterSeries(())
    assert series.add(sys.float_info.max)
    assert not series.add(sys.float_info.max)
    assert series.value == sys.float_info.max


@pytest.mark.parametrize("value", NOT_FINITE)
def test_a_gauge_refuses_what_is_not_finite(value):
    series = GaugeSeries(())
    series.set(4)
    assert not series.set(value)
    assert not series.add(value)
    assert series.value == 4


@pytest.mark.parametrize("value", NOT_FINITE)
def test_a_histogram_refuses_what_is_not_finite_entirely(value):
    series = HistogramSeries((), (1.0, 2.0))
    series.observe(1.5)
    assert not series.observe(value)
    assert (series.counts, series.sum, series.count) == ([0, 1, 0], 1.5, 1)


def test_a_bound_belongs_to_its_bucket():
    series = HistogramSeries((), (0.005, 0.01))
    for value in (0.005, math.nextafter(0.005, 1), 0.01, math.nextafter(0.01, 1)):
        assert series.observe(value)
    assert series.counts == [1, 2, 1]


@given(st.lists(st.floats(-1e6, 1e6)), st.lists(st.floats(-1e3, 1e3), unique=True, min_size=1).map(sorted))
def test_every_observation_is_in_exactly_the_bucket_its_value_says(values, bounds):
    series = HistogramSeries((), tuple(bounds))
    for value in values:
        assert series.observe(value)
    limits = [*bounds, math.inf]
    cumulated = [sum(series.counts[: index + 1]) for index in range(len(limits))]
    assert cumulated == [sum(value <= limit for value in values) for limit in limits]
    assert series.count == len(values)


def test_series_are_told_apart_by_their_labels_alone(store):
    metric = store.counter("hits", "Hits.")
    assert metric.at(labels(a="1")) is metric.at(labels(a="1"))
    assert metric.at(labels(a="1")) is not metric.at(labels(a="1", b="1"))
    assert store.counter("hits", "Other words.") is metric


def test_beyond_the_limit_one_series_takes_everything_and_it_is_said_once(store, reports):
    metric = store.counter("hits", "Hits.")
    for number in range(10):
        metric.at(labels(user=str(number))).add(1)
    assert len(metric.series) == 3
    assert metric.overflow.labels == OVERFLOW_LABELS == (("otel_metric_overflow", "true"),)
    assert metric.overflow.value == 7
    assert store.overflowing() == ["hits"]
    assert store.series_count() == 4
    assert len(reports) == 1
    assert "hits" in reports[0]
    assert "max_series" in reports[0]


def test_series_that_exist_keep_counting_when_the_metric_is_full(store):
    metric = store.counter("hits", "Hits.")
    for number in range(10):
        metric.at(labels(user=str(number))).add(1)
    metric.at(labels(user="0")).add(1)
    assert metric.series[labels(user="0")].value == 2


def test_a_lower_limit_takes_no_series_away_and_a_higher_one_makes_room(store):
    metric = store.gauge("level", "Level.")
    first = metric.at(labels(n="1"))
    metric.at(labels(n="2"))
    store.max_series = 1
    assert metric.at(labels(n="1")) is first
    assert metric.at(labels(n="3")).labels == OVERFLOW_LABELS
    store.max_series = 3
    assert metric.at(labels(n="3")).labels == labels(n="3")


def test_the_first_to_want_a_name_has_it_and_the_other_is_reported_once(store, reports):
    store.counter("jobs", "Jobs.").at(()).add(1)
    for _ in range(3):
        with pytest.raises(MetricRefusedError, match=r"jobs \(gauge\).*counter jobs"):
            store.gauge("jobs", "Jobs.")
    assert len(reports) == 1
    assert list(store.refusals) == ["jobs"]
    assert store.counter("jobs", "Jobs.").at(()).value == 1


def test_claimed_names_are_taken_for_others_both_ways(store):
    store.histogram("size", "Size.", (1,), claims=("size_sum", "size_count"))
    with pytest.raises(MetricRefusedError, match=r"size_sum .*histogram size"):
        store.gauge("size_sum", "Sum.")
    store.gauge("time_count", "Count.")
    with pytest.raises(MetricRefusedError, match=r"time_count belongs to the gauge time_count"):
        store.histogram("time", "Time.", (1,), claims=("time_sum", "time_count"))
    assert store.gauge("time_sum", "Nothing of a refused metric stays claimed.").name == "time_sum"


def test_metrics_are_limited_in_number(reports):
    store = SeriesStore(max_series=1, max_metrics=2, report=reports.append)
    store.gauge("a", "A.")
    store.gauge("b", "B.")
    with pytest.raises(MetricRefusedError, match="2 metrics already"):
        store.gauge("c", "C.")
    assert store.gauge("a", "A.").name == "a"
    assert len(reports) == 1


def test_refusals_do_not_fill_memory(reports):
    store = SeriesStore(max_series=1, max_metrics=0, report=reports.append)
    for number in range(1500):
        with pytest.raises(MetricRefusedError):
            store.gauge(f"m{number}", "M.")
    assert len(store.refusals) == len(reports) == 1000


def test_other_buckets_restart_only_the_histograms_that_had_different_ones(store):
    kept = store.histogram("kept", "Kept.", (1, 2))
    changed = store.histogram("changed", "Changed.", (5,))
    counter = store.counter("hits", "Hits.")
    for metric in (kept, changed):
        metric.at(()).observe(1)
    counter.at(()).add(1)
    before = store.generation
    assert store.rebucket((1, 2)) == 1
    assert kept.at(()).count == 1
    assert changed.at(()).counts == [0, 0, 0]
    assert counter.at(()).value == 1
    assert store.generation > before
    assert store.rebucket((1, 2)) == 0
    assert store.generation == before + 1


def test_a_removed_series_starts_again_and_a_removed_metric_frees_its_names(store):
    metric = store.histogram("size", "Size.", (1,), claims=("size_sum",))
    metric.at(labels(a="1")).observe(1)
    metric.at(labels(a="2")).observe(1)
    before = store.generation
    assert store.remove("size", labels(a="1"))
    assert not store.remove("size", labels(a="1"))
    assert metric.at(labels(a="1")).count == 0
    assert metric.at(labels(a="2")).count == 1
    assert store.remove("size")
    assert not store.remove("size")
    assert store.generation == before + 2
    assert store.gauge("size_sum", "Sum.").at(()).set(1)
    assert [metric.name for metric in store.metrics] == ["size_sum"]


def test_refused_samples_are_counted_by_reason(store):
    store.refuse("not a number")
    store.refuse("not a number", 2)
    assert store.refused == {"not a number": 3}
