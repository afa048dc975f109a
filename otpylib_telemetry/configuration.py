"""The configuration of one exporter through time: layers in, settings out, changes remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from otpylib_telemetry import config
from otpylib_telemetry.settings import ExporterSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

S = TypeVar("S", bound=ExporterSettings)


class Configuration(Generic[S]):
    """Keeps the layers apart, and the last good settings in force.

    Args:
        settings_type: The pydantic model of the section.
        section: For instance ``telemetry.otel``.
        argument: What the exporter was started with.
        environ: The environment.
    """

    def __init__(
        self, settings_type: type[S], section: str, argument: Mapping[str, Any], environ: Mapping[str, str]
    ) -> None:
        self.settings_type = settings_type
        self.section = section
        self.generation = 1
        self._argument = dict(argument)
        self._environ = environ
        self._file: dict[str, Any] = {}
        self._file_seen = False
        self._runtime: dict[str, Any] = {}
        #: Entries of tables (``headers.x``) that were changed by themselves in otpylib-config.
        self.entries: set[str] = set()
        self._reported: set[tuple[object, ...]] = set()
        self._changed: set[str] = set()
        self.resolution: config.Resolution[S] = self._resolve(None)

    @property
    def settings(self) -> S:
        """The last good settings."""
        return self.resolution.settings

    @property
    def file(self) -> Mapping[str, Any]:
        """What otpylib-config said last."""
        return self._file

    def restart(self, argument: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        """Begin another life of the exporter: a new argument, while changes made at runtime stay on top."""
        self._argument = dict(argument)
        self._environ = environ
        self._update()
        self._changed.clear()

    def key_of(self, path: object) -> str | None:
        """Return the section's key a path names, or None for a path of another section."""
        prefix = f"{self.section}."
        if isinstance(path, str) and path.startswith(prefix) and len(path) > len(prefix):
            return path[len(prefix) :]
        return None

    def note_entry(self, path: object) -> None:
        """Remember that an entry of one of the section's tables is kept by itself in otpylib-config."""
        key = self.key_of(path)
        if key is not None and key.partition(".")[0] in self.settings_type.model_fields and "." in key:
            self.entries.add(key)

    def change(self, changes: Mapping[str, Any]) -> frozenset[str]:
        """Apply changes made while running; they beat whatever set the value before.

        Args:
            changes: Key to value; None takes the change back. A key ``table.name`` changes one entry of a
                table.

        Returns:
            The keys whose value in force is another now.

        Raises:
            Exception: A value cannot even be looked at; nothing has changed then.
        """
        before = dict(self._runtime)
        try:
            for key, value in changes.items():
                self._change_one(key, value)
            changed = self._update()
        except BaseException:
            self._runtime = before
            raise
        for problem in self.resolution.problems:
            if problem.kind == "rejected" and problem.origin == "runtime":
                self._take_back(problem.keys, before)
                # Whoever asks for it again is told again.
                self._reported.discard(_identity(problem))
        return changed

    def observe(self, snapshot: Mapping[str, Any]) -> frozenset[str]:
        """Take what otpylib-config says now; what differs from the time before is a change made at runtime.

        Args:
            snapshot: Key to value, without the keys that are not set there.

        Returns:
            The keys whose value in force is another now.
        """
        earlier, self._file = self._file, dict(snapshot)
        if not self._file_seen:
            self._file_seen = True
            return self._update()
        if earlier and not snapshot:
            # A whole section that vanishes at once is a source that could not be read, not a wish.
            self._file = earlier
            return frozenset()
        for key in {**earlier, **snapshot}:
            old, new = earlier.get(key), snapshot.get(key)
            if key not in self.settings_type.model_fields or not differ(old, new):
                continue
            if new is None:
                self._runtime.pop(key, None)
            else:
                self._runtime[key] = new
        return self._update()

    def new_problems(self) -> list[config.Problem]:
        """Return the problems nobody was told of yet; one that went away and comes back is told again."""
        fresh = [problem for problem in self.resolution.problems if _identity(problem) not in self._reported]
        self._reported = {_identity(problem) for problem in self.resolution.problems}
        return fresh

    def take_changed(self) -> frozenset[str]:
        """Return the keys that changed since this was asked last."""
        changed = frozenset(self._changed)
        self._changed.clear()
        return changed

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration in force, where each value came from, and what is wrong; no secrets."""
        return {
            "section": self.section,
            "generation": self.generation,
            "config": config.redacted(self.resolution),
            "origins": dict(self.resolution.origins),
            "problems": [problem.message for problem in self.resolution.problems],
        }

    def _change_one(self, key: str, value: Any) -> None:
        table, dot, entry = key.partition(".")
        if dot and table in self.settings_type.model_fields:
            current = dict(getattr(self.settings, table) or {})
            if value is None:
                current.pop(entry, None)
            else:
                current[entry] = value
            self._runtime[table] = current
        elif value is None:
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
        changed = config.changed_keys(earlier.settings, self.resolution.settings)
        if changed:
            self.generation += 1
            self._changed |= changed
        return changed

    def _resolve(self, previous: config.Resolution[S] | None) -> config.Resolution[S]:
        return config.resolve(
            self.settings_type,
            self.section,
            environ=self._environ,
            config=self._file,
            argument=self._argument,
            runtime=self._runtime,
            previous=previous,
        )


def differ(old: object, new: object) -> bool:
    """Tell whether a value is another one; 1 and true are, and so is whatever cannot be compared."""
    try:
        return type(old) is not type(new) or bool(old != new)
    except Exception:  # noqa: BLE001  # values put in by the application may do anything
        return old is not new


def _identity(problem: config.Problem) -> tuple[object, ...]:
    return problem.key, problem.kind, problem.token
