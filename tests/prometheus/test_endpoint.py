import asyncio
import contextvars
import logging
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from otpylib_telemetry.exporter.base import ExportContext
from otpylib_telemetry.primitives.listening import Address
from otpylib_telemetry_prometheus.backend import PrometheusBackend
from otpylib_telemetry_prometheus.endpoint import sockets
from otpylib_telemetry_prometheus.endpoint.connections import Limits
from otpylib_telemetry_prometheus.endpoint.server import Endpoint
from otpylib_telemetry_prometheus.endpoint.sockets import EndpointError
from otpylib_telemetry_prometheus.page import Page
from otpylib_telemetry_prometheus.settings import PrometheusSettings
from tests.support.versions import needs_strict_aiohttp
from tests.support.waiting import eventually

LOCAL = "127.0.0.1"
PAGE = b"page 1\n"
TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def page(_request=None):
    return Page(PAGE, TYPE)


async def request(port, path="/metrics", method="GET", host=LOCAL):
    """Return status, headers and body of one request over a connection of its own."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), {line.split(": ")[0].lower(): line.split(": ")[1] for line in lines}, body


async def body(port, **kwargs):
    status, _, content = await request(port, **kwargs)
    assert status == 200
    return content


async def refused(port, host=LOCAL):
    try:
        _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


def taken_port(host=LOCAL):
    sock = socket.create_server((host, 0))
    return sock, sock.getsockname()[1]


@pytest.fixture
async def endpoint():
    endpoint = Endpoint(page)
    yield endpoint
    await endpoint.stop(0.1)


async def test_it_serves_its_page_on_the_port_that_was_found(endpoint):
    assert endpoint.url is None
    await endpoint.place(LOCAL, 0, "/metrics")
    status, headers, content = await request(endpoint.port)
    assert (status, content) == (200, PAGE)
    assert headers["content-type"] == TYPE
    assert headers["content-length"] == str(len(PAGE))
    assert endpoint.url == f"http://127.0.0.1:{endpoint.port}/metrics"
    assert endpoint.serving
    assert endpoint.served == 1


async def test_a_head_request_gets_the_headers_alone(endpoint):
    await endpoint.place(LOCAL, 0, "/metrics")
    status, headers, content = await request(endpoint.port, method="HEAD")
    assert (status, headers["content-length"], content) == (200, str(len(PAGE)), b"")


async def test_one_connection_serves_several_scrapes(endpoint):
    await endpoint.place(LOCAL, 0, "/metrics")
    reader, writer = await asyncio.open_connection(LOCAL, endpoint.port)
    for method, size in (("GET", len(PAGE)), ("HEAD", 0), ("GET", len(PAGE))):
        writer.write(f"{method} /metrics HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(size) == PAGE[:size]
    writer.close()


@pytest.mark.parametrize("path", ["/", "/metrics/", "/metric", "/METRICS", "/metrics/x"])
async def test_elsewhere_is_nothing_but_a_hint(endpoint, path):
    await endpoint.place(LOCAL, 0, "/metrics")
    status, _, content = await request(endpoint.port, path)
    assert status == 404
    assert b"/metrics" in content
    assert endpoint.served == 0


async def test_a_query_does_not_matter(endpoint):
    await endpoint.place(LOCAL, 0, "/metrics")
    assert await body(endpoint.port, path="/metrics?name[]=x") == PAGE


async def test_an_escaped_path_is_found_as_it_is_written(endpoint):
    await endpoint.place(LOCAL, 0, "/my%20metrics")
    assert await body(endpoint.port, path="/my%20metrics") == PAGE


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_refused(endpoint, method):
    await endpoint.place(LOCAL, 0, "/metrics")
    status, headers, _ = await request(endpoint.port, method=method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


async def test_a_taken_port_is_named_and_can_be_had_once_it_is_free(endpoint):
    other, port = taken_port()
    with other:
        with pytest.raises(EndpointError, match=rf"127\.0\.0\.1:{port}: the port is taken"):
            await endpoint.place(LOCAL, port, "/metrics")
        assert not endpoint.serving
        assert endpoint.port is None
    await endpoint.place(LOCAL, port, "/metrics")
    assert await body(port) == PAGE


async def test_it_moves_to_another_port(endpoint):
    await endpoint.place(LOCAL, 0, "/metrics")
    old = endpoint.port
    sock, new = taken_port()
    sock.close()
    await endpoint.place(LOCAL, new, "/metrics")
    assert endpoint.port == new
    assert await body(new) == PAGE
    assert await refused(old)
    assert endpoint.served == 1


async def test_a_move_to_a_taken_port_leaves_it_where_it_was(endpoint):
    await endpoint.place(LOCAL, 0, "/metrics")
    old = endpoint.port
    other, port = taken_port()
    with other, pytest.raises(EndpointError, match="taken"):
        await endpoint.place(LOCAL, port, "/elsewhere")
    assert endpoint.port == old
    assert await body(old) == PAGE


async def test_it_moves_to_every_address_on_the_same_port_and_back(endpoint):
    await endpoint.place(LOCAL, 0, "/metrics")
    port = endpoint.port
    await endpoint.place("0.0.0.0", port, "/metrics")
    assert await body(port, host="127.0.0.2") == PAGE
    await endpoint.place(LOCAL, port, "/metrics")
    assert await body(port) == PAGE
    assert await refused(port, host="127.0.0.2")
    assert endpoint.port == port


async def test_when_another_host_on_the_same_port_cannot_be_had_the_old_one_is_taken_again(endpoint):
    other, port = taken_port("127.0.0.2")
    with other:
        await endpoint.place(LOCAL, port, "/metrics")
        with pytest.raises(EndpointError, match=rf"0\.0\.0\.0:{port}.*taken"):
            await endpoint.place("0.0.0.0", port, "/metrics")
        assert endpoint.serving
        assert endpoint.host == LOCAL
        assert await body(port) == PAGE
    await endpoint.place("0.0.0.0", port, "/metrics")
    assert await body(port, host="127.0.0.2") == PAGE


async def test_when_neither_the_new_nor_the_old_address_can_be_had_it_says_so(endpoint, monkeypatch):
    await endpoint.place(LOCAL, 0, "/metrics")
    port = endpoint.port

    def bind(host, port, _addresses, **_options):
        raise EndpointError(f"cannot serve metrics on {host}:{port}: the port is taken")

    with monkeypatch.context() as patched:
        patched.setattr(sockets, "bind", bind)
        with pytest.raises(EndpointError, match=f"127.0.0.1:{port}, which was served until now"):
            await endpoint.place("0.0.0.0", port, "/metrics")
    assert not endpoint.serving
    await endpoint.place(LOCAL, port, "/metrics")
    assert await body(port) == PAGE


async def test_another_path_needs_no_other_socket(endpoint, monkeypatch):
    await endpoint.place(LOCAL, 0, "/metrics")
    monkeypatch.setattr(sockets, "bind", None)
    await endpoint.place(LOCAL, 0, "/other")
    assert await body(endpoint.port, path="/other") == PAGE
    assert (await request(endpoint.port))[0] == 404


async def test_it_serves_every_address_a_name_stands_for_on_one_port(endpoint):
    await endpoint.place("localhost", 0, "/metrics")
    assert await body(endpoint.port, host="localhost") == PAGE


async def test_an_address_this_machine_lacks_is_left_out_if_the_name_has_another(endpoint, monkeypatch):
    addresses = [Address(socket.AF_INET, (host, 0)) for host in ("192.0.2.1", LOCAL)]

    async def resolve(_host, _port):
        return addresses

    monkeypatch.setattr(sockets, "resolve", resolve)
    await endpoint.place("name", 0, "/metrics")
    assert await body(endpoint.port) == PAGE


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("192.0.2.1", "not an address of this machine"),
        ("no such host.invalid", "cannot be resolved"),
        ("x" * 300, "cannot be resolved"),
    ],
)
async def test_a_host_that_cannot_be_served_on_is_named_with_the_reason(endpoint, host, reason):
    with pytest.raises(EndpointError, match=reason) as refusal:
        await endpoint.place(host, 0, "/metrics")
    assert host in str(refusal.value)
    assert not endpoint.serving


async def test_ipv6_addresses_read_as_such(endpoint):
    try:
        await endpoint.place("::1", 0, "/metrics")
    except EndpointError as error:
        pytest.skip(f"no IPv6 here: {error}")
    assert endpoint.url == f"http://[::1]:{endpoint.port}/metrics"
    assert await body(endpoint.port, host="::1") == PAGE


async def test_a_page_that_cannot_be_made_is_an_error_to_the_scraper_and_reported_once(endpoint, caplog):
    async def broken(_request):
        raise ZeroDivisionError("secret detail")

    endpoint.scrape = broken
    await endpoint.place(LOCAL, 0, "/metrics")
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            status, _, content = await request(endpoint.port)
            assert status == 500
            assert b"ZeroDivisionError" in content
            assert b"secret" not in content
    assert len(caplog.records) == 1
    assert endpoint.failed == 3
    endpoint.scrape = page
    assert await body(endpoint.port) == PAGE


async def test_a_silent_client_holds_up_neither_scrapes_nor_the_end(endpoint):
    await endpoint.place(LOCAL, 0, "/metrics")
    silent = [await asyncio.open_connection(LOCAL, endpoint.port) for _ in range(5)]
    silent[0][1].write(b"GET /metr")
    assert await body(endpoint.port) == PAGE
    await asyncio.wait_for(endpoint.stop(0.2), 60)
    for reader, writer in silent:
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()


async def test_an_idle_connection_does_not_delay_the_end(endpoint):
    await endpoint.place(LOCAL, 0, "/metrics")
    reader, writer = await asyncio.open_connection(LOCAL, endpoint.port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(PAGE)
    await asyncio.wait_for(endpoint.stop(grace=3600), 60)
    assert await reader.read() == b""
    writer.close()


async def stalled(port, size=1 << 16):
    """Return a client that asks for the page and reads nothing of it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((LOCAL, port))
    sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    return sock


async def test_a_client_that_does_not_read_is_cut_off_and_others_are_served_meanwhile():
    async def large(_request):
        return Page(b"x" * 30_000_000, TYPE)

    endpoint = Endpoint(large)
    # Enough for who reads, on any machine.
    await endpoint.place(LOCAL, 0, "/metrics", limits=Limits(scrape_timeout=2.0))
    with await stalled(endpoint.port):
        await asyncio.sleep(0)
        endpoint.scrape = large
        fast = asyncio.create_task(body(endpoint.port))
        assert len(await fast) == 30_000_000
        while not endpoint.cut_off:
            await asyncio.sleep(0.01)
    assert (endpoint.cut_off, endpoint.served) == (1, 1)
    await endpoint.stop(0.1)


async def test_stopping_waits_for_nobody_longer_than_it_was_told():
    started = asyncio.Event()

    async def never(_request):
        started.set()
        await asyncio.Event().wait()

    endpoint = Endpoint(never)
    await endpoint.place(LOCAL, 0, "/metrics")
    port = endpoint.port
    scrape = asyncio.create_task(asyncio.open_connection(LOCAL, port))
    reader, writer = await scrape
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    await started.wait()
    await asyncio.wait_for(endpoint.stop(0.1), 60)
    assert await reader.read() == b""
    assert await refused(port)
    writer.close()


async def test_a_scrape_under_way_is_finished_when_it_moves_or_stops():
    started, go = asyncio.Event(), asyncio.Event()

    async def slow(_request):
        started.set()
        await go.wait()
        return await page()

    endpoint = Endpoint(slow)
    await endpoint.place(LOCAL, 0, "/metrics")
    first = asyncio.create_task(body(endpoint.port))
    await started.wait()
    started.clear()
    sock, port = taken_port()
    sock.close()
    await endpoint.place(LOCAL, port, "/metrics")
    second = asyncio.create_task(body(port))
    await started.wait()
    stopping = asyncio.create_task(endpoint.stop(5))
    await asyncio.sleep(0)
    go.set()
    assert await first == await second == PAGE
    await stopping


async def test_stopping_twice_or_before_it_serves_is_nothing(endpoint):
    await endpoint.stop(0.1)
    await endpoint.place(LOCAL, 0, "/metrics")
    await endpoint.stop(0.1)
    await endpoint.stop(0.1)
    assert not endpoint.serving
    assert endpoint.url is None


async def test_it_does_not_carry_the_context_of_whoever_started_it():
    request_id = contextvars.ContextVar("request_id", default="none")
    seen = []

    async def look(_request):
        seen.append(request_id.get())
        return await page()

    endpoint = Endpoint(look)
    request_id.set("of the one who started it")
    await endpoint.place(LOCAL, 0, "/metrics")
    await body(endpoint.port)
    await endpoint.stop(0.1)
    assert seen == ["none"]


async def test_without_aiohttp_it_says_what_to_install(endpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp.web", None)
    with pytest.raises(EndpointError, match=r"otpylib-telemetry\[prometheus\]"):
        await endpoint.place(LOCAL, 0, "/metrics")


def test_importing_the_exporter_imports_neither_aiohttp_nor_what_others_use():
    code = (
        "import sys, otpylib_telemetry_prometheus\n"
        "unused = {'aiohttp', 'prometheus_client', 'opentelemetry', 'sqlite3', 'multiprocessing'}\n"
        "parts = ('admin', 'command', 'instrument', 'meters', 'poller', 'supervision.suite')\n"
        "unused |= {f'otpylib_telemetry.{part}' for part in parts}\n"
        "assert not unused & set(sys.modules), unused & set(sys.modules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=60, check=False, cwd=root
    )
    assert (done.returncode, done.stderr.strip()) == (0, b""), done.stderr.decode()


# --- the exporter around it


class Server:
    """Stands in for the process that runs the exporter: lends it memory, and events to catch up with."""

    def __init__(self):
        self.pending = []
        self.backend = None
        self.context = ExportContext("prometheus_exporter", "telemetry.prometheus", {}, self.catch_up, dict)

    def start(self, **values):
        self.backend = PrometheusBackend(PrometheusSettings(port=0, **values), self.context)
        return self.backend

    async def catch_up(self):
        events, self.pending = self.pending, []
        collected = self.backend.collect(events, 0)
        assert collected.events() == len(events)

    async def apply(self, **values):
        wanted = self.backend.settings.model_copy(update=values)
        return await self.backend.apply(wanted, frozenset(values))

    async def scrape(self, **kwargs):
        return (await body(self.backend.stats()["port"], **kwargs)).decode()

    def emit(self, name, measurements=None, metadata=None, at=0, emitter=1):
        self.pending.append((name, measurements or {}, metadata or {}, at, emitter))


@pytest.fixture
async def server():
    server = Server()
    yield server
    if server.backend is not None:
        await server.backend.close()


async def test_a_scrape_shows_every_event_emitted_before_it(server):
    await server.start().open()
    server.emit("hits", {"count": 1})
    assert "\nhits_total 1\n" in await server.scrape()
    server.emit("hits", {"count": 1})
    assert "\nhits_total 2\n" in await server.scrape()
    stats = server.backend.stats()
    assert (stats["scrapes"], stats["series"], stats["metrics"]) == (2, 1, 1)
    assert stats["scrape_bytes"] == len(await server.scrape())


async def test_events_are_accounted_for_when_they_are_collected(server):
    backend = server.start()
    events = [
        ("hits", {"count": 1}, {}, 0, 1),
        ("hits", {"count": -1}, {}, 0, 1),
        ("note", {}, {}, 0, 1),
    ]
    collected = backend.collect(events, 0)
    assert (collected.exported, collected.rejected, collected.items) == (2, 1, [])
    stats = backend.stats()
    assert stats["unused"] == 1
    assert sum(stats["samples_refused"].values()) == 1
    assert backend.held == 0
    assert await backend.export([]) is None


async def test_events_are_aggregated_while_the_port_is_taken_and_served_once_it_is_free(server):
    other, port = taken_port()
    backend = server.start()
    backend.settings = backend.settings.model_copy(update={"port": port})
    with other:
        with pytest.raises(EndpointError, match="taken"):
            await backend.open()
        await backend.close()
        server.emit("hits", {"count": 1})
        await server.catch_up()
        assert backend.stats()["port"] is None
    await backend.open()
    assert "hits_total 1" in await server.scrape()


async def test_moving_loses_no_series(server):
    await server.start().open()
    server.emit("hits", {"count": 1})
    await server.catch_up()
    sock, port = taken_port()
    sock.close()
    for values in ({"port": port}, {"host": "0.0.0.0"}, {"path": "/elsewhere"}):
        assert await server.apply(**values)
    assert server.backend.stats()["port"] == port
    assert "hits_total 1" in await server.scrape(path="/elsewhere")


async def test_settings_are_applied_entirely_or_not_at_all(server):
    await server.start().open()
    server.emit("hits", {"count": 1})
    other, port = taken_port()
    with other, pytest.raises(EndpointError, match="taken"):
        await server.apply(port=port, namespace="new", max_series=1)
    assert "\nhits_total 1\n" in await server.scrape()
    assert server.backend.settings.namespace is None
    assert await server.apply(port=port, namespace="new", max_series=1)
    assert "\nnew_hits_total 1\n" in await server.scrape()
    assert server.backend.stats()["port"] == port


async def test_changed_settings_count_from_the_next_event_on(server):
    await server.start().open()
    event = ("job.stop", {"duration_ms": 1500, "count": 1}, {"a": "1", "b": "2"})
    server.emit(*event)
    await server.catch_up()
    assert await server.apply(
        buckets=(1.0, 2.0),
        drop_labels=("b",),
        global_labels={"env": "test"},
        span_metrics=False,
        max_series=1,
    )
    server.emit(*event)
    page = await server.scrape()
    assert 'job_stop_total{a="1",b="2",env="test"} 1' in page
    assert 'job_stop_total{env="test",otel_metric_overflow="true"} 1' in page
    assert 'job_stop_duration_seconds_bucket{a="1",env="test",le="2.0"} 1' in page
    assert 'le="0.005"' not in page
    assert server.backend.stats()["overflowing"] == ["job_stop_total"]


async def test_series_open_operations_and_the_found_port_survive_a_restart(server):
    await server.start().open()
    server.emit("job.start", metadata={"worker": "a"})
    server.emit("hits", {"count": 1})
    await server.catch_up()
    port = server.backend.stats()["port"]
    crashed = server.backend
    await crashed.close()
    await server.start().open()
    assert server.backend.stats()["port"] == port
    server.emit("job.stop", at=2_000_000_000)
    page = await server.scrape()
    assert "\nhits_total 1\n" in page
    assert 'job_in_flight{worker="a"} 0' in page
    assert 'job_duration_seconds_sum{outcome="success",worker="a"} 2\n' in page


async def test_one_that_has_been_succeeded_does_not_close_its_successor_s_endpoint(server):
    await server.start().open()
    old, port = server.backend, server.backend.stats()["port"]
    await server.start(namespace="new").open()
    await old.close()
    server.emit("hits", {"count": 1})
    assert "new_hits_total 1" in await server.scrape()
    assert server.backend.stats()["port"] == port


async def test_the_clock_and_the_end_give_up_open_operations(server):
    backend = server.start()
    for emitter in (1, 2, 3):
        server.emit("job.start", emitter=emitter, at=0 if emitter < 3 else 10**12)
    await server.catch_up()
    assert backend.stats()["open_operations"] == 3
    assert backend.tick(0, 0, lambda emitter: emitter != 1).events() == 0
    assert backend.tick(300 * 10**9, 0, lambda _emitter: True).events() == 0
    assert backend.give_up_held(0).events() == 0
    stats = backend.stats()
    assert stats["open_operations"] == 0
    assert stats["operations_given_up"] == {"emitter gone": 1, "expired": 1, "stopped": 1}
    assert stats["series"] == 1


async def test_what_is_refused_is_reported_once_under_the_exporter_s_name(server, caplog):
    server.start()
    for _ in range(3):
        server.emit("a", {"count": 1})
        server.emit("a.total", {"value": 1})
    await server.catch_up()
    (record,) = caplog.records
    assert record.getMessage().startswith("prometheus_exporter: metric a_total (gauge) is left out")
    assert list(server.backend.stats()["metrics_refused"]) == ["a_total"]


def test_an_endpoint_left_behind_by_a_loop_that_is_gone_does_not_keep_its_port():
    server = Server()

    async def first_life():
        await server.start().open()
        return server.backend.stats()["port"]

    async def second_life():
        await server.start().open()
        port = server.backend.stats()["port"]
        await server.scrape()
        await server.backend.close()
        return port

    loop = asyncio.new_event_loop()
    port = loop.run_until_complete(first_life())
    loop.close()
    assert asyncio.run(second_life()) == port


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET /metrics HTTP/1.1\r\n\r\n\r\n", marks=needs_strict_aiohttp),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"\x00\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_counted_and_not_logged(sent, caplog):
    endpoint = Endpoint(page)
    await endpoint.place(LOCAL, 0, "/metrics")
    try:
        reader, writer = await asyncio.open_connection(LOCAL, endpoint.port)
        writer.write(sent)
        await asyncio.wait_for(reader.read(), 60)
        writer.close()
        assert await body(endpoint.port) == PAGE
    finally:
        await endpoint.stop(0.1)
    assert caplog.records == []


# --- clients that go away, or say that they will ask no more ------------------------------------------------


async def half_closed(port, sent):
    """What comes for a request whose sender closes its half at once, until the endpoint closes too."""
    reader, writer = await asyncio.open_connection(LOCAL, port)
    writer.write(sent)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return answer


ASKED = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("sent", [ASKED, ASKED * 3, b"GET /metrics HTTP/1.0\r\n\r\n"])
async def test_who_closes_its_half_is_answered(endpoint, sent):
    await endpoint.place(LOCAL, 0, "/metrics")
    answer = await half_closed(endpoint.port, sent)
    assert answer.count(b" 200 OK") == answer.count(PAGE) == sent.count(b"GET")
    assert endpoint.connections == 0


async def test_who_closes_its_half_is_answered_though_the_page_takes_its_time(endpoint):
    async def slow(_request):
        await asyncio.sleep(0.3)
        return await page()

    endpoint.scrape = slow
    await endpoint.place(LOCAL, 0, "/metrics")
    assert PAGE in await half_closed(endpoint.port, ASKED)


@pytest.mark.parametrize("sent", [b"", b"GET /metr", ASKED[:-2]])
async def test_who_closes_its_half_without_having_asked_is_let_go(endpoint, sent, caplog):
    await endpoint.place(LOCAL, 0, "/metrics")
    assert b"200" not in await half_closed(endpoint.port, sent)
    assert endpoint.counts.timed_out == 0
    assert caplog.records == []


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_who_goes_away_in_the_middle_of_an_answer_is_counted_and_not_logged(endpoint, how, caplog):
    async def large(_request):
        return Page(b"x" * 8_000_000, TYPE)

    endpoint.scrape = large
    await endpoint.place(LOCAL, 0, "/metrics")
    for number in range(1, 4):
        sock = socket.create_connection((LOCAL, endpoint.port))
        sock.sendall(ASKED)
        await asyncio.to_thread(sock.recv, 1_000)
        if how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        await eventually(lambda number=number: endpoint.abandoned == number)
    assert (endpoint.served, endpoint.unintelligible, endpoint.cut_off, endpoint.failed) == (0, 0, 0, 0)
    assert caplog.records == []


async def test_who_goes_away_before_there_is_an_answer_is_no_error_either(endpoint, caplog):
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_request):
        asked.set()
        await go_on.wait()
        return Page(b"x" * 8_000_000, TYPE)

    endpoint.scrape = slow
    await endpoint.place(LOCAL, 0, "/metrics")
    sock = socket.create_connection((LOCAL, endpoint.port))
    sock.sendall(ASKED)
    await asked.wait()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    await asyncio.sleep(0.05)
    go_on.set()
    await eventually(lambda: endpoint.connections == 0)
    assert (endpoint.unintelligible, endpoint.failed) == (0, 0)
    assert caplog.records == []


# --- every address ------------------------------------------------------------------------------------------


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("host", ["::", ""])
async def test_every_address_is_ipv4_as_well(endpoint, host):
    await endpoint.place(host, 0, "/metrics")
    for address in (LOCAL, "::1", "127.0.0.2"):
        assert await body(endpoint.port, host=address) == PAGE
    port = endpoint.port
    for other in (LOCAL, host, "0.0.0.0", host, "::1", host):
        await endpoint.place(other, port, "/metrics")
    assert await body(port) == PAGE


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
async def test_an_address_of_ipv4_may_be_written_as_one_of_ipv6(endpoint):
    await endpoint.place("::ffff:127.0.0.1", 0, "/metrics")
    assert await body(endpoint.port, host=LOCAL) == PAGE


@pytest.mark.parametrize("host", ["", "  ", "::", "[::]"])
def test_every_address_can_be_written_so(host):
    assert PrometheusSettings(host=host).host == host.strip(" []")
