"""What a real Prometheus server makes of our endpoint."""

import asyncio
import urllib.request

import pytest
from otpylib import gen_server

from otpylib_telemetry import emit_counter, emit_gauge, emit_timer, execute, span
from otpylib_telemetry_prometheus import start_prometheus_exporter
from tests.support.ledger import stats_of
from tests.support.ports import free_port
from tests.support.prometheus_server import check_with_promtool
from tests.support.waiting import eventually

pytestmark = pytest.mark.peer


async def start(**settings):
    """Start the exporter on a free port; the port."""
    settings = {"port": 0, "event_patterns": ["shop.*"], **settings}
    await start_prometheus_exporter(settings)

    async def serving():
        stats = await stats_of("prometheus_exporter")
        return stats["port"] if stats["state"] == "running" else None

    return await eventually(serving)


def fetch(port, path="/metrics"):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode()


async def test_the_automatic_metrics_are_scraped_and_queried(runtime, prometheus):
    port = await start()
    server = prometheus(f"127.0.0.1:{port}")
    for _ in range(7):
        await emit_counter("shop.orders", 2, country="de")
    await emit_counter("shop.orders", 5, country="fr", express=True)
    await emit_gauge("shop.basket", 12.5)
    for milliseconds in (4, 5, 40, 400):
        await emit_timer("shop.page", milliseconds, page="home")
    for _ in range(3):
        with span("shop.checkout", {"method": "card"}):
            pass
    with pytest.raises(RuntimeError), span("shop.checkout", {"method": "card"}):
        raise RuntimeError("no")
    execute("shop.slow.start", {}, {"correlation_id": "x"})
    await server.scraped()

    query = lambda promql: asyncio.to_thread(server.value, promql)  # noqa: E731
    assert await query('shop_orders_total{country="de"}') == 14
    assert await query('shop_orders_total{country="fr",express="true"}') == 5
    assert await query("sum(shop_orders_total)") == 19
    assert await query("shop_basket") == 12.5
    assert await query("shop_page_duration_seconds_count") == 4
    assert await query("shop_page_duration_seconds_sum") == pytest.approx(0.449)
    assert await query('shop_page_duration_seconds_bucket{le="0.005"}') == 2  # le is inclusive
    assert await query('shop_checkout_duration_seconds_count{outcome="success"}') == 3
    assert await query('shop_checkout_duration_seconds_count{outcome="error"}') == 1
    assert await query("shop_checkout_in_flight") == 0
    assert await query("shop_slow_in_flight") == 1
    assert await asyncio.to_thread(server.targets)
    assert check_with_promtool(await asyncio.to_thread(fetch, port)) == ""


async def test_the_endpoint_moves_while_prometheus_scrapes_and_no_series_is_lost(runtime, prometheus):
    port = await start()
    server = prometheus(f"127.0.0.1:{port}")
    await emit_counter("shop.orders", 3)
    await server.scraped()

    elsewhere = free_port()
    change = ("config_changed", "telemetry.prometheus.port", 0, elsewhere)
    await gen_server.cast("prometheus_exporter", change)
    await eventually(lambda: asyncio.to_thread(fetch, elsewhere))
    await emit_counter("shop.orders", 4)
    server.set_targets(f"127.0.0.1:{elsewhere}")

    await eventually(lambda: asyncio.to_thread(_is, server, "max(shop_orders_total)", 7), timeout=30)
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(fetch, port)


def _is(server, promql, value):
    return server.value(promql) == value
