"""Where the workers of one application keep their numbers for each other: directories, locks, files.

Under the directory of ``PROMETHEUS_MULTIPROC_DIR`` each exporter has a root of its own::

    otpylib-<exporter>/
        lock                        held by whoever cleans up
        <version>/                  a directory per schema of metrics: what cannot be merged lies apart
            manifest.json           what became of workers that have died; replaced in one step
            dead-<number>/          the sums of those workers
            w-<pid>-<token>-<generation>/
                alive               locked as long as the worker lives
                counter_<pid>.db ...
                histogram_<buckets>_<pid>.db ...

The files are prometheus_client's own, by format and by name. Histograms of different buckets lie in different
files, whose names tell the buckets: not every bound is in a setting that the version could tell, and numbers
of different buckets must not be added up, not even those of dead workers.

A worker's directory is built under another name and appears complete, by being renamed. Its token is its
alone, whatever its pid; of its generations the last one counts, wherever it lies.

Whether a worker lives is told by a lock on its file, not by its pid: a pid is given to somebody else in time,
and means nothing in another container, while the system lets go of a lock at the moment its holder dies.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from otpylib_telemetry.primitives.fork import import_module

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

try:
    import fcntl
except ImportError:  # where there is none, there are no forking servers either
    fcntl = None  # type: ignore[assignment]


#: Goes into the name of every version: a layout that is not this one is not read.
_FORMAT: Final = 2

_ADDRESS: Final = re.compile(r" at 0x[0-9A-Fa-f]+")
_VERSION: Final = re.compile(r"[0-9a-f]{16}")
_WORKER: Final = re.compile(r"w-(\d+)-([0-9a-f]+)-(\d+)")
#: The beginning of the names of files of exponential histograms, whose bounds are powers of two and may be
#: different ones in every series.
POWERS: Final = "histogram_powers"

_MANIFEST: Final = "manifest.json"
_ALIVE: Final = "alive"
_USED: Final = "used"

#: The environment variable that tells prometheus_client, and us, where to write.
VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"

#: The registered name of the exporter unless it was given another.
EXPORTER: Final = "prometheus_exporter"


class MultiprocessError(Exception):
    """Numbers cannot be shared between processes; the message says why, and what can be done."""


def client(module: str) -> ModuleType:
    """Import a module of prometheus_client.

    Whether the variable was set before or after prometheus_client is imported makes no difference here: only
    the metrics that are declared with prometheus_client itself depend on it.
    """
    try:
        return import_module(f"prometheus_client.{module}")
    except ImportError as error:
        raise MultiprocessError(
            "PROMETHEUS_MULTIPROC_DIR (multiprocess_dir) needs prometheus_client, which cannot be imported "
            f"({error}): install otpylib-telemetry[client], or unset it"
        ) from error


def root_of(directory: str | os.PathLike[str], exporter: str) -> Path:
    """Return where the workers of one exporter meet."""
    return Path(directory) / f"otpylib-{re.sub(r'[^A-Za-z0-9_.-]', '_', exporter)}"


def version_name(schema: object) -> str:
    """Return the name of the directory for one schema."""
    text = _ADDRESS.sub("", repr((_FORMAT, schema)))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


@dataclass(frozen=True, slots=True, order=True)
class Worker:
    """What one worker has written in one version; ``token`` tells it from every other there ever was."""

    token: str
    generation: int
    pid: int
    path: Path

    @classmethod
    def at(cls, path: Path) -> Worker | None:
        """Return the worker a directory is of, or None if it is of none."""
        match = _WORKER.fullmatch(path.name)
        return None if match is None else cls(match[2], int(match[3]), int(match[1]), path)

    def alive(self) -> bool:
        """Tell whether its process still runs."""
        return held(self.path / _ALIVE)

    def since_ns(self) -> int:
        """Return when it began to write there; 0 if it has gone."""
        try:
            return (self.path / _ALIVE).stat().st_mtime_ns
        except OSError:
            return 0

    def files(self) -> list[Path]:
        """Return its files; none if it has gone."""
        return _databases(self.path)


class Manifest(NamedTuple):
    """Which directory has the sums of dead workers (0: none), and which went into it last."""

    number: int = 0
    absorbed: frozenset[str] = frozenset()

    @classmethod
    def read(cls, version: Path) -> Manifest:
        """Return the manifest of a version; that of an empty one if there is none."""
        try:
            content = json.loads((version / _MANIFEST).read_bytes())
            return cls(int(content["number"]), frozenset(map(str, content["absorbed"])))
        except FileNotFoundError:
            return cls()
        except (ValueError, TypeError, KeyError):
            # Somebody else has been at it. The last sums are the best there is.
            numbers = [path.name.removeprefix("dead-") for path in version.glob("dead-*")]
            return cls(max((int(number) for number in numbers if number.isdecimal()), default=0))

    def write(self, version: Path) -> None:
        """Put this manifest into force, in one step that outlives a crash of the machine."""
        draft = version / f".{_MANIFEST}"
        with draft.open("w", encoding="ascii") as file:
            json.dump({"number": self.number, "absorbed": sorted(self.absorbed)}, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(version / _MANIFEST)
        sync(version)


class Version(NamedTuple):
    """A directory of one schema, as it was found; its manifest tells of workers that are not listed."""

    path: Path
    used_ns: int
    manifest: Manifest
    workers: tuple[Worker, ...]

    def sums(self) -> Path | None:
        """Return the directory of the sums of dead workers, if there is one."""
        return sums_at(self.path, self.manifest.number) if self.manifest.number else None

    def sum_files(self) -> list[Path]:
        """Return the files in it."""
        sums = self.sums()
        return [] if sums is None else _databases(sums)


class Layout(NamedTuple):
    """Everything under a root, as it was found: the version used last comes first."""

    versions: tuple[Version, ...] = ()
    superseded: tuple[Path, ...] = ()


def scan(root: Path) -> Layout:
    """Look up what there is."""
    found: list[tuple[Path, int, Manifest, list[Worker]]] = []
    newest: dict[str, int] = {}
    for path in _listed(root):
        if not _VERSION.fullmatch(path.name):
            continue
        with contextlib.suppress(OSError):
            used_ns = _used_ns(path)
            manifest = Manifest.read(path)
            workers = [
                worker
                for worker in map(Worker.at, _listed(path))
                if worker is not None and worker.path.name not in manifest.absorbed
            ]
            found.append((path, used_ns, manifest, workers))
            for worker in workers:
                newest[worker.token] = max(worker.generation, newest.get(worker.token, 0))
    versions: list[Version] = []
    superseded: list[Path] = []
    for path, used_ns, manifest, workers in found:
        current = [worker for worker in workers if worker.generation == newest[worker.token]]
        superseded += [worker.path for worker in workers if worker.generation != newest[worker.token]]
        versions.append(Version(path, used_ns, manifest, tuple(sorted(current))))
    versions.sort(key=lambda version: (-version.used_ns, version.path.name))
    return Layout(tuple(versions), tuple(superseded))


def mark_used(version: Path) -> None:
    """Note that a worker uses a version from now on."""
    (version / _USED).touch()


def sums_at(version: Path, number: int) -> Path:
    """Return the directory of sums of this number."""
    return version / f"dead-{number}"


def sync(directory: Path) -> None:
    """Make what was renamed in a directory outlive a crash of the machine."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(directory: Path) -> None:
    """Remove a directory with all that is in it, as far as it lets itself be removed."""
    shutil.rmtree(directory, ignore_errors=True)


def has_lock() -> bool:
    """Tell whether this system has the locks that all of this rests on."""
    return fcntl is not None


def hold(path: Path) -> int | None:
    """Lock a file, which is made if need be."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def hold_alive(directory: Path) -> int | None:
    """Lock the file that tells that a worker lives; see :func:`hold`."""
    return hold(directory / _ALIVE)


def held(path: Path) -> bool:
    """Tell whether somebody has a file locked; a file that is not there nobody has.

    In doubt somebody has: to take a living worker for a dead one does damage, the other error passes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        # Shared, so that two who ask at the same time do not take each other for the worker.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def histogram_prefix(bounds: Iterable[float]) -> str:
    """Return the beginning of the names of files of histograms with these buckets."""
    text = repr([float(bound) for bound in bounds])
    return f"histogram_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _used_ns(version: Path) -> int:
    try:
        return (version / _USED).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _databases(directory: Path) -> list[Path]:
    return sorted(path for path in _listed(directory) if path.name.endswith(".db"))


def _listed(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []
