"""Changes that were made for a while: what ends when, whatever else is changed meanwhile."""

import pytest

from otpylib_telemetry.config import transactions
from otpylib_telemetry.config.acts import Cause
from otpylib_telemetry.config.history import History
from otpylib_telemetry.config.live import LiveConfig
from otpylib_telemetry_otel.settings.model import OtelSettings

WALL = 5000.0


class Section:
    """One section with a clock of its own."""

    def __init__(self, **argument):
        self.now = 100.0
        self.history = History(wall_clock=lambda: WALL + self.now)
        self.live = LiveConfig(
            OtelSettings, "telemetry.otel", argument, {}, history=self.history, monotonic=lambda: self.now
        )

    def change(self, seconds=None, by=None, **changes):
        changes = {key.replace("__", "."): value for key, value in changes.items()}
        done = transactions.apply(self.live, changes, Cause("api", by, seconds))
        return done.as_dict(self.live)

    def roll_back(self, generation):
        return transactions.roll_back(self.live, generation, Cause("api", "eve")).as_dict(self.live)

    def at(self, now):
        self.now = 100.0 + now
        self.live.revert_due()
        return self

    def __getattr__(self, key):
        return getattr(self.live.settings, key)

    @property
    def last(self):
        return self.history.entries()[-1]


def test_one_that_changes_nothing_ends_by_itself_and_belongs_to_no_other():
    section = Section()
    answer = section.change(60, sampling_rate=1.0)
    assert (answer["outcome"], answer["changes"]) == ("applied", {})
    assert answer["reverts_at"] == WALL + 160
    section.change(600, batch_size=50)
    section.at(61)
    assert section.batch_size == 50
    assert (section.last.outcome, section.last.reverted) == ("applied", False)
    assert section.last.reverts_at == WALL + 700
    section.at(601)
    assert section.batch_size != 50
    assert [entry.outcome for entry in section.history.entries()] == ["reverted", "applied"]


def test_the_same_value_for_longer_lasts_longer():
    section = Section()
    section.change(60, sampling_rate=0.5)
    assert section.change(600, sampling_rate=0.5)["reverts_at"] == WALL + 700
    assert section.at(61).sampling_rate == 0.5
    assert section.at(601).sampling_rate == 1.0


def test_keys_of_one_change_share_its_end_also_those_that_did_not_differ():
    section = Section()
    section.change(60, sampling_rate=1.0, batch_size=50)
    assert section.last.reverts_at == WALL + 160
    section.at(61)
    assert [entry.outcome for entry in section.history.entries()] == ["reverted", "applied"]


def test_one_that_changes_nothing_keeps_what_counts_from_what_comes_below():
    section = Section(sampling_rate=0.5)
    section.change(60, sampling_rate=0.5)
    section.live.restart({"sampling_rate": 0.7}, {})
    assert section.sampling_rate == 0.5
    assert section.at(61).sampling_rate == pytest.approx(0.7)


def test_a_rollback_to_what_was_for_a_while_lasts_as_long_as_that_was_to():
    section = Section()
    section.change(by="ada", sampling_rate=0.2)
    then = section.change(600, by="bob", sampling_rate=0.9)["generation"]
    section.at(100)
    section.change(by="carl", sampling_rate=0.7)
    answer = section.roll_back(then)
    assert section.sampling_rate == 0.9
    assert (answer["reverts_at"], section.last.reverts_at) == (WALL + 700, WALL + 700)
    assert section.live.next_revert() == 500
    assert section.at(601).sampling_rate == 0.2
    assert [entry.outcome for entry in section.history.entries()][-2:] == ["reverted", "applied"]


def test_a_rollback_to_what_is_over_brings_back_what_was_before_it():
    section = Section()
    section.change(by="ada", sampling_rate=0.2)
    then = section.change(60, by="bob", sampling_rate=0.9)["generation"]
    section.at(61)
    section.change(by="carl", sampling_rate=0.7)
    assert section.roll_back(then)["outcome"] == "applied"
    assert (section.sampling_rate, section.live.next_revert()) == (0.2, None)


def test_a_rollback_to_what_is_over_with_nothing_before_it_leaves_nothing():
    section = Section(sampling_rate=0.4)
    then = section.change(60, sampling_rate=0.5)["generation"]
    section.at(61)
    section.change(sampling_rate=0.7)
    section.roll_back(then)
    assert (section.sampling_rate, section.live.resolution.origins["sampling_rate"]) == (0.4, "argument")


def test_a_rollback_beside_what_is_for_a_while_leaves_it_alone():
    section = Section()
    then = section.change(600, sampling_rate=0.9)["generation"]
    section.change(batch_size=50)
    section.roll_back(then)
    assert (section.sampling_rate, section.live.next_revert()) == (0.9, 600)
    assert section.batch_size != 50
    assert section.last.reverts_at is None
