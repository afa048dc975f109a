"""The files of one worker: maps of memory, which outlive a worker that is killed."""

from __future__ import annotations

import contextlib
import os
import secrets
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry_prometheus.multiprocess.files import client, hold_alive, mark_used, remove

if TYPE_CHECKING:
    from pathlib import Path


#: Bytes a file has to begin with, as prometheus_client has it. They are reserved: a map of a file that the
#: disk has no room for would end the process.
_CAPACITY: Final = 1 << 16

_HEADER: Final = 8
_NUMBERS: Final = 16


def new_token() -> str:
    """Return what tells one worker from every other."""
    return secrets.token_hex(8)


@dataclass(slots=True)
class _File:
    entries: Any
    name: str
    capacity: int
    used: int = _HEADER
    keys: set[str] = field(default_factory=set)


class WorkerFiles:
    """The directory of one worker, in the making until :meth:`publish`.

    Attributes:
        path: The directory.
        samples: How many numbers were written.
    """

    def __init__(self, version: Path, token: str, generation: int) -> None:
        self.samples = 0
        self._pid = os.getpid()
        self._final = version / f"w-{self._pid}-{token}-{generation}"
        self.path = version / f".new-{self._final.name}"
        self._files: dict[str, _File] = {}
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
        """Tell whether it is still there: temporary directories are emptied by all sorts of people."""
        return self.path.is_dir()

    def write(self, prefix: str, key: str, value: float, timestamp: float = 0.0) -> None:
        """Write a number."""
        file = self._files.get(prefix)
        if file is None:
            file = self._files[prefix] = self._open(prefix)
        if key not in file.keys:
            self._make_room(file, key)
        file.entries.write_value(key, value, timestamp)
        self.samples += 1

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
            # After a failed growth the map may be gone already; there is nothing in it that is not written.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                file.entries.close()
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

    def _open(self, prefix: str) -> _File:
        path = self.path / f"{prefix}_{self._pid}.db"
        # Nobody is to find a file that is still empty.
        draft = path.with_suffix(".new")
        _reserve(draft, _CAPACITY)
        entries = client("mmap_dict").MmapedDict(os.fspath(draft))
        draft.rename(path)
        return _File(entries, path.name, _CAPACITY)

    def _make_room(self, file: _File, key: str) -> None:
        length = len(key.encode())
        needed = 4 + length + 8 - (length + 4) % 8 + _NUMBERS
        capacity = file.capacity
        while file.used + needed > capacity:
            capacity *= 2
        if capacity != file.capacity:
            _reserve(self.path / file.name, capacity)
            file.capacity = capacity
        file.used += needed
        file.keys.add(key)


def _reserve(path: Path, size: int) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.truncate(descriptor, size)
    finally:
        os.close(descriptor)


_open: Final[weakref.WeakSet[WorkerFiles]] = weakref.WeakSet()


def close_inherited() -> None:
    """Let go of every directory, in a process that was forked off: they are the parent's."""
    for files in [*_open]:
        files.close()
    _open.clear()
