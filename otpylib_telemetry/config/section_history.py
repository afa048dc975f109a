"""What was entered into the history for one section, and what becomes of it: in force, superseded, over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.config import acts
from otpylib_telemetry.config.history import Change, Entry, History

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry.config.acts import Act, Cause
    from otpylib_telemetry.config.history import Outcome
    from otpylib_telemetry.config.resolution import Resolution

#: Changes that are not in force yet and are followed, at most.
MOST_PENDING: Final = 1000


class SectionHistory:
    """The changes of one section, in a history of all."""

    def __init__(self, section: str, history: History) -> None:
        self.section = section
        self.history = history
        #: That of the last change of this section: generations are numbers of the whole process.
        self.generation = history.generation
        # Changes that are not in force yet, and those that end by themselves.
        self._pending: list[Entry] = []
        self._temporary: list[Entry] = []

    def enter(  # noqa: PLR0913  # what there is to enter
        self,
        changes: Mapping[str, Change],
        cause: Cause,
        laid: Mapping[str, Act],
        *,
        waiting: frozenset[str],
        seconds: float | None,
        is_in_force: bool,
    ) -> Entry:
        """Enter a change; ``waiting`` are the keys that another one is still waiting for.

        Whether one that comes before anything was in force works is known when something is.
        """
        for other in self._pending:
            if not waiting.isdisjoint(other.changes.keys() & changes.keys()):
                other.outcome = "superseded"
        outcome: Outcome = "applied" if is_in_force else "pending"
        entry = self.history.add(
            self.section, cause.origin, changes, by=cause.by, outcome=outcome, reverts_in=seconds
        )
        entry.for_a_while = {key: acts.bare(act) for key, act in laid.items() if act.until is not None}
        self.generation = entry.generation
        self._pending = [*self._pending, entry][-MOST_PENDING:]
        return entry

    def refuse(self, offers: Mapping[str, Change], cause: Cause) -> Entry:
        """Enter a change that was refused."""
        return self.history.add(self.section, cause.origin, offers, by=cause.by, outcome="rejected")

    def settle(self, waiting: frozenset[str]) -> None:
        """Enter which changes are in force by now: those of no key that is ``waiting``."""
        for entry in self._pending:
            if entry.outcome in {"pending", "applied"}:
                entry.outcome = "applied" if waiting.isdisjoint(entry.changes) else "pending"
        self._pending = [entry for entry in self._pending if entry.outcome == "pending"]

    def expect_end(self, entry: Entry) -> None:
        """Follow a change that ends by itself."""
        self._temporary.append(entry)

    def see_what_ends(self, laid: Mapping[str, Act]) -> None:
        """Enter which changes do not end by themselves any more: something else was wished meanwhile."""
        if not self._temporary:
            return
        still = {id(entry) for act in laid.values() for entry in act.entries()}
        for entry in self._temporary:
            if id(entry) not in still and not entry.reverted:
                entry.reverts_at = None
        self._temporary = [entry for entry in self._temporary if id(entry) in still]


def change_of(key: str, before: Resolution[Any], after: Resolution[Any]) -> Change:
    """Return what became of a key between two resolutions."""
    old, new = getattr(before.settings, key), getattr(after.settings, key)
    return Change(old, new, key in before.secrets, key in after.secrets)
