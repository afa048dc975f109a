"""One program, written with ``span`` and ``emit``, and with the OpenTelemetry API through the SDK alone.

What arrives of either is compared field by field. What differs is listed in :data:`DIFFERENCES`, and in
``docs/how-to/emit/opentelemetry-api.md``; nothing else may.
"""

import logging
import time
from contextlib import suppress

from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otpylib_telemetry import emit_counter, emit_timer, execute, extract, span
from otpylib_telemetry_mock.otlp_receiver.received import attributes_of

CALLER = {"traceparent": f"00-{5:032x}-{6:016x}-03", "tracestate": "vendor=1"}
OTHER = SpanContext(
    7, 8, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState.from_header(["shop=7"])
)

#: What ours has besides, by where it is, and why: none of it is missing on either side otherwise.
DIFFERENCES = {
    # Of use to whoever looks for a request by the ids of the application, or reads no times.
    "attributes of every span": {"correlation_id", "duration_ms"},
    # What handlers of the ending event are told; the SDK has it in the status or the exception event alone.
    "attributes of a span that failed": {"error", "error_type"},
    # Deprecated in OpenTelemetry, and always false where the SDK writes it by itself.
    "attributes of the SDK's exception events": {"exception.escaped"},
    # Where the line is that logs, as OpenTelemetry's handler of Python's logging has it.
    "attributes of a record of Python's logging": {
        *("code.file.path", "code.function.name", "code.line.number", "correlation_id")
    },
}

#: The flags of the trace, the low byte of those of a span. The SDK leaves them out, as it does the state of
#: the trace that a link leads to, though OTLP has room for both.
LOW_BYTE = 0xFF


def logger():
    return logging.getLogger("shop.stock")


async def ours():
    """With what this package offers; exemplars and ids come by themselves."""
    with extract(CALLER), span("shop.order", {"customer": "ann", "span.kind": "server"}) as order:
        order.add_link(OTHER, {"why": "follows"})
        await emit_counter("shop.sold", 2, item="tea")
        execute("shop.packed", {"boxes": 2}, {"by": "bob"})
        logger().warning("only %d left", 3, extra={"shelf": "a"})
        async with span("shop.pay", {"span.kind": "client"}) as pay:
            pay.set_attribute("amount", 12.5)
            pay.add_event("authorised", {"bank": "b"})
            await emit_timer("shop.bank", 250.0, bank="b")
            pay.fail("502")
        with suppress(ValueError), span("shop.ship"):
            raise ValueError("no van")
        try:
            raise KeyError("gift")
        except KeyError as error:
            order.record_exception(error)


class Sdk:
    """The SDK, with its own exporters; nothing of it is global."""

    def __init__(self, endpoint):
        resource = Resource.create({"service.name": "shop"})
        self.traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        self.traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces")))
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{endpoint}/v1/metrics"), 3_600_000)
        self.metrics = MeterProvider([reader], resource, shutdown_on_exit=False)
        self.logs = LoggerProvider(resource, shutdown_on_exit=False)
        self.logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(f"{endpoint}/v1/logs")))

    def program(self):
        """The same, with OpenTelemetry's API."""
        tracer, meter = self.traces.get_tracer("shop"), self.metrics.get_meter("shop")
        sold = meter.create_counter("shop.sold.total")
        bank = meter.create_histogram("shop.bank.duration", "s")
        with tracer.start_as_current_span(
            "shop.order",
            context=TraceContextTextMapPropagator().extract(CALLER),
            kind=SpanKind.SERVER,
            attributes={"customer": "ann"},
            links=[Link(OTHER, {"why": "follows"})],
        ) as order:
            sold.add(2, {"item": "tea"})
            order.add_event("shop.packed", {"by": "bob", "boxes": 2})
            self.logs.get_logger("shop.stock").emit(
                timestamp=time.time_ns(),
                severity_number=SeverityNumber.WARN,
                severity_text="WARNING",
                body="only 3 left",
                attributes={"shelf": "a"},
            )
            with tracer.start_as_current_span("shop.pay", kind=SpanKind.CLIENT) as pay:
                pay.set_attribute("amount", 12.5)
                pay.add_event("authorised", {"bank": "b"})
                bank.record(0.25, {"bank": "b"})
                pay.set_status(StatusCode.ERROR, "502")
            with suppress(ValueError), tracer.start_as_current_span("shop.ship"):
                raise ValueError("no van")
            try:
                raise KeyError("gift")
            except KeyError as error:
                order.record_exception(error)

    def shutdown(self):
        for provider in (self.traces, self.metrics, self.logs):
            provider.force_flush()
            provider.shutdown()


def taken(receiver, signal, of_resource, of_scope, items):
    """The protobuf items of a signal, as a receiver took them."""
    for request in receiver.taken:
        if request.signal == signal:
            for resource in getattr(request.message, of_resource):
                assert attributes_of(resource.resource.attributes)["service.name"] == "shop"
                for scope in getattr(resource, of_scope):
                    yield from getattr(scope, items)


def as_told(receiver):
    """Everything that arrived, with names for ids, and without times."""
    spans = list(taken(receiver, "traces", "resource_spans", "scope_spans", "spans"))
    names = {one.span_id: one.name for one in spans}
    names[(6).to_bytes(8, "big")] = "the caller"
    logs = taken(receiver, "logs", "resource_logs", "scope_logs", "log_records")
    metrics = list(taken(receiver, "metrics", "resource_metrics", "scope_metrics", "metrics"))
    return {
        "spans": {one.name: _span(one, names) for one in spans},
        "logs": [_log(one, names) for one in logs if not one.event_name.startswith("telemetry.")],
        "exemplars": {
            name: [
                _exemplar(told, point, names)
                for one in metrics
                if one.name == name
                for point in (one.sum if one.HasField("sum") else one.histogram).data_points
                for told in point.exemplars
            ]
            for name in ("shop.sold.total", "shop.bank.duration")
        },
    }


def _span(told, names):
    assert told.start_time_unix_nano <= told.end_time_unix_nano
    for event in told.events:
        assert told.start_time_unix_nano <= event.time_unix_nano <= told.end_time_unix_nano
    attributes = attributes_of(told.attributes)
    return {
        "trace": int.from_bytes(told.trace_id),
        "parent": names[told.parent_span_id],
        "state": told.trace_state,
        "flags": told.flags,
        "kind": told.kind,
        "status": (told.status.code, told.status.message),
        "attributes": attributes,
        "events": [(event.name, _event(attributes_of(event.attributes))) for event in told.events],
        "links": [
            (
                int.from_bytes(link.trace_id),
                int.from_bytes(link.span_id),
                link.trace_state,
                link.flags,
                attributes_of(link.attributes),
            )
            for link in told.links
        ],
        "dropped": (told.dropped_attributes_count, told.dropped_events_count, told.dropped_links_count),
    }


def _event(attributes):
    if "exception.stacktrace" in attributes:
        # The frames are those of the one program, or of the other: what was raised, and where it shows.
        lines = attributes["exception.stacktrace"].strip().splitlines()
        raising = next(line.strip() for line in reversed(lines) if line.strip().startswith("raise "))
        attributes["exception.stacktrace"] = (lines[0], raising, lines[-1])
    return attributes


def _log(told, names):
    attributes = attributes_of(told.attributes)
    return {
        "name": told.event_name,
        "body": told.body.string_value,
        "severity": (told.severity_number, told.severity_text),
        "attributes": attributes,
        "trace": int.from_bytes(told.trace_id),
        "span": names[told.span_id],
        "flags": told.flags,
        "times": (told.time_unix_nano > 0, told.observed_time_unix_nano > 0),
    }


def _exemplar(told, point, names):
    return {
        "of": attributes_of(point.attributes),
        "value": getattr(told, told.WhichOneof("value")),
        "trace": int.from_bytes(told.trace_id),
        "span": names[told.span_id],
        "filtered": attributes_of(told.filtered_attributes),
    }
