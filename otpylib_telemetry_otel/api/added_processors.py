"""Span processors that others have added to our provider: they hear of operations of ``span()`` as well."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry_otel.api.own_spans import finished_span

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

    from otpylib_telemetry.tracing.operation import Operation
    from otpylib_telemetry_otel.api.own_spans import OwnSpan
    from otpylib_telemetry_otel.traces.spans import FinishedSpan


_log = logging.getLogger("otpylib_telemetry")


class Added:
    """The processors, in the order in which they came."""

    processors: tuple[SpanProcessor, ...] = ()
    #: Makes a span of the SDK of one of ours.
    convert: Callable[[FinishedSpan], ReadableSpan] | None = None


_said: Final = Once()


def convert_with(convert: Callable[[FinishedSpan], ReadableSpan]) -> None:
    """Say how a span of ours becomes one of the SDK."""
    Added.convert = staticmethod(convert)


def add(processor: SpanProcessor) -> None:
    """Have a processor hear of what begins from now on."""
    Added.processors = (*Added.processors, processor)


def began(span: OwnSpan, around: Context) -> None:
    """Tell them that an operation has begun."""
    for processor in Added.processors:
        _call(processor, lambda one=processor: one.on_start(span, around))  # type: ignore[misc]


def ended(operation: Operation) -> None:
    """Tell them that an operation has ended, if it can be had as a span of the SDK."""
    convert = Added.convert
    if convert is None:
        return
    try:
        span = convert(finished_span(operation))
    except Exception as error:  # noqa: BLE001 - what an operation holds may do anything
        if _said.is_news("convert"):
            _log.warning("A span could not be handed to span processors (%s).", describe(error))
        return
    for processor in Added.processors:
        _call(processor, lambda one=processor: one.on_end(span))  # type: ignore[misc]


def _call(processor: SpanProcessor, call: Callable[[], object]) -> None:
    """Call one; what it raises is reported once."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - a processor of any package may raise anything
        if _said.is_news(id(processor)):
            _log.warning(
                "The OpenTelemetry %s failed (%s). Further cases are not logged.",
                type(processor).__name__,
                describe(error),
            )
