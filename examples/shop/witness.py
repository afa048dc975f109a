"""What the application itself knows, to hold the backends' word against: the bus, and the log."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otpylib_telemetry import attach, detach

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = "witness"


@dataclass(frozen=True, slots=True)
class Seen:
    """A span that ended in the application."""

    name: str
    trace_id: str
    failed: bool


class Witness:
    """Sees every event where it is emitted, before any exporter has touched it.

    Any plain function can be attached to the bus like this. It runs in the caller, so it does little.
    """

    def __init__(self) -> None:
        #: Events of the shop, and the spans that ended in it, by span id.
        self.events = 0
        self.spans: dict[str, Seen] = {}
        #: What telemetry said about itself: monotonic seconds, event name, metadata.
        self.about_telemetry: list[tuple[float, str, Mapping[str, Any]]] = []

    async def attach(self) -> None:
        """Begin to watch."""
        await attach(_NAME, "*", self._saw)

    async def detach(self) -> None:
        """Look away."""
        await detach(_NAME)

    def when(self, name: str, since: float, **metadata: Any) -> float | None:
        """Return when telemetry first said something about itself.

        Args:
            name: The event's name.
            since: Monotonic seconds; what was said earlier does not count.
            **metadata: What its metadata must hold.
        """
        for at, said, details in self.about_telemetry:
            if (
                at >= since
                and said == name
                and all(details.get(key) == value for key, value in metadata.items())
            ):
                return at
        return None

    def _saw(self, name: str, _measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        if name.startswith("telemetry."):
            self.about_telemetry.append((time.monotonic(), name, dict(metadata)))
            return
        self.events += 1
        operation, _, ending = name.rpartition(".")
        if ending in {"success", "error"}:
            self.spans[metadata["span_id"]] = Seen(operation, metadata["trace_id"], ending == "error")


@dataclass(frozen=True, slots=True)
class LogLine:
    """What an operator would read in the application's log."""

    at: float
    level: str
    text: str


class OperatorsLog(logging.Handler):
    """Keeps what is logged, by whomever, instead of printing it between the pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[LogLine] = []
        self._shown = 0

    def install(self) -> None:
        """Take the place of every other handler; the suite's own INFO is of interest too."""
        logging.basicConfig(handlers=[self], level=logging.WARNING, force=True)
        logging.getLogger("otpylib_telemetry").setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line; called by logging, in any thread."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text = f"{text} [{record.exc_info[1]!r}]"
        if not record.name.startswith("otpylib_telemetry"):
            text = f"{record.name}: {text}"
        self.lines.append(LogLine(time.monotonic(), record.levelname, text))

    def news(self) -> list[LogLine]:
        """Return the lines since this was last called."""
        lines = self.lines[self._shown :]
        self._shown += len(lines)
        return lines

    def errors(self) -> list[LogLine]:
        """Return the lines that should not be there whatever happens outside the application."""
        return [line for line in self.lines if line.level in {"ERROR", "CRITICAL"}]
