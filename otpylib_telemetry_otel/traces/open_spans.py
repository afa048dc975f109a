"""The spans that are open: of pairs of events, of operations of ``span()``; and what ended lately.

Here are the numbers and the look-ups. How a span begins, ends or is given up is in the files beside.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from otpylib_telemetry.tracing.open_operations import OpenOperations
from otpylib_telemetry.tracing.operation import NOTHING_CARRIED, Operation
from otpylib_telemetry.tracing.operation_index import Opened
from otpylib_telemetry.tracing.propagation import id_source
from otpylib_telemetry_otel.traces.ended import MAX_ENDED, EarlyEndings, RecentKeys
from otpylib_telemetry_otel.traces.recorded import RecordedOperations
from otpylib_telemetry_otel.traces.spans import MAX_EVENTS, told_flags

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from otpylib_telemetry.tracing.operation import Place
    from otpylib_telemetry.tracing.propagation import TraceParent
    from otpylib_telemetry_otel.traces.spans import FinishedSpan


class Around(NamedTuple):
    """What a span begins in: its trace, its id, and what makes wall-clock time of the trace's."""

    trace_id: int
    span_id: int
    caller: TraceParent | None
    wall_offset_ns: int | None
    tracestate: str
    flags: int
    is_remote: bool = False


def around(host: Opened[FinishedSpan] | Place) -> Around:
    """Return the inside of an open span, of an operation, or of another place in a trace."""
    if isinstance(host, Opened):
        span = host.value
        wall_offset_ns = span.start_ns - host.at_ns
        return Around(span.trace_id, span.span_id, span.caller, wall_offset_ns, span.tracestate, span.flags)
    trace = host.trace
    caller, flags, tracestate, _ = host.carried or NOTHING_CARRIED
    remote = caller is not None and caller.span_id == host.span_id and not isinstance(host, Operation)
    return Around(
        trace.trace_id, host.span_id, caller, trace.wall_offset_ns, tracestate, told_flags(flags), remote
    )


class OpenSpans:
    """What one exporter has heard of and not seen the end of.

    Attributes:
        limit: How many spans may be open; a new value counts from the next start.
        trace_id_from_correlation: Whether new traces get ids made of correlation ids, from the next start.
        apart: Names of events that are not put on the open span to which they belong.
        span_events: What becomes of other events that belong to an open span, unless they are measurements:
            ``event`` (they are put on it), ``log`` (they are not), or ``both`` (they are, and are among
            the unused all the same).
        max_held: How many events open spans may be made of before they take none but their starts and ends.
        max_events: How many events a span has at most.
        paired: Spans that two events begin and end.
        recorded: Operations of ``span()``.
        ended: By the span id that was given: operation, trace, and what makes wall-clock time of the trace's.
        early: Ends that came before their beginnings.
        held: How many events the open spans are made of so far.
        copies: How many events on open spans are counted elsewhere.
    """

    def __init__(
        self,
        limit: int,
        ttl_ns: int,
        trace_ids: Callable[[], int] | None = None,
        span_ids: Callable[[], int] | None = None,
    ) -> None:
        self.limit = limit
        self.trace_id_from_correlation = False
        self.apart: Container[str] = ()
        self.span_events = "event"
        self.max_held = sys.maxsize
        self.max_events = MAX_EVENTS
        self.paired: OpenOperations[FinishedSpan] = OpenOperations(sys.maxsize, ttl_ns)
        self.recorded = RecordedOperations()
        self.ended: RecentKeys[tuple[str, int, int]] = RecentKeys(MAX_ENDED)
        self.early = EarlyEndings()
        self.held = 0
        self.copies = 0
        self.latest_ns = 0
        self.wall_offset_ns = 0
        self._given_ids = (trace_ids, span_ids)
        self.refresh_ids()

    @property
    def ttl_ns(self) -> int:
        """How long a span may stay open, in nanoseconds; a new value counts from the next tick."""
        return self.paired.ttl_ns

    @ttl_ns.setter
    def ttl_ns(self, ttl_ns: int) -> None:
        self.paired.ttl_ns = ttl_ns

    def __len__(self) -> int:
        return len(self.paired) + len(self.recorded)

    def refresh_ids(self) -> None:
        """Go by the source of ids that is in force now: another may have been chosen."""
        (trace_ids, span_ids), source = self._given_ids, id_source()
        self.new_trace_id = trace_ids or source.trace_id
        self.new_span_id = span_ids or source.span_id

    def open_traces(self) -> dict[int, int]:
        """Return the traces that have open spans, and at which monotonic time the first of these began."""
        traces: dict[int, int] = {}
        for opened in self.paired:
            trace_id = opened.value.trace_id
            traces[trace_id] = min(opened.at_ns, traces.get(trace_id, opened.at_ns))
        for operation in self.recorded:
            trace_id = operation.trace.trace_id
            traces[trace_id] = min(operation.at_ns, traces.get(trace_id, operation.at_ns))
        return traces

    def named(self, span_id: object) -> Around | None:
        """Return what is open under a span id."""
        host = self.paired.find_span(span_id) or self.recorded.find_span(span_id)
        return None if host is None else around(host)

    def innermost(self, correlation_id: object) -> Opened[FinishedSpan] | Operation | None:
        """Return the innermost that is open under a correlation id."""
        opened = self.paired.find(correlation_id)
        # Asked here already: it saves a call where there are events of this form only.
        operation = self.recorded.find(correlation_id) if self.recorded.open else None
        if operation is not None and (opened is None or operation.at_ns > opened.at_ns):
            return operation
        return opened

    def span_of(self, host: Opened[FinishedSpan] | Operation) -> FinishedSpan:
        """Return the span of something that is open."""
        if isinstance(host, Operation):
            return self.recorded.span_of(host, self.wall_offset_ns)
        return host.value

    def is_open(self, host: Opened[FinishedSpan] | Operation) -> bool:
        """Tell whether something has not ended since it was looked up."""
        if isinstance(host, Operation):
            return host.span_id in self.recorded.open
        return host in self.paired

    def let_go(self, span: FinishedSpan) -> None:
        """Count no more what is on a span that was open."""
        self.held -= span.weight
        self.copies -= span.copies

    def remember(self, opened: Opened[FinishedSpan]) -> None:
        """Remember that a span has ended, by the id that was given."""
        span = opened.value
        self.ended.put(opened.span_id, (opened.operation, span.trace_id, span.start_ns - opened.at_ns))
