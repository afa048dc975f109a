"""What a subclass of the suite says about its exporter, and what the tests have in common."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from otpylib_telemetry_mock.conformance.subject import Subject, eventually, require

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from pathlib import Path

    from otpylib_telemetry_mock.conformance.odd import EventData

#: What every exporter is started with. The ``settings`` of the class that tests it go before.
_QUICK = {
    "event_patterns": ["conformance.*"],
    "flush_interval": 0.05,
    "batch_size": 20,
    "retry_attempts": 2,
    "failure_threshold": 1_000,
}


class ExporterUnderTest:
    """The exporter, its settings, its events, and what its backend has.

    Attributes:
        exporter: The GenServer class that ``exporter_module`` made.
        patience: Seconds a test waits for what must happen some time; far more than it takes.
        deadline: Seconds that flush and drain are given.
        longest_stall: Seconds the exporter may keep the event loop from running anything else.
    """

    exporter: ClassVar[Any] = None
    patience: ClassVar[float] = 30.0
    deadline: ClassVar[float] = 5.0
    longest_stall: ClassVar[float] = 0.5

    def settings(self, tmp_path: Path) -> Mapping[str, Any]:
        """Return the settings under which the exporter works; none by default.

        Args:
            tmp_path: A directory of this test's own.

        Returns:
            Settings by key, as the start argument of the exporter.
        """
        del tmp_path
        return {}

    def changed_settings(self, tmp_path: Path) -> Mapping[str, Any]:
        """Return settings of the exporter's own to change to while events flow; none by default.

        Args:
            tmp_path: A directory of this test's own, the same as for :meth:`settings`.

        Returns:
            Settings by key, under which it works as well.
        """
        del tmp_path
        return {}

    def unreachable_settings(self, tmp_path: Path) -> Mapping[str, Any] | None:
        """Return settings under which the backend cannot be had, such as a port where nobody listens.

        Args:
            tmp_path: A directory of this test's own.

        Returns:
            Settings by key, beside those of :meth:`settings`; None to leave out the test that needs them.
        """
        del tmp_path
        return None

    def events(self, count: int) -> list[EventData]:
        """Return ordinary events that the exporter has a use for; counters by default.

        Args:
            count: How many.

        Returns:
            Name, measurements and metadata of each. The names begin with ``conformance.``.
        """
        return [
            ("conformance.orders", {"count": 1, "value": n, "duration_ms": 1.5}, {"n": n % 5})
            for n in range(count)
        ]

    def received(self) -> int | None:
        """Return how many of the events of :meth:`events` have reached the backend in this test.

        Returns:
            Their number; None by default: nobody can tell, and the exporter's own figures have to do.
        """
        return None

    async def _handled(self, subject: Subject) -> dict[str, Any]:
        """Flush until nothing is left, and return the statistics."""

        async def flushed() -> bool:
            return bool((await subject.flush(self.deadline))["left"] == 0)

        await eventually(flushed, f"{subject.name} has exported everything", self.patience)
        return await subject.stats()

    async def _all_exported(self, subject: Subject, count: int) -> dict[str, Any]:
        stats = await self._handled(subject)
        require(not stats["dropped"], f"events were dropped: {stats['dropped']}")
        require(not stats["rejected"], f"ordinary events were rejected: {stats['rejected_for']}")
        done = stats["exported"] + stats["sampled_out"] + stats["held"]
        require(done >= count, f"of {count} events {done} were exported")
        return stats

    def _all_received(self, count: int, *, exactly: bool = False) -> None:
        received = self.received()
        if received is None:
            return
        require(received >= count, f"{count} events are counted as exported, the backend has {received}")
        require(
            received == count or not exactly,
            f"{count} events were emitted, the backend has {received}: some were sent twice",
        )


def on_a_runtime(test: Callable[[Any, Subject], Coroutine[Any, Any, None]]) -> Callable[[Any, Path], None]:
    """Make a plain test of a coroutine function that is given the exporter, with a runtime of its own."""

    # No wraps(): pytest would ask for the arguments of what is wrapped.
    def run(self: ExporterUnderTest, tmp_path: Path) -> None:
        if self.exporter is None:
            pytest.fail("set the attribute exporter to what exporter_module() made")
        subject = Subject(self.exporter, {**_QUICK, **self.settings(tmp_path)}, self.patience, tmp_path)

        async def within() -> None:
            async with subject.runtime():
                await test(self, subject)

        asyncio.run(within())

    run.__name__, run.__qualname__, run.__doc__ = test.__name__, test.__qualname__, test.__doc__
    return run
