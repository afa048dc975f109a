"""Operations of ``span()`` into spans: the record says everything, so nothing has to be paired."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.tracing.identifiers import identifier
from otpylib_telemetry.tracing.propagation import SAMPLED, parse_span_id
from otpylib_telemetry_otel.traces.ended import RecentKeys
from otpylib_telemetry_otel.traces.spans import IDENTITY, FinishedSpan, SpanEvent, begun, told_flags

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping

    from otpylib_telemetry.tracing.operation import Carried, Operation


_NS_PER_MS: Final = 1e6

_new = object.__new__

#: Operations given up whose ids are remembered: their ends may come yet.
_MAX_GIVEN_UP: Final = 8192

#: Operations filed by correlation id that may have ended since, before the file is made anew.
_MAX_STALE: Final = 1000


class RecordedOperations:
    """The operations that have begun and not ended, as far as one exporter has heard of them.

    Attributes:
        open: By span id, in the order in which they began.
        begun: The spans of those to which something was added before their end.
    """

    __slots__ = ("_correlated", "_filed", "_given_up", "begun", "open")

    def __init__(self) -> None:
        self.open: dict[int, Operation] = {}
        self.begun: dict[int, FinishedSpan] = {}
        self._given_up: RecentKeys[bool] = RecentKeys(_MAX_GIVEN_UP)
        # Filed when somebody asks, which most never do.
        self._correlated: dict[Hashable, list[Operation]] = {}
        self._filed: set[int] = set()

    def __len__(self) -> int:
        return len(self.open)

    def find_span(self, given: object) -> Operation | None:
        """Return the open operation of this span id, or None."""
        span_id = parse_span_id(given)
        return None if span_id is None else self.open.get(span_id)

    def find(self, correlation_id: object) -> Operation | None:
        """Return the open operation with this correlation id that began last, or None."""
        key = identifier(correlation_id)
        if key is None:
            return None
        self._file()
        found = self._correlated.get(key)
        while found:
            if found[-1].span_id in self.open:
                return found[-1]
            found.pop()
        return None

    def _file(self) -> None:
        """File by correlation id what began since this was last done."""
        opened, filed = self.open, self._filed
        if len(filed) > 2 * len(opened) + _MAX_STALE:
            filed.clear()
            self._correlated.clear()
        fresh = []
        for operation in reversed(opened.values()):
            if operation.span_id in filed:
                break
            fresh.append(operation)
        for operation in reversed(fresh):
            filed.add(operation.span_id)
            key = identifier(operation.correlation_id)
            if key is not None:
                self._correlated.setdefault(key, []).append(operation)

    def span_of(self, operation: Operation, wall_offset_ns: int) -> FinishedSpan:
        """Return the span of an open operation, to which something is to be added."""
        span = self.begun.get(operation.span_id)
        if span is None:
            span = self.begun[operation.span_id] = _begun(operation, wall_offset_ns)
        return span

    def settle(self, operation: Operation, wall_offset_ns: int) -> None:
        """Settle what makes wall-clock time of its times: for its whole trace in this process."""
        trace, caller = operation.trace, operation.caller
        if caller is not None and operation.parent_span_id == caller.span_id:
            parent = self.open.get(caller.span_id)
            if parent is not None and parent.trace.trace_id == caller.trace_id:
                operation.parent_is_local = True
                if trace.wall_offset_ns is None:
                    trace.wall_offset_ns = parent.trace.wall_offset_ns
        if trace.wall_offset_ns is None:
            trace.wall_offset_ns = wall_offset_ns

    def was_given_up(self, operation: Operation) -> bool:
        """Tell whether a span was made of it though it had not ended."""
        return self._given_up.get(operation.span_id) is not None

    def overdue(self, latest_ns: int) -> list[Operation]:
        """Return what began at this time or before."""
        found = []
        for operation in self.open.values():
            if operation.at_ns > latest_ns:
                break
            found.append(operation)
        return found

    def orphaned(self, alive: Callable[[object], bool]) -> list[Operation]:
        """Return the operations whose emitters are gone."""
        # Thousands may be open, of a few emitters.
        lives = functools.cache(alive)
        return [operation for operation in self.open.values() if not lives(operation.emitter)]

    def lost(self, latest_ns: int) -> list[Operation]:
        """Return those that ended at this time or before: their ends did not fit into the queue."""
        return [one for one in self.open.values() if one.ended_ns and one.ended_ns <= latest_ns]

    def end_lost(self, operation: Operation, wall_offset_ns: int) -> FinishedSpan:
        """Return the span of an operation that has ended, though its end was lost."""
        del self.open[operation.span_id]
        self._given_up.put(operation.span_id, value=True)
        span = finished(operation, self.begun.pop(operation.span_id, None), wall_offset_ns)
        # Of the end nothing was given to us: it is counted as lost already.
        span.weight -= 1
        return span

    def give_up(self, operation: Operation, after_ns: int, reason: str, wall_offset_ns: int) -> FinishedSpan:
        """Return the span of an operation whose end will not come, so many nanoseconds long."""
        span = self.span_of(operation, wall_offset_ns)
        del self.begun[operation.span_id], self.open[operation.span_id]
        self._given_up.put(operation.span_id, value=True)
        _put_on(span, operation, {**operation.metadata, "correlation_id": operation.correlation_id})
        span.end_ns = span.start_ns + max(after_ns, 0)
        span.incomplete = reason
        return span

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.open.values())


def _begun(operation: Operation, wall_offset_ns: int) -> FinishedSpan:
    offset_ns = operation.trace.wall_offset_ns
    start_ns = operation.at_ns + (wall_offset_ns if offset_ns is None else offset_ns)
    carried = operation.carried
    caller = None if carried is None else carried.caller
    span = begun(
        operation.name,
        operation.trace.trace_id,
        operation.span_id,
        operation.parent_span_id,
        caller,
        start_ns if start_ns > 0 else 0,  # noqa: FURB136 - max() costs nine times as much
        operation.metadata,
        IDENTITY,
    )
    if caller is not None and operation.parent_span_id == caller.span_id and not operation.parent_is_local:
        span.parent_is_remote = True
    if carried is not None:
        _carry(span, operation, carried)
    return span


def _carry(span: FinishedSpan, operation: Operation, carried: Carried) -> None:
    """Have a span say what its trace carries."""
    if carried.tracestate:
        span.tracestate = carried.tracestate
    if carried.flags > SAMPLED:
        span.flags = told_flags(carried.flags)
    if not carried.tracestate and "tracestate" in operation.metadata:
        # None that goes on: it stays to be seen.
        span.hidden = IDENTITY - {"tracestate"}


def finished(operation: Operation, span: FinishedSpan | None, wall_offset_ns: int) -> FinishedSpan:
    """Return the span of an operation that has ended; ``span`` is what there is of it already."""
    duration_ms = operation.duration_ms
    correlation = operation.correlation
    attributes: dict[str, Any] = {
        **operation.metadata,
        "correlation_id": operation.trace.written() if correlation is None else correlation,
        "duration_ms": duration_ms,
    }
    if operation.wait_ms is not None:
        attributes["wait_ms"] = operation.wait_ms
    if span is None:
        if operation.is_plain and (offset_ns := operation.trace.wall_offset_ns) is not None:
            # As below, in one piece: this is what nearly all are.
            span = _new(FinishedSpan)
            span.name = operation.name
            span.trace_id = operation.trace.trace_id
            span.span_id = operation.span_id
            span.parent_span_id = parent_span_id = operation.parent_span_id
            carried = operation.carried
            span.caller = caller = None if carried is None else carried.caller
            if carried is not None:
                _carry(span, operation, carried)
            span.start_ns = start_ns = operation.at_ns + offset_ns
            span.end_ns = start_ns + int(duration_ms * _NS_PER_MS)
            span.attributes = attributes
            span.weight = 2
            span.plain = True
            if caller is not None and parent_span_id == caller.span_id and not operation.parent_is_local:
                span.parent_is_remote = True
            return span
        span = _begun(operation, wall_offset_ns)
    span.attributes = attributes
    span.weight += 1
    span.end_ns = span.start_ns + int(duration_ms * _NS_PER_MS)
    if operation.is_plain:
        return span
    _put_on(span, operation, attributes)
    attributes["duration_ms"] = duration_ms
    if operation.measured is not None:
        attributes |= operation.measured
    if operation.failure is not None:
        _fail(span, operation, operation.failure, attributes)
    return span


def _fail(
    span: FinishedSpan, operation: Operation, failure: Mapping[str, Any], attributes: dict[str, Any]
) -> None:
    """Put on the span how the operation failed."""
    attributes |= failure
    span.error = not operation.is_ok
    if operation.raised is None:
        span.message = failure["error"]
    else:
        span.failure = (operation.outcome, {**attributes, "exception.type": operation.raised})
    if not failure["error"]:
        # The status says it already.
        del attributes["error"]
    if "error.type" in attributes:
        attributes.pop("error_type", None)


def _put_on(span: FinishedSpan, operation: Operation, attributes: dict[str, Any]) -> None:
    """Put on the span what was put on the operation."""
    if operation.final is not None:
        if "links" in operation.final:
            span.early_links = operation.metadata.get("links")
        attributes |= operation.final
        attributes["correlation_id"] = operation.correlation_id
    span.attributes = attributes
    span.dropped_attributes = operation.dropped_attributes
    span.ok = operation.is_ok
    span.added_links = operation.links
    span.dropped_links = operation.dropped_links
    span.dropped_events += operation.dropped_happenings
    if operation.happenings:
        offset_ns = span.start_ns - operation.at_ns
        events = [SpanEvent(name, at_ns + offset_ns, told) for name, at_ns, told in [*operation.happenings]]
        events += span.events or ()
        events.sort(key=lambda event: event.at_ns)
        span.events = events
