"""The Prometheus exporter as a whole: what is on its page under which configuration, and how it changes."""

import asyncio
import base64
import gzip
import logging
import urllib.error
import urllib.request

import prometheus_client
import pytest
from otpylib import gen_server, process
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from otpylib_telemetry import current_span, execute, otp, span
from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.metrics.definitions import counter, distribution
from otpylib_telemetry_prometheus import start_prometheus_exporter
from otpylib_telemetry_prometheus.client.merged import merge_registry
from tests.prometheus.test_endpoint import taken_port
from tests.support import declare
from tests.support.chassis import runner
from tests.support.crash import crash
from tests.support.ledger import stats_of
from tests.support.waiting import eventually

NAME = "prometheus_exporter"
ORDERS = {"type": "counter", "name": "shop.order.stop.count", "tags": ["country"]}


async def start(**settings):
    """Start the exporter on a free port, without what it says about itself; the port."""
    await start_prometheus_exporter(
        {"port": 0, "event_patterns": ["shop.*"], "self_metrics": False, **settings}
    )

    async def serving():
        stats = await stats_of(NAME)
        return stats["port"] if stats["state"] == "running" else None

    return await eventually(serving)


async def change(key, value):
    await gen_server.cast(NAME, ("config_changed", f"telemetry.prometheus.{key}", None, value))


async def page(port, **headers):
    def fetch():
        asked = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=headers)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.headers, answer.read()

    found, body = await asyncio.to_thread(fetch)
    return found, body


async def samples(port):
    """Every sample of the page: (name, labels) -> value."""
    _, body = await page(port)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


async def value(port, name, **labels):
    return (await samples(port)).get((name, tuple(sorted(labels.items()))))


def order(country="de", **measurements):
    execute("shop.order.stop", measurements, {"country": country, "customer": "alice"})


# --- definitions


async def test_definitions_take_the_place_of_automatic_metrics(runtime):
    port = await start(metrics=[ORDERS])
    order(count=3)
    order(count=1)
    assert await samples(port) == {("shop_order_stop_count_total", (("country", "de"),)): 2}


async def test_definitions_may_be_objects(runtime):
    port = await start(
        metrics=[
            counter("shop.order.stop.count"),
            distribution("shop.order.stop.duration_ms", unit=("ms", "s"), buckets=[0.1, 1.0]),
        ]
    )
    order(duration_ms=100)
    order(duration_ms=5_000)
    assert await value(port, "shop_order_stop_count_total") == 2
    assert await value(port, "shop_order_stop_duration_seconds_bucket", le="0.1") == 1
    assert await value(port, "shop_order_stop_duration_seconds_sum") == 5.1


async def test_automatic_metrics_stay_where_both_are_wanted(runtime):
    port = await start(metrics=[ORDERS], automatic_metrics=True)
    order(count=3)
    assert await value(port, "shop_order_stop_count_total", country="de") == 1
    assert await value(port, "shop_order_stop_total", country="de", customer="alice") == 3


async def test_changed_definitions_restart_unchanged_ones_go_on_and_others_go(runtime):
    port = await start(metrics=[ORDERS, {"type": "last_value", "name": "shop.order.stop.stock"}])
    order(stock=5)
    assert await value(port, "shop_order_stop_stock") == 5
    await change("metrics", [ORDERS, {"type": "sum", "name": "shop.order.stop.items"}])
    await eventually(lambda: gone(port, "shop_order_stop_stock"))
    order(items=2)
    assert await value(port, "shop_order_stop_count_total", country="de") == 2
    assert await value(port, "shop_order_stop_items_total") == 2
    await change("metrics", [{**ORDERS, "tags": []}])
    await eventually(lambda: gone(port, "shop_order_stop_items_total"))
    order()
    assert await value(port, "shop_order_stop_count_total") == 1


async def gone(port, name):
    return not any(found == name for found, _ in await samples(port))


@pytest.mark.parametrize(
    "refused",
    [
        [{**ORDERS, "type": "meter"}],
        [ORDERS, {"type": "sum", "name": "shop.order.stop.count"}],
        [{"type": "distribution", "name": "shop.order.stop.ms", "buckets": [2, 1]}],
    ],
    ids=["unknown type", "one name twice", "buckets that fall"],
)
async def test_a_refused_set_changes_nothing(runtime, caplog, refused):
    port = await start(metrics=[ORDERS])
    order()
    await change("metrics", refused)
    await eventually(lambda: "metrics" in caplog.text and "refused" in caplog.text)
    order()
    assert await samples(port) == {("shop_order_stop_count_total", (("country", "de"),)): 2}
    assert (await stats_of(NAME))["state"] == "running"


async def test_a_set_that_clashes_with_what_is_there_changes_nothing(runtime, caplog):
    port = await start(metrics=[ORDERS], automatic_metrics=True)
    order(count=1, value=7)
    clash = {"type": "distribution", "name": "shop.order.stop"}
    clash |= {"event": "shop.order.stop", "measurement": "value", "buckets": [1.0]}
    await change("metrics", [ORDERS, clash])
    await eventually(lambda: degraded("shop_order_stop"))
    order(count=1)
    assert await value(port, "shop_order_stop_count_total", country="de") == 2
    assert await value(port, "shop_order_stop", country="de", customer="alice") == 7
    await change("metrics", [ORDERS])
    await eventually(running)


async def test_a_change_whose_endpoint_cannot_be_had_costs_no_series(runtime):
    other = {"type": "counter", "name": "shop.order.stop.other"}
    port = await start(metrics=[ORDERS, other])
    for _ in range(5):
        order()
    taken, elsewhere = taken_port()
    with taken:
        # What it is to serve with waits together; whatever else is changed does not wait for it.
        settings = {"port": elsewhere, "max_connections": 7, "namespace": "new", "max_series": 1}
        await gen_server.cast(NAME, ("config_changed", "telemetry.prometheus", {}, settings))
        await eventually(lambda: degraded(f"127.0.0.1:{elsewhere}"))
        order("fr")
        for _ in range(3):
            assert await value(port, "new_shop_order_stop_count_total", country="(folded)") == 6
            assert await value(port, "new_shop_order_stop_other_total") == 6
            await asyncio.sleep(0.3)  # it is tried again meanwhile


async def test_definitions_that_clash_are_not_on_the_page_and_hold_up_nothing_else(runtime):
    port = await start(metrics=[ORDERS])
    declare.counter(store_of(NAME), "shop_till_total", "Of somebody else.", owner="somebody").at(()).add(1)
    order()
    clash = {"type": "counter", "name": "shop.till"}
    settings = {"metrics": [ORDERS, {**clash, "event": "shop.*"}], "namespace": "new", "drop_labels": []}
    await gen_server.cast(NAME, ("config_changed", "telemetry.prometheus", {}, settings))
    await eventually(lambda: degraded("shop_till"))
    for country in ("de", "fr"):
        order(country)
    assert await value(port, "new_shop_order_stop_count_total", country="de") == 2
    assert await value(port, "new_shop_order_stop_count_total", country="fr") == 1
    assert await value(port, "new_shop_till_total") == 1
    answer = await otp.safe_call(NAME, ("get_config",))
    assert set(answer["wished"]) == {"metrics"}
    assert (answer["config"]["namespace"], len(answer["config"]["metrics"])) == ("new", 1)


async def test_an_address_waits_by_itself_and_its_password_counts_at_once(runtime):
    port = await start(basic_auth="shop:old")
    taken, elsewhere = taken_port()
    with taken:
        settings = {"port": elsewhere, "basic_auth": "shop:new", "drop_labels": ["country"]}
        await gen_server.cast(NAME, ("config_changed", "telemetry.prometheus", {}, settings))
        await eventually(lambda: degraded(f"127.0.0.1:{elsewhere}"))
        order(count=1)

        async def counted():
            _, body = await page(port, Authorization=basic("shop", "new"))
            return body if b"shop_order" in body else None

        assert b"country" not in await eventually(counted)
        for login in ({"Authorization": basic("shop", "old")}, {}):
            with pytest.raises(urllib.error.HTTPError, match="401"):
                await page(port, **login)
        answer = await otp.safe_call(NAME, ("get_config",))
        assert answer["wished"] == {"port": elsewhere}
        assert answer["config"]["basic_auth"] == "<redacted>"
        assert answer["origins"]["basic_auth"] == "message"
        # A password that is taken away goes on being asked for until its address has been left.
        await gen_server.cast(NAME, ("config_changed", "telemetry.prometheus.basic_auth", None, False))
        await eventually(lambda: asked_for("old"))
        assert (await otp.safe_call(NAME, ("get_config",)))["wished"] == {
            "port": elsewhere,
            "basic_auth": None,
        }
        # And what was changed and taken back is back.
        await gen_server.cast(NAME, ("config_changed", "telemetry.prometheus.basic_auth", None, "shop:new"))
        await eventually(lambda: asked_for("new"))
        settings = {"port": 0, "basic_auth": "shop:old"}
        await gen_server.cast(NAME, ("config_changed", "telemetry.prometheus", {}, settings))
        await eventually(running)
        assert (await otp.safe_call(NAME, ("get_config",)))["wished"] == {}
        assert b"shop_order" in (await page(port, Authorization=basic("shop", "old")))[1]
        with pytest.raises(urllib.error.HTTPError, match="401"):
            await page(port, Authorization=basic("shop", "new"))


def asked_for(password):
    login = runner(NAME).configuration.in_force.basic_auth
    return login is not None and login.password.get_secret_value() == password


def basic(name, password):
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


async def degraded(reason):
    stats = await stats_of(NAME)
    return stats["state"] == "degraded" and reason in stats["reason"]


async def running():
    return (await stats_of(NAME))["state"] == "running"


async def test_going_back_to_automatic_takes_the_definitions_away(runtime):
    port = await start(metrics=[ORDERS])
    order(count=3)  # emitted before the change, so counted as was the rule then
    await change("metrics", "automatic")
    await eventually(lambda: gone(port, "shop_order_stop_count_total"))
    order(count=4)
    assert await value(port, "shop_order_stop_total", country="de", customer="alice") == 4


# --- series


async def test_an_idle_series_goes_after_its_time_and_comes_back(runtime):
    port = await start(series_ttl=1)
    order(count=1)
    assert await value(port, "shop_order_stop_total", country="de", customer="alice") == 1
    await eventually(lambda: gone(port, "shop_order_stop_total"), timeout=60)
    assert (await stats_of(NAME))["series_expired"] == 1
    order(count=2)
    assert await value(port, "shop_order_stop_total", country="de", customer="alice") == 2


async def test_a_series_and_a_metric_can_be_removed(runtime):
    port = await start(drop_labels=["customer"])
    for country in ("de", "fr"):
        order(country, count=1)
    assert await gen_server.call(NAME, ("remove", "shop_order_stop_total", {"country": "fr"})) is True
    assert await samples(port) == {("shop_order_stop_total", (("country", "de"),)): 1}
    assert await gen_server.call(NAME, ("remove", "shop_order_stop_total", {"country": "fr"})) is False
    assert await gen_server.call(NAME, ("remove", "shop_order_stop_total")) is True
    assert await samples(port) == {}


async def test_what_fills_a_metric_up_is_in_the_stats(runtime, caplog):
    await start(max_series=2)
    for number in range(5):
        execute("shop.visit", {"count": 1}, {"user": str(number), "country": "de"})
    await gen_server.call(NAME, ("flush", 1.0))
    stats = await stats_of(NAME)
    assert stats["labels_folded"] == {"shop_visit_total": {"user": 3}}
    assert stats["overflowing"] == []
    assert "shop_visit_total has reached its limit of 2 series" in caplog.text
    for number in range(5):
        execute("shop.visit", {"count": 1}, {f"user{number}": "1"})
    await gen_server.call(NAME, ("flush", 1.0))
    stats = await stats_of(NAME)
    assert stats["cardinality"]["shop_visit_total"]["country"] == 1
    assert stats["overflowing"] == ["shop_visit_total"]


# --- what else is on the page


async def test_openmetrics_has_exemplars_of_the_operation(runtime):
    port = await start()
    with span("shop.buy"):
        operation = current_span()
    headers, body = await page(port, Accept="application/openmetrics-text; version=1.0.0")
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {one.name: one for one in openmetrics.text_string_to_metric_families(body.decode())}
    seen = [sample.exemplar for sample in families["shop_buy_duration_seconds"].samples if sample.exemplar]
    assert seen[0].labels == {"trace_id": operation.trace_id, "span_id": operation.span_id}


async def test_exemplars_can_be_switched_off_while_it_runs(runtime, caplog):
    caplog.set_level(logging.INFO)
    port = await start()
    await change("exemplars", False)
    await eventually(lambda: "exemplars" in caplog.text)
    with span("shop.buy"):
        pass
    _, body = await page(port, Accept="application/openmetrics-text; version=1.0.0")
    assert b"shop_buy_duration_seconds_bucket" in body
    assert b"trace_id" not in body


async def test_target_info_tells_the_resource(runtime, monkeypatch):
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=shops,region=eu")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "till")
    port = await start(resource={"region": "us"})
    labels = {"service_name": "till", "service_namespace": "shops", "region": "us"}
    assert await value(port, "target_info", **labels) == 1


async def test_there_is_no_target_info_where_nothing_is_told(runtime):
    port = await start()
    assert await samples(port) == {}


async def test_pages_are_compressed_for_who_can_undo_it_unless_that_is_switched_off(runtime):
    port = await start()
    order(count=1)
    headers, body = await page(port, **{"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    assert b"shop_order_stop_total" in gzip.decompress(body)
    await change("compression", "none")
    await eventually(lambda: plain(port))


async def plain(port):
    headers, body = await page(port, **{"Accept-Encoding": "gzip"})
    return headers["Content-Encoding"] is None and b"shop_order_stop_total" in body


async def test_what_the_exporters_say_about_themselves_is_on_the_page(runtime):
    port = await start(self_metrics=True)
    order(count=1)
    assert await value(port, "otpylib_telemetry_exporter_events_accepted_total", exporter=NAME) == 1
    await change("self_metrics", False)
    await eventually(lambda: gone(port, "otpylib_telemetry_exporter_events_accepted_total"))


async def test_a_merged_registry_is_on_the_page_and_a_slow_one_costs_it_nothing(runtime):
    port = await start()
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.Counter("theirs", "Theirs.", registry=registry).inc(3)
    merge_registry(registry)
    order(count=1)
    found = await samples(port)
    assert found["theirs_total", ()] == 3
    assert found["shop_order_stop_total", (("country", "de"), ("customer", "alice"))] == 1


async def test_the_last_push_of_a_batch_job_has_everything(runtime, pushgateway):
    gateway = pushgateway()
    await start_prometheus_exporter({"push_url": gateway.url, "push_job": "nightly", "serve": False})
    await eventually(running)
    order(count=5)
    await gen_server.call(NAME, ("drain", 3.0))
    labels = {"job": "nightly", "country": "de", "customer": "alice"}
    assert await asyncio.to_thread(gateway.value, "shop_order_stop_total", **labels) == 5


async def test_a_crash_loses_no_definition_and_no_series(runtime):
    port = await start(metrics=[ORDERS])
    order()
    assert await value(port, "shop_order_stop_count_total", country="de") == 1
    await crash(NAME)
    await eventually(lambda: process.whereis(NAME) is None)
    port = await start(metrics=[ORDERS])
    order()
    assert await value(port, "shop_order_stop_count_total", country="de") == 2
