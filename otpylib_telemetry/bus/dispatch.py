"""Emitting events: the hot path, and nothing else.

An event is dispatched in the caller. The handlers of its name are one dictionary look-up away; where there
are none, that is all that happens. No function of this module raises, whatever its arguments and the handlers
do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import ContextVar
from types import CoroutineType
from typing import Any, Final, TypeAlias, TypeVar

from otpylib_telemetry.bus import backlog, log
from otpylib_telemetry.bus.handler import Handler, PlainEvent, ends_the_caller
from otpylib_telemetry.bus.table import MAX_NAME_LENGTH, current
from otpylib_telemetry.primitives.circuit import ORDINARY
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.fork import new_rlock
from otpylib_telemetry.primitives.once import Once

T = TypeVar("T")

#: Measurements or metadata: a mapping, or a callable that gives one and is called only if somebody listens.
Details: TypeAlias = Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None

#: A call to make: the handler, the event, and the coroutine its callback has returned already, if any.
Pending: TypeAlias = tuple[Handler, str, dict[str, Any], dict[str, Any], Coroutine[Any, Any, Any] | None]

#: How deep handlers may be called by spans that handlers open. One that handles its own spans is called twice
#: by each, so that every level doubles the calls.
_DEEPEST: Final = 8

#: How deep they are.
_depth: ContextVar[int] = ContextVar("otpylib_telemetry_depth", default=0)

#: A required argument that was not given: emitting does not raise for it.
_UNSET: Any = object()

#: Kinds of mistakes that are logged, at most: something may make a new one with every event.
_KINDS = 100


class _Refused:
    """Counts refused events, and logs each kind of mistake once."""

    def __init__(self) -> None:
        #: Events lost because the stack or the memory was full, so that no function could be called.
        self.abandoned = 0
        self._count = 0
        self._said = Once(_KINDS)
        self._lock = new_rlock()

    @property
    def count(self) -> int:
        return self._count + self.abandoned

    def add(self, kind: object, what: str) -> None:
        with self._lock:
            self._count += 1
            if not self._said.is_news(kind):
                return
        # Not under the lock: a log handler may emit.
        log.warning("An event was not emitted: %s. Further ones like it are only counted.", what)

    def reset(self) -> None:
        with self._lock:
            self._count = self.abandoned = 0
            self._said.clear()


refused = _Refused()


def execute(name: str, measurements: Details = None, metadata: Details = None) -> None:
    """Emit an event from a plain function; any thread, any process, no event loop needed.

    Plain handlers run before this returns; calls of async ones are handed to the TelemetryManager process.

    Args:
        name: Dotted name, for instance ``shop.checkout.start``.
        measurements: Name to number.
        metadata: Name to anything.
    """
    try:
        try:
            handlers = current.table.resolved[name]
        except BaseException:  # noqa: BLE001  # not seen before, or a name that cannot even be looked up
            handlers = _resolve(name)
        if handlers:
            pending = _dispatch(handlers, name, measurements, metadata)
            if pending is not None:
                for call in pending:
                    backlog.hand_over(*call)
    except Exception:  # noqa: BLE001  # the stack or the memory ended in the middle
        refused.abandoned += 1


async def emit(name: str, measurements: Details = None, metadata: Details = None) -> None:
    """Emit an event; async handlers are awaited before this returns.

    Args:
        name: Dotted name, for instance ``shop.checkout.start``.
        measurements: Name to number.
        metadata: Name to anything.

    Raises:
        asyncio.CancelledError: The calling task was cancelled; nothing else is ever raised.
    """
    pending: list[Pending] | None = None
    try:
        try:
            handlers = current.table.resolved[name]
        except BaseException:  # noqa: BLE001  # as in execute
            handlers = _resolve(name)
        if handlers:
            pending = _dispatch(handlers, name, measurements, metadata)
    except Exception:  # noqa: BLE001  # as in execute
        refused.abandoned += 1
    if pending is not None:
        await _call_all(pending)


async def emit_counter(name: str = _UNSET, /, count: float = 1, **metadata: Any) -> None:
    """Emit ``{"count": count}``.

    Args:
        name: Dotted name.
        count: By how much something went up.
        **metadata: The event's metadata; where the event's name is given by position, it may have a ``name``.
    """
    name = metadata.pop("name", None) if name is _UNSET else name
    await emit(name, {"count": count}, metadata)


async def emit_timer(name: str = _UNSET, /, duration_ms: float = _UNSET, **metadata: Any) -> None:
    """Emit ``{"duration_ms": duration_ms}``.

    Args:
        name: Dotted name.
        duration_ms: How long something took, in milliseconds.
        **metadata: The event's metadata; where the event's name is given by position, it may have a ``name``.
    """
    name = metadata.pop("name", None) if name is _UNSET else name
    await emit(name, {} if duration_ms is _UNSET else {"duration_ms": duration_ms}, metadata)


async def emit_gauge(name: str = _UNSET, /, value: float = _UNSET, **metadata: Any) -> None:
    """Emit ``{"value": value}``.

    Args:
        name: Dotted name.
        value: What something stands at.
        **metadata: The event's metadata; where the event's name is given by position, it may have a ``name``.
    """
    name = metadata.pop("name", None) if name is _UNSET else name
    await emit(name, {} if value is _UNSET else {"value": value}, metadata)


def is_listened_to(name: str) -> bool:
    """Tell whether an event of this name would reach any handler."""
    try:
        return bool(current.table.resolved[name])
    except BaseException:  # noqa: BLE001  # as in execute
        return bool(_resolve(name))


def _refuse_nested(name: str) -> None:
    refused.add("nested", f"a handler of {name!r} opens spans that it handles itself")


def call(
    handlers: tuple[Handler, ...], name: str, measurements: dict[str, Any], metadata: dict[str, Any]
) -> None:
    """Give an event of an operation to certain handlers, as :func:`execute` would."""
    if (depth := _depth.get()) >= _DEEPEST:
        _refuse_nested(name)
        return
    token = _depth.set(depth + 1)
    try:
        pending = _dispatch(handlers, name, measurements, metadata)
        if pending is not None:
            for one in pending:
                backlog.hand_over(*one)
    except Exception:  # noqa: BLE001  # as in execute
        refused.abandoned += 1
    finally:
        _depth.reset(token)


async def call_and_await(
    handlers: tuple[Handler, ...], name: str, measurements: dict[str, Any], metadata: dict[str, Any]
) -> None:
    """Give an event of an operation to certain handlers, as :func:`emit` would."""
    if (depth := _depth.get()) >= _DEEPEST:
        _refuse_nested(name)
        return
    token = _depth.set(depth + 1)
    try:
        pending: list[Pending] | None = None
        try:
            pending = _dispatch(handlers, name, measurements, metadata)
        except Exception:  # noqa: BLE001  # as in execute
            refused.abandoned += 1
        if pending is not None:
            await _call_all(pending)
    finally:
        # One that is closed from another context leaves nothing there to put back.
        with contextlib.suppress(ValueError):
            _depth.reset(token)


def _dispatch(  # noqa: C901  # one frame: this is the hot path
    handlers: tuple[Handler, ...], name: str, measurements: Details, metadata: Details
) -> list[Pending] | None:
    """Call the plain handlers; return the calls of async ones, or None where there are none."""
    if type(measurements) is not dict or type(metadata) is not dict or type(name) is not str:
        plain = _plain_event(name, measurements, metadata)
        if plain is None:
            return None
        name, measurements, metadata = plain
    pending: list[Pending] | None = None
    reports: list[PlainEvent] | None = None
    for handler in handlers:
        if handler.is_async:
            pending = _with(pending, (handler, name, measurements, metadata, None))
            continue
        permit = ORDINARY
        if handler.troubled and not (permit := handler.admit()):
            continue
        try:
            # Loaded first: calling it as if it were a method costs a search in the class.
            callback = handler.callback
            result = callback(name, measurements, metadata)
        except KeyboardInterrupt:
            handler.released(permit)
            raise
        except BaseException as error:  # noqa: BLE001  # whatever a handler raises ends here, SystemExit included
            reports = _with(reports, handler.failed(error, name, permit))
            continue
        if type(result) is CoroutineType:
            # A plain callback that hands back a coroutine, as ``lambda *event: other(*event)`` does.
            handler.is_async = True
            handler.released(permit)
            pending = _with(pending, (handler, name, measurements, metadata, result))
        elif handler.troubled:
            reports = _with(reports, handler.succeeded(permit))
    if reports is not None:
        # After the event itself, so that everybody sees the two in the order in which they happened.
        for event in reports:
            execute(*event)
    return pending


def _with(items: list[T] | None, item: T | None) -> list[T] | None:
    """Append to a list that is made when there is something to append: hardly ever."""
    if item is None:
        return items
    if items is None:
        return [item]
    items.append(item)
    return items


async def _call_all(pending: list[Pending]) -> None:
    """Await the calls one after another; where the caller is cancelled, the manager makes the rest."""
    for index, call in enumerate(pending):
        try:
            await call_async(*call)
        except BaseException:
            for rest in pending[index + 1 :]:
                backlog.hand_over(*rest)
            raise


async def call_async(
    handler: Handler,
    name: str,
    measurements: dict[str, Any],
    metadata: dict[str, Any],
    started: Coroutine[Any, Any, Any] | None = None,
) -> None:
    """Call one async handler; raises nothing but the cancellation of the calling task."""
    if not (permit := handler.admit()):
        if started is not None:
            started.close()
        return
    try:
        result = handler.callback(name, measurements, metadata) if started is None else started
        # A callback that gave a coroutine once may give something else the next time.
        if type(result) is CoroutineType or isinstance(result, Awaitable):
            await result
    except KeyboardInterrupt:
        handler.released(permit)
        raise
    except BaseException as error:
        if ends_the_caller(error):
            handler.released(permit)
            raise
        report = handler.failed(error, name, permit)
    else:
        if not handler.troubled:
            return
        report = handler.succeeded(permit)
    if report is not None:
        execute(*report)


def _resolve(name: object) -> tuple[Handler, ...]:
    """Look up a name the table has not seen, or refuse what is no name."""
    kind = type(name)
    if not issubclass(kind, str):
        refused.add(kind, f"an event name is a string, not {kind.__name__}")
        return ()
    exact = str.__str__(name)
    if not exact or len(exact) > MAX_NAME_LENGTH:
        refused.add("length", f"an event name has 1 to {MAX_NAME_LENGTH} characters")
        return ()
    return current.table.resolve(exact)


def _plain_event(name: str, measurements: Details, metadata: Details) -> PlainEvent | None:
    """Return an event of a plain str and two plain dicts, or refuse it."""
    name = str.__str__(name)
    try:
        return name, as_dict(measurements), as_dict(metadata)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  # a callable of the user's may raise anything
        what = f"measurements or metadata of {name!r} cannot be used ({describe(error)})"
        refused.add((name, type(error)), what)
        return None


def as_dict(details: Any) -> dict[str, Any]:
    """Return measurements or metadata as handlers get them; raises whatever the caller's object raises."""
    if type(details) is dict:
        return details
    if details is None:
        return {}
    if callable(details) and not isinstance(details, Mapping):
        details = details()
        if type(details) is dict:
            return details
        if details is None:
            return {}
        if type(details) is CoroutineType:
            details.close()
    if not isinstance(details, Mapping):
        raise TypeError(f"a mapping was expected, not {type(details).__name__}")
    return dict(details)
