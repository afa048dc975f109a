"""Exponential buckets against exact arithmetic."""

import math
import sys
from fractions import Fraction

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from otpylib_telemetry.aggregation.exponential import (
    MAX_SCALE,
    MIN_SCALE,
    ExponentialBuckets,
    bucket_index,
    error_at,
    lower_bound,
    scale_for,
)
from tests.support.examples import examples

FLOAT_MAX = sys.float_info.max
positive = st.floats(min_value=5e-324, max_value=FLOAT_MAX)
#: Whose sums are finite, however many of them there are.
finite = st.floats(min_value=-1e300, max_value=1e300)
scales = st.integers(MIN_SCALE, MAX_SCALE)


def exact_index(value, scale):
    """Return the index i with base**i < value <= base**(i + 1), in whole numbers throughout."""
    exact = Fraction(value)
    if scale > 0:
        exact **= 2**scale
    # The least whole number p with exact <= 2**p.
    power = exact.numerator.bit_length() - exact.denominator.bit_length()
    while exact > Fraction(2) ** power:
        power += 1
    while exact <= Fraction(2) ** (power - 1):
        power -= 1
    return power - 1 if scale >= 0 else -(-power // 2**-scale) - 1


@settings(max_examples=examples(300))
@given(positive, st.integers(MIN_SCALE, 7))
def test_a_number_is_in_the_bucket_that_exact_arithmetic_says(value, scale):
    index, exact = bucket_index(value, scale), exact_index(value, scale)
    if index != exact:
        # Only where a float cannot tell the number from the bound between the two.
        assert abs(index - exact) == 1
        bound = lower_bound(max(index, exact), scale)
        assert abs(value - bound) <= 2 * math.ulp(bound)


@given(positive, scales)
def test_the_bounds_of_its_bucket_surround_a_number_at_every_scale(value, scale):
    index = bucket_index(value, scale)
    low, high = lower_bound(index, scale), lower_bound(index + 1, scale)
    assert low - 2 * math.ulp(low) <= value
    assert high == math.inf or value <= high + 2 * math.ulp(high)


@given(st.integers(-1074, 1023), scales)
def test_a_power_of_two_is_the_inclusive_upper_bound_of_its_bucket(power, scale):
    value = math.ldexp(1.0, power)
    index = bucket_index(value, scale)
    assert index == exact_index(value, min(scale, 4)) if scale <= 4 else index == (power << scale) - 1
    if scale >= 0:
        assert lower_bound(index + 1, scale) == value
    if value < FLOAT_MAX and power > -1000:
        assert bucket_index(math.nextafter(value, math.inf), scale) >= index


@given(positive, positive, scales)
def test_the_greater_of_two_numbers_is_in_no_lower_bucket(one, other, scale):
    assume(one <= other)
    assert bucket_index(one, scale) <= bucket_index(other, scale)


@given(positive, st.integers(MIN_SCALE + 1, MAX_SCALE))
def test_two_buckets_of_a_scale_are_one_of_the_scale_below(value, scale):
    fine, coarse = bucket_index(value, scale), bucket_index(value, scale - 1)
    # But for what lies so near a bound that a float cannot tell.
    assert abs((fine >> 1) - coarse) <= 1
    if (fine >> 1) != coarse:
        bound = lower_bound(max(fine >> 1, coarse), scale - 1)
        assert abs(value - bound) <= 2 * math.ulp(bound)


def test_only_subnormal_numbers_have_a_third_bucket_at_the_least_scale_and_none_have_one_below():
    assert (bucket_index(2.0**-1024, MIN_SCALE), bucket_index(5e-324, MIN_SCALE)) == (-2, -2)
    assert bucket_index(math.nextafter(2.0**-1024, 1), MIN_SCALE) == -1
    assert bucket_index(5e-324, MIN_SCALE - 1) == -1
    for scale in (MIN_SCALE, MIN_SCALE - 1):
        assert bucket_index(FLOAT_MAX, scale) == 0
        assert lower_bound(0, scale) == 1.0
        assert lower_bound(1, scale) == math.inf


def test_a_distribution_of_all_floats_is_read_at_the_coarsest_scale():
    buckets = filled([FLOAT_MAX, 2.0, 5e-324, 5e-324, 1.0], max_size=2)
    assert (buckets.scale, buckets.positive) == (MIN_SCALE - 1, {-1: 3, 0: 2})
    assert buckets.quantiles([0, 0.25, 1]) == [5e-324, 5e-324, FLOAT_MAX]


@given(st.floats(min_value=1e-6, max_value=0.99))
def test_the_scale_for_an_error_is_the_coarsest_that_keeps_it(error):
    scale = scale_for(error)
    assert error_at(scale) <= error
    assert scale == MIN_SCALE or error_at(scale - 1) > error


def test_the_error_falls_with_the_scale_and_is_defined_at_all_of_them():
    errors = [error_at(scale) for scale in range(MIN_SCALE, MAX_SCALE + 1)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == 1.0
    assert math.isclose(error_at(0), 1 / 3)
    assert scale_for(1e-12) == MAX_SCALE


def filled(values, scale=MAX_SCALE, max_size=160):
    buckets = ExponentialBuckets(scale, max_size)
    for value in values:
        assert buckets.add(value)
    return buckets


def contents(buckets):
    return (
        buckets.scale,
        buckets.positive,
        buckets.negative,
        buckets.zeros,
        buckets.count,
        buckets.least,
        buckets.greatest,
    )


#: As wide as a summary promises to be exact for: forty doublings.
within_forty_doublings = st.floats(min_value=2.0**-20, max_value=2.0**20)


@settings(max_examples=examples(200), deadline=None)
@example([1047158.0, 2.0**-20], 0.5, 0.001)
@given(
    st.lists(within_forty_doublings | within_forty_doublings.map(lambda x: -x) | st.just(0.0), min_size=1),
    st.floats(0, 1),
    st.sampled_from([0.001, 0.01, 0.05, 0.3]),
)
def test_a_quantile_is_within_the_stated_error_of_the_one_of_that_rank(values, wanted, error):
    scale = scale_for(error)
    # One more, because the least may be the upper bound of its bucket.
    buckets = filled(values, scale, (40 << scale) + 1)
    assert buckets.scale == scale
    exact = sorted(values)[math.floor(wanted * (len(values) - 1))]
    # A little more than the error, for a float may round a number across a bound.
    assert abs(buckets.quantiles([wanted])[0] - exact) <= error * abs(exact) * (1 + 1e-9)


@given(st.lists(finite, min_size=1), st.floats(0, 1), st.integers(2, 20))
def test_a_quantile_is_within_the_error_of_the_scale_that_was_left(values, wanted, max_size):
    buckets = filled(values, max_size=max_size)
    exact = sorted(values)[math.floor(wanted * (len(values) - 1))]
    slack = error_at(buckets.scale) * abs(exact) * (1 + 1e-9)
    assert abs(buckets.quantiles([wanted])[0] - exact) <= slack + 5e-324


def test_the_extremes_are_exact_and_nothing_has_no_quantile():
    buckets = filled([3.7, -2.3, 11.1])
    assert (buckets.quantiles([0])[0], buckets.quantiles([1])[0]) == (-2.3, 11.1)
    assert math.isnan(ExponentialBuckets(5, 160).quantiles([0.5])[0])


@given(st.lists(st.lists(finite, max_size=20), min_size=1, max_size=5), st.integers(2, 40))
def test_merging_is_adding_everything_to_one(parts, max_size):
    whole = ExponentialBuckets(MAX_SCALE, max_size)
    for part in parts:
        before = filled(part, max_size=max_size)
        snapshot = contents(before), dict(before.positive)
        whole.merge(before)
        assert (contents(before), dict(before.positive)) == snapshot
    together = filled([value for part in parts for value in part], max_size=max_size)
    assert whole.count == together.count
    assert whole.zeros == together.zeros
    assert (whole.least, whole.greatest) == (together.least, together.greatest)
    # Order decides how soon buckets are coarsened, but not how coarse they must be in the end.
    assert whole.scale == together.scale
    assert (whole.positive, whole.negative) == (together.positive, together.negative)
    assert math.isclose(whole.sum, together.sum, rel_tol=1e-15, abs_tol=1e-300 + 1e-28 * sum_of(parts))


def sum_of(parts):
    return sum(abs(value) for part in parts for value in part)


@example([2.0, 5e-324], 2)
@example([-2.0, -5e-324], 2)
@example([FLOAT_MAX, 2.0**-1024, 5e-324], 2)
@given(st.lists(finite, max_size=60), st.integers(2, 20))
def test_there_are_never_more_buckets_than_there_may_be(values, max_size):
    buckets = filled(values, max_size=max_size)
    for counts in (buckets.positive, buckets.negative):
        assert not counts or max(counts) - min(counts) < max_size
    assert sum(buckets.positive.values()) + sum(buckets.negative.values()) + buckets.zeros == len(values)


@given(st.lists(st.floats(min_value=1e-3, max_value=1e3), min_size=1, max_size=30))
def test_what_was_coarsened_is_what_would_have_been_counted_coarsely(values):
    coarsened = filled(values, max_size=8)
    coarse = filled(values, scale=coarsened.scale, max_size=10_000)
    moved = sum(abs(coarse.positive.get(i, 0) - coarsened.positive.get(i, 0)) for i in range(-20_000, 20_000))
    near_bounds = sum(
        any(
            abs(value - lower_bound(bucket_index(value, coarse.scale) + step, coarse.scale)) <= 1e-14 * value
            for step in (0, 1)
        )
        for value in values
    )
    assert moved <= 2 * near_bounds


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, -(10**400)])
def test_what_is_not_finite_is_refused_and_changes_nothing(value):
    buckets = filled([1.5, -2, 0])
    before = contents(buckets), buckets.sum
    assert not buckets.add(value)
    assert (contents(buckets), buckets.sum) == before


def test_a_sum_beyond_every_float_is_refused_and_a_merged_one_stays_finite():
    one = filled([FLOAT_MAX])
    assert not one.add(FLOAT_MAX)
    one.merge(filled([FLOAT_MAX]))
    assert (one.count, one.sum) == (2, FLOAT_MAX)


def test_an_integer_counts_as_the_nearest_float():
    buckets = filled([2**53 + 1])
    assert buckets.positive == filled([float(2**53)]).positive
    assert buckets.sum == 2**53 + 1 or buckets.sum == float(2**53 + 1)
