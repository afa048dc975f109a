"""Metrics of an application that runs as several processes: gunicorn, uvicorn with workers, celery.

A scrape reaches one worker, and has to tell of all of them. So with ``PROMETHEUS_MULTIPROC_DIR`` every worker
writes its series into files in that directory, and whoever is asked adds up everybody's. Format, file names
and rules of merging are prometheus_client's; where ours lie, and why a scrape survives workers that die,
change their buckets or leave half a file behind, is told in
:mod:`otpylib_telemetry_prometheus.multiprocess.files`.

What a worker has written counts from then on, whatever becomes of the worker. What it has not, dies with it:
the events in its queue, and what was aggregated since the last :meth:`Multiprocess.write`. Who must not lose
an event flushes the exporter before acknowledging it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import weakref
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.primitives.fork import after_fork_in_child, new_lock
from otpylib_telemetry_prometheus.multiprocess.cleaner import Cleaner
from otpylib_telemetry_prometheus.multiprocess.files import (
    EXPORTER,
    VARIABLE,
    MultiprocessError,
    client,
    has_lock,
    root_of,
    version_name,
)
from otpylib_telemetry_prometheus.multiprocess.reader import Reader
from otpylib_telemetry_prometheus.multiprocess.worker_files import WorkerFiles, new_token
from otpylib_telemetry_prometheus.multiprocess.writer import Look, StoreWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otpylib_telemetry.aggregation.metric import Series
    from otpylib_telemetry.aggregation.store import SeriesStore


_log = logging.getLogger("otpylib_telemetry.prometheus")

#: How many times as long as a write took none follows it, unless one is asked for: a tenth of a processor is
#: spent on writing at most, however many series there are.
_REST: Final = 10

#: Seconds a write may take on an event loop, and series that are written anew in about that time.
_AT_ONCE: Final = 0.005
_FEW: Final = 300

#: Seconds between two cleanings, and between two looks whether the worker's directory is still there.
_CLEANING: Final = 30.0
_LOOKING: Final = 2.0

_NO_LABELS: Final[Mapping[str, Any]] = MappingProxyType({})
_NO_MODES: Final[Mapping[str, str]] = MappingProxyType({})


class _Identity:
    """What a store is to the other workers. Whoever writes it next goes on with this, and not beside it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.token = new_token()
        self.generation = 0
        self.files: WorkerFiles | None = None


_identities: weakref.WeakKeyDictionary[SeriesStore, _Identity] = weakref.WeakKeyDictionary()


class Multiprocess:
    """The part of one worker: it writes the worker's series, and reads everybody's.

    Every method may be called from any thread. None raises on account of the disk: what goes wrong is said
    once, is to be seen in :meth:`stats`, and is tried again with the next write.

    In a process that is forked off this object belongs to the parent: there it writes nothing.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        exporter: str = EXPORTER,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if not has_lock():
            raise MultiprocessError(
                f"{VARIABLE} (multiprocess_dir) works on Linux, macOS and other Unixes only: unset it"
            )
        client("multiprocess")
        self.directory = Path(os.path.abspath(directory))  # noqa: PTH100 - as the settings have it
        self._root = root_of(self.directory, exporter)
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            writable = os.access(self._root, os.W_OK | os.X_OK)
        except OSError as error:
            raise MultiprocessError(
                f"the directory of {VARIABLE} (multiprocess_dir), {self.directory}, cannot be made: "
                f"{error.strerror or error}. Expected a directory that every worker can write to"
            ) from error
        if not writable:
            raise MultiprocessError(
                f"the directory of {VARIABLE} (multiprocess_dir), {self.directory}, cannot be written to. "
                f"Expected one that every worker can write to"
            )
        self._clock, self._wall_clock = clock, wall_clock
        self._pid = os.getpid()
        self._lock = new_lock()
        self._look = Look()
        self._schema: object = None
        self._version = version_name(None)
        self._look_changed = True
        self._writer: StoreWriter[WorkerFiles] | None = None
        self._times: dict[Series, float] = {}
        self._rest_until = self._look_at = self._clean_at = -float("inf")
        self._last_took = 0.0
        self._closed = False
        self._trouble = ""
        self._writes = 0
        self._samples = 0
        self._cleaner = Cleaner(self._root)
        self._reader = Reader(self._root, self.directory)
        _all.add(self)

    def use_schema(
        self,
        canonical: object,
        *,
        namespace: str = "",
        global_labels: Mapping[str, Any] = _NO_LABELS,
        modes: Mapping[str, str] = _NO_MODES,
    ) -> None:
        """Say what the metrics look like from now on; the next write moves everything if that has changed."""
        schema = (canonical, namespace, tuple(sorted(modes.items())))
        whole = (schema, dict(global_labels))
        with self._lock:
            if whole != self._schema:
                self._schema = whole
                self._version = version_name(schema)
                self._look = Look(namespace, global_labels, modes)
                self._look_changed = True

    def write(self, store: SeriesStore, *, force: bool = False) -> int:
        """Write what has changed since the last time; to be called after each batch of events.

        An event loop is not held up: what may take more than a few milliseconds goes on on a thread.
        """
        started = self._clock()
        if os.getpid() != self._pid or (started < self._rest_until and not force):
            return 0
        if not force and self._takes_long(store) and self._begin(store):
            return 0
        if not self._lock.acquire(blocking=force):
            return 0
        try:
            return 0 if self._closed else self._write_timed(store, started)
        finally:
            self._lock.release()

    def families(self) -> list[Any]:
        """Return the metrics of all workers, merged; to be called on a thread, for it reads every file."""
        return self._reader.collect()

    def close(self) -> None:
        """Write no more. What was written stays, but for gauges that are of living workers only.

        The store may be written again, by another object of this class: as long as the store is there, the
        worker does not count as dead.
        """
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._closed = True
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.files.rest()

    def stats(self) -> dict[str, Any]:
        """Return where things are, what was written, and what could not be."""
        return {
            "directory": str(self.directory),
            "version": self._version,
            "writes": self._writes,
            "samples_written": self._samples,
            "files_skipped": self._reader.skipped + self._cleaner.skipped,
            "workers_absorbed": self._cleaner.absorbed,
            "trouble": self._trouble or None,
        }

    def _takes_long(self, store: SeriesStore) -> bool:
        if self._last_took > _AT_ONCE:
            return True
        writer = self._writer
        moves = writer is None or self._look_changed or writer.generation != store.generation
        return moves and store.series_count() > _FEW

    def _begin(self, store: SeriesStore) -> bool:
        """Write on a thread; False if there are no threads any more, because the interpreter is exiting."""
        self._rest_until = float("inf")
        try:
            threading.Thread(
                target=self.write,
                args=(store,),
                kwargs={"force": True},
                name="otpylib-telemetry",
                daemon=True,
            ).start()
        except RuntimeError:
            self._rest_until = -float("inf")
            return False
        return True

    def _write_timed(self, store: SeriesStore, started: float) -> int:
        written = 0
        try:
            written = self._write(store, started)
        except Exception as error:  # noqa: BLE001 - the application goes on without its metrics being shared
            # Whatever state the files are in, the next write does without them.
            self._writer = None
            self._say(str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}")
        else:
            self._trouble = ""
        self._samples += written
        self._writes += bool(written)
        ended = self._clock()
        self._last_took = ended - started
        self._rest_until = ended + _REST * self._last_took
        if started >= self._clean_at:
            self._clean_at = started + _CLEANING
            # An interpreter that is exiting starts no thread any more.
            with contextlib.suppress(RuntimeError):
                threading.Thread(target=self._clean, name="otpylib-telemetry", daemon=True).start()
        return written

    def _write(self, store: SeriesStore, started: float) -> int:
        writer = self._writer
        if writer is not None and started >= self._look_at:
            self._look_at = started + _LOOKING
            if not writer.files.present():
                _log.warning("%s was removed while it was in use; it is written anew.", writer.files.path)
                writer = None
        if writer is None or self._look_changed or writer.generation != store.generation:
            return self._move(store)
        return writer.write(store, self._wall_clock())

    def _move(self, store: SeriesStore) -> int:
        """Write everything into a directory of its own, and let that one count from then on.

        Series that have gone are rid of that way: prometheus_client's files have no means to take one back.
        """
        identity = _identities.setdefault(store, _Identity())
        identity.generation += 1
        files = WorkerFiles(self._root / self._version, identity.token, identity.generation)
        previous, self._writer = self._writer, None
        try:
            writer = StoreWriter(self._look, files, self._times)
            if previous is not None and not self._look_changed:
                writer.succeed(previous)
            written = writer.write(store, self._wall_clock())
            files.publish()
        except BaseException:
            # What was written before still counts, as it is; the next write tries again.
            files.remove()
            raise
        self._writer, self._look_changed = writer, False
        old, identity.files = identity.files, files
        if old is not None:
            old.remove()
        return written

    def _clean(self) -> None:
        try:
            self._cleaner.clean()
        except (OSError, MultiprocessError) as error:
            self._say(f"what dead workers left cannot be cleared up: {error}")

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            _log.warning("Metrics shared by several processes, in %s: %s.", self.directory, trouble)

    def _disown(self) -> None:
        """Be of no use in a child: what was open is the parent's."""
        self._closed = True
        self._writer = None


_all: weakref.WeakSet[Multiprocess] = weakref.WeakSet()


def _after_fork() -> None:
    for one in [*_all]:
        one._disown()  # noqa: SLF001 - of this module
    _identities.clear()


after_fork_in_child(_after_fork)
