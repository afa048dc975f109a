"""What a real Prometheus server makes of our endpoint."""

import asyncio
import time
import urllib.request

import pytest
from otpylib import gen_server

from otpylib_telemetry import current_span, emit_counter, emit_gauge, emit_timer, execute, span
from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from otpylib_telemetry_prometheus import start_prometheus_exporter
from tests.support.certificates import Authority
from tests.support.ledger import stats_of
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
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
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


DEFINITIONS = [
    {"type": "counter", "name": "shop.sold.count", "tags": ["country"], "description": "Sales."},
    {"type": "sum", "name": "shop.sold.amount", "unit": "EUR", "description": "What was paid."},
    {"type": "last_value", "name": "shop.sold.stock", "tags": ["country"], "description": "In stock."},
    {
        "type": "distribution",
        "name": "shop.sold.waited",
        "unit": ["ms", "s"],
        "buckets": [0.005, 0.05, 0.5],
        "description": "How long it was waited for.",
    },
    {
        "type": "distribution",
        "name": "shop.sold.weight",
        "buckets": "exponential",
        "description": "Weight.",
    },
    {"type": "summary", "name": "shop.sold.size", "unit": "By", "description": "Size of the order."},
]
WAITED = [4, 5, 40, 400, 4000]


def definitions_and_automatic_metrics():
    """Emit what is measured by definitions of every type, and by none, of all of which the sums are known."""
    for number, waited in enumerate(WAITED):
        measured = {"amount": 2.5, "stock": number, "waited": waited, "weight": 3 * 2**number, "size": waited}
        execute("shop.sold", measured, {"country": "de"})
    execute("shop.visit", {"count": 3}, {"country": "fr"})
    execute("shop.rating", {"value": -1.5})
    execute("shop.page", {"duration_ms": 20})
    execute("shop.order.start", {}, {"correlation_id": 1})


async def test_definitions_of_every_type_and_automatic_metrics_are_queried_right(runtime, prometheus):
    port = await start(metrics=DEFINITIONS, automatic_metrics=True)
    server = prometheus(f"127.0.0.1:{port}")
    definitions_and_automatic_metrics()
    await server.scraped()
    value = lambda promql: asyncio.to_thread(server.value, promql)  # noqa: E731

    assert await value('shop_sold_count_total{country="de"}') == 5
    assert await value("shop_sold_amount_EUR_total") == 12.5
    assert await value('shop_sold_stock{country="de"}') == 4
    # Explicit buckets: le is inclusive, milliseconds have become seconds, +Inf is everything.
    assert await value("shop_sold_waited_seconds_count") == 5
    assert await value("shop_sold_waited_seconds_sum") == pytest.approx(4.449)
    for le, count in {"0.005": 2, "0.05": 3, "0.5": 4, "+Inf": 5}.items():
        assert await value(f'shop_sold_waited_seconds_bucket{{le="{le}"}}') == count
    assert await value("histogram_quantile(0.5, shop_sold_waited_seconds_bucket)") <= 0.05
    # Exponential buckets: at powers of two, 3 * 2 ** n is between two of them.
    assert await value("shop_sold_weight_count") == 5
    assert await value("shop_sold_weight_sum") == 93
    for power, count in {2: 0, 4: 1, 8: 2, 16: 3, 32: 4, 64: 5}.items():
        assert await value(f'shop_sold_weight_bucket{{le=~"{power}|{power}.0"}}') == count
    median = await value("histogram_quantile(0.5, shop_sold_weight_bucket)")
    assert 8 <= median <= 16
    # A summary: quantiles within one in a hundred.
    assert await value("shop_sold_size_bytes_count") == 5
    assert await value("shop_sold_size_bytes_sum") == sum(WAITED)
    assert await value('shop_sold_size_bytes{quantile="0.5"}') == pytest.approx(40, rel=0.01)
    assert await value('shop_sold_size_bytes{quantile="0.99"}') == pytest.approx(400, rel=0.01)
    # Automatic ones beside them.
    assert await value('shop_visit_total{country="fr"}') == 3
    assert await value("shop_rating") == -1.5
    assert await value("shop_page_duration_seconds_count") == 1
    assert await value("shop_order_in_flight") == 1
    # And what is known of each.
    told = await asyncio.to_thread(server.api, "metadata")
    types = {name: {(one["type"], one["help"]) for one in found} for name, found in told.items()}
    counters = {"shop_sold_count": "Sales.", "shop_sold_amount_EUR": "What was paid."}
    for name, text in counters.items():
        found = types.get(name, set()) | types.get(f"{name}_total", set())
        assert found == {("counter", text)}
    assert types["shop_sold_stock"] == {("gauge", "In stock.")}
    assert types["shop_sold_waited_seconds"] == {("histogram", "How long it was waited for.")}
    assert types["shop_sold_weight"] == {("histogram", "Weight.")}
    assert types["shop_sold_size_bytes"] == {("summary", "Size of the order.")}


async def test_promtool_has_nothing_to_complain_about_the_page_of_an_exporter(runtime):
    port = await start(metrics=DEFINITIONS, automatic_metrics=True)
    definitions_and_automatic_metrics()
    with span("shop.checkout", {"method": "card"}):
        pass
    page = await asyncio.to_thread(fetch, port)
    # With what the exporter says of itself.
    assert "# TYPE shop_sold_size_bytes summary" in page
    assert "# TYPE otpylib_telemetry_" in page
    assert check_with_promtool(page) == ""


async def test_exemplars_of_operations_are_found_by_prometheus_and_name_their_spans(runtime, prometheus):
    definition = {"type": "distribution", "name": "shop.weighed.kilos", "buckets": [1, 10]}
    port = await start(metrics=[definition], automatic_metrics=True)
    server = prometheus(f"127.0.0.1:{port}")
    began = time.time()
    ids = {}
    for country in ("de", "fr"):
        async with span("shop.checkout", {"country": country}):
            await asyncio.sleep(0.01)
            trace_id, span_id = current_span()[:2]
            ids[country] = {"trace_id": trace_id, "span_id": span_id}
            # Whose part a measurement is, its metadata say.
            await emit_counter("shop.orders", 2, country=country, **ids[country])
            await emit_timer("shop.paid", 250, country=country, **ids[country])
            execute("shop.weighed", {"kilos": 3}, ids[country])
    await server.scraped()

    async def exemplars(query):
        found = await asyncio.to_thread(
            server.api, "query_exemplars", query=query, start=began - 1, end=time.time() + 60
        )
        return [(one["seriesLabels"], exemplar) for one in found for exemplar in one["exemplars"]]

    for query, value in {
        "shop_orders_total": 2,
        "shop_paid_duration_seconds_bucket": 0.25,
        "shop_checkout_duration_seconds_bucket": None,
    }.items():
        found = await exemplars(query)
        assert len(found) == 2, query
        for series, exemplar in found:
            assert exemplar["labels"] == ids[series["country"]], query
            assert value is None or float(exemplar["value"]) == value
            assert value is not None or 0.01 <= float(exemplar["value"]) < 5
            assert began - 1 <= exemplar["timestamp"] <= time.time() + 1
    ((series, exemplar),) = await exemplars("shop_weighed_kilos_bucket")
    assert (series["le"].removesuffix(".0"), float(exemplar["value"])) == ("10", 3)
    # Of several within a second the first stays.
    assert exemplar["labels"] == ids["de"]


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

    await eventually(lambda: asyncio.to_thread(_is, server, "max(shop_orders_total)", 7), timeout=60)
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(fetch, port)


async def test_it_scrapes_over_tls_with_a_client_certificate_and_a_password(runtime, prometheus, tmp_path):
    authority = Authority(tmp_path / "authority")
    issued, client = authority.issue(), authority.issue()
    port = await start(
        certificate=str(issued.certificate),
        key=str(issued.key),
        client_ca=str(authority.certificate),
        basic_auth={"username": "prometheus", "password": "s3cret: päss"},
    )
    server = prometheus(
        f"127.0.0.1:{port}",
        scheme="https",
        tls_config={
            "ca_file": str(authority.certificate),
            "cert_file": str(client.certificate),
            "key_file": str(client.key),
        },
        basic_auth={"username": "prometheus", "password": "s3cret: päss"},
    )
    await emit_counter("shop.orders", 3)
    await server.scraped()
    assert await asyncio.to_thread(server.value, "shop_orders_total") == 3
    (target,) = await asyncio.to_thread(server.targets)
    assert target["scrapeUrl"] == f"https://127.0.0.1:{port}/metrics"
    stats = await stats_of("prometheus_exporter")
    assert (stats["logins_refused"], stats["handshakes_failed"]) == (0, 0)


def _is(server, promql, value):
    return server.value(promql) == value
