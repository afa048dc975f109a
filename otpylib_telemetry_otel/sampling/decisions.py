"""What was decided about traces lately, for spans that come late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from otpylib_telemetry_otel.traces.ended import RecentKeys

if TYPE_CHECKING:
    from otpylib_telemetry_otel.sampling.policy import Policy, Verdict


#: For how long a decision is remembered at least, and at most for twice as long, unless too many are.
_MEMORY_NS: Final = 60 * 1_000_000_000

#: How many decisions are remembered at least where so many were made within that time; twice as many at most.
#: Some 10 MB then.
_REMEMBERED: Final = 25_000

Decision: TypeAlias = "tuple[Verdict, Policy]"


class Decisions(RecentKeys[Decision]):
    """Decisions made a while ago at most: the older half goes when the younger is full or old enough."""

    __slots__ = ("_since_ns",)

    def __init__(self) -> None:
        super().__init__(2 * _REMEMBERED)
        self._since_ns: int | None = None

    def followed(self, trace_id: int) -> Decision | None:
        """Return a decision by which one goes, and keep it longer for that."""
        known = self.young.get(trace_id)
        if known is None and self.old and (known := self.old.pop(trace_id, None)) is not None:
            self.put(trace_id, known)
        return known

    def age(self, now_ns: int) -> None:
        """Forget what was decided long ago."""
        if self._since_ns is None or not self:
            self._since_ns = now_ns
        elif now_ns - self._since_ns >= _MEMORY_NS:
            self.turn()
            self._since_ns = now_ns
