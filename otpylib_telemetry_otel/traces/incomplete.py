"""Spans whose end has not come: given up for their age or number, with their emitter, or at the very end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otpylib_telemetry.otp import reason_of_end
from otpylib_telemetry_otel.traces.spans import EXIT_REASON

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.tracing.operation import Operation
    from otpylib_telemetry.tracing.operation_index import Opened
    from otpylib_telemetry_otel.traces.open_spans import OpenSpans
    from otpylib_telemetry_otel.traces.spans import FinishedSpan


#: An operation that ended so many nanoseconds ago has lost its end, for want of room: its record knows it.
_LOST_NS: Final = 5 * 1_000_000_000

#: Why a span is incomplete whose emitter is gone.
_DIED: Final = "emitter_died"


def evict(spans: OpenSpans, now_ns: int) -> FinishedSpan:
    """Give up what has been open for longest."""
    operation = next(iter(spans.recorded), None)
    opened = next(iter(spans.paired), None)
    if operation is not None and (opened is None or operation.at_ns <= opened.at_ns):
        return _give_up(spans, operation, now_ns, "evicted")
    return _abandon(spans, spans.paired.give_up_oldest(), now_ns, "evicted")


def give_up_hopeless(spans: OpenSpans, now_ns: int, alive: Callable[[object], bool]) -> list[FinishedSpan]:
    """Give up what has been open for too long or whose emitter is gone, and end what has lost its end."""
    ttl_ns = spans.ttl_ns
    given_up = [
        _abandon(spans, opened, opened.at_ns + ttl_ns, "ttl") for opened in spans.paired.overdue(now_ns)
    ]
    given_up += [
        _of_the_dead(_abandon(spans, opened, now_ns, _DIED), opened.emitter)
        for opened in spans.paired.orphaned(alive)
    ]
    for operation in spans.recorded.lost(now_ns - _LOST_NS):
        span = spans.recorded.end_lost(operation, spans.wall_offset_ns)
        spans.held -= span.weight
        given_up.append(span)
    given_up += [
        _give_up(spans, operation, operation.at_ns + ttl_ns, "ttl")
        for operation in spans.recorded.overdue(now_ns - ttl_ns)
    ]
    given_up += [
        _of_the_dead(_give_up(spans, operation, now_ns, _DIED), operation.emitter)
        for operation in spans.recorded.orphaned(alive)
    ]
    return given_up


def give_up_all(spans: OpenSpans) -> list[FinishedSpan]:
    """Give up everything, at the latest time heard of, by an event or a tick."""
    latest_ns = spans.latest_ns
    return [_abandon(spans, opened, latest_ns, "shutdown") for opened in spans.paired.drain()] + [
        _give_up(spans, operation, latest_ns, "shutdown") for operation in list(spans.recorded)
    ]


def _give_up(spans: OpenSpans, operation: Operation, at_ns: int, reason: str) -> FinishedSpan:
    span = spans.recorded.give_up(operation, at_ns - operation.at_ns, reason, spans.wall_offset_ns)
    spans.let_go(span)
    return span


def _abandon(spans: OpenSpans, opened: Opened[FinishedSpan], at_ns: int, reason: str) -> FinishedSpan:
    span = opened.value
    spans.let_go(span)
    span.end_ns = span.start_ns + max(at_ns - opened.at_ns, 0)
    span.incomplete = reason
    if opened.span_id is not None:
        spans.remember(opened)
    return span


def _of_the_dead(span: FinishedSpan, emitter: object) -> FinishedSpan:
    """Say on a span why the process has ended that had begun it, if that is known."""
    reason = reason_of_end(emitter)
    if reason is not None:
        span.attributes = {**span.attributes, EXIT_REASON: reason}
    return span
