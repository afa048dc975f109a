"""Secrets planted into whatever an application can say: none of them is in any byte that leaves."""

import asyncio
import logging
import subprocess
import sys
import urllib.request

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as SdkMetric
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from otpylib import gen_server
from prometheus_client import CollectorRegistry, Counter

from otpylib_telemetry import execute, otp, span
from otpylib_telemetry.instrument.logging import install, uninstall
from otpylib_telemetry.meters.provider import MeterProvider
from otpylib_telemetry.meters.streams import Feed
from otpylib_telemetry.metrics.definitions import counter
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS, metric_name
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.service import start_telemetry_service
from otpylib_telemetry_prometheus import merge_registry, start_prometheus_exporter
from tests.support.chassis import runner
from tests.support.ledger import stats_of
from tests.support.secrets import BARE, KEYS, MARK, texts
from tests.support.telemetry_service import stop
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
        execute(f"shop.{text}", {"count": 1, "duration_ms": 2, "value": 3}, {text: "a"})
        with span(f"shop.{text}"):
            execute(f"shop.at.{text}", {}, {text: 1})
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
    sold = provider.get_meter("shop", attributes={"token": MARK}).create_counter("api.sold")
    for text in [*texts(), *BARE]:
        sold.add(1, {"text": text, "password": MARK, "list": [text, "b"], text: 1})
        meter = provider.get_meter(text, text, text, {"t": text})
        meter.create_counter("api.told", text[:60], text).add(1)
        meter.create_histogram("api.taken", "s", text).record(1)
    for name in ("api.AKIAIOSFODNN7EXAMPLE", f"api/ghp_{MARK}abcdefghijklmnopqrstuvwxyz0123"):
        provider.get_meter("shop").create_up_down_counter(name, "", "Known by its look.").add(1)
    return provider


class Produced:
    """A metric producer whose attributes are secrets."""

    def produce(self, timeout_millis=10_000):
        points = [NumberDataPoint({"text": text, "token": MARK}, 1, 2, 3) for text in texts()]
        metrics = [
            SdkMetric(name, text, text[:60], Sum(points, 2, is_monotonic=True))
            for text in [*texts(), *BARE]
            for name in (f"produced.{text}", "produced")
        ]
        scopes = [InstrumentationScope(text, text, text, {"t": text}) for text in [*texts(), *BARE]]
        scoped = ScopeMetrics(InstrumentationScope("p"), metrics, "")
        return MetricsData(
            [
                ResourceMetrics(
                    Resource({"shop.token": MARK, "kept": "of theirs"}),
                    [scoped, *(ScopeMetrics(scope, metrics[:1], "") for scope in scopes)],
                    "",
                )
            ]
        )


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
    install(logger)
    yield
    uninstall(logger)


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
    for number, text in enumerate([*texts(), *BARE]):
        Counter(f"described_{number}", text, registry=registry).inc()
    Counter("ghp_Zq7abcdefghijklmnopqrstuvwxyz0123", "Known by its look.", registry=registry).inc()
    resource = {
        "process.command_line": f"shop --password={MARK}",
        "token": MARK,
        **{text: text for text in [*texts(), *BARE]},
    }
    metrics = [
        counter(f"defined.{number}", event="shop.sold", description=text, tags=("text",))
        for number, text in enumerate([*texts(), *BARE])
    ]
    await start_otel_exporter(
        {
            "endpoint": receiver.endpoint,
            "protocol": protocol,
            "scrub_action": action,
            "resource": resource,
            "metric_producers": [Produced()],
            "span_events": "both",
            "metrics_labels": "all",
            "metrics_definitions": metrics,
        }
    )
    await start_prometheus_exporter(
        {
            "port": 0,
            "resource": resource,
            "scrub_action": action,
            "metrics": metrics,
            "automatic_metrics": True,
        }
    )
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
            assert metric_name(bare).encode() not in where
    assert {one.name for one in receiver.spans} >= {"shop.order", "shop.failing", "shop.keys"}
    assert b"shop_keys_sold" in body
    assert b"merged_total" in body
    assert b"otpylib_telemetry_exporter_secrets_scrubbed_total{" in body
    for each in stats:
        assert each["scrubbed"]["password"]
        assert each["scrubbed"]["jwt"]
    assert all(b"produced" in part for part in (received,))


_ON_THE_CONSOLE = """
import asyncio, logging
from otpylib_telemetry import otp
from otpylib_telemetry.instrument.logging import install
from otpylib_telemetry_otel import start_otel_exporter
from tests.support.runtime import running_runtime
from tests.together.test_planted_secrets import OTEL, instruments, plant

async def main():
    logger = logging.getLogger("shop.planted")
    logger.propagate = False
    install(logger)
    async with running_runtime():
        await start_otel_exporter({"exporter": "console"})
        plant()
        provider = instruments()
        await otp.safe_call(OTEL, ("flush", 60.0), timeout=70)
        provider.shutdown()

asyncio.run(main())
"""


@pytest.mark.process
def test_nothing_is_on_the_console_either():
    # In a process of its own: OpenTelemetry writes to what was the standard output when it was imported.
    said = subprocess.run(
        [sys.executable, "-c", _ON_THE_CONSOLE], capture_output=True, text=True, timeout=120, check=False
    )
    assert said.returncode == 0, said.stderr[-2000:]
    for name in ("shop.order", "shop.low", "shop.sold", "api.sold", "severity_text"):
        assert name in said.stdout
    for secret in (MARK, *BARE):
        assert secret not in said.stdout + said.stderr


class Taking:
    """A processor that keeps what it is handed."""

    def __init__(self):
        self.seen = []

    def shutdown(self):
        """Nothing is held."""

    def force_flush(self, timeout_millis=0):
        """Nothing is held."""
        return True


class TakingSpans(Taking):
    def on_end(self, span):
        self.seen.append(f"{span.to_json()} {dict(span.instrumentation_scope.attributes or {})}")


class TakingLogs(Taking):
    def on_emit(self, record):
        # Before 1.39 the record in it is what writes itself.
        writes = record if hasattr(record, "to_json") else record.log_record
        scope = record.instrumentation_scope
        self.seen.append(f"{writes.to_json()} {scope.name} {dict(scope.attributes or {})}")

    emit = on_emit


def plant_through_the_api():
    """Say secrets through the OpenTelemetry API: in scopes, links, events, statuses and exceptions."""
    for text in [*texts(), *BARE]:
        tracer = trace.get_tracer("shop.api", "1", attributes={"token": MARK, "text": text})
        linked = trace.Link(trace.SpanContext(5, 7, is_remote=True), {"password": MARK, "text": text})
        with tracer.start_as_current_span("api.order", attributes={"t": text}, links=[linked]) as one:
            one.add_event(f"noted {text}", {"text": text, "cookie": MARK})
            one.record_exception(ValueError(text))
            one.set_status(trace.StatusCode.ERROR, text)
        with tracer.start_as_current_span(f"api.{text}"):
            pass


async def test_given_processors_and_readers_are_handed_none(runtime, bridge, http_receiver):
    spans, logs, reader = TakingSpans(), TakingLogs(), InMemoryMetricReader()
    await start_otel_exporter(
        {
            "endpoint": http_receiver.endpoint,
            "protocol": "http/protobuf",
            "span_processors": [spans],
            "log_record_processors": [logs],
            "metric_readers": [reader],
            "metric_producers": [Produced()],
            "resource": {"token": MARK},
            "max_series": 10_000,
        }
    )
    await start_telemetry_service()
    plant()
    plant_through_the_api()
    provider = instruments()
    await otp.safe_call(OTEL, ("flush", 60.0), timeout=70)
    data = await asyncio.to_thread(reader.get_metrics_data)
    # Not as JSON: instruments of other tests may have been given bytes.
    measured = repr(
        [(one, dict(one.resource.attributes), one.scope_metrics) for one in data.resource_metrics]
    )
    provider.shutdown()
    received = b"".join(request.message.SerializeToString() for request in http_receiver.requests)
    for said in (*spans.seen, *logs.seen, measured, received.decode("latin-1")):
        for secret in (MARK, *BARE):
            assert secret not in said, said[max(0, said.find(secret) - 200) :][:300]
    names = {one.name for one in http_receiver.spans}
    assert {"shop.order", "api.order"} <= names
    assert len(spans.seen) == len(http_receiver.spans)
    assert len(logs.seen) > len(list(texts()))
    assert {"produced", "api.sold", "of theirs"} <= {
        word for word in ("produced", "api.sold", "of theirs") if word in measured
    }
    await stop()


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


async def test_what_was_named_of_a_secret_begins_again_under_another_name(runtime, http_receiver):
    off = {"scrub": "off"}
    await start_otel_exporter({"endpoint": http_receiver.endpoint, "protocol": "http/protobuf", **off})
    await start_prometheus_exporter({"port": 0, **off})

    async def shown():
        execute("shop.ghp_Zq7abcdefghijklmnopqrstuvwxyz0123", {"count": 1}, {"password=Zq7told": "x"})
        http_receiver.clear()
        await otp.safe_call(OTEL, ("flush", 60.0), timeout=70)
        sent = b"".join(request.message.SerializeToString() for request in http_receiver.requests)
        return sent, await page(await served())

    for part in await shown():
        assert MARK.encode() in part
    for name, section in ((OTEL, "otel"), (PROM, "prometheus")):
        await gen_server.cast(name, ("config_changed", f"telemetry.{section}.scrub", None, "all"))
        await eventually(lambda name=name: runner(name).exporter.settings.scrub == "all")
    # What was measured before under the name of a secret is told no more.
    await shown()
    for part in await shown():
        assert MARK.encode() not in part
    body = await page(await served())
    [line] = [line for line in body.splitlines() if line.startswith(b"shop__redacted__total{")]
    assert line == b'shop__redacted__total{password__redacted_="x"} 2'
