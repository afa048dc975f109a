"""What spans of the OpenTelemetry API say that ours do not: all that a scope and a link can carry."""

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link

from otpylib_telemetry import otp
from otpylib_telemetry.tracing import bridge
from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver, HttpReceiver
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.sdk.spans import SpanConverter
from otpylib_telemetry_otel.service import start_telemetry_service
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_otel.traces import api_spans
from otpylib_telemetry_otel.traces.spans import Scope
from tests.support.chassis import up
from tests.support.destinations import destination_of
from tests.support.telemetry_service import EXPORTER, W3C, settings, stop
from tests.support.waiting import eventually

SCHEMA = "https://example.org/schema/1.0"
SCOPE = {"team": "checkout", "zones": ["a", "b"], "tier": 1}


def elaborate(provider=trace):
    """Make a span with everything that is seldom used, and an ordinary one below it."""
    there = trace.TraceState([("shop", "7"), ("bank", "b")])
    links = [
        Link(trace.SpanContext(3, 4, is_remote=True, trace_state=there), {"why": "x"}),
        Link(trace.SpanContext(8, 9, is_remote=False)),
    ]
    caller = {"traceparent": f"00-{5:032x}-{6:016x}-01", "tracestate": "shop=7"}
    special = provider.get_tracer("shop", "1.2", schema_url=SCHEMA, attributes=SCOPE)
    ordinary = provider.get_tracer("shop", "1.2")
    with (
        special.start_as_current_span("GET /stock", context=W3C.extract(caller), links=links),
        ordinary.start_as_current_span("look"),
    ):
        pass


def sent(receiver):
    """By scope and schema, the messages of the spans that arrived."""
    return {
        (
            (scoped.scope.name, scoped.scope.version, scoped.schema_url),
            frozenset((pair.key, str(pair.value)) for pair in scoped.scope.attributes),
        ): list(scoped.spans)
        for request in receiver.taken
        for group in request.message.resource_spans
        for scoped in group.scope_spans
    }


@pytest.fixture
def finished():
    """The spans of :func:`elaborate` as the SDK has them."""
    provider, kept = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    elaborate(provider)
    return kept.get_finished_spans()


@pytest.fixture
def converted(finished):
    """The same as they are once they have come out of the queue."""
    api_spans._Seen.any = True
    found = api_spans.sort([(api_spans.EVENT, {}, {"span": each}, 0, None) for each in finished])
    assert (len(found.spans), found.rejected) == (2, 0)
    for each in found.spans:
        each.seal()
    return found.spans


async def test_what_a_scope_and_a_link_say_of_themselves_arrives(runtime, http_receiver):
    await start_otel_exporter(settings(http_receiver))
    await up(EXPORTER)
    await start_telemetry_service()
    elaborate()
    await eventually(lambda: len(http_receiver.spans) == 2)
    await stop()
    await eventually(lambda: bridge.installed is None)
    found = {each.name: each for each in http_receiver.spans}
    assert found["GET /stock"].scope_attributes == SCOPE
    assert found["look"].scope_attributes == {}
    by_schema = {schema: spans for ((*_, schema), _), spans in sent(http_receiver).items()}
    assert {schema: [each.name for each in spans] for schema, spans in by_schema.items()} == {
        SCHEMA: ["GET /stock"],
        "": ["look"],
    }
    assert {each.scope for each in found.values()} == {"shop"}
    (message,) = by_schema[SCHEMA]
    assert [link.trace_state for link in message.links] == ["shop=7,bank=b", ""]
    assert [link.flags & 0x300 for link in message.links] == [0x300, 0x100]
    assert [each.trace_state for each in found.values()] == ["shop=7", "shop=7"]
    await otp.end_quietly(EXPORTER)


def without_states_of_links(sent):
    """The encoder of the SDK leaves them out, OTLP has a field for them."""
    for spans in sent.values():
        for span in spans:
            for link in span.links:
                link.trace_state = ""
    return sent


def test_it_arrives_as_the_sdk_itself_would_send_it(finished, converted):
    with HttpReceiver() as theirs, GrpcReceiver() as ours, HttpReceiver() as by_name:
        sdk = OTLPSpanExporter(f"{theirs.endpoint}/v1/traces")
        sdk.export(finished)
        sdk.shutdown()
        backend = destination_of(OtelSettings(endpoint=ours.endpoint))
        backend.send(converted)
        backend.close()
        exporter = OTLPSpanExporter(f"{by_name.endpoint}/v1/traces")
        exporter.export(SpanConverter(Resource.get_empty()).convert(converted))
        exporter.shutdown()
        assert len(sent(theirs)) == 2
        assert sent(by_name) == sent(theirs)
        assert without_states_of_links(sent(ours)) == sent(theirs)


def test_an_exporter_by_name_sees_the_states_of_all_traces_concerned(converted):
    by_name = {each.name: each for each in SpanConverter(Resource.get_empty()).convert(converted)}
    stock = by_name["GET /stock"]
    assert stock.context.trace_state.to_header() == stock.parent.trace_state.to_header() == "shop=7"
    assert [link.context.trace_state.to_header() for link in stock.links] == ["shop=7,bank=b", ""]
    assert [link.context.is_remote for link in stock.links] == [True, False]
    assert stock.instrumentation_scope.schema_url == SCHEMA
    assert dict(stock.instrumentation_scope.attributes) == {**SCOPE, "zones": ("a", "b")}


def test_a_scope_of_which_nothing_more_is_known_is_one_whoever_used_it(converted):
    by_name = {each.name: each.scope for each in converted}
    assert by_name["look"] == ("shop", "1.2")
    assert type(by_name["look"]) is tuple
    assert type(by_name["GET /stock"]) is Scope
