"""The books of an exporter: every event it accepted is in exactly one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otpylib_telemetry.exporter.collected import Collected


class Ledger:
    """Counts what became of events that left the queue.

    ``accepted = exported + rejected + dropped{reason} + sampled_out + queued + in_flight``
    """

    __slots__ = ("dropped", "exported", "rejected", "rejected_for", "sampled_out")

    def __init__(self) -> None:
        #: Delivered, aggregated, or of no use to this exporter: handled to the end.
        self.exported = 0
        #: Refused by the backend, or not usable.
        self.rejected = 0
        #: The same by reason: ``refused``, ``partial_success``, ``too_large`` or ``unusable``.
        self.rejected_for: dict[str, int] = {}
        #: Left out by sampling.
        self.sampled_out = 0
        #: Given up, by reason.
        self.dropped: dict[str, int] = {}

    def book(self, collected: Collected) -> None:
        """Enter what a collecting exporter is done with."""
        self.exported += collected.exported
        self.reject(collected.rejected, "unusable")
        self.sampled_out += collected.sampled_out
        for reason, count in collected.dropped.items():
            self.drop(count, reason)

    def reject(self, count: int, reason: str) -> None:
        """Enter events that cannot be used, or that the backend refused."""
        if count:
            self.rejected += count
            self.rejected_for[reason] = self.rejected_for.get(reason, 0) + count

    def drop(self, count: int, reason: str) -> None:
        """Enter events that were given up."""
        if count:
            self.dropped[reason] = self.dropped.get(reason, 0) + count

    def done(self) -> int:
        """Return how many events are accounted for here."""
        return self.exported + self.rejected + self.sampled_out + sum(self.dropped.values())

    def as_dict(self) -> dict[str, Any]:
        """Return the books for a person or a program to read."""
        return {
            "exported": self.exported,
            "rejected": self.rejected,
            "sampled_out": self.sampled_out,
            "dropped": dict(self.dropped),
        }
