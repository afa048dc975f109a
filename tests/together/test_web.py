"""Requests to web servers, as they are seen on the metrics page and at an OTLP receiver."""

import asyncio

import aiohttp
import pytest
from aiohttp import web
from flask import Flask, abort
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from otpylib_telemetry.instrument import asgi, wsgi
from otpylib_telemetry.instrument.aiohttp import middleware, trace_config
from otpylib_telemetry_mock.exported import assert_metric, assert_span
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_prometheus import start_prometheus_exporter
from tests.support.ledger import stats_of
from tests.support.waiting import eventually
from tests.support.web import AsgiServer, fetch, wsgi_server

OTEL, PROM = "otel_exporter", "prometheus_exporter"
METRIC = "http_server_request_duration_seconds"


@pytest.fixture
async def exits(runtime, http_receiver):
    """Both exporters: what gives the page, and the receiver."""
    otlp = {"endpoint": http_receiver.endpoint, "protocol": "http/protobuf", "metrics_interval": 0.1}
    await start_otel_exporter({**otlp, "flush_interval": 0.05})
    await start_prometheus_exporter({"port": 0})
    stats = await eventually(lambda: _running(PROM))

    async def page():
        return (await asyncio.to_thread(fetch, stats["url"]))[2].decode()

    return page, http_receiver


async def _running(name):
    stats = await stats_of(name)
    return stats if stats["state"] == "running" and stats.get("url") else None


def starlette_server():
    async def user(request):
        return PlainTextResponse("tea")

    async def refuse(request):
        raise HTTPException(503)

    async def boom(request):
        raise ValueError("no tea")

    routes = [Route("/users/{id}", user), Route("/refuse", refuse), Route("/boom", boom)]
    return AsgiServer(asgi.TelemetryMiddleware(Starlette(routes=routes)))


def flask_server():
    app = Flask("shop")
    app.log_exception = lambda _error: None
    app.add_url_rule("/users/<id>", "user", lambda **_: "tea")
    app.add_url_rule("/refuse", "refuse", lambda: abort(503))
    app.add_url_rule("/boom", "boom", _boom)
    app.wsgi_app = wsgi.TelemetryMiddleware(app.wsgi_app)
    return wsgi_server(app)


def _boom():
    raise ValueError("no tea")


@pytest.mark.parametrize(
    ("make", "route"),
    [(starlette_server, "/users/{id}"), (flask_server, "/users/<id>")],
    ids=["asgi", "wsgi"],
)
async def test_both_exits_tell_what_was_asked_for(exits, make, route):
    page, receiver = exits

    def ask():
        with make() as url:
            for number in range(3):
                fetch(f"{url}/users/{number}")
            fetch(f"{url}/refuse")
            fetch(f"{url}/boom")
            fetch(f"{url}/nowhere/1")
            fetch(f"{url}/nowhere/2")

    await asyncio.to_thread(ask)
    always = {"http_request_method": "GET", "url_scheme": "http", "network_protocol_version": "1.1"}
    expected = [
        (3, {"http_route": route, "http_response_status_code": "200"}),
        (1, {"http_route": "/refuse", "http_response_status_code": "503", "error_type": "503"}),
        (1, {"http_route": "/boom", "http_response_status_code": "500", "error_type": "ValueError"}),
        (2, {"http_response_status_code": "404"}),
    ]

    async def is_there():
        text = await page()
        for count, labels in expected:
            assert_metric(text, f"{METRIC}_count", count, {**always, **labels})
        return text

    text = await eventually(is_there)
    lines = [line for line in text.splitlines() if line.startswith(f"{METRIC}_count")]
    assert len(lines) == len(expected)
    known = {"http_request_method", "url_scheme", "network_protocol_version", "http_route"}
    known |= {"http_response_status_code", "error_type"}
    shown = {
        pair.partition("=")[0]
        for line in lines
        for pair in line.partition("{")[2].rpartition("}")[0].split(",")
    }
    assert shown <= known
    await eventually(lambda: sum(p.name == "http.server.request.duration" for p in receiver.metrics) > 0)
    await eventually(lambda: len([each for each in receiver.spans if each.kind == "SERVER"]) == 7)
    attributes = {"http.route": "/boom", "http.response.status_code": 500, "error.type": "ValueError"}
    [boom] = assert_span(receiver, "GET /boom", attributes=attributes)
    assert (boom.status, boom.status_message) == ("ERROR", "no tea")
    assert [event.name for event in boom.events] == ["exception"]
    [refused] = assert_span(receiver, "GET /refuse", attributes={"error.type": "503"})
    assert (refused.status, refused.status_message, refused.events) == ("ERROR", "", [])


async def test_client_and_server_make_one_tree_across_the_wire(exits):
    page, receiver = exits

    async def user(request):
        return web.Response(text="tea")

    app = web.Application(middlewares=[middleware])
    app.router.add_get("/users/{id}", user)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with (
        aiohttp.ClientSession(trace_configs=[trace_config()]) as session,
        session.get(f"{url}/users/7"),
    ):
        pass
    await runner.cleanup()
    await eventually(lambda: len(receiver.spans) == 2)
    [client] = assert_span(receiver, "GET")
    [server] = assert_span(receiver, "GET /users/{id}")
    assert (client.kind, server.kind) == ("CLIENT", "SERVER")
    assert (server.trace_id, server.parent_span_id) == (client.trace_id, client.span_id)

    async def is_there():
        text = await page()
        assert_metric(text, f"{METRIC}_count", 1, {"http_route": "/users/{id}"})
        return assert_metric(
            text, "http_client_request_duration_seconds_count", 1, {"server_address": "127.0.0.1"}
        )

    await eventually(is_there)
