"""The files of one worker, which outlive it when it is killed."""

from __future__ import annotations

import contextlib
import logging
import secrets
from typing import TYPE_CHECKING

from otpylib_telemetry_prometheus.multiprocess.database import Database
from otpylib_telemetry_prometheus.multiprocess.files import hold_alive, mark_used, remove
from otpylib_telemetry_prometheus.multiprocess.number_files import NumberFiles

if TYPE_CHECKING:
    from pathlib import Path


_log = logging.getLogger("otpylib_telemetry.prometheus")


def new_token() -> str:
    """Return what tells one worker from every other."""
    return secrets.token_hex(8)


class WorkerFiles(NumberFiles):
    """The directory of one worker, in the making until :meth:`publish`."""

    def __init__(self, version: Path, token: str, generation: int) -> None:
        super().__init__()
        self._final = version / f"w-{self._pid}-{token}-{generation}"
        self.path = version / f".new-{self._final.name}"
        version.mkdir(parents=True, exist_ok=True)
        self.path.mkdir()
        try:
            self._lock = hold_alive(self.path)
        except OSError:
            self.remove()
            raise

    def publish(self) -> None:
        """Let the others see it, complete as it is."""
        self.path.rename(self._final)
        self.path = self._final
        mark_used(self.path.parent)

    def present(self) -> bool:
        """Tell whether it is all still there: temporary directories are emptied by all sorts of people."""
        return self.path.is_dir() and all(file.is_in(self.path) for file in self._files.values())

    def flush(self) -> bool:
        """Let the others see what was written; say if somebody had cut a file."""
        cut = super().flush()
        if cut:
            _log.warning("A file of %s was cut short while it was in use; it is written anew.", self.path)
        return cut

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

    def _opened(self, prefix: str) -> Database:
        return Database(self.path / f"{prefix}_{self._pid}.db")
