"""What is said of a series, reading after reading: pure."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.resources import Resource

from otpylib_telemetry.aggregation.cursors import Cursors
from otpylib_telemetry.aggregation.exponential import ExponentialBuckets
from otpylib_telemetry.aggregation.metric_spec import SummaryShape
from otpylib_telemetry.aggregation.points import Temporality
from otpylib_telemetry.aggregation.series import Traced
from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry.aggregation.temporality import Preference, Reading, temporality_of
from otpylib_telemetry_otel.sdk.metrics import MetricEncoder
from tests.support import declare
from tests.support.otlp_metrics import CUMULATIVE, DELTA, Reference, points_in

OFFSET = 1_700_000_000 * 10**9
A = (("shop", "a"),)


class Exit:
    """A store and what is read of it, decoded from the bytes."""

    def __init__(self, preference="cumulative", max_series=100):
        self.now = 10
        self.store = SeriesStore(max_series, now_ns=lambda: self.now)
        self.cursors = Cursors()
        self.store.folding = self.cursors.fold
        self.preference = preference
        self.reference = Reference()

    def read(self, offset=OFFSET):
        self.now += 10
        reading = Reading(self.now, offset, Preference(self.preference))
        points = self.cursors.finish(self.cursors.gone(self.store.metrics), reading, self.store)
        for metric in self.store.metrics:
            points += self.cursors.advance(metric, metric.all_series(), reading)
        self.cursors.grant(self.store, reading.preference)
        encoded = MetricEncoder(Resource.create()).encode(points)
        assert encoded.refused == 0, encoded.reason
        told = points_in(ExportMetricsServiceRequest.FromString(encoded.body))
        assert len(told) == len(points)
        self.reference.take(told)
        return told


def distribution(store, kind, name="took", **more):
    if kind == "explicit":
        return declare.histogram(store, name, "", [0.0, 10.0], **more)
    if kind == "exponential":
        return declare.exponential(store, name, "", scale=20, max_size=16, **more)
    return declare.summary(store, name, "", SummaryShape((0.5,), 20, 16, 5, 2), **more)


def times(point):
    return point.point.start_time_unix_nano - OFFSET, point.point.time_unix_nano - OFFSET


class TestPreference:
    @pytest.mark.parametrize(
        ("preference", "expected"),
        [
            ("cumulative", "CCCCCC"),
            ("delta", "DDCCDD"),
            ("lowmemory", "DCCCDD"),
        ],
    )
    def test_it_is_that_of_the_specification(self, preference, expected):
        store = SeriesStore(10)
        observed = declare.counter(store, "b", "")
        observed.observed = True
        metrics = [
            declare.counter(store, "a", ""),
            observed,
            declare.up_down(store, "c", ""),
            declare.gauge(store, "d", ""),
            declare.histogram(store, "e", "", [1]),
            declare.exponential(store, "f", "", scale=20, max_size=160),
        ]
        found = [temporality_of(metric, Preference(preference)) for metric in metrics]
        assert "".join(each.name[0] for each in found) == expected


class TestSums:
    def test_a_cumulative_counter_counts_from_its_beginning(self):
        there = Exit()
        counter = declare.counter(there.store, "sold.total", "Sold.", "1").at(A)
        counter.add(2)
        (first,) = there.read()
        counter.add(0.5)
        (second,) = there.read()
        assert (first.value, times(first), first.form) == (2, (10, 20), "sum")
        assert first.point.WhichOneof("value") == "as_int"
        assert (second.value, times(second), second.temporality) == (2.5, (10, 30), CUMULATIVE)

    def test_a_delta_counts_from_the_point_before(self):
        there = Exit("delta")
        counter = declare.counter(there.store, "sold.total", "").at(A)
        counter.add(2)
        (first,) = there.read()
        assert there.read() == []
        counter.add(3)
        (second,) = there.read()
        assert (first.value, times(first), first.temporality) == (2, (10, 20), DELTA)
        assert (second.value, times(second)) == (3, (30, 40))

    def test_what_rises_and_falls_stays_cumulative(self):
        there = Exit("delta")
        level = declare.up_down(there.store, "open", "").at(A)
        level.add(3)
        there.read()
        level.add(-1)
        (point,) = there.read()
        assert (point.value, times(point), point.temporality) == (2, (10, 30), CUMULATIVE)

    @pytest.mark.parametrize("preference", ["cumulative", "delta"])
    def test_an_observed_sum_that_falls_has_begun_anew(self, preference):
        there = Exit(preference)
        counter = declare.counter(there.store, "sold.total", "").at(A)
        counter.advance_to(10)
        there.read()
        counter.advance_to(4)
        (point,) = there.read()
        assert (point.value, times(point)) == (4, (20, 30))
        counter.advance_to(5)
        (point,) = there.read()
        assert (point.value, times(point)) == ((5, (20, 40)) if preference == "cumulative" else (1, (30, 40)))

    def test_integers_beyond_what_otlp_has_leave_as_floats(self):
        there = Exit()
        declare.counter(there.store, "sold.total", "").at(A).add(2**63)
        (point,) = there.read()
        assert (point.value, point.point.WhichOneof("value")) == (float(2**63), "as_double")

    @pytest.mark.parametrize("preference", ["cumulative", "delta"])
    @pytest.mark.parametrize("hours", [-1, 1, 24])
    def test_a_point_says_the_present_of_a_clock_that_was_set(self, preference, hours):
        there = Exit(preference)
        counter = declare.counter(there.store, "sold.total", "").at(A)
        counter.add(1)
        there.read()
        offset = OFFSET + hours * 3600 * 10**9
        there.reference = Reference()  # by the times alone, what comes now overlaps with what was
        for _ in range(2):
            counter.add(1)
            (point,) = there.read(offset)
            start, at = point.point.start_time_unix_nano - offset, point.point.time_unix_nano - offset
            assert at == there.now
            # What began before the clock was set forward still did; nothing begins in the future.
            began = 10 if hours < 0 else 10 + OFFSET - offset
            assert start == (began if preference == "cumulative" else there.now - 10)

    def test_a_clock_that_is_held_to_the_right_time_leaves_no_gap(self):
        there = Exit("delta")
        counter = declare.counter(there.store, "sold.total", "").at(A)
        ends = []
        for moved in (0, 2, 5, 3):
            counter.add(1)
            (point,) = there.read(OFFSET + moved)
            ends.append(times(point))
        assert [start for start, _ in ends[1:]] == [end for _, end in ends[:-1]]


class TestHistograms:
    def test_buckets_are_those_of_the_series(self):
        there = Exit()
        series = declare.histogram(there.store, "took", "", [1.0, 5.0], "s").at(A)
        for value in (0.5, 1.0, 3, 9):
            series.observe(value)
        (point,) = there.read()
        told = point.point
        assert (list(told.bucket_counts), list(told.explicit_bounds)) == ([2, 1, 1], [1.0, 5.0])
        assert (told.count, told.sum, told.min, told.max) == (4, 13.5, 0.5, 9)

    def test_a_delta_has_the_rest(self):
        there = Exit("delta")
        series = declare.histogram(there.store, "took", "", [1.0, 5.0]).at(A)
        series.observe(0.5)
        there.read()
        series.observe(3)
        (point,) = there.read()
        assert (list(point.point.bucket_counts), point.value, times(point)) == ([0, 1, 0], (1, 3.0), (20, 30))
        assert there.read() == []

    @pytest.mark.parametrize("preference", ["cumulative", "delta"])
    def test_other_buckets_begin_anew_and_cost_nothing_measured_before(self, preference):
        there = Exit(preference)
        metric = declare.histogram(there.store, "took", "", [1.0])
        metric.at(A).observe(0.5)
        there.read()
        metric.at(A).observe(0.7)
        there.store.rebucket([2.0])
        there.now += 1
        metric.at(A).observe(1.5)
        there.read()
        rest = there.read()
        if preference == "delta":
            assert rest == []
        else:
            assert times(rest[0])[0] > 20

    @pytest.mark.parametrize("kind", ["exponential", "summary"])
    def test_exponential_buckets_add_up_across_changes_of_scale(self, kind):
        there = Exit("delta")
        if kind == "summary":
            metric = declare.summary(there.store, "took", "", SummaryShape((0.5,), 20, 8, 5, 2))
        else:
            metric = declare.exponential(there.store, "took", "", scale=20, max_size=8)
        values, total = [[1.0, 1.1], [0.0, -3.0], [1e6, 1e-6], [2.0]], {}
        for some in values:
            for value in some:
                metric.at(A).observe(value)
            (point,) = there.read()
            told = point.point
            assert told.count == len(some)
            assert told.zero_count + sum(told.positive.bucket_counts) + sum(
                told.negative.bucket_counts
            ) == len(some)
            for sign in ("positive", "negative"):
                buckets = getattr(told, sign)
                for place, count in enumerate(buckets.bucket_counts):
                    base = 2 ** (2**-told.scale)
                    low = base ** (buckets.offset + place)
                    if count:
                        inside = [one for one in some if one and (one > 0) == (sign == "positive")]
                        assert any(low * (1 - 1e-9) < abs(one) <= low * base * (1 + 1e-9) for one in inside)
            total = there.reference.totals[point.key]
        assert total[0] == 7
        assert math.isclose(total[1], math.fsum(one for some in values for one in some))

    @pytest.mark.parametrize("kind", ["explicit", "exponential", "summary"])
    def test_the_extremes_are_those_of_what_a_point_tells_of(self, kind):
        there = Exit()
        series = distribution(there.store, kind).at(A)
        told = []
        for preference, values in [
            ("cumulative", (2.0, 5)),
            ("delta", (3.0, 4.0)),
            ("delta", (-7.0,)),
            ("cumulative", (1.0,)),
            ("cumulative", ()),
            ("delta", (0.0,)),
        ]:
            there.preference = preference
            for value in values:
                series.observe(value)
            (point,) = there.read()
            told.append((point.point.min, point.point.max))
        assert told == [(2, 5), (3, 4), (-7, -7), (-7, 5), (-7, 5), (0, 0)]

    @pytest.mark.parametrize("kind", ["explicit", "exponential"])
    @pytest.mark.parametrize("preference", ["cumulative", "delta"])
    def test_extremes_that_nobody_wants_are_not_told(self, preference, kind):
        there = Exit(preference)
        distribution(there.store, kind, extremes=False).at(A).observe(2.0)
        (point,) = there.read()
        assert (point.point.HasField("min"), point.point.HasField("max")) == (False, False)

    @pytest.mark.parametrize("kind", ["exponential", "summary"])
    def test_each_delta_is_as_fine_as_what_it_tells_of_allows(self, kind):
        there = Exit("delta")
        series = distribution(there.store, kind).at(A)
        scales = []
        for some in ([1e-9, 1e9], [1.0, 1.01], [5.0], [1.0, 1000.0]):
            alone = ExponentialBuckets(20, 16)
            for value in some:
                series.observe(value)
                alone.add(value)
            (point,) = there.read()
            assert point.point.scale == alone.scale
            scales.append(alone.scale)
        assert scales[1] > scales[0]
        assert series.count == 7

    @given(st.lists(st.tuples(st.sampled_from(["cumulative", "delta"]), st.lists(st.floats(-1e6, 1e6)))))
    def test_extremes_and_counts_hold_whatever_is_asked_for(self, readings):
        there = Exit()
        kinds = ("explicit", "exponential", "summary")
        series = [distribution(there.store, kind, name=kind).at(A) for kind in kinds]
        everything = []
        for preference, values in readings:
            there.preference = preference
            for value in values:
                for one in series:
                    one.observe(value)
            everything += values
            told = values if preference == "delta" else everything
            for point in there.read():
                assert point.point.count == len(told)
                extremes = (point.point.min, point.point.max) if point.point.HasField("min") else None
                assert extremes == ((min(told), max(told)) if told else None)


class TestSeriesThatGo:
    @pytest.mark.parametrize("preference", ["cumulative", "delta"])
    def test_what_was_not_told_yet_is_told_when_a_series_is_removed(self, preference):
        there = Exit(preference)
        counter = declare.counter(there.store, "sold.total", "")
        counter.at(A).add(2)
        there.read()
        counter.at(A).add(5)
        there.store.remove("sold.total", A)
        (last,) = there.read()
        assert last.value == (7 if preference == "cumulative" else 5)
        assert (there.read(), len(there.cursors)) == ([], 0)

    def test_one_that_comes_back_has_a_beginning_of_its_own(self):
        there = Exit()
        counter = declare.counter(there.store, "sold.total", "")
        counter.at(A).add(2)
        there.read()
        there.store.remove("sold.total", A)
        there.now += 5
        counter.at(A).add(1)
        (point,) = there.read()
        assert (point.value, times(point)) == (1, (25, 35))

    def test_one_that_was_never_read_is_told_of_once_it_was_noticed(self):
        there = Exit("delta")
        counter = declare.counter(there.store, "sold.total", "")
        counter.at(A).add(2)
        there.cursors.remember(there.store.metrics, OFFSET)
        there.store.remove("sold.total")
        (point,) = there.read()
        assert point.value == 2

    def test_a_gauge_that_is_gone_says_nothing_more(self):
        there = Exit()
        gauge = declare.gauge(there.store, "level", "").at(A)
        gauge.set(1)
        there.read()
        gauge.set(2)
        there.store.remove("level")
        assert there.read() == []

    @pytest.mark.parametrize("kind", ["counter", "explicit", "exponential"])
    def test_the_limit_is_for_one_interval_where_deltas_are_told(self, kind):
        there = Exit("delta", max_series=3)
        if kind == "counter":
            metric, put = declare.counter(there.store, "sold.total", "", folds=False), "add"
        else:
            metric, put = distribution(there.store, kind, folds=False), "observe"

        def measured(*names):
            for name in names:
                getattr(metric.at((("shop", name),)), put)(1)
            return [point.attributes.get("shop", "overflow") for point in there.read()]

        assert measured("a", "b", "c", "d") == ["a", "b", "c", "overflow"]
        assert measured("e", "f", "g") == ["e", "f", "g"]
        assert there.store.overflowing() == []
        # Who comes first has a place, known before or not.
        assert measured("e", "h", "i", "g") == ["e", "h", "i", "overflow"]
        assert measured("e") == ["e"]
        assert measured() == []

    def test_what_is_told_as_a_whole_keeps_its_place(self):
        there = Exit("delta", max_series=1)
        for metric in (
            declare.up_down(there.store, "a", folds=False),
            declare.counter(there.store, "b", observed=True, folds=False),
        ):
            for name in ("x", "y"):
                one = metric.at((("shop", name),))
                one.advance_to(1)
            there.read()
            assert metric.at((("shop", "y"),)) is metric.overflow
            there.read()
            assert metric.overflow is not None

    def test_a_full_metric_is_reported_once_however_often_it_is_full(self):
        reports = []
        there = Exit("delta", max_series=1)
        there.store.report = reports.append
        metric = declare.counter(there.store, "sold.total", "")
        for number in range(6):
            for name in ("a", "b"):
                metric.at((("shop", f"{name}{number}"),)).add(1)
            there.read()
        assert len(reports) == 1

    @given(st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=8))
    def test_nothing_is_lost_while_series_make_room(self, intervals):
        there = Exit("delta", max_series=2)
        metric = declare.counter(there.store, "sold.total", "", folds=False)
        for names in intervals:
            for name in names:
                metric.at((("shop", str(name)),)).add(1)
            told = [point.attributes.get("shop") for point in there.read()]
            first = list(dict.fromkeys(map(str, names)))
            assert set(told) == {*first[:2], *([None] if len(first) > 2 else [])}
        assert sum(there.reference.totals.values()) == sum(map(len, intervals))

    def test_the_overflow_series_is_marked_as_the_sdk_does(self):
        there = Exit(max_series=1)
        counter = declare.counter(there.store, "sold.total", "", folds=False)
        counter.at(A).add(1)
        counter.at((("shop", "b"),)).add(2)
        counter.at((("shop", "c"),)).add(3)
        first, second = there.read()
        assert (first.attributes, first.value) == ({"shop": "a"}, 1)
        assert (second.attributes, second.value) == ({"otel.metric.overflow": True}, 5)


class TestExemplars:
    def test_ids_time_and_value_come_along_once(self):
        there = Exit()
        series = declare.histogram(there.store, "took", "", [1.0]).at(A)
        series.observe(0.5, Traced(12, "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"))
        (point,) = there.read()
        (exemplar,) = point.point.exemplars
        assert exemplar.trace_id.hex() == "4bf92f3577b34da6a3ce929d0e0e4736"
        assert (exemplar.span_id.hex(), exemplar.as_double) == ("00f067aa0ba902b7", 0.5)
        assert exemplar.time_unix_nano == OFFSET + 12
        assert not there.read()[0].point.exemplars

    @pytest.mark.parametrize("ids", [("", ""), ("zz", "1"), ("0" * 32, "0" * 16), ("f" * 31, "")])
    def test_what_is_no_id_is_left_out(self, ids):
        there = Exit()
        declare.counter(there.store, "sold.total", "").at(A).add(1, Traced(12, *ids))
        (exemplar,) = there.read()[0].point.exemplars
        assert (exemplar.trace_id, exemplar.span_id, exemplar.as_int) == (b"", b"", 1)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(0, 5) | st.floats(0, 1e6)),
            st.tuples(st.just("observe"), st.floats(-1e6, 1e6)),
            st.tuples(st.just("read"), st.none()),
        ),
        max_size=60,
    )
)
def test_the_deltas_add_up_to_what_a_cumulative_reader_sees(steps):
    there = Exit("delta")
    store = there.store
    counter, histogram = (
        declare.counter(store, "sold.total", "").at(A),
        declare.histogram(store, "took", "", [0.0, 10.0]).at(A),
    )
    exponential = declare.exponential(store, "wide", "", scale=20, max_size=16).at(A)
    for what, value in [*steps, ("read", None)]:
        if what == "add":
            counter.add(value)
        elif what == "observe":
            histogram.observe(value)
            exponential.observe(value)
        else:
            there.read()
    totals = there.reference.totals
    assert totals["sold.total", A] == pytest.approx(counter.value, rel=1e-15)
    assert totals["took", A] == (histogram.count, pytest.approx(histogram.sum, rel=1e-15, abs=1e-9))
    assert there.reference.buckets["took", A] == histogram.counts
    assert totals["wide", A][0] == exponential.count


@given(st.lists(st.sampled_from(["cumulative", "delta", "lowmemory"]), min_size=1, max_size=8))
def test_a_switch_of_temporality_loses_nothing_and_counts_nothing_twice(preferences):
    there = Exit()
    counter = declare.counter(there.store, "sold.total", "").at(A)
    added = 0
    for preference in preferences:
        there.preference = preference
        counter.add(3)
        added += 3
        (point,) = there.read()
        # A cumulative point is the whole, from the very beginning; a delta is what came since the last point.
        whole = point.temporality == CUMULATIVE
        assert (point.value, times(point)[0] == 10) == ((added, True) if whole else (3, added == 3))
        assert there.reference.totals[point.key] == added


def test_the_values_of_temporality_are_those_of_otlp():
    assert (Temporality.DELTA.value, Temporality.CUMULATIVE.value) == (DELTA, CUMULATIVE)
