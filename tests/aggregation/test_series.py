"""Series against exact sums and exact ranks."""

import functools
import math
import operator
import sys
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otpylib_telemetry.aggregation.distribution_series import ExponentialSeries, HistogramSeries
from otpylib_telemetry.aggregation.exponential import ExponentialBuckets, PackedBuckets, error_at, scale_for
from otpylib_telemetry.aggregation.number_series import CounterSeries, GaugeSeries, UpDownSeries
from otpylib_telemetry.aggregation.series import Traced
from otpylib_telemetry.aggregation.summary_series import SliceClock, SummarySeries
from otpylib_telemetry.aggregation.summation import corrected, halves
from tests.support.examples import examples

FLOAT_MAX = sys.float_info.max
UNIT = Fraction(1, 2**53)
SECOND = 1_000_000_000

floats = st.floats(min_value=-1e290, max_value=1e290, allow_subnormal=False)
integers = st.integers(-(2**70), 2**70)
numbers = floats | integers


def bound(values):
    """Return by how much a sum of these may be off, as the module's docstring states it."""
    exact, absolute = sum(map(Fraction, values)), sum(abs(Fraction(value)) for value in values)
    # An integer that no float holds counts as two numbers.
    count = 2 * len(values)
    gamma = count * UNIT / (1 - count * UNIT)
    return UNIT * abs(exact) + gamma**2 * absolute + Fraction(1, 2**1070)


def histogram():
    return HistogramSeries((), (1.0, 10.0))


SUMS = {
    "counter": lambda: (series := CounterSeries(()), series.add, lambda: series.value),
    "up-down counter": lambda: (series := UpDownSeries(()), series.add, lambda: series.value),
    "histogram": lambda: (series := histogram(), series.observe, lambda: series.sum),
    "exponential": lambda: (series := ExponentialSeries((), 3, 160), series.observe, lambda: series.sum),
    "summary": lambda: (series := SummarySeries((), 3, 160, 5), series.observe, lambda: series.sum),
}


@pytest.mark.parametrize("kind", SUMS)
@settings(max_examples=examples(150))
@given(values=st.lists(numbers, min_size=1, max_size=60))
def test_a_sum_is_as_near_the_exact_one_as_is_stated(kind, values):
    _, add, total = SUMS[kind]()
    if kind == "counter":
        values = [abs(value) for value in values]
    for value in values:
        assert add(value)
    assert abs(Fraction(total()) - sum(map(Fraction, values))) <= bound(values)


@pytest.mark.parametrize("kind", SUMS)
def test_what_plain_addition_loses_is_not_lost(kind):
    _, add, total = SUMS[kind]()
    for _ in range(100_000):
        add(0.1)
    assert total() == 10_000.0
    # The built-in sum compensates too, from Python 3.12 on.
    assert functools.reduce(operator.add, [0.1] * 100_000) != 10_000.0


@pytest.mark.parametrize("kind", ["up-down counter", "histogram", "exponential", "summary"])
def test_what_cancels_leaves_what_was_small(kind):
    _, add, total = SUMS[kind]()
    for value in (1.0, 1e100, 1.0, -1e100):
        add(value)
    assert total() == 2.0


@pytest.mark.parametrize("kind", SUMS)
def test_an_integer_that_no_float_holds_is_not_rounded_each_time(kind):
    _, add, total = SUMS[kind]()
    add(0.5)
    for _ in range(1000):
        add(2**53 + 1)
    assert total() == float(1000 * (2**53 + 1))


def test_the_sum_of_integers_is_exact_and_an_integer():
    for series in (CounterSeries(()), UpDownSeries(())):
        for _ in range(3):
            series.add(10**40 + 1)
        assert series.value == 3 * 10**40 + 3
        assert type(series.value) is int


@pytest.mark.parametrize("kind", SUMS)
@settings(max_examples=examples(60))
@given(
    values=st.lists(
        st.sampled_from([FLOAT_MAX, 2.0**969, 2.0**970, 1e292, 1.0, -1.0, -FLOAT_MAX]), max_size=8
    )
)
def test_a_sum_is_finite_to_the_very_end_of_the_floats(kind, values):
    _, add, total = SUMS[kind]()
    for value in values:
        add(abs(value) if kind == "counter" else value)
    assert math.isfinite(total())


@pytest.mark.parametrize("kind", SUMS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, -(10**400)])
@pytest.mark.parametrize("before", [[], [1], [0.5]], ids=str)
def test_what_is_not_finite_is_refused_and_changes_nothing(kind, value, before):
    series, add, total = SUMS[kind]()
    for number in before:
        add(number)
    shown = total(), getattr(series, "count", None), list(getattr(series, "counts", ()))
    assert add(value) is False
    assert (total(), getattr(series, "count", None), list(getattr(series, "counts", ()))) == shown


@pytest.mark.parametrize("kind", SUMS)
def test_a_sum_that_would_not_be_finite_is_refused(kind):
    _, add, total = SUMS[kind]()
    assert add(FLOAT_MAX)
    assert add(FLOAT_MAX) is False
    assert total() == FLOAT_MAX


@pytest.mark.parametrize("amount", [-1, -0.5, -(10**400)])
def test_a_counter_refuses_to_fall(amount):
    series = CounterSeries(())
    series.add(3)
    assert series.add(amount) is False
    assert series.value == 3
    assert series.advance_to(-1) is False
    assert series.advance_to(1)
    assert series.value == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400])
def test_a_gauge_is_only_ever_set_to_what_is_finite(value):
    series = GaugeSeries(())
    series.set(2.5)
    assert series.set(value) is False
    assert series.value == 2.5


# --- histograms


bounds = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8, unique=True).map(lambda b: tuple(sorted(b)))


@given(bounds, st.lists(floats | integers | st.sampled_from([0, -0.0]), max_size=40))
def test_a_bucket_holds_what_is_at_most_its_bound_and_above_the_one_before(edges, values):
    values = [*values, *edges]
    series = HistogramSeries((), edges)
    for value in values:
        assert series.observe(value)
    cumulated = [sum(series.counts[: index + 1]) for index in range(len(edges))]
    assert cumulated == [sum(1 for value in values if Fraction(value) <= Fraction(edge)) for edge in edges]
    assert series.count == len(values) == sum(series.counts)


def test_a_number_next_to_a_bound_is_on_its_own_side():
    series = histogram()
    for value in (math.nextafter(1.0, 0), 1.0, 1, math.nextafter(1.0, 2), 10, math.nextafter(10.0, 11)):
        series.observe(value)
    assert series.counts == [3, 2, 1]


# --- exemplars


def test_an_exemplar_stands_for_a_second_and_is_then_replaced():
    series = CounterSeries(())
    for at_ns, amount in ((0, 1), (SECOND - 1, 2), (SECOND, 3)):
        series.add(amount, Traced(at_ns, "a" * 32, "b" * 16))
        assert series.exemplar.value == (3 if at_ns == SECOND else 1)


def test_every_bucket_has_an_exemplar_of_its_own_and_what_is_refused_makes_none():
    series = histogram()
    traced = Traced(0, "a" * 32, "b" * 16)
    series.observe(math.nan, traced)
    assert series.exemplars is None
    series.observe(0.5, traced)
    series.observe(50, traced)
    assert [one and one.value for one in series.exemplars] == [0.5, None, 50]


# --- summaries


def summary(error=0.01, slices=5, doublings=40):
    """A summary, and what tells it the time."""
    clock, scale = SliceClock(), scale_for(error)
    return SummarySeries((), scale, (doublings << scale) + 1, slices, 0, clock), clock


def test_quantiles_are_of_the_recent_slices_and_count_and_sum_of_all():
    series, clock = summary(slices=2)
    for value in (1000.0, 1.0, 2.0):
        series.observe(value)
        clock.slice += 1
    series.observe(3.0)
    assert series.count == 4
    assert series.sum == 1006.0
    assert series.quantiles([0, 1]) == [2.0, 3.0]
    clock.slice += 1_000_000_000
    assert all(math.isnan(quantile) for quantile in series.quantiles([0.5, 1]))
    assert (series.count, series.sum) == (4, 1006.0)
    assert series.buckets.count == 4


def test_a_slice_in_which_nothing_was_observed_still_passes():
    series, clock = summary(slices=3)
    for value in (1.0, 2.0):
        series.observe(value)
        clock.slice += 2
    assert series.quantiles([0, 1]) == [2.0, 2.0]
    clock.slice += 1
    assert math.isnan(series.quantiles([0.5])[0])


@settings(max_examples=examples(100))
@given(st.lists(st.lists(st.floats(2.0**-20, 2.0**20), max_size=15), min_size=1, max_size=6), st.floats(0, 1))
def test_a_summarys_quantiles_keep_within_the_error_over_all_slices(slices, wanted):
    error = 0.02
    series, clock = summary(error, len(slices))
    for number, values in enumerate(slices):
        clock.slice = number
        for value in values:
            series.observe(value)
    everything = sorted(value for values in slices for value in values)
    (quantile,) = series.quantiles([wanted])
    if not everything:
        assert math.isnan(quantile)
        return
    exact = everything[math.floor(wanted * (len(everything) - 1))]
    assert abs(quantile - exact) <= error * exact * (1 + 1e-9)


def test_one_outlier_does_not_coarsen_a_summary_for_ever():
    scale, clock = scale_for(0.01), SliceClock()
    series = SummarySeries((), scale, 160, 2, 0, clock)
    for value in (1e-200, 1e200):
        series.observe(value)
    clock.slice += 3
    assert series.recent().scale == scale
    assert error_at(scale) <= 0.01


@pytest.mark.parametrize("error", [0.02, 0.2])
def test_a_summary_keeps_no_more_buckets_than_is_stated_whatever_is_observed(error):
    series, clock = summary(error)
    scale = scale_for(error)
    every_bucket = [2.0 ** ((index + 0.5) / (1 << scale)) for index in range(-20 << scale, 20 << scale)]
    for number in range(12):
        clock.slice = number
        for value in every_bucket:
            series.observe(value * 2.0**number)
            series.observe(-value)
    # The slice that is open, four that are closed, and what is older; each of them for either sign.
    most = 6 * 2 * ((40 << scale) + 1)
    assert most * 0.8 < series.size <= most
    assert series.count == 12 * 2 * len(every_bucket)


def test_a_closed_slice_takes_eight_bytes_a_bucket():
    buckets = ExponentialBuckets(6, 10_000)
    for number in range(1, 2_001):
        buckets.add(1.01**number)
        buckets.add(-(1.01**number))
    packed = PackedBuckets(buckets)
    held = [packed.positive.indices, packed.positive.counts, packed.negative.indices, packed.negative.counts]
    assert sum(part.itemsize * len(part) for part in held) == 8 * (
        len(buckets.positive) + len(buckets.negative)
    )
    unpacked = buckets.empty()
    unpacked.merge(packed)
    assert (unpacked.positive, unpacked.negative) == (buckets.positive, buckets.negative)
    assert (unpacked.sum, unpacked.count) == (buckets.sum, buckets.count)
    assert (unpacked.least, unpacked.greatest) == (buckets.least, buckets.greatest)


def test_more_than_four_bytes_hold_is_packed_all_the_same():
    buckets = ExponentialBuckets(3, 160)
    buckets.add(1.0)
    for _ in range(33):
        buckets.merge(PackedBuckets(buckets))
    again = buckets.empty()
    again.merge(PackedBuckets(buckets))
    assert again.positive == {-1: 2**33}


def test_quantiles_are_worked_out_anew_only_when_they_may_be_others(monkeypatch):
    merged = []
    whole = SummarySeries.recent
    monkeypatch.setattr(SummarySeries, "recent", lambda series: merged.append(1) or whole(series))
    series, clock = summary(slices=2)
    series.observe(1.0)
    for _ in range(5):
        assert series.quantiles([0.5]) == [1.0]
    assert len(merged) == 1
    clock.slice += 1
    assert series.quantiles([0.5]) == [1.0]
    assert len(merged) == 1, "nothing has become too old yet"
    series.observe(3.0)
    assert series.quantiles([1]) == [3.0]
    assert series.quantiles([0]) == [1.0]
    clock.slice += 1
    assert series.quantiles([0]) == [3.0]
    assert len(merged) == 4


# --- what has changed since it was asked


@pytest.mark.parametrize("kind", SUMS)
def test_a_series_that_nothing_is_measured_for_is_idle(kind):
    series, add, _ = SUMS[kind]()
    add(1)
    assert series.stirred()
    assert series.stirred() is (kind == "up-down counter")
    add(-1 if kind == "up-down counter" else 2)
    assert series.stirred()
    assert not series.stirred()


def test_a_gauge_that_is_set_to_the_same_number_is_not_idle():
    series = GaugeSeries(())
    assert series.stirred()
    assert not series.stirred()
    series.set(0)
    assert series.stirred()


# --- summation


@given(numbers)
def test_the_halves_of_a_number_are_the_number(value):
    most, rest = halves(value)
    assert type(most) is type(rest) is float
    assert Fraction(most) + Fraction(rest) == Fraction(value)


def test_nothing_lost_leaves_the_sum_as_it_is():
    assert type(corrected(3, 0.0)) is int
    assert corrected(FLOAT_MAX, 1e300) == FLOAT_MAX
    assert corrected(1.0, math.nan) == 1.0
