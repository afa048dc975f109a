"""What otpylib-config said of a section, and what its TOML files say, told apart by who said it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.config import sections, toml_source
from otpylib_telemetry.config.interpolation import expand
from otpylib_telemetry.config.layers import Given

if TYPE_CHECKING:
    from collections.abc import Collection

    from otpylib_telemetry.config.settings import SectionSettings

#: Values of one key that are remembered.
LONGEST_HISTORY = 20

#: The origin of what was put into otpylib-config, and of what another of its sources says.
PUT = "put"
OTHER_SOURCE = "config"


def differ(old: object, new: object) -> bool:
    """Tell whether a value is another one; 1 and true are, and so is whatever cannot be compared."""
    try:
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            return dict(old) != dict(new)
        return type(old) is not type(new) or bool(old != new)
    except Exception:  # noqa: BLE001  # values put in by the application may do anything
        return old is not new


class Observed:
    """What is known of one section from otpylib-config and its files.

    The files are heard of at once, otpylib-config when it says so: it may still have what a file said before,
    and it has for ever what was put into it before a file was edited.
    """

    def __init__(self, section: str) -> None:
        self.section = section
        #: What otpylib-config said last.
        self.snapshot: dict[str, Any] = {}
        #: What was said last of each key, there or in a file, with its origin.
        self.layer: dict[str, Given] = {}
        #: What the TOML files have, by key, placeholders not replaced.
        self.written: dict[str, Any] = {}
        self.is_seen = False
        #: Whether otpylib-config has lost the whole section, which is not believed.
        self.doubted = False
        self._manager: object = None
        # What this manager is known to hold as put.
        self._held: set[str] = set()
        # By key, what was put again and not read yet, which may be of equal worth and another type.
        self._put_again: dict[str, Any] = {}
        self._files: dict[str, toml_source.Written] = {}
        # By key, what otpylib-config, and what the files, said before they said what they say now.
        self._history: dict[str, list[Any]] = {}
        self._in_files_before: dict[str, list[Any]] = {}
        # What was heard of since somebody asked: key, old and new value.
        self._told: list[tuple[str, Any, Any]] = []

    def begin(self, snapshot: Mapping[str, Any], manager: object, puts: Collection[str] | None) -> None:
        """Take what there is at first."""
        self.is_seen, self._manager, self.snapshot = True, manager, dict(snapshot)
        self._held = set(puts or ())
        self._files = toml_source.written_in(self.section)
        self._note_files()
        for key, value in snapshot.items():
            in_file = self._files.get(key)
            if in_file is not None and not differ(in_file.value, value):
                self.layer[key] = Given(value, f"file {in_file.path}")
            else:
                self.layer[key] = Given(value, PUT if puts is not None and key in puts else OTHER_SOURCE)

    def edits(self) -> dict[str, Given]:
        """Return by key what was edited in the files since the last time; None as value if it was deleted."""
        if not self.is_seen:
            return {}
        before, self._files = self._files, toml_source.written_in(self.section)
        self._note_files()
        found: dict[str, Given] = {}
        for key in {**before, **self._files}:
            old, new = before.get(key), self._files.get(key)
            written = new or old
            if written is None or (old is not None and new is not None and not _edited(old, new)):
                continue
            _remember(self._in_files_before, key, None if old is None else old.value)
            if old is not None and self._is_overridden(key, old.value):
                continue
            found[key] = Given(None if new is None else new.value, f"file {written.path}")
            self._note(key, found[key])
            self._told.append((key, None if old is None else old.value, found[key].value))
        return found

    def differences(
        self, snapshot: Mapping[str, Any], manager: object, puts: Collection[str] | None
    ) -> dict[str, Given]:
        """Return by key what was changed in otpylib-config since the last time, but not by its files.

        What was put into a config manager that crashed is missing from the next one. Where the ``manager`` is
        another, a value that is back to what it was is therefore no wish, nor is what lies below a put,
        unless a TOML file was edited meanwhile. ``puts`` are the keys that were put, None where nobody knows.
        """
        replaced, self._manager = self._manager != manager, manager
        held = set[str]() if replaced else self._held
        self._held = held if puts is None else set(puts)
        earlier = self.snapshot
        not_put = set[str]()
        if puts is not None:
            not_put = {key for key, given in self.layer.items() if given.origin == PUT and key not in puts}
        # What only an earlier manager held was not taken back.
        taken_back = not_put & held
        lost = set[str]()
        if replaced:
            lost = not_put | {key for key in {**earlier, **snapshot} if self._is_back(key, snapshot.get(key))}
        # What was deleted from a file is in the layer no more.
        gone = (earlier.keys() & self.layer.keys()) - lost - taken_back
        self.doubted = bool(gone) and not snapshot
        if self.doubted:
            # A whole section that vanishes at once is a source that could not be read, not a wish.
            return {}
        self.snapshot = dict(snapshot)
        found: dict[str, Given] = {}
        for key in {**earlier, **snapshot}:
            old, new = earlier.get(key), snapshot.get(key)
            if key in lost or not (differ(old, new) or key in taken_back):
                continue
            _remember(self._history, key, old)
            told = self._put_again.pop(key, None)
            if told is not None and key not in taken_back and not differ(told, new):
                continue
            is_put = key in puts if puts is not None else not self._says_a_file(key, new)
            is_held = puts is None or key in held
            given = Given(new, PUT) if is_put else self._from_source(key, new, is_held=is_held)
            if given is not None:
                found[key] = given
                self._note(key, given, new)
                self._told.append((key, old, new))
        return found

    def put_again(self, values: Mapping[str, Any]) -> dict[str, Given]:
        """Return by key what was put though otpylib-config held it already: a wish all the same."""
        found: dict[str, Given] = {}
        for key, value in values.items() if self.is_seen else ():
            table, dot, _ = key.partition(".")
            # Of an entry of a table, all of the table was read.
            given = Given(self.snapshot.get(table) if dot else value, PUT)
            if given.value is not None:
                found[table] = self.layer[table] = given
                self._put_again[table] = given.value
                self._held.add(table)
                self._told.append((table, self.snapshot.get(table), given.value))
        return found

    def left_out(self, settings_type: type[SectionSettings], environ: Mapping[str, str]) -> dict[str, Any]:
        """Return what was to protect something, is in a TOML file and cannot be read, as it is written there.

        Whoever reads the file leaves out what names a variable that is not set.
        """
        return {
            key: value
            for key, value in self.written.items()
            if settings_type.meant_protection(key) is not None and expand(value, environ).problem is not None
        }

    def told(self) -> list[tuple[str, Any, Any]]:
        """Return what was heard of since this was last asked: keys, each with its old and its new value."""
        told, self._told = self._told, []
        return told

    def _from_source(self, key: str, value: Any, *, is_held: bool) -> Given | None:
        """Return what a source of otpylib-config makes of a key; None if a file has said so before."""
        before, in_file = self.layer.get(key), self._files.get(key)
        if before is not None and before.origin == PUT and is_held:
            # The put was taken back.
            return Given(None, PUT)
        is_in_file = in_file is not None and value is not None and not differ(value, in_file.value)
        if before is None or before.origin != OTHER_SOURCE:
            is_heard = (before is None) == (value is None)
            if self._says_a_file(key, value) and (is_heard or not is_in_file):
                return None
        return Given(value, f"file {in_file.path}" if is_in_file and in_file is not None else OTHER_SOURCE)

    def _note(self, key: str, given: Given, said: Any = None) -> None:
        """Note what counts of a key; ``said`` is what otpylib-config has where a put was taken back."""
        in_file = self._files.get(key)
        if given.value is not None:
            self.layer[key] = given
        elif said is not None and not self._says_a_file(key, said):
            self.layer[key] = Given(said, OTHER_SOURCE)
        elif in_file is not None and in_file.value is not None:
            self.layer[key] = Given(in_file.value, f"file {in_file.path}")
        else:
            self.layer.pop(key, None)

    def _says_a_file(self, key: str, value: Any) -> bool:
        """Tell whether a file says so of a key, or did before otpylib-config came to read it."""
        in_file = self._files.get(key)
        now = None if in_file is None else in_file.value
        return any(not differ(value, each) for each in (now, *self._in_files_before.get(key, ())))

    def _is_overridden(self, key: str, in_file: Any) -> bool:
        """Tell whether otpylib-config goes by another source than the files for a key, and by no put."""
        given = self.layer.get(key)
        return given is not None and given.origin == OTHER_SOURCE and differ(given.value, in_file)

    def _is_back(self, key: str, value: Any) -> bool:
        """Tell whether a key is back to an earlier value."""
        return any(not differ(value, known) for known in self._history.get(key, ()))

    def _note_files(self) -> None:
        table = sections.written().get(self.section.removeprefix("telemetry."))
        self.written = table if isinstance(table, dict) else {}


def _edited(old: toml_source.Written, new: toml_source.Written) -> bool:
    return old.path != new.path or differ(old.raw, new.raw) or differ(old.value, new.value)


def _remember(history: dict[str, list[Any]], key: str, value: Any) -> None:
    others = [each for each in history.get(key, ()) if differ(each, value)]
    history[key] = [*others, value][-LONGEST_HISTORY:]
