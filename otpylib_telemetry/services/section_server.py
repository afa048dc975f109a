"""The state of a process that goes by one section: what exporters and services have in common."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from otpylib import gen_server

from otpylib_telemetry import otp
from otpylib_telemetry.config import resolve
from otpylib_telemetry.config.live import LiveConfig
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.services.section import FollowedSection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from otpylib_telemetry.config.settings import SectionSettings

#: The reply to a call nobody knows.
UNKNOWN: Final = ("error", "unknown request")


class Counts(Protocol):
    """Where messages are counted that nobody knows."""

    unknown_messages: int


class SectionServer(ABC):
    """The state of such a process; ``known`` is the configuration as an earlier life left it."""

    def __init__(  # noqa: PLR0913, PLR0917  # what it is made of
        self,
        settings_type: type[SectionSettings],
        name: str,
        section: str,
        argument: object,
        known: LiveConfig[Any] | None,
        counts: Counts,
    ) -> None:
        self.process = otp.OwnProcess()
        self.loop = self.process.loop
        self.name, self.section = name, section
        self._counts = counts
        self.refusal, accepted = _checked(settings_type, section, argument)
        if known is None or known.settings_type is not settings_type or known.section != section:
            known = LiveConfig(settings_type, section, accepted, os.environ)
        else:
            known.restart(accepted, os.environ)
        self.configuration: LiveConfig[Any] = known
        self.followed = FollowedSection(name, known, self.process, self.patience)

    @abstractmethod
    def patience(self) -> float | None:
        """Return how many seconds otpylib-config may take to answer; None for as long as it likes."""

    @abstractmethod
    def configure(self) -> None:
        """Go by the configuration; returns at once."""

    @property
    @abstractmethod
    def is_at_rest(self) -> bool:
        """Whether it goes by the configuration, as far as it can."""

    @abstractmethod
    async def at_rest(self) -> None:
        """Wait until it goes by the configuration, but not for long."""

    @abstractmethod
    def stats(self) -> dict[str, Any]:
        """Return how it does."""

    @abstractmethod
    def effects(self, before: Any, after: Any, changed: frozenset[str]) -> Sequence[str]:
        """Return in words what a change would do."""

    def probes(self, before: Any, after: Any, changed: frozenset[str]) -> Sequence[Any]:
        """Return what is to be tried before a change."""
        del before, after, changed
        return ()

    @abstractmethod
    async def close(self, reason: Any) -> None:
        """End this life."""

    def unknown(self) -> tuple[str, str]:
        """Count a message that nobody knows; return what its sender is told."""
        self._counts.unknown_messages += 1
        return UNKNOWN

    def answer(self, message: Any) -> Any:
        """Return the answer to a call of its own, or what it becomes."""
        del message
        return self.unknown()

    def cast(self, message: Any) -> None:
        """Take a cast of its own."""
        del message
        self.unknown()

    def info(self, message: Any) -> None:
        """Take any other message of its own."""
        del message
        self.unknown()

    def noticed(self, path: str) -> None:
        """Hear from otpylib-config that a path of the section changed."""
        self.followed.noticed(path)

    def snapshot(self, values: Mapping[str, Any] | None, manager: object) -> None:
        """Take what was read from this config manager; None if it could not be read."""
        if values is not None:
            self.followed.snapshot(values, manager)
        self.configure()

    def changed(self, path: object, old: Any, new: Any) -> None:
        """Take a change from a cast."""
        del old
        if not self.followed.changed(path, new):
            self.unknown()

    def apply(self) -> None:
        """Apply the changes that arrived by cast."""
        applied = self.followed.apply()
        if applied is not None:
            if not applied:
                self.unknown()
            self.configure()

    async def settled_configuration(self) -> dict[str, Any]:
        """Return the configuration once a change that was asked for before is in force, if that is soon."""
        await self.at_rest()
        return self.configuration.as_dict()

    def reply_later(self, from_: Any, work: Awaitable[Any]) -> None:
        """Answer a call when its work is done; the mailbox goes on meanwhile."""

        async def answer() -> None:
            try:
                reply = await work
            except Exception as error:  # noqa: BLE001  # the caller is told, whatever it is
                reply = ("error", self.configuration.scrub(describe(error)))
            await gen_server.reply(from_, reply)

        otp.run_in_background(self.loop, answer(), name=f"{self.name} call")


def _checked(
    settings_type: type[SectionSettings], section: str, argument: object
) -> tuple[str | None, Mapping[str, Any]]:
    """Return why a start argument is refused, if it is, and what is left of it."""
    if argument is None:
        return None, {}
    if not isinstance(argument, Mapping):
        return f"the start argument is a table of settings, not {type(argument).__name__}", {}
    try:
        resolve.validate_argument(settings_type, section, argument)
        return None, dict(argument)
    except Exception as error:  # noqa: BLE001  # a mapping may do anything, and init never fails
        return describe(error).removeprefix("ValueError: "), {}
