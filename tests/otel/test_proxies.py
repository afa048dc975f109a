"""Which proxy is used, and what is said when it does not do."""

import base64
import http.server
import os
import threading
import urllib.request

import pytest
import requests.utils

from otpylib_telemetry.exporter.errors import ExportError
from otpylib_telemetry.primitives.proxies import ProxyError, is_excepted, proxy_for
from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from otpylib_telemetry_otel.destinations import transport
from otpylib_telemetry_otel.otlp.services import TRACES
from otpylib_telemetry_otel.settings.model import OtelSettings

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


EXCEPTED = [
    ("http://10.1.2.3:4318", "10.0.0.0/8"),
    ("http://10.1.2.3:4318", "192.168.0.0/16, 10.1.0.0/16"),
    ("http://10.1.2.3:4318", "10.1.2.3"),
    ("http://10.1.2.3:4318", "10.1.2.3:4318"),
    ("http://10.1.2.3:4318", "10.1.2.9/24"),
    ("http://[fd00::7]:4318", "fd00::/8"),
    ("http://[fd00::7]:4318", "[fd00::]/8"),
    ("http://[fd00::7]:4318", "fd00:0::7"),
    ("http://[fd00::7]:4318", "[fd00::7]"),
    ("http://[fd00::7]:4318", "[fd00::7]:4318"),
    ("http://collector.example.com:4318", "example.com"),
    ("http://collector.example.com:4318", ".example.com"),
    ("http://collector.example.com:4318", "*.example.com"),
    ("http://collector.example.com:4318", "EXAMPLE.com:4318"),
    ("http://collector.example.com.:4318", "a, collector.example.com"),
    ("http://collector:4318", "*"),
    ("http://collector:4318", "one two collector"),
    ("https://collector", "collector:443"),
]
NOT_EXCEPTED = [
    ("http://10.1.2.3:4318", "11.0.0.0/8"),
    ("http://10.1.2.3:4318", "10.1.2"),
    ("http://10.1.2.3:4318", "10.1.2.3:4317"),
    ("http://10.1.2.3:4318", "fd00::/8"),
    ("http://10.1.2.3:4318", "10.0.0.0/99"),
    ("http://[fd00::7]:4318", "fe80::/10"),
    ("http://[fd00::7]:4318", "[fd00::7]:1"),
    ("http://notexample.com:4318", "example.com"),
    ("http://collector:4318", "collector:4317"),
    ("http://collector:4318", ""),
    ("http://collector:4318", " , "),
    ("http://collector:4318", "."),
    ("http://collector:4318", "10.0.0.0/8"),
]


@pytest.mark.parametrize(("url", "exceptions"), EXCEPTED)
def test_what_is_excepted(url, exceptions):
    assert is_excepted(url, exceptions)
    assert proxy_for(url, {"all": "http://proxy:3128", "no": exceptions}) is None


@pytest.mark.parametrize(("url", "exceptions"), NOT_EXCEPTED)
def test_what_is_not_excepted(url, exceptions):
    assert not is_excepted(url, exceptions)
    assert proxy_for(url, {"all": "http://proxy:3128", "no": exceptions}).name == "proxy:3128"


@pytest.mark.parametrize(
    ("url", "exceptions"),
    [case for case in (*EXCEPTED, *NOT_EXCEPTED) if "." in case[0] and "[" not in case[1]],
)
def test_requests_excepts_nothing_that_is_not_excepted_here(url, exceptions, monkeypatch):
    monkeypatch.setenv("no_proxy", exceptions)
    # It takes the end of another name for a subdomain.
    if requests.utils.should_bypass_proxies(url, None) and "notexample" not in url:
        assert is_excepted(url, exceptions)


@pytest.mark.parametrize(
    ("proxies", "expected"),
    [
        ({"http": "http://one:1", "https": "http://two:2"}, "http://one:1"),
        ({"https": "http://two:2"}, None),
        ({"all": "http://three:3"}, "http://three:3"),
        ({"http": "", "all": "three:3"}, "http://three:3"),
        ({"http": "//[::1]:3128"}, "http://[::1]:3128"),
        ({"http": "HTTPS://proxy"}, "https://proxy"),
        ({"http": "socks5h://u:p@proxy:1080"}, "socks5h://proxy:1080"),
    ],
)
def test_which_one_it_is(proxies, expected):
    found = proxy_for("http://collector:4318", proxies)
    assert (found and found.url) == expected


@pytest.mark.parametrize("name", ["u", "u@x", "ü", "a%b"])
@pytest.mark.parametrize("password", ["p", "!@me/:%", "p w", "pässwörd", ""])
def test_name_and_password_are_percent_decoded(name, password):
    quoted = "".join(f"%{byte:02X}" for byte in f"{name}".encode())
    secret = "".join(f"%{byte:02X}" for byte in password.encode())
    found = proxy_for("http://c:4318", {"http": f"http://{quoted}:{secret}@proxy:3128"})
    assert base64.b64decode(found.authorization.split()[1]).decode() == f"{name}:{password}"
    assert found.url == "http://proxy:3128"


def test_a_password_that_is_no_unicode_is_told_as_it_is(monkeypatch):
    if not os.supports_bytes_environ:
        pytest.skip("the environment is text here")
    monkeypatch.setitem(os.environb, b"http_proxy", b"http://caf\xe9:p\xff@proxy:3128")
    found = proxy_for("http://c:4318", urllib.request.getproxies())
    assert base64.b64decode(found.authorization.split()[1]) == b"caf\xe9:p\xff"
    transport(
        OtelSettings(endpoint="http://c:4318", protocol="http/protobuf").connection("traces"), TRACES
    ).close()


@pytest.mark.parametrize(
    "wrong",
    [
        "ftp://proxy:1",
        "http://",
        "http://proxy:99999",
        "http://[bad",
        "http://u:se#cret@proxy:1",
        "http://:1",
        "x://y",
    ],
)
def test_what_is_no_proxy_is_said_without_its_password(wrong):
    with pytest.raises(
        ProxyError, match="the environment variable http_proxy names no proxy: expected"
    ) as refused:
        proxy_for("http://collector:4318", {"http": wrong})
    assert "cret" not in str(refused.value)


# --- over a real connection


class Proxy:
    """Refuses with a status, and remembers what it was asked."""

    def __init__(self, status):
        outer = self
        self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                outer.asked.append((self.command, self.path, self.headers.get("proxy-authorization")))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            do_CONNECT = do_POST  # noqa: N815 - as the class wants it

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.name = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def failure(endpoint):
    settings = OtelSettings(endpoint=endpoint, protocol="http/protobuf", timeout=20)
    sender = transport(settings.connection("traces"), TRACES)
    try:
        with pytest.raises(ExportError) as caught:
            sender.send(b"")
    finally:
        sender.close()
    assert "s3cr3t" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("variable", ["own", "all"])
def test_a_proxy_that_refuses_is_named(monkeypatch, scheme, variable):
    with Proxy(407) as proxy:
        name = "all_proxy" if variable == "all" else f"{scheme}_proxy"
        monkeypatch.setenv(name, f"http://ann:s3cr3t%40@{proxy.name}")
        error = failure(f"{scheme}://collector.invalid:4318")
    assert proxy.name in str(error)
    assert "407" in str(error)
    expected = f"Basic {base64.b64encode(b'ann:s3cr3t@').decode()}"
    assert {authorization for _, _, authorization in proxy.asked} == {expected}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there_is_named(monkeypatch, scheme):
    port = free_port()
    monkeypatch.setenv(f"{scheme}_proxy", f"http://ann:s3cr3t@127.0.0.1:{port}")
    error = failure(f"{scheme}://collector.invalid:4318")
    assert str(error) == f"collector.invalid:4318: the proxy 127.0.0.1:{port}: Connection refused"
    assert error.retryable


@pytest.mark.parametrize(
    "wrong", ["ftp://127.0.0.1:1", "http://127.0.0.1:99999", "http://ann:s3cr3t#@127.0.0.1:1"]
)
def test_what_is_no_proxy_is_a_failure_that_can_be_mended(monkeypatch, wrong):
    monkeypatch.setenv("http_proxy", wrong)
    error = failure("http://collector.invalid:4318")
    assert "the environment variable http_proxy names no proxy" in str(error)
    assert error.retryable
