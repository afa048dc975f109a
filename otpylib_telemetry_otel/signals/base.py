"""What the signals beside spans have in common: a backend of their own, and being given up without it.

A backend may know spans and nothing else, and there may be none at all for log records or metrics. Neither is
a reason not to export the rest.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.exporter.base import ExportOutcome
from otpylib_telemetry.primitives.threads import run_in_thread
from otpylib_telemetry_otel.errors import SignalRefusedError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Awaitable, Callable, Sequence

    from otpylib_telemetry_otel.destinations import Destination

__all__ = ["Signal"]

_log = logging.getLogger("otpylib_telemetry")

#: Key into the counts that survive the exporter, with what was said.
_SAID: Final = "said: "


class Signal:
    """Log records or metrics of one exporter, as far as sending them goes.

    Args:
        noun: What is sent, which is also the setting that switches it off: ``logs`` or ``metrics``.
        name: The exporter's name.
        counts: Counters that survive the exporter.
        wanted: Whether the settings have them sent anywhere.
    """

    def __init__(self, noun: str, name: str, counts: Counter[str], *, wanted: bool) -> None:
        self._noun = noun
        self._name = name
        self._counts = counts
        self._wanted = wanted
        self._destination: Destination | None = None
        #: Why none are sent though they are wanted.
        self._off: str | None = None

    @property
    def taken(self) -> bool:
        """Whether any are made."""
        return self._wanted and self._off is None

    async def close(self) -> None:
        """Release the connection."""
        destination, self._destination = self._destination, None
        if destination is not None:
            await run_in_thread(destination.close)

    async def export(
        self,
        batch: Sequence[Any],
        send: Callable[[Destination, Sequence[Any]], Awaitable[ExportOutcome | None]],
    ) -> ExportOutcome | None:
        """Send some.

        A backend that does not know the signal is told from one in trouble: it takes the spans, so neither
        the breaker nor a retry has anything to do with it, and nothing more is made for it.

        Args:
            batch: What is to be sent.
            send: Sends items through a backend.

        Returns:
            None if all were taken, or what was refused.

        Raises:
            ExportError: They did not arrive, or will not be taken.
        """
        if self._destination is None or self._off is not None:
            return ExportOutcome(len(batch), self._off or f"{self._noun} are switched off")
        try:
            return await send(self._destination, batch)
        except SignalRefusedError as error:
            self._off = (
                f"the backend takes no {self._noun} ({error}); none are sent until the configuration "
                f"changes, and {self._noun} = false says that none are wanted"
            )
            return ExportOutcome(len(batch), self._off)

    def _switch_off(self, reason: str) -> None:
        """Send none for a reason; it is said once, though the exporter may be replaced many times."""
        self._off = reason
        if self._is_news(reason):
            _log.info(
                "%s sends no %s: %s. With %s = false that is not said.",
                self._name,
                self._noun,
                reason,
                self._noun,
            )

    def _is_news(self, what: str) -> bool:
        """Tell whether nobody was told yet, and take it as told."""
        news = not self._counts[_SAID + what]
        self._counts[_SAID + what] = 1
        return news
