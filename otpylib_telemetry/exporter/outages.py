"""What is to be said about a backend in trouble: an outage once, and its end once.

Lanes fail by themselves, but mostly because the one backend behind them is away. So there is one outage at a
time, over when every lane in it is well again. A lane is named where it fails and others do not, or where it
fails for a reason of its own. Which it is follows from what arrives: this looks at the order of attempts and
answers and at nothing else.

Pure: who says it, and how, is left to the caller.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


#: Reasons of one outage that are told at most.
_MOST_REASONS: Final = 6

#: What differs between two reports of the same: counts, times, ports, ids; but not the status of HTTP.
_NUMBERS: Final = re.compile(r"(?<!HTTP )\b(?:0x)?[0-9a-f]*[0-9][0-9a-f]*\b", re.IGNORECASE)


class Began(NamedTuple):
    """Something does not arrive any more: what, where that is not everything, and what the backend said.

    ``is_more`` says that it is another reason of an outage that was told.
    """

    lane: str
    reason: str
    is_more: bool = False


class Ended(NamedTuple):
    """It arrives again: what, where that is not everything, and how many attempts failed."""

    lanes: tuple[str, ...]
    failures: int


class Outages:
    """Tells the outages of one backend, one after the other."""

    def __init__(self) -> None:
        # Attempts and answers in their order.
        self._step = 0
        # By lane that sends, the attempt that arrived last and when; zeros for none.
        self._arrived: dict[str, tuple[int, int]] = {}
        self.forget()

    def forget(self) -> None:
        """Forget the outage there may be."""
        self._began = 0
        # Whether it was told as one of everything, and of lanes that cannot get rid of what they send.
        self._is_whole = self._is_refusal = False
        # By lane that is part of it: attempts that failed; and what the backend said last, until it is well.
        self._failures: dict[str, int] = {}
        self._troubles: dict[str, str] = {}
        # By lane that was named, or by nothing: the reason that was told.
        self._told: dict[str, str] = {}
        # The reasons there were so far, without their numbers.
        self._kinds: set[str] = set()

    @property
    def trouble(self) -> str | None:
        """What the backend said last, while it is in trouble."""
        return next(iter(self._troubles.values()), None)

    @property
    def troubled(self) -> Iterable[str]:
        """The lanes that are in trouble."""
        return self._troubles.keys()

    def sent(self, lane: str) -> int:
        """Note an attempt; returns what tells it from others."""
        self._step += 1
        self._arrived.setdefault(lane, (0, 0))
        return self._step

    def failed(self, lane: str, attempt: int, reason: str, *, is_refusal: bool) -> Began | None:
        """Note that an attempt failed, or was refused; returns what is to be said about it."""
        self._step += 1
        is_new, is_own = not self._failures, self._is_own(lane, attempt, is_refusal=is_refusal)
        is_first = lane not in self._failures
        is_more = self._is_another(reason) and not is_first
        self._failures[lane] = self._failures.get(lane, 0) + 1
        self._troubles[lane] = reason
        if is_new:
            self._began, self._is_whole, self._is_refusal = self._step, not is_own or not lane, is_refusal
        elif lane in self._told or reason in self._told.values() or (self._is_whole and not is_own):
            return Began("" if self._is_whole else lane, reason, is_more=True) if is_more else None
        name = "" if is_new and self._is_whole else lane
        self._told[name] = reason
        return Began(name, reason)

    def _is_another(self, reason: str) -> bool:
        """Tell whether nothing of the kind was heard in this outage, and take it as heard."""
        kind = _NUMBERS.sub("#", reason)
        if kind in self._kinds or len(self._kinds) >= _MOST_REASONS:
            return False
        self._kinds.add(kind)
        return True

    def arrived(self, lane: str, attempt: int, is_idle: Callable[[str], bool]) -> Ended | None:
        """Note that an attempt succeeded; returns what is to be said about it.

        ``is_idle`` tells whether a lane has nothing to send: it does not suffer then.
        """
        self._step += 1
        self._arrived[lane] = attempt, self._step
        if lane not in self._failures:
            return None
        self._troubles.pop(lane, None)
        if not all(map(is_idle, self._troubles)):
            return None
        lanes = () if self._is_whole else tuple(self._failures)
        ended = Ended(lanes, sum(self._failures.values()))
        self.forget()
        return ended

    def _is_own(self, lane: str, attempt: int, *, is_refusal: bool) -> bool:
        """Tell whether a failure has to do with its lane, as far as can be told."""
        others = [arrived for name, arrived in self._arrived.items() if name != lane]
        if not self._failures:
            # The backend answered, or took something of another lane meanwhile.
            return bool(others) and (is_refusal or any(at > attempt for _, at in others))
        # It is of another kind, or others have recovered before this was sent.
        recovered = any(sent > self._began and at < attempt for sent, at in others)
        return recovered or is_refusal != self._is_refusal


def named(lanes: tuple[str, ...]) -> str:
    """Return lanes as the middle of a sentence, with a blank before them: `` spans and logs``."""
    told = [lane for lane in lanes if lane]
    if not told:
        return ""
    *others, last = told
    return f" {', '.join(others)} and {last}" if others else f" {last}"
