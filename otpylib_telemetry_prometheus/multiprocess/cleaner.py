"""What dead workers left, made small: a server that replaces its workers all day must not fill its disk.

Counters and histograms of the dead are added up into one directory per version, and count from there on. That
is done in steps, of which only one matters: the manifest is replaced by one that names the new sums and the
directories that went into them. Killed before it, the cleaning has not happened; killed after it, only what
does not count any more still lies about, and the next one removes it. Nothing is lost, nothing counts twice.

Of several workers one cleans up at a time; who finds the lock taken leaves it to the other.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from typing import TYPE_CHECKING, Final

from otpylib_telemetry_prometheus.multiprocess.database import Database
from otpylib_telemetry_prometheus.multiprocess.entries import BadFileError, entries, file_kind, prefix_of
from otpylib_telemetry_prometheus.multiprocess.files import (
    Manifest,
    Version,
    held,
    hold,
    remove,
    scan,
    sums_at,
    sync,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from otpylib_telemetry_prometheus.multiprocess.files import Worker


_log = logging.getLogger("otpylib_telemetry.prometheus")

#: How many dead workers are left as they are: adding up a few is not worth the reading.
_SPARE: Final = 3

#: Seconds after which a version is removed that no worker uses any more, and a draft that nobody finished.
_GRACE: Final = 60.0

_IDLE: Final = ".idle"


class Cleaner:
    """Clears up under a root; counts the dead workers it added up, and their files that were torn."""

    def __init__(
        self,
        root: Path,
        *,
        spare: int = _SPARE,
        grace: float = _GRACE,
        step: Callable[[str], None] = lambda _next: None,
    ) -> None:
        self.absorbed = 0
        self.skipped = 0
        self._root = root
        self._spare = spare
        self._grace = grace
        self._step = step

    def clean(self) -> bool:
        """Clear up, unless somebody else does."""
        lock = hold(self._root / "lock")
        if lock is None:
            return False
        try:
            # Of a worker that moves, both states exist for a moment. The old one must be out of the way
            # before the new one is added to the sums: afterwards nothing tells any more that it is old.
            for path in scan(self._root).superseded:
                self._step("remove what was superseded")
                remove(path)
            for number, version in enumerate(scan(self._root).versions):
                self._tidy(version)
                dead = [worker for worker in version.workers if not worker.alive()]
                if len(dead) > self._spare:
                    self._absorb(version, dead)
                self._retire(version, idle=len(dead) == len(version.workers), last=number == 0)
        finally:
            os.close(lock)
        return True

    def _tidy(self, version: Version) -> None:
        """Remove what an earlier cleaning, or a worker, did not get round to removing."""
        sums = version.sums()
        for path in version.path.iterdir():
            stale = path.name in version.manifest.absorbed or (path.name.startswith("dead-") and path != sums)
            if stale or (path.name.startswith(".new-") and self._given_up(path)):
                self._step("remove leftovers")
                remove(path)

    def _given_up(self, draft: Path) -> bool:
        return not held(draft / "alive") and _age(draft) > self._grace

    def _absorb(self, version: Version, dead: list[Worker]) -> None:
        """Add dead workers to the sums of a version."""
        files = [*version.sum_files(), *(path for worker in dead for path in worker.files())]
        sums = _Sums()
        for path in files:
            try:
                sums.add(path)
            except (BadFileError, ValueError) as error:
                self.skipped += 1
                _log.warning("%s, of a worker that has died, is lost to the metrics: %s.", path, error)
        number = version.manifest.number + 1
        target = sums_at(version.path, number)
        remove(target)
        self._step("write the sums")
        sums.write(target, self._step)
        self._step("replace the manifest")
        Manifest(number, frozenset(worker.path.name for worker in dead)).write(version.path)
        self._step("remove the old sums")
        before = version.sums()
        if before is not None:
            remove(before)
        for worker in dead:
            self._step("remove a dead worker")
            remove(worker.path)
        self.absorbed += len(dead)

    def _retire(self, version: Version, *, idle: bool, last: bool) -> None:
        """Remove a version that no worker has used for a while; the one that was used last stays."""
        mark = version.path / _IDLE
        if not idle:
            mark.unlink(missing_ok=True)
        elif not mark.exists():
            mark.touch()
        elif not last and _age(mark) > self._grace:
            remove(version.path)


class _Sums:
    """The numbers of dead workers, added up as prometheus_client adds up those of living ones."""

    def __init__(self) -> None:
        self._files: dict[str, dict[bytes, tuple[float, float]]] = {}

    def add(self, path: Path) -> None:
        """Add a file."""
        kind = file_kind(path)
        if kind is None:
            raise BadFileError("its name is none that prometheus_client gives")
        prefix, owner = prefix_of(path), path.stem.rpartition("_")[2]
        if prefix.startswith("gauge_live"):
            return
        # Gauges that are shown for each worker keep the pid, which is part of the file's name.
        name = f"{prefix}_{owner}" if prefix == "gauge_all" else f"{prefix}_0"
        found = entries(path)
        numbers = self._files.setdefault(name, {})
        for entry in found:
            present = numbers.get(entry.key)
            mine = (entry.value, entry.timestamp)
            numbers[entry.key] = mine if present is None else _merged(prefix, present, mine)

    def write(self, directory: Path, step: Callable[[str], None]) -> None:
        """Write them into a directory, so that they outlive a crash of the machine."""
        directory.mkdir()
        for name, numbers in self._files.items():
            path = directory / f"{name}.db"
            file = Database(path)
            for key, (value, timestamp) in numbers.items():
                file.write(key.decode(), value, timestamp)
            file.flush()
            file.close()
            sync(path)
            step("write the next file")
        sync(directory)


def _merged(prefix: str, one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    match prefix:
        case "gauge_min":
            return min(one, other)
        case "gauge_max":
            return max(one, other)
        case "gauge_mostrecent":
            return other if other[1] > one[1] else one
        case "gauge_all":
            return other
        case _:
            return one[0] + other[0], 0.0


def _age(path: Path) -> float:
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_mtime
    return 0.0
