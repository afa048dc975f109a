"""What is measured through the OpenTelemetry API, on a real endpoint."""

import asyncio
import os
import subprocess
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests
from opentelemetry import metrics
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.metrics import Observation
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from otpylib_telemetry import otp
from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.meters.streams import Feed
from otpylib_telemetry.meters.views import ExplicitBucketHistogramAggregation, View
from otpylib_telemetry.metrics.names import OPENTELEMETRY
from otpylib_telemetry_otel.api import meter_provider
from otpylib_telemetry_prometheus import start_prometheus_exporter
from otpylib_telemetry_prometheus.meter_provider import PrometheusMeterProvider
from tests.support.chassis import crash, up
from tests.support.shared_metrics import page, their_page
from tests.support.waiting import eventually

EXPORTER = "prometheus_exporter"


@pytest.fixture
def provide():
    """A function that makes a provider; they are shut down at the end."""
    made = []

    def make(**more):
        made.append(PrometheusMeterProvider(**more))
        return made[-1]

    yield make
    for provider in made:
        provider.shutdown()


async def scrape():
    """The samples on the page: by name and labels the value."""
    stats = await otp.safe_call(EXPORTER, ("get_stats",))
    asked = urllib.request.Request(
        stats["url"], headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )

    def get():
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.read().decode()

    text = await asyncio.to_thread(get)
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("otel_scope_name")
    }


async def start():
    await start_prometheus_exporter({"port": 0})
    await up(EXPORTER)


async def test_a_library_instrumented_with_opentelemetry_lands_on_the_endpoint(provide, runtime):
    class Stock(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Stock)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    views = [
        View(
            instrument_name="http.client.duration",
            name="http.client.took",
            attribute_keys={"http.method", "http.status_code"},
            aggregation=ExplicitBucketHistogramAggregation([100, 60_000]),
        )
    ]
    instrumentor = RequestsInstrumentor()
    instrumentor.instrument(meter_provider=provide(views=views))
    try:
        for _ in range(3):
            await asyncio.to_thread(requests.get, f"http://127.0.0.1:{server.server_port}/", timeout=5)
    finally:
        instrumentor.uninstrument()
        server.shutdown()
        server.server_close()
    await start()
    found = await scrape()
    by_name = {key[0]: (dict(key[1:]), value) for key, value in found.items() if ("le", "100.0") not in key}
    labels, count = by_name["http_client_took_milliseconds_count"]
    assert count == 3
    assert labels.pop("otel_scope_version")
    assert labels.pop("otel_scope_schema_url")
    assert labels == {
        "http_method": "GET",
        "http_status_code": "204",
        "otel_scope_name": "opentelemetry.instrumentation.requests",
    }


async def test_it_counts_before_the_exporter_starts_and_through_its_crash(provide, runtime):
    provider = provide()
    counter = provider.get_meter("shop").create_counter("sales")
    provider.get_meter("shop").create_observable_gauge("heat", [lambda _: [Observation(3)]])
    scope = ("otel_scope_name", "shop")
    counter.add(1)
    await start()
    counter.add(2)
    assert await scrape() == {("sales_total", scope): 3, ("heat", scope): 3}
    await crash(EXPORTER)
    counter.add(4)
    await eventually(lambda: otp.whereis(EXPORTER) is None)
    await start()
    counter.add(8)
    assert await scrape() == {("sales_total", scope): 15, ("heat", scope): 3}


async def test_a_gauge_whose_callback_fails_is_not_on_the_page(provide, runtime):
    provider = provide(callback_timeout=0.2)
    works = [True]
    go = threading.Event()

    def observe(_options):
        return [Observation(1)] if works[0] else go.wait(20)

    provider.get_meter("shop").create_observable_gauge("heat", [observe])
    provider.get_meter("shop").create_observable_gauge("cold", [lambda _: [Observation(2)]])
    await start()
    scope = ("otel_scope_name", "shop")
    assert set(await scrape()) == {("heat", scope), ("cold", scope)}
    works[0] = False
    assert set(await scrape()) == {("cold", scope)}
    works[0] = True
    go.set()

    async def back():
        return set(await scrape()) == {("heat", scope), ("cold", scope)}

    await eventually(back)


def test_it_feeds_other_exporters_as_well(provide):
    provider = provide(exporter="audit_exporter", feeds=[Feed("otel_exporter", OPENTELEMETRY)])
    provider.get_meter("shop").create_counter("sales").add(1)
    found = {
        name: [metric.name for metric in store_of(name).metrics]
        for name in ("audit_exporter", "otel_exporter")
    }
    assert found == {"audit_exporter": ["sales_total"], "otel_exporter": ["sales"]}


WORKERS = """
import os, sys
from opentelemetry import metrics
from opentelemetry.metrics import Observation
from otpylib_telemetry_prometheus.meter_provider import PrometheusMeterProvider

metrics.set_meter_provider(PrometheusMeterProvider())
meter = metrics.get_meter("shop")
sales, took = meter.create_counter("sales"), meter.create_histogram("took", "s")
meter.create_observable_counter("seen", [lambda _: [Observation(10)]])
sales.add(1000)  # in the parent, which counts for itself: nobody must have it twice

for number in (1, 2, 3):
    if os.fork() == 0:
        sales.add(number, {"to": "lyon"})
        took.record(number)
        sys.exit(0)
for _ in range(3):
    assert os.wait()[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.process
def test_forked_workers_are_added_up_in_multiprocess_mode(tmp_path):
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WORKERS], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    for found in (page(tmp_path), their_page(tmp_path)):
        numbers = {sample: value for *_, samples in found.values() for sample, value in samples.items()}
        scope = ("otel_scope_name", "shop")
        assert numbers["sales_total", (scope,)] == 1000
        assert numbers["sales_total", (scope, ("to", "lyon"))] == 6
        assert numbers["seen_total", (scope,)] == 40
        assert numbers["took_seconds_count", (scope,)] == 3
        assert numbers["took_seconds_sum", (scope,)] == 6


async def api_counter_of_service(name):
    meter_provider.install([name], [], lambda _: True)
    return metrics.get_meter("shop.kind").create_counter("kind.of.sale", "By")


@pytest.fixture
def switched_off():
    yield
    meter_provider.uninstall()


async def test_the_service_spells_names_as_a_prometheus_exporter_of_any_name_does(runtime, switched_off):
    """Of a further instance the kind is known when it has come up."""
    name = "kindly_exporter"
    early = await api_counter_of_service(name)
    early.add(1)
    await start_prometheus_exporter({"port": 0}, name="kindly")
    await up(name)
    assert meter_provider.renew() == [name]
    early.add(2)
    assert {metric.name for metric in store_of(name).metrics} == {"kind_of_sale_bytes_total"}
    assert meter_provider.renew() == []


async def test_the_service_feeds_the_prometheus_exporter_as_it_wants_it(runtime, switched_off):
    counter = await api_counter_of_service(EXPORTER)
    counter.add(1)
    await start()
    counter.add(2)
    assert meter_provider.renew() == []
    assert (await scrape())["kind_of_sale_bytes_total", ("otel_scope_name", "shop.kind")] == 3
