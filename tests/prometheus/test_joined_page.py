"""What a running Prometheus exporter has on its page besides its series, and what it pushes."""

import asyncio
import re
import urllib.request

import prometheus_client
import pytest
from otpylib import gen_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from otpylib_telemetry import emit_counter
from otpylib_telemetry.self_metrics import SELF_METRICS
from otpylib_telemetry_otel import CallbackProducer, add_metric_producer, start_otel_exporter
from otpylib_telemetry_prometheus import merge_registry, start_prometheus_exporter, unmerge_registry
from tests.support import chassis, programs
from tests.support.ledger import stats_of
from tests.support.prometheus_server import check_with_promtool
from tests.support.waiting import eventually

NAME = "prometheus_exporter"


async def start(**settings):
    """Start the exporter on a free port; the port."""
    await start_prometheus_exporter({"port": 0, **settings})

    async def serving():
        stats = await stats_of(NAME)
        return stats["port"] if stats["state"] == "running" else None

    return await eventually(serving)


async def fetch(port, accept=""):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept})

    def read():
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()

    return await asyncio.to_thread(read)


def samples(text):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def names(text):
    return {name for name, _ in samples(text)}


def own(text):
    return {name for name in names(text) if name.startswith("otpylib_telemetry_")}


class Broken:
    def __init__(self, act):
        self.act = act

    def collect(self):
        self.act()
        return [GaugeMetricFamily("broken", "B.", value=1)]


# --- what the exporters say about themselves


async def test_every_metric_of_the_table_is_in_a_real_scrape_and_no_other(runtime, tmp_path, http_receiver):
    merge_registry(prometheus_client.CollectorRegistry())
    add_metric_producer(CallbackProducer(list))
    await start_otel_exporter(
        {"endpoint": http_receiver.endpoint, "protocol": "http/protobuf", "metrics_interval": 1}
    )
    port = await start(max_series=1, push_url="http://127.0.0.1:1", multiprocess_dir=str(tmp_path))
    module, backend = chassis.make_exporter(lane=lambda _self, _item: "spans")
    await chassis.start(module)
    chassis.emit(1)
    await chassis.delivered(backend, 1)
    await emit_counter("shop.orders", country="de")
    await emit_counter("shop.orders", country="fr")
    await emit_counter("shop.orders", city="berlin")
    await emit_counter("shop.bad", float("nan"))
    # Operations that were given up are the one thing that is there only once it has happened.
    sometimes = {"otpylib_telemetry_prometheus_operations_given_up_total"}
    wanted = {name for metric in SELF_METRICS for name in metric.samples} - sometimes

    async def complete():
        found = await fetch(port)
        assert wanted - own(found) == set()
        return found

    text = await eventually(complete)
    assert own(text) <= wanted | sometimes
    assert check_with_promtool(text) == ""
    assert own(text) == own(
        "\n".join(
            f"{sample.name} 1"
            for family in openmetrics_families(await fetch(port, "application/openmetrics-text"))
            for sample in family.samples
            if sample.name.startswith("otpylib_telemetry_")
        )
        + "\n"
    )
    stats = await stats_of(NAME)
    assert stats["series"] < len(own(text))  # none of them is a series


async def test_scrapes_are_counted_and_measured(runtime):
    port = await start()
    for _ in range(3):
        text = await fetch(port)
    found = samples(text)
    of = lambda name: found[f"otpylib_telemetry_prometheus_{name}", (("exporter", NAME),)]  # noqa: E731
    assert of("scrapes_total") == 2
    assert of("scrape_duration_seconds_count") == 2
    assert of("scrape_size_bytes_sum") >= of("last_scrape_size_bytes") > 1000
    assert of("scrape_duration_seconds_sum") >= of("last_scrape_duration_seconds") > 0


async def test_they_can_be_switched_off_and_on_while_running(runtime):
    port = await start(self_metrics=False)
    assert own(await fetch(port)) == set()
    change = ("config_changed", "telemetry.prometheus.self_metrics", False, True)
    await gen_server.cast(NAME, change)

    async def there():
        return own(await fetch(port))

    await eventually(there)


# --- merged registries


async def test_merged_metrics_are_scraped_beside_ours_and_can_go_again(runtime):
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.Counter("import_rows", "R.", ["a"], registry=registry).labels('"\n').inc(2)
    prometheus_client.Counter("shop_orders", "Theirs.", registry=registry).inc(100)
    merge_registry(registry)
    port = await start()
    await emit_counter("shop.orders", 5)
    text = await fetch(port)
    found = samples(text)
    assert found["import_rows_total", (("a", '"\n'),)] == 2
    assert found["shop_orders_total", ()] == 5
    assert check_with_promtool(text) == ""
    text = await fetch(port)
    labels = (("exporter", NAME),)
    assert samples(text)["otpylib_telemetry_prometheus_merge_duplicates_total", labels] >= 1
    assert unmerge_registry(registry)
    assert "import_rows_total" not in names(await fetch(port))


async def test_registries_can_be_configured_while_running(runtime):
    port = await start()
    key = "telemetry.prometheus.merge_registries"
    await gen_server.cast(NAME, ("config_changed", key, [], ["prometheus_client:REGISTRY"]))

    async def merged():
        return "python_info" in names(await fetch(port))

    await eventually(merged)


async def test_a_wrong_path_is_said_and_everything_else_goes_on(runtime, caplog):
    port = await start(merge_registries=["no_such_module:REGISTRY"])
    await emit_counter("shop.orders")
    assert "shop_orders_total" in names(await fetch(port))
    assert "cannot merge no_such_module:REGISTRY" in caplog.text
    assert (await stats_of(NAME))["merged"]["missing"] == ["no_such_module:REGISTRY"]


async def test_a_collector_that_raises_never_breaks_a_scrape(runtime):
    def fail():
        raise RuntimeError("no database")

    merge_registry(Broken(fail))
    port = await start()
    await emit_counter("shop.orders")
    await fetch(port)
    found = samples(await fetch(port))
    labels = (("exporter", NAME), ("reason", "failed"))
    assert found["otpylib_telemetry_prometheus_merge_failures_total", labels] >= 1
    assert ("shop_orders_total", ()) in found


# --- pushing


async def test_what_is_scraped_is_pushed_with_every_interval(runtime, pushgateway):
    gateway = pushgateway()
    await start(push_url=gateway.url, push_interval=0.1, push_job="shop", flush_interval=0.05)
    await emit_counter("shop.orders", 5)

    async def pushed():
        return await asyncio.to_thread(gateway.value, "shop_orders_total", job="shop")

    assert await eventually(pushed) == 5
    assert (await stats_of(NAME))["push"]["failures"] == 0


async def test_an_outage_of_the_gateway_costs_nothing_but_the_pushes(runtime, pushgateway, caplog):
    gateway = pushgateway()
    port = await start(push_url=gateway.url, push_interval=0.1, flush_interval=0.05)
    await asyncio.to_thread(gateway.stop)

    async def failing():
        return (await stats_of(NAME))["push"]["failures"] >= 3

    await eventually(failing)
    await emit_counter("shop.orders", 5)
    assert "shop_orders_total" in names(await fetch(port))
    assert caplog.text.count("cannot push its metrics") == 1
    await asyncio.to_thread(gateway.start)

    async def pushed():
        return await asyncio.to_thread(gateway.value, "shop_orders_total")

    assert await eventually(pushed) == 5


async def test_a_drain_pushes_the_last_time(runtime, pushgateway):
    gateway = pushgateway()
    await start(push_url=gateway.url)
    await emit_counter("shop.orders", 7)
    assert (await chassis.call(("drain", 60.0), NAME, timeout=60))["left"] == 0
    assert await asyncio.to_thread(gateway.value, "shop_orders_total") == 7


async def test_being_switched_off_pushes_the_last_time(runtime, pushgateway):
    gateway = pushgateway()
    await start(push_url=gateway.url)
    await emit_counter("shop.orders", 7)
    await gen_server.cast(NAME, ("config_changed", "telemetry.prometheus.enabled", True, False))

    async def pushed():
        return await asyncio.to_thread(gateway.value, "shop_orders_total")

    assert await eventually(pushed) == 7


def run(url, seconds=60.0, *more):
    done = programs.run(["-m", "tests.support.batch_job", url, seconds, *more], timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, float(re.search(r"ended after ([\d.]+) s", done.stdout)[1])


def test_a_job_that_ends_right_after_its_last_event_has_pushed_it(pushgateway):
    gateway = pushgateway()
    output, _ = run(gateway.url)
    assert gateway.value("import_rows_total", job="nightly/import") == 123, output
    assert gateway.value("import_run_duration_seconds_count", outcome="success") == 1
    assert gateway.value("import_run_in_flight") == 0
    assert "WARNING" not in output


def test_a_job_that_ends_before_its_endpoint_is_up_has_pushed_all_the_same(pushgateway):
    gateway = pushgateway()
    output, _ = run(gateway.url, 12.0, "never")
    assert gateway.value("import_rows_total", job="nightly/import") == 123, output


@pytest.mark.process
def test_a_job_whose_gateway_is_not_there_ends_as_it_would_have():
    output, seconds = run("http://127.0.0.1:1")
    assert "ends without its last push to http://127.0.0.1:1/metrics/job@base64/" in output
    assert seconds < 30


@pytest.fixture
async def silent():
    """A gateway that accepts connections and never says anything; its URL."""
    connections = []

    async def hold(_reader, writer):
        connections.append(writer)

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for writer in connections:
        writer.close()
    server.close()


@pytest.mark.parametrize("up", [(), ("never",)], ids=["endpoint up", "endpoint not up"])
@pytest.mark.process
async def test_a_silent_gateway_holds_up_the_end_no_longer_than_shutdown_timeout(silent, up):
    output, seconds = await asyncio.to_thread(run, silent, 1.0, *up)
    assert "ends without its last push" in output
    assert seconds < 20  # the limit, and what a busy machine needs besides; the gateway is silent for ever
