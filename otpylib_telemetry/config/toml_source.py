"""A TOML file as a source for otpylib-config that survives being edited.

otpylib-config reads its sources again and again, and takes what is not there as deleted. A file that is being
saved is, for a moment, empty, half-written or gone: without care every setting in it would fall back to its
default just then. This source therefore keeps what it read last, until the file is whole again.
"""

from __future__ import annotations

import copy
import itertools
import logging
import os
import stat
import time
import tomllib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from otpylib_config.sources import ConfigSource

from otpylib_telemetry.config.interpolation import expand
from otpylib_telemetry.config.tables import with_tables

logger = logging.getLogger(__name__)

#: Seconds. File systems keep times in steps of up to 2 s (FAT): within one, a change need not show in it.
_TIME_STEP = 2.0
#: Seconds a file must have been left alone before what is missing from it is taken as deleted: long enough
#: for any program that writes it in pieces, short enough for whoever waits for the effect.
_QUIET = 1.0
#: Tables below telemetry.<section>.<key> are values, not sections.
_SETTING_DEPTH = 3
#: Levels of tables and lists in each other. otpylib-config and pydantic walk them by calling themselves, and
#: would end in a RecursionError some hundred levels further down.
_DEEPEST = 60
_LONGEST_PATH = 60

_sources: weakref.WeakSet[TomlSource] = weakref.WeakSet()
#: Of sources of one priority, otpylib-config believes the last.
_numbers = itertools.count()


def known_sources() -> list[TomlSource]:
    """Return the sources that exist in this process, for whoever wants to know what is written in them."""
    return sorted(_sources, key=lambda source: str(source.path))


class Written(NamedTuple):
    """What a file says of one key: the value as it counts, None if it gives none; as it is written; where."""

    value: Any
    raw: Any
    path: str


def written_in(section: str) -> dict[str, Written]:
    """Return by key what the files say of a section that otpylib-config reads."""
    found: dict[str, Written] = {}
    in_use = (source for source in _sources if source.in_use)
    for source in sorted(in_use, key=lambda source: (source.priority, source.number)):
        found.update(source.written(section))
    return found


def forget() -> None:
    """Know of no source any more; for tests, which start from nothing."""
    _sources.clear()


class _FileTrouble(Exception):  # noqa: N818  # not an error of the program: the file is in trouble
    """Why the file cannot be used just now, as the rest of a sentence that begins with its path."""


class TomlSource(ConfigSource):  # type: ignore[misc]  # otpylib-config ships no types
    """A TOML file that keeps its last good content while the file is malformed, half-written, empty or gone.

    ``${NAME}`` and ``${NAME:-default}`` in strings are replaced from the environment. Tables that are values,
    such as ``[telemetry.otel.headers]``, are handed over as read-only mappings: otpylib-config would take a
    dict apart into keys of its own.

    Args:
        path: The file. It need not exist yet. A relative path begins at the present working directory,
            wherever the application goes later.
        priority: Where values differ between sources, the higher priority counts.
        environ: The environment variables; by default the process's own.
        wall_clock: Returns seconds since the epoch, on the clock of the file system.
        monotonic: Returns seconds on a clock that only goes forward.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        priority: int = 1,
        environ: Mapping[str, str] | None = None,
        *,
        wall_clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        # An application may change its working directory, as daemons do: the file stays the same one.
        self.path = _absolute(path)
        self._priority = priority
        self.number = next(_numbers)
        self._environ = os.environ if environ is None else environ
        self._wall_clock = wall_clock
        self._monotonic = monotonic
        self._content: dict[str, Any] = {}
        self._written: dict[str, Any] = {}
        self._signature: tuple[int, ...] | None = None
        self._trouble: str | None = None
        self._unset: frozenset[tuple[str, str]] = frozenset()
        self._doubted: tuple[bytes, float] | None = None
        self.reads = 0
        #: How often what it says has changed.
        self.version = 0
        #: Whether otpylib-config reads it.
        self.in_use = False
        _sources.add(self)

    @property
    def priority(self) -> int:
        """Where values differ between sources, the higher priority counts."""
        return self._priority

    @property
    def name(self) -> str:
        """What otpylib-config calls this source."""
        return f"toml:{self.path}"

    @property
    def trouble(self) -> str | None:
        """Why the last good content is in force instead of the file's; None if the file is fine."""
        return self._trouble

    @property
    def left_out(self) -> frozenset[tuple[str, str]]:
        """The keys of which the file, as it is now, gives no value, each with the reason."""
        return self._unset

    async def load(self) -> dict[str, Any]:
        """Return a copy of what the file says or, while it cannot be used, of what it said last.

        otpylib-config finds the tables in it beside their keys: ``Config.get("telemetry.otel")`` is one.
        """
        self.in_use = True
        self.refresh()
        return with_tables(self.content(), self._below())

    def content(self) -> dict[str, Any]:
        """Return a copy of what was read last."""
        content: dict[str, Any] = _copied(self._content)
        return content

    def _below(self) -> list[dict[str, Any]]:
        """Return what the sources say over which this one lies, the weakest first."""
        rank = self._priority, self.number
        ranked = {(source.priority, source.number): source for source in _sources}
        return [ranked[key].content() for key in sorted(ranked) if key < rank]

    def refresh(self, *, at_once: bool = False) -> None:
        """Read the file if it may have changed.

        Never raises; each trouble is logged once, and so is the end of all.

        Args:
            at_once: Believe what it says: whoever asks for that has finished writing it.
        """
        try:
            in_force = self._read_if_changed(at_once=at_once)
        except _FileTrouble as trouble:
            self._signature = None
            if str(trouble) != self._trouble:
                # Once for each: whoever mends one mistake and makes another must hear of that too.
                logger.warning("%s %s. %s", self.path, trouble, self._what_stays())
            self._trouble = str(trouble)
        else:
            if in_force:
                if self._trouble is not None:
                    logger.info("%s is in order again and in force.", self.path)
                self._trouble = None

    def section_keys(self, section: str) -> frozenset[str]:
        """Return the keys written in a section of the file, known or not."""
        full = section if "." in section else f"telemetry.{section}"
        return frozenset(_table_at(self._written, full))

    def written(self, section: str) -> dict[str, Written]:
        """Return by key what is written in a section."""
        values, path = _table_at(self._content, section), str(self.path)
        return {
            key: Written(_copied(values.get(key)), raw, path)
            for key, raw in _table_at(self._written, section).items()
        }

    def telemetry_tables(self) -> dict[str, Any]:
        """Return what is written below ``telemetry``, by section, placeholders not replaced."""
        tables = self._written.get("telemetry")
        return copy.deepcopy(tables) if isinstance(tables, dict) else {}

    def misplaced(self) -> Any:
        """Return what is written under ``telemetry`` where it is no table, or None."""
        written = self._written.get("telemetry")
        return None if isinstance(written, dict) else copy.deepcopy(written)

    def _what_stays(self) -> str:
        if not self._content:
            return "Nothing was read from it yet; it is looked at again at every reload."
        return "What was read from it last stays in force; it is looked at again at every reload."

    def _read_if_changed(self, *, at_once: bool) -> bool:
        """Take over what the file says; False if what it says is not believed yet."""
        status = self._look()
        # The time of the last change of any kind tells of a file that was replaced with the same size and the
        # same time of writing: ``cp -p``, ``tar``, images with fixed times.
        changed_ns = max(status.st_mtime_ns, status.st_ctime_ns)
        signature = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev)
        if signature == self._signature:
            return True
        now = self._wall_clock()
        age = now - status.st_mtime_ns / 1e9
        data = self._read()
        written, too_deep = _parse(data)
        if not at_once and self._is_doubtful(data, written, age):
            self._signature = None
            return False
        self._doubted = None
        # A file that was young when it was read may have changed since without its signature changing.
        self._signature = signature if now - changed_ns / 1e9 >= _TIME_STEP else None
        before, self._written = (self._written, self._content), written
        self._take(written, too_deep)
        self.version += before != (self._written, self._content)
        return True

    def _look(self) -> os.stat_result:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            raise _FileTrouble("does not exist") from None
        except (OSError, ValueError) as error:
            raise _FileTrouble(f"cannot be read: {_os_words(error)}") from None
        if not stat.S_ISREG(status.st_mode):
            # Opening a named pipe would wait for a writer, and the event loop with it.
            raise _FileTrouble("is not a regular file")
        return status

    def _read(self) -> bytes:
        self.reads += 1
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise _FileTrouble(f"cannot be read: {_os_words(error)}") from None

    def _is_doubtful(self, data: bytes, written: Mapping[str, Any], age: float) -> bool:
        """Tell whether a file that parses may still be the first part of what is being written.

        A cut at the end of a line leaves valid TOML with keys missing; one within the last line may leave a
        number with digits missing. Either is believed only once the file has been left alone for a while.
        """
        if not self._content or not (_missing(self._written, written) or not data.endswith(b"\n")):
            return False
        now = self._monotonic()
        if self._doubted is None or self._doubted[0] != data:
            self._doubted = (data, now)
        # A time stamp in the future says nothing about age; how long this content was seen does.
        return age < _QUIET and now - self._doubted[1] < _QUIET

    def _take(self, written: dict[str, Any], too_deep: Iterable[str]) -> None:
        unset = {(path, f"it is nested more than {_DEEPEST} levels deep") for path in too_deep}
        self._content = self._expanded(written, self._content, (), unset)
        for key, problem in sorted(unset - self._unset):
            logger.warning("%s: %s is left out: %s.", self.path, key, problem)
        self._unset = frozenset(unset)

    def _expanded(
        self,
        table: Mapping[str, Any],
        before: Mapping[str, Any],
        path: tuple[str, ...],
        unset: set[tuple[str, str]],
    ) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in table.items():
            here = (*path, key)
            last = before.get(key)
            if isinstance(value, dict) and not _is_setting(here):
                last = last if isinstance(last, dict) else {}
                result[key] = self._expanded(value, last, here, unset)
                continue
            expansion = expand(value, self._environ)
            if expansion.problem is not None:
                # Whether that is in force, beside the other layers, is for the exporter to say.
                what = "gives it no value" if last is None else "counts as giving its value before"
                unset.add((".".join(here), f"{expansion.problem}; the file {what}"))
                if last is not None:
                    result[key] = last
                continue
            is_table = isinstance(expansion.value, dict)
            result[key] = MappingProxyType(expansion.value) if is_table else expansion.value
        return result


def _table_at(table: Any, path: str) -> Mapping[str, Any]:
    for part in path.split("."):
        table = table.get(part) if isinstance(table, Mapping) else None
    return table if isinstance(table, Mapping) else {}


def _is_setting(path: tuple[str, ...]) -> bool:
    return len(path) >= _SETTING_DEPTH and path[0] == "telemetry"


def _parse(data: bytes) -> tuple[dict[str, Any], list[str]]:
    try:
        # Editors on Windows put a byte order mark first, which TOML does not have.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _FileTrouble(f"is not UTF-8 text (line {line})") from None
    if not text.strip():
        raise _FileTrouble("is empty")
    try:
        written = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _FileTrouble(f"is not valid TOML: {error}") from None
    except RecursionError:
        raise _FileTrouble("has tables or lists nested too deeply to be read") from None
    except ValueError as error:
        raise _FileTrouble(f"is not valid TOML ({type(error).__name__})") from None
    if not written:
        raise _FileTrouble("holds nothing but comments")
    return written, _cut_depths(written)


def _absolute(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(path).absolute()
    except FileNotFoundError:
        # The working directory was deleted.
        return Path(path)


def _cut_depths(written: dict[str, Any]) -> list[str]:
    """Take out what is nested too deeply, and return where it stood."""
    cut: list[str] = []
    # Not by recursion, which is what this protects others from. With each holder goes the entry of a table
    # that it is in.
    waiting: list[tuple[Any, int, str, dict[str, Any], str]] = [(written, 0, "", {}, "")]
    for holder, depth, where, table, entry in waiting:
        if depth > _DEEPEST:
            if table.pop(entry, None) is not None:
                cut.append(where if len(where) <= _LONGEST_PATH else f"{where[:_LONGEST_PATH]}...")
        elif isinstance(holder, dict):
            for key, item in holder.items():
                if isinstance(item, (dict, list)):
                    waiting.append((item, depth + 1, f"{where}.{key}" if where else key, holder, key))
        else:
            waiting += [
                (item, depth + 1, where, table, entry) for item in holder if isinstance(item, (dict, list))
            ]
    return cut


def _os_words(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)


def _missing(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return bool(set(_paths(old)) - set(_paths(new)))


def _paths(table: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in table.items():
        yield (*prefix, key)
        if isinstance(value, Mapping):
            yield from _paths(value, (*prefix, key))


def _copied(value: Any) -> Any:
    """Copy tables and lists; a read-only mapping may still hold a list that is not."""
    match value:
        case MappingProxyType():
            return MappingProxyType({key: _copied(item) for key, item in value.items()})
        case dict():
            return {key: _copied(item) for key, item in value.items()}
        case list():
            return [_copied(item) for item in value]
        case _:
            return value
