"""A memory of what was said, so that it is said once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable


class Once:
    """Tells what is news: each of at most ``limit`` things once, and again when it was over meanwhile."""

    __slots__ = ("_limit", "_said")

    def __init__(self, limit: float = math.inf) -> None:
        self._limit = limit
        self._said: set[Hashable] = set()

    def is_news(self, what: Hashable = None) -> bool:
        """Tell whether nobody was told yet, and take it as told."""
        if what in self._said or len(self._said) >= self._limit:
            return False
        self._said.add(what)
        return True

    def over(self, what: Hashable = None) -> None:
        """Forget that it was said: the next time it is news."""
        self._said.discard(what)

    def clear(self) -> None:
        """Forget everything."""
        self._said.clear()
