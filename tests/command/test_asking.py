"""Which application is asked, what is said where none answers, and in which words."""

import json
import os
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from otpylib_telemetry.command.screen import Screen, UsageError
from otpylib_telemetry.command.where import target_of
from otpylib_telemetry.command.words import count, duration, seconds_of, value
from tests.support.operated import said

TOKEN = "0123456789abcdef0123"


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith(("OTEL_", "TELEMETRY_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


class Stranger(BaseHTTPRequestHandler):
    """Something else that answers, or an application of another version."""

    media = "text/html"
    answers: ClassVar = {}
    otherwise = 200, b"<h1>hello</h1>"

    def do_GET(self):
        status, body = self.answers.get(self.path, self.otherwise)
        self.send_response(status)
        self.send_header("Content-Type", self.media)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815  # the name is http.server's

    def log_message(self, *arguments):
        pass


@pytest.fixture
def stranger():
    servers = []

    def start(**settings):
        handler = type("Handler", (Stranger,), settings)
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class TestNobodyAnswers:
    def test_no_socket(self, tmp_path):
        found = said("status", "--socket", tmp_path / "none.sock")
        assert found.status == 1
        assert f"there is no socket {tmp_path / 'none.sock'}: the application does not run" in found.err

    def test_a_file_that_is_no_socket(self, tmp_path):
        (tmp_path / "file").write_text("")
        assert "file is no socket" in said("flush", "--socket", tmp_path / "file").err

    def test_nothing_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        found = said("config", "--url", f"http://127.0.0.1:{port}")
        assert found.status == 1
        assert f"nothing listens at http://127.0.0.1:{port}" in found.err

    def test_a_host_that_is_none(self):
        assert (
            "the host of http://nowhere.invalid:1 cannot be resolved"
            in said("tap", "*", "--url", "http://nowhere.invalid:1").err
        )

    def test_it_hangs(self, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            monkeypatch.setattr("otpylib_telemetry.command.flush.PATIENCE", 0.0)
            found = said("flush", "--timeout", "100ms", "--url", url)
        assert f"the application at {url} does not answer: something blocks its event loop" in found.err

    def test_something_else_answers(self, stranger):
        url = stranger()
        found = said("status", "--url", url)
        assert (found.status, found.out) == (1, "")
        assert (
            f"what answers at {url} is no admin API of otpylib-telemetry (HTTP 200, text/html)" in found.err
        )

    def test_something_that_speaks_no_http_answers(self):
        def speak(server):
            with server.accept()[0] as connection:
                connection.sendall(b"SSH-2.0-x\r\n")
                connection.recv(10_000)

        with socket.create_server(("127.0.0.1", 0)) as server:
            threading.Thread(target=speak, args=[server], daemon=True).start()
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
            found = said("status", "--url", url)
        assert found.status == 1
        assert f"what answers at {url} does not speak HTTP" in found.err

    def test_an_application_of_an_older_version(self, stranger):
        refused = json.dumps({"detail": "there is no /flush", "status": 404}).encode()
        document = {"paths": {"/status": {"get": {}}}, "info": {"version": "0.0.9"}}
        answers = {"/openapi.json": (200, json.dumps(document).encode())}
        url = stranger(media="application/json", answers=answers, otherwise=(404, refused))
        found = said("flush", "--url", url)
        assert found.status == 1
        assert (
            f"otpylib-telemetry 0.0.9 in the application at {url} cannot do this yet (POST /flush)"
            in found.err
        )


class TestWhichApplication:
    def test_nothing_says_which(self):
        found = said("status")
        assert found.status == 2
        assert "which application? There is no telemetry.admin.socket in config.toml here" in found.err

    def test_a_file_without_it(self, tmp_path):
        (tmp_path / "config.toml").write_text("[telemetry.otel]\n")
        assert "which application? There is no telemetry.admin.socket" in said("status").err

    def test_a_file_that_cannot_be_read(self, tmp_path):
        (tmp_path / "config.toml").write_text("[telemetry.otel\n")
        found = said("status")
        assert found.status == 2
        assert "config.toml: the file " in found.err

    @pytest.mark.parametrize(
        "text",
        [
            '[telemetry.prometheus]\nport = = 0\n[telemetry.admin]\nsocket = "a.sock"\n',
            '[telemetry.admin]\nsocket = "a.sock"\n[telemetry.prometheus]\nport = = 0\n',
            '[telemetry.admin]\nenabled = yes\nsocket = "a.sock"\n',
            '[telemetry.admin]\nsocket = "a.sock"\nenabled\n',
            '[telemetry.admin\nsocket = "a.sock"\n',
            '  [ telemetry . "admin" ] # ours\n  socket = "${RUN:-a}.sock"\n[telemetry.otel\nendpoint = 1\n',
            '[telemetry]\nadmin = {socket = "a.sock"}\n[telemetry.otel]\nendpoint = "http://x\n',
            '[telemetry]\nadmin.socket = "a.sock"\nx = \n',
            'telemetry.admin.socket = "a.sock"\n[telemetry.otel]\nheaders = {a = "b",\n',
            '[telemetry.admin]\nsocket = "a.sock"\n[telemetry.otel]\n[telemetry.otel]\n',
            '[telemetry.otel]\nendpoint = """http://x\n[telemetry.admin]\nsocket = "a.sock"\n',
            '[telemetry.otel]\r\nrules = [\r\n  [1],\r\n[telemetry.admin]\r\nsocket = "a.sock"\r\n',
            '\ufeff[telemetry.otel\n[telemetry.admin]\nsocket = "a.sock"\n',
            '[telemetry.admin]\nsocket = "a.sock"\n[telemetry.otel]\nservice_name = "caf\udce9"\n',
            '<<<<<<< HEAD\n[telemetry.admin]\nsocket = "a.sock"\n=======\nenabled = true\n>>>>>>> b\n',
        ],
    )
    def test_a_broken_file_says_it_all_the_same(self, tmp_path, text):
        (tmp_path / "config.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
        found = said("status")
        assert (found.status, found.out) == (1, "")
        broken, asked = found.err.splitlines()
        assert broken.startswith("config.toml: the file is not ")
        assert broken.endswith("; where the application is was read all the same")
        assert "there is no socket a.sock" in asked

    @pytest.mark.parametrize(
        "text",
        ['[telemetry.otel\nsocket = "a.sock"\n', '[telemetry.adminx\nsocket = "a.sock"\n', "", "# x\n"],
    )
    def test_a_broken_file_that_does_not_say_it(self, tmp_path, text):
        (tmp_path / "config.toml").write_text(text)
        found = said("status")
        assert found.status == 2
        assert found.err.endswith("; --socket or --url does without it\n")

    def test_a_broken_file_and_a_port(self, tmp_path, capsys):
        file = tmp_path / "config.toml"
        file.write_text(f'[telemetry.admin]\nport = 9465\ntoken = "{TOKEN}"\n[telemetry.otel]\nx = = 1\n')
        assert target_of(str(file), {})[1:] == ("http://127.0.0.1:9465", TOKEN)
        assert TOKEN not in capsys.readouterr().err

    def test_both(self):
        assert said("--socket", "a", "status", "--url", "http://b").status == 2
        assert said("status", "--socket", "a", "--url", "http://b").status == 2

    @pytest.mark.parametrize(
        "url",
        ["localhost:9465", "ftp://localhost", "http://", "http://me:you@host", "http://[::1", "http://h:x"],
    )
    def test_a_url_that_is_none(self, url):
        found = said("status", "--url", url)
        assert found.status == 2
        assert "--url: expected http://HOST:PORT" in found.err

    def test_the_file_says_where(self, tmp_path):
        file = tmp_path / "config.toml"

        def target(text, **environ):
            file.write_text(text)
            return target_of(str(file), environ)

        assert target('[telemetry.admin]\nsocket = "${RUN}/a.sock"\n', RUN="/run").socket == "/run/a.sock"
        assert target("[telemetry.admin]\nport = 9465\n")[1:] == ("http://127.0.0.1:9465", None)
        assert target(f'[telemetry.admin]\nport = 9465\nhost = "::"\ntoken = "{TOKEN}"')[1:] == (
            "http://[::1]:9465",
            TOKEN,
        )
        assert target("[telemetry.admin]\nport = 9465\n", TELEMETRY_ADMIN_SOCKET="/x").socket == "/x"
        with pytest.raises(UsageError, match="a free port"):
            target("[telemetry.admin]\nport = 0\n")


class TestWords:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("90s", 90),
            ("10m", 600),
            ("1h30m", 5400),
            ("600", 600),
            ("1.5h", 5400),
            ("2d", 172800),
            (" 5S ", 5),
            ("250ms", 0.25),
        ],
    )
    def test_time_spans(self, text, seconds):
        assert seconds_of(text) == seconds

    @pytest.mark.parametrize("text", ["", "0", "-5", "ten", "5x", "m", "1m 5", "nan", "inf", "1e400"])
    def test_what_is_none(self, text):
        with pytest.raises(UsageError, match="--for: expected a time such as"):
            seconds_of(text)

    def test_as_a_person_reads_them(self):
        assert [duration(each) for each in (0.0123, 5, 75, 3700, 90000)] == [
            "12.3 ms",
            "5 s",
            "1m15s",
            "1h01m",
            "1d01h",
        ]
        assert [count(each) for each in (0, 1234567, 0.25)] == ["0", "1,234,567", "0.2"]
        assert [value(each) for each in (None, True, "a", ["x"], {"k": 1})] == [
            "none",
            "true",
            '"a"',
            '["x"]',
            '{"k": 1}',
        ]

    def test_a_terminal_obeys_nothing_that_a_value_says(self, capsys):
        Screen(sys.stdout).table(("A", "B"), [("\x1b[2J", ("x\ny", "red")), ("long text", "z")])
        assert capsys.readouterr().out == "A          B\n\\x1b[2J    x\\ny\nlong text  z\n"

    def test_colours_are_for_terminals(self, monkeypatch, capsys):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setenv("TERM", "xterm")
        assert Screen(sys.stdout).coloured("x", "red") == "\x1b[31mx\x1b[0m"
        monkeypatch.setenv("NO_COLOR", "1")
        assert Screen(sys.stdout).coloured("x", "red") == "x"
