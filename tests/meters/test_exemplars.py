"""Exemplars of what instruments measure."""

from opentelemetry import trace

from otpylib_telemetry import attach, span
from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.metrics.names import OPENTELEMETRY
from tests.support.meters import OTLP, values


def in_span(sampled):
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if sampled else 0)
    return trace.set_span_in_context(
        trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=flags))
    )


def exemplars():
    found = {}
    for metric in store_of(OTLP).metrics:
        for series in metric.all_series():
            several = [each for each in getattr(series, "exemplars", None) or [] if each is not None]
            one = getattr(series, "exemplar", None)
            found[metric.name] = several[0] if several else one
    return found


def test_an_exemplar_names_the_sampled_span_of_opentelemetry(provide):
    meter = provide(OPENTELEMETRY).get_meter("shop")
    meter.create_counter("n").add(3, context=in_span(sampled=True))
    meter.create_histogram("h").record(4, context=in_span(sampled=True))
    meter.create_counter("unsampled").add(1, context=in_span(sampled=False))
    meter.create_counter("none").add(1)
    meter.create_counter("odd").add(1, context="what")
    found = exemplars()
    for name, value in (("n", 3), ("h", 4)):
        assert found[name].value == value
        assert (found[name].traced.trace_id, found[name].traced.span_id) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert found["unsampled"] is found["none"] is found["odd"] is None
    assert ("odd",) in values()


async def test_an_exemplar_names_our_own_span_where_there_is_no_other(provide, runtime):
    meter = provide(OPENTELEMETRY).get_meter("shop")
    await attach("listener", "shop.*", lambda *_: None)
    with span("shop.checkout", {}) as here:
        meter.create_counter("n").add(1)
        ids = here.context.trace_id, here.context.span_id
    found = exemplars()["n"]
    assert (found.traced.trace_id, found.traced.span_id) == ids


def test_exemplars_can_be_turned_off(provide, monkeypatch):
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "always_off")
    provide(OPENTELEMETRY).get_meter("shop").create_counter("n").add(3, context=in_span(sampled=True))
    assert exemplars() == {"n": None}
