"""The trace context on its way to other places, and from there: in metadata and in headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from otpylib_telemetry.bus import context
from otpylib_telemetry.tracing import bridge as bridge_module
from otpylib_telemetry.tracing import propagators
from otpylib_telemetry.tracing.places import enter, place_here, place_there

if TYPE_CHECKING:
    from types import TracebackType

    from otpylib_telemetry.tracing.operation import Place
    from otpylib_telemetry.tracing.propagation import SpanContext


def trace_context() -> dict[str, Any]:
    """Return the metadata that makes a span elsewhere a child of the one that is open here.

    otpylib runs every process in the context of whoever spawned it, not of whoever sent the message it is
    handling: send this along, and give it to :func:`~otpylib_telemetry.span` there. For headers of requests
    there are :func:`inject` and :func:`extract`.

    Returns:
        ``traceparent`` and ``correlation_id``, and ``tracestate`` and ``baggage`` where there are some. Where
        nobody tells of the spans that are open here, it is what came from elsewhere, if anything did.
    """
    there, baggage = _passed_on()
    found: dict[str, Any] = {}
    if there is not None:
        found = {"traceparent": there.traceparent, "correlation_id": there.correlation_id}
        if there.tracestate:
            found["tracestate"] = there.tracestate
    if baggage:
        found["baggage"] = baggage
    return found


def inject(carrier: Any) -> None:
    """Put the context of the span that is open here into the headers of an outgoing request.

    What goes in is ``traceparent``, ``tracestate`` and ``baggage``, or what ``OTEL_PROPAGATORS`` names where
    OpenTelemetry is installed. Where there is no context, nothing goes in. Never raises.

    Args:
        carrier: A dictionary, the headers object of a client or server, or a list of pairs.
    """
    propagators.in_force().inject(carrier, *_passed_on())


def extract(carrier: Any) -> Extracted:
    """Have what runs inside continue the trace of an incoming request.

    A context manager, sync and async. Where the headers hold no context, or none that can be read, what runs
    inside stays where it is. Never raises.

    Args:
        carrier: The headers: a mapping, whatever its names look like, a WSGI environment, or a list of pairs,
            as ASGI has them.

    Returns:
        The context manager, good for one block.
    """
    return Extracted(carrier)


class Extracted:
    """One use of :func:`extract`; see there."""

    def __init__(self, carrier: Any) -> None:
        self._carrier = carrier
        self._place: Place | None = None

    def __enter__(self) -> Self:
        if self._place is None:
            self._place = place_there(propagators.in_force().extract(self._carrier))
            if self._place is not None:
                enter(self._place)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        place, self._place = self._place, None
        if place is not None:
            context.leave(place)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


def _passed_on() -> tuple[SpanContext | None, str]:
    """Return the span that others continue from, and the baggage that goes with it."""
    here = place_here()
    parent = None if here is None else here.parent
    there = None if parent is None else parent.context
    baggage = "" if here is None else here.baggage
    bridge = bridge_module.installed
    if bridge is not None:
        return there, bridge.baggage(baggage)
    return propagators.with_theirs(there, baggage)
