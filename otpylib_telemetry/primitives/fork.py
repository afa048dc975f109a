"""What a forked child has to do first: it has its parent's memory, but not its threads and event loops.

A lock that another thread of the parent held is taken in the child for ever: who would release it is not
there. So all locks of the library are made here, and are free in a child. What one was held for may be half
done there; whatever cannot bear that is begun anew by a function of its own.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_locks: weakref.WeakSet[Any] = weakref.WeakSet()


def after_fork_in_child(function: Callable[[], object]) -> None:
    """Have a function called in every child of this process, in the order of these calls."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


def new_lock() -> threading.Lock:
    """Return a ``threading.Lock`` that nobody holds in a child."""
    made = threading.Lock()
    _locks.add(made)
    return made


def new_rlock() -> threading.RLock:
    """Return a ``threading.RLock`` that nobody holds in a child."""
    made = threading.RLock()
    _locks.add(made)
    return made


def locks() -> list[Any]:
    """Return every lock there is."""
    return [*_locks]


def _free_locks() -> None:
    for each in locks():
        each._at_fork_reinit()  # noqa: SLF001  # what the standard library does with its own


# Before anything else that is done in a child: that may take a lock.
after_fork_in_child(_free_locks)
