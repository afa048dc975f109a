"""What happens during a span: events that begin and end nothing, on the open span they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.instrument.log_record import record_in
from otpylib_telemetry.tracing.operation_index import Opened
from otpylib_telemetry.tracing.phases import MEASURED
from otpylib_telemetry_otel.traces.spans import SpanEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry.bus.event_log import Entry
    from otpylib_telemetry.tracing.operation import Operation, Place
    from otpylib_telemetry_otel.traces.assembled import Assembled
    from otpylib_telemetry_otel.traces.ended import Ending
    from otpylib_telemetry_otel.traces.open_spans import OpenSpans
    from otpylib_telemetry_otel.traces.spans import FinishedSpan


#: An event that was emitted during an operation, which is its last part.
_WITHIN: Final = 6


def happened(
    spans: OpenSpans, event: Entry, result: Assembled, within: Place | None, ending: Ending | None = None
) -> None:
    """Put an event that begins and ends nothing on the span it belongs to, or leave it to others."""
    name, measurements, metadata, at_ns = event[:4]
    host = _host(spans, measurements, metadata, within)
    is_apart = host is None or name in spans.apart or record_in(metadata) is not None
    # What measures something becomes no log record, and stays where it is.
    is_copy = not is_apart and spans.span_events != "event" and MEASURED.isdisjoint(measurements)
    if is_apart or is_copy:
        result.unused += 1
        around = host.value if isinstance(host, Opened) else host or within
        # Where nobody tells of the operation either: it still ties together what was emitted in it.
        result.others.append((event, around or (event[5] if len(event) == _WITHIN else None)))
    if host is None or is_apart or (is_copy and spans.span_events == "log"):
        return
    carried = {**metadata, **measurements}
    span = spans.span_of(host)
    if span.events is None:
        span.events = []
    noted = None
    # One place is kept for the exception by which the span may end.
    if len(span.events) < spans.max_events - 1 and spans.held + spans.copies < spans.max_held:
        noted = SpanEvent(name, span.start_ns + max(at_ns - host.at_ns, 0), carried, is_copy=is_copy)
        span.events.append(noted)
        _count(spans, span, 1, is_copy=is_copy)
    else:
        # Not held: an operation may go on for ever, and what is finished needs the room.
        span.dropped_events += 1
        if not is_copy:
            result.surplus += 1
    if ending is not None:
        ending.host, ending.noted = host, noted


def take_back(spans: OpenSpans, ending: Ending) -> int:
    """Take an ending off the open span on which it was put as an event; return what that frees."""
    host, noted = ending.host, ending.noted
    if host is None or not spans.is_open(host):
        return 0
    around = spans.span_of(host)
    if noted is None:
        around.dropped_events -= 1
        return 0
    if around.events is not None:
        around.events.remove(noted)
    _count(spans, around, -1, is_copy=noted.is_copy)
    return 0 if noted.is_copy else 1


def _count(spans: OpenSpans, span: FinishedSpan, number: int, *, is_copy: bool) -> None:
    if is_copy:
        span.copies += number
        spans.copies += number
    else:
        span.weight += number
        spans.held += number


def _host(
    spans: OpenSpans, measurements: Mapping[Any, Any], metadata: Mapping[Any, Any], within: Place | None
) -> Opened[FinishedSpan] | Operation | None:
    """Return the open operation to which an event belongs.

    That is the one which its ``span_id`` names, or the innermost under its correlation id, or the one in
    which it was emitted; a measurement taken in it is none of its events.
    """
    found: Opened[FinishedSpan] | Operation | None = None
    if (given := metadata.get("span_id")) is not None:
        found = spans.paired.find_span(given) or spans.recorded.find_span(given)
    if found is None and (given := metadata.get("correlation_id")) is not None:
        found = spans.innermost(given)
    if found is None and within is not None and MEASURED.isdisjoint(measurements):
        found = spans.recorded.open.get(within.span_id)
    return found
