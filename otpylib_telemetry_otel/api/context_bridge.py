"""One context for the spans of both: what is current here is current for OpenTelemetry, and vice versa.

Imports OpenTelemetry's API: to be imported only where it is wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry import baggage as api_baggage
from opentelemetry import context as api_context
from opentelemetry import trace
from opentelemetry.context import Context

from otpylib_telemetry.bus.context import here
from otpylib_telemetry.tracing.headers import baggage_values, merge_baggage
from otpylib_telemetry.tracing.places import place_here
from otpylib_telemetry.tracing.propagators import as_ours, their_baggage
from otpylib_telemetry_otel.api.added_processors import Added, began, ended
from otpylib_telemetry_otel.api.own_spans import OwnSpan

if TYPE_CHECKING:
    from otpylib_telemetry.bus.context import Scope
    from otpylib_telemetry.tracing.operation import Operation, Place
    from otpylib_telemetry.tracing.propagation import SpanContext


#: Under which the baggage that came through us is remembered in OpenTelemetry's context.
_BAGGAGE: Final = api_context.create_key("otpylib-telemetry-baggage")


class ContextBridge:
    """One context for the spans of both; see :class:`~otpylib_telemetry.tracing.bridge.ContextBridge`."""

    def enter(self, place: Place | None, baggage: str) -> Any:
        """Make a span of ours the current one of OpenTelemetry, with the baggage that came through us."""
        return self._attach(place, baggage, api_context.get_current())

    def enter_alone(self, place: Place | None, baggage: str) -> Any:
        """Make a span of ours the current one, in a context that holds nothing else."""
        return self._attach(place, baggage, Context())

    @staticmethod
    def _attach(place: Place | None, baggage: str, made: Context) -> Any:
        if place is not None:
            span = OwnSpan(place)
            if Added.processors and span.is_recording():
                began(span, made)
            made = trace.set_span_in_context(span, made)
        if baggage and made.get(_BAGGAGE) != baggage:
            # New here. What is inherited may have been changed there since.
            for name, value in baggage_values(baggage).items():
                made = api_baggage.set_baggage(name, value, made)
            made = api_context.set_value(_BAGGAGE, baggage, made)
        return api_context.attach(made)

    def leave(self, token: Any) -> None:
        """Let OpenTelemetry have the span again that was current before."""
        api_context.detach(token)

    def set_aside(self, token: Any) -> Any:
        """Let OpenTelemetry have the context again that was there before, and keep what it has become."""
        held = api_context.get_current()
        api_context.detach(token)
        return held

    def take_up(self, held: Any) -> Any:
        """Let OpenTelemetry have the context that was kept."""
        return api_context.attach(held)

    def is_inside(self) -> bool:
        """Tell whether a span of OpenTelemetry is the current one, and open."""
        span = trace.get_current_span()
        return not isinstance(span, OwnSpan) and span.is_recording()

    def here(self) -> Scope | None:
        """Return the place of the innermost span: ours, unless one of OpenTelemetry was begun in it."""
        span = trace.get_current_span()
        if isinstance(span, OwnSpan) or not span.get_span_context().is_valid:
            return here()
        return place_here()

    def ended(self, operation: Operation) -> None:
        """Tell the processors of others, if there are any."""
        if Added.processors:
            ended(operation)

    def around(self, own: SpanContext | None) -> SpanContext | None:
        """Return the innermost span: ours, unless one of OpenTelemetry was begun in it."""
        span = trace.get_current_span()
        theirs = span.get_span_context()
        if isinstance(span, OwnSpan) or not theirs.is_valid:
            return own
        if own is None:
            return as_ours(theirs)
        same = theirs.trace_id == int(own.trace_id, 16)
        return as_ours(theirs, own.correlation_id if same else None, own.baggage)

    def baggage(self, own: str) -> str:
        """Return the baggage of OpenTelemetry's context, and ours where that has not come there."""
        theirs = their_baggage(own)
        known = api_context.get_value(_BAGGAGE) or ""
        return theirs if known == own else merge_baggage(own, theirs)


BRIDGE: Final = ContextBridge()
