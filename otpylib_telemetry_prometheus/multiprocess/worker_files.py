"""The files of one worker, which outlive it when it is killed."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import weakref
from typing import TYPE_CHECKING, Final

from otpylib_telemetry_prometheus.multiprocess.database import Database
from otpylib_telemetry_prometheus.multiprocess.files import hold_alive, mark_used, remove

if TYPE_CHECKING:
    from pathlib import Path


_log = logging.getLogger("otpylib_telemetry.prometheus")


def new_token() -> str:
    """Return what tells one worker from every other."""
    return secrets.token_hex(8)


class WorkerFiles:
    """The directory of one worker, in the making until :meth:`publish`."""

    def __init__(self, version: Path, token: str, generation: int) -> None:
        self.samples = 0
        self._pid = os.getpid()
        self._final = version / f"w-{self._pid}-{token}-{generation}"
        self.path = version / f".new-{self._final.name}"
        self._files: dict[str, Database] = {}
        self._lock: int | None = None
        version.mkdir(parents=True, exist_ok=True)
        self.path.mkdir()
        _open.add(self)
        try:
            self._lock = hold_alive(self.path)
        except OSError:
            self.remove()
            raise

    @property
    def published(self) -> bool:
        """Whether others can see it."""
        return self.path == self._final

    def publish(self) -> None:
        """Let the others see it, complete as it is."""
        self.path.rename(self._final)
        self.path = self._final
        mark_used(self.path.parent)

    def present(self) -> bool:
        """Tell whether it is all still there: temporary directories are emptied by all sorts of people."""
        return self.path.is_dir() and all(file.is_in(self.path) for file in self._files.values())

    def write(self, prefix: str, key: str, value: float, timestamp: float = 0.0) -> None:
        """Write a number."""
        file = self._files.get(prefix)
        if file is None:
            file = self._files[prefix] = Database(self.path / f"{prefix}_{self._pid}.db")
        file.write(key, value, timestamp)
        self.samples += 1

    def flush(self) -> None:
        """Let the others see what was written."""
        for file in self._files.values():
            if file.flush():
                _log.warning("A file of %s was cut short while it was in use; it is written anew.", self.path)

    def close(self) -> None:
        """Let go of it: the worker is dead from now on."""
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

    def rest(self) -> None:
        """Write no more for the time being; the worker lives on, but its gauges do not tell how it is."""
        self._close_files()
        with contextlib.suppress(OSError):
            for path in self.path.glob("gauge_live*.db"):
                path.unlink()

    def remove(self) -> None:
        """Let go of it and remove it: what is in it does not count any more."""
        self.close()
        remove(self.path)


_open: Final[weakref.WeakSet[WorkerFiles]] = weakref.WeakSet()


def close_inherited() -> None:
    """Let go of every directory, in a process that was forked off: they are the parent's."""
    for files in [*_open]:
        files.close()
    _open.clear()
