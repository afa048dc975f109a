"""What the running code belongs to: one context variable, and how it is entered and left.

The variable never leads to what has ended, or a callback that schedules itself inside its span would keep
every span there ever was. So the variable is empty whenever something is put into it, which leaves nothing in
its token; and what surrounds it is remembered only if it was entered in the same context.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from contextvars import Token


class Scope:
    """Something code can be inside of, such as an operation.

    Attributes:
        outer: What surrounds it, as long as it is open and was entered in the same context.
        token: By which it is taken out of its context; None when it is out, or has never been in.
        ended: Whether it is over.
        is_place: Whether there is a place in a trace to tell of.
        is_over: Whether even what was begun inside of it, and goes on, is inside of it no more.
        bridged: The bridge to another API's context, and what leaves that one; None where there is none.
    """

    # On the class, so that making one sets nothing: that is the hot path.
    outer: Scope | None = None
    token: Token[Scope | None] | None = None
    ended: bool = False
    is_place: bool = True
    is_over: bool = False
    bridged: tuple[Any, Any] | None = None

    def copied(self) -> Self:
        """Return another of the same identity."""
        made = self.__class__.__new__(self.__class__)
        made.__dict__.update(self.__dict__)
        return made

    def _inherited(self) -> Self:
        """Return what stands for it in a context that was copied while it was the innermost one."""
        made = self.copied()
        made.outer = made.token = None
        made.bridged = None if self.bridged is None else (self.bridged[0], None)
        # It stays, whatever becomes of the original.
        made.ended = False
        return made

    def _taken_out(self) -> bool:
        """Take it out of this context; False if it was entered in another, or is not there."""
        if self.token is None:
            return False
        try:
            innermost.reset(self.token)
        except (ValueError, RuntimeError):
            return False
        return True


innermost: ContextVar[Scope | None] = ContextVar("otpylib_telemetry_span", default=None)


def here() -> Scope | None:
    """Return what the running code is inside of.

    A task started inside something is still inside it when that has ended meanwhile.
    """
    found = innermost.get()
    if found is not None and found.ended:
        if found.is_over:
            innermost.set(None)
        else:
            _leave_ended()
        return innermost.get()
    return found


def is_inherited() -> bool:
    """Tell whether what the running code is inside of was entered elsewhere: by whoever started this task."""
    found = innermost.get()
    if found is None:
        return False
    if not found._taken_out():  # noqa: SLF001 - of this module
        return True
    found.token = innermost.set(found)
    return False


def enter(scope: Scope) -> None:
    """Put the running code inside of a scope."""
    outer = innermost.get()
    if outer is not None and not outer._taken_out():  # noqa: SLF001 - of this module
        innermost.set(None)
        outer = outer._inherited()  # noqa: SLF001 - of this module
    if outer is not None:
        scope.outer = outer
    scope.token = innermost.set(scope)


def leave(scope: Scope) -> None:
    """Take a scope out of its context, or leave that to whoever uses the context next."""
    scope.ended = True
    token = scope.token
    if token is not None and scope.bridged is None and innermost.get() is scope:
        try:
            innermost.reset(token)
        except (ValueError, RuntimeError):
            # In another context.
            pass
        else:
            scope.token = None
            if (outer := scope.outer) is not None:
                scope.outer = None
                outer.token = innermost.set(outer)
                if outer.ended:
                    _leave_ended()
            return
    _leave_ended()
    if scope.token is None:
        return
    # It was entered in another context, or something is open in it. What has ended around it is skipped.
    outer = scope.outer
    while outer is not None and outer.ended:
        scope.bridged = outer.bridged or scope.bridged
        outer = outer.outer
    scope.outer = outer


def set_aside() -> Scope | None:
    """Take the running code out of what it is inside of; return what :func:`take_up` needs."""
    found = innermost.get()
    if found is not None and not found._taken_out():  # noqa: SLF001 - of this module
        innermost.set(None)
        found = found._inherited()  # noqa: SLF001 - of this module
    return found


def take_up(scope: Scope | None) -> None:
    """Put the running code, which is inside of nothing, back into something, be it in another context."""
    if scope is not None:
        scope.token = innermost.set(scope)
        if scope.ended:
            _leave_ended()


def _leave_ended() -> None:
    """Step out of what was entered in this context and has ended in another, or out of order.

    It could not be left where it ended. One that was inherited, by a task that outlives the operation which
    started it, stays: what the task does still belongs to that operation.
    """
    while (found := innermost.get()) is not None and found.ended and found._taken_out():  # noqa: SLF001 - of this module
        found.token = None
        outer, found.outer = found.outer, None
        if outer is not None:
            outer.token = innermost.set(outer)
        if found.bridged is not None:
            bridge, token = found.bridged
            bridge.leave(token)
