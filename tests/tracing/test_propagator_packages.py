"""The formats of other tracing systems, from the packages that OpenTelemetry's propagators are in."""

import sys

import pytest
from opentelemetry import trace
from opentelemetry.propagators.aws import AwsXRayPropagator
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.propagators.jaeger import JaegerPropagator

from otpylib_telemetry import extract, inject, span, trace_context
from otpylib_telemetry.bus import table
from otpylib_telemetry.tracing import propagators

TRACE_ID, SPAN_ID = 0x5759E988BD862E3FE1BE46A994272793, 0x53995C3F42CD8AD8

FORMATS = {
    "b3": (B3SingleFormat, {"b3"}),
    "b3multi": (B3MultiFormat, {"x-b3-traceid", "x-b3-spanid", "x-b3-sampled"}),
    "jaeger": (JaegerPropagator, {"uber-trace-id"}),
    "xray": (AwsXRayPropagator, {"x-amzn-trace-id"}),
}


@pytest.fixture(autouse=True)
def _as_at_the_start(monkeypatch):
    """The application has set no propagator, and nothing is known yet of the variable."""
    monkeypatch.delitem(sys.modules, "opentelemetry.propagate", raising=False)
    monkeypatch.setattr(propagators._Known, "of", (None, ""))
    monkeypatch.setattr(propagators._Known, "propagator", propagators._BOTH)
    table.add("traces", ["*"], lambda *_: None)
    yield
    table.remove("traces")


def written_by(propagator, *, sampled=True):
    """Headers as a service writes them that uses OpenTelemetry's propagator itself."""
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if sampled else trace.TraceFlags.DEFAULT)
    there = trace.SpanContext(TRACE_ID, SPAN_ID, is_remote=False, trace_flags=flags)
    headers = {}
    propagator().inject(headers, trace.set_span_in_context(trace.NonRecordingSpan(there)))
    return headers


def read_by(propagator, headers):
    """The span context that such a service reads."""
    return trace.get_current_span(propagator().extract(headers)).get_span_context()


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("name", FORMATS)
def test_a_trace_goes_through_us_from_one_service_of_opentelemetry_to_the_next(monkeypatch, name, sampled):
    propagator, names = FORMATS[name]
    monkeypatch.setenv("OTEL_PROPAGATORS", name)
    sent = {}
    with extract(written_by(propagator, sampled=sampled)), span("shop.order") as order:
        assert order.metadata["parent_span_id"] == f"{SPAN_ID:016x}"
        inject(sent)
        here = order.context
    assert here.trace_id == f"{TRACE_ID:032x}"
    assert here.sampled is sampled
    assert {each.lower() for each in sent} == names
    arrived = read_by(propagator, sent)
    assert (f"{arrived.trace_id:032x}", f"{arrived.span_id:016x}") == (here.trace_id, here.span_id)
    assert arrived.trace_flags.sampled is sampled


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_read_goes_on_also_where_nobody_listens(monkeypatch, name):
    propagator, _ = FORMATS[name]
    table.remove("traces")
    monkeypatch.setenv("OTEL_PROPAGATORS", name)
    sent = {}
    with extract(written_by(propagator)), span("shop.order"):
        inject(sent)
    arrived = read_by(propagator, sent)
    assert (arrived.trace_id, arrived.span_id) == (TRACE_ID, SPAN_ID)


def test_a_name_is_spelt_as_its_format_has_it_and_there_once(monkeypatch):
    monkeypatch.setenv("OTEL_PROPAGATORS", "xray")
    with extract(written_by(AwsXRayPropagator)):
        for carrier in ({"x-amzn-trace-id": "old"}, [("X-AMZN-TRACE-ID", "old")]):
            inject(carrier)
            assert [name for name, _ in (carrier.items() if isinstance(carrier, dict) else carrier)] == [
                "X-Amzn-Trace-Id"
            ]
        asgi = [(b"host", b"shop")]
        inject(asgi)
        assert [name for name, _ in asgi] == [b"host", b"x-amzn-trace-id"]


def test_several_formats_are_read_and_written_side_by_side(monkeypatch):
    monkeypatch.setenv("OTEL_PROPAGATORS", "tracecontext,baggage,b3,jaeger,xray")
    for name in ("b3", "jaeger", "xray"):
        sent = {}
        with extract({**written_by(FORMATS[name][0]), "baggage": "user=ada"}):
            inject(sent)
            assert trace_context()["traceparent"].split("-")[1:3] == [f"{TRACE_ID:032x}", f"{SPAN_ID:016x}"]
        assert {"traceparent", "baggage", "b3", "uber-trace-id"} <= {each.lower() for each in sent}
        for propagator, _ in FORMATS.values():
            if propagator is not B3MultiFormat:
                assert read_by(propagator, sent).trace_id == TRACE_ID


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("broken", ["", "zzz", "0-0-0", "=;=", "1:2", "Root=1-0-0", "\x00"])
def test_headers_that_break_the_rules_begin_a_trace_here(monkeypatch, name, broken):
    propagator, _ = FORMATS[name]
    monkeypatch.setenv("OTEL_PROPAGATORS", name)
    headers = dict.fromkeys(written_by(propagator), broken)
    with extract(headers), span("shop.order") as order:
        assert order.metadata["parent_span_id"] is None
