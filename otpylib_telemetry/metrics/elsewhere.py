"""Events whose numbers leave as observed metrics: no automatic metric is made of them, and no log record."""

from __future__ import annotations

import math
import time


class _Elsewhere:
    """Their names, with the time until which it was so; ``generation`` grows whenever there are others."""

    def __init__(self) -> None:
        self.generation = 0
        self._until_ns: dict[str, float] = {}

    def begin(self, name: str) -> None:
        """Have the numbers of an event leave elsewhere."""
        self._until_ns[name] = math.inf
        self.generation += 1

    def end(self, name: str) -> None:
        """Undo :meth:`begin`: what was emitted before may still wait in a queue."""
        self._until_ns[name] = time.monotonic_ns()

    def has(self, name: str, at_ns: int) -> bool:
        """Tell whether it was so when an event was emitted."""
        until_ns = self._until_ns.get(name)
        return until_ns is not None and at_ns <= until_ns


elsewhere = _Elsewhere()
