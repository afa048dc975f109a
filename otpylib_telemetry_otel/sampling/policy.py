"""Sampling: what is asked for, as plain values.

A trace is decided about once, and as a whole: by its head (:mod:`.head`), by how it went (:mod:`.tail`), and
by what there is room for (:mod:`.budget`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from otpylib_telemetry_otel.sampling.rules import Rule
    from otpylib_telemetry_otel.traces.spans import FinishedSpan


_NS_PER_SECOND: Final = 1_000_000_000


#: Why a span was ended for want of an end of its own, where that is a failure: whoever worked on it died.
_DIED: Final = "emitter_died"


class Sampler(Protocol):
    """Decides about traces in place of the ratio."""

    def decide(self, span: FinishedSpan) -> Verdict | None:
        """Decide about the trace that began with this span; None if it cannot, and the ratio is to."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is to be kept.

    Attributes:
        rate: The share of traces, from 0 to 1.
        keep_errors: Whether a trace is kept whole in which an operation failed, or whoever worked on it died.
        keep_slower_than_ns: The same for one in which an operation took longer, in nanoseconds; None for no
            such rule.
        parent_based: Whether a trace that was begun elsewhere is kept if it is kept there, and only then.
        rules: Rates for certain operations.
        sampler: Decides in place of ``rate``.
        awaits_sampler: Whether a sampler is configured that is not there yet: decisions wait for it.
        spans_per_second: How many spans are kept at most; None for no limit.
        wait_ns: How long, in nanoseconds, a trace may go on after its last span here has ended.
        bound: Follows from ``rate``.
        keeps_everything: Follows from the others, and so do those below: there is nothing to decide.
        by_ratio_alone: The trace id says it all: every span can be decided about by itself.
    """

    rate: float = 1.0
    keep_errors: bool = True
    keep_slower_than_ns: int | None = None
    parent_based: bool = False
    rules: tuple[Rule, ...] = ()
    sampler: Sampler | None = None
    awaits_sampler: bool = False
    spans_per_second: float | None = None
    wait_ns: int = _NS_PER_SECOND
    bound: int = field(init=False)
    keeps_everything: bool = field(init=False)
    by_ratio_alone: bool = field(init=False)

    def __post_init__(self) -> None:
        by_head_alone = self.spans_per_second is None and not (
            self.parent_based or self.rules or self.sampler is not None or self.awaits_sampler
        )
        keeps_more = self.keep_errors or self.keep_slower_than_ns is not None
        object.__setattr__(self, "bound", bound_of(self.rate))
        object.__setattr__(self, "keeps_everything", by_head_alone and self.rate >= 1.0)
        object.__setattr__(self, "by_ratio_alone", by_head_alone and not keeps_more)

    def is_urgent(self, span: FinishedSpan) -> bool:
        """Tell whether the span's trace is kept because of how this span went."""
        if self.keep_errors and (span.error or span.incomplete == _DIED):
            return True
        slow = self.keep_slower_than_ns
        return slow is not None and span.end_ns - span.start_ns > slow


class Verdict(NamedTuple):
    """What was decided about a trace; a ``final`` verdict is not changed by an error that comes later."""

    keep: bool
    weight: float | None = 1.0
    final: bool = False


KEEP: Final = Verdict(keep=True)

OUT: Final = Verdict(keep=False)


def bound_of(rate: float) -> int:
    """Return below what the low 64 bits of a trace id must be for it to be among that share."""
    return round(rate * 2**64)
