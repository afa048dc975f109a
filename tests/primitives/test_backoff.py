"""How long to wait before trying again."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpylib_telemetry.primitives.backoff import BASE, CAP, full_jitter


def longest():
    return 1.0


def shortest():
    return 0.0


def test_the_bound_doubles_with_every_failure_up_to_the_cap():
    waits = [full_jitter(attempt, longest) for attempt in range(1, 10)]
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_the_jitter_is_full_from_nothing_to_the_bound():
    assert full_jitter(5, shortest) == 0.0
    assert full_jitter(5, lambda: 0.25) == 2.0


def test_base_and_cap_can_be_chosen():
    assert [full_jitter(attempt, longest, base=2, cap=5) for attempt in (1, 2, 3)] == [2, 4, 5]


def test_a_delay_the_server_asks_for_is_honoured_in_full_with_a_little_jitter_on_top():
    assert full_jitter(1, shortest, server_delay=90.0) == 90.0
    assert full_jitter(9, longest, server_delay=90.0) == 90.0 + BASE
    assert full_jitter(1, shortest, server_delay=0.0) == 0.0


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -math.inf, -1.0])
def test_a_delay_that_is_none_is_ignored(nonsense):
    assert full_jitter(2, longest, server_delay=nonsense) == 1.0


@given(st.integers(-5, 10**9), st.floats(0, 1), st.none() | st.floats())
def test_every_wait_is_a_number_of_seconds(attempt, chance, server_delay):
    wait = full_jitter(attempt, lambda: chance, server_delay=server_delay)
    assert math.isfinite(wait)
    assert wait >= 0
    asked = server_delay if server_delay is not None and math.isfinite(server_delay) else 0
    assert wait <= max(CAP, asked + BASE)
