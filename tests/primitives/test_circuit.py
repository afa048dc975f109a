"""The circuit's state machine, on a clock of the test's own."""

import math

import pytest

from otpylib_telemetry.primitives.circuit import ORDINARY, Circuit


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def opened(clock, threshold=1, rest=10.0, **options):
    circuit = Circuit(threshold, rest, clock=clock, **options)
    for _ in range(threshold):
        circuit.failed(circuit.admit())
    assert circuit.state == "open"
    return circuit


def test_it_starts_closed_and_lets_everything_through(clock):
    circuit = Circuit(clock=clock)
    assert [circuit.admit() for _ in range(3)] == [ORDINARY] * 3
    assert (circuit.state, circuit.failure_count, circuit.remaining_rest()) == ("closed", 0, 0.0)


def test_it_opens_with_the_last_failure_in_a_row_that_it_takes(clock):
    circuit = Circuit(3, 10, clock=clock)
    for state in ("closed", "closed", "open"):
        circuit.failed(circuit.admit())
        assert circuit.state == state
    assert circuit.failure_count == 3
    assert circuit.admit() == 0


def test_a_success_clears_the_count(clock):
    circuit = Circuit(3, 10, clock=clock)
    for _ in range(10):
        circuit.failed()
        circuit.failed()
        circuit.succeeded()
    assert (circuit.state, circuit.failure_count) == ("closed", 0)


def test_it_rests_to_the_end_and_then_lets_one_probe_through(clock):
    circuit = opened(clock)
    clock.now = 9.999
    assert circuit.admit() == 0
    assert circuit.remaining_rest() == pytest.approx(0.001)
    clock.now = 10.0
    assert circuit.state == "open"
    assert circuit.admit()
    assert circuit.state == "half_open"
    assert [circuit.admit() for _ in range(3)] == [0, 0, 0]
    assert circuit.remaining_rest() == 0.0


def test_a_probe_that_succeeds_closes_it(clock):
    circuit = opened(clock)
    clock.now = 10
    circuit.admit()
    circuit.succeeded()
    assert (circuit.state, circuit.failure_count) == ("closed", 0)
    assert circuit.admit() == circuit.admit() == ORDINARY


def test_a_probe_that_fails_opens_it_for_as_long_again(clock):
    circuit = opened(clock)
    for round_ in range(1, 5):
        clock.now = 10.0 * round_
        circuit.failed(circuit.admit())
        assert (circuit.state, circuit.remaining_rest()) == ("open", 10.0)
        assert circuit.failure_count == round_ + 1


def test_the_rest_grows_with_every_probe_that_fails_up_to_the_longest_and_starts_small_again(clock):
    circuit = opened(clock, rest=1.0, back_off=2.0, longest_rest=5.0)
    rests = []
    for _ in range(5):
        rests.append(circuit.remaining_rest())
        clock.now += circuit.remaining_rest()
        circuit.failed(circuit.admit())
    assert rests == [1, 2, 4, 5, 5]
    clock.now += 5
    circuit.admit()
    circuit.succeeded()
    circuit.failed()
    assert circuit.remaining_rest() == 1.0


def test_a_probe_that_was_cancelled_gives_its_place_to_the_next(clock):
    circuit = opened(clock)
    clock.now = 10
    circuit.released(circuit.admit())
    assert (circuit.state, circuit.failure_count) == ("half_open", 1)
    assert circuit.admit()


def test_a_cancelled_call_is_neither_success_nor_failure(clock):
    circuit = Circuit(2, 10, clock=clock)
    circuit.failed(circuit.admit())
    circuit.released(circuit.admit())
    assert (circuit.state, circuit.failure_count) == ("closed", 1)


def test_a_late_answer_does_not_pass_for_that_of_the_probe(clock):
    circuit = Circuit(1, 10, clock=clock)
    early, late, later = circuit.admit(), circuit.admit(), circuit.admit()
    circuit.failed(early)
    clock.now = 10
    probe = circuit.admit()

    circuit.failed(late)
    assert circuit.state == "half_open"
    circuit.released(later)
    assert circuit.admit() == 0

    circuit.failed(probe)
    assert circuit.state == "open"


def test_an_earlier_probe_does_not_pass_for_the_present_one(clock):
    circuit = opened(clock)
    clock.now = 10
    first = circuit.admit()
    circuit.reset()
    circuit.failed(circuit.admit())
    clock.now = 20
    second = circuit.admit()
    assert second != first
    circuit.released(first)
    assert circuit.admit() == 0
    circuit.released(second)
    assert circuit.admit()


def test_a_late_failure_does_not_make_the_rest_longer(clock):
    circuit = Circuit(1, 10, clock=clock)
    early, late = circuit.admit(), circuit.admit()
    circuit.failed(early)
    clock.now = 9
    circuit.failed(late)
    assert circuit.remaining_rest() == 1.0
    assert circuit.failure_count == 2


def test_any_success_closes_it(clock):
    circuit = opened(clock)
    circuit.succeeded()
    assert circuit.state == "closed"


def test_who_makes_one_call_at_a_time_needs_no_permits(clock):
    circuit = opened(clock)
    clock.now = 10
    assert circuit.admit()
    circuit.released()
    assert circuit.admit()
    circuit.failed()
    assert circuit.state == "open"


def test_other_limits_are_in_force_at_once(clock):
    circuit = opened(clock, rest=60.0)
    circuit.adjust(3, 10)
    assert circuit.remaining_rest() == 10.0
    circuit.adjust(3, 600)
    assert circuit.remaining_rest() == 10.0
    clock.now = 10
    circuit.admit()
    circuit.succeeded()
    for state in ("closed", "closed", "open"):
        circuit.failed()
        assert circuit.state == state
    assert circuit.remaining_rest() == 600.0


def test_without_a_rest_every_call_after_an_opening_is_a_probe(clock):
    circuit = opened(clock, rest=0.0)
    assert circuit.admit()
    assert circuit.state == "half_open"


def test_an_endless_rest_ends_with_a_success_only(clock):
    circuit = opened(clock, rest=math.inf)
    clock.now = 1e12
    assert circuit.admit() == 0
    circuit.reset()
    assert circuit.admit() == ORDINARY


@pytest.mark.parametrize("limits", [(0, 1), (-1, 1), (1, -0.1), (1, math.nan)])
def test_limits_of_no_sense_are_refused(limits):
    with pytest.raises(ValueError, match=r"failure_threshold is|reset_timeout is"):
        Circuit(*limits)
    circuit = Circuit(2, 3.0)
    with pytest.raises(ValueError, match=r"failure_threshold is|reset_timeout is"):
        circuit.adjust(*limits)
    assert (circuit.failure_threshold, circuit.reset_timeout) == (2, 3.0)
