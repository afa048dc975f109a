"""Labels that fill a metric up: which one does, and what labels are where its values are one.

Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from otpylib_telemetry.aggregation.series import Labels


#: The value of a label in place of all its values, where these were too many.
FOLDED: Final = "(folded)"


def folded_away(labels: Labels, names: Collection[str]) -> Labels:
    """Return labels with one value in place of those that these labels have."""
    return tuple([(name, FOLDED) if name in names else (name, value) for name, value in labels])


def fullest(every: Iterable[Labels], but: Collection[str]) -> tuple[str, int] | None:
    """Return the label with the most different values, and how many; None if none has two.

    Of several the first by name.
    """
    values: dict[str, set[str]] = {}
    for name, value in {pair for labels in every for pair in labels}:
        values.setdefault(name, set()).add(value)
    counts = [(-len(different), name) for name, different in values.items() if name not in but]
    count, name = min(counts, default=(0, ""))
    return (name, -count) if count < -1 else None
