"""The time that is recorded with an event; another clock can be put in its place."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Gives seconds since the epoch.
source: Callable[[], float] = time.time


def now() -> float:
    """Return seconds since the epoch."""
    return source()
