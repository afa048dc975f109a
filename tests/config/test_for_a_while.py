"""Changes that were made for a while: what ends when, whatever else is changed meanwhile."""

from random import Random

import pytest

from otpylib_telemetry.config import transactions
from otpylib_telemetry.config.acts import Cause
from otpylib_telemetry.config.history import History, NotKeptError
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

    def take_back(self, change):
        cause = Cause("api", "eve")
        return transactions.take_back(self.live, change["generation"], cause).as_dict(self.live)

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


def test_one_entry_of_a_table_ends_also_where_another_is_changed_meanwhile():
    section = Section(resource={"z": "0"})
    section.change(60, resource__a="for a while")
    first = section.last
    section.change(resource__b="for good")
    assert section.resource == {"z": "0", "a": "for a while", "b": "for good"}
    assert (first.reverts_at, section.last.reverts_at) == (WALL + 160, None)
    assert section.at(61).resource == {"z": "0", "b": "for good"}
    assert (first.outcome, section.live.next_revert()) == ("reverted", None)
    assert section.at(10_000).resource == {"z": "0", "b": "for good"}


def test_entries_of_a_table_end_each_at_its_time():
    section = Section(resource={"z": "0"})
    first = section.change(60, resource__a="1") and section.last
    second = section.change(600, resource__b="2") and section.last
    third = section.change(30, resource__c="3") and section.last
    section.change(resource__d="4")
    assert section.resource == {"z": "0", "a": "1", "b": "2", "c": "3", "d": "4"}
    assert section.at(31).resource == {"z": "0", "a": "1", "b": "2", "d": "4"}
    assert [each.outcome for each in (first, second, third)] == ["applied", "applied", "reverted"]
    assert section.at(61).resource == {"z": "0", "b": "2", "d": "4"}
    assert [each.outcome for each in (first, second, third)] == ["reverted", "applied", "reverted"]
    assert section.at(601).resource == {"z": "0", "d": "4"}
    assert second.outcome == "reverted"


def test_the_later_wish_for_the_same_entry_counts():
    section = Section(resource={"z": "0"})
    section.change(60, resource__a="1", resource__z="1")
    section.change(resource__a="2")
    assert section.resource == {"z": "1", "a": "2"}
    assert section.at(61).resource == {"z": "0", "a": "2"}
    section.change(60, resource__a=None)
    section.change(resource__b="3")
    assert section.resource == {"z": "0", "b": "3"}
    assert section.at(200).resource == {"z": "0", "a": "2", "b": "3"}


def test_a_whole_table_for_a_while_ends_also_where_an_entry_is_changed_meanwhile():
    section = Section(resource={"z": "0"})
    section.change(60, resource={"only": "1"})
    section.change(resource__b="2")
    assert section.resource == {"only": "1", "b": "2"}
    assert section.at(61).resource == {"z": "0", "b": "2"}
    section.change(60, resource__c="3")
    section.change(resource={"new": "4"})
    assert section.at(200).resource == {"new": "4"}


def test_a_refused_entry_beside_one_for_a_while_changes_nothing():
    section = Section(headers={"z": "0"})
    section.change(60, headers__a="1")
    before = section.live.settings.headers
    assert section.change(headers__b="line\nline")["outcome"] == "rejected"
    assert section.live.settings.headers == before
    section.at(61)
    assert set(section.live.settings.headers) == {"z"}


@pytest.mark.parametrize("seed", range(50))
def test_entries_of_a_table_go_their_ways_whatever_is_changed(seed):
    """Each entry is as if it were a key of its own."""
    random = Random(seed)
    section, now, piles = Section(resource={"x": "0"}), 0, {"x": [("0", None)], "y": [], "z": []}
    for step in range(30):
        if random.random() < 0.3:
            now += random.choice((5, 17, 40))
            section.at(now)
        else:
            name, value = random.choice("xyz"), random.choice((None, str(step)))
            seconds = random.choice((None, 10, 30, 100))
            section.change(seconds, **{f"resource__{name}": value})
            end = None if seconds is None else now + seconds
            # It beats what ends before it does, and comes back where that ends after it.
            kept = [wish for wish in piles[name] if end is not None and (wish[1] is None or wish[1] > end)]
            piles[name] = [*kept, (value, end)]
        for pile in piles.values():
            pile[:] = [wish for wish in pile if wish[1] is None or wish[1] > now]
        expected = {name: pile[-1][0] for name, pile in piles.items() if pile and pile[-1][0] is not None}
        assert section.resource == expected, (seed, step)


def test_one_change_is_taken_back_and_nothing_that_others_made_meanwhile():
    section = Section(resource={"a": "1", "b": "2"})
    section.change(by="cat", seconds=60, batch_size=5)
    hers = section.change(by="ada", batch_size=6, queue_limit=7, timeout=8, resource__a="9", resource__c="3")
    section.change(by="bob", flush_interval=4, timeout=9, resource__b="7")
    assert sorted(section.take_back(hers)["changes"]) == ["batch_size", "queue_limit", "resource"]
    assert (section.batch_size, section.queue_limit) == (5, 100_000)
    assert (section.flush_interval, section.timeout) == (4, 9)
    assert section.resource == {"a": "1", "b": "7"}
    assert section.at(60).batch_size == 100


def test_a_change_that_was_changed_whole_since_is_not_taken_back():
    section = Section()
    hers = section.change(by="ada", timeout=8)
    section.change(by="bob", timeout=9)
    assert section.take_back(hers)["changes"] == {}
    with pytest.raises(NotKeptError):
        section.take_back({"generation": 4711})
