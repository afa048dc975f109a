"""What a span or a log record says, in words of the tests' own: to who emitted it, and to who received it.

Compared are these and not messages of OTLP, so that an error in encoding cannot be on both sides.
"""

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otpylib_telemetry.version import __version__
from tests.support.mockotlp import attributes_of, identity, number

OURS = ("otpylib_telemetry", __version__)
ERROR = 2
KINDS = {name.removeprefix("SPAN_KIND_"): value for name, value in Span.SpanKind.items()}


def typed(value):
    """A value with its type: 1, 1.0 and True are equal and mean different things."""
    if isinstance(value, dict):
        return {key: typed(element) for key, element in value.items()}
    return (tuple(map(typed, value)),) if isinstance(value, tuple) else (type(value).__name__, value)


def told(attributes):
    """Attributes, with their types."""
    return {key: typed(value) for key, value in attributes.items()}


def emitted(made):
    """What a span says, as it was handed to the exporter."""
    return {
        "name": made.name,
        "id": made.span_id,
        "trace": made.trace_id,
        "parent": made.parent_span_id,
        "times": (made.start_ns, made.end_ns),
        "kind": KINDS[made.kind],
        "status": (ERROR, made.message) if made.error else (0, ""),
        "attributes": told(made.attributes),
        "dropped": made.dropped_attributes,
        "events": [(event.name, event.at_ns, told(event.attributes)) for event in made.events or ()],
        "links": [(link.trace_id, link.span_id, told(link.attributes)) for link in made.links or ()],
        "scope": made.scope or OURS,
    }


def received(scope, found):
    """The same of what the second receiver got."""
    status = found.get("status") or {}
    return {
        "name": found["name"],
        "id": identity(found["spanId"]),
        "trace": identity(found["traceId"]),
        "parent": identity(found.get("parentSpanId")),
        "times": (number(found["startTimeUnixNano"]), number(found["endTimeUnixNano"])),
        "kind": found["kind"],
        "status": (status.get("code", 0), status.get("message", "")),
        "attributes": told(attributes_of(found)),
        "dropped": found.get("droppedAttributesCount", 0),
        "events": [
            (event["name"], number(event["timeUnixNano"]), told(attributes_of(event)))
            for event in found.get("events", ())
        ],
        "links": [
            (identity(link["traceId"]), identity(link["spanId"]), told(attributes_of(link)))
            for link in found.get("links", ())
        ],
        "scope": scope,
    }


def of_any(value):
    """What an AnyValue of the collector's says."""
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return tuple(of_any(element) for element in value.array_value.values)
        case "kvlist_value":
            return {pair.key: of_any(pair.value) for pair in value.kvlist_value.values}
        case kind:
            return getattr(value, kind)


def of_pairs(pairs):
    """What attributes of the collector's say."""
    return {pair.key: typed(of_any(pair.value)) for pair in pairs}


def whole(value):
    """An id as a number."""
    return int.from_bytes(value, "big")


def collected(scope, found):
    """The same of what the collector passed on."""
    return {
        "name": found.name,
        "id": whole(found.span_id),
        "trace": whole(found.trace_id),
        "parent": whole(found.parent_span_id),
        "times": (found.start_time_unix_nano, found.end_time_unix_nano),
        "kind": found.kind,
        "status": (found.status.code, found.status.message),
        "attributes": of_pairs(found.attributes),
        "dropped": found.dropped_attributes_count,
        "events": [(event.name, event.time_unix_nano, of_pairs(event.attributes)) for event in found.events],
        "links": [
            (whole(link.trace_id), whole(link.span_id), of_pairs(link.attributes)) for link in found.links
        ],
        "scope": (scope.name, scope.version),
    }


def seen_by(collector):
    """Every span that has come out of the collector, in order."""
    return [
        collected(scoped.scope, found)
        for request in collector.receiver.requests
        if request.signal == "traces"
        for group in request.message.resource_spans
        for scoped in group.scope_spans
        for found in scoped.spans
    ]


def resources_of(collector):
    """The resource of each group of spans that has come out of the collector."""
    return [
        of_pairs(group.resource.attributes)
        for request in collector.receiver.requests
        if request.signal == "traces"
        for group in request.message.resource_spans
    ]


def record_emitted(item):
    """What a log record says, as it was handed to the exporter."""
    return {
        "name": item.name,
        "times": (item.at_ns, item.observed_ns),
        "severity": (item.severity, item.severity_text),
        "body": typed(item.body),
        "attributes": told(item.attributes),
        "dropped": item.dropped_attributes,
        "span": (item.trace_id, item.span_id, item.flags),
        "scope": item.scope or OURS,
    }


def record_collected(scope, found):
    """The same of what the collector passed on."""
    return {
        "name": found.event_name,
        "times": (found.time_unix_nano, found.observed_time_unix_nano),
        "severity": (found.severity_number, found.severity_text),
        "body": typed(of_any(found.body)),
        "attributes": of_pairs(found.attributes),
        "dropped": found.dropped_attributes_count,
        "span": (whole(found.trace_id), whole(found.span_id), found.flags),
        "scope": scope,
    }
