"""When, and in what size, a failed batch is sent again."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpylib_telemetry import ExportError
from otpylib_telemetry.config.settings import ExporterSettings
from otpylib_telemetry.exporter.errors import TooLargeError
from otpylib_telemetry.exporter.retry import (
    LONGEST_DELAY,
    Attempt,
    Retry,
    RetryState,
    after_failure,
    after_success,
)

NOW = 100.0
SETTINGS = ExporterSettings(retry_attempts=3, flush_interval=30.0)


def failed(error, lane=None, *, items=4, attempt=None, settings=SETTINGS, dice=1.0):
    lane = lane or RetryState()
    return after_failure(error, attempt or lane.attempt(items), lane, settings, now=NOW, dice=lambda: dice)


@pytest.mark.parametrize(
    ("error", "items", "kind"),
    [
        (OSError("refused"), 4, "again"),
        (ValueError("anything else"), 4, "again"),
        (ExportError("busy"), 4, "again"),
        (ExportError("never", retryable=False), 4, "rejected"),
        (TooLargeError("4 MB"), 4, "in_pieces"),
        (TooLargeError("4 MB"), 2, "in_pieces"),
        (TooLargeError("4 MB"), 1, "rejected"),
    ],
)
def test_what_becomes_of_a_batch_depends_on_the_error_and_its_size(error, items, kind):
    assert failed(error, items=items).kind == kind


@pytest.mark.parametrize(
    ("failures", "wait", "failures_then"),
    [(0, 0.5, 1), (1, 1.0, 2), (2, 2.0, 3), (3, 30.0, 0)],
)
def test_the_back_off_doubles_and_a_round_ends_with_a_rest_of_the_interval(failures, wait, failures_then):
    retry = failed(OSError(), RetryState(failures=failures, round=7))
    assert retry == Retry("again", RetryState(failures=failures_then, round=8, not_before=NOW + wait))


def test_without_attempts_every_failure_is_followed_by_the_interval():
    none = ExporterSettings(retry_attempts=0, flush_interval=7.0)
    assert failed(OSError(), settings=none).lane.not_before == NOW + 7.0


@pytest.mark.parametrize(
    ("asked", "wait"),
    [
        (10.0, 10.5),
        (0, 0.5),
        (1e12, LONGEST_DELAY + 0.5),
        (10**400, 0.5),
        (-1.0, 0.5),
        (math.nan, 0.5),
        (math.inf, 0.5),
        ("soon", 0.5),
        (None, 0.5),
    ],
)
def test_a_delay_the_server_asks_for_is_honoured_if_it_makes_sense(asked, wait):
    assert failed(ExportError("busy", retry_after=asked)).lane.not_before == NOW + wait


def test_at_the_end_of_a_round_the_longer_of_interval_and_server_delay_counts():
    used_up = RetryState(failures=3)
    assert failed(ExportError("busy", retry_after=40.0), used_up).lane.not_before == NOW + 40.0
    assert failed(ExportError("busy", retry_after=4.0), used_up).lane.not_before == NOW + 30.0


def test_a_rejected_batch_ends_the_failures_in_a_row_and_the_next_waits_for_the_shortest_back_off():
    retry = failed(ExportError("never", retryable=False), RetryState(failures=2))
    assert retry == Retry("rejected", RetryState(failures=0, round=1, not_before=NOW + 0.5))


def test_of_batches_that_fail_side_by_side_only_the_first_counts():
    lane = RetryState()
    first = second = lane.attempt(4)
    lane = failed(OSError(), lane, attempt=first).lane
    retry = failed(OSError(), lane, attempt=second)
    assert retry == Retry("again", lane)
    later = failed(ExportError("busy", retry_after=60.0), lane, attempt=second).lane
    assert (later.failures, later.round, later.not_before) == (1, 1, NOW + 60.0)


def test_a_batch_that_is_too_large_is_halved_again_and_again_without_a_wait():
    lane = RetryState()
    sizes = []
    while (size := min(lane.next_size(100), 9)) > 1:
        retry = failed(TooLargeError("4 MB"), lane, items=size)
        assert (retry.kind, retry.lane.not_before) == ("in_pieces", 0.0)
        lane = retry.lane
        sizes.append(lane.next_size(100))
    assert sizes == [5, 3, 2, 1]
    assert lane.left_in_pieces == 9


def test_when_all_pieces_are_through_the_next_batch_is_whole_again():
    lane = failed(TooLargeError("4 MB"), items=5).lane
    sizes = []
    while lane.left_in_pieces:
        sizes.append(lane.next_size(100))
        lane = after_success(lane.attempt(sizes[-1]), lane)
    assert sizes == [3, 2]
    assert lane.next_size(100) == 100


def test_a_success_ends_the_wait_unless_something_has_failed_since_it_was_sent():
    before = RetryState()
    sent_before = before.attempt(1)
    lane = failed(OSError(), before).lane
    assert after_success(sent_before, lane) == lane
    assert after_success(lane.attempt(1), lane) == RetryState(round=1)


ERRORS = st.one_of(
    st.builds(OSError),
    st.builds(TooLargeError, st.just("4 MB")),
    st.builds(
        ExportError,
        st.just("busy"),
        retryable=st.booleans(),
        retry_after=st.one_of(st.none(), st.floats(), st.integers()),
    ),
)


@given(
    st.lists(st.tuples(st.one_of(st.none(), ERRORS), st.booleans()), max_size=30),
    st.integers(0, 5),
    st.floats(0, 1),
    st.integers(1, 50),
)
def test_whatever_happens_a_lane_goes_on_within_bounds(outcomes, retry_attempts, dice, batch_size):
    settings = ExporterSettings(retry_attempts=retry_attempts, batch_size=batch_size)
    lane = RetryState()
    stale = lane.attempt(lane.next_size(batch_size))
    for error, is_stale in outcomes:
        attempt = stale if is_stale else lane.attempt(lane.next_size(batch_size))
        if error is None:
            lane = after_success(attempt, lane)
            continue
        before = lane
        retry = failed(error, before, attempt=attempt, settings=settings, dice=dice)
        lane = retry.lane
        if retry.kind == "in_pieces":
            assert 1 <= lane.next_size(batch_size) < attempt.items
        elif before.is_news(attempt):
            assert lane.round == before.round + 1
            assert NOW <= lane.not_before <= NOW + max(settings.flush_interval, LONGEST_DELAY + 30.0)
        else:
            assert (lane.round, lane.failures) == (before.round, before.failures)
            assert lane.not_before >= before.not_before
        assert 0 <= lane.failures <= retry_attempts
        assert 1 <= lane.next_size(batch_size) <= batch_size


def test_an_attempt_remembers_what_its_answer_is_told_from_others_by():
    assert RetryState(round=3, left_in_pieces=2).attempt(2) == Attempt(2, 3, is_piece=True)
