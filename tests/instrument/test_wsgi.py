"""The middleware for WSGI: Flask and bare applications, under wsgiref with its validator, and gunicorn."""

import asyncio
import io
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from wsgiref.util import FileWrapper, setup_testing_defaults

import pytest
from flask import Flask, Response, abort, stream_with_context

from otpylib_telemetry import current_span, span, trace_context
from otpylib_telemetry.instrument.wsgi import TelemetryMiddleware
from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from tests.support.waiting import eventually
from tests.support.web import PARENT, REMOTE, TRACE, fetch, listening, told_as, wsgi_server

ROOT = Path(__file__).parents[2]


class Unreadable:
    """Raises where it is read."""

    def __str__(self):
        raise RuntimeError("cannot be read")


def flask_application(**options):
    app = Flask("shop_on_flask")

    @app.get("/users/<int:number>")
    def user(number):
        return {"id": number, **trace_context()}

    @app.get("/boom")
    def boom():
        raise ValueError("no tea")

    @app.get("/status/<int:status>")
    def refuse(status):
        abort(status)

    @app.get("/stream/<name>")
    def stream(name):
        def parts():
            for _ in range(3):
                with span("part"):
                    yield "x"

        return Response(stream_with_context(parts()))

    app.log_exception = lambda _error: None
    app.wsgi_app = TelemetryMiddleware(app.wsgi_app, **options)
    return app


async def ask(app, path, *, validated=True, **how):
    with wsgi_server(app, validated=validated) as url:
        return await asyncio.to_thread(fetch, url + path, **how)


async def test_a_request_is_one_operation_as_the_conventions_have_it():
    told = await listening()
    _, _, body = await ask(
        flask_application(), "/users/7?q=tea&token=abc", traceparent=REMOTE, User_Agent="t/1"
    )
    one = await told.one()
    assert one.attributes == told_as("/users/<int:number>", one["server.port"])
    assert one["trace_id"] == TRACE
    assert (one["parent_span_id"], one.outcome) == (PARENT, "success")
    assert f"00-{TRACE}-{one['span_id']}-01".encode() in body


@pytest.mark.parametrize(
    ("path", "route", "outcome", "kind"),
    [
        ("/boom", "/boom", "error", "ValueError"),
        ("/status/404", "/status/<int:status>", "success", None),
        ("/status/503", "/status/<int:status>", "error", "503"),
        ("/nowhere/7", None, "success", None),
    ],
)
async def test_what_flask_answers_is_told_with_its_route(path, route, outcome, kind):
    told = await listening()
    await ask(flask_application(), path)
    one = await told.one()
    assert (one["http.route"], one.outcome, one["error.type"]) == (route, outcome, kind)
    assert ("in boom" in (one["stacktrace"] or "")) is (path == "/boom")


async def test_a_stream_lasts_until_its_end_and_belongs_to_the_request():
    told = await listening()
    assert (await ask(flask_application(), "/stream/x"))[2] == b"xxx"
    one = await told.one()
    assert {part["parent_span_id"] for part in told.of("part")} == {one["span_id"]}


async def test_an_application_below_another_path_is_told_with_it():
    told = await listening()
    app = flask_application()

    def mounted(environ, start_response):
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/shop", environ["PATH_INFO"].removeprefix("/shop")
        return app(environ, start_response)

    await ask(mounted, "/shop/users/7")
    one = await told.one()
    assert (one["http.route"], one["url.path"]) == ("/shop/users/<int:number>", "/shop/users/7")


# --- bare applications --------------------------------------------------------------------------------------


def run(app, environ=None, **options):
    """Run an application without a server; return its body."""
    whole = {}
    setup_testing_defaults(whole)
    return TelemetryMiddleware(app, **options)({**whole, **(environ or {})}, lambda *_: None)


def answering(body, status="200 OK"):
    def app(environ, start_response):
        start_response(status, [])
        return body

    return app


class Body:
    """A body that notes in which span it is."""

    def __init__(self, *parts, fails=None):
        self.parts = [*parts]
        self.fails = fails
        self.seen = []

    def __iter__(self):
        self.seen.append(current_span().span_id)
        return self

    def __next__(self):
        self.seen.append(current_span().span_id)
        if self.parts:
            return self.parts.pop(0)
        if self.fails is not None:
            raise self.fails
        raise StopIteration

    def close(self):
        self.seen.append(current_span().span_id)


async def test_each_step_of_a_body_is_inside_of_the_request_and_the_server_is_not():
    told = await listening()
    given = Body(b"a", b"b")
    body = run(answering(given))
    between = [current_span()]
    between += [current_span() for _ in body]
    [one] = told.of()
    body.close()
    between.append(current_span())
    assert set(between) == {None}
    assert set(given.seen) == {one["span_id"]}
    assert len(given.seen) == 5
    assert told.of() == [one]


async def test_nothing_is_read_ahead():
    await listening()
    given = Body(b"a", b"b")
    body = iter(run(answering(given)))
    assert next(body) == b"a"
    assert given.parts == [b"b"]


@pytest.mark.parametrize(
    ("environ", "status", "gone"),
    [({}, "200 OK", True), ({"REQUEST_METHOD": "HEAD"}, "200 OK", None), ({}, "304 Not Modified", None)],
)
async def test_a_body_that_is_closed_early_ends_the_operation(environ, status, gone):
    told = await listening()
    body = run(answering(Body(b"a", b"b"), status), environ)
    assert told.ends == []
    body.close()
    one = await told.one()
    assert (one.outcome, one["http.client_disconnected"]) == ("success", gone)


async def test_an_exception_in_a_body_is_an_error():
    told = await listening()
    body = run(answering(Body(b"a", fails=ValueError("half"))))
    with pytest.raises(ValueError, match="half"):
        list(body)
    body.close()
    one = await told.one()
    assert (one.outcome, one.status, one["error"]) == ("error", 200, "half")


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
async def test_whatever_the_application_raises_comes_out(error):
    told = await listening()

    def app(environ, start_response):
        raise error

    with pytest.raises(type(error)):
        run(app)
    one = await told.one()
    assert (one.outcome, one.status) == ("error", 500 if isinstance(error, Exception) else None)
    assert current_span() is None


async def test_a_generator_that_starts_late_is_an_application_too():
    told = await listening()

    def app(environ, start_response):
        start_response("201 Created", [])
        yield b"x"

    assert b"".join(run(app)) == b"x"
    assert (await told.one()).status == 201


async def test_a_server_still_sees_how_many_parts_there_are():
    told = await listening()
    _, headers, body = await ask(answering([b"abc"]), "/", validated=False)
    assert body == b"abc"
    told.ends.clear()
    app = TelemetryMiddleware(answering([b"abc"]))
    _, headers, body = await ask(app, "/", validated=False)
    assert (headers["Content-Length"], body) == ("3", b"abc")
    await told.one()


async def test_a_file_goes_to_the_server_as_it_is():
    told = await listening()
    closed = []
    file = io.BytesIO(b"abc")
    file.close = lambda: closed.append(True)
    given = FileWrapper(file)
    body = run(answering(given), {"wsgi.file_wrapper": FileWrapper})
    assert body is given
    assert told.ends == []
    body.close()
    await told.one()
    assert closed == [True]


async def test_what_start_response_is_given_and_returns_is_kept():
    await listening()
    seen = []

    def app(environ, start_response):
        seen.append(start_response("200 OK", [("a", "b")], None))
        return []

    def start_response(*given):
        seen.append(given)
        return "write"

    environ = {}
    setup_testing_defaults(environ)
    TelemetryMiddleware(app)(environ, start_response)
    assert seen == [("200 OK", [("a", "b")], None), "write"]


@pytest.mark.parametrize(
    "environ",
    [
        {"HTTP_USER_AGENT": "\xff\xfe", "HTTP_HOST": "[", "HTTP_TRACEPARENT": "\xff"},
        {"PATH_INFO": "\xe2\x82\xac/\xff", "QUERY_STRING": "\xff=\xfe"},
        {"REQUEST_METHOD": 3, "SERVER_PORT": "none", "SERVER_PROTOCOL": None, "HTTP_HOST": ""},
        {"HTTP_TRACEPARENT": f"{REMOTE},{REMOTE}", "HTTP_BAGGAGE": "," * 9000},
        {"wsgi.file_wrapper": 3, "werkzeug.request": 3, "bottle.route": None},
        {"PATH_INFO": Unreadable(), "QUERY_STRING": Unreadable()},
        {"PATH_INFO": "/" + "x" * 1_000_000, "QUERY_STRING": "x" * 1_000_000},
    ],
)
@pytest.mark.parametrize("exclude", [(), "/healthz"])
async def test_nothing_odd_in_an_environment_breaks_the_request(environ, exclude):
    told = await listening()
    assert list(run(answering([b"x"]), environ, exclude=exclude)) == [b"x"]
    one = await told.one()
    assert one.status == 200
    assert all(len(text) < 10_000 for text in one.attributes.values() if isinstance(text, str))


@pytest.mark.parametrize("status", ["", "200", None, "abc", b"200 OK", 200])
async def test_an_odd_status_is_the_servers_to_refuse(status):
    told = await listening()
    assert list(run(answering([b"x"], status))) == [b"x"]
    await told.one()


async def test_where_nobody_listens_the_context_passes():
    seen = []

    def app(environ, start_response):
        seen.append(trace_context()["traceparent"])
        return [b"x"]

    assert type(run(app, {"HTTP_TRACEPARENT": REMOTE})) is list
    assert seen == [REMOTE]
    assert current_span() is None

    def lazily(environ, start_response):
        yield trace_context()["traceparent"].encode()

    assert list(run(lazily, {"HTTP_TRACEPARENT": REMOTE})) == [REMOTE.encode()]


async def test_requests_are_left_out_and_still_in_their_trace():
    told = await listening()

    def app(environ, start_response):
        start_response("200 OK", [])
        yield trace_context()["traceparent"].encode()

    environ = {"HTTP_TRACEPARENT": REMOTE, "PATH_INFO": "/healthz"}
    assert list(run(app, environ, exclude=["/healthz"])) == [REMOTE.encode()]
    assert told.ends == []


async def test_two_of_them_make_one_operation():
    told = await listening()
    assert list(run(TelemetryMiddleware(answering([b"x"])))) == [b"x"]
    await told.one()


async def test_the_application_may_say_which_route_it_took():
    told = await listening()

    def app(environ, start_response):
        environ["shop.route"] = "/{x}"
        return answering([b"x"])(environ, start_response)

    list(run(app, route=lambda environ: environ.get("shop.route")))
    assert (await told.one()).name == "GET /{x}"


async def test_a_route_that_bottle_found_is_told():
    told = await listening()

    class Route:
        rule = "/users/<name>"

    list(run(answering([b"x"]), {"bottle.route": Route()}))
    assert (await told.one()).name == "GET /users/<name>"


# --- gunicorn -----------------------------------------------------------------------------------------------


APPLICATION = """
import sys
from flask import Flask
from otpylib_telemetry import execute, span
from otpylib_telemetry.bus.table import current
from otpylib_telemetry.instrument.wsgi import TelemetryMiddleware
import asyncio
from otpylib_telemetry import attach

def say(name, measurements, metadata):
    gone = metadata.get("http.client_disconnected")
    print("TOLD", name, metadata.get("span.name"), metadata["trace_id"], gone, flush=True)

asyncio.run(attach("say", "http.server.request.success", say))
app = Flask("shop")

@app.get("/users/<name>")
def user(name):
    return name

@app.get("/file")
def file():
    from flask import send_file
    return send_file(__file__)

app.wsgi_app = TelemetryMiddleware(app.wsgi_app)
"""


@pytest.mark.process
@pytest.mark.parametrize("worker", ["sync", "gthread", "gevent"])
async def test_flask_under_gunicorn(tmp_path, worker):
    (tmp_path / "shop.py").write_text(textwrap.dedent(APPLICATION), encoding="utf-8")
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-k", worker, "-b", f"127.0.0.1:{port}", "shop:app"]
    log = tmp_path / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    url = f"http://127.0.0.1:{port}"
    try:
        await eventually(lambda: asyncio.to_thread(fetch, f"{url}/users/tea", traceparent=REMOTE))
        status, _, body = await asyncio.to_thread(fetch, f"{url}/file")
        assert (status, b"TelemetryMiddleware" in body) == (200, True)
        await eventually(lambda: "GET /file" in log.read_text())
    finally:
        server.terminate()
        server.wait(60)
    said = log.read_text()
    assert f"TOLD http.server.request.success GET /users/<name> {TRACE} None" in said, said
    assert "GET /file" in said
    assert "Traceback" not in said
