"""The circuit's state machine, on a clock of the test's own."""

import math
import random

import pytest

from otpylib_telemetry.primitives.circuit import UNASKED, Circuit


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
        circuit.failed(circuit.permit())
    assert circuit.state == "open"
    return circuit


def test_it_starts_closed_and_lets_everything_through(clock):
    circuit = Circuit(clock=clock)
    assert all(circuit.permit() for _ in range(3))
    assert (circuit.state, circuit.failure_count, circuit.remaining_rest) == ("closed", 0, 0.0)


def test_it_opens_with_the_last_failure_in_a_row_that_it_takes(clock):
    circuit = Circuit(3, 10, clock=clock)
    for state in ("closed", "closed", "open"):
        circuit.failed(circuit.permit())
        assert circuit.state == state
    assert circuit.failure_count == 3
    assert circuit.permit() == 0


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
    assert circuit.permit() == 0
    assert circuit.remaining_rest == pytest.approx(0.001)
    clock.now = 10.0
    assert circuit.state == "open"
    assert circuit.permit()
    assert circuit.state == "half_open"
    assert [circuit.permit() for _ in range(3)] == [0, 0, 0]
    assert circuit.remaining_rest == 0.0


def test_a_probe_that_succeeds_closes_it(clock):
    circuit = opened(clock)
    clock.now = 10
    circuit.permit()
    circuit.succeeded()
    assert (circuit.state, circuit.failure_count) == ("closed", 0)
    assert circuit.permit()
    assert circuit.permit()


def test_a_probe_that_fails_opens_it_for_as_long_again(clock):
    circuit = opened(clock)
    for round_ in range(1, 5):
        clock.now = 10.0 * round_
        circuit.failed(circuit.permit())
        assert (circuit.state, circuit.remaining_rest) == ("open", 10.0)
        assert circuit.failure_count == round_ + 1


def test_the_rest_grows_with_every_probe_that_fails_up_to_the_longest_and_starts_small_again(clock):
    circuit = opened(clock, rest=1.0, back_off=2.0, longest_rest=5.0)
    rests = []
    for _ in range(5):
        rests.append(circuit.remaining_rest)
        clock.now += circuit.remaining_rest
        circuit.failed(circuit.permit())
    assert rests == [1, 2, 4, 5, 5]
    clock.now += 5
    circuit.permit()
    circuit.succeeded()
    circuit.failed()
    assert circuit.remaining_rest == 1.0


def test_a_probe_that_was_cancelled_gives_its_place_to_the_next(clock):
    circuit = opened(clock)
    clock.now = 10
    circuit.released(circuit.permit())
    assert (circuit.state, circuit.failure_count) == ("half_open", 1)
    assert circuit.permit()


def test_a_cancelled_call_is_neither_success_nor_failure(clock):
    circuit = Circuit(2, 10, clock=clock)
    circuit.failed(circuit.permit())
    circuit.released(circuit.permit())
    assert (circuit.state, circuit.failure_count) == ("closed", 1)


def test_a_late_answer_does_not_pass_for_that_of_the_probe(clock):
    circuit = Circuit(1, 10, clock=clock)
    early, late, later = circuit.permit(), circuit.permit(), circuit.permit()
    circuit.failed(early)
    clock.now = 10
    probe = circuit.permit()

    circuit.failed(late)
    assert circuit.state == "half_open"
    circuit.released(later)
    assert circuit.permit() == 0

    circuit.failed(probe)
    assert circuit.state == "open"


def test_an_earlier_probe_does_not_pass_for_the_present_one(clock):
    circuit = opened(clock)
    clock.now = 10
    first = circuit.permit()
    circuit.reset()
    circuit.failed(circuit.permit())
    clock.now = 20
    second = circuit.permit()
    assert second != first
    circuit.released(first)
    assert circuit.permit() == 0
    circuit.released(second)
    assert circuit.permit()


def test_a_late_failure_does_not_make_the_rest_longer(clock):
    circuit = Circuit(1, 10, clock=clock)
    early, late = circuit.permit(), circuit.permit()
    circuit.failed(early)
    clock.now = 9
    circuit.failed(late)
    assert circuit.remaining_rest == 1.0
    assert (circuit.failure_count, circuit.last_failure_time) == (1, 0.0)


@pytest.mark.parametrize("answer", ["succeeded", "failed", "released"])
def test_a_call_from_before_it_opened_changes_nothing_when_it_ends(clock, answer):
    """Not while it is open, not while it is half open, not when it has closed again."""
    circuit = Circuit(2, 10, clock=clock)
    late = circuit.permit()
    for _ in range(2):
        circuit.failed(circuit.permit())

    def end():
        before = _facts(circuit)
        getattr(circuit, answer)(late)
        assert _facts(circuit) == before

    end()
    clock.now = 10
    probe = circuit.permit()
    end()
    circuit.succeeded(probe)
    circuit.failed(circuit.permit())
    end()
    assert (circuit.state, circuit.failure_count) == ("closed", 1)


def test_an_answer_that_nobody_asked_for_with_a_permit_closes_no_open_circuit(clock):
    circuit = opened(clock)
    circuit.succeeded()
    circuit.failed()
    assert (circuit.state, circuit.failure_count, circuit.remaining_rest) == ("open", 1, 10.0)


def test_a_call_made_all_the_same_closes_it_by_its_success_alone(clock):
    circuit = opened(clock)
    before = _facts(circuit)
    circuit.failed(UNASKED)
    assert _facts(circuit) == before
    circuit.succeeded(UNASKED)
    assert (circuit.state, circuit.failure_count) == ("closed", 0)


@pytest.mark.parametrize("seed", range(30))
def test_calls_that_overlap_in_any_way_open_and_close_it_as_one_after_the_other_would(clock, seed):
    """Against a model that knows of each call in which stretch of a closed circuit it began."""
    dice = random.Random(seed)
    circuit, stretch, failures, state = Circuit(3, 10, clock=clock), 0, 0, "closed"
    opened_at = 0.0
    calls = []
    for _ in range(400):
        clock.now += dice.choice([0.0, 0.0, 4.0])
        if dice.random() < 0.5 or not calls:
            permit = circuit.permit()
            if state == "open" and clock.now - opened_at >= 10:
                state = "half_open"
            is_probe = state == "half_open" and permit != 0
            assert bool(permit) == (state == "closed" or is_probe)
            if permit:
                calls.append((permit, stretch, is_probe))
        else:
            permit, begun, is_probe = calls.pop(dice.randrange(len(calls)))
            is_good = dice.random() < 0.4
            (circuit.succeeded if is_good else circuit.failed)(permit)
            if begun == stretch and is_probe:
                stretch, failures = stretch + 1, 0 if is_good else failures + 1
                state, opened_at = ("closed", 0.0) if is_good else ("open", clock.now)
            elif begun == stretch and state == "closed":
                failures = 0 if is_good else failures + 1
                if failures == 3:
                    state, opened_at, stretch = "open", clock.now, stretch + 1
        assert (circuit.state, circuit.failure_count) == (state, failures)


def _facts(circuit):
    return (
        circuit.state,
        circuit.failure_count,
        circuit.last_failure_time,
        circuit.remaining_rest,
        circuit.probing,
    )


def test_who_makes_one_call_at_a_time_needs_no_permits(clock):
    circuit = opened(clock)
    clock.now = 10
    assert circuit.permit()
    circuit.released()
    assert circuit.permit()
    circuit.failed()
    assert circuit.state == "open"


def test_other_limits_are_in_force_at_once(clock):
    circuit = opened(clock, rest=60.0)
    circuit.adjust(3, 10)
    assert circuit.remaining_rest == 10.0
    circuit.adjust(3, 600)
    assert circuit.remaining_rest == 10.0
    clock.now = 10
    circuit.permit()
    circuit.succeeded()
    for state in ("closed", "closed", "open"):
        circuit.failed()
        assert circuit.state == state
    assert circuit.remaining_rest == 600.0


def test_without_a_rest_every_call_after_an_opening_is_a_probe(clock):
    circuit = opened(clock, rest=0.0)
    assert circuit.permit()
    assert circuit.state == "half_open"


def test_an_endless_rest_ends_with_a_success_only(clock):
    circuit = opened(clock, rest=math.inf)
    clock.now = 1e12
    assert circuit.permit() == 0
    circuit.reset()
    assert circuit.permit()


@pytest.mark.parametrize("limits", [(0, 1), (-1, 1), (1, -0.1), (1, math.nan)])
def test_limits_of_no_sense_are_refused(limits):
    with pytest.raises(ValueError, match=r"failure_threshold is|reset_timeout is"):
        Circuit(*limits)
    circuit = Circuit(2, 3.0)
    with pytest.raises(ValueError, match=r"failure_threshold is|reset_timeout is"):
        circuit.adjust(*limits)
    assert (circuit.failure_threshold, circuit.reset_timeout) == (2, 3.0)
