"""The exporter's page in servers of the user's own: real ones, on other threads and other event loops."""

import asyncio
import contextvars
import gzip
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from otpylib import gen_server

from otpylib_telemetry import emit_counter
from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from otpylib_telemetry_prometheus import asgi_app, start_prometheus_exporter, wsgi_app
from otpylib_telemetry_prometheus.mount import in_process
from otpylib_telemetry_prometheus.mount.in_process import PageSource, UnavailableError
from otpylib_telemetry_prometheus.page import Page, ScrapeRequest
from tests.support.chassis import runner
from tests.support.waiting import eventually, wait_until
from tests.support.web import AsgiServer, wsgi_server

ROOT = Path(__file__).parents[2]
NAME = "prometheus_exporter"


async def start(name=None, **settings):
    registered = NAME if name is None else f"{name}_exporter"
    await start_prometheus_exporter({"serve": False, "event_patterns": ["shop.*"], **settings}, name=name)
    await eventually(lambda: runner(registered).lifecycle.health.status == "running")


def fetch(url, method="GET", **headers):
    """Status, headers and body."""
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


SERVERS = pytest.mark.parametrize(
    ("make_app", "serve"), [(asgi_app, AsgiServer), (wsgi_app, wsgi_server)], ids=["asgi", "wsgi"]
)


@SERVERS
async def test_the_page_is_served_at_whatever_path_it_is_mounted(runtime, make_app, serve):
    await start()
    with serve(make_app()) as url:
        for count, path in enumerate(("/", "/metrics", "/internal/metrics"), start=1):
            await emit_counter("shop.orders")
            status, headers, body = await asyncio.to_thread(fetch, url + path)
            assert status == 200
            assert f"shop_orders_total {count}".encode() in body
            assert headers["content-type" if serve is AsgiServer else "Content-Type"].startswith("text/plain")


class _Backend:
    """An exporter that tells what it was asked for, or does what it is told."""

    def __init__(self, scrape, timeout=5.0):
        self.page_source = PageSource(scrape, asyncio.get_running_loop(), timeout)


@pytest.fixture
def scripted(monkeypatch):
    """A function that puts an exporter in place."""

    def put(scrape, timeout=5.0):
        source = _Backend(scrape, timeout).page_source
        monkeypatch.setattr(
            "otpylib_telemetry_prometheus.mount.in_process.page_source_of", lambda _name: source
        )

    return put


@SERVERS
async def test_the_scraper_gets_what_it_asks_for(scripted, make_app, serve):
    asked = []

    async def scrape(request):
        asked.append((request, asyncio.get_running_loop()))
        return Page(gzip.compress(b"page"), "application/openmetrics-text", "gzip")

    scripted(scrape)
    with serve(make_app()) as url:
        status, headers, body = await asyncio.to_thread(
            fetch, f"{url}/?name[]=a&name[]=b%20c&x=1", Accept="text/plain;q=1", **{"Accept-Encoding": "gzip"}
        )
    headers = {name.lower(): value for name, value in headers.items()}
    assert (status, gzip.decompress(body)) == (200, b"page")
    assert headers["content-encoding"] == "gzip"
    assert headers["content-type"] == "application/openmetrics-text"
    assert headers["vary"] == "Accept, Accept-Encoding"
    assert headers["content-length"] == str(len(body))
    assert asked == [(ScrapeRequest("text/plain;q=1", "gzip", ("a", "b c")), asyncio.get_running_loop())]


@SERVERS
async def test_head_gets_the_headers_alone_and_other_methods_nothing(scripted, make_app, serve):
    async def scrape(_request):
        return Page(b"page", "text/plain")

    scripted(scrape)
    with serve(make_app()) as url:
        status, headers, body = await asyncio.to_thread(fetch, url, "HEAD")
        assert (status, {k.lower(): v for k, v in headers.items()}["content-length"], body) == (200, "4", b"")
        status, headers, _ = await asyncio.to_thread(fetch, url, "POST")
        assert (status, {k.lower(): v for k, v in headers.items()}["allow"]) == (405, "GET, HEAD")


@SERVERS
async def test_without_the_exporter_it_says_so(runtime, make_app, serve):
    with serve(make_app()) as url:
        assert (await asyncio.to_thread(fetch, url))[::2] == (
            503,
            b"no exporter named prometheus_exporter runs in this process\n",
        )
        await start()
        assert (await asyncio.to_thread(fetch, url))[0] == 200
        change = ("config_changed", "telemetry.prometheus.enabled", True, False)
        await gen_server.cast(NAME, change)
        await eventually(lambda: runner(NAME).lifecycle.health.status == "disabled")
        assert (await asyncio.to_thread(fetch, url))[::2] == (
            503,
            b"prometheus_exporter is disabled: enabled is false\n",
        )


@SERVERS
async def test_a_page_that_does_not_come_is_waited_for_within_limits(scripted, make_app, serve):
    cancelled = asyncio.Event()

    async def endless(_request):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    scripted(endless, timeout=0.05)
    with serve(make_app()) as url:
        assert (await asyncio.to_thread(fetch, url))[::2] == (
            503,
            b"prometheus_exporter has not answered within 0.05 s\n",
        )
        await asyncio.wait_for(cancelled.wait(), 60)


@SERVERS
async def test_an_event_loop_that_is_blocked_or_gone_is_waited_for_no_longer(monkeypatch, make_app, serve):
    async def scrape(_request):
        return Page(b"page", "text/plain")

    loop = asyncio.new_event_loop()
    source = PageSource(scrape, loop, 0.05)
    monkeypatch.setattr("otpylib_telemetry_prometheus.mount.in_process.page_source_of", lambda _name: source)
    with serve(make_app()) as url:
        assert (await asyncio.to_thread(fetch, url))[::2] == (
            503,
            b"prometheus_exporter has not answered within 0.05 s\n",
        )
        await asyncio.to_thread(_run_what_waits, loop)
        loop.close()
        assert (await asyncio.to_thread(fetch, url))[::2] == (503, b"the exporter's event loop has ended\n")


def _run_what_waits(loop):
    loop.run_until_complete(asyncio.sleep(0.01))


@SERVERS
async def test_a_page_that_cannot_be_made_is_an_error(scripted, make_app, serve):
    async def broken(_request):
        raise ZeroDivisionError("secret detail")

    scripted(broken)
    with serve(make_app()) as url:
        assert (await asyncio.to_thread(fetch, url))[::2] == (
            500,
            b"the metrics could not be collected: ZeroDivisionError\n",
        )


async def test_asgi_serves_on_the_exporter_s_own_loop_too(runtime):
    await start()
    await emit_counter("shop.orders")
    page = await in_process.fetch(NAME, ScrapeRequest())
    assert b"shop_orders_total 1" in page.body


async def test_wsgi_on_the_exporter_s_own_loop_says_why_that_cannot_be(runtime):
    await start()
    with pytest.raises(UnavailableError, match="mount asgi_app there"):
        in_process.fetch_from_thread(NAME, ScrapeRequest())


async def test_the_page_is_not_made_in_the_context_of_whoever_asks(scripted):
    user = contextvars.ContextVar("user", default="nobody")
    seen = []

    async def scrape(_request):
        seen.append(user.get())
        return Page(b"page", "text/plain")

    scripted(scrape)
    user.set("who asks")
    await in_process.fetch(NAME, ScrapeRequest())
    await asyncio.to_thread(in_process.fetch_from_thread, NAME, ScrapeRequest())
    assert seen == ["nobody", "nobody"]


async def test_each_further_exporter_has_an_app_of_its_own_and_others_have_none(runtime):
    await start()
    await start("audit", event_patterns=["shop.audit"])
    await emit_counter("shop.audit")
    await emit_counter("shop.orders")
    body = (await in_process.fetch("audit_exporter", ScrapeRequest())).body
    assert b"shop_audit_total 1" in body
    assert b"shop_orders" not in body


async def test_a_port_that_is_taken_does_not_matter_to_the_mounted_page(runtime):
    port = free_port()
    await start(serve=True, port=port)
    await start_prometheus_exporter({"port": port, "event_patterns": ["shop.*"]}, name="second")
    await eventually(lambda: runner("second_exporter").lifecycle.health.status == "degraded")
    await emit_counter("shop.orders")
    assert b"shop_orders_total 1" in (await in_process.fetch("second_exporter", ScrapeRequest())).body


async def test_asgi_answers_lifespan_and_refuses_websockets():
    app = asgi_app()

    async def talk(scope_type, *messages):
        waiting, sent = [{"type": message} for message in messages], []

        async def receive():
            return waiting.pop(0)

        async def send(message):
            sent.append(message["type"])

        await app({"type": scope_type}, receive, send)
        return sent

    assert await talk("lifespan", "lifespan.startup", "lifespan.shutdown") == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert await talk("websocket", "websocket.connect") == ["websocket.close"]
    with pytest.raises(ValueError, match="mqtt"):
        await talk("mqtt")


APPLICATION = """
import asyncio, threading
from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend
from otpylib_telemetry import emit_counter
from otpylib_telemetry_prometheus import start_prometheus_exporter, wsgi_app

async def run():
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    await start_prometheus_exporter({"serve": False, "event_patterns": ["shop.*"]})
    await emit_counter("shop.orders")
    await asyncio.Event().wait()

threading.Thread(target=asyncio.run, args=(run(),), daemon=True).start()
app = wsgi_app()
"""


def test_a_gunicorn_with_threads_serves_it(tmp_path):
    (tmp_path / "application.py").write_text(APPLICATION)
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--threads", "2"]
    command += [
        "--bind",
        f"127.0.0.1:{port}",
        "--log-level",
        "warning",
        "--no-control-socket",
        "application:app",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as server:
        try:

            def served():
                assert server.poll() is None
                status, _, body = fetch(f"http://127.0.0.1:{port}/metrics")
                return status == 200 and b"shop_orders_total 1" in body

            wait_until(served, 60)
        finally:
            server.terminate()
            server.wait(10)
