"""Labels that fill a metric up are folded, each alone, and nothing of what was measured is lost thereby."""

from collections import defaultdict
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpylib_telemetry.aggregation.cursors import Cursors
from otpylib_telemetry.aggregation.folding import FOLDED
from otpylib_telemetry.aggregation.metric_spec import SummaryShape
from otpylib_telemetry.aggregation.series import Traced
from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry.aggregation.temporality import Preference, Reading
from tests.support import declare

OFFSET = 1_700_000_000 * 10**9
KINDS = {
    "counter": ("add", lambda store, **more: declare.counter(store, "m", **more)),
    "level": ("add", lambda store, **more: declare.up_down(store, "m", **more)),
    "gauge": ("set", lambda store, **more: declare.gauge(store, "m", **more)),
    "histogram": ("observe", lambda store, **more: declare.histogram(store, "m", "", (2.0, 10.0), **more)),
    "exponential": (
        "observe",
        lambda store, **more: declare.exponential(store, "m", scale=3, max_size=40, **more),
    ),
    "summary": (
        "observe",
        lambda store, **more: declare.summary(store, "m", "", SummaryShape((0.5,), 5, 100, 10, 3), **more),
    ),
}


def labels(**values):
    return tuple(sorted(values.items()))


class Model:
    """What is to become of measurements, worked out from all of them each time."""

    def __init__(self, limit):
        self.limit = limit
        self.folded = set()
        self.present = []
        self.overflows = False
        self.measured = []
        self.beyond = []

    def fold(self, one):
        return tuple((name, FOLDED if name in self.folded else value) for name, value in one)

    def measure(self, one, amount):
        while (wanted := self.fold(one)) not in self.present and len(self.present) >= self.limit:
            worst = None if self.overflows else self.worst(wanted)
            if worst is None:
                self.overflows = True
                self.beyond.append(amount)
                return
            self.folded.add(worst)
            self.present = list({self.fold(each): None for each in self.present})
        if wanted not in self.present:
            self.present.append(wanted)
        self.measured.append((one, amount))

    def worst(self, wanted):
        """The label with the most values, the first by name; None if none has two."""
        found = defaultdict(set)
        for each in (*self.present, wanted):
            for name, value in each:
                found[name].add(value)
        names = sorted(name for name in found if name not in self.folded and len(found[name]) > 1)
        return max(names, key=lambda name: len(found[name]), default=None)

    def groups(self):
        found = {}
        for one, amount in self.measured:
            found.setdefault(self.fold(one), []).append(amount)
        return found


def said(kind, amounts):
    """What a series says to which these numbers came."""
    if kind == "gauge":
        return amounts[-1]
    if kind in {"counter", "level"}:
        return sum(amounts)
    return len(amounts), sum(amounts)


def told(series):
    return series.value if hasattr(series, "value") else (series.count, series.sum)


#: Few values of "a" and of "b", many of "id"; each may be missing.
sets_of_labels = st.fixed_dictionaries(
    {}, optional={"a": st.sampled_from("xy"), "b": st.sampled_from("123"), "id": st.integers(0, 30).map(str)}
).map(lambda values: labels(**values))
streams = st.lists(st.tuples(sets_of_labels, st.integers(0, 20)), max_size=40)


@pytest.mark.parametrize("kind", KINDS)
@given(streams, st.integers(1, 12))
def test_every_series_is_what_the_model_says(kind, stream, limit):
    put, make = KINDS[kind]
    now = count(10)
    store = SeriesStore(limit, now_ns=lambda: next(now))
    metric, model = make(store), Model(limit)
    for one, amount in stream:
        getattr(metric.at(one), put)(amount)
        model.measure(one, amount)
    assert {one.labels: told(one) for one in metric.series.values()} == {
        key: said(kind, amounts) for key, amounts in model.groups().items()
    }
    assert all(key == one.labels for key, one in metric.series.items())
    assert metric.folded == model.folded == set(store.folded().get("m", ()))
    assert (metric.overflow is not None) is bool(model.beyond)
    if model.beyond:
        assert told(metric.overflow) == said(kind, model.beyond)
    assert len(metric.series) <= limit


@pytest.mark.parametrize("kind", KINDS)
@given(streams, st.integers(1, 12))
def test_who_holds_a_series_writes_to_the_one_it_became_part_of(kind, stream, limit):
    put, make = KINDS[kind]
    store = SeriesStore(limit)
    metric = make(store)
    held = []
    amounts = []
    for one, amount in stream:
        series = metric.at(one)
        held.append(series)
        getattr(series, put)(amount)
        getattr(held[len(held) // 2], put)(amount)
        amounts += [amount, amount]
    every = metric.all_series()
    if kind in {"counter", "level"}:
        assert sum(one.value for one in every) == sum(amounts)
    elif kind == "gauge":
        assert not amounts or amounts[-1] in {one.value for one in every}
    else:
        assert sum(one.count for one in every) == len(amounts)
        assert sum(one.sum for one in every) == sum(amounts)


def number_of(kind, point):
    if kind == "histogram":
        return sum(point.counts)
    return point.value if kind in {"counter", "level"} else point.size


class Backend:
    """What somebody knows who is told of one metric again and again."""

    def __init__(self, kind, preference, beside=None):
        self.kind = kind
        self.cursors = Cursors(beside and beside.cursors)
        self.preference = self.cursors.preference = preference
        self.numbers = {}
        self.starts = {}

    def read(self, store, now):
        reading = Reading(now, OFFSET, self.preference)
        points = self.cursors.finish(self.cursors.gone(store.metrics), reading, store)
        for metric in store.metrics:
            points += self.cursors.advance(metric, metric.all_series(), reading)
        self.cursors.grant(store, self.preference)
        if self.preference is Preference.DELTA and self.kind != "level":
            for point in points:
                key = point.labels
                self.numbers[key] = self.numbers.get(key, 0) + number_of(self.kind, point.point)
            return
        before, self.numbers = self.numbers, {}
        for point in points:
            start, number = point.point.start_ns, number_of(self.kind, point.point)
            assert start <= self.starts.setdefault(point.labels, start)
            assert self.kind == "level" or number >= before.get(point.labels, 0)
            self.numbers[point.labels] = number

    def by(self, name):
        """The numbers by the values of one label."""
        found = defaultdict(int)
        for key, number in self.numbers.items():
            found[dict(key or ()).get(name)] += number
        return {value: number for value, number in found.items() if number}


@pytest.mark.parametrize("kind", ["counter", "level", "histogram", "exponential", "summary"])
@given(st.lists(streams, max_size=5), st.integers(1, 12), st.booleans())
def test_readers_of_either_temporality_are_told_everything_once(kind, intervals, limit, both):
    put, make = KINDS[kind]
    now = count(10)
    store = SeriesStore(limit, now_ns=lambda: next(now))
    backends = [Backend(kind, Preference.DELTA)]
    if both:
        backends.append(Backend(kind, Preference.CUMULATIVE, backends[0]))
    store.folding = backends[0].cursors.fold
    metric = make(store)
    exact = {name: defaultdict(int) for name in ("none", "a", "b", "id")}
    for stream in intervals:
        for one, amount in stream:
            getattr(metric.at(one), put)(amount)
            for name, numbers in exact.items():
                numbers[dict(one).get(name)] += amount if kind in {"counter", "level"} else 1
        for backend in backends:
            backend.read(store, next(now))
            assert sum(backend.numbers.values()) == sum(exact["none"].values())
            # By a label that was never folded the numbers are exact, as long as nothing overflows.
            for name in exact.keys() - metric.ever_folded.keys():
                expected = {value: number for value, number in exact[name].items() if number}
                assert None in backend.numbers or backend.by(name) == expected


@given(st.lists(st.integers(0, 9), max_size=60), st.lists(st.integers(0, 59), max_size=4))
def test_a_counter_that_is_read_in_the_middle_of_a_reading_is_told_once(ids, folds_at):
    """Series that were listed to be read, and have become others by then, are told with these."""
    store = SeriesStore(100)
    cursors = Cursors()
    store.folding = cursors.fold
    metric = declare.counter(store, "m")
    told_so_far = 0
    now = 10
    for at, number in enumerate(ids):
        metric.at(labels(id=str(number))).add(1)
        if at in folds_at:
            listed = metric.all_series()
            now += 10
            reading = Reading(now, OFFSET, Preference.DELTA)
            told_so_far += sum(one.point.value for one in cursors.advance(metric, listed[:2], reading))
            metric.max_series = 1
            metric.at(labels(id="new")).add(0)
            told_so_far += sum(one.point.value for one in cursors.advance(metric, listed[2:], reading))
            metric.max_series = None
            metric.unfold()
    reading = Reading(now + 10, OFFSET, Preference.DELTA)
    told_so_far += sum(one.point.value for one in cursors.advance(metric, metric.all_series(), reading))
    assert told_so_far == len(ids)


# --- which label, and what is said


def test_the_label_with_the_most_values_goes_and_the_others_stay_exact():
    reports = []
    store = SeriesStore(20, report=reports.append)
    metric = declare.counter(store, "orders")
    for number in range(1_000):
        region, method = f"r{number % 3}", f"m{number % 4}"
        metric.at(labels(region=region, method=method, order=str(number))).add(1)
    assert {one.labels: one.value for one in metric.all_series()} == {
        labels(region=f"r{r}", method=f"m{m}", order=FOLDED): len(
            [n for n in range(1_000) if (n % 3, n % 4) == (r, m)]
        )
        for r in range(3)
        for m in range(4)
    }
    (message,) = reports
    for word in ("metric orders", "20 series", "max_series", "label order,", "(21)", FOLDED):
        assert word in message
    for way_out in ("drop_labels", "labels", "tags", "attribute_keys"):
        assert way_out in message
    assert store.folded() == {"orders": {"order": 21}}
    assert store.overflowing() == []


def test_two_labels_that_go_together_are_both_folded():
    store = SeriesStore(10)
    metric = declare.counter(store, "orders")
    for number in range(100):
        metric.at(labels(kind=f"k{number % 2}", order=f"o{number}", receipt=f"r{number}")).add(1)
    assert {one.labels: one.value for one in metric.all_series()} == {
        labels(kind=kind, order=FOLDED, receipt=FOLDED): 50 for kind in ("k0", "k1")
    }


def test_a_label_that_is_not_there_stays_so():
    store = SeriesStore(3)
    metric = declare.counter(store, "orders")
    metric.at(()).add(5)
    for number in range(10):
        metric.at(labels(order=str(number))).add(1)
    assert {one.labels: one.value for one in metric.all_series()} == {(): 5, labels(order=FOLDED): 10}


def test_exemplars_stay():
    store = SeriesStore(2)
    metric = declare.histogram(store, "took", "", (1.0,))
    for number, seconds in enumerate((0.5, 2.0, 0.6)):
        metric.at(labels(id=str(number))).observe(
            seconds, Traced(10**9 * number, f"{number:032x}", f"{number:016x}")
        )
    (series,) = metric.all_series()
    assert [one.traced.trace_id[-1] for one in series.exemplars] == ["2", "1"]


# --- back again


def folded_metric(store):
    metric = declare.counter(store, "orders", passing=True)
    for number in range(10):
        metric.at(labels(order=str(number))).add(1)
    assert metric.folded == {"order"}
    return metric


def test_a_removed_metric_begins_afresh():
    store = SeriesStore(3)
    folded_metric(store)
    store.remove("orders")
    metric = declare.counter(store, "orders")
    assert metric.at(labels(order="1")).labels == labels(order="1")
    assert store.folded() == {}


def test_with_the_last_folded_series_the_label_is_back():
    store = SeriesStore(3)
    metric = folded_metric(store)
    metric.at(labels(shop="a")).add(1)
    store.remove("orders", labels(order=FOLDED))
    assert metric.at(labels(order="1")).labels == labels(order="1")


def test_a_label_is_back_when_nothing_was_measured_for_a_while():
    store = SeriesStore(3)
    metric = folded_metric(store)
    for now in range(5):
        metric.at(labels(shop="a")).add(1)
        store.expire(now, 2)
    assert metric.at(labels(order="1")).labels == labels(order="1")


def test_more_room_brings_labels_back_and_less_does_not():
    store = SeriesStore(3)
    metric = folded_metric(store)
    store.max_series = 2
    assert metric.at(labels(order="1")).labels == labels(order=FOLDED)
    store.max_series = 5
    assert metric.at(labels(order="1")).labels == labels(order="1")


def test_what_is_told_as_deltas_is_folded_for_one_interval():
    reports = []
    store = SeriesStore(3, report=reports.append)
    cursors = Cursors()
    store.folding = cursors.fold
    metric = declare.counter(store, "orders")

    def interval(numbers, now):
        for number in numbers:
            metric.at(labels(order=str(number))).add(1)
        points = cursors.finish(
            cursors.gone(store.metrics), Reading(now, OFFSET, Preference.DELTA), store
        ) + cursors.advance(metric, metric.all_series(), Reading(now, OFFSET, Preference.DELTA))
        cursors.grant(store, Preference.DELTA)
        return {dict(point.labels)["order"]: point.point.value for point in points}

    assert interval(range(10), 10) == {FOLDED: 10}
    assert interval(range(20, 23), 20) == {"20": 1, "21": 1, "22": 1}
    assert interval(range(30, 40), 30) == {FOLDED: 10}
    assert interval([40, 40], 40) == {"40": 2}
    assert interval([], 50) == {}
    assert len(reports) == 1
    assert store.folded() == {"orders": {"order": 4}}
