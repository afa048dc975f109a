"""A file of prometheus_client's format, as its one writer has it: a copy in memory, written by position.

prometheus_client maps its files into memory. Whoever empties such a file in place ends the process with
SIGBUS at its next number. What is written by position fails as a call, if at all, and costs less: numbers
that lie side by side are written together. What was written outlives a worker that is killed all the same.
"""

from __future__ import annotations

import os
import struct
from itertools import groupby
from typing import TYPE_CHECKING, Final

from otpylib_telemetry_prometheus.multiprocess.entries import HEADER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from otpylib_telemetry_prometheus.multiprocess.entries import Entry


#: Bytes a file has to begin with, as prometheus_client has it. They are reserved: a disk that is full costs
#: the number that finds it so, and none of those that were there.
_CAPACITY: Final = 1 << 16

#: Bytes that are compared in one look: a tenth of a millisecond.
_LOOK: Final = 1 << 18

#: Bytes that are written together, as a power of two.
_BLOCK: Final = 12

_USED: Final = struct.Struct("ii")
_NUMBERS: Final = struct.Struct("dd")


class Database:
    """A file of numbers by key, which begins with what was found elsewhere; see :meth:`flush`."""

    def __init__(self, path: Path, found: Iterable[Entry] = ()) -> None:
        self.name = path.name
        self._data = bytearray(_USED.pack(0, 0))
        self._positions: dict[str, int] = {}
        # What the header says, and so what there is for others.
        self._told = self._look_at = 0
        self._dirty: set[int] = set()
        self._capacity = _CAPACITY
        # Nobody is to find a file that is still empty.
        draft = path.with_suffix(".new")
        self._descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            self._reserve()
            for entry in found:
                self.write(entry.key.decode(), entry.value, entry.timestamp)
            self.flush()
            draft.rename(path)
        except BaseException:
            self.close()
            raise

    def write(self, key: str, value: float, timestamp: float) -> None:
        """Change a number, or add one."""
        position = self._positions.get(key)
        if position is None:
            position = self._add(key)
        _NUMBERS.pack_into(self._data, position, value, timestamp)
        # Entries are aligned to 8 bytes, so that one may lie across two blocks.
        self._dirty.add(position >> _BLOCK)
        self._dirty.add((position + _NUMBERS.size - 1) >> _BLOCK)

    def flush(self) -> bool:
        """Write what has changed; return whether somebody had cut the file, which is whole again."""
        cut = self._is_cut()
        if cut:
            os.truncate(self._descriptor, self._capacity)
            self._reserve()
            self._told = 0
            _USED.pack_into(self._data, 0, 0, 0)
            self._dirty.update(_blocks(0, len(self._data)))
        with memoryview(self._data) as data:
            for start, end in _ranges(sorted(self._dirty)):
                self._put(data[start:end], start)
        if self._told != len(self._data):
            # Last, so that whoever reads meanwhile finds whole entries only.
            header = _USED.pack(len(self._data), 0)
            self._put(header, 0)
            self._data[:HEADER] = header
            self._told = len(self._data)
        self._dirty.clear()
        return cut

    def is_in(self, directory: Path) -> bool:
        """Tell whether what was flushed is what others find in a directory; a part of it is looked at."""
        start = self._look_at if self._look_at < len(self._data) else 0
        self._look_at = start + _LOOK
        try:
            found = (directory / self.name).stat()
            if not os.path.samestat(found, os.fstat(self._descriptor)):
                return False
            with memoryview(self._data) as data, data[start : start + _LOOK] as part:
                return os.pread(self._descriptor, len(part), start) == part
        except OSError:
            return False

    def close(self) -> None:
        """Let go of the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _add(self, key: str) -> int:
        encoded = key.encode()
        start, padding = len(self._data), 8 - (len(encoded) + 4) % 8
        entry = struct.pack("i", len(encoded)) + encoded + b" " * padding + bytes(_NUMBERS.size)
        if start + len(entry) > self._capacity:
            self._grow(start + len(entry))
        self._data += entry
        self._dirty.update(_blocks(start, len(self._data)))
        position = self._positions[key] = len(self._data) - _NUMBERS.size
        return position

    def _grow(self, size: int) -> None:
        # A file that was cut must not pass for a whole one because it has grown.
        if self._is_cut():
            self.flush()
        before = self._capacity
        while self._capacity < size:
            self._capacity *= 2
        try:
            self._reserve()
        except OSError:
            self._capacity = before
            raise

    def _is_cut(self) -> bool:
        return os.fstat(self._descriptor).st_size != self._capacity

    def _reserve(self) -> None:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._descriptor, 0, self._capacity)
        elif os.fstat(self._descriptor).st_size < self._capacity:
            os.truncate(self._descriptor, self._capacity)

    def _put(self, data: bytes | memoryview, position: int) -> None:
        while data:
            written = os.pwrite(self._descriptor, data, position)
            data, position = data[written:], position + written


def _blocks(start: int, end: int) -> range:
    return range(start >> _BLOCK, ((end - 1) >> _BLOCK) + 1)


def _ranges(blocks: list[int]) -> Iterator[tuple[int, int]]:
    """Yield where blocks begin and end in the file, those that lie side by side as one."""
    for _, run in groupby(enumerate(blocks), lambda numbered: numbered[1] - numbered[0]):
        side_by_side = [block for _, block in run]
        yield side_by_side[0] << _BLOCK, (side_by_side[-1] + 1) << _BLOCK
