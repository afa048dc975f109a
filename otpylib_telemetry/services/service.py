"""What a section switches on, off and over while running, without the process that does so."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otpylib_telemetry.config.settings import SectionSettings


class Service:
    """What a section switches on and off; ``settings`` of :meth:`apply` say which."""

    async def apply(self, settings: Any) -> None:
        """Go by these settings from now on. What it raises is reported, and it is tried again."""

    async def stop(self) -> None:
        """Let go of everything: the process ends."""

    def loss(self) -> str | None:
        """Return what was taken from it since it went by its settings, which it goes by again then."""
        return None

    def effects(self, before: Any, after: Any, changed: frozenset[str]) -> list[str]:
        """Return in words what a change would do."""
        del before
        if "enabled" in changed:
            return ["it begins to work" if getattr(after, "enabled", True) else "it stops working"]
        return [f"it goes by {', '.join(sorted(changed))} at once"]

    def stats(self) -> Mapping[str, Any]:
        """Return what ``get_stats`` answers beside what every service says."""
        return {}


class Applied(Service):
    """A service that is one function of the settings; under those ``at_the_end`` it does nothing."""

    def __init__(self, apply: Callable[[Any], Any], at_the_end: SectionSettings) -> None:
        self._apply = apply
        self._at_the_end = at_the_end

    async def apply(self, settings: Any) -> None:
        """Call the function."""
        done = self._apply(settings)
        if inspect.isawaitable(done):
            await done

    async def stop(self) -> None:
        """Call the function with the settings under which it does nothing."""
        await self.apply(self._at_the_end)
