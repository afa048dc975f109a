"""What an exporter says: what became of events, and of a batch that arrived."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ExportOutcome:
    """A batch that arrived, though not all of it was taken (OTLP's partial success).

    Attributes:
        rejected: How many items of the batch the backend refused.
        message: The backend's reason.
        unusable: How many others could not be encoded. They were not sent, and will not be: the backend has
            nothing to do with it.
        why: What could not be encoded, and why.
    """

    rejected: int = 0
    message: str = ""
    unusable: int = 0
    why: str = ""


@dataclass(slots=True)
class Collected:
    """What became of a number of events, each counted exactly once.

    Attributes:
        items: Finished items that wait to be exported, each with the number of events it is made of.
        exported: Events that are done with: aggregated, or of no use to this exporter.
        sampled_out: Events that sampling left out.
        rejected: Events that cannot be used.
        dropped: Events given up, by reason.
        produced_items: Items made of no event, such as what is read off a series, each with its weight in the
            books. They count as accepted here and now, and must have lanes of their own.
    """

    items: list[tuple[Any, int]] = field(default_factory=list)
    exported: int = 0
    sampled_out: int = 0
    rejected: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    produced_items: list[tuple[Any, int]] = field(default_factory=list)

    def events(self) -> int:
        """Return how many events this accounts for."""
        waiting = sum(weight for _, weight in self.items)
        return waiting + self.exported + self.sampled_out + self.rejected + sum(self.dropped.values())


def checked_outcome(outcome: object, items: int) -> ExportOutcome:
    """Return how many items were refused or could not be sent, and why, whatever an exporter returned."""
    if not isinstance(outcome, ExportOutcome):
        return ExportOutcome()
    unusable = min(max(0, outcome.unusable), items) if isinstance(outcome.unusable, int) else 0
    rejected = min(max(0, outcome.rejected), items - unusable) if isinstance(outcome.rejected, int) else 0
    return ExportOutcome(rejected, str(outcome.message), unusable, str(outcome.why))
