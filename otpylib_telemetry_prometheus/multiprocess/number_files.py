"""The files of numbers of one process, and the lock by which others know that it lives."""

from __future__ import annotations

import contextlib
import os
import weakref
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from otpylib_telemetry.primitives.fork import after_fork_in_child

if TYPE_CHECKING:
    from otpylib_telemetry_prometheus.multiprocess.database import Database


class NumberFiles(ABC):
    """Files of numbers by the beginnings of their names, and how many numbers were written."""

    def __init__(self) -> None:
        self.samples = 0
        self._pid = os.getpid()
        self._files: dict[str, Database] = {}
        self._lock: int | None = None
        _open.add(self)

    @abstractmethod
    def _opened(self, prefix: str) -> Database:
        """Return a new file whose name begins so."""

    def _file(self, prefix: str) -> Database:
        file = self._files.get(prefix)
        if file is None:
            file = self._files[prefix] = self._opened(prefix)
        return file

    def write(self, prefix: str, key: str, value: float, timestamp: float = 0.0) -> None:
        """Write a number."""
        self._file(prefix).write(key, value, timestamp)
        self.samples += 1

    def flush(self) -> bool:
        """Let the others see what was written; tell whether somebody had cut a file, which is whole again."""
        cut = [file.flush() for file in self._files.values()]
        return any(cut)

    def close(self) -> None:
        """Let go of it: the process is dead from now on, as far as others can tell."""
        self._close_files()
        lock, self._lock = self._lock, None
        if lock is not None:
            with contextlib.suppress(OSError):
                os.close(lock)

    def __del__(self) -> None:
        self.close()

    def _close_files(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()


_open: Final[weakref.WeakSet[NumberFiles]] = weakref.WeakSet()


def _after_fork() -> None:
    """Let go of everything, in a process that was forked off: it is the parent's."""
    for files in [*_open]:
        files.close()
    _open.clear()


after_fork_in_child(_after_fork)
