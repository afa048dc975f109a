"""Finished spans as an OTLP request, without the detour over the SDK's spans.

The messages are OpenTelemetry's own generated classes. They are filled directly because the detour costs
several times as much; what comes out is what OpenTelemetry's encoder makes of the same span, field by field.

Imports OpenTelemetry: to be imported only where spans are about to be exported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags, Status

from otpylib_telemetry_otel.otlp.values import Encoder, fill
from otpylib_telemetry_otel.traces.api_spans import ApiSpan

if TYPE_CHECKING:
    from otpylib_telemetry_otel.traces.spans import FinishedSpan


_LOCAL: Final = int(SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK)
_REMOTE: Final = _LOCAL | int(SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)
_KINDS: Final = {
    name.removeprefix("SPAN_KIND_"): number
    for name, number in Span.SpanKind.items()
    if not name.endswith("UNSPECIFIED")
}
_INTERNAL: Final = int(Span.SPAN_KIND_INTERNAL)
_ERROR: Final = int(Status.STATUS_CODE_ERROR)
_OK: Final = int(Status.STATUS_CODE_OK)


def _encode_events(message: Any, span: FinishedSpan) -> None:
    for event in span.events or ():
        noted = message.events.add()
        noted.name = event.name
        noted.time_unix_nano = event.at_ns
        noted.dropped_attributes_count = event.dropped_attributes
        fill(noted.attributes, event.attributes)
    message.dropped_events_count = span.dropped_events


def _encode_links(message: Any, span: FinishedSpan) -> None:
    for link in span.links or ():
        linked = message.links.add()
        linked.trace_id = link.trace_id.to_bytes(16, "big")
        linked.span_id = link.span_id.to_bytes(8, "big")
        # Where nobody knows where the span linked to was, it is not said to be elsewhere.
        linked.flags = _REMOTE if link.is_remote else _LOCAL
        linked.trace_state = link.tracestate
        linked.dropped_attributes_count = link.dropped_attributes
        fill(linked.attributes, link.attributes)
    message.dropped_links_count = span.dropped_links


class SpanEncoder(Encoder):
    """Makes requests of sealed spans."""

    request = ExportTraceServiceRequest
    fields = ("resource_spans", "scope_spans", "spans")

    @staticmethod
    def encode_item(message: Any, item: FinishedSpan) -> None:
        """Fill one message from one item."""
        # Assigned one by one: arguments to the constructor cost twice as much.
        message.trace_id = item.trace_id.to_bytes(16, "big")
        message.span_id = item.span_id.to_bytes(8, "big")
        message.name = item.name
        message.kind = _KINDS.get(item.kind, _INTERNAL)
        message.start_time_unix_nano = item.start_ns
        message.end_time_unix_nano = item.end_ns
        message.flags = _REMOTE if item.parent_is_remote and item.parent_span_id else _LOCAL
        if item.parent_span_id:
            message.parent_span_id = item.parent_span_id.to_bytes(8, "big")
        fill(message.attributes, item.attributes)
        status = message.status
        if item.error:
            status.code = _ERROR
            status.message = item.message
        else:
            # There, though nothing is in it: "unset" is said, not left open.
            status.SetInParent()
        if type(item) is ApiSpan:
            message.trace_state = item.tracestate
            if item.ok:
                status.code = _OK
        message.dropped_attributes_count = item.dropped_attributes
        if item.events or item.dropped_events:
            _encode_events(message, item)
        if item.links or item.dropped_links:
            _encode_links(message, item)
