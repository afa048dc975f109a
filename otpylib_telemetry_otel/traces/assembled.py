"""What becomes of events: finished spans, and counts of all that is in none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otpylib_telemetry.bus.event_log import Entry
    from otpylib_telemetry.tracing.operation import Place
    from otpylib_telemetry_otel.traces.spans import FinishedSpan


@dataclass(slots=True)
class Assembled:
    """What became of a number of events: each is in a finished span, in an open one, or counted here.

    Attributes:
        spans: Those that are finished now.
        unused: How many events belong to no span.
        rejected: How many events could not be used.
        surplus: How many events found no place on the open span they belong to, or only repeat its start.
        repeated: How many of the unused say again, or too late, what is known of a span by its id.
        others: The unused that are not repeated, each with the span to which it belongs all the same.
    """

    spans: list[FinishedSpan] = field(default_factory=list)
    unused: int = 0
    rejected: int = 0
    surplus: int = 0
    repeated: int = 0
    others: list[tuple[Entry, FinishedSpan | Place | None]] = field(default_factory=list)

    def repeats(self) -> None:
        """Count an event that says what is known already."""
        self.unused += 1
        self.repeated += 1
