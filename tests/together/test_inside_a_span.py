"""What is measured and emitted inside a span has its ids at both exits, whoever opened the span."""

import asyncio
import logging
import urllib.request

import pytest
from opentelemetry import _logs as logs_api
from opentelemetry import metrics as metrics_api
from opentelemetry import trace
from prometheus_client.openmetrics import parser as openmetrics

from otpylib_telemetry import emit, emit_counter, emit_timer, execute, otp, span
from otpylib_telemetry.instrument.logging import install, uninstall
from otpylib_telemetry.tracing import bridge
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.service import start_telemetry_service
from otpylib_telemetry_otel.traces import api_spans
from otpylib_telemetry_prometheus import start_prometheus_exporter
from tests.support.chassis import up
from tests.support.ledger import stats_of
from tests.support.otlp_metrics import points_at
from tests.support.telemetry_service import stop
from tests.support.waiting import eventually

OTEL, PROM = "otel_exporter", "prometheus_exporter"

DEFINED = [
    {"type": "counter", "name": "shop.sold.count"},
    {"type": "sum", "name": "shop.sold.weight"},
    {"type": "distribution", "name": "shop.bank.duration_ms", "unit": ["ms", "s"]},
    {"type": "distribution", "name": "shop.sold.size", "buckets": "exponential"},
]


async def start(receiver, definitions=(), *, service=True):
    settings = {"event_patterns": ["shop.*", "log.*"]}
    defined = list(definitions)
    await start_otel_exporter(
        {
            "endpoint": receiver.endpoint,
            "protocol": "http/protobuf",
            "flush_interval": 0.05,
            "metrics_interval": 3600,
            **({"metrics_definitions": defined} if defined else {}),
            **settings,
        }
    )
    await start_prometheus_exporter(
        {"port": 0, "self_metrics": False, "metrics": defined or "automatic", **settings}
    )
    await up(OTEL)
    await up(PROM)
    if service:
        await start_telemetry_service({"exporters": [OTEL, PROM]})
        await eventually(lambda: bridge.installed is not None)


@pytest.fixture(autouse=True)
async def _service_is_gone(runtime):
    yield
    await stop()
    await eventually(lambda: bridge.installed is None)
    api_spans._open.clear()


async def flush():
    for name in (OTEL, PROM):
        assert (await otp.safe_call(name, ("flush", 30.0), 35.0))["left"] == 0


def over_otlp(receiver):
    """By the name of a metric, the trace and span ids of its exemplars."""
    return {
        point.name: {(told.trace_id.hex(), told.span_id.hex()) for told in point.point.exemplars}
        for point in points_at(receiver)
        if point.form != "gauge" and point.name.startswith("shop.") and "in_flight" not in point.name
    }


async def on_the_page():
    port = (await stats_of(PROM))["port"]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics",
        headers={"Accept": "application/openmetrics-text; version=1.0.0"},
    )
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=30).read().decode())
    found = {}
    for family in openmetrics.text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.exemplar is not None:
                told = sample.exemplar.labels
                found.setdefault(family.name, set()).add((told["trace_id"], told["span_id"]))
    return found


async def measure():
    await emit_counter("shop.sold", 2, item="tea")
    await emit("shop.sold", {"count": 1, "weight": 0.5, "size": 3.0}, {"item": "tea"})
    await emit_timer("shop.bank", 250.0)
    execute("shop.paid", {"duration_ms": 3.0})


@pytest.mark.parametrize("opened", ["span", "the API"])
async def test_automatic_metrics_have_exemplars(http_receiver, opened):
    await start(http_receiver)
    ids = await inside(opened, measure)
    await flush()
    found = over_otlp(http_receiver)
    for name in ("shop.sold.total", "shop.bank.duration", "shop.paid.duration"):
        assert found[name] == {ids}
    found = await on_the_page()
    for name in ("shop_sold", "shop_bank_duration_seconds", "shop_paid_duration_seconds"):
        assert found[name] == {ids}


@pytest.mark.parametrize("opened", ["span", "the API"])
async def test_defined_metrics_have_exemplars(http_receiver, opened):
    await start(http_receiver, DEFINED)
    ids = await inside(opened, measure)
    await flush()
    found = over_otlp(http_receiver)
    assert len(found) == len(DEFINED)
    assert set(map(frozenset, found.values())) == {frozenset({ids})}
    found = await on_the_page()
    assert len(found) >= 3
    assert set(map(frozenset, found.values())) == {frozenset({ids})}


@pytest.mark.parametrize("opened", ["span", "the API"])
async def test_instruments_of_the_api_have_exemplars(http_receiver, opened):
    await start(http_receiver)
    meter = metrics_api.get_meter(f"inside.{opened}")
    calls, took = meter.create_counter("shop.api.calls"), meter.create_histogram("shop.api.took", "s")

    async def record():
        calls.add(1)
        took.record(0.2)

    ids = await inside(opened, record)
    await flush()
    found = over_otlp(http_receiver)
    assert found["shop.api.calls"] == found["shop.api.took"] == {ids}
    found = await on_the_page()
    assert found["shop_api_calls"] == found["shop_api_took_seconds"] == {ids}


@pytest.mark.parametrize("opened", ["span", "the API"])
async def test_log_records_of_all_kinds_have_the_ids(http_receiver, opened):
    await start(http_receiver)
    logger = logging.getLogger("shop.inside")
    install(logger)

    async def tell():
        logger.warning("python")
        logs_api.get_logger("shop").emit(body="the API")
        if opened == "the API":
            execute("shop.note", {}, {"message": "an event"})

    try:
        ids = await inside(opened, tell)
    finally:
        uninstall(logger)
    await flush()
    found = {log.body: (log.trace_id, log.span_id) for log in http_receiver.logs}
    expected = {"python": ids, "the API": ids}
    if opened == "the API":
        # A span of the SDK is finished by the SDK: what is emitted in it is told beside it.
        expected["an event"] = ids
    assert {body: found.get(body) for body in expected} == expected


async def test_operations_without_ids_nest_in_spans_of_the_api(http_receiver):
    await start(http_receiver)

    async def work():
        execute("shop.pack.start")
        execute("shop.pack.stop")
        with span("shop.ship"):
            pass

    trace_id, span_id = await inside("the API", work)
    await flush()
    for name in ("shop.pack", "shop.ship"):
        (found,) = [one for one in http_receiver.spans if one.name == name]
        assert (found.trace_id, found.parent_span_id) == (trace_id, span_id)


async def test_outside_of_every_span_there_are_none(http_receiver):
    await start(http_receiver)
    await measure()
    await flush()
    assert set(map(frozenset, over_otlp(http_receiver).values())) == {frozenset()}
    assert await on_the_page() == {}


async def inside(opened, work):
    """Do something inside of a span, itself inside of one by the other API; return the ids of the inner."""
    if opened == "span":
        with trace.get_tracer("shop").start_as_current_span("around"), span("shop.order") as order:
            ids = order.context
            await work()
        return ids.trace_id, ids.span_id
    with span("shop.around"), trace.get_tracer("shop").start_as_current_span("order") as order:
        await work()
    ids = order.get_span_context()
    return f"{ids.trace_id:032x}", f"{ids.span_id:016x}"
