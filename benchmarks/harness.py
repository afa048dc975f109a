"""Runs cases in turns and compares their medians."""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class Case:
    """One thing to measure.

    Attributes:
        name: What it is.
        run: Does the work ``count`` times.
        count: Operations per round.
        samples: CPU nanoseconds per operation, one for each round.
    """

    name: str
    run: Callable[[int], None]
    count: int
    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """CPU nanoseconds per operation."""
        return statistics.median(self.samples)


@dataclass(slots=True)
class Comparison:
    """Cases of one question; the ratio is to the one named as the peer.

    Attributes:
        title: The question.
        cases: What is compared.
        peer: Name of the case that counts as 1; empty for the first.
    """

    title: str
    cases: list[Case]
    peer: str = ""


def measure(comparisons: list[Comparison], rounds: int) -> None:
    """Run every case once per round, all in turns, so that a noisy moment hits all alike.

    The time is the process's CPU time, all threads together: work that a library moves to a thread of its own
    is work all the same.

    Args:
        comparisons: What to run.
        rounds: How often.
    """
    for comparison in comparisons:
        for case in comparison.cases:
            case.run(max(1, case.count // 10))  # imports, caches, first-time look-ups
    gc.collect()
    for _ in range(rounds):
        for comparison in comparisons:
            for case in comparison.cases:
                began = time.process_time_ns()
                case.run(case.count)
                case.samples.append((time.process_time_ns() - began) / case.count)


def table(comparisons: list[Comparison]) -> str:
    """Return the result as a Markdown table."""
    rows = ["| what | CPU per operation | ratio |", "|---|---:|---:|"]
    for comparison in comparisons:
        rows.append(f"| **{comparison.title}** | | |")
        peer = next((case for case in comparison.cases if case.name == comparison.peer), comparison.cases[0])
        for case in comparison.cases:
            ratio = case.median / peer.median
            rows.append(f"| {case.name} | {_amount(case.median)} | {_ratio(ratio)} |")
    return "\n".join(rows)


def _amount(nanoseconds: float) -> str:
    return f"{nanoseconds:.0f} ns" if nanoseconds < 10_000 else f"{nanoseconds / 1000:.1f} µs"  # noqa: PLR2004  # read best


def _ratio(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"  # noqa: PLR2004  # as above
