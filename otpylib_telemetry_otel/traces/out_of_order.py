"""Events that come twice, and ends that come before their beginnings or without any.

Where they say by their ids that they belong together, they still make one span.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otpylib_telemetry.tracing.identifiers import identifier
from otpylib_telemetry.tracing.phases import classify
from otpylib_telemetry_otel.traces.ended import Ending
from otpylib_telemetry_otel.traces.endings import duration_ns, end
from otpylib_telemetry_otel.traces.happenings import happened, take_back
from otpylib_telemetry_otel.traces.parents import begin
from otpylib_telemetry_otel.traces.recorded import finished

if TYPE_CHECKING:
    from otpylib_telemetry.bus.event_log import Entry
    from otpylib_telemetry.tracing.operation import Operation, Place
    from otpylib_telemetry_otel.traces.assembled import Assembled
    from otpylib_telemetry_otel.traces.open_spans import OpenSpans
    from otpylib_telemetry_otel.traces.spans import FinishedSpan


#: Attributes beyond which a start that comes again adds none.
MAX_MERGED: Final = 1024


def is_repeated(spans: OpenSpans, operation: str, event: Entry, result: Assembled) -> bool:
    """Whether a start repeats one of the same operation and span id; it then only adds its metadata."""
    measurements, metadata = event[1], event[2]
    given = metadata["span_id"]
    twin = spans.paired.find_span(given, operation)
    if twin is not None:
        span = twin.value
        # Each copies all there are: what comes again and again must not cost more every time.
        if len(span.attributes) < MAX_MERGED:
            span.attributes = {**span.attributes, **metadata, **measurements}
        result.surplus += 1
        return True
    past = spans.ended.get(identifier(given))
    if past is not None and past[0] == operation:
        result.repeats()
        return True
    return False


def end_unopened(
    spans: OpenSpans, operation: str, event: Entry, result: Assembled, within: Place | None
) -> None:
    """Handle an ending that ends nothing that is open."""
    name, measurements, metadata, at_ns = event[:4]
    is_taken = False
    if (span_id := identifier(metadata.get("span_id"))) is not None:
        past = spans.ended.get(span_id)
        is_taken = past is not None or spans.paired.find_span(span_id) is not None
        if past is not None and past[0] == operation:
            result.repeats()
            return
    measured_ns = duration_ns(measurements)
    ending = Ending(event, is_finished=measured_ns is not None)
    if measured_ns is None:
        happened(spans, event, result, within, ending)
    else:
        span = begin(spans, operation, metadata, at_ns - measured_ns, is_taken, within)
        end(span, name, measurements, metadata, measured_ns)
        result.spans.append(span)
        if span_id is not None:
            # Its start, should it come, is known by that.
            spans.ended.put(span_id, (operation, span.trace_id, span.end_ns - at_ns))
            return
    spans.early.put(operation, span_id, ending)


def end_early(spans: OpenSpans, span: FinishedSpan, start: Entry, ending: Ending, result: Assembled) -> None:
    """End a span whose end came before its start."""
    if ending.is_finished:
        result.repeats()
        return
    metadata, at_ns = start[2:4]
    name, measurements, ended_with, ended_ns = ending.event[:4]
    end(span, name, measurements, ended_with, ended_ns - at_ns)
    # What was an event of another span is this one's end now.
    span.weight += take_back(spans, ending)
    if (span_id := identifier(metadata.get("span_id"))) is not None:
        operation, _ = classify(start[0])
        spans.ended.put(span_id, (operation, span.trace_id, span.start_ns - at_ns))
    result.spans.append(span)


def end_unheard(spans: OpenSpans, operation: Operation, result: Assembled) -> None:
    """Handle the end of an operation whose beginning did not come here, or which was given up."""
    if spans.recorded.was_given_up(operation):
        result.repeats()
        return
    spans.recorded.settle(operation, spans.wall_offset_ns)
    span = finished(operation, None, spans.wall_offset_ns)
    span.weight = 1
    result.spans.append(span)
