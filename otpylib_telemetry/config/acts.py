"""What was done to keys while running, each beating what was done before; some of it for a while."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from otpylib_telemetry.config.layers import Given
from otpylib_telemetry.config.observed import PUT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry.config.history import Entry

#: Changes for a while that may lie over each other.
DEEPEST = 20


class Cause(NamedTuple):
    """Who changes something: ``origin`` as the history has it, ``by`` whom, and for how many seconds."""

    origin: str
    by: str | None = None
    seconds: float | None = None

    @property
    def words(self) -> str:
        """The origin of the values it sets."""
        return self.origin if self.by is None else f"{self.origin} by {self.by}"


@dataclass(frozen=True, eq=False, slots=True)
class Act:
    """What one change says of one key: its value, or None to take back what was said while running.

    One that counts ``until`` a time keeps what was ``before`` it, which then counts again; or, if that is
    refused, what ``counted`` in its place.
    """

    given: Given | None
    until: float | None = None
    before: Act | None = None
    counted: Given | None = None
    entry: Entry | None = None
    #: Whether it lies as it lay once, over what it lay then: a rollback brought it back.
    restored: bool = False
    #: Where it says something of some entries of a table alone: those, or None to take one away.
    entries_said: Mapping[str, Any] | None = None

    @property
    def is_for_good(self) -> bool:
        """Whether nothing is left of it, nor anything to go back to."""
        return self.given is None and self.until is None

    def over(self, before: Act | None, now: float) -> Act:
        """Return it as it lies over another one; only what will come back is kept."""
        if self.entries_said is not None and self.given is not None:
            return self._among(still(before, now), self.given, self.counted, now, DEEPEST)
        if self.until is None or before is None:
            return self
        return replace(self, before=_cut(still(before, now), DEEPEST))

    def _among(self, act: Act | None, value: Given, counted: Given | None, now: float, depth: int) -> Act:
        """Return acts with this one below those that end before it, whose tables get its entries as well.

        ``value`` is that of the table with its entries, ``counted`` without, as it counts while ``act`` does.
        """
        if act is None or act.until is None or not self._outlasts(act) or (after := _after(act)) is None:
            below = None if self.until is None else _cut(still(act, now), depth)
            return replace(self, given=value, counted=counted, before=below, entries_said=None)
        then = self._with_entries(after)
        below = (
            self._among(still(act.before, act.until), then, after, act.until, depth - 1) if depth else None
        )
        return replace(act, given=value, counted=then, before=below)

    def _outlasts(self, act: Act) -> bool:
        return act.until is not None and (self.until is None or self.until > act.until)

    def _with_entries(self, counted: Given) -> Given:
        """Return what counts when something has ended, with the entries of this one."""
        said = self.entries_said or {}
        kept = {name: value for name, value in dict(counted.value or {}).items() if name not in said}
        new = {name: value for name, value in said.items() if value is not None}
        origin = counted.origin if self.given is None else self.given.origin
        return Given({**kept, **new}, origin, secret=counted.secret)

    def entered(self, entry: Entry, until: float | None) -> Act:
        """Return it with what ends then as a part of a change."""
        mine = self.entry is None and self.until is not None and self.until == until
        below = None if self.before is None else self.before.entered(entry, until)
        return replace(self, entry=entry if mine else self.entry, before=below)

    def entries(self) -> list[Entry]:
        """Return the changes that it, and what it would go back to, are part of."""
        below = [] if self.before is None else self.before.entries()
        return below if self.entry is None else [self.entry, *below]


def still(act: Act | None, now: float) -> Act | None:
    """Return what counts of an act at a time: itself, or what was before it."""
    while act is not None and act.until is not None and act.until <= now:
        act = act.before
    return act


def _after(act: Act) -> Given | None:
    """Return what counts once an act has ended, if nothing else is said."""
    counted, below = act.counted, act.before
    while (
        below is not None and below.until is not None and act.until is not None and below.until <= act.until
    ):
        counted, below = below.counted, below.before
    return counted


def bare(act: Act) -> Act:
    """Return an act that is part of no change, nor is what it would go back to."""
    return replace(act, entry=None, before=None if act.before is None else bare(act.before))


def without(act: Act | None, origin: str) -> Act | None:
    """Return an act without those of an origin that it would go back to."""
    if act is None or act.before is None:
        return act
    below: Act | None = act.before
    while below is not None and below.given is not None and below.given.origin == origin:
        below = below.before
    return replace(act, before=without(below, origin))


def _cut(act: Act | None, depth: int) -> Act | None:
    if act is None or act.before is None:
        return act
    return replace(act, before=_cut(act.before, depth - 1) if depth else None)


def laid_over(acts: Mapping[str, Act], wished: Mapping[str, Act], now: float) -> dict[str, Act]:
    """Return all acts with the wished ones on top."""
    laid = dict(acts)
    for key, act in wished.items():
        if act.is_for_good:
            laid.pop(key, None)
        else:
            # What comes back lies where it lay.
            is_placed = act.restored or act.entry is not None
            laid[key] = act if is_placed else act.over(acts.get(key), now)
    return laid


def over_a_put(act: Act | None, said: Given) -> Act | None:
    """Return what counts in place of a put that was taken back, because it had been beaten before."""
    if said.origin != PUT or said.value is not None or act is None:
        return None
    is_put = act.given is not None and act.given.origin == PUT
    return None if is_put else without(act, PUT)


def given(acts: Mapping[str, Act]) -> dict[str, Any]:
    """Return the values that acts say, by key."""
    return {key: act.given for key, act in acts.items() if act.given is not None}
