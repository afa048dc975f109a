"""What a forked child has to do first: it has its parent's memory, but not its threads and event loops.

A lock that another thread of the parent held is taken in the child for ever: who would release it is not
there. So all locks of the library are made here, and are free in a child. What one was held for may be half
done there; whatever cannot bear that is begun anew by a function of its own.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

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


#: The threads that import modules now, and the most seconds that a fork waits for them.
_importing: list[int] = []
_gate = threading.Condition()
_LONGEST_IMPORT = 10.0

#: Held by the thread that imports. Of two threads that import modules which import each other, as those of
#: aiohttp do, Python lets one see a module that is half made.
_one_at_a_time = new_rlock()


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Have forks and imports of other threads wait until this has been done.

    A module that another thread was importing can never be imported in a child: its lock stays taken, and
    that lock is Python's own.
    """
    _guard_forks()
    # Not for ever: the other one may wait for a module that this thread is importing.
    is_alone = _one_at_a_time.acquire(timeout=_LONGEST_IMPORT)
    with _gate:
        _importing.append(threading.get_ident())
    try:
        yield
    finally:
        with _gate:
            _importing.remove(threading.get_ident())
            _gate.notify_all()
        if is_alone:
            _one_at_a_time.release()


def import_module(name: str) -> ModuleType:
    """Import a module, for which forks of other threads wait."""
    with importing():
        return importlib.import_module(name)


def _before_fork() -> None:
    _gate.acquire()
    me = threading.get_ident()
    _gate.wait_for(lambda: all(each == me for each in _importing), _LONGEST_IMPORT)


def _release_gate() -> None:
    with contextlib.suppress(RuntimeError):  # the fork began before there was a gate
        _gate.release()


def _open_gate() -> None:
    global _gate  # noqa: PLW0603  # another one for the child: who waits at this one is not there
    _gate = threading.Condition()
    _importing.clear()


@functools.cache
def _guard_forks() -> None:
    """Have forks wait from now on.

    What is registered last is called first: later than logging and executors, whose locks a fork takes, and
    which what is imported may need.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before_fork, after_in_parent=_release_gate, after_in_child=_open_gate)


def _free_locks() -> None:
    for each in locks():
        each._at_fork_reinit()  # noqa: SLF001  # what the standard library does with its own


# Before anything else that is done in a child: that may take a lock.
after_fork_in_child(_free_locks)
