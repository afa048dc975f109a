"""How a span begins: its trace, its id, and the span around it.

Ids given in the metadata are used as they are; only a span id that another operation has used is not. A span
around it is, in this order: the one named by ``parent_span_id``; the innermost one open under the same
correlation id; the caller's, named by ``traceparent``. Where a ``traceparent`` is not the one by which the
span open under the correlation id came to its trace, it names a closer parent and goes first. Where nothing
is named, it is the one in which it was emitted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from otpylib_telemetry.tracing.headers import read_tracestate
from otpylib_telemetry.tracing.identifiers import identifier
from otpylib_telemetry.tracing.propagation import (
    derive_trace_id,
    parse_span_id,
    parse_trace_id,
    parse_traceparent,
)
from otpylib_telemetry_otel.traces.open_spans import around
from otpylib_telemetry_otel.traces.spans import IDENTITY, begun, told_flags

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry.tracing.operation import Place
    from otpylib_telemetry.tracing.operation_index import Opened
    from otpylib_telemetry.tracing.propagation import TraceParent
    from otpylib_telemetry_otel.traces.open_spans import Around, OpenSpans
    from otpylib_telemetry_otel.traces.spans import FinishedSpan


class _Given(NamedTuple):
    """What the metadata of a start says; ``hidden`` are the keys that need not be told again."""

    trace_id: int
    span_id: int
    parent_id: int
    caller: TraceParent | None
    around: Around | None
    wall_offset_ns: int
    hidden: frozenset[str]


def begin(  # noqa: C901, PLR0912, PLR0913, PLR0917 - the rules in their order, in one piece for speed
    spans: OpenSpans,
    operation: str,
    metadata: Mapping[Any, Any],
    at_ns: int,
    is_taken: bool,  # noqa: FBT001 - by position, because a call by keyword costs half as much again
    within: Place | None,
) -> FinishedSpan:
    """Start a span; ``is_taken`` says that the span id in its metadata is another operation's."""
    trace_id = span_id = parent_id = 0
    caller = outer = None
    wall_offset_ns, hidden = spans.wall_offset_ns, IDENTITY
    # Most have none of these, and to ask whether one is there is cheaper than to get it.
    if (
        "trace_id" in metadata
        or "span_id" in metadata
        or "traceparent" in metadata
        or "parent_span_id" in metadata
    ):
        trace_id, span_id, parent_id, caller, outer, wall_offset_ns, hidden = _given(
            spans, metadata, is_taken
        )
    if outer is None and not (trace_id and parent_id):
        correlation_id = metadata.get("correlation_id")
        host: Opened[FinishedSpan] | Place | None = None
        if correlation_id is not None:
            host = spans.innermost(correlation_id)
        if host is None and caller is None and not parent_id:
            host = within
        if (
            host is not None
            and (found := around(host))
            and (caller is None or caller == found.caller)
            and (not trace_id or trace_id == found.trace_id)
        ):
            outer = found
            parent_id = parent_id or found.span_id
        elif caller is not None and (not trace_id or trace_id == caller.trace_id):
            trace_id = caller.trace_id
            parent_id = parent_id or caller.span_id
        elif not trace_id:
            known = identifier(correlation_id) if spans.trace_id_from_correlation else None
            trace_id = spans.new_trace_id() if known is None else derive_trace_id(known)
    if not span_id:
        span_id = spans.new_span_id()
    if parent_id == span_id:
        parent_id = 0
    start_ns = at_ns + wall_offset_ns
    if start_ns < 0:  # noqa: PLR1730 - max() costs nine times as much
        start_ns = 0
    span = begun(operation, trace_id, span_id, parent_id, caller, start_ns, metadata, hidden)
    if outer is not None:
        _begin_in(span, outer, at_ns)
    elif caller is not None and trace_id == caller.trace_id:
        span.tracestate, span.flags = read_tracestate(metadata.get("tracestate")), told_flags(caller.flags)
        if parent_id == caller.span_id:
            span.parent_is_remote = True
    if "tracestate" in metadata and not span.tracestate:
        span.hidden -= {"tracestate"}  # none that goes on: it stays to be seen
    return span


def _begin_in(span: FinishedSpan, outer: Around, at_ns: int) -> None:
    """Have a span belong to the trace of the one around it, and go by the clock there."""
    span.trace_id, span.caller = outer.trace_id, span.caller or outer.caller
    span.tracestate, span.flags = outer.tracestate, outer.flags
    if outer.is_remote and span.parent_span_id == outer.span_id:
        span.parent_is_remote = True
    # It may have been set since.
    if outer.wall_offset_ns is not None:
        span.start_ns = max(at_ns + outer.wall_offset_ns, 0)


def _given(spans: OpenSpans, metadata: Mapping[Any, Any], is_taken: bool) -> _Given:  # noqa: FBT001 - as above
    hidden = IDENTITY
    trace_id = span_id = parent_id = 0
    caller = outer = None
    wall_offset_ns = spans.wall_offset_ns
    if (given := metadata.get("trace_id")) is not None and not (trace_id := parse_trace_id(given) or 0):
        hidden -= {"trace_id"}
    if (given := metadata.get("span_id")) is not None and (
        is_taken or not (span_id := parse_span_id(given) or 0)
    ):
        hidden -= {"span_id"}
    if (given := metadata.get("traceparent")) is not None and not (caller := parse_traceparent(given)):
        hidden -= {"traceparent"}
    if (given := metadata.get("parent_span_id")) is not None:
        outer = spans.named(given)
        if outer is not None and trace_id and outer.trace_id != trace_id:
            outer = None
        parent_id = parse_span_id(given) or 0
        if not parent_id:
            hidden -= {"parent_span_id"}
        if outer is not None:
            parent_id = outer.span_id
        elif parent_id and (past := spans.ended.get(identifier(given))) is not None:
            _, trace, offset_ns = past
            if not trace_id or trace_id == trace:
                trace_id, wall_offset_ns = trace, offset_ns
    return _Given(trace_id, span_id, parent_id, caller, outer, wall_offset_ns, hidden)
