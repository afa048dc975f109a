"""Who listens to what: an immutable table, replaced whole.

Writers take a lock, build a new table and put it in place of the old one. Readers take none: they read one
reference and then see one consistent table, however long they look at it. The table remembers the handlers of
every event name it was asked for, so that a name is matched against the patterns once.
"""

from __future__ import annotations

import fnmatch
import inspect
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib_telemetry.bus import backlog, event_log
from otpylib_telemetry.bus.handler import Handler
from otpylib_telemetry.primitives.fork import new_lock

if TYPE_CHECKING:
    from collections.abc import Callable

#: Event names remembered; an application that puts identifiers into its names must not fill the memory.
MAX_NAMES = 10_000

#: Longest event name taken; beyond it something else was passed by mistake.
MAX_NAME_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class HandlerInfo:
    """One subscription, as :func:`~otpylib_telemetry.bus.subscriptions.list_handlers` shows it.

    Attributes:
        handler_id: The identifier given to ``attach``.
        pattern: The event pattern.
        callback: What is called.
        suspended: Whether it rests because it kept failing.
        failures: How often it failed so far.
        missed: Events it did not see: while it rested, or because its backlog was full.
    """

    handler_id: str
    pattern: str
    callback: Callable[..., Any]
    suspended: bool
    failures: int
    missed: int


class Route(NamedTuple):
    """Who listens to the events of an operation.

    Attributes:
        start: The event that begins it.
        success: The event that ends it well.
        error: The event that ends it in an error.
        begins: Those called when it begins.
        succeeds: Those called when it ends well.
        fails: Those called when it ends in an error.
        begin_logged: Whether anybody reads of its beginning in the log of events.
        end_logged: Whether anybody reads of its end there.
        traced: Whether it is told of in traces.
    """

    start: str
    success: str
    error: str
    begins: tuple[Handler, ...]
    succeeds: tuple[Handler, ...]
    fails: tuple[Handler, ...]
    begin_logged: bool
    end_logged: bool
    traced: bool


#: Stands for all handlers that read the log of events.
LOG: Final = Handler(
    "telemetry.log", ("*",), event_log.offer, matches=lambda _name: True, is_async=False, reads_log=True
)


class Table:
    """One state of the subscriptions. Never changed, except that it remembers what it has looked up."""

    __slots__ = ("handlers", "operations", "resolved")

    def __init__(self, handlers: dict[str, Handler]) -> None:
        self.handlers = handlers
        self.resolved: dict[str, tuple[Handler, ...]] = {}
        #: By the name of an operation; None where nobody listens.
        self.operations: dict[str, Route | None] = {}

    def resolve(self, name: str) -> tuple[Handler, ...]:
        """Return the handlers of an event name, each once, in the order of attachment.

        Where the first comes that reads the log, there the log stands for all of these.
        """
        found = tuple(
            dict.fromkeys(LOG if handler.reads_log else handler for handler in self._matching(name))
        )
        if len(self.resolved) >= MAX_NAMES:
            # Names without end: forgetting them all keeps a place for those that come back.
            self.resolved = {}
        self.resolved[name] = found
        return found

    def resolve_operation(self, name: str) -> Route | None:
        """Return who listens to an operation, or None where nobody does."""
        route: Route | None = None
        if self.handlers:
            names = (f"{name}.start", f"{name}.success", f"{name}.error")
            begins, succeeds, fails = map(self._matching, names)
            if begins or succeeds or fails:
                ends = (*succeeds, *fails)
                route = Route(
                    *names,
                    begins=_called(begins),
                    succeeds=_called(succeeds),
                    fails=_called(fails),
                    begin_logged=any(one.reads_log for one in begins),
                    end_logged=any(one.reads_log for one in ends),
                    traced=any(one.traces for one in (*begins, *ends)),
                )
        if len(self.operations) >= MAX_NAMES:
            self.operations = {}
        self.operations[name] = route
        return route

    def _matching(self, name: str) -> tuple[Handler, ...]:
        return tuple(handler for handler in self.handlers.values() if handler.matches(name))


def _called(handlers: tuple[Handler, ...]) -> tuple[Handler, ...]:
    return tuple(handler for handler in handlers if not handler.reads_log)


class _Current:
    """Holds the table in force; one attribute, so that replacing it is one atomic step."""

    __slots__ = ("table",)

    def __init__(self) -> None:
        self.table = Table({})


current = _Current()
_lock = new_lock()


def _matcher(patterns: tuple[str, ...]) -> Callable[[str], Any]:
    if "*" in patterns:
        return lambda _name: True
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns)).match


def add(  # noqa: PLR0913  # by name
    handler_id: str,
    patterns: Iterable[str],
    callback: Callable[..., Any],
    *,
    clock: Callable[[], float] = time.monotonic,
    reads_log: bool = False,
    traces: bool = True,
) -> Handler:
    """Subscribe, as :func:`~otpylib_telemetry.attach` says; the same identifier replaces a handler.

    One that ``reads_log`` is not called: it gets what it wants out of the log of events.
    """
    handler_id = _plain_text(handler_id, "a handler id")
    if isinstance(patterns, str):
        raise TypeError(f"patterns is a list of strings, not the string {patterns!r}")
    if not isinstance(patterns, Iterable):
        raise TypeError(f"patterns is a list of strings, not {type(patterns).__name__}")
    what = f"handler {handler_id!r}: an event pattern"
    checked = tuple(
        dict.fromkeys(_plain_text(pattern, what, "; '*' matches every event") for pattern in patterns)
    )
    if not checked:
        raise ValueError(f"handler {handler_id!r} needs at least one event pattern; '*' matches every event")
    if not callable(callback):
        raise TypeError(f"the callback of handler {handler_id!r} cannot be called: {type(callback).__name__}")
    if _unwrapped(callback, inspect.isgeneratorfunction) or _unwrapped(callback, inspect.isasyncgenfunction):
        raise TypeError(f"the callback of handler {handler_id!r} is a generator: calling it does nothing")
    is_async = is_async_callable(callback)
    handler = Handler(
        handler_id,
        checked,
        callback,
        matches=_matcher(checked),
        is_async=is_async,
        reads_log=reads_log,
        traces=traces,
        clock=clock,
    )
    with _lock:
        replaced = current.table.handlers.get(handler_id)
        current.table = Table({**current.table.handlers, handler_id: handler})
    if replaced is not None:
        backlog.forget(replaced)
    return handler


def remove(handler_id: str) -> int:
    """Unsubscribe; return how many patterns went, 0 for an identifier nobody knows."""
    if not isinstance(handler_id, str):
        return 0
    with _lock:
        handlers = dict(current.table.handlers)
        gone = handlers.pop(str.__str__(handler_id), None)
        if gone is None:
            return 0
        current.table = Table(handlers)
    backlog.forget(gone)
    return len(gone.patterns)


def listing(pattern: str = "*") -> list[HandlerInfo]:
    """Return the subscriptions in the order of attachment: :func:`~otpylib_telemetry.list_handlers`."""
    return [
        HandlerInfo(
            handler.handler_id, own, handler.callback, handler.suspended, handler.failures, handler.missed
        )
        for handler in current.table.handlers.values()
        for own in handler.patterns
        if fnmatch.fnmatchcase(own, pattern) or fnmatch.fnmatchcase(pattern, own)
    ]


def _plain_text(value: object, what: str, hint: str = "") -> str:
    """Return exactly a string, not empty: a subclass could have ideas of its own about equality."""
    if not isinstance(value, str):
        raise TypeError(f"{what} is a string, not {type(value).__name__}")
    text = str.__str__(value)
    if not text:
        raise ValueError(f"{what} is not empty{hint}")
    return text


def is_async_callable(function: Callable[..., Any]) -> bool:
    """Tell whether calling it is known to give a coroutine: a coroutine function, or an object around one."""
    return _unwrapped(function, inspect.iscoroutinefunction)


def _unwrapped(function: Callable[..., Any], test: Callable[[object], bool]) -> bool:
    """Ask about a function or, where it is an object that can be called, about what runs when it is."""
    return test(function) or test(getattr(function, "__call__", None))  # noqa: B004  # asked, not tested
