"""Finished spans as an OTLP request, without the detour over the SDK's spans.

They are written as bytes: OpenTelemetry's generated classes cost three times as much, and its encoder several
times as much again. What comes out is what that makes of the same span, field by field. A span that cannot
be written that way is put into the generated class, which says what is wrong with it.

Imports OpenTelemetry: to be imported only where spans are about to be exported.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, SpanFlags, Status

from otpylib_telemetry_otel.otlp.encoder import Encoder
from otpylib_telemetry_otel.otlp.values import fill
from otpylib_telemetry_otel.otlp.wire import add_pairs, count, known_text, sized, text

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

#: A tag is the number of a field times eight, and how the field is written: 0 as a number of as many bytes as
#: it takes, 1 and 5 as eight and four bytes, 2 as bytes with their number before them. Fields come in the
#: order of their numbers: no reader may insist on it, and it costs nothing.
_begin: Final = struct.Struct(">2s16s2sQB").pack
_begin_with_parent: Final = struct.Struct(">2s16s2sQ2sQB").pack
_ids: Final = struct.Struct(">2s16s2sQ").pack
_parent: Final = struct.Struct(">2sQB").pack
_kind_and_times: Final = struct.Struct("<BBBQBQ").pack
_time: Final = struct.Struct("<BQB").pack
_link_flags: Final = struct.Struct("<BI").pack
_flags: Final = struct.Struct("<I").pack

_CODE_ERROR: Final = bytes((0x18, _ERROR))
_CODE_OK: Final = bytes((0x18, _OK))
_UNSET: Final = b"\x7a\x00"
_FLAGS_LOCAL: Final = b"\x85\x01" + struct.pack("<I", _LOCAL)
_FLAGS_REMOTE: Final = b"\x85\x01" + struct.pack("<I", _REMOTE)


def _begin_with_state(item: FinishedSpan) -> bytes:
    """Write the ids of a span, the state of its trace and the tag of its name."""
    begun = _ids(b"\x0a\x10", item.trace_id.to_bytes(16, "big"), b"\x12\x08", item.span_id)
    parent = item.parent_span_id
    return (
        begun + b"\x1a" + text(item.tracestate) + (_parent(b"\x22\x08", parent, 0x2A) if parent else b"\x2a")
    )


def _details(item: FinishedSpan) -> bytes:
    """Write the events and links of a span, and how many of what did not fit."""
    written = count(b"\x50", item.dropped_attributes) if item.dropped_attributes else b""
    for event in item.events or ():
        name = event.name
        fields = [_time(0x09, event.at_ns, 0x12) + (known_text(name) or text(name))]
        add_pairs(fields, event.attributes)
        content = b"\x1a".join(fields)
        if event.dropped_attributes:
            content += count(b"\x20", event.dropped_attributes)
        written += b"\x5a" + sized(content)
    if item.dropped_events:
        written += count(b"\x60", item.dropped_events)
    for link in item.links or ():
        begun = _ids(b"\x0a\x10", link.trace_id.to_bytes(16, "big"), b"\x12\x08", link.span_id)
        fields = [begun + b"\x1a" + text(link.tracestate)]
        add_pairs(fields, link.attributes)
        # Where nobody knows where the span linked to was, it is not said to be elsewhere.
        flags = _link_flags(0x35, (_REMOTE if link.is_remote else _LOCAL) | link.flags)
        content = b"\x22".join(fields) + count(b"\x28", link.dropped_attributes) + flags
        written += b"\x6a" + sized(content)
    return written + count(b"\x70", item.dropped_links)


def _status(item: FinishedSpan) -> bytes:
    """Write how a span ended."""
    # Not kept as names are: what an error says is often said once.
    status = b"\x12" + sized(str.encode(item.message)) + _CODE_ERROR if item.error else b""
    if item.ok:
        # The last one counts.
        status += _CODE_OK
    return b"\x7a" + sized(status)


def _fill_events(message: Any, span: FinishedSpan) -> None:
    for event in span.events or ():
        noted = message.events.add()
        noted.name = event.name
        noted.time_unix_nano = event.at_ns
        noted.dropped_attributes_count = event.dropped_attributes
        fill(noted.attributes, event.attributes)
    message.dropped_events_count = span.dropped_events


def _fill_links(message: Any, span: FinishedSpan) -> None:
    for link in span.links or ():
        linked = message.links.add()
        linked.trace_id = link.trace_id.to_bytes(16, "big")
        linked.span_id = link.span_id.to_bytes(8, "big")
        # Where nobody knows where the span linked to was, it is not said to be elsewhere.
        linked.flags = (_REMOTE if link.is_remote else _LOCAL) | link.flags
        linked.trace_state = link.tracestate
        linked.dropped_attributes_count = link.dropped_attributes
        fill(linked.attributes, link.attributes)
    message.dropped_links_count = span.dropped_links


class SpanEncoder(Encoder):
    """Makes requests of sealed spans."""

    request = ExportTraceServiceRequest
    of_resource = ResourceSpans
    of_scope = ScopeSpans
    of_item = Span

    @staticmethod
    def encode_item(item: FinishedSpan) -> bytes:
        """Write one span; raises for what it does not know how to write."""
        parent = item.parent_span_id
        trace_id = item.trace_id.to_bytes(16, "big")
        if item.tracestate:
            begun = _begin_with_state(item)
        elif parent:
            begun = _begin_with_parent(
                b"\x0a\x10", trace_id, b"\x12\x08", item.span_id, b"\x22\x08", parent, 0x2A
            )
        else:
            begun = _begin(b"\x0a\x10", trace_id, b"\x12\x08", item.span_id, 0x2A)
        kind = _KINDS.get(item.kind, _INTERNAL)
        fields = [
            begun
            + (known_text(item.name) or text(item.name))
            + _kind_and_times(0x30, kind, 0x39, item.start_ns, 0x41, item.end_ns)
        ]
        add_pairs(fields, item.attributes)
        written = b"\x4a".join(fields)
        if item.events or item.links or item.dropped_attributes or item.dropped_events or item.dropped_links:
            written += _details(item)
        # There, though nothing may be in it: "unset" is said, not left open.
        written += _status(item) if item.error or item.ok else _UNSET
        if item.flags:
            where = _REMOTE if parent and item.parent_is_remote else _LOCAL
            return written + b"\x85\x01" + _flags(where | item.flags)
        return written + (_FLAGS_REMOTE if parent and item.parent_is_remote else _FLAGS_LOCAL)

    @staticmethod
    def fill_item(message: Any, item: FinishedSpan) -> None:
        """Fill one message from one span."""
        # Assigned one by one: arguments to the constructor cost twice as much.
        message.trace_id = item.trace_id.to_bytes(16, "big")
        message.span_id = item.span_id.to_bytes(8, "big")
        message.name = item.name
        message.kind = _KINDS.get(item.kind, _INTERNAL)
        message.start_time_unix_nano = item.start_ns
        message.end_time_unix_nano = item.end_ns
        where = _REMOTE if item.parent_is_remote and item.parent_span_id else _LOCAL
        message.flags = where | item.flags
        message.trace_state = item.tracestate
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
        if item.ok:
            status.code = _OK
        message.dropped_attributes_count = item.dropped_attributes
        if item.events or item.dropped_events:
            _fill_events(message, item)
        if item.links or item.dropped_links:
            _fill_links(message, item)
