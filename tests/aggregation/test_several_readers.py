"""Several who read one store: each is told everything, whatever the others are told and when."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otpylib_telemetry.aggregation.cursors import Cursors
from otpylib_telemetry.aggregation.metric_spec import Kind, SummaryShape
from otpylib_telemetry.aggregation.points import ExponentialPoint, HistogramPoint, Temporality
from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry.aggregation.temporality import Preference, Reading
from tests.support import declare

OFFSET = 1_700_000_000 * 10**9
KINDS = ["counter", "up_down", "gauge", "explicit", "exponential", "summary"]


def all_deltas(metric):
    return Temporality.CUMULATIVE if metric.kind is Kind.GAUGE else Temporality.DELTA


PREFERENCES = [Preference.CUMULATIVE, Preference.DELTA, Preference.LOWMEMORY, all_deltas]


def metric_of(store, kind):
    match kind:
        case "counter" | "up_down" | "gauge":
            return getattr(declare, kind)(store, kind, "")
        case "explicit":
            return declare.histogram(store, kind, "", [0.0, 10.0])
        case "exponential":
            return declare.exponential(store, kind, "", scale=20, max_size=160)
    return declare.summary(store, kind, "", SummaryShape((0.5,), 20, 160, 5, 2))


def measure(store, kind, value, shop):
    put = {"counter": "add", "up_down": "add", "gauge": "set"}.get(kind, "observe")
    return getattr(metric_of(store, kind).at((("shop", shop),)), put)(value)


class Told:
    """One who reads, and what it makes of what it was told."""

    def __init__(self, store, preference, beside=None):
        self.store = store
        self.preference = preference
        self.cursors = Cursors(beside)
        #: By metric and labels: the total, or the count, the sum, and the extremes.
        self.totals = {}

    def read(self, now):
        reading = Reading(now, OFFSET, self.preference)
        points = self.cursors.finish(self.cursors.gone(self.store.metrics), reading, self.store)
        for metric in self.store.metrics:
            points += self.cursors.advance(metric, metric.all_series(), reading)
        self.cursors.grant(self.store, self.preference)
        for one in points:
            self._take(one)
        return points

    def _take(self, one):
        stream, point = one.stream, one.point
        assert OFFSET <= point.start_ns <= point.at_ns
        delta = stream.temporality is Temporality.DELTA
        key = stream.name, one.labels, None if delta else point.start_ns
        if isinstance(point, (HistogramPoint, ExponentialPoint)):
            buckets = point.counts if isinstance(point, HistogramPoint) else None
            count = sum(buckets) if buckets else point.size
            if buckets is None:
                spread = point.zeros + sum(point.positive.values()) + sum(point.negative.values())
                assert spread == count
            before = (
                self.totals.get(key, (0, 0, math.inf, -math.inf)) if delta else (0, 0, math.inf, -math.inf)
            )
            self.totals[key] = (
                before[0] + count,
                before[1] + point.sum,
                min(before[2], point.least),
                max(before[3], point.greatest),
            )
        else:
            before = self.totals.get(key, 0) if delta else 0
            self.totals[key] = before + point.value

    def total(self, name):
        """Return what it was told of a metric altogether, over all labels and all beginnings."""
        found = [value for key, value in self.totals.items() if key[0] == name]
        if not found or not isinstance(found[0], tuple):
            return sum(found)
        parts = list(zip(*found, strict=True))
        return sum(parts[0]), sum(parts[1]), min(parts[2]), max(parts[3])


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("measure"), st.sampled_from(KINDS), st.integers(0, 40), st.sampled_from("ab")),
        st.tuples(st.just("read"), st.integers(0, 4)),
        st.tuples(st.just("remove"), st.sampled_from(KINDS), st.sampled_from("ab")),
        st.tuples(st.just("come"), st.sampled_from(PREFERENCES)),
        st.tuples(st.just("leave"), st.integers(0, 4)),
    ),
    max_size=40,
)


@given(first=st.sampled_from(PREFERENCES), steps=STEPS)
@example(
    first=Preference.DELTA,
    steps=[
        ("measure", "counter", 1, "a"),
        ("come", Preference.CUMULATIVE),
        ("remove", "counter", "a"),
        ("read", 0),
        ("leave", 0),
    ],
)
def test_each_is_told_everything_there_was_since_it_came(first, steps):
    now = 10
    store = SeriesStore(100, now_ns=lambda: now)
    readers = [Told(store, first)]
    measured = {kind: [] for kind in KINDS}
    removed = False
    late = set()
    for step, *rest in steps:
        now += 10
        if step == "measure":
            kind, value, shop = rest
            assert measure(store, kind, value, shop)
            measured[kind].append(value)
        elif step == "read":
            readers[rest[0] % len(readers)].read(now)
        elif step == "remove":
            kind, shop = rest
            if store.find(kind) is not None:
                readers[0].cursors.remember(store.metrics, OFFSET)
                removed = store.remove(kind, (("shop", shop),)) or removed
        elif step == "come":
            readers.append(Told(store, rest[0], readers[0].cursors))
            late.update(readers[-1:] if removed else ())
        elif len(readers) > 1:
            readers.pop(1 + rest[0] % (len(readers) - 1)).cursors.leave()
    now += 10
    for reader in readers:
        reader.read(now)
        if reader in late:
            # What had gone before it came, nobody can tell it.
            continue
        for kind in ("counter", "up_down"):
            assert reader.total(kind) == pytest.approx(sum(measured[kind]))
        for kind in ("explicit", "exponential", "summary"):
            values = measured[kind]
            assert not values or reader.total(kind) == (len(values), sum(values), min(values), max(values))


def test_exemplars_of_a_reservoir_go_to_all():
    class Reservoir:
        def __init__(self):
            self.held = []

        def collect(self, labels, wall_offset_ns):
            found, self.held = tuple(self.held), []
            return found

    store = SeriesStore(100)
    metric = declare.counter(store, "sold", "")
    series = metric.at(())
    reservoir = metric.reservoirs[series] = Reservoir()
    first = Told(store, Preference.CUMULATIVE)
    second = Told(store, Preference.DELTA, first.cursors)
    for exemplar, order in (("a", (first, second)), ("b", (second, first))):
        series.add(1)
        reservoir.held.append(exemplar)
        for reader in order:
            (point,) = reader.read(10)
            assert point.point.exemplars == (exemplar,)


def test_who_does_not_come_to_read_keeps_a_bounded_number_of_series_that_are_gone():
    store = SeriesStore(10)
    first = Told(store, Preference.CUMULATIVE)
    absent = Told(store, Preference.DELTA, first.cursors)
    metric = declare.counter(store, "sold", "")
    for number in range(3_000):
        labels = (("number", str(number)),)
        metric.at(labels).add(1)
        first.read(10)
        first.cursors.remember(store.metrics, OFFSET)
        store.remove("sold", labels)
        metric = declare.counter(store, "sold", "")
    assert len(absent.cursors) < 1_500


def test_room_is_made_only_where_everybody_is_told_deltas():
    for preference, overflows in ((Preference.DELTA, False), (Preference.CUMULATIVE, True)):
        store = SeriesStore(1)
        first = Told(store, Preference.DELTA)
        second = Told(store, preference, first.cursors)
        metric = declare.counter(store, "sold", "", folds=False)
        for shop in "abc":
            metric.at((("shop", shop),)).add(1)
            for reader in (second, first):
                reader.read(10)
        assert (metric.overflow is not None) is overflows
        assert first.total("sold") == second.total("sold") == 3
