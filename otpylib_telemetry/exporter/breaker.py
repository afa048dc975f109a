"""The circuit breaker around an exporter's backend."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from otpylib_telemetry.bus.dispatch import execute
from otpylib_telemetry.primitives.circuit import Circuit, CircuitState

P = ParamSpec("P")
R = TypeVar("R")


class ExporterCircuitBreaker(Circuit):
    """Stops calling a backend that fails, and tries it again after a rest.

    Every transition is emitted: ``telemetry.breaker.opened``, ``telemetry.breaker.half_open``,
    ``telemetry.breaker.closed``, with ``failure_count`` as measurement and the metadata ``breaker``
    (its name) and ``from`` (the state before).

    Args:
        failure_threshold: Failures in a row that open it.
        reset_timeout: Seconds it stays open before one call is let through as a probe.
        name: What the events call it.
        clock: Monotonic seconds.

    Attributes:
        state: ``"closed"``, ``"open"`` or ``"half_open"``.
        failure_count: Failures since the last success.
        failure_threshold: How many failures in a row open it.
        reset_timeout: Seconds it stays open before one call is let through as a probe.
        last_failure_time: When a call failed last, by the breaker's clock; None if none has.
        transitions: How often it has gone into each state.

    Raises:
        ValueError: A threshold below 1 or a negative rest.
    """

    def __init__(
        self,
        failure_threshold: int = 5,
        reset_timeout: float = 60.0,
        *,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(failure_threshold, reset_timeout, clock=clock)
        self.name = name
        self.transitions: dict[CircuitState, int] = {}

    async def call(self, func: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R | None:
        """Call ``func`` unless the breaker is open.

        A call that is cancelled is neither success nor failure.

        Args:
            func: The coroutine function to call; a plain function is called as well.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.

        Returns:
            What ``func`` returned, or None without calling it while the breaker is open or probing.

        Raises:
            Exception: What ``func`` raised.
        """
        permit = self.permit()
        if not permit:
            return None
        try:
            outcome: Any = func(*args, **kwargs)
            result: R = await outcome if isinstance(outcome, Awaitable) else outcome
        except Exception:
            self.failed(permit)
            raise
        except BaseException:
            # Cancelled, or the whole program is ending: that says nothing about the backend.
            self.released(permit)
            raise
        self.succeeded(permit)
        return result

    def admit(self) -> bool:
        """Ask for one call; when True, answer with :meth:`succeeded`, :meth:`failed` or :meth:`released`."""
        return bool(self.permit())

    def permit(self) -> int:
        """Ask for one of several calls that may overlap.

        Returns:
            A permit to answer with; 0, which is false, where :meth:`admit` says False.
        """
        before = self.state
        permit = super().permit()
        self._announce(before)
        return permit

    def reset(self) -> None:
        """Close it and forget every failure: the backend is another one now."""
        before = self.state
        super().reset()
        self._announce(before)

    def _open(self) -> None:
        before = self.state
        super()._open()
        self._announce(before)

    def _announce(self, before: CircuitState) -> None:
        after = self.state
        if after == before:
            return
        self.transitions[after] = self.transitions.get(after, 0) + 1
        word = "opened" if after == "open" else after
        execute(
            f"telemetry.breaker.{word}",
            {"failure_count": self.failure_count},
            {"breaker": self.name, "from": before},
        )
