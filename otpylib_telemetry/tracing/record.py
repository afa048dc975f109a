"""Operations recorded: what an instrumentation does without a block, and how any operation ends.

:class:`.span.Span` begins one in a piece of its own: there a call more would be felt by every operation. What
is changed in one place belongs into the other; tests/tracing/test_record.py holds both against each other.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.bus import context, event_log
from otpylib_telemetry.bus.context import innermost
from otpylib_telemetry.bus.event_log import due, entries
from otpylib_telemetry.bus.table import current
from otpylib_telemetry.tracing import bridge as bridge_module
from otpylib_telemetry.tracing import parts
from otpylib_telemetry.tracing.operation import LocalTrace, Operation, Place
from otpylib_telemetry.tracing.places import begin_beyond, step_aside
from otpylib_telemetry.tracing.propagation import DRAWN, draw_bits, id_source

if TYPE_CHECKING:
    from otpylib_telemetry.bus.handler import Handler
    from otpylib_telemetry.bus.table import Route

_new = object.__new__


def route_of(name: str) -> Route | None:
    """Return who listens to an operation; None where nobody does, which is when it need not be recorded."""
    table = current.table
    try:
        return table.operations[name]
    except KeyError:
        return table.resolve_operation(name)


def begin(
    route: Route, name: str, metadata: dict[str, Any], place: Place | None, emitter: object
) -> Operation:
    """Begin an operation at a place in a trace, and put the running code inside of it.

    What the running code was inside of is left: an operation that is begun here surrounds all it does.
    ``metadata`` is shared, and never changed. The caller calls those of ``route.begins``.
    """
    operation = Operation()
    operation.name = name
    operation.route = route
    operation.metadata = metadata
    operation.emitter = emitter
    source = id_source()
    operation.span_id = (draw_bits(64) if source is DRAWN else 0) or source.span_id()
    if place is None:
        operation.trace = trace = _new(LocalTrace)
        trace.trace_id = (draw_bits(128) if source is DRAWN else 0) or source.trace_id()
    elif place.is_parent:
        operation.trace = place.trace
        operation.parent_span_id = place.span_id
        operation.carried = place.carried
        operation.correlation = place.correlation
    else:
        begin_beyond(operation, place)
    if not route.traced:
        step_aside(operation)
    return operation


def enter_alone(place: Place) -> None:
    """Put the running code at a place, or inside of an operation, and of nothing else."""
    if innermost.get() is not None:
        innermost.set(None)
    place.token = innermost.set(place)
    bridge = bridge_module.installed
    if bridge is not None:
        place.bridged = (bridge, bridge.enter_alone(place.parent, place.baggage))


def logged(operation: Operation) -> None:
    """Log that it has begun."""
    entries.append(operation)
    if len(entries) >= due.at:
        event_log.hand_out()


def end(
    operation: Operation, error: BaseException | None = None, said: str = "", since_ns: int = 0
) -> tuple[Handler, ...]:
    """End an operation, and leave it; return who is to be called with the event that tells so.

    ``said`` is what it says about the error instead of the error's own text; ``since_ns`` is from when it
    counts, if not from its beginning.
    """
    now_ns = monotonic_ns()
    context.leave(operation)
    operation.duration_ms = (now_ns - (since_ns or operation.at_ns)) / 1e6
    if not operation.is_plain:
        parts.complete(operation)
    if error is not None:
        parts.raised(operation, error)
        if said and operation.failure is not None:
            operation.failure = {**operation.failure, "error": said}
    # Last: whoever sees that it has ended sees how.
    operation.ended_ns = now_ns
    if operation.bridged is not None and operation.is_parent:
        operation.bridged[0].ended(operation)
    route = operation.route
    if route.end_logged:
        entries.append((operation,))
        if len(entries) >= due.at:
            event_log.hand_out()
    return route.succeeds if operation.failure is None else route.fails
