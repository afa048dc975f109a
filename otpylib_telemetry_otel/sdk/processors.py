"""Span and log record processors that a program gives: each is handed what is about to be sent, once.

Imports no OpenTelemetry: whoever has made a processor has imported it.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry_otel.sdk.flat import flat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otpylib_telemetry_otel.settings.given import Given

_log = logging.getLogger("otpylib_telemetry")

#: What takes an item; that of log records was called ``emit`` before version 1.35 of the SDK.
_METHODS: Final = ("on_end", "on_emit", "emit")


class Processors:
    """Hands items of one signal to processors. All methods block: they belong on a thread."""

    def __init__(
        self,
        given: Sequence[Given],
        convert: Callable[[Sequence[Any]], Sequence[Any]],
        seconds: float,
    ) -> None:
        """Take the processors; ``seconds`` is what they may take of one attempt to send."""
        self._processors = [one.objects[0] for one in given]
        self._convert = convert
        self._seconds = seconds
        self._said = Once()

    def take(self, items: Sequence[Any]) -> None:
        """Hand over what no processor was handed yet: what is sent again after a failure was."""
        deadline = time.monotonic() + self._seconds
        for item in items:
            if getattr(item, "processed", False):
                continue
            # Before the call: where a processor hangs, the next attempt goes past it.
            item.processed = True
            if time.monotonic() > deadline:
                self._warn("processors", "take too long; what they had no time for goes past them")
                continue
            self._hand_over(item)

    def _hand_over(self, item: Any) -> None:
        for processor in self._processors:
            try:
                _method(processor)(self._converted(item))
            except Exception as error:  # noqa: BLE001  # a processor of any package may raise anything
                self._warn(type(processor).__name__, f"failed ({describe(error)}); exporting goes on")

    def _converted(self, item: Any) -> Any:
        try:
            (made,) = self._convert([item])
        except Exception:  # noqa: BLE001  # what cannot be had as it is may be had as text
            (made,) = self._convert([flat(item)])
        return made

    def flush(self) -> None:
        """Flush them. Their maker shuts them down: a restart or a change of settings goes on with them."""
        for processor in self._processors:
            try:
                if callable(flush := getattr(processor, "force_flush", None)):
                    flush()
            except Exception as error:  # noqa: BLE001  # as above
                self._warn(type(processor).__name__, f"cannot be flushed ({describe(error)})")

    def _warn(self, who: str, what: str) -> None:
        if self._said.is_news(who):
            _log.warning("The OpenTelemetry %s %s. Further cases are not logged.", who, what)


def _method(processor: Any) -> Callable[[Any], object]:
    found: Callable[[Any], object] = next(
        method for name in _METHODS if callable(method := getattr(processor, name, None))
    )
    return found
