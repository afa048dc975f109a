"""Exporters of other packages are given what they can encode, and what they cannot is left out by itself."""

import io
import json

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext

from otpylib_telemetry.exporter.collected import ExportOutcome
from otpylib_telemetry.exporter.errors import ExportError
from otpylib_telemetry_otel.sdk.destination import SdkDestination
from otpylib_telemetry_otel.sdk.spans import SpanConverter
from otpylib_telemetry_otel.traces import api_spans
from otpylib_telemetry_otel.traces.spans import FinishedSpan, SpanEvent
from tests.support.odd_items import OBJECTS


def span(name, **fields):
    made = FinishedSpan(name, 1, 2, 0, None, 5, {}, end_ns=6)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def api_span(name, **fields):
    """A span of the API, as it comes out of the queue."""
    context = SpanContext(1, 2, is_remote=False)
    made = ReadableSpan(name, context, start_time=1, end_time=2, **fields)
    api_spans._Seen.any = True
    (found,) = api_spans.sort([(api_spans.EVENT, {}, {"span": made}, 0, None)]).spans
    found.seal()
    return found


class Picky(SpanExporter):
    """Raises for all of a batch in which one span is not to its taste, as the encoders of many do."""

    def __init__(self, taste, error=TypeError):
        self.taste = taste
        self.error = error
        self.taken = []
        self.calls = 0

    def export(self, spans):
        self.calls += 1
        for each in spans:
            if not self.taste(each):
                raise self.error("not to my taste")
        self.taken += spans
        return SpanExportResult.SUCCESS


class EncodeError(Exception):
    """What protobuf raises is called so."""


def destination(exporter, **more):
    return SdkDestination(exporter, SpanConverter(Resource.get_empty()).convert, **more)


@pytest.mark.parametrize("error", [TypeError, ValueError, KeyError, RecursionError, EncodeError])
@pytest.mark.parametrize("bad", [(0,), (99,), (3, 4, 70), tuple(range(100))])
def test_what_an_exporter_cannot_take_costs_no_other_span(bad, error):
    exporter = Picky(lambda each: int(each.name) not in bad, error)
    outcome = destination(exporter).send([span(str(number)) for number in range(100)])
    assert [int(each.name) for each in exporter.taken] == [
        number for number in range(100) if number not in bad
    ]
    assert outcome == ExportOutcome(unusable=len(bad), why=outcome.why)
    assert f"'{bad[-1]}': {error.__name__}" in outcome.why
    if len(bad) == 1:
        # By halves: one by one would be a request for each.
        assert exporter.calls < 20


def test_what_it_can_take_as_text_it_is_given_as_text():
    def has_no_bytes(each):
        kept = [each.attributes, *(event.attributes for event in each.events)]
        return all(type(value) in {str, int, tuple} for values in kept for value in values.values())

    odd = span("odd", attributes={"k": b"a", "m": {"x": 1}}, events=[SpanEvent("e", 5, {"k": [1, b"b"]})])
    exporter = Picky(has_no_bytes)
    assert destination(exporter).send([span("fine"), odd]) is None
    _, given = exporter.taken
    assert dict(given.attributes) == {"k": "a", "m": '{"x": 1}'}
    assert dict(given.events[0].attributes) == {"k": '[1, "b"]'}
    # What waits is not changed by it.
    assert odd.attributes == {"k": b"a", "m": {"x": 1}}


def test_an_outage_while_it_is_found_out_is_an_outage():
    class Failing(Picky):
        def export(self, spans):
            if self.calls == 2:
                raise OSError("down")
            return super().export(spans)

    with pytest.raises(ExportError) as failed:
        destination(Failing(lambda each: each.name != "1")).send([span("0"), span("1"), span("2"), span("3")])
    assert failed.value.retryable


def test_finding_it_out_takes_no_longer_than_an_attempt_may():
    exporter = Picky(lambda each: False)
    outcome = destination(exporter, timeout=0.0).send([span(str(number)) for number in range(512)])
    assert outcome.unusable == 512
    assert exporter.calls < 10


def test_console_writes_whatever_is_in_a_span():
    out = io.StringIO()
    exporter = destination(
        ConsoleSpanExporter(out=out, formatter=lambda each: each.to_json(indent=None) + "\n")
    )
    spans = [api_span(f"s {label}", attributes={"k": odd}) for label, odd in OBJECTS.items()]
    for each in spans:
        # One by one: it writes what comes before the one it cannot, and would be given these again.
        assert exporter.send([each]) is None
    assert [json.loads(line)["name"] for line in out.getvalue().splitlines()] == [
        f"s {label}" for label in OBJECTS
    ]


def test_the_exporter_of_opentelemetry_sends_whatever_is_in_a_span(http_receiver):
    spans = [api_span(f"s {label}", attributes={"k": odd}, events=[]) for label, odd in OBJECTS.items()] + [
        api_span("scope", instrumentation_scope=InstrumentationScope("shop\ud800", (1, 2)))
    ]
    exporter = destination(OTLPSpanExporter(f"{http_receiver.endpoint}/v1/traces"))
    assert exporter.send(spans) is None
    exporter.close()
    assert {each.name for each in http_receiver.spans} == {*(f"s {label}" for label in OBJECTS), "scope"}
    assert {each.scope for each in http_receiver.spans if each.name == "scope"} == {"shop?"}
