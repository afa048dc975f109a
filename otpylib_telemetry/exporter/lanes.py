"""What waits to be exported, kept apart by kind and in order: pure."""

from __future__ import annotations

import bisect
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

#: A payload, and the number of events it is made of.
Item = tuple[Any, int]


class Batch(list[Item]):
    """Items of one lane, oldest first, that are exported together; ``place`` is where they stood in it."""

    def __init__(self, items: Iterable[Item] = (), lane: str = "", place: int = 0) -> None:
        super().__init__(items)
        self.lane = lane
        self.place = place


class LaneBooks:
    """What became of the items of one kind, in items rather than in events, and of the attempts to send them.

    Attributes:
        in_flight: Those that are being sent.
        exported: Those that arrived.
        failed: Those that never will, by the reason in the ledger.
        attempts: How many attempts have ended, and how many seconds they took, by how they failed; under an
            empty text those that did not.
    """

    __slots__ = ("attempts", "exported", "failed", "in_flight")

    def __init__(self) -> None:
        self.in_flight = 0
        self.exported = 0
        self.failed: dict[str, int] = {}
        self.attempts: dict[str, tuple[int, float]] = {}

    def done(self, items: int, failed: Mapping[str, int]) -> None:
        """Enter so many items that were being sent, and those of them that never arrive."""
        self.in_flight -= items
        self.exported += items - sum(failed.values())
        for reason, count in failed.items():
            if count:
                self.failed[reason] = self.failed.get(reason, 0) + count

    def tried(self, seconds: float, failure: str = "") -> None:
        """Enter an attempt that has ended."""
        count, total = self.attempts.get(failure, (0, 0.0))
        self.attempts[failure] = (count + 1, total + max(0.0, seconds))

    def as_dict(self) -> dict[str, Any]:
        """Return them for a person or a program to read."""
        return {
            "in_flight": self.in_flight,
            "exported": self.exported,
            "failed": dict(self.failed),
            "attempts": {failure or "ok": count for failure, (count, _) in self.attempts.items()},
            "seconds": {failure or "ok": seconds for failure, (_, seconds) in self.attempts.items()},
        }


class Lane:
    """The items of one kind, in the order in which they were made.

    A batch that was not delivered goes back to its place among the others, also where several are under way
    and come back in another order.
    """

    __slots__ = ("_begin", "_fresh", "_returned", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._fresh: deque[Item] = deque()
        # The place of the first of the fresh ones.
        self._begin = 0
        # What came back, by place; all of it stood before the fresh ones.
        self._returned: list[Batch] = []

    def __len__(self) -> int:
        return len(self._fresh) + sum(map(len, self._returned))

    def __iter__(self) -> Iterator[Item]:
        for batch in self._returned:
            yield from batch
        yield from self._fresh

    def extend(self, items: Iterable[Item]) -> None:
        """Add items that were made just now."""
        self._fresh.extend(items)

    def take(self, limit: int) -> Batch:
        """Take out the first items, at most ``limit`` of them."""
        taken = Batch((), self.name, self._returned[0].place if self._returned else self._begin)
        while self._returned and len(taken) < limit:
            first = self._returned.pop(0)
            needed = limit - len(taken)
            if len(first) > needed:
                self._returned.insert(0, Batch(first[needed:], self.name, first.place + needed))
            taken.extend(first[:needed])
        fresh = min(limit - len(taken), len(self._fresh))
        taken.extend([self._fresh.popleft() for _ in range(fresh)])
        self._begin += fresh
        return taken

    def give_back(self, batch: Batch) -> None:
        """Put items back to where they stood."""
        if batch:
            bisect.insort_left(self._returned, batch, key=_place)

    def put_first(self, chosen: Callable[[Any], bool]) -> None:
        """Move the chosen payloads to the front; both parts keep their order."""
        first: list[Item] = []
        rest: list[Item] = []
        for item in self:
            (first if chosen(item[0]) else rest).append(item)
        self._begin -= sum(map(len, self._returned))
        self._returned.clear()
        self._fresh = deque([*first, *rest])

    def clear(self) -> None:
        """Forget everything."""
        self._fresh.clear()
        self._returned.clear()


def _place(batch: Batch) -> int:
    return batch.place
