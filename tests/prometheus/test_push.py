"""Pushing to a real Pushgateway, and to one that misbehaves."""

import asyncio
import base64
import http.server
import logging
import threading
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpylib_telemetry.config.resolution import redacted
from otpylib_telemetry.config.resolve import resolve
from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from otpylib_telemetry_prometheus.push import Pusher, PushPlan, group_url
from otpylib_telemetry_prometheus.settings import PrometheusSettings
from tests.support.pushgateway import PASSWORD, USER
from tests.support.waiting import eventually

LOG = "otpylib_telemetry.prometheus"


class Page:
    """A page with one counter on it."""

    def __init__(self):
        self.value = 1
        self.error = None

    async def __call__(self):
        if self.error is not None:
            raise self.error
        return f"# TYPE shop_sales_total counter\nshop_sales_total {self.value}\n".encode()


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def plan(url, **settings):
    return PushPlan.of(PrometheusSettings(push_url=url, **settings))


def pusher(url, page=None, clock=None, **settings):
    made = Pusher(page or Page(), "prometheus_exporter", **({"clock": clock} if clock else {}))
    made.configure(plan(url, **settings))
    return made


async def said(gateway, name="shop_sales_total", **labels):
    return await asyncio.to_thread(gateway.value, name, **labels)


# --- what it does at a real gateway


async def test_a_push_replaces_what_was_there_for_the_group(pushgateway):
    gateway = pushgateway()
    page = Page()
    pushing = pusher(gateway.url, page, push_job="night", push_grouping={"instance": "a"})
    assert await pushing.push_now()
    assert await said(gateway, job="night", instance="a") == 1

    async def another():
        return b"# TYPE shop_refunds_total counter\nshop_refunds_total 3\n"

    pushing.page = another
    assert await pushing.push_now()
    assert await said(gateway) is None
    assert await said(gateway, "shop_refunds_total", job="night", instance="a") == 3
    assert pushing.stats() | {"url": ""} == {
        "url": "",
        "pushes": 2,
        "failures": 0,
        "failing": False,
        "trouble": None,
    }


AWKWARD = {
    "path": "/srv/data",
    "empty": "",
    "blank": "a b",
    "greek": "Προμηθεύς",
    "plus": "a+b%2F",
    "dots": "..",
    "dot": ".",
    "query": "a?b#c",
}


async def test_every_job_and_label_value_arrives_as_it_is(pushgateway):
    gateway = pushgateway()
    pushing = pusher(gateway.url, push_job="nightly/für alle", push_grouping=AWKWARD)
    assert await pushing.push_now(), pushing.trouble
    (labels,) = [
        dict(labels)
        for (name, labels) in await asyncio.to_thread(gateway.samples)
        if name == "shop_sales_total"
    ]
    assert labels.pop("job") == "nightly/für alle"
    assert {name: labels.get(name) for name in AWKWARD} == AWKWARD


@pytest.mark.parametrize("section", ["prometheus", "telemetry.inner"])
async def test_a_job_and_label_values_that_are_no_unicode_are_pushed(pushgateway, section):
    gateway = pushgateway()
    resolution = resolve(
        PrometheusSettings,
        section,
        environ={"OTEL_SERVICE_NAME": "caf\udce9"},
        config={
            "push_url": gateway.url,
            "push_grouping": {"host": "a\ud800"},
            "global_labels": {"team": "b\udfff"},
        },
    )
    assert resolution.problems == ()
    assert resolution.settings.global_labels == {"team": "b?"}
    pushing = Pusher(Page(), "prometheus_exporter")
    pushing.configure(PushPlan.of(resolution.settings))
    assert await pushing.push_now(), pushing.trouble
    assert await said(gateway, job="caf?", host="a?") == 1


@given(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True), st.text(max_size=8)))
def test_the_path_of_a_group_can_be_read_back(grouping):
    grouping.pop("job", None)
    try:
        "".join(grouping.values()).encode()
    except UnicodeEncodeError:
        return
    _, _, path = group_url("http://gateway:9091/sub/", "j", grouping).partition("/sub/metrics/")
    parts = path.split("/")
    read = {}
    for name, value in zip(parts[::2], parts[1::2], strict=True):
        assert value not in {"", ".", ".."}
        bare, at, _ = name.partition("@base64")
        padded = value + "=" * (-len(value) % 4) if value != "=" else ""
        read[bare] = base64.urlsafe_b64decode(padded).decode() if at else urllib.parse.unquote(value)
    assert read == {"job": "j", **grouping}


async def test_an_outage_is_said_once_and_so_is_its_end(pushgateway, caplog):
    gateway = pushgateway()
    page = Page()
    pushing = pusher(gateway.url, page, push_interval=15)
    await asyncio.to_thread(gateway.stop)
    with caplog.at_level(logging.INFO, LOG):
        for _ in range(3):
            assert not await pushing.push_now()
        assert len(caplog.records) == 1
        assert f"cannot push its metrics to {gateway.address}/metrics/job/otpylib" in caplog.text
        assert "tried again every 15 s" in caplog.text
        assert pushing.stats()["failing"]
        await asyncio.to_thread(gateway.start)
        page.value = 7
        assert await pushing.push_now()
        assert await pushing.push_now()
    assert [record.getMessage() for record in caplog.records][1:] == [
        f"prometheus_exporter pushes its metrics to {gateway.address}/metrics/job/otpylib again."
    ]
    assert await said(gateway) == 7
    assert (pushing.pushes, pushing.failures) == (2, 3)


async def test_a_refusal_is_reported_in_the_gateway_s_words(pushgateway, caplog):
    gateway = pushgateway()
    await asyncio.to_thread(
        gateway.put, "/metrics/job/other", "# TYPE shop_sales_total gauge\nshop_sales_total 1\n"
    )
    pushing = pusher(gateway.url)
    with caplog.at_level(logging.INFO, LOG):
        assert not await pushing.push_now()
    (record,) = caplog.records
    assert "the gateway answers with status 400: " in record.getMessage()
    assert "pushed metrics are invalid or inconsistent with existing metrics" in record.getMessage()
    assert "shop_sales_total" in record.getMessage()


async def test_the_credentials_are_used_and_shown_nowhere(pushgateway, caplog):
    gateway = pushgateway(protected=True)
    pushing = pusher(gateway.url)
    assert await pushing.push_now(), pushing.trouble
    assert await said(gateway) == 1
    wrong = pusher(gateway.url.replace(PASSWORD, "wr0ng-pa55"))
    with caplog.at_level(logging.INFO, LOG):
        assert not await wrong.push_now()
    assert "status 401" in caplog.text
    for text in (caplog.text, repr(plan(gateway.url)), str(pushing.stats()), str(wrong.stats())):
        assert PASSWORD not in text
        assert "wr0ng" not in text
        assert USER not in text


def test_the_credentials_are_in_no_dump_of_the_settings():
    url = "http://batch:s3cret@gateway:9091"
    resolution = resolve(PrometheusSettings, "prometheus", environ={}, config={"push_url": url})
    assert resolution.problems == ()
    assert resolution.settings.push_url == url
    for text in (str(redacted(resolution)), repr(resolution.settings), resolution.settings.model_dump_json()):
        assert "s3cret" not in text
        assert "gateway:9091" in text


def test_credentials_may_have_any_character():
    made = plan("http://us%40er:p%3Aa%2Fss@gateway:9091/sub/")
    assert made.credentials == ("us@er", "p:a/ss")
    assert made.url == "http://gateway:9091/sub/metrics/job/otpylib"


def test_the_job_is_the_service_s_name_unless_it_is_said():
    environ = {"OTEL_SERVICE_NAME": "shop"}
    settings = resolve(PrometheusSettings, "prometheus", environ=environ, config={}).settings
    assert settings.push_job == "shop"
    of_instance = resolve(PrometheusSettings, "telemetry.inner", environ=environ, config={}).settings
    assert of_instance.push_job == "shop"


# --- proxies


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Proxy(http.server.BaseHTTPRequestHandler):
    """Takes pushes itself, and refuses whoever asks for a connection."""

    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200)

    def do_CONNECT(self):
        self.answer(407)

    def answer(self, status):
        self.server.asked.append((self.command, self.path, self.headers["Proxy-Authorization"]))
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def proxy():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


TOLD = f"Basic {base64.b64encode(b'me:p@ss').decode()}"


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
async def test_a_push_goes_through_the_proxy_of_the_environment(monkeypatch, proxy, variable):
    monkeypatch.setenv(variable, f"http://me:p%40ss@127.0.0.1:{proxy.server_port}")
    pushing = pusher("http://gateway.invalid:9091", push_job="nightly")
    assert await pushing.push_now(), pushing.trouble
    assert proxy.asked == [("PUT", "http://gateway.invalid:9091/metrics/job/nightly", TOLD)]


async def test_a_proxy_that_refuses_is_named_and_its_password_is_not(monkeypatch, proxy, caplog):
    monkeypatch.setenv("https_proxy", f"http://me:p%40ss@127.0.0.1:{proxy.server_port}")
    pushing = pusher("https://gateway.invalid")
    assert not await pushing.push_now()
    assert proxy.asked == [("CONNECT", "gateway.invalid:443", TOLD)]
    assert "407" in pushing.trouble
    assert pushing.trouble.endswith(f"(through the proxy 127.0.0.1:{proxy.server_port})")
    assert "p@ss" not in caplog.text
    assert "p%40ss" not in caplog.text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("ftp://127.0.0.1:1", "the environment variable http_proxy names no proxy"),
        ("socks5://127.0.0.1:1", "the proxy 127.0.0.1:1 speaks SOCKS: expected one that speaks HTTP"),
        ("http://me:secret@127.0.0.1:1", "(through the proxy 127.0.0.1:1)"),
    ],
)
async def test_a_proxy_that_cannot_be_used_is_said(monkeypatch, value, said):
    monkeypatch.setenv("http_proxy", value)
    pushing = pusher("http://gateway.invalid:9091")
    assert not await pushing.push_now()
    assert said in pushing.trouble
    assert "secret" not in pushing.trouble


@pytest.mark.parametrize("excepted", ["*", "127.0.0.0/8", "localhost, 127.0.0.1"])
async def test_a_gateway_that_is_excepted_is_reached_without_a_proxy(
    monkeypatch, pushgateway, proxy, excepted
):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}")
    monkeypatch.setenv("no_proxy", excepted)
    gateway = pushgateway()
    pushing = pusher(gateway.url)
    assert await pushing.push_now(), pushing.trouble
    assert proxy.asked == []
    assert await said(gateway) == 1


# --- the last push


async def test_the_last_push_has_what_was_counted_last(pushgateway):
    gateway = pushgateway()
    page = Page()
    pushing = pusher(gateway.url, page, push_interval=3600)
    page.value = 99
    assert await pushing.stop(5)
    assert await said(gateway) == 99
    pushing.tick()
    assert pushing.stats() == {}


async def test_the_last_push_is_tried_again_while_there_is_time(pushgateway, caplog):
    gateway = pushgateway()
    page = Page()
    attempts = []

    async def reluctant():
        attempts.append(1)
        if len(attempts) < 3:
            raise ConnectionError("not yet")
        return await page()

    pushing = pusher(gateway.url, reluctant)
    assert await pushing.stop(20)
    assert await said(gateway) == 1
    assert (pushing.pushes, pushing.failures) == (1, 2)
    assert "ends without" not in caplog.text


async def test_a_last_push_that_is_refused_is_not_tried_again(pushgateway, caplog):
    gateway = pushgateway()
    pushing = pusher(gateway.url, lambda: asyncio.sleep(0, b"no metrics {"))
    assert not await pushing.stop(20)
    assert pushing.failures == 1
    assert "ends without its last push" in caplog.text
    assert "status 400: text format parsing error" in caplog.text


async def test_a_last_push_that_fails_is_said_with_its_reason(caplog):
    pushing = pusher(f"http://127.0.0.1:{free_port()}", push_interval=5)
    assert not await pushing.stop(5)
    assert pushing.failures == 3
    (record,) = caplog.records
    assert "ends without its last push to http://127.0.0.1:" in record.getMessage()
    assert ": Connection refused" in record.getMessage()


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


async def test_a_silent_gateway_takes_no_longer_than_there_is_time(silent, caplog):
    pushing = pusher(silent)
    async with asyncio.timeout(5):
        assert not await pushing.stop(0.3)
    # On a busy machine nobody may be left to count the failure.
    assert ("it took longer than 0." if pushing.failures else "(time is up)") in caplog.text


async def test_a_last_push_is_not_cut_short_by_a_cancellation(pushgateway):
    gateway, page = pushgateway(), Page()
    going_on = asyncio.Event()

    async def slow():
        await going_on.wait()
        return await page()

    stopping = asyncio.create_task(pusher(gateway.url, slow).stop(20))
    await asyncio.sleep(0.02)
    stopping.cancel()
    await asyncio.sleep(0.02)
    stopping.cancel()
    going_on.set()
    assert await stopping
    assert await said(gateway) == 1


async def test_a_push_under_way_gives_way_to_the_last_one(silent):
    clock = Clock()
    pushing = pusher(silent, clock=clock, push_interval=15)
    clock.now += 16
    pushing.tick()
    await asyncio.sleep(0.02)
    async with asyncio.timeout(5):
        await pushing.stop(1)
    assert pushing.failures == 1


# --- when


async def test_nothing_is_pushed_without_a_url():
    pushing = Pusher(Page(), "prometheus_exporter")
    pushing.configure(PushPlan.of(PrometheusSettings()))
    pushing.tick()
    assert await pushing.push_now()
    assert await pushing.stop(1)
    assert (pushing.pushes, pushing.failures, pushing.stats()) == (0, 0, {})


async def test_a_push_begins_with_every_interval_and_never_while_one_is_under_way(silent):
    clock, calls, going_on = Clock(), [], asyncio.Event()

    async def page():
        calls.append(clock.now)
        await going_on.wait()
        raise RuntimeError("enough")

    pushing = pusher(silent, page, clock, push_interval=15)
    pushing.tick()
    await asyncio.sleep(0)
    assert calls == []
    for _ in range(60):
        clock.now += 1
        pushing.tick()
        await asyncio.sleep(0)
    assert len(calls) == 1
    going_on.set()
    await eventually(lambda: pushing.failures == 1)
    clock.now += 1
    pushing.tick()
    await asyncio.sleep(0)
    assert len(calls) == 2
    pushing.configure(None)
    clock.now += 100
    pushing.tick()
    await asyncio.sleep(0)
    assert len(calls) == 2
    await pushing.stop(1)


async def test_without_an_interval_it_is_pushed_at_the_end_only(pushgateway):
    gateway, clock = pushgateway(), Clock()
    pushing = pusher(gateway.url, clock=clock)
    clock.now += 10**6
    pushing.tick()
    await asyncio.sleep(0.05)
    assert pushing.pushes == 0
    assert await pushing.stop(5)
    assert pushing.pushes == 1


async def test_another_gateway_is_used_from_the_next_push_on(pushgateway, caplog):
    gateway = pushgateway()
    pushing = pusher(f"http://127.0.0.1:{free_port()}")
    assert not await pushing.push_now()
    pushing.configure(plan(gateway.url))
    assert pushing.trouble is None
    with caplog.at_level(logging.INFO, LOG):
        caplog.clear()
        assert await pushing.push_now()
    assert caplog.records == []  # nothing has recovered: it is another one
    assert await said(gateway) == 1


async def test_a_page_that_cannot_be_made_is_a_failure_with_its_reason(pushgateway, caplog):
    gateway, page = pushgateway(), Page()
    pushing = pusher(gateway.url, page)
    page.error = ValueError("no page today")
    assert not await pushing.push_now()
    assert "the page could not be made: ValueError: no page today" in caplog.text
    page.error = None
    assert await pushing.push_now()


async def test_a_redirection_is_not_followed(caplog):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        pushing = pusher(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert not await pushing.push_now()
    assert "the gateway answers with status 302" in caplog.text
