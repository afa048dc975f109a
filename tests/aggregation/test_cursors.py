"""What is said of a series, reading after reading: pure."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.resources import Resource

from otpylib_telemetry.aggregation.cursors import Cursors, Preference, Reading, temporality_of
from otpylib_telemetry.aggregation.metric import SummaryShape
from otpylib_telemetry.aggregation.points import Temporality
from otpylib_telemetry.aggregation.series import Traced
from otpylib_telemetry.aggregation.store import SeriesStore
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
        self.preference = preference
        self.reference = Reference()

    def read(self, offset=OFFSET):
        self.now += 10
        reading = Reading(self.now, offset, Preference(self.preference))
        points = self.cursors.finish(self.cursors.gone(self.store.metrics), reading, self.store)
        for metric in self.store.metrics:
            points += self.cursors.advance(metric, metric.all_series(), reading)
        encoded = MetricEncoder(Resource.create()).encode(points)
        assert encoded.refused == 0, encoded.reason
        told = points_in(ExportMetricsServiceRequest.FromString(encoded.body))
        assert len(told) == len(points)
        self.reference.take(told)
        return told


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

    def test_a_clock_that_is_set_back_moves_no_beginning(self):
        there = Exit()
        declare.counter(there.store, "sold.total", "").at(A).add(1)
        (first,) = there.read()
        (second,) = there.read(OFFSET - 10**9)
        assert second.point.start_time_unix_nano == first.point.start_time_unix_nano
        assert second.point.time_unix_nano >= first.point.time_unix_nano


class TestHistograms:
    def test_buckets_are_those_of_the_series(self):
        there = Exit()
        series = declare.histogram(there.store, "took", "", [1.0, 5.0], "s").at(A)
        for value in (0.5, 1.0, 3, 9):
            series.observe(value)
        (point,) = there.read()
        told = point.point
        assert (list(told.bucket_counts), list(told.explicit_bounds)) == ([2, 1, 1], [1.0, 5.0])
        assert (told.count, told.sum, told.HasField("min"), told.HasField("max")) == (4, 13.5, False, False)

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

    def test_the_extremes_are_told_of_the_whole_alone(self):
        there = Exit()
        series = declare.exponential(there.store, "took", "", scale=20, max_size=160).at(A)
        series.observe(2.0)
        series.observe(5.0)
        (point,) = there.read()
        assert (point.point.min, point.point.max) == (2.0, 5.0)
        there.preference = "delta"
        series.observe(3.0)
        (point,) = there.read()
        assert not point.point.HasField("min")


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

    def test_the_overflow_series_is_marked_as_the_sdk_does(self):
        there = Exit(max_series=1)
        counter = declare.counter(there.store, "sold.total", "")
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
