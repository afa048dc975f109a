"""span(): an operation, with ids that nest."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from threading import get_ident
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Self, TypeVar

from otpylib_telemetry.bus import context, event_log, log
from otpylib_telemetry.bus.context import innermost
from otpylib_telemetry.bus.dispatch import as_dict, call, call_and_await
from otpylib_telemetry.bus.event_log import due, entries
from otpylib_telemetry.bus.table import MAX_NAME_LENGTH, current, is_async_callable
from otpylib_telemetry.otp import current_process
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.tracing import bridge as bridge_module
from otpylib_telemetry.tracing import parts, propagation
from otpylib_telemetry.tracing.headers import header_text, merge_baggage, read_baggage, read_tracestate
from otpylib_telemetry.tracing.operation import (
    Carried,
    LocalTrace,
    Operation,
    Place,
    remote_place,
    with_baggage,
)
from otpylib_telemetry.tracing.propagation import DRAWN, draw_bits, id_source

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from otpylib_telemetry.bus.dispatch import Details
    from otpylib_telemetry.bus.handler import Handler
    from otpylib_telemetry.bus.table import Route
    from otpylib_telemetry.tracing.propagation import SpanContext, TraceParent


F = TypeVar("F", bound="Callable[..., Any]")

_new = object.__new__


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


class Span:
    """One use of :func:`span`; see there."""

    # On the class, so that making one sets as little as possible: most operations are never looked at.
    _operation: Operation | None = None
    _scope: Place | None = None
    _metadata: dict[str, Any] | None = None
    _overlapping: int = 0

    def __init__(self, name: str, details: Details) -> None:
        #: The operation.
        self.name = name
        self._details = details

    @property
    def context(self) -> SpanContext | None:
        """The span's identity; None unless it is open and somebody listens."""
        operation = self._operation
        return None if operation is None or operation.ended else operation.context

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the events; what is added while the span is open goes into the ending event."""
        if self._metadata is None:
            operation = self._operation
            self._metadata = _plain(self._details) if operation is None else parts.metadata_of(operation)
        return self._metadata

    def set_attribute(self, key: str, value: object) -> None:
        """Put an attribute into the metadata of the ending event, and on the span that is exported.

        This, and whatever follows, does nothing where nobody listens, and after the span has ended; nothing
        of it raises, whatever it is given.
        """
        if (operation := self._operation) is not None:
            parts.set_attribute(operation, key, value)

    def add_event(self, name: str, attributes: Details = None) -> None:
        """Note that something happened during the span, now.

        Args:
            name: What.
            attributes: Name to anything, or a callable that gives it.
        """
        if (operation := self._operation) is not None:
            parts.add_event(operation, name, attributes)

    def add_link(self, context: object, attributes: Details = None) -> None:
        """Link the span to another that has to do with it, without being its parent.

        Args:
            context: A ``SpanContext``, ours or OpenTelemetry's, what ``trace_context()`` has returned there,
                or a ``traceparent``. What names no span is ignored.
            attributes: What is said about the link.
        """
        if (operation := self._operation) is not None:
            parts.add_link(operation, context, attributes)

    def record_exception(self, error: BaseException, attributes: Details = None) -> None:
        """Note an exception, as an event of the span; how the span ends is not changed by that."""
        if (operation := self._operation) is not None:
            parts.record_exception(operation, error, attributes)

    def measure(self, **numbers: float) -> None:
        """Put further numbers among the measurements of the ending event.

        ``count`` counts, ``value`` is a level, and ``duration_ms`` goes before what was timed, as in every
        other event.
        """
        if (operation := self._operation) is not None:
            parts.measure(operation, numbers)

    def fail(self, reason: str) -> None:
        """Have the span end in an error, though nothing is raised; an exception goes before it."""
        if (operation := self._operation) is not None:
            parts.fail(operation, reason)

    def __call__(self, function: F) -> F:
        """Decorate a function, plain or async: every call is a span of its own.

        Raises:
            TypeError: It is no function, or a generator: one runs only while somebody iterates over it, so
                that a span around its call would measure nothing.
        """
        wrapped: Any
        if isinstance(function, staticmethod | classmethod):
            wrapped = type(function)(self(function.__func__))
            return wrapped  # type: ignore[no-any-return]  # of the same kind as function
        if inspect.isclass(function) or not callable(function):
            raise TypeError(f"span({self.name!r}) decorates functions, not {type(function).__name__}")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"span({self.name!r}) does not decorate generators; use 'with span(...)' inside")
        name, details = self.name, self._details
        if is_async_callable(function):

            @functools.wraps(function)
            async def traced_async(*args: Any, **kwargs: Any) -> Any:
                async with Span(name, details):
                    return await function(*args, **kwargs)

            return traced_async  # type: ignore[return-value]  # the same signature, by functools.wraps

        @functools.wraps(function)
        def traced(*args: Any, **kwargs: Any) -> Any:
            with Span(name, details):
                return function(*args, **kwargs)

        return traced  # type: ignore[return-value]  # as above

    def __enter__(self) -> Self:
        # The look-up twice over, here and below: where nobody listens, it is all there is.
        try:
            route = current.table.operations[self.name]
        except BaseException:  # noqa: BLE001  # not seen before, or a name that cannot even be looked up
            route = self._resolve()
        if route is None:
            details = self._details
            if details is not None and (
                type(details) is not dict or "traceparent" in details or "baggage" in details
            ):
                self._pass_through(details)
            return self
        if (operation := self._begin(route)) is not None and route.begins:
            try:
                call(route.begins, *operation.start_event())
            except BaseException as error:  # interrupted in a handler: it never ran, and says so
                self._end(operation, error)
                raise
            self._started_ns = monotonic_ns()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        operation = self._operation
        if operation is None or self._overlapping or operation.ended:
            if self._scope is not None or self._overlapping:
                self._leave()
            return
        handlers = self._close(operation, error)
        if handlers:
            call(handlers, *operation.end_event())

    async def __aenter__(self) -> Self:
        try:
            route = current.table.operations[self.name]
        except BaseException:  # noqa: BLE001  # as above
            route = self._resolve()
        if route is None:
            details = self._details
            if details is not None and (
                type(details) is not dict or "traceparent" in details or "baggage" in details
            ):
                self._pass_through(details)
            return self
        if (operation := self._begin(route)) is not None and route.begins:
            try:
                await call_and_await(route.begins, *operation.start_event())
            except BaseException as error:  # as in __enter__, or cancelled there
                self._end(operation, error)
                raise
            self._started_ns = monotonic_ns()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        operation = self._operation
        if operation is None or self._overlapping or operation.ended:
            if self._scope is not None or self._overlapping:
                self._leave()
            return
        if error is not None and not issubclass(type(error), Exception):
            # Cancelled, closed or interrupted: nothing more may be awaited.
            self._end(operation, error)
            return
        handlers = self._close(operation, error)
        if handlers:
            await call_and_await(handlers, *operation.end_event())

    def _begin(self, route: Route) -> Operation | None:  # noqa: C901, PLR0912  # calls are what it saves
        """Take an identity; what is done here costs whoever emits, so it is done in one piece."""
        if self._operation is not None and not self._operation.ended:
            # Counted, so that each use leaves once, and the span itself ends with the last.
            self._overlapping += 1
            log.warning("The span %r was entered again while open; use span(...) anew for each.", self.name)
            return None
        details = self._details
        metadata = details.copy() if type(details) is dict else _plain(details)
        here: Place | None = innermost.get()  # type: ignore[assignment]  # nothing else is entered
        bridge = bridge_module.installed
        if bridge is not None or (here is not None and here.ended):
            here = place_here()
        source = id_source()
        operation = Operation()
        operation.name = self.name
        operation.route = route
        operation.metadata = metadata
        operation.emitter = current_process() or get_ident()
        # Drawn here where they are drawn: that saves two calls.
        operation.span_id = (draw_bits(64) if source is DRAWN else 0) or source.span_id()
        if here is None:
            operation.trace = trace = _new(LocalTrace)
            trace.trace_id = (draw_bits(128) if source is DRAWN else 0) or source.trace_id()
        elif here.is_parent:
            operation.trace = here.trace
            operation.parent_span_id = here.span_id
            operation.carried = here.carried
            operation.correlation = here.correlation
        else:
            _begin_beyond(operation, here)
        try:
            if "traceparent" in metadata or "baggage" in metadata:
                _join(operation, here, metadata)
            if "correlation_id" in metadata and (given := metadata["correlation_id"]) is not None:
                operation.correlation = given
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  # metadata whose keys cannot even be compared
            log.warning(
                "The span %r was not emitted: its metadata cannot be used (%s).", self.name, describe(error)
            )
            return None
        if not route.traced:
            _step_aside(operation)
        self._metadata = None
        self._operation = operation
        if bridge is None and innermost.get() is None:
            operation.token = innermost.set(operation)
        else:
            enter(operation)
        self._started_ns = operation.at_ns = monotonic_ns()
        if route.begin_logged:
            entries.append(operation)
            if len(entries) >= due.at:
                event_log.hand_out()
        return operation

    def _resolve(self) -> Route | None:
        """Look up a name the table has not seen; what is no name reaches nobody."""
        name = self.name
        if not issubclass(type(name), str):
            return None
        self.name = name = str.__str__(name)
        if not name or len(name) > MAX_NAME_LENGTH - len(".success"):
            return None
        return current.table.resolve_operation(name)

    def _pass_through(self, details: Any) -> None:
        """Have what runs inside continue the caller's trace, though nobody listens to this operation."""
        if self._scope is not None or not issubclass(type(details), Mapping):
            # A callable is called only if somebody listens.
            return
        try:
            self._scope = place_there(details)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001  # a mapping of the caller's, or keys that cannot be compared
            return
        if self._scope is not None:
            enter(self._scope)

    def _leave(self) -> None:
        """Leave a use of it that is no operation."""
        if self._overlapping:
            self._overlapping -= 1
        elif self._scope is not None:
            place, self._scope = self._scope, None
            context.leave(place)

    def _end(self, operation: Operation, error: BaseException | None) -> None:
        handlers = self._close(operation, error)
        if handlers:
            call(handlers, *operation.end_event())

    def _close(self, operation: Operation, error: BaseException | None) -> tuple[Handler, ...]:
        """Complete the record and log it; return who is to be called."""
        now_ns = monotonic_ns()
        context.leave(operation)
        operation.duration_ms = (now_ns - self._started_ns) / 1e6
        if not operation.is_plain:
            parts.complete(operation)
        if error is not None:
            parts.raised(operation, error)
        # Last: whoever sees that it has ended sees how.
        operation.ended_ns = now_ns
        route = operation.route
        if route.end_logged:
            entries.append((operation,))
            if len(entries) >= due.at:
                event_log.hand_out()
        return route.succeeds if operation.failure is None else route.fails


def span(name: str, metadata: Details = None) -> Span:
    """Emit the beginning and the end of an operation.

    A context manager, sync and async, and a decorator for functions of both kinds. Emits ``name.start``, then
    ``name.success`` or ``name.error`` with ``duration_ms`` (milliseconds), the start's metadata and, on an
    error, ``error`` and ``error_type``. Cancellation ends it with ``error_type="CancelledError"``. The
    metadata carries ``trace_id``, ``span_id``, ``parent_span_id`` and ``correlation_id`` (W3C Trace Context);
    spans nest through a context variable, and a ``traceparent`` in the metadata joins that trace.

    Where nobody listens to the operation, nothing of this happens. Closing a generator early is a success.

    Args:
        name: The operation, for instance ``shop.checkout``.
        metadata: Name to anything, or a callable that gives it.

    Returns:
        The context manager, good for one block at a time; its ``metadata`` may be added to while it is open.
    """
    made = _new(Span)
    # Not by calling the class: that costs as much again.
    made.name = name
    made._details = metadata  # noqa: SLF001  # of this module
    return made


def _plain(details: Details) -> dict[str, Any]:
    try:
        return as_dict(details).copy()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  # telemetry never breaks the operation it describes
        return {"metadata_error": describe(error)}


def _begin_beyond(operation: Operation, here: Place) -> None:
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


def _step_aside(operation: Operation) -> None:
    """Have what runs inside of an operation begin where it has begun itself: no trace tells of it."""
    operation.is_parent = False
    if operation.parent_span_id:
        operation.beyond = place = Place()
        place.trace = operation.trace
        place.span_id = operation.parent_span_id
        place.carried = operation.carried
        place.correlation = operation.correlation


def _join(operation: Operation, here: Place | None, metadata: Mapping[str, Any]) -> None:
    """Have an operation continue the trace that its metadata names, with the baggage there."""
    carried = operation.carried
    baggage = "" if carried is None else carried.baggage
    if "baggage" in metadata:
        baggage = merge_baggage(baggage, read_baggage(metadata["baggage"]))
    remote = _caller_in(metadata)
    if remote is not None:
        operation.trace = LocalTrace(remote.trace_id)
        operation.parent_span_id = remote.span_id
        operation.carried = Carried(remote, remote.flags, _tracestate_in(metadata), baggage)
        if here is not None and here.is_place:
            operation.correlation = here.correlation_id
    elif baggage:
        operation.carried = Carried(baggage=baggage) if carried is None else carried._replace(baggage=baggage)


def _caller_in(metadata: Mapping[str, Any]) -> TraceParent | None:
    if "traceparent" not in metadata:
        return None
    return propagation.parse_traceparent(header_text(metadata["traceparent"]))


def _tracestate_in(metadata: Mapping[str, Any]) -> str:
    return read_tracestate(metadata["tracestate"]) if "tracestate" in metadata else ""


def place_there(metadata: Mapping[str, Any]) -> Place | None:
    """Return the place that metadata names, with the baggage there and here; None where it names none."""
    here = place_here()
    given = read_baggage(metadata["baggage"]) if "baggage" in metadata else ""
    remote = _caller_in(metadata)
    if remote is None and not given:
        return None
    baggage = merge_baggage("" if here is None else here.baggage, given)
    if remote is None:
        return with_baggage(here, baggage)
    place = remote_place(remote, _tracestate_in(metadata), baggage)
    if "correlation_id" in metadata:
        place.correlation = metadata["correlation_id"]
    if place.correlation is None and here is not None and here.is_place:
        place.correlation = here.correlation_id
    return place


def enter(place: Place) -> None:
    """Put the running code at a place, in the context of another tracing API as well, if there is one."""
    context.enter(place)
    bridge = bridge_module.installed
    if bridge is not None:
        parent = place.parent
        place.bridged = (
            bridge,
            bridge.enter(None if parent is None else parent.context, place.baggage),
        )
