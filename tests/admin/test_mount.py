"""The API in servers of the user's own, and as functions."""

import asyncio
import json
import subprocess
import sys
import threading

import aiohttp
import pytest
import uvicorn
from aiohttp import web

from otpylib_telemetry import admin, execute
from otpylib_telemetry.admin import events
from tests.support import configurable
from tests.support.chassis import emit
from tests.support.waiting import eventually

TOKEN = "0123456789abcdef0123"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
async def serve():
    runners = []

    async def serve(app):
        runner = web.AppRunner(app)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield serve
    for runner in runners:
        await runner.cleanup()


async def ask(url, method="GET", **options):
    async with aiohttp.ClientSession() as session, session.request(method, url, **options) as answer:
        text = await answer.text()
        return answer.status, json.loads(text) if "json" in answer.content_type else text


async def test_an_aiohttp_application_has_the_routes(backend, serve, monkeypatch):
    one = await configurable.start(monkeypatch, "one")
    one.answers |= {
        "try_config": {"valid": True, "problems": [], "changes": {}, "effects": [], "probe": None},
        "apply_config": {"outcome": "applied", "generation": 2, "changes": {}, "problems": []},
    }
    app = web.Application()
    admin.setup(app)
    url = await serve(app)
    status, body = await ask(f"{url}/telemetry/status")
    assert (status, body["exporters"][0]["name"]) == (200, "x_exporter")
    assert (await ask(f"{url}/telemetry/config", "PATCH", json={"one.a": 1}))[0] == 200
    # No form can send this, and that one could.
    assert (await ask(f"{url}/telemetry/flush", "POST", data={"a": "1"}))[0] == 415
    assert (await ask(f"{url}/telemetry/nothing"))[0] == 404
    assert (await ask(f"{url}/status"))[0] == 404


@pytest.mark.parametrize("prefix", ["/telemetry", "telemetry/", "", "/a/b-c"])
async def test_a_prefix_may_be_any_and_the_application_part_of_another(backend, serve, prefix):
    inner, outer = web.Application(), web.Application()
    inner.add_routes(admin.routes(prefix))
    outer.add_subapp("/telemetry", inner)
    url = await serve(outer)
    below = f"{url}/telemetry/{prefix.strip('/')}".rstrip("/")
    assert (await ask(f"{below}/healthz"))[0] == 200
    status, body = await ask(f"{below}/breaker/x_exporter%2F/reset", "POST", headers=JSON)
    assert (status, body["detail"]) == (404, "no exporter 'x_exporter/' runs in this process")


async def test_a_mounted_api_may_ask_for_a_token(backend, serve):
    app = web.Application()
    admin.setup(app, token=TOKEN)
    url = await serve(app)
    assert (await ask(f"{url}/telemetry/status"))[0] == 401
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert (await ask(f"{url}/telemetry/status", headers=headers))[0] == 200


class Uvicorn:
    """An ASGI server on an event loop of another thread."""

    def __init__(self, app):
        config = uvicorn.Config(app, port=0, log_level="critical", lifespan="on")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve()))

    async def __aenter__(self):
        self.thread.start()
        await eventually(lambda: self.server.started)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    async def __aexit__(self, *_error):
        self.server.should_exit = True
        await asyncio.to_thread(self.thread.join)


async def test_an_asgi_application_answers_on_the_loop_of_another_thread(backend):
    async with Uvicorn(admin.asgi_app()) as url:
        emit(2)
        status, body = await ask(f"{url}/flush", "POST", headers=JSON)
        assert (status, body["complete"]) == (200, True)
        assert len(backend.delivered) == 2
        assert (await ask(f"{url}/flush?timeout=x", "POST", headers=JSON))[0] == 422
        status, body = await ask(f"{url}/config", "PATCH", data=b"{", headers=JSON)
        assert (status, body["where"]) == (400, "body")


async def test_a_reader_that_takes_nothing_is_cut_off_under_asgi_too(backend, monkeypatch):
    monkeypatch.setattr("otpylib_telemetry.admin.mount.STALLED", 0.05)
    never = asyncio.Event()

    async def send(message):
        if message["type"] == "http.response.body":
            await never.wait()

    scope = {"type": "http", "method": "GET", "path": "/events", "query_string": b"", "headers": []}
    await asyncio.wait_for(admin.asgi_app()(scope, never.wait, send), 30)
    await eventually(lambda: events.readers() == 0)


async def test_head_of_live_events_is_no_stream(backend):
    # Readers of an earlier test may still be leaving.
    await eventually(lambda: events.readers() == 0)
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "HEAD", "path": "/events", "query_string": b"", "headers": []}
    await asyncio.wait_for(admin.asgi_app()(scope, asyncio.Event().wait, send), 30)
    assert [each.get("status", each.get("body")) for each in sent] == [200, b""]
    await eventually(lambda: events.readers() == 0)


async def test_live_events_pass_from_one_loop_to_the_other(backend):
    async with Uvicorn(admin.asgi_app()) as url:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/events?pattern=shop.*") as answer:
            assert await answer.content.readline() == b"event: open\n"
            execute("shop.sale", {"n": 1})
            while not (line := await answer.content.readline()).startswith(b'data: {"event_name"'):
                pass
            assert json.loads(line[6:])["measurements"] == {"n": 1}
        await eventually(lambda: events.readers() == 0)


async def test_the_two_functions(backend, monkeypatch):
    status = await admin.get_telemetry_status()
    assert status["exporters"][0]["name"] == "x_exporter"
    one = await configurable.start(monkeypatch, "one")
    one.answers |= {
        "try_config": {"valid": True, "problems": [], "changes": {}, "effects": [], "probe": None},
        "apply_config": {"outcome": "applied", "generation": 2, "changes": {}, "problems": []},
    }
    found = await admin.update_telemetry_config({"one.a": 1}, by="Ada", seconds=60)
    assert found["outcome"] == "applied"
    assert one.asked[-1] == ("apply_config", {"a": 1}, {"origin": "api", "by": "Ada", "for": 60.0})
    assert (await admin.update_telemetry_config({"one.a": 1}, dry_run=True))["outcome"] == "would_apply"
    with pytest.raises(ValueError, match="nobody reads this"):
        await admin.update_telemetry_config({"nothing.a": 1})


def test_importing_it_imports_neither_aiohttp_nor_the_models():
    check = (
        "import sys, otpylib_telemetry.admin;"
        "print('aiohttp' in sys.modules, 'otpylib_telemetry.admin.models' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert said.stdout.split()[-2:] == ["False", "False"]
