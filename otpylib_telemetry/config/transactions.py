"""Changes that are made as a whole or not at all: tried, applied, rolled back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.config.acts import Act, Cause
from otpylib_telemetry.config.layers import Given
from otpylib_telemetry.config.messages import beats
from otpylib_telemetry.config.observed import differ
from otpylib_telemetry.config.requested import refusals
from otpylib_telemetry.config.resolution import changed_keys
from otpylib_telemetry.config.section_history import change_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry.config.history import Entry, Outcome
    from otpylib_telemetry.config.live import LiveConfig
    from otpylib_telemetry.config.resolution import Resolution


@dataclass(slots=True)
class Tried:
    """What would come of changes."""

    resolution: Resolution[Any]
    problems: list[str]
    changes: dict[str, dict[str, Any]]


@dataclass(slots=True)
class Done:
    """What came of changes."""

    generation: int
    entry: Entry | None = None
    problems: list[str] = field(default_factory=list)
    overrode: dict[str, str] = field(default_factory=dict)
    #: When it ends, where nothing differs and so nothing was entered.
    reverts_at: float | None = None

    def as_dict(self, live: LiveConfig[Any]) -> dict[str, Any]:
        """Return it as an answer: whether it is in force is known only later."""
        outcome: Outcome
        if self.problems:
            outcome = "rejected"
        elif self.entry is not None and self.entry.outcome in {"pending", "superseded"}:
            outcome = self.entry.outcome
        else:
            outcome = "applied"
        waits_for = [live.trouble] if outcome == "pending" and live.trouble is not None else []
        return {
            "outcome": outcome,
            "generation": self.generation,
            "changes": {} if self.entry is None or self.problems else self.entry.as_dict()["changes"],
            "problems": [live.scrub(text) for text in self.problems or waits_for],
            "overrode": dict(self.overrode),
            "reverts_at": self.reverts_at if self.entry is None else self.entry.reverts_at,
        }


def attempt(live: LiveConfig[Any], changes: Mapping[str, Any]) -> Tried:
    """Tell what would come of changes; nothing is changed."""
    wished = live.acts_for(changes, Cause("api"))
    now, then = live.resolution, live.trial(wished)
    changed = sorted(changed_keys(now.settings, then.settings))
    told = {key: change_of(key, now, then).as_dict() for key in changed}
    return Tried(then, _problems(then, wished), told)


def apply(live: LiveConfig[Any], changes: Mapping[str, Any], cause: Cause) -> Done:
    """Apply changes, all of them or none; None takes a change back."""
    return _commit(live, live.acts_for(changes, cause), cause)


def roll_back(live: LiveConfig[Any], generation: int, cause: Cause) -> Done:
    """Have every key count again as it did after a generation; NotKeptError if that is not kept."""
    then = live.entered.history.values_at(live.section, generation)
    wished = {
        key: change
        for key, change in then.items()
        if key in live.settings_type.model_fields and differ(change.old, getattr(live.settings, key))
    }
    # What the layers below say anyway needs no change on top, and keeps the origin it has.
    plain = live.trial({key: Act(None) for key in wished})
    for_a_while = live.entered.history.for_a_while_at(live.section, generation)
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
    return _commit(live, acts, Cause("rollback", cause.by))


def _commit(live: LiveConfig[Any], wished: Mapping[str, Act], cause: Cause) -> Done:
    earlier = live.resolution
    if problems := _problems(live.trial(wished), wished):
        entry = live.refuse(wished, cause)
        return Done(entry.generation, entry, problems)
    entry_or_none = live.commit(wished, cause)
    if entry_or_none is None:
        # It counts for so long all the same: what lies below it may change meanwhile.
        ends = None if cause.seconds is None else live.entered.history.wall_clock() + cause.seconds
        return Done(live.generation, reverts_at=ends)
    overrode = {
        key: earlier.origins[key] for key in entry_or_none.changes if beats(earlier.origins[key], cause.words)
    }
    return Done(entry_or_none.generation, entry_or_none, overrode=overrode)


def _problems(then: Resolution[Any], wished: Mapping[str, Act]) -> list[str]:
    return [problem.message for problem in refusals(then, wished)]
