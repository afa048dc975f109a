"""Spans made through the OpenTelemetry API, on their way through the queue and the sampling of ours.

They arrive as events of a reserved name, each with a finished span of the SDK in its metadata, and go on as
``FinishedSpan``: sampled with the traces they belong to, exported in the
same batches. Read by attribute only, so that this module does not import OpenTelemetry.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from otpylib_telemetry.exporter import registry
from otpylib_telemetry.primitives.any_value import INT64_MAX, any_values, number, scope_text, text
from otpylib_telemetry.primitives.fork import after_fork_in_child
from otpylib_telemetry.tracing.operation import Operation
from otpylib_telemetry.tracing.propagation import TraceParent, format_traceparent
from otpylib_telemetry_otel.semantics import SpanLink
from otpylib_telemetry_otel.traces.limits import UNLIMITED, SpanLimits
from otpylib_telemetry_otel.traces.spans import FinishedSpan, Scope, SpanEvent, told_flags

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from otpylib_telemetry.bus.event_log import Entry
    from otpylib_telemetry.scrubbing.scrubber import Scrubber


T = TypeVar("T")

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

#: How many are counted at most: OTLP has 32 bits for what was left out.
_MAX_COUNT: Final = 2**31 - 1

#: By span id, its trace, when it began, and when it ended or None, on the monotonic clock.
_open: dict[int, tuple[int, int, int | None]] = {}


class _Seen:
    """Whether there ever was such a span in this process: until then, looking for them costs nothing."""

    any = False
    #: Until when it is not looked again whether there are spans to forget.
    full_until_ns = 0


class ApiSpan(FinishedSpan):
    """A span that the SDK has finished: what it carries means what it says, and is exportable already."""

    notes: tuple[str, ...]

    def seal(self, limits: SpanLimits = UNLIMITED, scrubber: Scrubber | None = None) -> bool:
        """Take away what is no attribute, and mend what OTLP cannot carry; nothing else is changed."""
        if self.notes:
            self.attributes = {key: value for key, value in self.attributes.items() if key not in self.notes}
            self.notes = ()
        self.name, self.message = text(self.name, None), text(self.message, None)
        for part in (self, *(self.events or ()), *(self.links or ())):
            part.attributes, dropped = any_values(part.attributes)
            part.dropped_attributes += dropped
        for event in self.events or ():
            event.name = text(event.name, None)
        if limits is not UNLIMITED and scrubber is None:
            self.limit(limits)
        return False


class Sorted(NamedTuple):
    """Events of the bus, spans of the API, and how many events of the reserved name had no span in them."""

    events: Sequence[Entry]
    spans: list[FinishedSpan]
    rejected: int


def offer(exporter: str, span: Any) -> None:
    """Put a finished span into an exporter's queue; safe in any thread."""
    _Seen.any = True
    registry.offer(exporter, EVENT, {}, {_SPAN: span})


def sort(events: Sequence[Entry]) -> Sorted:
    """Take the spans of the API out of events."""
    if not _Seen.any:
        return Sorted(events, [], 0)
    others: list[Entry] = []
    spans: list[FinishedSpan] = []
    rejected = 0
    for event in events:
        if type(event) is Operation or event[0] != EVENT:
            others.append(event)
            continue
        try:
            span = _converted(event[2][_SPAN])
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - an event that somebody has made up, with anything in it
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
    context, parent, status = span.context, span.parent, span.status
    given = _mapping(span.attributes)
    notes: dict[str, str] = {}
    caller = None
    flags = int(context.trace_flags)
    # The id of its trace is known to whoever was called meanwhile, so this may not be all there is of it.
    notes["traceparent"] = format_traceparent(context.trace_id, context.span_id, flags)
    tracestate = _state(context)
    if tracestate:
        notes["tracestate"] = tracestate
    if parent is not None and parent.is_remote:
        caller = TraceParent(parent.trace_id, parent.span_id, int(parent.trace_flags))
    error = status.status_code.name == "ERROR"
    events, lost_events = _each(span.events, _event)
    links, lost_links = _each(span.links, _link)
    made = ApiSpan(
        span.name,
        context.trace_id,
        context.span_id,
        0 if parent is None else parent.span_id,
        caller,
        _time(span.start_time),
        {**notes, **given},
        parent_is_remote=parent is not None and bool(parent.is_remote),
        end_ns=_time(span.end_time),
        error=error,
        message=(status.description or "") if error else "",
        kind=getattr(span.kind, "name", "INTERNAL"),
        events=events or None,
        dropped_events=_count(span.dropped_events) + lost_events,
        dropped_attributes=_count(span.dropped_attributes),
        scope=_scope(span.instrumentation_scope),
        links=links or None,
        dropped_links=_count(span.dropped_links) + lost_links,
    )
    made.notes = tuple(key for key in notes if key not in given)
    made.ok = status.status_code.name == "OK"
    made.tracestate = tracestate
    made.flags = told_flags(flags)
    return made


def _each(parts: Any, read: Callable[[Any], T]) -> tuple[list[T], int]:
    """Read events or links; return them and how many cannot be read."""
    found: list[T] = []
    lost = 0
    for part in parts or ():
        try:
            found.append(read(part))
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - whatever it is, it costs neither the others nor the span
            lost += 1
    return found, lost


def _event(event: Any) -> SpanEvent:
    attributes = _mapping(event.attributes)
    return SpanEvent(event.name, _time(event.timestamp), attributes, _count(event.dropped_attributes))


def _link(link: Any) -> SpanLink:
    context = link.context
    # What is no id is no link.
    context.trace_id.to_bytes(16, "big")
    context.span_id.to_bytes(8, "big")
    return SpanLink(
        context.trace_id,
        context.span_id,
        _mapping(link.attributes),
        _count(link.dropped_attributes),
        _state(context),
        bool(context.is_remote),
        told_flags(int(context.trace_flags)),
    )


def _mapping(given: Any) -> dict[Any, Any]:
    return {} if given is None else dict(given)


def _state(context: Any) -> str:
    """Return the ``tracestate`` of a context; one that cannot be read is none."""
    try:
        return text(context.trace_state.to_header(), None) if context.trace_state else ""
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - somebody else's class
        return ""


def _time(value: Any) -> int:
    """Return a time in nanoseconds since the epoch, the nearest that OTLP has; now, where it is none."""
    try:
        found = value if type(value) is int else number(type(value), value)
        at_ns = time.time_ns() if found is None else int(found)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - somebody else's class, or a float that is no number
        at_ns = time.time_ns()
    return min(max(at_ns, 0), INT64_MAX)


def _count(value: Any) -> int:
    return min(max(value, 0), _MAX_COUNT) if type(value) is int else 0


def _scope(scope: Any) -> tuple[str, str] | Scope | None:
    """Return the scope in as few words as it needs: spans of one scope go together, whoever made them."""
    if scope is None:
        return None
    name, version, schema_url = map(scope_text, (scope.name, scope.version, scope.schema_url))
    given = getattr(scope, "attributes", None)
    if not given and not schema_url:
        return name, version
    exportable, _ = any_values(given or {})
    return Scope(name, version, schema_url, tuple(exportable.items()))


# What was open in the parent ends there.
after_fork_in_child(_open.clear)
