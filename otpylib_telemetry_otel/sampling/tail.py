"""The decision about a trace that waits for how it goes: what failed or was slow is kept, whole.

Finished spans of a trace are held until no span of it is open in this process any more and, because a message
may carry the trace on to somebody who has not begun with it yet, a moment longer. As soon as one of them
failed or was slow, the trace is kept: what is held is let go, and what follows goes with it. Otherwise the
head decides when it is over. Traces the head chooses wait as well: only then is it known whether one would
have been kept anyway, and so for how many it stands.

Looking for what is over is done in slices, so that no tick takes long however much is held; each trace is
looked at every few ticks. Held is bounded in spans, events and time. When there is no more room, some of what
is over is decided about first, then what is certain to be slow by now, then the oldest by their heads. A
decision is remembered for a while, for spans that come late.

Pure: the time and what is open come in as arguments, OpenTelemetry does not occur.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from otpylib_telemetry_otel.sampling.budget import SpanBudget
from otpylib_telemetry_otel.sampling.decisions import Decisions
from otpylib_telemetry_otel.sampling.head import by_ratio, decide, root_span
from otpylib_telemetry_otel.sampling.policy import KEEP, OUT, Policy, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from otpylib_telemetry_otel.traces.spans import FinishedSpan


#: By trace id, when the earliest of its open spans began, on the monotonic clock in nanoseconds.
OpenTraces: TypeAlias = "Callable[[], Mapping[int, int]]"

#: When there is no room, some is made for this share of the limit, so that it is not wanted again at once.
_ROOM: Final = 0.1

#: How many traces are looked at in one tick, and within how many ticks all are where there are more.
_SLICE: Final = 1_000
_TICKS: Final = 4

#: How many names of operations left out by the limit are told apart.
_MAX_NAMES: Final = 1_000

#: By these somebody can go on with a trace that is over as far as is known.
_HANDED_ON: Final = ("trace_id", "span_id", "traceparent", "correlation_id")


@dataclass(slots=True)
class Decided:
    """The spans to be exported, each with its weight, and how many events those left out are made of."""

    kept: list[tuple[FinishedSpan, float | None]] = field(default_factory=list)
    sampled_out: int = 0


@dataclass(slots=True, eq=False)
class _Trace:
    """A trace with open or undecided spans here, and the policy in force when it began."""

    policy: Policy
    since_ns: int
    latest_ns: int
    verdict: Verdict | None = None
    spans: list[FinishedSpan] = field(default_factory=list)


class Tail:
    """Sifts finished spans. Limits are in spans, in the events they are made of, and in nanoseconds."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.policy = policy or Policy()
        self.max_spans = 20_000
        self.max_events = 50_000
        self.max_age_ns = 300 * 1_000_000_000
        self.held_spans = 0
        self.held = 0
        self.counts: Counter[str] = Counter()
        self._traces: dict[int, _Trace] = {}
        self._pinned: dict[int, Policy] = {}
        self._decided = Decisions()
        self._budget = SpanBudget(self.policy.spans_per_second)
        self._left_out: dict[tuple[str, bool], float] = {}
        self._crowd = 0
        # The traces of the present round, how many of them have been looked at, and how many are in one tick.
        self._round: list[int] = []
        self._looked = 0
        self._slice = _SLICE
        self._now_ns = 0

    @property
    def passing(self) -> bool:
        """Whether there is nothing to decide about any span that may come."""
        return self.policy.keeps_everything and not (self._traces or self._pinned or self._decided)

    def use(self, policy: Policy, open_traces: OpenTraces) -> None:
        """Take another policy into use, for traces that begin from now on."""
        before, self.policy = self.policy, policy
        self._budget.per_second = policy.spans_per_second
        if policy == before:
            return
        if before.awaits_sampler:
            # They began under a policy that could not decide: this is the one they were waiting for.
            for trace in self._traces.values():
                if trace.policy is before:
                    trace.policy = policy
            return
        for trace_id in open_traces():
            if trace_id not in self._traces and trace_id not in self._pinned:
                self._pinned[trace_id] = before

    def take(self, spans: Iterable[FinishedSpan], now_ns: int, open_traces: OpenTraces) -> Decided:
        """Take spans that are finished; return what was decided now, about these and those held before.

        ``open_traces`` is called only when there is no room.
        """
        self._now_ns = max(self._now_ns, now_ns)
        decided = Decided()
        if self.policy.by_ratio_alone and not (self._traces or self._pinned or self._decided):
            self._take_by_ratio(spans, decided)
            return decided
        for span in spans:
            self._take(span, decided)
        if self._is_full() or len(self._traces) > max(self.max_spans, self._crowd):
            self._make_room(open_traces, decided)
        return decided

    def sweep(self, now_ns: int, open_traces: OpenTraces) -> Decided:
        """Decide about traces that are over by now; to be called about once a second.

        Where many are held it is a slice of them, the next one with the next call: a tick decides about a
        quarter of what is held, or about a thousand traces.
        """
        self._now_ns = max(self._now_ns, now_ns)
        decided = Decided()
        if self._traces or self._pinned:
            opened = open_traces()
            for trace_id in self._next_slice():
                if (trace := self._traces.get(trace_id)) is not None:
                    self._decide_if_over(trace_id, trace, opened, decided, patient=True)
            self._unpin(opened)
        self._decided.age(self._now_ns)
        return decided

    def decide_all(self) -> Decided:
        """Decide about everything that is held: nothing more will come."""
        decided = Decided()
        for trace_id, trace in self._traces.items():
            self._conclude(trace, decided)
            self._remember(trace_id, trace)
        self._traces.clear()
        self._pinned.clear()
        self._round.clear()
        return decided

    def stats(self) -> dict[str, Any]:
        """Return what is worth knowing; empty if there is nothing."""
        told: dict[str, Any] = dict(self.counts)
        if self._traces:
            told |= {"held_spans": self.held_spans, "undecided_traces": len(self._traces)}
        return told

    def known(self, trace_id: int) -> tuple[int, Verdict | None, Policy]:
        """Return how many spans of a trace are held, what was decided, and the policy it goes by."""
        trace = self._traces.get(trace_id)
        if trace is not None:
            return len(trace.spans), trace.verdict, trace.policy
        decided = self._decided.get(trace_id)
        if decided is not None:
            return 0, *decided
        return 0, None, self._pinned.get(trace_id, self.policy)

    def _take_by_ratio(self, spans: Iterable[FinishedSpan], decided: Decided) -> None:
        """Decide about spans by nothing but their trace ids, as cheaply as that can be done."""
        bound = self.policy.bound
        for span in spans:
            verdict = by_ratio(span.trace_id, bound)
            if verdict.keep:
                decided.kept.append((span, verdict.weight))
            else:
                decided.sampled_out += span.weight

    def _take(self, span: FinishedSpan, decided: Decided) -> None:
        trace_id = span.trace_id
        trace = self._traces.get(trace_id)
        if trace is None:
            known = self._decided.followed(trace_id)
            if known is not None:
                verdict, policy = known
                changed = self._follow(span, verdict, policy, decided)
                if changed is not verdict:
                    self._decided.put(trace_id, (changed, policy))
                return
            policy = self._pinned.get(trace_id, self.policy) if self._pinned else self.policy
            if (at_once := _at_once(trace_id, policy)) is not None:
                _release([span], at_once, decided)
                return
            trace = _Trace(policy, self._now_ns, self._now_ns)
            if _is_alone(span) and not policy.awaits_sampler:
                self._hold(span, trace)
                self._conclude(trace, decided, urgent=policy.is_urgent(span))
                return
            self._traces[trace_id] = trace
        trace.latest_ns = self._now_ns
        if trace.verdict is not None:
            trace.verdict = self._follow(span, trace.verdict, trace.policy, decided)
            return
        self._hold(span, trace)
        if trace.policy.is_urgent(span):
            self._conclude(trace, decided, urgent=True)

    def _hold(self, span: FinishedSpan, trace: _Trace) -> None:
        trace.spans.append(span)
        self.held_spans += 1
        self.held += span.weight

    def _follow(self, span: FinishedSpan, verdict: Verdict, policy: Policy, decided: Decided) -> Verdict:
        """Treat a span as the rest of its trace was; an error that comes late is kept all the same."""
        if verdict.keep:
            self._budget.spend(1, self._now_ns)
        elif not verdict.final and policy.is_urgent(span):
            self.counts["kept_in_part"] += 1
            verdict = self._ration(KEEP, [span], urgent=True)
        _release([span], verdict, decided)
        return verdict

    def _conclude(self, trace: _Trace, decided: Decided, *, urgent: bool = False) -> None:
        """Decide about a trace, unless that was done, and let go what is held of it."""
        if trace.verdict is not None:
            return
        spans, trace.spans = trace.spans, []
        verdict = KEEP if urgent else decide(trace.policy, spans)
        if verdict.keep:
            verdict = self._ration(verdict, spans, urgent=urgent)
        trace.verdict = verdict
        self.held_spans -= len(spans)
        self.held -= _release(spans, verdict, decided)

    def _ration(self, verdict: Verdict, spans: list[FinishedSpan], *, urgent: bool) -> Verdict:
        """Keep a trace only if there is anything left of the spans per second.

        The next one of the same operation that is kept stands for those that were not.
        """
        if self._budget.per_second is None:
            return verdict
        name = root_span(spans).name
        among = (name, urgent) if (name, urgent) in self._left_out else ("", urgent)
        weight = 1.0 if verdict.weight is None else verdict.weight
        if self._budget.admit(len(spans), self._now_ns, urgent=urgent):
            if verdict.weight is None:
                return verdict
            return verdict._replace(weight=weight + self._left_out.pop(among, 0.0))
        if len(self._left_out) < _MAX_NAMES:
            among = (name, urgent)
        self._left_out[among] = self._left_out.get(among, 0.0) + weight
        self.counts["left_out_errors" if urgent else "left_out_by_limit"] += 1
        return Verdict(keep=False, final=True)

    def _next_slice(self) -> list[int]:
        """Return the traces to be looked at in this tick."""
        if self._looked >= len(self._round):
            self._round, self._looked = list(self._traces), 0
            self._slice = max(_SLICE, -(-len(self._round) // _TICKS))
        begin, self._looked = self._looked, self._looked + self._slice
        return self._round[begin : self._looked]

    def _decide_if_over(
        self, trace_id: int, trace: _Trace, open_traces: Mapping[int, int], decided: Decided, *, patient: bool
    ) -> None:
        """Decide about a trace if nothing of it is open, or if what is open decides by itself."""
        now_ns, policy, began_ns = self._now_ns, trace.policy, open_traces.get(trace_id)
        waits = policy.awaits_sampler and now_ns - trace.since_ns < self.max_age_ns
        if began_ns is None:
            waits = waits or (patient and now_ns - trace.latest_ns < policy.wait_ns)
            if trace.verdict is not None or not waits:
                self._conclude(trace, decided)
                self._remember(trace_id, self._traces.pop(trace_id))
        elif trace.verdict is None:
            slow_ns = policy.keep_slower_than_ns
            if slow_ns is not None and now_ns - began_ns > slow_ns:
                # However it goes on, what is open there has taken too long already.
                self._conclude(trace, decided, urgent=True)
            elif now_ns - trace.since_ns >= self.max_age_ns:
                self.counts["decided_early"] += 1
                self._conclude(trace, decided)

    def _unpin(self, open_traces: Mapping[int, int]) -> None:
        for trace_id in [trace_id for trace_id in self._pinned if trace_id not in open_traces]:
            policy = self._pinned.pop(trace_id)
            if (at_once := _at_once(trace_id, policy)) is not None:
                self._decided.put(trace_id, (at_once, policy))

    def _is_full(self) -> bool:
        return self.held_spans > self.max_spans or self.held > self.max_events

    def _has_room(self) -> bool:
        share = 1 - _ROOM
        return self.held_spans <= self.max_spans * share and self.held <= self.max_events * share

    def _make_room(self, open_traces: OpenTraces, decided: Decided) -> None:
        # What is over while there is too much, and no more of it than that: the rest may still go on.
        is_crowded, opened = not self._is_full(), open_traces()
        for trace_id, trace in list(self._traces.items()):
            if not is_crowded and self._has_room():
                break
            self._decide_if_over(trace_id, trace, opened, decided, patient=False)
        if self._is_full():
            for trace in self._traces.values():
                if self._has_room():
                    break
                if trace.verdict is None:
                    self.counts["decided_early"] += 1
                    self._conclude(trace, decided)
        # What is left is open, and leaves with its last span; looking for it again at once would be in vain.
        self._crowd = 2 * len(self._traces)

    def _remember(self, trace_id: int, trace: _Trace) -> None:
        self._decided.put(trace_id, (trace.verdict or OUT, trace.policy))


def _at_once(trace_id: int, policy: Policy) -> Verdict | None:
    """Decide about a trace where nothing about it has to be known but its id."""
    if policy.keeps_everything:
        return KEEP
    return by_ratio(trace_id, policy.bound) if policy.by_ratio_alone else None


def _is_alone(span: FinishedSpan) -> bool:
    """Tell whether a span is all there will ever be of its trace: nobody else can know the trace's id."""
    if span.parent_span_id:
        return False
    try:
        return not any(key in span.attributes for key in _HANDED_ON)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a key of the application's own may raise when it is compared
        return False


def _release(spans: list[FinishedSpan], verdict: Verdict, decided: Decided) -> int:
    """Hand spans out as was decided; returns how many events they are made of."""
    events = 0
    for span in spans:
        events += span.weight
    if verdict.keep:
        decided.kept += [(span, verdict.weight) for span in spans]
    else:
        decided.sampled_out += events
    return events
