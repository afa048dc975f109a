"""Changes that are made as a whole or not at all: tried, applied, rolled back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.config.acts import Act, Cause
from otpylib_telemetry.config.history import NotKeptError
from otpylib_telemetry.config.layers import Given
from otpylib_telemetry.config.messages import beats
from otpylib_telemetry.config.observed import differ
from otpylib_telemetry.config.requested import refusals
from otpylib_telemetry.config.resolution import changed_keys
from otpylib_telemetry.config.section_history import change_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otpylib_telemetry.config.history import Change, Entry, Outcome
    from otpylib_telemetry.config.live import LiveConfig
    from otpylib_telemetry.config.resolution import Resolution


@dataclass(slots=True)
class Tried:
    """What would come of changes."""

    resolution: Resolution[Any]
    problems: list[str]
    changes: dict[str, dict[str, Any]]
    #: The keys in which nothing differs from what is wanted, which is not in force yet.
    waiting: frozenset[str] = frozenset()


@dataclass(slots=True)
class Done:
    """What came of changes."""

    generation: int
    entry: Entry | None = None
    problems: list[str] = field(default_factory=list)
    overrode: dict[str, str] = field(default_factory=dict)
    #: When it ends, where nothing differs and so nothing was entered.
    reverts_at: float | None = None
    #: The values of the keys in which nothing differs: somebody else's change may not be in force yet.
    repeated: dict[str, Any] = field(default_factory=dict)

    def as_dict(self, live: LiveConfig[Any]) -> dict[str, Any]:
        """Return it as an answer: whether it is in force is known only later."""
        outcome = self._outcome(live)
        waits_for = [live.trouble] if outcome == "pending" and live.trouble is not None else []
        return {
            "outcome": outcome,
            "generation": self.generation,
            "changes": {} if self.entry is None or self.problems else self.entry.as_dict()["changes"],
            "problems": [live.scrub(text) for text in self.problems or waits_for],
            "overrode": dict(self.overrode),
            "reverts_at": self.reverts_at if self.entry is None else self.entry.reverts_at,
        }

    def _outcome(self, live: LiveConfig[Any]) -> Outcome:
        if self.problems:
            return "rejected"
        if self.entry is not None and self.entry.outcome in {"pending", "superseded"}:
            return self.entry.outcome
        if any(differ(getattr(live.settings, key), value) for key, value in self.repeated.items()):
            return "superseded"
        return "applied" if live.unsettled.isdisjoint(self.repeated) else "pending"


def attempt(live: LiveConfig[Any], changes: Mapping[str, Any]) -> Tried:
    """Tell what would come of changes; nothing is changed."""
    wished = live.acts_for(changes, Cause("api"))
    now, then = live.resolution, live.trial(wished)
    changed = sorted(changed_keys(now.settings, then.settings))
    told = {key: change_of(key, now, then).as_dict() for key in changed}
    return Tried(then, _problems(then, wished), told, live.unsettled & wished.keys() - told.keys())


def apply(live: LiveConfig[Any], changes: Mapping[str, Any], cause: Cause) -> Done:
    """Apply changes, all of them or none; None takes a change back."""
    wished = live.acts_for(changes, cause)
    return _commit(live, wished, cause, wished)


def roll_back(live: LiveConfig[Any], generation: int, cause: Cause) -> Done:
    """Have every key count again as it did after a generation; NotKeptError if that is not kept."""
    history, section = live.entered.history, live.section
    then = history.values_at(section, generation)
    return _go_back(live, then, history.for_a_while_at(section, generation), cause)


def take_back(live: LiveConfig[Any], generation: int, cause: Cause) -> Done:
    """Have what one change set count as before, save what was changed since; NotKeptError if it is gone."""
    entries = live.entered.history.entries(live.section)
    put = next((each for each in entries if each.generation == generation), None)
    if put is None:
        raise NotKeptError(f"change {generation} of {live.section} is not kept")
    then = {
        key: _without(change, change_of(key, live.resolution, live.resolution))
        for key, change in put.changes.items()
    }
    for_a_while = live.entered.history.for_a_while_at(live.section, generation - 1)
    as_it_was = {key: act for key, act in for_a_while.items() if then.get(key) is put.changes.get(key)}
    return _go_back(live, then, as_it_was, cause)


def _without(change: Change, now: Change) -> Change:
    """Return as ``old`` what counts now without a change: of a table, without the entries it made."""
    old, new = change.old, change.new
    if not differ(now.new, new):
        return change
    if not (isinstance(now.new, Mapping) and isinstance(old, Mapping) and isinstance(new, Mapping)):
        return now
    found = dict(now.new)
    for name in {*old, *new}:
        if differ(old.get(name), new.get(name)) and not differ(found.get(name), new.get(name)):
            found[name] = old.get(name)
    return now._replace(old={name: value for name, value in found.items() if value is not None})


def _go_back(
    live: LiveConfig[Any], then: Mapping[str, Change], for_a_while: Mapping[str, Act], cause: Cause
) -> Done:
    """Have the ``old`` values of changes count again; ``for_a_while`` are those that ended by themselves."""
    wished = {
        key: change
        for key, change in then.items()
        if key in live.settings_type.model_fields and differ(change.old, getattr(live.settings, key))
    }
    # What the layers below say anyway needs no change on top, and keeps the origin it has.
    plain = live.trial({key: Act(None) for key in wished})
    acts = {}
    for key, change in wished.items():
        given: Given | None = Given(change.old, cause.words, secret=change.old_secret, literal=True)
        if (act := for_a_while.get(key)) is not None:
            left = live.left_of(act)
            given = None if left is None or left.given is None else left.given._replace(origin=cause.words)
            if left is not None and left.until is not None:
                # It ends when it was to end, and what was before it counts again then.
                acts[key] = replace(left, given=given, restored=True)
                continue
        is_plain = given is None or not differ(getattr(plain.settings, key), given.value)
        acts[key] = Act(None if is_plain else given)
    return _commit(live, acts, Cause("rollback", cause.by), then)


def _commit(live: LiveConfig[Any], wished: Mapping[str, Act], cause: Cause, keys: Iterable[str]) -> Done:
    """Commit; ``keys`` are all that somebody asks for, also those that need no change."""
    earlier = live.resolution
    if problems := _problems(live.trial(wished), wished):
        entry = live.refuse(wished, cause)
        return Done(entry.generation, entry, problems)
    entry_or_none = live.commit(wished, cause)
    changed = {} if entry_or_none is None else entry_or_none.changes
    fields = live.settings_type.model_fields
    repeated = {key: getattr(live.settings, key) for key in keys if key in fields and key not in changed}
    if entry_or_none is None:
        # It counts for so long all the same: what lies below it may change meanwhile.
        ends = None if cause.seconds is None else live.entered.history.wall_clock() + cause.seconds
        return Done(live.generation, reverts_at=ends, repeated=repeated)
    overrode = {key: earlier.origins[key] for key in changed if beats(earlier.origins[key], cause.words)}
    return Done(entry_or_none.generation, entry_or_none, overrode=overrode, repeated=repeated)


def _problems(then: Resolution[Any], wished: Mapping[str, Act]) -> list[str]:
    return [problem.message for problem in refusals(then, wished)]
