"""What all workers have written, as one: the reading side of a directory that many processes share.

What is merged is merged by prometheus_client itself. What is done here is to choose the files, and to see to
it that none of them can spoil a scrape: a file that is empty, torn, somebody else's or gone is left out,
counted, and said once.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from otpylib_telemetry.metrics.labels import number_text
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry_prometheus.multiprocess.client_files import is_client_file
from otpylib_telemetry_prometheus.multiprocess.entries import BadFileError, FileChecks, prefix_of
from otpylib_telemetry_prometheus.multiprocess.files import POWERS, Layout, Version, client, scan

_log = logging.getLogger("otpylib_telemetry.prometheus")

#: How often a scrape is begun anew because a worker came, moved or went meanwhile.
_ATTEMPTS: Final = 4

#: How many files are remembered that have been complained about.
_MAX_SAID: Final = 1_000

#: What files a metric is in, by the beginnings of their names.
_Shape: TypeAlias = "frozenset[str]"


class _File(NamedTuple):
    """A file that counts, and since when its worker writes there."""

    path: Path
    alive: bool
    since_ns: int


class Reader:
    """Merges what is under a root, and the files prometheus_client itself keeps beside it."""

    def __init__(self, root: Path, own_files: Path | None = None) -> None:
        self.skipped = 0
        self.clashes: set[str] = set()
        self._root = root
        self._own_files = own_files
        self._checks = FileChecks()
        self._said = Once(_MAX_SAID)

    def collect(self) -> list[Any]:
        """Return the metrics, each merged over the workers.

        Whoever is asked, it is the same: where workers differ in what a metric looks like, that is shown
        which most of them have.
        """
        merged: dict[str, Any] = {}
        for _attempt in range(_ATTEMPTS):
            layout = scan(self._root)
            chosen = _chosen(layout)
            merged = self._merged(chosen)
            if scan(self._root) == layout:
                break
        if self._own_files is not None:
            # What our own workers have written for prometheus_client's collector is among ours already.
            files = sorted(path for path in self._own_files.glob("*.db") if not is_client_file(path))
            theirs = self._merge(files)
            for name in theirs.keys() & merged.keys():
                if name not in self.clashes:
                    self.clashes.add(name)
                    _log.warning(
                        "The metric %s of prometheus_client's files in %s is left out: a metric made of "
                        "events has its name.",
                        name,
                        self._own_files,
                    )
            merged = theirs | merged
        self._checks.forget_gone()
        return [merged[name] for name in sorted(merged)]

    def _merged(self, versions: list[Version]) -> dict[str, Any]:
        """Return the metrics of all workers, of each those numbers that can be added up."""
        found = [(file, number) for number, version in enumerate(versions) for file in _files(version)]
        usable = set(self._usable([file.path for file, _ in found]))
        found = [(file, number) for file, number in found if file.path in usable]
        paths = [file.path for file, _ in found]
        merged = self._merge(paths, checked=True)
        alone: dict[_Shape, dict[str, Any]] = {}
        for name, shape in self._chosen_shapes(found).items():
            if shape not in alone:
                some = [path for path in paths if prefix_of(path) in shape]
                alone[shape] = self._merge(some, checked=True)
            # What could be merged a moment ago may have gone with its worker.
            merged.pop(name, None)
            if name in alone[shape]:
                merged[name] = alone[shape][name]
        wide = {name for path in paths if prefix_of(path) == POWERS for name in self._checks.names(path)}
        for name in wide & merged.keys():
            _share_bounds(merged[name])
        return merged

    def _chosen_shapes(self, found: list[tuple[_File, int]]) -> dict[str, _Shape]:
        """Return the metrics that do not look the same everywhere, and what is shown of them.

        What most living workers have is shown; if two are alike in that, what the worker has that began last.
        """
        prefixes: dict[tuple[str, int], set[str]] = {}
        owners: dict[tuple[str, str], list[_File]] = {}
        for file, number in found:
            prefix = prefix_of(file.path)
            for name in self._checks.names(file.path):
                prefixes.setdefault((name, number), set()).add(prefix)
                owners.setdefault((name, prefix), []).append(file)
        shapes: dict[str, set[_Shape]] = {}
        for (name, _), some in prefixes.items():
            histograms = {prefix for prefix in some if prefix.startswith("histogram")}
            every = [frozenset({prefix}) for prefix in histograms]
            every += [frozenset(some - histograms)] if some - histograms else []
            shapes.setdefault(name, set()).update(every)

        def rank(name: str, shape: _Shape) -> tuple[int, int, list[str]]:
            files = [file for prefix in shape for file in owners.get((name, prefix), ())]
            alive = {file.path.parent for file in files if file.alive}
            return len(alive), max((file.since_ns for file in files), default=0), sorted(shape)

        return {
            name: max(every, key=lambda shape: rank(name, shape))
            for name, every in shapes.items()
            if len(every) > 1
        }

    def _merge(self, files: list[Path], *, checked: bool = False) -> dict[str, Any]:
        usable = files if checked else self._usable(files)
        merge = client("multiprocess").MultiProcessCollector.merge
        try:
            metrics = merge([str(path) for path in usable], accumulate=True)
        except Exception:  # noqa: BLE001 - one of the files has gone or changed since it was looked at
            with tempfile.TemporaryDirectory(prefix="otpylib-") as copies:
                metrics = merge(self._copied(usable, Path(copies)), accumulate=True)
        return {metric.name: metric for metric in metrics}

    def _copied(self, files: list[Path], directory: Path) -> list[str]:
        """Copy files to where nobody changes them; what cannot be merged is left out."""
        copies = []
        merge = client("multiprocess").MultiProcessCollector.merge
        for number, path in enumerate(files):
            copy = directory / str(number) / path.name
            copy.parent.mkdir()
            try:
                shutil.copyfile(path, copy)
                FileChecks().check(copy)
                merge([str(copy)], accumulate=True)
            except FileNotFoundError:
                continue
            except Exception as error:  # noqa: BLE001 - whatever it is, the scrape goes on without this file
                self._skip(path, str(error) or type(error).__name__)
            else:
                copies.append(str(copy))
        return copies

    def _usable(self, files: list[Path]) -> list[Path]:
        usable = []
        for path in files:
            try:
                self._checks.check(path)
            except FileNotFoundError:
                continue
            except (OSError, BadFileError) as error:
                self._skip(path, str(error))
            else:
                usable.append(path)
        return usable

    def _skip(self, path: Path, reason: str) -> None:
        self.skipped += 1
        if self._said.is_news(path):
            _log.warning("%s is left out of the metrics of all workers: %s.", path, reason)


def _chosen(layout: Layout) -> list[Version]:
    """Return the versions that count: those that a living worker uses, or the last one if all are dead."""
    alive = [version for version in layout.versions if any(worker.alive() for worker in version.workers)]
    return alive or list(layout.versions[:1])


def _files(version: Version) -> list[_File]:
    """Return the files of a version that count; the gauges of living workers are gone with their workers."""
    found = [_File(path, alive=False, since_ns=0) for path in version.sum_files()]
    for worker in version.workers:
        alive, since_ns = worker.alive(), worker.since_ns()
        found += [
            _File(path, alive=alive, since_ns=since_ns)
            for path in worker.files()
            if alive or not path.name.startswith("gauge_live")
        ]
    return found


def _share_bounds(metric: Any) -> None:
    """Give all series of a histogram the bounds that any of them has: others cannot be added up.

    A bound that a series does not have itself lies where it has nothing.
    """
    series: dict[tuple[tuple[str, str], ...], tuple[dict[float, Any], list[Any]]] = {}
    for sample in metric.samples:
        labels = tuple((name, text) for name, text in sample.labels.items() if name != "le")
        buckets, others = series.setdefault(labels, ({}, []))
        if "le" in sample.labels:
            buckets[float(sample.labels["le"])] = sample
        else:
            others.append(sample)
    bounds = sorted({bound for buckets, _ in series.values() for bound in buckets})
    texts = [number_text(bound) for bound in bounds]
    metric.samples = []
    for labels, (buckets, others) in series.items():
        value = 0.0
        for bound, text in zip(bounds, texts, strict=True):
            own = buckets.get(bound)
            if own is not None:
                value = own.value
            told = {**dict(labels), "le": text}
            metric.add_sample(f"{metric.name}_bucket", told, value)
        metric.samples += others
