"""The books: every event in exactly one place."""

from hypothesis import given
from hypothesis import strategies as st

from otpylib_telemetry import Collected
from otpylib_telemetry.exporter.ledger import Ledger

COUNTS = st.integers(0, 1000)
OUTCOMES = st.builds(
    Collected,
    exported=COUNTS,
    sampled_out=COUNTS,
    rejected=COUNTS,
    dropped=st.dictionaries(st.sampled_from(["shutdown", "disabled", "queue_full"]), COUNTS),
)


def test_it_starts_empty():
    ledger = Ledger()
    assert ledger.done() == 0
    assert ledger.as_dict() == {"exported": 0, "rejected": 0, "sampled_out": 0, "dropped": {}}


def test_every_kind_has_its_place():
    ledger = Ledger()
    ledger.book(Collected(items=[("waiting", 7)], exported=1, sampled_out=2, rejected=3, dropped={"a": 4}))
    ledger.book(Collected(exported=10, dropped={"a": 1, "b": 2}))
    assert ledger.as_dict() == {"exported": 11, "rejected": 3, "sampled_out": 2, "dropped": {"a": 5, "b": 2}}
    assert ledger.done() == 23


def test_what_is_rejected_is_known_by_reason_as_well():
    ledger = Ledger()
    ledger.book(Collected(rejected=3))
    ledger.reject(2, "refused")
    ledger.reject(0, "too_large")
    assert ledger.rejected == 5
    assert ledger.rejected_for == {"unusable": 3, "refused": 2}


def test_a_reason_for_which_nothing_was_dropped_is_not_shown():
    ledger = Ledger()
    ledger.drop(0, "shutdown")
    assert ledger.as_dict()["dropped"] == {}


def test_what_is_read_is_a_copy():
    ledger = Ledger()
    ledger.drop(1, "a")
    ledger.as_dict()["dropped"]["a"] = 100
    assert ledger.done() == 1


@given(st.lists(OUTCOMES))
def test_the_books_add_up_to_what_was_entered(outcomes):
    ledger = Ledger()
    for outcome in outcomes:
        ledger.book(outcome)
    shown = ledger.as_dict()
    assert ledger.done() == sum(outcome.events() for outcome in outcomes)
    assert ledger.done() == (
        shown["exported"] + shown["rejected"] + shown["sampled_out"] + sum(shown["dropped"].values())
    )
