"""By which trace a measurement came about: the operation that is open where it is made.

OpenTelemetry's span counts first, ours where it has none. Only what is sampled is of use: of another trace
there will be nothing to look at.

Imports OpenTelemetry's API: to be imported only where it is wanted.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import INVALID_SPAN, TraceFlags, get_current_span

from otpylib_telemetry.aggregation.series import Traced
from otpylib_telemetry.tracing.places import current_span
from otpylib_telemetry.tracing.propagation import format_span_id, format_trace_id

if TYPE_CHECKING:
    from opentelemetry.context import Context


_SAMPLED: Final = TraceFlags.SAMPLED


class _Last:
    """The context that was asked for last, with its ids as text: one operation makes several measurements."""

    known: tuple[Any, str, str] = (None, "", "")


def traced(context: Context | None) -> Traced | None:
    """Return the operation that a measurement belongs to, if it is sampled; never raises."""
    try:
        span = get_current_span(context)
        if span is INVALID_SPAN:
            return _ours() if context is None else None
        found = span.get_span_context()
        if not (found.trace_flags & _SAMPLED and found.is_valid):
            return None
        known = _Last.known
        if known[0] is not found:
            known = found, format_trace_id(found.trace_id), format_span_id(found.span_id)
            _Last.known = known
        return Traced(time.monotonic_ns(), known[1], known[2])
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a context of the application's making; it goes without an exemplar
        return None


def always(context: Context | None) -> Traced:
    """Return the operation that a measurement belongs to, sampled or not; of none, the time alone."""
    try:
        span = get_current_span(context)
        if span is not INVALID_SPAN:
            found = span.get_span_context()
            if found.is_valid:
                ids = format_trace_id(found.trace_id), format_span_id(found.span_id)
                return Traced(time.monotonic_ns(), *ids)
        elif context is None and (own := current_span()) is not None:
            return Traced(time.monotonic_ns(), own.trace_id, own.span_id)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001, S110 - as above
        pass
    return Traced(time.monotonic_ns(), "", "")


def _ours() -> Traced | None:
    own = current_span()
    return Traced(time.monotonic_ns(), own.trace_id, own.span_id) if own is not None and own.sampled else None
