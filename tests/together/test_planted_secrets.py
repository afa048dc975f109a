"""Secrets planted into whatever an application can say: none of them is in any byte that leaves."""

import asyncio
import logging
import urllib.request

import pytest
from opentelemetry.sdk.metrics.export import Metric as SdkMetric
from opentelemetry.sdk.metrics.export import (
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from otpylib import gen_server
from prometheus_client import CollectorRegistry, Counter

from otpylib_telemetry import execute, otp, span
from otpylib_telemetry.instrument.logging import install, uninstall
from otpylib_telemetry.meters.provider import MeterProvider
from otpylib_telemetry.meters.streams import Feed
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_prometheus import merge_registry, start_prometheus_exporter
from tests.support.chassis import runner
from tests.support.ledger import stats_of
from tests.support.secrets import BARE, KEYS, MARK, texts
from tests.support.waiting import eventually

OTEL, PROM = "otel_exporter", "prometheus_exporter"

ACCEPT = "application/openmetrics-text; version=1.0.0"


def plant():
    """Say every secret in every place there is."""
    every = [*texts(), *BARE]
    for number, text in enumerate(every):
        key = KEYS[number % len(KEYS)]
        metadata = {
            "text": text,
            "deep": {"password": MARK, "list": [text]},
            "bytes": text.encode(),
            key: MARK,
        }
        with span("shop.order", metadata) as order:
            order.set_attribute("late", text)
            order.add_event("noted", {"text": text, key: MARK})
            order.add_link({"trace_id": "1" * 32, "span_id": "2" * 16, "attributes": {key: MARK, "t": text}})
        with pytest.raises(ValueError), span("shop.failing", metadata):  # noqa: PT011 - its text is a secret
            raise ValueError(text)
        execute("shop.low", {"left": 1}, {"message": text, key: MARK, "nested": {"token": MARK, "t": text}})
        execute("shop.sold", {"count": 1}, {"kind": text, key: MARK})
        execute(f"shop.{text}", {"left": 2}, {})
        with span("shop.named", {"span.name": text}):
            pass
        logging.getLogger("shop.planted").error("%s", text, extra={"said": text}, exc_info=ValueError(text))
    for key in KEYS:
        with span("shop.keys", {key: MARK, "n": 1}):
            pass
        execute("shop.keys.sold", {"count": 1}, {key: MARK})


def instruments():
    """Measure with secrets through the OpenTelemetry API."""
    provider = MeterProvider([Feed(PROM, PROMETHEUS), Feed(OTEL, OPENTELEMETRY)])
    counter = provider.get_meter("shop").create_counter("api.sold")
    for text in texts():
        counter.add(1, {"text": text, "password": MARK, "list": [text, "b"]})
    return provider


class Produced:
    """A metric producer whose attributes are secrets."""

    def produce(self, timeout_millis=10_000):
        points = [NumberDataPoint({"text": text, "token": MARK}, 1, 2, 3) for text in texts()]
        metric = SdkMetric("produced", "", "", Sum(points, 2, is_monotonic=True))
        scoped = ScopeMetrics(InstrumentationScope("p"), [metric], "")
        return MetricsData([ResourceMetrics(Resource.get_empty(), [scoped], "")])


async def served():
    async def url():
        return (await stats_of(PROM))["url"]

    await eventually(url)
    return await stats_of(PROM)


async def page(stats):
    request = urllib.request.Request(stats["url"], headers={"Accept": ACCEPT})
    return await asyncio.to_thread(lambda: urllib.request.urlopen(request).read())


@pytest.fixture
def bridge():
    logger = logging.getLogger("shop.planted")
    logger.propagate = False
    install(logger)
    yield
    uninstall(logger)
    logger.propagate = True


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("action", ["mask", "hash", "drop"])
async def test_no_planted_secret_is_in_any_byte_that_is_received(
    runtime, bridge, grpc_receiver, http_receiver, protocol, action
):
    receiver = grpc_receiver if protocol == "grpc" else http_receiver
    registry = CollectorRegistry()
    merged = Counter("merged", "A counter of theirs.", ["text", "password"], registry=registry)
    for text in texts():
        merged.labels(text, MARK).inc()
    resource = {"process.command_line": f"shop --password={MARK}", "token": MARK}
    await start_otel_exporter(
        {
            "endpoint": receiver.endpoint,
            "protocol": protocol,
            "scrub_action": action,
            "resource": resource,
            "metric_producers": [Produced()],
            "span_events": "both",
            "metrics_labels": "all",
        }
    )
    await start_prometheus_exporter({"port": 0, "resource": resource, "scrub_action": action})
    merge_registry(registry)
    plant()
    provider = instruments()
    await otp.safe_call(OTEL, ("flush", 60.0), timeout=70)
    stats = [await stats_of(OTEL), await served()]
    body = await page(stats[1])
    stats = [await stats_of(OTEL), await stats_of(PROM)]
    received = b"".join(request.message.SerializeToString() for request in receiver.requests)
    provider.shutdown()
    for where in (received, body, repr(stats).encode()):
        assert MARK.encode() not in where, where[max(0, where.find(MARK.encode()) - 200) :][:300]
        for bare in BARE:
            assert bare.encode() not in where
    assert {one.name for one in receiver.spans} >= {"shop.order", "shop.failing", "shop.keys"}
    assert b"shop_keys_sold" in body
    assert b"merged_total" in body
    assert b"otpylib_telemetry_exporter_secrets_scrubbed_total{" in body
    for each in stats:
        assert each["scrubbed"]["password"]
        assert each["scrubbed"]["jwt"]
    assert all(b"produced" in part for part in (received,))


async def test_nothing_is_on_the_console_either(runtime, bridge, capfd):
    logging.getLogger("shop.planted").addHandler(logging.NullHandler())
    await start_otel_exporter({"exporter": "console"})
    plant()
    await otp.safe_call(OTEL, ("flush", 60.0), timeout=70)
    out = capfd.readouterr().out
    assert "shop.order" in out
    assert MARK not in out


async def test_it_is_changed_while_it_runs_for_each_exporter_by_itself(runtime, http_receiver):
    await start_otel_exporter(
        {"endpoint": http_receiver.endpoint, "protocol": "http/protobuf", "scrub": "off"}
    )
    await start_prometheus_exporter({"port": 0, "scrub": "off"})

    async def say(text):
        for secret in (f"{text}1", f"{text}2"):
            execute("shop.sold", {"count": 1}, {"password": secret})
            with span("shop.order", {"password": secret}):
                pass
        http_receiver.clear()
        await otp.safe_call(OTEL, ("flush", 60.0), timeout=70)
        sent = b"".join(request.message.SerializeToString() for request in http_receiver.requests)
        return sent, await page(await served())

    async def change(key, value, *names):
        for name, section in names:
            await gen_server.cast(name, ("config_changed", f"telemetry.{section}.{key}", None, value))
            await eventually(lambda name=name: getattr(runner(name).exporter.settings, key) == value)

    everywhere = ((OTEL, "otel"), (PROM, "prometheus"))
    sent, shown = await say("open")
    assert b"open1" in sent
    assert b"open1" in shown
    await change("scrub", "all", *everywhere)
    sent, shown = await say("later")
    for part in (sent, shown):
        assert b"later1" not in part
        assert b"open1" not in part, "nor is what was measured before"
    assert shown.count(b"shop_sold_total{") == 1
    assert b'shop_sold_total{password="<redacted>"} 4' in shown
    await change("scrub_action", "hash", (PROM, "prometheus"))
    sent, shown = await say("hashed")
    assert b"<redacted>" in sent
    assert b"<hmac:" in shown
    assert b"hashed1" not in sent + shown
    await change("scrub_keep", ("password",), (OTEL, "otel"))
    sent, shown = await say("kept")
    assert b"kept1" in sent
    assert b"kept1" not in shown
