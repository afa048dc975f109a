"""Finished spans as an OTLP request, without the detour over the SDK's spans.

The messages are OpenTelemetry's own generated classes. They are filled directly because the detour costs
several times as much; what comes out is what OpenTelemetry's encoder makes of the same span, field by field.

Imports OpenTelemetry: to be imported only where spans are about to be exported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags, Status

from otpylib_telemetry_otel.otlp.values import Encoded, encode_by_scope, fill
from otpylib_telemetry_otel.traces.api_spans import ApiSpan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otpylib_telemetry_otel.traces.spans import FinishedSpan

__all__ = ["SpanEncoder"]

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


class SpanEncoder:
    """Encodes spans of one resource.

    Args:
        resource: The resource attributes, complete.
        schema_url: The schema they follow.
        scope: Name and version of what made the spans.
    """

    def __init__(
        self, resource: Mapping[str, Any], schema_url: str = "", scope: tuple[str, str] = ("", "")
    ) -> None:
        self._resource = Resource()
        fill(self._resource.attributes, resource)
        self._schema_url = schema_url
        self._scope = scope

    def encode(self, spans: Sequence[FinishedSpan]) -> Encoded:
        """Encode spans.

        Args:
            spans: Sealed spans. One that cannot be encoded all the same is left out, so that the others go.
        """
        request = ExportTraceServiceRequest()
        group = request.resource_spans.add(schema_url=self._schema_url)
        group.resource.CopyFrom(self._resource)
        refused, reason = encode_by_scope(group.scope_spans, "spans", spans, self._scope, _encode)
        return Encoded(request.SerializeToString(), refused, reason)


def _encode(message: Any, span: FinishedSpan) -> None:
    # Assigned one by one: arguments to the constructor cost twice as much.
    message.trace_id = span.trace_id.to_bytes(16, "big")
    message.span_id = span.span_id.to_bytes(8, "big")
    message.name = span.name
    message.kind = _KINDS.get(span.kind, _INTERNAL)
    message.start_time_unix_nano = span.start_ns
    message.end_time_unix_nano = span.end_ns
    message.flags = _REMOTE if span.parent_is_remote and span.parent_span_id else _LOCAL
    if span.parent_span_id:
        message.parent_span_id = span.parent_span_id.to_bytes(8, "big")
    fill(message.attributes, span.attributes)
    status = message.status
    if span.error:
        status.code = _ERROR
        status.message = span.message
    else:
        # There, though nothing is in it: "unset" is said, not left open.
        status.SetInParent()
    if type(span) is ApiSpan:
        message.trace_state = span.tracestate
        if span.ok:
            status.code = _OK
    message.dropped_attributes_count = span.dropped_attributes
    if span.events or span.dropped_events:
        _encode_events(message, span)
    if span.links or span.dropped_links:
        _encode_links(message, span)


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
