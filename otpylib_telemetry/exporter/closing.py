"""Closes exporters that are no longer in use, in the background."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from otpylib_telemetry import otp
from otpylib_telemetry.primitives.errors import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry.exporter.sender import Sender

_log = logging.getLogger("otpylib_telemetry")

#: Seconds that closing an exporter may take while the process goes on.
CLOSE_LIMIT = 5.0


class Closer:
    """Closes the exporters of one name; ``closed`` is called when one has been closed in the background."""

    def __init__(
        self, name: str, sender: Sender, closed: Callable[[], None], scrub: Callable[[str], str]
    ) -> None:
        self._name = name
        self._sender = sender
        self._closed = closed
        self._scrub = scrub
        self._under_way: set[asyncio.Task[None]] = set()

    def retire(self, exporter: Exporter[Any], seconds: float) -> None:
        """Close an exporter when the batch it may be sending has ended, whose answer would be lost."""
        loop = asyncio.get_running_loop()
        name = f"{self._name} retirement"
        task = otp.run_in_background(loop, self._retire(exporter, seconds), name=name, outlasting=True)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _retire(self, exporter: Exporter[Any], seconds: float) -> None:
        await self._sender.wait_for(exporter)
        await self.close(exporter, seconds)
        self._closed()

    async def close(self, exporter: Exporter[Any], seconds: float) -> None:
        """Close an exporter now."""
        try:
            await otp.within(seconds, exporter.close())
        except Exception as error:  # noqa: BLE001  # whatever it is, it is closed as far as we are concerned
            _log.warning("%s did not close cleanly: %s", self._name, self._scrub(describe(error)))

    async def wait(self, seconds: float) -> None:
        """Wait for what is being closed."""
        if self._under_way:
            await asyncio.wait(set(self._under_way), timeout=seconds)
