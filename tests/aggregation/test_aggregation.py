import math
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpylib_telemetry.aggregation.distribution_series import HistogramSeries
from otpylib_telemetry.aggregation.metric import OVERFLOW_LABELS, Counter
from otpylib_telemetry.aggregation.metric_spec import SummaryShape
from otpylib_telemetry.aggregation.number_series import CounterSeries, GaugeSeries, UpDownSeries
from otpylib_telemetry.aggregation.refusals import MetricRefusedError
from otpylib_telemetry.aggregation.store import SeriesStore
from tests.support import declare

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
    assert series.value == 4


@pytest.mark.parametrize("amount", NOT_FINITE)
def test_an_up_down_counter_refuses_what_is_not_finite(amount):
    series = UpDownSeries(())
    series.add(4)
    assert not series.add(amount)
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
    metric = declare.counter(store, "hits", "Hits.")
    assert metric.at(labels(a="1")) is metric.at(labels(a="1"))
    assert metric.at(labels(a="1")) is not metric.at(labels(a="1", b="1"))
    assert declare.counter(store, "hits", "Other words.") is metric


def test_beyond_the_limit_one_series_takes_everything_and_it_is_said_once(store, reports):
    metric = declare.counter(store, "hits", "Hits.", folds=False)
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
    metric = declare.counter(store, "hits", "Hits.", folds=False)
    for number in range(10):
        metric.at(labels(user=str(number))).add(1)
    metric.at(labels(user="0")).add(1)
    assert metric.series[labels(user="0")].value == 2


def test_a_lower_limit_takes_no_series_away_and_a_higher_one_makes_room(store):
    metric = declare.gauge(store, "level", "Level.", folds=False)
    first = metric.at(labels(n="1"))
    metric.at(labels(n="2"))
    store.max_series = 1
    assert metric.at(labels(n="1")) is first
    assert metric.at(labels(n="3")).labels == OVERFLOW_LABELS
    store.max_series = 3
    assert metric.at(labels(n="3")).labels == labels(n="3")


def test_the_first_to_want_a_name_has_it_and_the_other_is_reported_once(store, reports):
    declare.counter(store, "jobs", "Jobs.").at(()).add(1)
    for _ in range(3):
        with pytest.raises(MetricRefusedError, match=r"jobs \(gauge\).*counter jobs"):
            declare.gauge(store, "jobs", "Jobs.")
    assert len(reports) == 1
    assert list(store.refusals) == ["jobs"]
    assert declare.counter(store, "jobs", "Jobs.").at(()).value == 1


def test_claimed_names_are_taken_for_others_both_ways(store):
    declare.histogram(store, "size", "Size.", (1,), claims=("size_sum", "size_count"))
    with pytest.raises(MetricRefusedError, match=r"size_sum .*histogram size"):
        declare.gauge(store, "size_sum", "Sum.")
    declare.gauge(store, "time_count", "Count.")
    with pytest.raises(MetricRefusedError, match=r"time_count belongs to the gauge time_count"):
        declare.histogram(store, "time", "Time.", (1,), claims=("time_sum", "time_count"))
    assert declare.gauge(store, "time_sum", "Nothing of a refused metric stays claimed.").name == "time_sum"


def test_metrics_are_limited_in_number(reports):
    store = SeriesStore(max_series=1, max_metrics=2, report=reports.append)
    declare.gauge(store, "a", "A.")
    declare.gauge(store, "b", "B.")
    with pytest.raises(MetricRefusedError, match="2 metrics already"):
        declare.gauge(store, "c", "C.")
    assert declare.gauge(store, "a", "A.").name == "a"
    assert len(reports) == 1


def test_refusals_do_not_fill_memory(reports):
    store = SeriesStore(max_series=1, max_metrics=0, report=reports.append)
    for number in range(1500):
        with pytest.raises(MetricRefusedError):
            declare.gauge(store, f"m{number}", "M.")
    assert (len(store.refusals), len(reports)) == (1000, 1)  # one mistake, one report


def test_other_buckets_restart_only_the_histograms_that_had_different_ones(store):
    kept = declare.histogram(store, "kept", "Kept.", (1, 2))
    changed = declare.histogram(store, "changed", "Changed.", (5,))
    counter = declare.counter(store, "hits", "Hits.")
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
    metric = declare.histogram(store, "size", "Size.", (1,), claims=("size_sum",))
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
    assert declare.gauge(store, "size_sum", "Sum.").at(()).set(1)
    assert [metric.name for metric in store.metrics] == ["size_sum"]


def test_refused_samples_are_counted_by_reason(store):
    store.refuse("not a number")
    store.refuse("not a number", 2)
    assert store.refused == {"not a number": 3}


# --- how a full metric is explained, and who declared it


def test_what_fills_a_metric_up_is_named_with_numbers(store, reports):
    metric = declare.counter(store, "hits", "Hits.", folds=False)
    for number in range(5):
        metric.at(labels(country="de", user=str(number))).add(1)
    assert "user (3 values), country (1 values)" in reports[0]
    assert store.cardinality(top=1) == {"hits": {"user": 3}}


def test_nothing_is_told_of_metrics_that_are_not_full(store):
    declare.counter(store, "hits", "Hits.").at(labels(user="1")).add(1)
    assert store.cardinality() == {}


def test_a_metric_may_have_a_limit_of_its_own(store):
    metric = declare.counter(store, "hits", "Hits.", folds=False)
    metric.max_series = 1
    assert metric.at(labels(a="1")) is not metric.at(labels(a="2"))
    assert metric.at(labels(a="2")) is metric.overflow


def test_a_metric_is_not_handed_to_another_owner(store):
    metric = declare.counter(store, "hits", "Hits.", owner="ours")
    assert declare.counter(store, "hits", "Hits.", owner="ours") is metric
    with pytest.raises(MetricRefusedError, match="hits belongs to the counter hits"):
        declare.counter(store, "hits", "Hits.", owner="theirs")


def test_a_removed_metric_can_be_declared_by_another_owner(store):
    declare.counter(store, "hits", "Hits.", owner="ours")
    store.remove("hits")
    assert declare.histogram(store, "hits", "Hits.", (1.0,), owner="theirs").owner == "theirs"


# --- idle series

HOUR = 3_600_000_000_000


@pytest.fixture
def one_of_each(store):
    """A series of every kind by the name of its metric, each with one measurement."""
    store.max_series = 100
    made = {
        "counter": declare.counter(store, "counter", "C.").at(()),
        "gauge": declare.gauge(store, "gauge", "G.").at(()),
        "level": declare.up_down(store, "level", "L.").at(()),
        "histogram": declare.histogram(store, "histogram", "H.", (1.0,)).at(()),
        "exponential": declare.exponential(store, "exponential", "E.", scale=3, max_size=160).at(()),
        "summary": declare.summary(store, "summary", "S.", SummaryShape((0.5,), 5, 100, HOUR, 5)).at(()),
    }
    for series in made.values():
        measure(series, 1)
    return made


def measure(series, value):
    take = getattr(series, "observe", None) or getattr(series, "add", None) or series.set
    assert take(value)


def present(store):
    return {metric.name for metric in store.metrics if metric.all_series()}


def test_a_series_that_nothing_is_measured_for_goes_after_its_time(store, one_of_each):
    one_of_each["level"].add(-1)
    assert store.expire(0, HOUR) == 0, "all of them have just been measured"
    assert store.expire(1, HOUR) == 0
    assert store.expire(HOUR, HOUR) == 0
    before = store.generation
    assert store.expire(HOUR + 1, HOUR) == len(one_of_each)
    assert present(store) == set()
    assert store.expired == len(one_of_each)
    assert store.generation > before


@pytest.mark.parametrize("kind", ["counter", "gauge", "level", "histogram", "exponential", "summary"])
def test_a_series_that_is_measured_stays(store, one_of_each, kind):
    one_of_each["level"].add(-1)
    for hour in range(5):
        if hour:
            measure(one_of_each[kind], 1)
        store.expire(hour * HOUR, HOUR)
    assert present(store) == {kind}


def test_a_gauge_set_to_the_same_number_is_not_idle(store):
    series = declare.gauge(store, "level", "L.").at(())
    for hour in range(5):
        series.set(7)
        store.expire(hour * HOUR, HOUR)
    assert present(store) == {"level"}


def test_an_up_down_counter_that_still_counts_something_stays(store):
    declare.up_down(store, "in_flight", "F.").at(()).add(1)
    for hour in range(5):
        store.expire(hour * HOUR, HOUR)
    assert present(store) == {"in_flight"}


def test_a_full_metric_has_room_again_when_its_series_have_expired(store):
    metric = declare.counter(store, "hits", "Hits.")
    for number in range(4):
        metric.at(labels(user=str(number))).add(1)
    for hour in range(4):
        store.expire(hour * HOUR, HOUR)
    assert metric.overflow is None
    assert metric.at(labels(user="new")) is not metric.overflow


def test_what_events_made_gives_its_place_back_with_its_last_series(reports):
    store = SeriesStore(max_series=10, max_metrics=2, report=reports.append)

    def hit(name, **more):
        declare.counter(store, name, "", claims=(f"{name}_total",), **more).at(()).add(1)

    hit("a", passing=True)
    hit("b")
    for name in ("c", "d"):
        with pytest.raises(MetricRefusedError):
            hit(name, passing=True)
    assert (len(reports), list(store.refusals)) == (1, ["c", "d"])
    for hour in range(3):
        store.expire(hour * HOUR, HOUR)
    assert (store.series_count(), [metric.name for metric in store.metrics]) == (0, ["b"])
    assert (store.find("b").series, store.refusals, store.shared) == ({}, {}, {})
    # Its name is free as well, for another kind of metric too.
    declare.gauge(store, "a_total", passing=True).at(()).set(1)
    with pytest.raises(MetricRefusedError):
        hit("c", passing=True)
    assert len(reports) == 2


def test_ever_so_many_series_are_looked_through_a_part_at_a_time(monkeypatch):
    store = SeriesStore(50_000)
    asked = []
    stirred = CounterSeries.stirred
    monkeypatch.setattr(CounterSeries, "stirred", lambda series: asked.append(1) or stirred(series))
    for name in ("a", "b"):
        metric = declare.counter(store, name, "C.")
        for number in range(20_000):
            metric.at(labels(user=str(number))).add(1)
    went = 0
    for now in (0, 1, HOUR + 1):
        rounds = 0
        while True:
            before = len(asked)
            went += store.expire(now, HOUR)
            assert len(asked) - before <= 4_000
            rounds += 1
            # What comes and goes in the meantime disturbs nothing.
            store.remove("b", labels(user=str(rounds)))
            if not store.expiring:
                break
        assert rounds >= 10 or now > 1
    assert store.series_count() == 0
    assert went == store.expired


def test_a_series_that_is_measured_while_others_are_looked_at_stays():
    store = SeriesStore(50_000)
    metric = declare.counter(store, "a", "C.")
    for number in range(9_000):
        metric.at(labels(user=str(number))).add(1)
    for now in (0, 1):
        while store.expire(now, HOUR) or store.expiring:
            pass
    store.expire(HOUR + 1, HOUR)
    metric.at(labels(user="8999")).add(1)
    while store.expiring:
        store.expire(HOUR + 1, HOUR)
    assert set(metric.series) == {labels(user="8999")}


# --- what a summary costs


def test_time_goes_on_for_summaries_without_a_series_being_touched():
    store = SeriesStore(2_000)
    metric = declare.summary(store, "s", "S.", SummaryShape((0.5,), 3, 160, 10, 2))
    one = metric.at(())
    one.observe(1)
    metric.series = NotToBeLookedAt()
    for now in range(10, 60, 10):
        store.advance(now)
    assert math.isnan(one.quantiles([0.5])[0])


class NotToBeLookedAt(dict):
    """Series nobody may go through."""

    def __iter__(self):
        raise AssertionError

    keys = values = items = __iter__


def test_a_summary_has_no_more_than_200_series_unless_it_is_said_how_many():
    store = SeriesStore(2_000)
    shape = SummaryShape((0.5,), 3, 160, 10, 2)
    assert declare.summary(store, "s", "S.", shape).limit == 200
    store.max_series = 50
    assert store.find("s").limit == 50
    store.find("s").max_series = 1_000
    assert store.find("s").limit == 1_000


# --- what fills a metric up is found out once


def test_what_fills_metrics_up_is_counted_anew_only_when_it_may_be_others(monkeypatch):
    store = SeriesStore(3)
    metric = declare.counter(store, "hits", "Hits.", folds=False)
    for number in range(5):
        metric.at(labels(user=str(number))).add(1)
    looked = []
    count = Counter.most_values
    monkeypatch.setattr(Counter, "most_values", lambda one, top: looked.append(1) or count(one, top))
    for _ in range(5):
        assert store.cardinality() == {"hits": {"user": 3}}
    assert len(looked) == 1
    store.max_series = 4
    metric.at(labels(user="9")).add(1)
    assert store.cardinality() == {"hits": {"user": 4}}
    store.remove("hits", labels(user="9"))
    assert store.cardinality() == {"hits": {"user": 3}}
    assert len(looked) == 3


# --- what shares a name


def test_two_things_that_make_one_metric_are_told_of_once_and_remembered():
    told = []
    store = SeriesStore(10, report=told.append)
    for _ in range(3):
        for source in ("größe", "grüße", *map(str, range(20))):
            declare.counter(store, "gr__e_total", "G.", owner="automatic")
            store.made_of("gr__e_total", source)
    (message,) = told
    assert "gr__e_total" in message
    assert "'größe'" in message
    assert "'grüße'" in message
    assert store.shared["gr__e_total"][:3] == ["größe", "grüße", "0"]
    assert len(store.shared["gr__e_total"]) == 10
    store.remove("gr__e_total")
    assert store.shared == {}


# --- read from another thread


def test_no_thread_ever_sees_a_histogram_between_two_measurements(store):
    """Every observation is 1.0, so count and sum are equal unless a reader got in between."""
    series = declare.histogram(store, "size", "S.", (0.5, 1.0)).at(())
    stop = threading.Event()
    torn = []

    def write():
        while not stop.is_set():
            with store.lock:
                for _ in range(100):
                    series.observe(1.0)

    def read():
        for _ in range(2_000):
            with store.lock:
                seen = (series.count, series.sum)
            if seen[0] != seen[1] or seen[0] % 100:
                torn.append(seen)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        writer = threading.Thread(target=write)
        readers = [threading.Thread(target=read) for _ in range(3)]
        for thread in (writer, *readers):
            thread.start()
        for thread in readers:
            thread.join()
        stop.set()
        writer.join()
    finally:
        sys.setswitchinterval(interval)
    assert torn == []
    assert series.count > 0
