"""Where in a trace the running code is, and where metadata says it belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otpylib_telemetry.bus import context
from otpylib_telemetry.primitives.fork import after_fork_in_child
from otpylib_telemetry.tracing import bridge as bridge_module
from otpylib_telemetry.tracing import propagation
from otpylib_telemetry.tracing.headers import header_text, merge_baggage, read_baggage, read_tracestate
from otpylib_telemetry.tracing.operation import (
    Carried,
    LocalTrace,
    Operation,
    Place,
    remote_place,
    with_baggage,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry.tracing.propagation import SpanContext, TraceParent


def place_here() -> Place | None:
    """Return the place in a trace in which the running code is, or None.

    A task started inside a span is still inside it when the span has ended meanwhile. Where the context is
    bridged to another tracing API, the place may be a span of that API.
    """
    here: Place | None = context.here()  # type: ignore[assignment]  # nothing else is entered
    bridge = bridge_module.installed
    if bridge is None or (here is not None and here.bridged is None):
        return here
    own = None if here is None or not here.is_place else here.context
    theirs = bridge.around(own)
    if theirs is None or theirs is own:
        return here
    return _place_of(theirs, here)


def _place_of(there: SpanContext, here: Place | None) -> Place:
    """Return the place of a span of another API, begun at a place of ours."""
    place = Place()
    trace_id, place.span_id = int(there.trace_id, 16), int(there.span_id, 16)
    place.correlation = there.correlation_id
    caller = propagation.TraceParent(trace_id, place.span_id, there.trace_flags) if there.is_remote else None
    if here is not None and here.is_place and here.trace_id == trace_id:
        place.trace = here.trace
        caller = caller or here.caller
    else:
        place.trace = LocalTrace(trace_id)
    place.carried = Carried(caller, there.trace_flags, there.tracestate, there.baggage)
    return place


def current_span() -> SpanContext | None:
    """Return the identity of the innermost span that is open in this context, or None.

    A task started inside a span is still inside it when the span has ended meanwhile. Where the context is
    bridged to another tracing API, the innermost span may be one of that API. A span that no trace tells of,
    because only metrics are made of it, does not count, unless there is no other.
    """
    here = place_here()
    if here is None:
        return None
    parent = here.parent
    if parent is not None:
        return parent.context
    return here.context if here.is_place else None


def begin_beyond(operation: Operation, here: Place) -> None:
    """Have an operation begin where others do that are inside of what is no parent."""
    beyond = here.beyond
    if beyond is not None:
        operation.trace = beyond.trace
        operation.parent_span_id = beyond.span_id
        operation.correlation = here.correlation
    else:
        operation.trace = LocalTrace(propagation.new_trace_id())
        if here.is_place:
            operation.correlation = here.correlation_id
    operation.carried = here.carried


def step_aside(operation: Operation) -> None:
    """Have what runs inside of an operation begin where it has begun itself: no trace tells of it."""
    operation.is_parent = False
    if operation.parent_span_id:
        operation.beyond = place = Place()
        place.trace = operation.trace
        place.span_id = operation.parent_span_id
        place.carried = operation.carried
        place.correlation = operation.correlation


def join(operation: Operation, here: Place | None, metadata: Mapping[str, Any]) -> None:
    """Have an operation continue the trace that its metadata names, with the baggage there."""
    carried = operation.carried
    baggage = merge_baggage("" if carried is None else carried.baggage, read_baggage(metadata.get("baggage")))
    remote = _caller_in(metadata)
    if remote is not None:
        operation.trace = LocalTrace(remote.trace_id)
        operation.parent_span_id = remote.span_id
        operation.carried = Carried(
            remote, remote.flags, read_tracestate(metadata.get("tracestate")), baggage
        )
        if here is not None and here.is_place:
            operation.correlation = here.correlation_id
    elif baggage:
        operation.carried = Carried(baggage=baggage) if carried is None else carried._replace(baggage=baggage)


def _caller_in(metadata: Mapping[str, Any]) -> TraceParent | None:
    return propagation.parse_traceparent(header_text(metadata.get("traceparent")))


def place_there(metadata: Mapping[str, Any]) -> Place | None:
    """Return the place that metadata names, with the baggage there and here; None where it names none."""
    here = place_here()
    given = read_baggage(metadata.get("baggage"))
    remote = _caller_in(metadata)
    if remote is None and not given:
        return None
    baggage = merge_baggage("" if here is None else here.baggage, given)
    if remote is None:
        return with_baggage(here, baggage)
    place = remote_place(remote, read_tracestate(metadata.get("tracestate")), baggage)
    place.correlation = metadata.get("correlation_id")
    if place.correlation is None and here is not None and here.is_place:
        place.correlation = here.correlation_id
    return place


def arrival(metadata: Mapping[str, Any], here: Place | None) -> Place:
    """Return the place at which a request comes in: that of its sender, or else ``here``; be that nowhere."""
    baggage = merge_baggage("" if here is None else here.baggage, read_baggage(metadata.get("baggage")))
    remote = _caller_in(metadata)
    if remote is None:
        return with_baggage(here, baggage)
    return remote_place(remote, read_tracestate(metadata.get("tracestate")), baggage)


def stand_for(place: Place, operation: Operation) -> None:
    """Have a place, in which an operation has begun, be that of the operation.

    What goes on there after the operation has ended still belongs to it.
    """
    place.trace, place.span_id, place.is_place = operation.trace, operation.span_id, True
    place.carried, place.correlation = operation.carried, operation.correlation
    place.is_parent, place.beyond = operation.is_parent, operation.beyond


def enter(place: Place) -> None:
    """Put the running code at a place, in the context of another tracing API as well, if there is one."""
    context.enter(place)
    bridge = bridge_module.installed
    if bridge is not None:
        place.bridged = (bridge, bridge.enter(place.parent, place.baggage))


class _Silent:
    """Another API's context for an operation whose end it does not hear of."""

    def __init__(self, bridge: Any) -> None:
        self._bridge = bridge

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bridge, name)

    def ended(self, _operation: Operation) -> None:
        """Do nothing."""


def _leave_to_parent() -> None:
    """Have the operations around a fork end in the child without a word: the parent tells of them.

    What begins in the child goes on inside of them, in the same trace.
    """
    scope = context.innermost.get()
    while scope is not None:
        if isinstance(scope, Operation):
            scope.route = scope.route._replace(succeeds=(), fails=(), end_logged=False)
            if scope.bridged is not None:
                scope.bridged = (_Silent(scope.bridged[0]), scope.bridged[1])
        scope = scope.outer


after_fork_in_child(_leave_to_parent)
