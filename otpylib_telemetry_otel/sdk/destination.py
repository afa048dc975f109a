"""An exporter of another package as a destination, made to say why it failed.

It is used through its public ``export``, which answers success or failure and nothing else: why it failed is
read from its own log message.

Imports no OpenTelemetry: whoever has made an exporter has imported it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.exporter.collected import ExportOutcome
from otpylib_telemetry.exporter.errors import ExportError
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry_otel.otlp import mistakes
from otpylib_telemetry_otel.otlp.values import why
from otpylib_telemetry_otel.sdk.flat import flat
from otpylib_telemetry_otel.sdk.quiet import Quiet, listening

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter


#: An exporter that raises one of these was given something it cannot encode, and will not be able to later.
_LASTING_ERRORS: Final = (
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RecursionError,
)

#: The part of the time for an attempt in which it is found out what an exporter cannot encode: beyond it, the
#: attempt would be given up, and made again.
_ISOLATING: Final = 0.5


class SdkDestination:
    """An OpenTelemetry exporter of any package, for whichever signal, made to say why it failed."""

    def __init__(
        self,
        exporter: SpanExporter | LogRecordExporter | MetricExporter,
        convert: Callable[[Sequence[Any]], Any],
        timeout: float = 10.0,
        *,
        is_given: bool = False,
    ) -> None:
        self._exporter = exporter
        self._timeout = timeout
        self._convert = convert
        self._is_given = is_given
        # Each class of an exporter logs to the logger of the module it comes from.
        modules = {kind.__module__ for kind in type(exporter).__mro__ if kind is not object}
        self._quiet = Quiet(modules)

    def send(self, items: Sequence[Any]) -> ExportOutcome | None:
        """Export items; see ``Destination.send``.

        What the exporter cannot encode, by itself and with text for everything elaborate, is left out.
        """
        return self._send(items, time.monotonic() + self._timeout * _ISOLATING)

    def _send(self, items: Sequence[Any], deadline: float) -> ExportOutcome | None:
        error = self._export(items)
        if error is None:
            return None
        if len(items) == 1:
            # What it cannot take as it is, it may take as text.
            return None if self._export([flat(items[0])]) is None else _left_out(items, error)
        if time.monotonic() > deadline:
            return _left_out(items, error)
        # Halves, because each part is sent anew: an exporter may have sent some before it failed.
        middle = len(items) // 2
        parts = [self._send(part, deadline) for part in (items[:middle], items[middle:])]
        said = [part for part in parts if part is not None]
        return ExportOutcome(unusable=sum(part.unusable for part in said), why=said[-1].why) if said else None

    def _export(self, items: Sequence[Any]) -> Exception | None:
        """Hand items over; return what was raised if something in them cannot be encoded."""
        with listening() as heard:
            try:
                result = self._exporter.export(self._convert(items))
            except Exception as error:
                if _is_lasting(error):
                    return error
                raise ExportError(describe(error)) from error
        if getattr(result, "name", "SUCCESS") == "FAILURE":
            said = _last_words(heard)
            words = mistakes.of_words(said)
            raise mistakes.error_of(said, words) if words else ExportError(said)
        return None

    def close(self) -> None:
        """Release the connection. An attempt under way ends as soon as its transport lets go of it."""
        try:
            with listening():
                if not self._is_given:
                    self._exporter.shutdown()
                elif callable(flush := getattr(self._exporter, "force_flush", None)):
                    # A restart or a change of settings goes on with it; its maker shuts it down.
                    flush()
        finally:
            self._quiet.lift()


def _is_lasting(error: Exception) -> bool:
    # Protobuf's own need not be installed.
    return isinstance(error, _LASTING_ERRORS) or type(error).__name__ == "EncodeError"


def _left_out(items: Sequence[Any], error: Exception) -> ExportOutcome:
    return ExportOutcome(unusable=len(items), why=why(items[-1], error))


def _last_words(heard: Sequence[logging.LogRecord]) -> str:
    """What an exporter logged while it failed."""
    if not heard:
        return "the exporter reported a failure and gave no reason"
    try:
        return heard[-1].getMessage()
    except Exception:  # noqa: BLE001 - a message that does not fit its arguments, in somebody else's code
        return str(heard[-1].msg)
