"""What was changed in this process, of every section: one count of generations, and the last few hundred."""

from __future__ import annotations

import itertools
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from otpylib_telemetry.config.redaction import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Changes that are kept.
MOST_ENTRIES = 200

#: The origin of what a section begins with.
BEGINNING = "start"

#: ``pending``: not in force yet, because the exporter is degraded or still at it. ``superseded``: another
#: change came before it was in force.
Outcome: TypeAlias = Literal["applied", "rejected", "pending", "superseded", "reverted"]


class Change(NamedTuple):
    """What became of one key: the two values as they count, and whether each must not be shown."""

    old: Any
    new: Any
    old_secret: bool
    new_secret: bool

    def as_dict(self) -> dict[str, Any]:
        """Return it for whoever asks; no secrets."""
        return {
            "old": shown(self.old, secret=self.old_secret),
            "new": shown(self.new, secret=self.new_secret),
        }


@dataclass(slots=True, eq=False)
class Entry:
    """One change: who made it, of what, when, and what became of it; ``generation`` is its number."""

    generation: int
    time: float
    section: str
    origin: str
    by: str | None
    outcome: Outcome
    changes: Mapping[str, Change] = field(repr=False)
    #: When it is taken back by itself; None if it is not, or not any more.
    reverts_at: float | None = None
    reverted: bool = False
    #: By key the act that said something for a while, once this had changed.
    for_a_while: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return it for whoever asks; no secrets."""
        return {
            "generation": self.generation,
            "time": self.time,
            "section": self.section,
            "origin": self.origin,
            "by": self.by,
            "changes": {key: change.as_dict() for key, change in self.changes.items()},
            "outcome": self.outcome,
            "reverts_at": self.reverts_at,
            "reverted": self.reverted,
        }


class NotKeptError(LookupError):
    """A generation that there never was, or that is not kept any more."""


class History:
    """The changes of one process; ``wall_clock`` returns seconds since the epoch."""

    def __init__(self, wall_clock: Callable[[], float] = time.time, most: int = MOST_ENTRIES) -> None:
        self.wall_clock = wall_clock
        self._entries: deque[Entry] = deque(maxlen=most)
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._entries.clear()
        self._numbers = itertools.count(2)
        #: The number of the last change. What everything began with is generation 1.
        self.generation = 1
        self._first_kept = 1
        #: By section the generation that it began with.
        self._began: dict[str, int] = {}

    def add(  # noqa: PLR0913  # what an entry is made of
        self,
        section: str,
        origin: str,
        changes: Mapping[str, Change],
        *,
        by: str | None = None,
        outcome: Outcome = "applied",
        reverts_in: float | None = None,
    ) -> Entry:
        """Enter a change, and return what was entered: its generation is the next one of the process."""
        now = self.wall_clock()
        reverts_at = None if reverts_in is None else now + reverts_in
        self.generation = next(self._numbers)
        entry = Entry(self.generation, now, section, origin, by, outcome, dict(changes), reverts_at)
        if len(self._entries) == self._entries.maxlen:
            self._first_kept = self._entries[0].generation
        self._entries.append(entry)
        return entry

    def begin(self, section: str) -> None:
        """Take what a section has now for what it began with, unless it began before or was changed since."""
        if all(entry.origin == BEGINNING for entry in self.entries(section)):
            self._began.setdefault(section, self.generation)
        self._began.setdefault(section, 0)

    def entries(self, section: str | None = None) -> list[Entry]:
        """Return what is kept, oldest first; of one section, if it is given."""
        return [entry for entry in list(self._entries) if section in {None, entry.section}]

    def values_at(self, section: str, generation: int) -> dict[str, Change]:
        """Return by key the change whose ``old`` value a section had after a generation."""
        if not self._first_kept <= generation <= self.generation:
            raise NotKeptError(
                f"generation {generation} is not kept: those from {self._first_kept} to {self.generation} are"
            )
        # Before it began a section had no state: what it began with is the first one that it can have again.
        since = max(generation, self._began.get(section, generation))
        found: dict[str, Change] = {}
        for entry in self.entries(section):
            if entry.generation > since and entry.outcome != "rejected":
                for key, change in entry.changes.items():
                    found.setdefault(key, change)
        return found

    def for_a_while_at(self, section: str, generation: int) -> Mapping[str, Any]:
        """Return by key what was said for a while when a section had a generation."""
        until_then = [each for each in self.entries(section) if each.generation <= generation]
        last = next((each for each in reversed(until_then) if each.outcome != "rejected"), None)
        return {} if last is None else last.for_a_while


#: The history of this process.
HISTORY = History()


def entries(section: str | None = None) -> list[dict[str, Any]]:
    """Return the changes that are kept, oldest first, without secrets; of one section, if it is given."""
    return [entry.as_dict() for entry in HISTORY.entries(section)]
