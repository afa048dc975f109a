"""What can be tried of settings before an exporter goes by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable


#: Seconds that one attempt may take.
_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing that settings name, such as a file or a destination, and how to find out whether it is good.

    Attributes:
        what: What is tried, without anything secret: "traces to http://collector:4317".
        attempt: Tries it, in so many seconds at most; may block. An exception says what is wrong.
        connects: Whether it leaves the process, by the network or by a port; the others read files alone.
        takes: Whether it takes what an exporter with these settings has for itself, such as a port.
        spared: Whether an exporter goes on without it where it cannot be had.
    """

    what: str
    attempt: Callable[[float], object]
    connects: bool = False
    takes: bool = False
    spared: bool = False

    async def run(self) -> None:
        """Try it on a thread; an exception says what was tried and what is wrong."""
        try:
            await run_in_thread(self.attempt, _SECONDS)
        except Exception as error:
            raise RuntimeError(f"{self.what}: {str(error) or describe(error)}") from error
