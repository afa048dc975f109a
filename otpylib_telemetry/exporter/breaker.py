"""The circuit breaker around an exporter's backend."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from otpylib_telemetry.bus.dispatch import execute
from otpylib_telemetry.primitives.circuit import UNKNOWN, Circuit, CircuitState

P = ParamSpec("P")
R = TypeVar("R")


class ExporterCircuitBreaker:
    """Stops calling a backend that fails, and tries it again after a rest.

    Every transition is emitted: ``telemetry.breaker.opened``, ``telemetry.breaker.half_open``,
    ``telemetry.breaker.closed``, with ``failure_count`` as measurement and the metadata ``breaker``
    (its name) and ``from`` (the state before).

    Args:
        failure_threshold: Failures in a row that open it.
        reset_timeout: Seconds it stays open before one call is let through as a probe.
        name: What the events call it.
        clock: Monotonic seconds.

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
        self.name = name
        #: How often it has gone into each state.
        self.transitions: dict[CircuitState, int] = {}
        self._circuit = Circuit(failure_threshold, reset_timeout, clock=clock)

    @property
    def state(self) -> CircuitState:
        """``"closed"``, ``"open"`` or ``"half_open"``."""
        return self._circuit.state

    @property
    def failure_count(self) -> int:
        """Failures since the last success."""
        return self._circuit.failure_count

    @property
    def failure_threshold(self) -> int:
        """How many failures in a row open it."""
        return self._circuit.failure_threshold

    @property
    def reset_timeout(self) -> float:
        """Seconds it stays open before one call is let through as a probe."""
        return self._circuit.reset_timeout

    @property
    def last_failure_time(self) -> float | None:
        """When a call failed last, by the breaker's clock; None if none has."""
        return self._circuit.last_failure_time

    @property
    def remaining_rest(self) -> float:
        """Seconds until a probe will be let through; 0 unless the breaker is open."""
        return self._circuit.remaining_rest()

    @property
    def probing(self) -> bool:
        """Whether a probe is under way, and nothing else is let through until it is answered."""
        return self._circuit.probing

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
            self._circuit.released(permit)
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
        before = self._circuit.state
        permit = self._circuit.admit()
        self._announce(before)
        return permit

    def succeeded(self, permit: int = UNKNOWN) -> None:
        """Report an admitted call that succeeded; where calls overlap, with the permit it had.

        A call that was let through before the breaker opened changes nothing when it ends.
        """
        before = self._circuit.state
        self._circuit.succeeded(permit)
        self._announce(before)

    def failed(self, permit: int = UNKNOWN) -> None:
        """Report an admitted call that failed; where calls overlap, with the permit it had."""
        before = self._circuit.state
        self._circuit.failed(permit)
        self._announce(before)

    def released(self, permit: int = UNKNOWN) -> None:
        """Report that an admitted call was cancelled; where calls overlap, with the permit it had."""
        self._circuit.released(permit)

    def reset(self) -> None:
        """Close it and forget every failure: the backend is another one now."""
        before = self._circuit.state
        self._circuit.reset()
        self._announce(before)

    def adjust(self, failure_threshold: int, reset_timeout: float) -> None:
        """Take other limits into use while running.

        Args:
            failure_threshold: As for the constructor.
            reset_timeout: As for the constructor, in seconds.

        Raises:
            ValueError: As for the constructor; nothing has changed then.
        """
        self._circuit.adjust(failure_threshold, reset_timeout)

    def _announce(self, before: CircuitState) -> None:
        after = self._circuit.state
        if after == before:
            return
        self.transitions[after] = self.transitions.get(after, 0) + 1
        word = "opened" if after == "open" else after
        execute(
            f"telemetry.breaker.{word}",
            {"failure_count": self._circuit.failure_count},
            {"breaker": self.name, "from": before},
        )
