"""span(): an operation, with ids that nest."""

from __future__ import annotations

from collections.abc import Mapping
from threading import get_ident
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from otpylib_telemetry.bus import context, event_log, log
from otpylib_telemetry.bus.context import innermost
from otpylib_telemetry.bus.dispatch import call, call_and_await
from otpylib_telemetry.bus.event_log import due, entries
from otpylib_telemetry.bus.table import MAX_NAME_LENGTH, current
from otpylib_telemetry.otp import current_process
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.tracing import bridge as bridge_module
from otpylib_telemetry.tracing import parts
from otpylib_telemetry.tracing.decoration import decorated, is_decorated, name_of
from otpylib_telemetry.tracing.operation import LocalTrace, Operation, Place
from otpylib_telemetry.tracing.places import begin_beyond, enter, join, place_here, place_there, step_aside
from otpylib_telemetry.tracing.propagation import DRAWN, draw_bits, id_source
from otpylib_telemetry.tracing.record import end

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from otpylib_telemetry.bus.dispatch import Details
    from otpylib_telemetry.bus.table import Route
    from otpylib_telemetry.tracing.propagation import SpanContext


F = TypeVar("F", bound="Callable[..., Any]")

_new = object.__new__


class Span:
    """One use of :func:`span`; see there."""

    # On the class, so that making one sets as little as possible: most operations are never looked at.
    _operation: Operation | None = None
    _scope: Place | None = None
    _metadata: dict[str, Any] | None = None
    _overlapping: int = 0
    _started_ns: int = 0

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
            self._metadata = (
                parts.table_of(self._details) if operation is None else parts.metadata_of(operation)
            )
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
        """Decorate a function, of whatever kind: every call is a span of its own.

        A generator's span begins with the first step and ends with the last. Its steps run inside the span,
        and who iterates over it does not.

        Raises:
            TypeError: It is no function.
        """
        name, details = self.name, self._details
        return decorated(function, name, lambda: span(name, details))

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
                if handlers := end(operation, error, "", self._started_ns):
                    call(handlers, *operation.end_event())
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
        handlers = end(operation, error, "", self._started_ns)
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
                if handlers := end(operation, error, "", self._started_ns):
                    call(handlers, *operation.end_event())
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
            self.__exit__(None, error, None)
            return
        handlers = end(operation, error, "", self._started_ns)
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
        metadata = details.copy() if type(details) is dict else parts.table_of(details)
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
            begin_beyond(operation, here)
        try:
            if "traceparent" in metadata or "baggage" in metadata:
                join(operation, here, metadata)
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
            step_aside(operation)
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


@overload
def span(name: F) -> F: ...


@overload
def span(name: str, metadata: Details = None) -> Span: ...


def span(name: Any, metadata: Details = None) -> Any:
    """Emit the beginning and the end of an operation.

    A context manager, sync and async, and a decorator for functions: plain and async ones, generators and
    async generators, static methods and class methods. Emits ``name.start``, then ``name.success`` or
    ``name.error`` with ``duration_ms`` (milliseconds), the start's metadata and, on an error, ``error``,
    ``error_type`` and ``stacktrace``. Cancellation ends it with ``error_type="CancelledError"``. The metadata
    carries ``trace_id``, ``span_id``, ``parent_span_id`` and ``correlation_id`` (W3C Trace Context); spans
    nest through a context variable, and a ``traceparent`` in the metadata joins that trace.

    Where nobody listens to the operation, nothing of this happens, but what runs inside stays in the trace.
    Closing a generator early is a success, and so is ``sys.exit(0)``.

    Args:
        name: The operation, for instance ``shop.checkout``. Or the function that is decorated, which is
            named by its module and its own name: ``@span``.
        metadata: Name to anything, or a callable that gives it.

    Returns:
        The context manager, good for one block at a time; its ``metadata`` may be added to while it is open.
    """
    if type(name) is not str and is_decorated(name):
        return span(name_of(name), metadata)(name)
    made = _new(Span)
    # Not by calling the class: that costs as much again.
    made.name = name
    made._details = metadata  # noqa: SLF001  # of this module
    return made


def operation_of(use: Span) -> Operation | None:
    """Return the operation that a use of :func:`span` has begun; None where nobody listens."""
    return use._operation  # noqa: SLF001  # of this module
