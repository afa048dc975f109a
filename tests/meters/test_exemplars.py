"""Exemplars of what instruments measure."""

import pytest
from opentelemetry import trace
from opentelemetry.metrics import Observation

from otpylib_telemetry import attach, span
from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.meters.attributes import attribute_value
from otpylib_telemetry.meters.views import (
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS
from otpylib_telemetry_prometheus.exposition.negotiation import OPENMETRICS
from otpylib_telemetry_prometheus.exposition.writer import Exposition
from tests.support.meters import OTLP, PROM, read, values


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


def test_exemplars_can_be_had_without_a_span(provide, monkeypatch):
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "Always_On")
    meter = provide(OPENTELEMETRY).get_meter("shop")
    meter.create_counter("n").add(3)
    meter.create_counter("unsampled").add(4, context=in_span(sampled=False))
    found = exemplars()
    assert (found["n"].value, found["n"].traced[1:]) == (3, ("", "", ()))
    assert found["unsampled"].traced.trace_id == f"{0xABC:032x}"


MEASURES = {
    "counter": "add",
    "up_down_counter": "add",
    "gauge": "set",
    "histogram": "record",
    "observable_counter": None,
    "observable_up_down_counter": None,
    "observable_gauge": None,
}
AGGREGATIONS = [None, ExplicitBucketHistogramAggregation([1]), ExponentialBucketHistogramAggregation()]


@pytest.mark.parametrize("aggregation", AGGREGATIONS, ids=["default", "explicit", "exponential"])
@pytest.mark.parametrize("kind", MEASURES)
def test_every_kind_of_instrument_has_exemplars_that_keep_what_a_view_leaves_out(provide, kind, aggregation):
    if aggregation is not None and MEASURES[kind] is None:
        pytest.skip("what is observed has no distribution")
    view = View(instrument_name="n", attribute_keys={"kept"}, aggregation=aggregation)
    provider = provide(OPENTELEMETRY, views=[view])
    meter, context = provider.get_meter("shop"), in_span(sampled=True)
    given = {"kept": "k", "left": 3, 4: [1]}
    if MEASURES[kind] is None:
        getattr(meter, f"create_{kind}")("n", [lambda _: [Observation(5, given, context)]])
        read(provider)
    else:
        instrument = getattr(meter, f"create_{kind}")("n")
        getattr(instrument, MEASURES[kind])(5, given, context)
        given["left"] = "something else by now"
    found = exemplars()["n"]
    assert (found.value, found.traced.trace_id) == (5, f"{0xABC:032x}")
    assert {key: attribute_value(text) for key, text in found.traced.attributes} == {"left": 3, "4": (1,)}
    (*_, attributes), *rest = values()
    assert (attributes, rest) == (("kept", "k"), [])


@pytest.mark.parametrize(("left", "shown"), [("short", True), ("x" * 100, False), ('with "quotes"', False)])
def test_the_page_tells_what_a_view_leaves_out_as_far_as_there_is_room(provide, left, shown):
    view = View(instrument_name="n", attribute_keys=set())
    counter = provide(PROMETHEUS, views=[view]).get_meter("shop").create_counter("n")
    counter.add(1, {"a.b": left}, in_span(sampled=True))
    page = Exposition().text([store_of(PROM)], form=OPENMETRICS)
    (line,) = [line for line in page.splitlines() if line.startswith("n_total")]
    assert f'trace_id="{0xABC:032x}",span_id="{0xDEF:016x}"' in line
    assert (f'a_b="{left}"' in line) == shown
