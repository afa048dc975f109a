"""Functions whose calls are operations: plain and async ones, and generators of both kinds."""

from __future__ import annotations

import functools
import inspect
import types
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from otpylib_telemetry.bus import context
from otpylib_telemetry.bus.table import is_async_callable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from otpylib_telemetry.bus.context import Scope

F = TypeVar("F", bound="Callable[..., Any]")

_FUNCTIONS: Final = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    staticmethod,
    classmethod,
    functools.partial,
    type(functools.lru_cache(len)),
)


#: One use of ``span()``: a context manager, sync and async.
Use: TypeAlias = Any


def is_decorated(given: Any) -> bool:
    """Tell whether what was given in place of a name is a function, and not by mistake.

    Nobody can write ``@span`` above a lambda.
    """
    kind = type(given)
    return issubclass(kind, _FUNCTIONS) and not (
        issubclass(kind, types.FunctionType) and given.__code__.co_name == "<lambda>"
    )


def name_of(function: Any) -> str:
    """Return the name of the operation that a function is: its module and what it is called there."""
    function = getattr(function, "__func__", function)
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", type(function).__qualname__)
    module = getattr(function, "__module__", None)
    written = name if module is None else f"{module}.{name}"
    return written.replace(".<locals>", "")


def decorated(function: F, name: str, use: Callable[[], Use]) -> F:
    """Return a function each call of which is an operation, begun by ``use``."""
    wrapped: Any
    if isinstance(function, staticmethod | classmethod):
        wrapped = type(function)(decorated(function.__func__, name, use))
    elif inspect.isclass(function) or not callable(function):
        raise TypeError(f"span({name!r}) decorates functions, not {type(function).__name__}")
    elif _is(function, inspect.isasyncgenfunction):
        wrapped = _async_generator(function, use)
    elif _is(function, inspect.isgeneratorfunction):
        wrapped = _generator(function, use)
        if _is(function, _is_old_coroutine):
            wrapped = functools.wraps(function)(types.coroutine(wrapped))
    elif is_async_callable(function):
        wrapped = _coroutine(function, use)
    else:
        wrapped = _plain(function, use)
    return wrapped  # type: ignore[no-any-return]  # the same signature, by functools.wraps


def _is(function: Any, test: Callable[[Any], bool]) -> bool:
    """Ask about a function or, where it is an object that can be called, about what runs when it is."""
    return test(function) or test(getattr(type(function), "__call__", None))  # noqa: B004  # asked, not tested


def _is_old_coroutine(function: Any) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & inspect.CO_ITERABLE_COROUTINE)


def _plain(function: Callable[..., Any], use: Callable[[], Use]) -> Callable[..., Any]:
    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        with use():
            return function(*args, **kwargs)

    return traced


def _coroutine(function: Callable[..., Any], use: Callable[[], Use]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def traced(*args: Any, **kwargs: Any) -> Any:
        async with use():
            return await function(*args, **kwargs)

    return traced


class _Steps:
    """Has a generator run inside of its operation step by step, and whoever iterates over it outside of it.

    A generator runs in the context of whoever asks it for the next step, who may be another each time.
    """

    __slots__ = ("_inner", "_outer", "_scope", "_theirs")

    def __init__(self) -> None:
        """Remember what is around it: that belongs to whoever iterates."""
        self._outer: Scope | None = context.here()
        self._scope: Scope | None = None
        self._inner: Scope | None = None
        self._theirs: Any = None

    def begin(self) -> None:
        """Take note of what was entered since, if anything was: where nobody listens, nothing is."""
        entered = context.innermost.get()
        if entered is self._outer or entered is None:
            self._outer = None
        else:
            self._scope = entered
            self._outer, entered.outer = entered.outer, None

    def leave(self) -> None:
        """End a step: be where the code was that has asked for it."""
        if (scope := self._scope) is not None:
            self._inner = context.set_aside()
            if scope.bridged is not None:
                bridge, token = scope.bridged
                self._theirs = bridge.set_aside(token)
            self._back()

    def enter(self) -> None:
        """Begin another step, inside of what was entered in those before."""
        if (scope := self._scope) is not None:
            self._outer = context.set_aside()
            if scope.bridged is not None:
                bridge, _ = scope.bridged
                scope.bridged = (bridge, bridge.take_up(self._theirs))
            context.take_up(self._inner)
            self._inner = self._theirs = None

    def end(self) -> None:
        """End the last step."""
        if self._scope is not None:
            context.set_aside()
            self._back()

    def _back(self) -> None:
        outer, self._outer = self._outer, None
        context.take_up(outer)


def _generator(function: Callable[..., Any], use: Callable[[], Use]) -> Callable[..., Any]:
    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        steps = _Steps()
        try:
            with use():
                steps.begin()
                made = function(*args, **kwargs)
                step: Callable[[], Any] = made.__next__
                while True:
                    try:
                        value = step()
                    except StopIteration as done:
                        return done.value
                    steps.leave()
                    try:
                        sent = yield value
                    except BaseException as error:  # noqa: BLE001  # it is the generator's to handle
                        steps.enter()
                        step = functools.partial(made.throw, error)
                    else:
                        steps.enter()
                        step = functools.partial(made.send, sent)
        finally:
            steps.end()

    return traced


def _async_generator(function: Callable[..., Any], use: Callable[[], Use]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def traced(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        steps = _Steps()
        try:
            async with use():
                steps.begin()
                made = function(*args, **kwargs)
                step: Callable[[], Any] = made.__anext__
                while True:
                    try:
                        value = await step()
                    except StopAsyncIteration:
                        return
                    steps.leave()
                    try:
                        sent = yield value
                    except BaseException as error:  # noqa: BLE001  # as above
                        steps.enter()
                        step = functools.partial(made.athrow, error)
                    else:
                        steps.enter()
                        step = functools.partial(made.asend, sent)
        finally:
            steps.end()

    return traced
