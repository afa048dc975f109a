"""What is in a file of prometheus_client's, and whether it can be merged."""

from __future__ import annotations

import json
import os
import re
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from otpylib_telemetry.metrics.options import MULTIPROCESS_MODES
from otpylib_telemetry_prometheus.multiprocess.files import client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_FILE: Final = re.compile(
    rf"(?:(counter|histogram|summary)|(gauge)_(?:{'|'.join(MULTIPROCESS_MODES)}))_[^/]+\.db"
)

_INTEGER: Final = struct.Struct("i")
_DOUBLES: Final = struct.Struct("dd")
HEADER: Final = 8

#: Keys that have been found in order, remembered so that each is looked at once.
_MAX_KEYS: Final = 500_000


class BadFileError(Exception):
    """A file is not one of prometheus_client's, or not a whole one; the message says what is wrong."""


def file_kind(path: Path) -> str | None:
    """Return the type of the metrics in a file, which its name tells; None if it is no such file."""
    match = _FILE.fullmatch(path.name)
    return None if match is None else match[1] or match[2]


def prefix_of(path: Path) -> str:
    """Return what a file's name tells of what is in it: type, mode of a gauge, buckets of a histogram."""
    return path.name.removesuffix(".db").rpartition("_")[0]


@dataclass(frozen=True, slots=True)
class Entry:
    """One number in a file, by its key as it stands there; seconds since the epoch for a gauge, else 0."""

    key: bytes
    value: float
    timestamp: float


def entries(path: Path) -> list[Entry]:
    """Return what is in a file."""
    with _opened(path) as file:
        used = _used(file)
        data = file.read(used - HEADER) if used else b""
    return [Entry(key, *_DOUBLES.unpack_from(data, end - _DOUBLES.size)) for key, end in _walk(data, used)]


class FileChecks:
    """Tells files that can be merged from others.

    prometheus_client trusts what it reads: one file that is empty, cut short or of somebody else's ends its
    scrape, or lets it go on for ever. Entries are only ever added to a file, so what was found in order once
    is not looked at again.
    """

    def __init__(self) -> None:
        self._checked: dict[Path, tuple[int, int]] = {}
        self._known: dict[tuple[str, bytes], str] = {}
        self._names: dict[Path, set[str]] = {}

    def names(self, path: Path) -> frozenset[str]:
        """Return the metrics in a file that was in order."""
        return frozenset(self._names.get(path, ()))

    def check(self, path: Path) -> None:
        """Look at a file."""
        kind = file_kind(path)
        if kind is None:
            raise BadFileError("its name is none that prometheus_client gives")
        with _opened(path) as file:
            inode = os.fstat(file.fileno()).st_ino
            used = _used(file)
            before, upto = self._checked.get(path, (inode, HEADER))
            start = upto if before == inode and upto <= used else HEADER
            if start == HEADER:
                self._names[path] = set()
            file.seek(start)
            data = file.read(max(0, used - start))
        for key, _ in _walk(data, start + len(data) if used else 0, start):
            name = self._known.get((kind, key))
            if name is None:
                name = _check_key(kind, key)
                if len(self._known) >= _MAX_KEYS:
                    self._known.clear()
                self._known[kind, key] = name
            self._names[path].add(name)
        self._checked[path] = (inode, max(used, HEADER))

    def forget_gone(self) -> None:
        """Forget files that are not there any more."""
        # A copy, for scrapes on other threads may be adding to it.
        for path in list(self._checked):
            if not path.exists():
                self._checked.pop(path, None)
                self._names.pop(path, None)


def _opened(path: Path) -> BinaryIO:
    """Open a file to read it; one that is a pipe or a device may have no end, or no beginning."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadFileError("it is no regular file")
    return os.fdopen(descriptor, "rb")


def _used(file: Any) -> int:
    """Return how many bytes of a file are in use, and leave it behind its header."""
    size = os.fstat(file.fileno()).st_size
    header = file.read(HEADER)
    if len(header) < HEADER:
        raise BadFileError("it is empty" if not header else "it is cut short")
    used: int = _INTEGER.unpack_from(header)[0]
    if used == 0:
        return 0
    if used < HEADER or used > size:
        raise BadFileError("it is cut short, or not one of prometheus_client's")
    return used


def _walk(data: bytes, end: int, start: int = HEADER) -> Iterator[tuple[bytes, int]]:
    """Yield keys, and where in ``data`` their entries end; ``data`` is of the file from ``start`` on."""
    if end and len(data) != end - start:
        raise BadFileError("it was cut short while it was read")
    position, size = 0, len(data)
    while position < size:
        if position + _INTEGER.size > size:
            raise BadFileError("it ends within an entry")
        length = _INTEGER.unpack_from(data, position)[0]
        begin = position + _INTEGER.size
        position = begin + length + 8 - (length + 4) % 8 + _DOUBLES.size
        if length <= 0 or position > size:
            raise BadFileError("it has an entry of an impossible length")
        yield data[begin : begin + length], position


def _check_key(kind: str, key: bytes) -> str:
    """Return the name of the metric that an entry is of."""
    try:
        metric, sample, labels, documentation = json.loads(key)
        texts = [metric, sample, documentation, *labels.keys(), *labels.values()]
        if not all(isinstance(text, str) for text in texts):
            raise BadFileError("it has an entry that is of no metric")
        if "le" in labels:
            float(labels["le"])
        client("metrics_core").Metric(metric, documentation, kind)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadFileError("it has an entry that is of no metric") from error
    return str(metric)
