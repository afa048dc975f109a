"""How a server follows its configuration section: read from otpylib-config, and changed by messages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from otpylib_telemetry import otp
from otpylib_telemetry.config import otpylib_config, sections, watching
from otpylib_telemetry.config.resolution import changed_keys
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.once import Once

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.config.live import LiveConfig

_log = logging.getLogger("otpylib_telemetry")

#: What the process gets when its section has been read, and when changes wait to be applied.
SNAPSHOT = "telemetry_config_snapshot"
APPLY = "telemetry_apply"

#: Seconds to wait for further changes of one reload before reading the section.
RELOAD_PAUSE = 0.01

#: How often a section that changes while it is read is read, before it is taken as it was read last.
MOST_READINGS = 5


class FollowedSection:
    """The section of one process, read again whenever it changes.

    ``patience`` returns how many seconds otpylib-config may take to answer; None for as long as it likes.
    """

    def __init__(
        self,
        name: str,
        configuration: LiveConfig[Any],
        process: otp.OwnProcess,
        patience: Callable[[], float | None],
    ) -> None:
        self.name = name
        self.configuration = configuration
        self.reading: asyncio.Task[None] | None = None
        self._section = configuration.section
        self._process = process
        self._patience = patience
        self._manager: Any = None
        self._is_reading = False
        self._dirty = False
        self._changes: dict[str, Any] = {}
        self._files_changed = False
        self._put_again: dict[str, Any] = {}
        self._puts: Mapping[str, Any] | None = None
        self._trouble = Once()
        watching.begin(self._process.loop, self._hear_of_files)

    def watch(self) -> None:
        """Read the section where a config manager has appeared, at the start or in place of another."""
        if self.configuration.next_revert() == 0.0:
            self._process.post((APPLY,))
        manager = otpylib_config.manager()
        if manager != self._manager:
            self._manager = manager
            if manager is not None:
                self._read(subscribe=True)

    def noticed(self, path: str) -> None:
        """Hear from otpylib-config that a path of the section changed."""
        self.configuration.note_entry(path)
        self._read(subscribe=False)

    def snapshot(self, values: Mapping[str, Any], manager: object) -> None:
        """Take what was read from this config manager."""
        was_doubted = self.configuration.observed.doubted
        self.configuration.observe(values, manager, self._puts)
        if self.configuration.observed.doubted and not was_doubted:
            _log.warning(
                "Section %s has vanished from otpylib-config as a whole, as if a source were unreadable; "
                "%s goes on with what it said last. TomlSource can tell a section that was deleted.",
                self._section,
                self.name,
            )

    def changed(self, path: object, new: Any) -> bool:
        """Take a change from a cast; those that wait in the mailbox with it are applied together.

        Returns whether it is a change of this section.
        """
        changes = self._changes_in(path, new)
        if changes is None:
            return False
        if not self._changes:
            self._process.post((APPLY,))
        self._changes.update(changes)
        return True

    def _hear_of_files(self) -> None:
        self._files_changed = True
        self._process.post((APPLY,))

    def _hear_of_put(self, path: str, value: Any, is_new: bool) -> bool:  # noqa: FBT001  # as it is called
        """Hear in the manager's process of a put of what otpylib-config holds already, or may: a section."""
        changes = self._changes_in(path, value)
        if changes is None or (is_new and path != self._section):
            return False
        self._put_again.update(changes)
        self._process.post((APPLY,))
        return True

    def reload(self) -> frozenset[str]:
        """Read the files again now, and return the keys that changed."""
        before = self.configuration.settings
        watching.reload()
        self.configuration.files_changed()
        return changed_keys(before, self.configuration.settings)

    def expect_revert(self) -> None:
        """See to it that a change that was made for a while ends in time."""
        if (seconds := self.configuration.next_revert()) is not None:
            self._process.post_later(seconds, (APPLY,))

    def apply(self) -> bool | None:
        """Take what was edited, what is over and what was cast.

        Returns None if there is nothing, False if what was cast cannot even be looked at.
        """
        is_anything = self.configuration.next_revert() == 0.0
        if is_anything:
            self.configuration.revert_due()
        if self._files_changed:
            self._files_changed, is_anything = False, True
            self.configuration.files_changed()
        if self._put_again:
            put_again, self._put_again, is_anything = self._put_again, {}, True
            self.configuration.put_again(put_again)
        if not self._changes:
            return True if is_anything else None
        changes, self._changes = self._changes, {}
        try:
            self.configuration.change(changes)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  # values that cannot even be looked at
            _log.warning(
                "%s ignores a change of %s: looking at it failed (%s).",
                self.name,
                ", ".join(sorted(changes)),
                self.configuration.scrub(describe(error)),
            )
            return False
        return True

    def end(self) -> None:
        """Read no more. What was asked for and not applied yet counts in the next life."""
        self.apply()
        watching.end(self._process.loop, self._hear_of_files)
        otp.hear_no_more(self._hear_of_put)
        if self.reading is not None:
            self.reading.cancel()

    def _read(self, *, subscribe: bool) -> None:
        if self._is_reading:
            self._dirty = True
            return
        self._is_reading = True
        work = self._read_config(self._manager, subscribe=subscribe)
        self.reading = otp.run_in_background(self._process.loop, work, name=f"{self.name} configuration")

    async def _read_config(self, manager: Any, *, subscribe: bool) -> None:
        self._dirty = True
        try:
            while self._dirty:
                async with asyncio.timeout(self._patience()):
                    if subscribe:
                        otp.hear_of_equal_puts(self._hear_of_put)
                        await otpylib_config.subscribe(self.name, self._section)
                        subscribe = False
                    else:
                        await asyncio.sleep(RELOAD_PAUSE)
                    snapshot = await self._read_section()
                self._puts = otp.config_puts(manager, self._section)
                snapshot |= {key: value for key, value in (self._puts or {}).items() if value is not None}
                self._trouble.over()
                sections.report()
                self._process.post((SNAPSHOT, snapshot, manager))
        except Exception as error:  # noqa: BLE001  # no manager, no answer: the next look tries again
            if self._trouble.is_news():
                _log.warning(
                    "%s could not read section %s from otpylib-config (%s); it goes on with what it has and "
                    "tries again.",
                    self.name,
                    self._section,
                    describe(error),
                )
            if self._manager == manager:
                self._manager = None
            self._process.post((SNAPSHOT, None, manager))
        finally:
            self._is_reading = False

    async def _read_section(self) -> dict[str, Any]:
        """Read the section until nothing changes meanwhile, but not for ever: it may change all the time."""
        snapshot: dict[str, Any] = {}
        for _ in range(MOST_READINGS):
            self._dirty = False
            keys = [*self.configuration.settings_type.model_fields, *self.configuration.entries]
            snapshot = await otpylib_config.read_section(self._section, keys)
            if not self._dirty:
                break
        return snapshot

    def _changes_in(self, path: object, new: Any) -> dict[str, Any] | None:
        """Return the changes somebody asks for, by key; None if it is no change of this section."""
        try:
            if not isinstance(path, str):
                return None
            # Exactly a string from here on: a subclass could have ideas of its own about its methods.
            path = str.__str__(path)
            key = self.configuration.key_of(path)
            if key is not None:
                return {key: new}
            if path != self._section or not isinstance(new, Mapping):
                return None
            return {str.__str__(name): value for name, value in new.items() if isinstance(name, str)}
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001  # what somebody put into a message may do anything, exit included
            return None
