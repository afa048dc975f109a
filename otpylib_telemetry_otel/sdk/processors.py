"""Span and log record processors that a program gives: each is handed what is about to be sent, once.

Imports no OpenTelemetry: whoever has made a processor has imported it.
"""

from __future__ import annotations

import functools
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry.primitives.polling import Watch, call_each
from otpylib_telemetry_otel.sdk.flat import flat
from otpylib_telemetry_otel.sdk.suppression import unobserved

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otpylib_telemetry_otel.settings.given import Given

_log = logging.getLogger("otpylib_telemetry")

#: What takes an item; that of log records was called ``emit`` before version 1.35 of the SDK.
_METHODS: Final = ("on_end", "on_emit", "emit")


class Processors:
    """Hands items of one signal to processors. All methods block: they belong on a thread.

    One that does not come back is left to a thread of its own, and is handed nothing until it has.
    """

    def __init__(
        self,
        given: Sequence[Given],
        convert: Callable[[Sequence[Any]], Sequence[Any]],
        seconds: float,
    ) -> None:
        """Take the processors; ``seconds`` is what they may take of one attempt to send, or of a flush."""
        self._watched = {_watch(one.objects[0]): one.objects[0] for one in given}
        self._convert = convert
        self._seconds = seconds
        self._said = Once()

    def take(self, items: Sequence[Any]) -> None:
        """Hand over what no processor was handed yet: what is sent again after a failure was."""
        fresh = [item for item in items if not getattr(item, "processed", False)]
        if not fresh:
            return
        for item in fresh:
            item.processed = True
        self._run(functools.partial(self._hand_over, fresh, time.monotonic() + self._seconds))

    def _run(self, work: Callable[[Any], object]) -> None:
        for watch, outcome in call_each([*self._watched], work, self._seconds).items():
            processor = self._watched[watch]
            if outcome is None:
                self._warn_late(processor)
            elif outcome.error is not None:
                self._warn(processor, f"failed ({describe(outcome.error)}); exporting goes on")

    def _hand_over(self, items: Sequence[Any], deadline: float, processor: Any) -> None:
        method = _method(processor)
        for item in items:
            if time.monotonic() > deadline:
                self._warn_late(processor)
                return
            try:
                method(self._converted(item))
            except Exception as error:  # noqa: BLE001  # a processor of any package may raise anything
                self._warn(processor, f"failed ({describe(error)}); exporting goes on")

    def _converted(self, item: Any) -> Any:
        try:
            (made,) = self._convert([item])
        except Exception:  # noqa: BLE001  # what cannot be had as it is may be had as text
            (made,) = self._convert([flat(item)])
        return made

    def flush(self) -> None:
        """Flush them. Their maker shuts them down: a restart or a change of settings goes on with them."""
        self._run(_flush)

    def _warn_late(self, processor: Any) -> None:
        self._warn(processor, "takes too long; what it has no time for goes past it")

    def _warn(self, processor: Any, what: str) -> None:
        if self._said.is_news(id(processor)):
            _log.warning(
                "The OpenTelemetry %s %s. Further cases are not logged.", type(processor).__name__, what
            )


def _watch(processor: Any) -> Watch:
    def call(work: Callable[[Any], object]) -> tuple[()]:
        # What a processor sends is not to become spans, which it would be handed.
        unobserved(work, processor)
        return ()

    return Watch(call)


def _flush(processor: Any) -> None:
    if callable(flush := getattr(processor, "force_flush", None)):
        flush()


def _method(processor: Any) -> Callable[[Any], object]:
    found: Callable[[Any], object] = next(
        method for name in _METHODS if callable(method := getattr(processor, name, None))
    )
    return found
