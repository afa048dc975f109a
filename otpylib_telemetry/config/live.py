"""The configuration of one exporter through time: layers in, settings out, changes remembered."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Generic

from otpylib_telemetry.config import resolve, sections, toml_source
from otpylib_telemetry.config.interpolation import expand
from otpylib_telemetry.config.redaction import scrubber, secret_texts
from otpylib_telemetry.config.resolution import Problem, Resolution, S, changed_keys, redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

#: Keys that are remembered for having been changed in otpylib-config, at most.
MOST_ENTRIES = 1000

#: Secret texts that are remembered, those of the past included: an error may still speak of them.
MOST_SECRETS = 200

#: Values of one key that are remembered.
LONGEST_HISTORY = 20


class LiveConfig(Generic[S]):
    """Keeps the layers of one section apart, and the last good settings in force."""

    def __init__(
        self, settings_type: type[S], section: str, argument: Mapping[str, Any], environ: Mapping[str, str]
    ) -> None:
        self.settings_type = settings_type
        self.section = section
        self.generation = 1
        self._argument = dict(argument)
        self._environ = environ
        self._directory = _working_directory()
        self._file: dict[str, Any] = {}
        self._file_seen = False
        self._manager: object = None
        # By key, what otpylib-config said before it said what it says now.
        self._history: dict[str, list[Any]] = {}
        # By key, the TOML file it was last seen in.
        self._holders: dict[str, str] = {}
        # What the TOML files have, by key, placeholders not replaced.
        self._written: dict[str, Any] = {}
        #: Whether otpylib-config has lost the whole section, which is not believed.
        self.doubted = False
        self._runtime: dict[str, Any] = {}
        # Which of these changes are edits of a TOML file.
        self._edited: set[str] = set()
        #: Keys to ask otpylib-config for beside the known ones: entries of tables (``headers.x``) that were
        #: changed by themselves, and unknown keys that somebody put.
        self.entries: set[str] = set()
        self._reported: set[tuple[object, ...]] = set()
        self._secret_texts: dict[str, None] = {}
        self._scrub: Callable[[str], str] | None = None
        self.resolution: Resolution[S] = self._resolve(None)
        # What this life of the exporter goes by, key by key; None while it has nothing but what is wanted.
        self._in_force: Resolution[S] | None = None

    @property
    def settings(self) -> S:
        """The last good settings: those that are wanted."""
        return self.resolution.settings

    @property
    def in_force(self) -> S:
        """The settings that the exporter goes by, while it is being brought in line with those wanted."""
        return (self._in_force or self.resolution).settings

    @property
    def file(self) -> Mapping[str, Any]:
        """What otpylib-config said last."""
        return self._file

    def restart(self, argument: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        """Begin another life of the exporter: a new argument, while changes made at runtime stay on top."""
        self._argument = dict(argument)
        self._environ = environ
        self._in_force = None
        self._update()

    def key_of(self, path: object) -> str | None:
        """Return the section's key a path names, or None for a path of another section."""
        prefix = f"{self.section}."
        if isinstance(path, str) and path.startswith(prefix) and len(path) > len(prefix):
            return path[len(prefix) :]
        return None

    def note_entry(self, path: object) -> None:
        """Remember a key of otpylib-config that only whoever asks for it by name gets to see."""
        key = self.key_of(path)
        if key is None or key in self.settings_type.model_fields:
            return
        if len(self.entries) < MOST_ENTRIES:
            self.entries.add(key)

    def scrub(self, text: str) -> str:
        """Return a text without what came from secret settings or a ``${...}``, now or earlier."""
        if self._scrub is None:
            self._scrub = scrubber(self._secret_texts)
        return self._scrub(text)

    def change(self, changes: Mapping[str, Any]) -> frozenset[str]:
        """Apply changes made while running, which beat every other layer; return the keys that changed.

        None takes a change back. A key ``table.name`` changes one entry of a table. Where a value cannot even
        be looked at, the exception passes and nothing has changed.
        """
        before, edited = dict(self._runtime), set(self._edited)
        try:
            for key, value in changes.items():
                self._change_one(key, value)
            changed = self._update()
        except BaseException:
            self._runtime, self._edited = before, edited
            raise
        for problem in self.resolution.problems:
            if problem.kind == "rejected" and problem.origin == "runtime":
                # What was to protect something goes on being asked for: it must not be open after all.
                self._take_back(() if problem.withholds else problem.keys, before)
                # Whoever asks for it again is told again.
                self._reported.discard(_identity(problem))
        return changed

    def observe(self, snapshot: Mapping[str, Any], manager: object = None) -> frozenset[str]:
        """Take what otpylib-config says now; what differs from the last time is a change made at runtime.

        What was put into a config manager that crashed is missing from the next one. Where the ``manager`` is
        another, a value that is back to what it was is therefore no wish: the change stays, unless a TOML
        file was edited meanwhile. Returns the keys whose value in force changed.
        """
        replaced, self._manager = self._manager != manager, manager
        earlier, self._file = self._file, dict(snapshot)
        if not self._file_seen:
            self._file_seen = True
            self._note_files()
            return self._update()
        lost = {key for key in {**earlier, **snapshot} if replaced and self._is_back(key, snapshot.get(key))}
        self.doubted = bool(earlier) and not snapshot and not self._is_believable(earlier.keys() - lost)
        if self.doubted:
            # A whole section that vanishes at once is a source that could not be read, not a wish.
            self._file = earlier
            return frozenset()
        written = self._written
        self._note_files()
        for key in {**earlier, **snapshot}:
            old, new = earlier.get(key), snapshot.get(key)
            if key not in self.settings_type.model_fields or not differ(old, new):
                continue
            if key in lost:
                continue
            self._history[key] = [*self._history.get(key, ()), old][-LONGEST_HISTORY:]
            self._set(key, new, edited=differ(written.get(key), self._written.get(key)))
        return self._update()

    def _is_back(self, key: str, value: Any) -> bool:
        """Tell whether a key is back to an earlier value without anybody having written that."""
        if differ(self._written.get(key), self._in_files().get(key)):
            return False
        return any(not differ(value, known) for known in self._history.get(key, ()))

    def _note_files(self) -> None:
        self._written = self._in_files()
        for source in toml_source.known_sources():
            self._holders.update(dict.fromkeys(source.section_keys(self.section), source.name))

    def _in_files(self) -> dict[str, Any]:
        table = sections.written().get(self.section.removeprefix("telemetry."))
        return table if isinstance(table, dict) else {}

    def _is_believable(self, gone: Iterable[str]) -> bool:
        """Tell whether keys are gone because they were deleted from files that are in order."""
        sound = {
            source.name
            for source in toml_source.known_sources()
            if source.trouble is None and not source.section_keys(self.section)
        }
        return all(self._holders.get(key) in sound for key in gone)

    def new_problems(self) -> list[Problem]:
        """Return the problems nobody was told of yet; one that went away and comes back is told again."""
        fresh = [problem for problem in self.resolution.problems if _identity(problem) not in self._reported]
        self._reported = {_identity(problem) for problem in self.resolution.problems}
        return fresh

    def put_in_force(self, settings: S, wanted: Resolution[S]) -> None:
        """Hear what the exporter goes by: of each key what is ``wanted``, or what it had before."""
        before = self._in_force or wanted
        kept = changed_keys(wanted.settings, settings)
        origins = {**wanted.origins, **{key: before.origins[key] for key in kept}}
        secrets = (wanted.secrets - kept) | (before.secrets & kept)
        self._in_force = Resolution(settings, origins, secrets)

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration in force, where each value came from, and what is wrong; no secrets.

        Of the keys for which another value is wanted, that is under ``wished``.
        """
        wanted, found = self.resolution, self._in_force or self.resolution
        wished = redacted(wanted)
        return {
            "section": self.section,
            "generation": self.generation,
            "config": redacted(found),
            "wished": {key: wished[key] for key in sorted(changed_keys(wanted.settings, found.settings))},
            "origins": dict(found.origins),
            "problems": [problem.message for problem in wanted.problems],
            "files": {str(source.path): source.trouble for source in toml_source.known_sources()},
        }

    def _change_one(self, key: str, value: Any) -> None:
        table, dot, entry = key.partition(".")
        if dot and table in self.settings_type.model_fields:
            current = dict(getattr(self.settings, table) or {})
            if value is None:
                current.pop(entry, None)
            else:
                current[entry] = value
            self._set(table, current)
        else:
            self._set(key, value)

    def _set(self, key: str, value: Any, *, edited: bool = False) -> None:
        (self._edited.add if edited else self._edited.discard)(key)
        if value is None:
            self._runtime.pop(key, None)
        else:
            self._runtime[key] = value

    def _take_back(self, keys: Iterable[str], before: Mapping[str, Any]) -> None:
        """Undo refused changes, which must not come into force by themselves some time later."""
        for key in keys:
            if key in before:
                self._runtime[key] = before[key]
            else:
                self._runtime.pop(key, None)

    def _update(self) -> frozenset[str]:
        earlier = self.resolution
        self.resolution = self._resolve(earlier)
        changed = changed_keys(earlier.settings, self.resolution.settings)
        if changed:
            self.generation += 1
        return changed

    def _left_out(self) -> dict[str, Any]:
        """Return what was to protect something, is in a TOML file and cannot be read, as it is written there.

        Whoever reads the file leaves out what names a variable that is not set.
        """
        return {
            key: value
            for key, value in self._written.items()
            if self.settings_type.meant_protection(key) is not None
            and expand(value, self._environ).problem is not None
        }

    def _resolve(self, previous: Resolution[S] | None) -> Resolution[S]:
        resolution = resolve.resolve(
            self.settings_type,
            self.section,
            environ=self._environ,
            config={**self._left_out(), **self._file},
            argument=self._argument,
            runtime={key: value for key, value in self._runtime.items() if key not in self._edited},
            edited={key: value for key, value in self._runtime.items() if key in self._edited},
            previous=previous,
            directory=self._directory,
        )
        for key in resolution.secrets:
            for text in secret_texts(getattr(resolution.settings, key, None)):
                # The latest ones last: those in force are never among the ones forgotten.
                self._secret_texts.pop(text, None)
                self._secret_texts[text] = None
        self._forget_oldest_secrets()
        return resolution

    def _forget_oldest_secrets(self) -> None:
        for text in list(self._secret_texts)[:-MOST_SECRETS]:
            del self._secret_texts[text]
        self._scrub = None


def _working_directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109  # settings have paths as text
    except OSError:  # it was deleted
        return None


def differ(old: object, new: object) -> bool:
    """Tell whether a value is another one; 1 and true are, and so is whatever cannot be compared."""
    try:
        return type(old) is not type(new) or bool(old != new)
    except Exception:  # noqa: BLE001  # values put in by the application may do anything
        return old is not new


def _identity(problem: Problem) -> tuple[object, ...]:
    return problem.key, problem.kind, problem.token
