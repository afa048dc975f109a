"""Opens an exporter, and gives up an attempt that hangs when the configuration has changed meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from otpylib_telemetry import otp
from otpylib_telemetry.exporter.closing import CLOSE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry.exporter.closing import Closer

#: Seconds opening may go on after a change of settings, the first time and at most; twice as many each time
#: that was in vain, because settings may change all the time.
FIRST_PATIENCE = 0.25
LONGEST_PATIENCE = 30.0

#: Seconds that something cancelled may take to end.
GRACE = 0.1


class GivesWayError(Exception):
    """Opening was given up because the configuration changed meanwhile."""


class Opener:
    """Opens one exporter after the other; ``changed`` is set when the configuration has changed."""

    def __init__(self, changed: asyncio.Event, closer: Closer) -> None:
        self._changed = changed
        self._closer = closer
        self._patience = FIRST_PATIENCE

    async def open(self, exporter: Exporter[Any]) -> None:
        """Open an exporter; where that raises, what it has acquired so far is released."""
        try:
            await self.run(exporter.open())
        except asyncio.CancelledError:
            self._closer.retire(exporter, CLOSE_LIMIT)
            raise
        except Exception:
            await self._closer.close(exporter, CLOSE_LIMIT)
            raise
        self._patience = FIRST_PATIENCE

    async def run(self, work: Coroutine[Any, Any, object]) -> None:
        """Do a part of what leads to an open exporter; patience lasts over all of them."""
        loop = asyncio.get_running_loop()
        # Whoever ends the application while its exporter is still being opened waits for that.
        opening = otp.outlast(loop.create_task(work))
        change = otp.outlast(loop.create_task(self._changed.wait()))
        try:
            await asyncio.wait({opening, change}, return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                await asyncio.wait({opening}, timeout=self._patience)
        except asyncio.CancelledError:
            opening.cancel()
            raise
        finally:
            change.cancel()
        if not opening.done():
            self._patience = min(2 * self._patience, LONGEST_PATIENCE)
            opening.cancel()
            await asyncio.wait({opening}, timeout=GRACE)
            raise GivesWayError
        if opening.cancelled():
            raise RuntimeError("opening it ended with a CancelledError that nobody had sent")
        opening.result()
