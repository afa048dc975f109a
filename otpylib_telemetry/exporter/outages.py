"""What is to be said about a backend in trouble: every outage once, and its end once.

Lanes fail by themselves, but mostly because the one backend behind them is away: then it is one outage,
however many lanes suffer from it, and it is over when all are well again. Where the backend works for one
lane and not for another, only the other is spoken of. Which of the two it is follows from what arrives, so
this looks at the order of attempts and answers and at nothing else.

Pure: who says it, and how, is left to the caller.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Began", "Ended", "Outages", "named"]


class Began(NamedTuple):
    """Something does not arrive any more.

    Attributes:
        lanes: What it is about, where that is not everything.
        reason: What the backend said.
    """

    lanes: tuple[str, ...]
    reason: str


class Ended(NamedTuple):
    """It arrives again.

    Attributes:
        lanes: What it is about, where that is not everything.
        failures: How many attempts failed.
    """

    lanes: tuple[str, ...]
    failures: int


@dataclass(slots=True, eq=False)
class _Outage:
    """One outage.

    Attributes:
        reason: What the backend said first.
        is_refusal: Whether the backend is there, and will not take what it is sent.
        is_named: Whether it was said which lane it is about.
        began: When, as a step.
        failures: Attempts that failed, by lane.
        well: Lanes that suffered from it and do not any more.
        works_since: Since when, as a step, something has arrived again; None while nothing has.
    """

    reason: str
    is_refusal: bool
    is_named: bool
    began: int
    failures: dict[str, int] = field(default_factory=dict)
    well: set[str] = field(default_factory=set)
    works_since: int | None = None

    def takes_in(self, reason: str, *, is_refusal: bool) -> bool:
        """Tell whether a lane that begins to fail suffers from this outage, too."""
        return (
            self.works_since is None
            and self.is_refusal == is_refusal
            and (not self.is_named or self.reason == reason)
        )


class Outages:
    """Keeps the outages of one backend apart."""

    def __init__(self) -> None:
        # Attempts and answers in their order.
        self._step = 0
        # By lane, the step of the answer that arrived last; 0 for none.
        self._arrived: dict[str, int] = {}
        # By lane that suffers, what it suffers from, and what the backend said last.
        self._outages: dict[str, _Outage] = {}
        self._troubles: dict[str, str] = {}

    @property
    def trouble(self) -> str | None:
        """What the backend said last, while it is in trouble."""
        return next((self._troubles[lane] for lane in self._arrived if lane in self._troubles), None)

    def sent(self, lane: str) -> int:
        """Note an attempt; returns what tells it from others."""
        self._step += 1
        self._arrived.setdefault(lane, 0)
        return self._step

    def failed(self, lane: str, attempt: int, reason: str, *, is_refusal: bool) -> list[Began | Ended]:
        """Note that an attempt failed.

        Args:
            lane: The lane.
            attempt: What :meth:`sent` returned for it.
            reason: What the backend said.
            is_refusal: Whether it will not take what it was sent.

        Returns:
            What is to be said about it.
        """
        self._step += 1
        self._troubles[lane] = reason
        news: list[Began | Ended] = []
        outage = self._outages.get(lane)
        if (
            outage is not None
            and (recovered := outage.well - {lane})
            and _is_after(attempt, outage.works_since)
        ):
            # The others have recovered from that one: what this lane suffers from is its own.
            before = outage.failures[lane]
            news.append(self._end(outage, recovered))
            del outage.failures[lane]
            outage.well.discard(lane)
            outage = self._begin(lane, reason, news, is_refusal=is_refusal, is_named=True)
            outage.failures[lane] = before
        elif outage is None:
            outage = self._join(reason, is_refusal=is_refusal) or self._begin(
                lane,
                reason,
                news,
                is_refusal=is_refusal,
                is_named=self._others_work(lane, attempt, is_refusal=is_refusal),
            )
        self._outages[lane] = outage
        outage.failures[lane] = outage.failures.get(lane, 0) + 1
        # It may have been well already, and have failed again before the others had recovered.
        outage.well.discard(lane)
        return news

    def arrived(self, lane: str, attempt: int, is_idle: Callable[[str], bool]) -> list[Began | Ended]:
        """Note that an attempt succeeded, and that the lane is well.

        Args:
            lane: The lane.
            attempt: What :meth:`sent` returned for it.
            is_idle: Tells whether a lane has nothing to send: it does not suffer then.

        Returns:
            What is to be said about it.
        """
        self._step += 1
        self._arrived[lane] = self._step
        if not self._outages:
            return []
        for each in self._current():
            if each.works_since is None and attempt > each.began:
                each.works_since = self._step
        outage = self._outages.get(lane)
        if outage is None:
            return []
        if outage.works_since is None:
            outage.works_since = self._step
        outage.well.add(lane)
        self._troubles.pop(lane, None)
        suffering = outage.failures.keys() - outage.well
        if not all(is_idle(other) for other in suffering):
            return []
        return [self._end(outage, outage.failures)]

    def forget(self) -> None:
        """Forget everything."""
        self._outages.clear()
        self._troubles.clear()
        self._arrived.clear()

    def _current(self) -> Iterable[_Outage]:
        return dict.fromkeys(self._outages.values())

    def _join(self, reason: str, *, is_refusal: bool) -> _Outage | None:
        fitting = (each for each in self._current() if each.takes_in(reason, is_refusal=is_refusal))
        return next(fitting, None)

    def _begin(
        self, lane: str, reason: str, news: list[Began | Ended], *, is_refusal: bool, is_named: bool
    ) -> _Outage:
        news.append(Began((lane,) if is_named and lane else (), reason))
        return _Outage(reason, is_refusal, is_named, self._step)

    def _others_work(self, lane: str, attempt: int, *, is_refusal: bool) -> bool:
        """Tell whether a failure has to do with its lane, as far as can be told when it comes first.

        It has if the backend answered, or took something of another lane meanwhile.
        """
        others = [step for name, step in self._arrived.items() if name != lane]
        return bool(others) and (is_refusal or any(step > attempt for step in others))

    def _end(self, outage: _Outage, lanes: Iterable[str]) -> Ended:
        """End an outage for some of the lanes that suffered from it."""
        over = [lane for lane in self._arrived if lane in lanes]
        for lane in over:
            self._outages.pop(lane, None)
            self._troubles.pop(lane, None)
        is_whole = len(over) == len(outage.failures) and not outage.is_named
        failures = sum(outage.failures.pop(lane) for lane in over)
        outage.well.difference_update(over)
        # What is left of it, if anything, is not everything.
        outage.is_named = True
        return Ended(() if is_whole else tuple(over), failures)


def named(lanes: tuple[str, ...]) -> str:
    """Return lanes as the middle of a sentence, with a blank before them: `` spans and logs``."""
    told = [lane for lane in lanes if lane]
    if not told:
        return ""
    *others, last = told
    return f" {', '.join(others)} and {last}" if others else f" {last}"


def _is_after(attempt: int, step: int | None) -> bool:
    return step is not None and attempt > step
