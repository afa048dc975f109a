"""The numbers of one process where prometheus_client's ``MultiProcessCollector`` finds them.

It reads every file of a directory, and knows nothing of workers that have died but their files. So that their
number does not grow with the workers that ever were, a process takes a place that nobody has: the lowest
number whose lock it gets. The sums it finds there go on: what a dead worker has counted stays, and counts
once.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
from typing import TYPE_CHECKING, Final

from otpylib_telemetry_prometheus.multiprocess.database import Database
from otpylib_telemetry_prometheus.multiprocess.entries import BadFileError, Entry, entries
from otpylib_telemetry_prometheus.multiprocess.files import hold
from otpylib_telemetry_prometheus.multiprocess.number_files import NumberFiles

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger("otpylib_telemetry.prometheus")

_LOCKS: Final = "otpylib-places"
_OURS: Final = re.compile(r"_otpylib-(\d+)\.db")

#: Beginnings of the names of files whose numbers are added up over processes.
_SUMS: Final = ("counter", "histogram", "summary")


def is_client_file(path: Path) -> bool:
    """Tell whether a file is one of these: whoever reads the workers' own files has its numbers already."""
    return _OURS.search(path.name) is not None


class ClientFiles(NumberFiles):
    """The files of one process beside those of prometheus_client."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        # What others had counted before, by the beginning of the file's name.
        self._before: dict[str, dict[str, float]] = {}
        locks = directory / _LOCKS
        locks.mkdir(parents=True, exist_ok=True)
        for number in itertools.count():  # pragma: no branch
            self._lock = hold(locks / str(number))
            if self._lock is not None:
                break
        self._number = number
        _remove_live(directory, number)

    def write(self, prefix: str, key: str, value: float, timestamp: float = 0.0) -> None:
        """Write a number: to what others had counted is added, what they had set is replaced."""
        self._file(prefix)  # what others had counted is known once it is open
        before = self._before.get(prefix)
        super().write(prefix, key, value if before is None else value + before.get(key, 0.0), timestamp)

    def present(self) -> bool:
        """Tell whether it is all still there; if not, it has to be written anew, as a whole."""
        if all(file.is_in(self._directory) for file in self._files.values()):
            return True
        self._close_files()
        return False

    def rest(self) -> None:
        """Write no more; gauges that tell how living workers are go."""
        self._close_files()
        _remove_live(self._directory, self._number)

    def bury(self) -> None:
        """Remove what gauges of dead workers tell about living ones."""
        with contextlib.suppress(OSError):
            for lock in (self._directory / _LOCKS).iterdir():
                if lock.name == str(self._number) or (held := hold(lock)) is None:
                    continue
                try:
                    _remove_live(self._directory, int(lock.name))
                finally:
                    os.close(held)

    def _opened(self, prefix: str) -> Database:
        # The label pid of a gauge is what stands in the third place of the name, less three characters.
        owner = f"{self._pid}.db_" if prefix.startswith("gauge") and "mostrecent" not in prefix else ""
        path = self._directory / f"{prefix}_{owner}otpylib-{self._number}.db"
        before = self._before.get(prefix)
        if before is not None:  # it was there, and somebody has removed it
            return Database(path, [Entry(key.encode(), value, 0.0) for key, value in before.items()])
        found = _left_in(path)
        if prefix.startswith(_SUMS):
            self._before[prefix] = {entry.key.decode(): entry.value for entry in found}
        return Database(path, found)


def _left_in(path: Path) -> list[Entry]:
    """Return what a predecessor has left in a file."""
    try:
        found = entries(path)
        for entry in found:
            entry.key.decode()
    except FileNotFoundError:
        return []
    except (BadFileError, ValueError) as error:
        _log.warning("%s, of a worker that has died, is lost to the metrics: %s.", path, error)
        return []
    return found


def _remove_live(directory: Path, number: int) -> None:
    with contextlib.suppress(OSError):
        for path in directory.glob(f"gauge_live*_otpylib-{number}.db"):
            path.unlink(missing_ok=True)
