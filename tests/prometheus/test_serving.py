"""Who gets the page, over what, and what becomes of clients that are slow, silent, many or unwelcome."""

import asyncio
import base64
import contextlib
import errno
import logging
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from pydantic import SecretStr

from otpylib_telemetry.config.live import LiveConfig
from otpylib_telemetry.config.resolution import redacted
from otpylib_telemetry.config.resolve import resolve
from otpylib_telemetry.exporter.base import ExportContext
from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from otpylib_telemetry_prometheus.backend import PrometheusBackend
from otpylib_telemetry_prometheus.endpoint import listener as listener_module
from otpylib_telemetry_prometheus.endpoint import tls as tls_module
from otpylib_telemetry_prometheus.endpoint.access import Access, Login
from otpylib_telemetry_prometheus.endpoint.connections import Limits, Patience
from otpylib_telemetry_prometheus.endpoint.server import Endpoint
from otpylib_telemetry_prometheus.endpoint.sockets import EndpointError
from otpylib_telemetry_prometheus.endpoint.tls import Files
from otpylib_telemetry_prometheus.page import Page
from otpylib_telemetry_prometheus.settings import PrometheusSettings
from tests.support.certificates import Authority
from tests.support.waiting import eventually

LOCAL = "127.0.0.1"
TYPE = "text/plain; version=0.0.4; charset=utf-8"
PATIENT = Patience(handshake=60.0, request=60.0, idle=60.0)
LOGIN = Login("prometheus", SecretStr("s3cret: päss"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def issued(authority):
    return authority.issue()


@pytest.fixture(autouse=True)
def _looks_at_its_files_at_once(monkeypatch):
    monkeypatch.setattr(tls_module, "_LOOK_INTERVAL", 0.0)


async def page(request):
    names = ",".join(request.names)
    return Page(f"{request.accept}|{request.accept_encoding}|{names}\n".encode(), TYPE)


@contextlib.asynccontextmanager
async def serving(scrape=page, path="/metrics", port=0, patience=None, ready=lambda: None, **place):
    endpoint = Endpoint(scrape, ready=ready, patience=patience)
    try:
        await endpoint.place(LOCAL, port, path, **place)
        yield endpoint
    finally:
        await asyncio.wait_for(endpoint.stop(0.1), 60)


def trusting(authority, client=None):
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    return context


async def ask(port, path="/metrics", method="GET", tls=None, **headers):
    """Status, headers and body of one request over a connection of its own."""
    reader, writer = await asyncio.open_connection(LOCAL, port, ssl=tls)
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *lines, "", ""])
    writer.write(head.encode())
    try:
        answer = await asyncio.wait_for(reader.read(), 60)
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), {line.split(": ")[0].lower(): line.split(": ")[1] for line in lines}, body


async def status(port, path="/metrics", **kwargs):
    return (await ask(port, path, **kwargs))[0]


def basic(username, password):
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


async def gone(reader):
    """The server has closed the connection."""
    with contextlib.suppress(ConnectionError):
        while await asyncio.wait_for(reader.read(65536), 60):
            pass
    return True


# --- the request and the page -------------------------------------------------------------------------------


async def test_the_page_is_made_for_what_the_scraper_asks_for():
    async with serving() as endpoint:
        _, headers, body = await ask(
            endpoint.port,
            "/metrics?name[]=a&name[]=b%20c&other=1",
            Accept="text/plain",
            Accept_Encoding="gzip",
        )
        assert body == b"text/plain|gzip|a,b c\n"
        assert headers["vary"] == "Accept, Accept-Encoding"
        assert "content-encoding" not in headers


async def test_a_compressed_page_says_how():
    async def compressed(_request):
        return Page(b"\x1f\x8b", TYPE, "gzip")

    async with serving(compressed) as endpoint:
        _, headers, body = await ask(endpoint.port)
        assert (headers["content-encoding"], headers["content-type"], body) == ("gzip", TYPE, b"\x1f\x8b")


# --- health -------------------------------------------------------------------------------------------------


async def test_it_says_that_it_is_healthy_and_whether_it_is_ready():
    reasons = ["degraded: the port is taken", None]
    async with serving(ready=lambda: reasons.pop(0)) as endpoint:
        assert (await ask(endpoint.port, "/healthz"))[::2] == (200, b"ok\n")
        assert (await ask(endpoint.port, "/readyz"))[::2] == (
            503,
            b"not ready: degraded: the port is taken\n",
        )
        assert (await ask(endpoint.port, "/readyz"))[::2] == (200, b"ready\n")
        assert (await ask(endpoint.port, "/healthz", method="HEAD"))[::2] == (200, b"")
        assert endpoint.served == 0


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_a_page_placed_on_the_path_of_a_health_page_is_the_page(path):
    async with serving(path=path) as endpoint:
        assert (await ask(endpoint.port, path))[2] == b"||\n"


# --- basic authentication -----------------------------------------------------------------------------------


async def test_only_name_and_password_get_the_page():
    async with serving(access=Access(login=LOGIN)) as endpoint:
        for wrong in (
            None,
            basic("prometheus", "wrong"),
            basic("somebody", "s3cret: päss"),
            basic("", ""),
            "Basic",
            "Basic !!!",
            "Bearer s3cret: p",
        ):
            given = {} if wrong is None else {"Authorization": wrong}
            code, headers, body = await ask(endpoint.port, **given)
            assert (code, headers["www-authenticate"]) == (401, 'Basic realm="metrics", charset="UTF-8"')
            assert b"|" not in body
        assert endpoint.unauthorized == 7
        for right in (
            basic("prometheus", "s3cret: päss"),
            basic("prometheus", "s3cret: päss").replace("B", "b", 1),
        ):
            assert await status(endpoint.port, Authorization=right) == 200


async def test_health_is_open_without_a_password_but_reasons_and_paths_are_not():
    async with serving(access=Access(login=LOGIN), ready=lambda: "a file") as endpoint:
        right = basic("prometheus", "s3cret: päss")
        assert await status(endpoint.port, "/healthz") == 200
        assert (await ask(endpoint.port, "/readyz"))[::2] == (503, b"not ready\n")
        assert (await ask(endpoint.port, "/readyz", Authorization=right))[2] == b"not ready: a file\n"
        assert await status(endpoint.port, "/elsewhere") == 401
        assert await status(endpoint.port, "/elsewhere", Authorization=right) == 404


# --- TLS ----------------------------------------------------------------------------------------------------


def files(issued, **others):
    return Access(Files(str(issued.certificate), str(issued.key), **others))


async def test_it_speaks_tls_and_says_so(authority, issued):
    async with serving(access=files(issued)) as endpoint:
        assert endpoint.url == f"https://127.0.0.1:{endpoint.port}/metrics"
        assert await status(endpoint.port, tls=trusting(authority)) == 200


async def test_a_key_in_the_file_of_the_certificate_will_do(authority, issued, tmp_path):
    both = tmp_path / "both.pem"
    both.write_bytes(issued.certificate.read_bytes() + issued.key.read_bytes())
    async with serving(access=Access(Files(str(both)))) as endpoint:
        assert await status(endpoint.port, tls=trusting(authority)) == 200


async def test_clients_without_a_certificate_are_turned_away(authority, issued, tmp_path):
    strangers = Authority(tmp_path / "strangers", "Strangers")
    access = files(issued, client_ca=str(authority.certificate))
    async with serving(access=access) as endpoint:
        assert await status(endpoint.port, tls=trusting(authority, authority.issue())) == 200
        for client in (None, strangers.issue()):
            with pytest.raises((OSError, IndexError)):
                await ask(endpoint.port, tls=trusting(authority, client))
        assert endpoint.served == 1
        await eventually(lambda: endpoint.counts.handshakes == 2)
        assert await status(endpoint.port, tls=trusting(authority, authority.issue())) == 200


async def test_tls_1_2_is_the_oldest_it_speaks(authority, issued):
    async with serving(access=files(issued)) as endpoint:
        assert (await endpoint._listener.tls.context()).minimum_version == ssl.TLSVersion.TLSv1_2
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = trusting(authority)
            context.minimum_version = context.maximum_version = version
            assert await status(endpoint.port, tls=context) == 200


async def test_plain_http_on_the_port_of_https_is_cut_off_and_not_logged(authority, issued, caplog):
    async with serving(access=files(issued)) as endpoint:
        reader, writer = await asyncio.open_connection(LOCAL, endpoint.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await gone(reader)
        writer.close()
        await eventually(lambda: endpoint.counts.handshakes == 1)
        assert await status(endpoint.port, tls=trusting(authority)) == 200
        assert endpoint.connections <= 1
    assert caplog.records == []


def encrypted(issued, directory):
    """The key of a certificate with a password on it."""
    to = directory / "encrypted.key"
    command = ["openssl", "ec", "-in", issued.key, "-out", to, "-aes256", "-passout", "pass:secret"]
    subprocess.run(command, check=True, capture_output=True)
    return to


async def test_files_that_cannot_be_used_are_named_with_the_reason(authority, issued, tmp_path):
    empty = tmp_path / "empty.pem"
    empty.touch()
    other = authority.issue()
    crt, key, missing = str(issued.certificate), str(issued.key), str(tmp_path / "missing.pem")
    cases = [
        (Files(missing, key), rf"^certificate: {missing} cannot be read: No such file"),
        (Files(crt, missing), rf"^key: {missing} cannot be read: No such file"),
        (Files(crt, key, missing), rf"^client_ca: {missing} cannot be read: No such file"),
        (Files(str(tmp_path), key), rf"^certificate: {tmp_path} cannot be read"),
        (Files(str(empty), key), rf"^certificate: {empty} is empty; a certificate in PEM form was expected"),
        (Files(crt, str(empty)), rf"^key: {empty} is empty; a private key in PEM form was expected"),
        (Files(crt), rf"^key: {crt}, and the key named key is not set, holds no private key"),
        (Files(crt, key, str(empty)), rf"^client_ca: {empty} is empty"),
        (Files(crt, str(other.key)), rf"^key: the private key in {other.key} does not belong to .* {crt}"),
        (Files(crt, str(encrypted(issued, tmp_path))), "^key: .*encrypted.key: .*encrypted with a password"),
    ]
    endpoint = Endpoint(page)
    for wrong, reason in cases:
        with pytest.raises(EndpointError, match=reason):
            await endpoint.place(LOCAL, 0, "/metrics", access=Access(wrong))
        assert not endpoint.serving


async def test_bad_files_leave_everything_else_as_it_was(authority, issued, tmp_path):
    async with serving(access=files(issued)) as endpoint:
        port = endpoint.port
        bad = Access(Files(str(tmp_path / "missing")), LOGIN)
        with pytest.raises(EndpointError, match="missing"):
            await endpoint.place(LOCAL, free_port(), "/other", access=bad)
        # But for the password, which can be asked for at once.
        assert await status(port, tls=trusting(authority)) == 401
        right = basic("prometheus", "s3cret: päss")
        assert await status(port, tls=trusting(authority), Authorization=right) == 200


def serial(port, context):
    with (
        socket.create_connection((LOCAL, port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=LOCAL) as encrypted,
    ):
        return encrypted.getpeercert()["serialNumber"]


async def test_a_replaced_certificate_is_used_from_the_next_handshake_on(authority, issued, tmp_path):
    placed, context = issued.copy_to(tmp_path), trusting(authority)
    async with serving(access=files(placed)) as endpoint:
        reader, writer = await asyncio.open_connection(LOCAL, endpoint.port, ssl=context)
        first = await asyncio.to_thread(serial, endpoint.port, context)
        authority.issue().copy_to(tmp_path)
        second = await asyncio.to_thread(serial, endpoint.port, context)
        assert first != second
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"||\n")).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_broken_replacement_is_said_once_and_the_old_one_stays(authority, issued, tmp_path, caplog):
    placed, context = issued.copy_to(tmp_path), trusting(authority)
    async with serving(access=files(placed)) as endpoint:
        first = await asyncio.to_thread(serial, endpoint.port, context)
        for garbage in ("nothing", "nothing either"):
            placed.certificate.write_text(garbage)
            for _ in range(2):
                assert await asyncio.to_thread(serial, endpoint.port, context) == first
        (record,) = caplog.records
        assert record.getMessage() == (
            f"certificate: {placed.certificate} holds no certificate in PEM form. The endpoint goes on with "
            f"the files as they were read before."
        )
        authority.issue().copy_to(tmp_path)
        assert await asyncio.to_thread(serial, endpoint.port, context) != first


@pytest.mark.parametrize("key", ["certificate", "key", "client_ca"])
@pytest.mark.parametrize("form", ["empty", "half", "a second one begun", "DER", "binary"])
async def test_a_file_in_no_usable_form_is_refused_and_a_replacement_leaves_the_old_ones(
    authority, issued, tmp_path, caplog, key, form
):
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(authority.certificate.read_bytes())
    placed, client = issued.copy_to(tmp_path), authority.issue()
    found = Files(str(placed.certificate), str(placed.key), str(trusted))
    path = Path(getattr(found, key))
    pem = path.read_bytes()[path.read_bytes().index(b"-----BEGIN") :]
    spoilt = {
        "empty": b"",
        "half": pem[: len(pem) // 2],
        "a second one begun": pem + pem[: len(pem) // 2],
        "DER": base64.b64decode(b"".join(pem.splitlines()[1:-1])),
        "binary": bytes(range(256)),
    }[form]
    async with serving(access=Access(found)) as endpoint:
        assert await status(endpoint.port, tls=trusting(authority, client)) == 200
        path.write_bytes(spoilt)
        assert await status(endpoint.port, tls=trusting(authority, client)) == 200
        (message,) = caplog.messages
        assert message.startswith(f"{key}: {path} ")
        assert message.endswith(". The endpoint goes on with the files as they were read before.")
        with pytest.raises((OSError, IndexError)):
            await ask(endpoint.port, tls=trusting(authority))
    with pytest.raises(EndpointError, match=f"^{key}: "):
        await Endpoint(page).place(LOCAL, 0, "/metrics", access=Access(found))


async def test_a_new_authority_for_clients_counts_without_a_restart(authority, issued, tmp_path):
    others = Authority(tmp_path / "others", "Others")
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(authority.certificate.read_bytes())
    client = others.issue()
    async with serving(access=files(issued, client_ca=str(trusted))) as endpoint:
        with pytest.raises((OSError, IndexError)):
            await ask(endpoint.port, tls=trusting(authority, client))
        trusted.write_bytes(others.certificate.read_bytes())
        assert await status(endpoint.port, tls=trusting(authority, client)) == 200


async def test_from_http_to_https_and_back_on_the_same_port(authority, issued):
    async with serving() as endpoint:
        port = endpoint.port
        kept_reader, kept = await asyncio.open_connection(LOCAL, port)
        kept.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await kept_reader.readuntil(b"||\n")
        await endpoint.place(LOCAL, 0, "/metrics", access=files(issued))
        assert (endpoint.port, endpoint.url[:5]) == (port, "https")
        assert await gone(kept_reader), "a connection without TLS stays open"
        kept.close()
        assert await status(port, tls=trusting(authority)) == 200
        await endpoint.place(LOCAL, 0, "/metrics")
        assert await status(port) == 200


async def test_an_answer_under_way_is_finished_when_the_port_changes_to_https(authority, issued):
    started, go = asyncio.Event(), asyncio.Event()

    async def slow(request):
        started.set()
        await go.wait()
        return await page(request)

    async with serving(slow) as endpoint:
        before = asyncio.create_task(status(endpoint.port))
        await started.wait()
        await endpoint.place(LOCAL, 0, "/metrics", access=files(issued))
        go.set()
        assert await before == 200
        assert await status(endpoint.port, tls=trusting(authority)) == 200


# --- clients that are slow, silent or many ------------------------------------------------------------------


async def silent(port, count, sent=b""):
    clients = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection(LOCAL, port)
        writer.write(sent)
        clients.append((reader, writer))
    return clients


def leave(clients):
    for _, writer in clients:
        writer.close()


@pytest.mark.parametrize("encrypted", [False, True], ids=["http", "https"])
async def test_many_silent_and_slow_clients_hold_up_neither_scrapes_nor_the_end(authority, issued, encrypted):
    big = b"x" * 3_000_000

    async def large(_request):
        return Page(big, TYPE)

    tls = trusting(authority) if encrypted else None
    access = files(issued) if encrypted else None
    async with serving(large, patience=PATIENT, access=access, limits=Limits(max_connections=50)) as endpoint:
        clients = await silent(endpoint.port, 100)
        clients += await silent(
            endpoint.port, 20, b"GET /metr" if tls is None else b"\x16\x03\x01\x02\x00\x01"
        )
        for _ in range(10):
            reader, writer = await asyncio.open_connection(LOCAL, endpoint.port, ssl=tls, limit=1024)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            clients.append((reader, writer))
        for _ in range(3):
            assert (await ask(endpoint.port, tls=tls))[2] == big
        assert endpoint.connections <= 50
        assert endpoint.counts.gave_way >= 70
        assert endpoint.counts.refused == 0
        await asyncio.wait_for(endpoint.stop(0.2), 60)
        assert endpoint.connections == 0
        for reader, _ in clients:
            assert await gone(reader)
    leave(clients)


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\nHost: x\r\n"])
async def test_who_asks_for_nothing_is_cut_off_in_time(sent):
    async with serving(patience=Patience(request=0.1)) as endpoint:
        clients = await silent(endpoint.port, 3, sent)
        for reader, _ in clients:
            assert await gone(reader)
        leave(clients)
        assert endpoint.counts.timed_out == 3


async def test_headers_that_trickle_gain_no_time():
    async with serving(patience=Patience(request=0.3)) as endpoint:
        reader, writer = await asyncio.open_connection(LOCAL, endpoint.port)
        writer.write(b"GET /metrics HTTP/1.1\r\n")
        lines = 0
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof() and lines < 1000:
                writer.write(b"X: y\r\n")
                lines += 1
                await asyncio.sleep(0.01)
                await writer.drain()
        assert lines < 1000
        assert endpoint.counts.timed_out == 1
        writer.close()


async def test_an_idle_connection_is_closed_after_a_while():
    async with serving(patience=Patience(idle=0.1)) as endpoint:
        reader, writer = await asyncio.open_connection(LOCAL, endpoint.port)
        for _ in range(2):
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"||\n")
        assert await gone(reader)
        assert endpoint.counts.timed_out == 1
        writer.close()


async def test_a_tls_client_that_does_not_shake_hands_is_dropped(issued):
    access = files(issued)
    async with serving(patience=Patience(handshake=0.1), access=access) as endpoint:
        clients = await silent(endpoint.port, 3)
        for reader, _ in clients:
            assert await gone(reader)
        await eventually(lambda: endpoint.counts.handshakes == 3)
        assert endpoint.connections == 0
        leave(clients)


async def test_a_request_with_endless_headers_is_cut_off():
    async with serving(patience=PATIENT) as endpoint:
        reader, writer = await asyncio.open_connection(LOCAL, endpoint.port)
        writer.write(b"GET /metrics HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):
            for number in range(2000):
                writer.write(f"X-{number}: {'y' * 1000}\r\n".encode())
                await writer.drain()
        assert await gone(reader)
        assert endpoint.counts.oversized + endpoint.unintelligible == 1
        assert await status(endpoint.port) == 200
        writer.close()


async def test_the_body_of_a_request_is_not_waited_for():
    async with serving(patience=PATIENT) as endpoint:
        reader, writer = await asyncio.open_connection(LOCAL, endpoint.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        assert await reader.readuntil(b"||\n")
        assert await gone(reader)
        writer.close()


async def test_beyond_the_limit_a_connection_is_refused_while_all_others_are_being_answered():
    started, go = asyncio.Semaphore(0), asyncio.Event()

    async def slow(request):
        started.release()
        await go.wait()
        return await page(request)

    async with serving(slow, limits=Limits(max_connections=3)) as endpoint:
        busy = [asyncio.create_task(status(endpoint.port)) for _ in range(3)]
        for _ in busy:
            await started.acquire()
        reader, writer = await asyncio.open_connection(LOCAL, endpoint.port)
        assert await gone(reader)
        writer.close()
        assert endpoint.counts.refused == 1
        await endpoint.place(LOCAL, 0, "/metrics", limits=Limits(max_connections=4))
        more = asyncio.create_task(status(endpoint.port))
        await started.acquire()
        go.set()
        assert await asyncio.gather(*busy, more) == [200] * 4


async def test_one_that_never_asked_gives_way_before_one_that_is_scraped_from():
    async with serving(patience=PATIENT, limits=Limits(max_connections=3)) as endpoint:
        reader, writer = await asyncio.open_connection(LOCAL, endpoint.port)
        for _ in range(4):
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await reader.readuntil(b"||\n")
            leave(await silent(endpoint.port, 5))
        writer.close()


async def test_a_page_that_takes_too_long_is_an_error_to_the_scraper_and_said_once(caplog):
    async def endless(_request):
        await asyncio.Event().wait()

    async with serving(endless, limits=Limits(scrape_timeout=0.05)) as endpoint:
        for _ in range(2):
            code, _, body = await ask(endpoint.port)
            assert (code, body) == (503, b"the metrics were not ready within 0.05 s\n")
        assert endpoint.failed == 2
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.slow
async def test_who_asks_again_and_again_and_never_reads_is_cut_off():
    async with serving(patience=PATIENT, limits=Limits(scrape_timeout=0.1)) as endpoint:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((LOCAL, endpoint.port))
            client.setblocking(False)
            request = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"

            async def flood():
                rest = b""
                while not endpoint.cut_off and not endpoint.counts.oversized:
                    rest = rest or request * 100
                    with contextlib.suppress(BlockingIOError):
                        rest = rest[client.send(rest) :]
                    await asyncio.sleep(0)

            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(flood(), 60)
        await eventually(lambda: endpoint.connections == 0)


async def test_a_shortage_of_file_descriptors_is_said_once_and_over_when_it_is_over(monkeypatch, caplog):
    monkeypatch.setattr(listener_module, "_SHORTAGE", 0.02)
    async with serving() as endpoint:
        listener, failures = endpoint._listener, 3

        class Short:
            """A listening socket whose accept fails for a while."""

            def __init__(self, sock):
                self.sock = sock

            def accept(self):
                nonlocal failures
                if failures:
                    failures -= 1
                    raise OSError(errno.EMFILE, "Too many open files")
                return self.sock.accept()

            def __getattr__(self, name):
                return getattr(self.sock, name)

        for sock in listener.sockets:
            listener._unwatch(sock)
        listener.sockets = [Short(sock) for sock in listener.sockets]
        for sock in listener.sockets:
            listener._watch(sock)
        assert await status(endpoint.port) == 200
        assert failures == 0
        assert endpoint.serving
    (record,) = caplog.records
    assert "Too many open files" in record.getMessage()


async def test_it_serves_where_the_event_loop_cannot_watch_sockets(monkeypatch, authority, issued):
    """As on Windows."""
    loop = asyncio.get_running_loop()
    if "uvloop" in type(loop).__module__:
        pytest.skip("uvloop is not there on Windows")

    def no(*_args):
        raise NotImplementedError

    monkeypatch.setattr(loop, "add_reader", no)
    monkeypatch.setattr(loop, "remove_reader", no)
    async with serving(access=files(issued)) as endpoint:
        assert endpoint.serving
        for _ in range(3):
            assert await status(endpoint.port, tls=trusting(authority)) == 200
    assert not endpoint.serving


# --- the exporter around it ---------------------------------------------------------------------------------


class Exporter:
    """The backend with what a process lends it."""

    def __init__(self, **settings):
        self.state = {"state": "running"}
        context = ExportContext(
            "prometheus_exporter", "telemetry.prometheus", {}, self.catch_up, lambda: self.state
        )
        self.backend = PrometheusBackend(PrometheusSettings(port=0, **settings), context)

    async def catch_up(self):
        pass

    async def apply(self, **values):
        wanted = self.backend.settings.model_copy(update=values)
        return await self.backend.apply(wanted, frozenset(values))

    @property
    def port(self):
        return self.backend.stats()["port"]


@pytest.fixture
async def exporter():
    found = Exporter()
    await found.backend.open()
    found.backend.collect([("hits", {"count": 1}, {}, 0, 1)], 0)
    yield found
    await found.backend.close()


async def test_every_key_of_access_and_limits_is_applied_while_it_runs(exporter, authority, issued):
    port = exporter.port
    client = authority.issue()
    assert b"hits_total 1" in (await ask(port))[2]
    keys = {"certificate": str(issued.certificate), "key": str(issued.key)}
    assert await exporter.apply(**keys)
    assert exporter.backend.stats()["url"].startswith("https://")
    assert b"hits_total 1" in (await ask(port, tls=trusting(authority)))[2]
    assert await exporter.apply(client_ca=str(authority.certificate))
    with pytest.raises((OSError, IndexError)):
        await ask(port, tls=trusting(authority))
    tls = trusting(authority, client)
    assert await exporter.apply(basic_auth=LOGIN)
    assert await status(port, tls=tls) == 401
    right = basic("prometheus", "s3cret: päss")
    assert b"hits_total 1" in (await ask(port, tls=tls, Authorization=right))[2]
    assert await exporter.apply(max_connections=1, scrape_timeout=1.0)
    assert exporter.backend._kept.endpoint._limits == Limits(1, 1.0)
    assert await exporter.apply(client_ca=None, basic_auth=None, certificate=None, key=None)
    assert b"hits_total 1" in (await ask(port))[2]
    assert exporter.port == port
    stats = exporter.backend.stats()
    assert (stats["logins_refused"], stats["handshakes_failed"]) == (1, 1)


async def test_without_serve_there_is_no_endpoint_and_no_series_is_lost(exporter):
    port = exporter.port
    assert await exporter.apply(serve=False)
    assert exporter.backend.stats()["url"] is None
    with pytest.raises(ConnectionRefusedError):
        await ask(port)
    assert await exporter.apply(serve=True)
    assert b"hits_total 1" in (await ask(exporter.port))[2]


async def test_readiness_is_the_state_of_the_exporter(exporter):
    assert await status(exporter.port, "/readyz") == 200
    exporter.state.update(state="degraded", reason="cannot move")
    assert (await ask(exporter.port, "/readyz"))[::2] == (503, b"not ready: degraded: cannot move\n")
    assert await status(exporter.port, "/healthz") == 200


# --- the password in the configuration ----------------------------------------------------------------------

PASSWORD = "hunter2-and-more"


@pytest.mark.parametrize(
    "written",
    [
        {"username": "prometheus", "password": PASSWORD},
        f"prometheus:{PASSWORD}",
        f'{{"username": "prometheus", "password": "{PASSWORD}"}}',
        Login("prometheus", SecretStr(PASSWORD)),
        {"username": "prometheus", "password": SecretStr(PASSWORD)},
    ],
    ids=["table", "string", "JSON", "login", "marked"],
)
def test_name_and_password_can_be_written_in_each_of_these_ways_and_are_shown_nowhere(written):
    settings = PrometheusSettings(basic_auth=written)
    assert settings.basic_auth.admits(basic("prometheus", PASSWORD))
    resolution = resolve(PrometheusSettings, "prometheus", environ={}, config={"basic_auth": written})
    assert resolution.problems == ()
    for shown in (
        repr(settings),
        str(settings.model_dump()),
        settings.model_dump_json(),
        str(redacted(resolution)),
    ):
        assert "hunter2" not in shown
        assert "<redacted>" in shown


def test_the_environment_has_them_as_one_string_or_as_json():
    for written in (f"prometheus:{PASSWORD}", f'{{"username": "prometheus", "password": "{PASSWORD}"}}'):
        environment = {"TELEMETRY_PROMETHEUS_BASIC_AUTH": written}
        resolution = resolve(PrometheusSettings, "prometheus", environ=environment)
        assert resolution.settings.basic_auth.admits(basic("prometheus", PASSWORD))


@pytest.mark.parametrize("nothing", [False, {}, None])
def test_a_login_can_be_said_to_be_none(nothing):
    assert PrometheusSettings(basic_auth=nothing).basic_auth is None


def test_the_password_is_replaced_in_any_text_and_the_name_is_not():
    configuration = LiveConfig(
        PrometheusSettings, "telemetry.prometheus", {"basic_auth": f"prometheus:{PASSWORD}"}, {}
    )
    assert configuration.scrub(f"telemetry.prometheus: {PASSWORD}") == "telemetry.prometheus: <redacted>"
    assert "hunter2" not in str(configuration.as_dict())


def test_a_bad_password_is_not_repeated():
    for bad in (f"{PASSWORD}", {"username": "u", "password": PASSWORD, "realm": PASSWORD}, [PASSWORD]):
        (problem,) = resolve(
            PrometheusSettings, "prometheus", environ={}, config={"basic_auth": bad}
        ).problems
        assert "hunter2" not in problem.message
