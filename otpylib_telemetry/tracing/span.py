"""span(): an operation as a pair of events, with ids that nest."""

from __future__ import annotations

import functools
import inspect
from contextvars import ContextVar
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Self, TypeVar

from otpylib_telemetry.bus import log
from otpylib_telemetry.bus.dispatch import as_dict, emit, execute, is_listened_to
from otpylib_telemetry.bus.table import current, is_async_callable
from otpylib_telemetry.primitives.errors import describe, error_text
from otpylib_telemetry.tracing import bridge as bridge_module
from otpylib_telemetry.tracing import propagation
from otpylib_telemetry.tracing.propagation import SpanContext

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import TracebackType

    from otpylib_telemetry.bus.dispatch import Details


F = TypeVar("F", bound="Callable[..., Any]")


class _Open:
    """What one use of a span leaves in the context while it is open.

    It never leads to spans that have ended, or a callback that schedules itself inside its span would keep
    every span there ever was. So the context variable is empty whenever a span is put into it, which leaves
    nothing in its token; and what surrounds it is remembered only if it was entered in the same context.
    """

    __slots__ = ("bridged", "context", "ended", "ids", "outer", "started", "token")

    def __init__(self, context: SpanContext, ids: dict[str, Any]) -> None:
        self.context = context
        self.ids = ids
        self.outer = _make_way()
        #: By which it is taken out of its context; None when it is out, or has never been in.
        self.token: Token[_Open | None] | None = _innermost.set(self)
        bridge = bridge_module.installed
        self.bridged = None if bridge is None else (bridge, bridge.enter(context))
        self.ended = False
        self.started = monotonic_ns()

    def end(self) -> None:
        """Take it out of its context, or leave that to whoever uses the context next."""
        self.ended = True
        _leave_ended()
        if self.token is None:
            return
        # It was entered in another context, or something is open in it. What has ended around it is skipped.
        outer = self.outer
        while outer is not None and outer.ended:
            self.bridged = outer.bridged or self.bridged
            outer = outer.outer
        self.outer = outer

    def taken_out(self) -> bool:
        """Take it out of this context; False if it was entered in another, or is not there."""
        if self.token is None:
            return False
        try:
            _innermost.reset(self.token)
        except (ValueError, RuntimeError):
            return False
        return True

    def inherited(self) -> _Open:
        """Return what stands for it in a context that was copied while it was the innermost one."""
        made = _Open.__new__(_Open)
        made.context, made.ids, made.outer, made.token = self.context, self.ids, None, None
        made.bridged = None if self.bridged is None else (self.bridged[0], None)
        # It stays, whatever becomes of the span.
        made.ended, made.started = False, self.started
        return made


_innermost: ContextVar[_Open | None] = ContextVar("otpylib_telemetry_span", default=None)


def current_span() -> SpanContext | None:
    """Return the identity of the innermost span that is open in this context, or None.

    A task started inside a span is still inside it when the span has ended meanwhile. Where the context is
    bridged to another tracing API, the innermost span may be one of that API.
    """
    _leave_ended()
    here = _innermost.get()
    bridge = bridge_module.installed
    if bridge is None or (here is not None and here.bridged is None):
        return None if here is None else here.context
    return bridge.around(None if here is None else here.context)


def trace_context() -> dict[str, Any]:
    """Return the metadata that makes a span elsewhere a child of the one that is open here.

    otpylib runs every process in the context of whoever spawned it, not of whoever sent the message it is
    handling: send this along, and give it to :func:`span` there. The ``traceparent`` is the HTTP header.

    Returns:
        ``traceparent`` and ``correlation_id``; nothing where no span is open or nobody listens to it.
    """
    context = current_span()
    if context is None:
        return {}
    return {"traceparent": context.traceparent, "correlation_id": context.correlation_id}


def _leave_ended() -> None:
    """Step out of spans that were entered in this context and have ended in another, or out of order.

    Such a span could not be left where it ended. One that was inherited, by a task that outlives the
    operation which started it, stays: what the task does still belongs to that operation.
    """
    while (here := _innermost.get()) is not None and here.ended and here.taken_out():
        here.token = None
        outer, here.outer = here.outer, None
        if outer is not None:
            outer.token = _innermost.set(outer)
        if here.bridged is not None:
            bridge, token = here.bridged
            bridge.leave(token)


def _make_way() -> _Open | None:
    """Take the innermost span out of the context for one that begins; return what is to be put back later."""
    here = _innermost.get()
    if here is None or here.taken_out():
        return here
    _innermost.set(None)
    return here.inherited()


class Span:
    """One use of :func:`span`; see there."""

    __slots__ = ("_details", "_metadata", "_open", "_overlapping", "name")

    def __init__(self, name: str, details: Details) -> None:
        #: The operation.
        self.name = str.__str__(name) if issubclass(type(name), str) else name
        self._details = details
        self._metadata: dict[str, Any] | None = None
        self._open: _Open | None = None
        self._overlapping = 0

    @property
    def context(self) -> SpanContext | None:
        """The span's identity; None unless it is open and somebody listens."""
        return None if self._open is None else self._open.context

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of the events; what is added while the span is open goes into the ending event."""
        if self._metadata is None:
            self._metadata = _plain(self._details)
        return self._metadata

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
        here = self._begin()
        if here is not None:
            try:
                execute(f"{self.name}.start", {}, self.metadata.copy())
            except BaseException as error:  # interrupted in a handler: the operation never ran, and says so
                execute(*self._end(here, error))
                raise
            here.started = monotonic_ns()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        here = self._leave()
        if here is not None:
            execute(*self._end(here, error))

    async def __aenter__(self) -> Self:
        here = self._begin()
        if here is not None:
            try:
                await emit(f"{self.name}.start", {}, self.metadata.copy())
            except BaseException as error:  # as in __enter__, or cancelled there
                execute(*self._end(here, error))
                raise
            here.started = monotonic_ns()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        here = self._leave()
        if here is None:
            return
        event = self._end(here, error)
        if error is None or issubclass(type(error), Exception):
            await emit(*event)
        else:
            # Cancelled, closed or interrupted: nothing more may be awaited.
            execute(*event)

    def _begin(self) -> _Open | None:
        """Take an identity, unless nobody listens to any event of this operation."""
        if self._open is not None:
            # Counted, so that each use leaves once, and the span itself ends with the last.
            self._overlapping += 1
            log.warning("The span %r was entered again while open; use span(...) anew for each.", self.name)
            return None
        if not _is_wanted(self.name):
            return None
        self._metadata = _plain(self._details)
        try:
            context = _child_context(self._metadata, current_span())
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  # metadata whose keys cannot even be compared
            log.warning(
                "The span %r was not emitted: its metadata cannot be used (%s).", self.name, describe(error)
            )
            return None
        ids = {key: self._metadata[key] for key in ("trace_id", "span_id", "parent_span_id")}
        self._open = _Open(context, ids)
        return self._open

    def _leave(self) -> _Open | None:
        """Return what this exit ends, if anything."""
        if self._overlapping:
            self._overlapping -= 1
            return None
        return self._open

    def _end(self, here: _Open, error: BaseException | None) -> tuple[str, dict[str, Any], dict[str, Any]]:
        measurements = {"duration_ms": (monotonic_ns() - here.started) / 1e6}
        self._open = None
        here.end()
        # The ids once more: without them an ending that was tampered with could not be paired.
        metadata = {**self.metadata, **here.ids}
        if error is None or issubclass(type(error), GeneratorExit):
            return f"{self.name}.success", measurements, metadata
        kind = type(error).__name__
        metadata["error"] = error_text(error) or kind
        metadata["error_type"] = kind
        return f"{self.name}.error", measurements, metadata


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
    return Span(name, metadata)


def _is_wanted(name: object) -> bool:
    """Tell whether anybody listens to the operation; cheap where nobody listens to anything."""
    return (
        bool(current.table.handlers)
        and type(name) is str
        and (
            is_listened_to(f"{name}.start")
            or is_listened_to(f"{name}.success")
            or is_listened_to(f"{name}.error")
        )
    )


def _plain(details: Details) -> dict[str, Any]:
    try:
        return as_dict(details).copy()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  # telemetry never breaks the operation it describes
        return {"metadata_error": describe(error)}


def _child_context(metadata: dict[str, Any], parent: SpanContext | None) -> SpanContext:
    """Choose the span's ids and write them into its metadata."""
    remote = propagation.parse_traceparent(metadata.get("traceparent"))
    sampled = True
    if remote is not None:
        trace_id = propagation.format_trace_id(remote.trace_id)
        metadata["parent_span_id"] = propagation.format_span_id(remote.span_id)
        sampled = remote.sampled
    elif parent is not None:
        trace_id = parent.trace_id
        metadata["parent_span_id"] = parent.span_id
        sampled = parent.sampled
    else:
        trace_id = propagation.format_trace_id(propagation.new_trace_id())
        metadata.setdefault("parent_span_id", None)
    if metadata.get("correlation_id") is None:
        metadata["correlation_id"] = trace_id if parent is None else parent.correlation_id
    metadata["trace_id"] = trace_id
    metadata["span_id"] = span_id = propagation.format_span_id(propagation.new_span_id())
    return SpanContext(trace_id, span_id, metadata["correlation_id"], sampled)
