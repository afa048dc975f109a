"""Capturing what was emitted while a block of code ran, by that code and not by its neighbours."""

from __future__ import annotations

import functools
import inspect
import itertools
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from otpylib_telemetry.bus import table
from otpylib_telemetry.otp import current_emitter
from otpylib_telemetry_mock import clock, ownership
from otpylib_telemetry_mock.ownership import Claim, Owner
from otpylib_telemetry_mock.recording import MAX_EVENTS, Recording
from otpylib_telemetry_mock.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextvars import Token

F = TypeVar("F", bound="Callable[..., Any]")

Scope = Literal["own", "all"]

_numbers = itertools.count(1)


class Capture(Recording):
    """What :func:`capture` returns; see there. Its events stay readable when the block has ended.

    Attributes:
        events: Dicts of ``event_name``, ``measurements``, ``metadata`` and ``timestamp``, oldest first.
        patterns: The event patterns.
        scope: ``"own"`` or ``"all"``.
        unattributed: Events left out because several captures were open that might have been meant.
        strays: Events left out because what emitted them was started inside a capture that is closed.
        forgotten: How many events went for want of room.
    """

    def __init__(self, patterns: tuple[str, ...], scope: Scope, *, max_events: int) -> None:
        super().__init__(max_events=max_events)
        if scope not in ("own", "all"):
            raise ValueError(f"the scope of a capture is 'own' or 'all', not {scope!r}")
        self.patterns = patterns
        self.scope: Scope = scope
        self.unattributed = 0
        self.strays = 0
        self._handler_id = f"telemetry_capture.{next(_numbers)}"
        self._owner: Owner | None = None
        self._token: Token[Owner] | None = None

    def __repr__(self) -> str:
        return f"<Capture of {', '.join(self.patterns)}: {counted(len(self.events))}>"

    def __enter__(self) -> Self:
        if self._owner is not None:
            raise RuntimeError("a capture is opened once; call capture() again for another")
        table.add(self._handler_id, self.patterns, self._receive)
        self._owner = ownership.new_owner()
        self._token = ownership.current.set(self._owner)
        return self

    def __exit__(self, *_error: object) -> None:
        table.remove(self._handler_id)
        owner, token = self._owner, self._token
        if owner is None or token is None:
            return
        owner.close()
        self._token = None
        try:
            ownership.current.reset(token)
        except ValueError:
            # Opened in one context and closed in another, as some frameworks run fixtures: nothing to
            # restore.
            return

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *error: object) -> None:
        self.__exit__(*error)

    def bind(self, function: F) -> F:
        """Make a function's events belong to this capture, wherever it is called.

        Threads do not inherit context variables: bind what a thread runs if several captures are open at
        a time.

        Args:
            function: Plain or async.

        Returns:
            A function of the same signature.
        """
        owner = self._owner
        if owner is None:
            raise RuntimeError("only a capture that is open can be bound to; call this inside the with block")
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def bound_async(*args: Any, **kwargs: Any) -> Any:
                with ownership.owned_by(owner):
                    return await function(*args, **kwargs)

            return bound_async  # type: ignore[return-value]  # the same signature, by functools.wraps

        @functools.wraps(function)
        def bound(*args: Any, **kwargs: Any) -> Any:
            with ownership.owned_by(owner):
                return function(*args, **kwargs)

        return bound  # type: ignore[return-value]  # as above

    def clear(self) -> None:
        """Forget everything captured so far."""
        super().clear()
        self.unattributed = 0
        self.strays = 0

    def remarks(self) -> list[str]:
        """Return what somebody who misses an event should know."""
        remarks = super().remarks()
        if self.unattributed:
            remarks.append(
                f"{_left_out(self.unattributed)} because several captures were open and nothing "
                "told which one was meant; capture.bind(function) tells, scope='all' takes them all"
            )
        if self.strays:
            remarks.append(
                f"{_left_out(self.strays)} because what emitted them was started inside a "
                "capture that is closed by now; scope='all' takes them as well"
            )
        return remarks

    def _receive(self, name: str, measurements: dict[str, Any], metadata: dict[str, Any]) -> None:
        owner = self._owner
        if owner is None or not owner.is_open:
            return
        if self.scope == "own":
            claim = owner.claim(ownership.current.get())
            if claim is not Claim.MINE:
                with self._lock:
                    self.unattributed += claim is Claim.AMBIGUOUS
                    self.strays += claim is Claim.STRAY
                return
        self.record(name, measurements, metadata, clock.now(), current_emitter())


def _left_out(number: int) -> str:
    return f"{counted(number)} {'was' if number == 1 else 'were'} left out"


def capture(
    pattern: str | Iterable[str] = "*", *, scope: Scope = "own", max_events: int = MAX_EVENTS
) -> Capture:
    """Capture what is emitted while a block of code runs.

    A context manager, sync and async::

        with capture("shop.*") as captured:
            checkout()
        assert captured.events

    With the scope ``"own"`` a capture takes the events of the code inside its block, and of the tasks and
    otpylib processes started there; those of an inner capture as well. What runs beside it, and belongs to
    another capture, it does not see. An event that no capture owns (its process was started before, or a
    thread emitted it) goes to the open capture if there is but one, since nobody else can be meant; where
    several are open, to none of them, and each counts it as ``unattributed``. In the same way an inner
    capture takes what the surrounding block started before it. What outlives the capture it was started in
    belongs to nobody.

    With the scope ``"all"`` a capture takes every event of the interpreter.

    Args:
        pattern: Event pattern or patterns, as for ``attach``.
        scope: ``"own"`` or ``"all"``.
        max_events: How many events to keep; beyond it the oldest are forgotten.

    Returns:
        The context manager; it is also what ``as`` gives.
    """
    patterns = (pattern,) if isinstance(pattern, str) else tuple(pattern)
    return Capture(patterns, scope, max_events=max_events)
