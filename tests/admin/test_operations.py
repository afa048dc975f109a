"""Breakers that are closed by hand, series that go, and the page."""

import re

import pytest

from otpylib_telemetry import ExportError, execute
from otpylib_telemetry.admin import page
from otpylib_telemetry.exporter.server import exporter_module
from otpylib_telemetry.metrics.exporting import MetricsExporter
from tests.support.chassis import emit, runner, start
from tests.support.waiting import eventually


async def test_a_breaker_is_closed_and_what_waits_is_sent(client, backend):
    backend.always = ExportError("down", retryable=True)
    runner().state.breaker.adjust(1, 3600)
    emit(3)
    await eventually(lambda: runner().state.breaker.state == "open")
    backend.always = None
    answer = await client.ask("POST", "/breaker/x_exporter/reset")
    assert answer.status == 200
    assert answer.body["was"] == "open"
    assert answer.body["state"] == "closed"
    await eventually(lambda: len(backend.delivered) == 3)
    assert (await client.ask("POST", "/breaker/x/reset")).body["exporter"] == "x_exporter"
    answer = await client.ask("POST", "/breaker/telemetry_admin/reset")
    assert (answer.status, answer.body["expected"]) == (404, "x_exporter")


@pytest.fixture
async def metrics(runtime):
    class Metrics(MetricsExporter):
        async def export(self, batch):
            return None

    module = exporter_module("ServerM", Metrics, name="m_exporter", section="telemetry.m", module=__name__)
    await start(module)
    return runner("m_exporter").exporter


async def test_series_and_metrics_go(client, metrics, backend):
    for shop in ("north", "south"):
        execute("shop.sale", {"count": 1}, {"shop": shop})
    await client.ask("POST", "/flush?exporter=m")
    store = metrics.metrics.store
    assert len(store.find("shop_sale_total").series) == 2
    path = "/series/m_exporter/shop_sale_total"
    answer = await client.ask("DELETE", f'{path}?labels={{"shop":"north"}}')
    assert answer.body == {"exporter": "m_exporter", "metric": "shop_sale_total", "labels": {"shop": "north"}}
    assert len(store.find("shop_sale_total").series) == 1
    answer = await client.ask("DELETE", f'{path}?labels={{"shop":"north"}}')
    assert (answer.status, answer.body["where"]) == (404, "query: labels")
    assert (await client.ask("DELETE", path)).status == 200
    answer = await client.ask("DELETE", path)
    assert (answer.status, answer.body["where"]) == (404, "path: metric")
    assert (await client.ask("DELETE", f"{path}?labels=north")).status == 422
    assert (await client.ask("DELETE", "/series/x/shop_sale_total")).status == 409


async def test_the_page_may_load_nothing_but_this(client):
    async with client.session() as session, session.get(f"{client.base}/") as answer:
        text = await answer.text()
        policy = answer.headers["Content-Security-Policy"]
        assert answer.content_type == "text/html"
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r"(?:src|href)=[\"'](?:https?:)?//", text)


def test_each_script_and_style_of_a_page_has_its_hash():
    policy = page.policy(b"<style>\r\na{}</style><script>let a</script><SCRIPT type=module>let b</script>")
    assert policy.count("sha256-") == 3
    assert "script-src 'sha256-" in policy
    # echo -en '\na{}' | openssl dgst -sha256 -binary | base64
    assert "style-src 'sha256-" in policy
    assert page.policy(b"<style>\na{}</style>").split("; ")[2] == policy.split("; ")[2]
