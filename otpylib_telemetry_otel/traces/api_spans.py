"""Spans made through the OpenTelemetry API, on their way through the queue and the sampling of ours.

They arrive as events of a reserved name, each with a finished span of the SDK in its metadata, and go on as
``FinishedSpan``: sampled with the traces they belong to, exported in the
same batches. Read by attribute only, so that this module does not import OpenTelemetry.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib_telemetry.exporter import registry
from otpylib_telemetry.primitives.fork import after_fork_in_child
from otpylib_telemetry.tracing.propagation import TraceParent, format_traceparent
from otpylib_telemetry_otel.attributes import attributes
from otpylib_telemetry_otel.semantics import SpanLink
from otpylib_telemetry_otel.traces.spans import FinishedSpan, Scope, SpanEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otpylib_telemetry.bus.events import RawEvent


#: The name of the events. Nobody can emit one: a name on the bus does not begin with a dot by accident, and
#: what is in its metadata must be a span all the same.
EVENT: Final = ".otel.span"

_SPAN: Final = "span"
_NS_PER_SECOND: Final = 1_000_000_000

#: How many open spans are known; of those beyond it, the sampling does not know that their traces go on.
_MAX_OPEN: Final = 10_000

#: A span that has ended counts as open until it has come through the queue, but no longer than this, in
#: nanoseconds: it may have found the queue full.
_LAG_NS: Final = 3 * _NS_PER_SECOND

#: Integers that OTLP can carry.
_INTEGERS: Final = range(-(2**63), 2**63)
_EXPORTABLE: Final = frozenset({str, bool, float})

#: By span id, its trace, when it began, and when it ended or None, on the monotonic clock.
_open: dict[int, tuple[int, int, int | None]] = {}


class _Seen:
    """Whether there ever was such a span in this process: until then, looking for them costs nothing."""

    any = False
    #: Until when it is not looked again whether there are spans to forget.
    full_until_ns = 0


class ApiSpan(FinishedSpan):
    """A span that the SDK has finished: what it carries means what it says, and is exportable already.

    Attributes:
        notes: Keys among its attributes that are there for the sampling only.
        ok: Whether its status was set to OK.
        tracestate: The ``tracestate`` of its trace.
    """

    __slots__ = ("notes", "ok", "tracestate")

    notes: tuple[str, ...]
    ok: bool
    tracestate: str

    def seal(self) -> None:
        """Take away what is no attribute, and replace what OTLP cannot carry."""
        if self.notes:
            self.attributes = {key: value for key, value in self.attributes.items() if key not in self.notes}
            self.notes = ()
        if not _are_exportable(self.attributes):
            self.attributes, dropped = attributes(self.attributes)
            self.dropped_attributes += dropped
        for part in (*(self.events or ()), *(self.links or ())):
            if not _are_exportable(part.attributes):
                part.attributes, dropped = attributes(part.attributes)
                part.dropped_attributes += dropped


class Sorted(NamedTuple):
    """Events, sorted into those of the bus and the spans of the API.

    Attributes:
        events: Those of the bus.
        spans: The spans.
        rejected: How many events of the reserved name had no span in them.
    """

    events: Sequence[RawEvent]
    spans: list[FinishedSpan]
    rejected: int


def offer(exporter: str, span: Any) -> None:
    """Put a finished span into an exporter's queue; safe in any thread."""
    _Seen.any = True
    registry.offer(exporter, EVENT, {}, {_SPAN: span})


def sort(events: Sequence[RawEvent]) -> Sorted:
    """Take the spans of the API out of events."""
    if not _Seen.any:
        return Sorted(events, [], 0)
    others: list[RawEvent] = []
    spans: list[FinishedSpan] = []
    rejected = 0
    for event in events:
        if event[0] != EVENT:
            others.append(event)
            continue
        try:
            span = _converted(event[2][_SPAN])
        except Exception:  # noqa: BLE001 - an event that somebody has made up, with anything in it
            rejected += 1
        else:
            spans.append(span)
            _open.pop(span.span_id, None)
    return Sorted(others, spans, rejected)


def began(span_id: int, trace_id: int) -> None:
    """Note that a span is open: the sampling waits for the end of its trace."""
    now_ns = time.monotonic_ns()
    if len(_open) >= _MAX_OPEN and now_ns > _Seen.full_until_ns:
        _Seen.full_until_ns = now_ns + _NS_PER_SECOND
        _forget_lost(now_ns)
    if len(_open) < _MAX_OPEN:
        _open[span_id] = (trace_id, now_ns, None)


def ended(span_id: int, *, queued: bool) -> None:
    """Note that a span has ended."""
    known = _open.pop(span_id, None)
    if known is not None and queued:
        _open[span_id] = (*known[:2], time.monotonic_ns())


def with_open_traces(traces: Mapping[int, int]) -> Mapping[int, int]:
    """Add the traces that have spans open through the API."""
    if not _open:
        return traces
    _forget_lost(time.monotonic_ns())
    merged = dict(traces)
    # One step of the interpreter, whatever other threads begin and end meanwhile.
    for trace_id, since_ns, _ in list(_open.values()):
        merged[trace_id] = min(since_ns, merged.get(trace_id, since_ns))
    return merged


def _forget_lost(now_ns: int) -> None:
    for span_id, (_, _, ended_ns) in list(_open.items()):
        if ended_ns is not None and now_ns - ended_ns > _LAG_NS:
            _open.pop(span_id, None)


def _converted(span: Any) -> ApiSpan:
    context, parent, scope = span.context, span.parent, span.instrumentation_scope
    notes: dict[str, str] = {}
    caller = None
    given = span.attributes or {}
    sampled = bool(context.trace_flags.sampled)
    # The id of its trace is known to whoever was called meanwhile, so this may not be all there is of it.
    notes["traceparent"] = format_traceparent(context.trace_id, context.span_id, sampled=sampled)
    tracestate = context.trace_state.to_header() if context.trace_state else ""
    if tracestate:
        notes["tracestate"] = tracestate
    if parent is not None and parent.is_remote:
        caller = TraceParent(parent.trace_id, parent.span_id, bool(parent.trace_flags.sampled))
    status = span.status
    error = status.status_code.name == "ERROR"
    made = ApiSpan(
        span.name,
        context.trace_id,
        context.span_id,
        0 if parent is None else parent.span_id,
        caller,
        span.start_time,
        {**notes, **given},
        parent_is_remote=parent is not None and bool(parent.is_remote),
        end_ns=span.end_time,
        error=error,
        message=(status.description or "") if error else "",
        kind=span.kind.name,
        events=[
            SpanEvent(event.name, event.timestamp, dict(event.attributes or {}), event.dropped_attributes)
            for event in span.events
        ]
        or None,
        dropped_events=span.dropped_events,
        dropped_attributes=span.dropped_attributes,
        scope=None if scope is None else _scope(scope),
        links=[
            SpanLink(
                link.context.trace_id,
                link.context.span_id,
                dict(link.attributes or {}),
                link.dropped_attributes,
                link.context.trace_state.to_header() if link.context.trace_state else "",
                bool(link.context.is_remote),
            )
            for link in span.links
        ]
        or None,
        dropped_links=span.dropped_links,
    )
    made.notes = tuple(key for key in notes if key not in given)
    made.ok = status.status_code.name == "OK"
    made.tracestate = tracestate
    return made


def _scope(scope: Any) -> tuple[str, str] | Scope:
    """Return the scope in as few words as it needs: spans of one scope go together, whoever made them."""
    version, schema_url = scope.version or "", scope.schema_url or ""
    given = scope.attributes
    if not given and not schema_url:
        return scope.name, version
    exportable, _ = attributes(given or {})
    return Scope(scope.name, version, schema_url, tuple(exportable.items()))


def _are_exportable(given: Mapping[Any, Any]) -> bool:
    return all(_is_exportable(value) for value in given.values())


def _is_exportable(value: Any) -> bool:
    kind = type(value)
    if kind in _EXPORTABLE:
        return True
    if kind is int:
        return value in _INTEGERS
    return kind in {tuple, list} and all(
        type(item) not in {tuple, list} and _is_exportable(item) for item in value
    )


def _after_fork() -> None:
    """What was open in the parent ends there."""
    _open.clear()


after_fork_in_child(_after_fork)
