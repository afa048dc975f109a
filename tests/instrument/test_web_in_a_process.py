"""Web servers that are started inside an otpylib process: handlers call GenServers, many at a time."""

import asyncio
import contextlib
import json

import aiohttp
import pytest
import uvicorn
from aiohttp import web
from otpylib import gen_server, process
from otpylib.gen_server.data import NoReply, Reply
from otpylib.module import GEN_SERVER, OTPModule

from otpylib_telemetry.instrument.aiohttp import middleware
from otpylib_telemetry.instrument.asgi import TelemetryMiddleware
from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from tests.support.waiting import eventually
from tests.support.web import listening

REQUESTS = 50


class Shelf(metaclass=OTPModule, behavior=GEN_SERVER, version="1.0.0"):
    async def init(self, seconds):
        return seconds

    async def handle_call(self, message, _from, state):
        await asyncio.sleep(state)
        return (Reply(payload=message), state)

    async def handle_cast(self, _message, state):
        return (NoReply(), state)

    async def handle_info(self, _message, state):
        return (NoReply(), state)

    async def terminate(self, _reason, _state):
        pass


async def ask_shelf(number, seconds):
    try:
        return await gen_server.call(f"shelf {int(number) % 5}", number, timeout=seconds)
    except TimeoutError:
        return "timed out"


def aiohttp_server(middlewares, seconds):
    async def handler(request):
        return web.json_response(await ask_shelf(request.match_info["number"], seconds))

    @contextlib.asynccontextmanager
    async def serving():
        app = web.Application(middlewares=[middleware] if middlewares else [])
        app.router.add_get("/{number}", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        await runner.cleanup()

    return serving


def uvicorn_server(middlewares, seconds):
    async def app(scope, receive, send):
        answer = json.dumps(await ask_shelf(scope["path"][1:], seconds)).encode()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    @contextlib.asynccontextmanager
    async def serving():
        port = free_port()
        whole = TelemetryMiddleware(app) if middlewares else app
        server = uvicorn.Server(
            uvicorn.Config(whole, port=port, log_level="critical", lifespan="off", reset_contextvars=False)
        )
        running = asyncio.create_task(server._serve())
        await eventually(lambda: server.started)
        yield f"http://127.0.0.1:{port}"
        server.should_exit = True
        await running

    return serving


async def answers(make, *, middlewares, seconds):
    """What many requests at once were answered by a server in a process."""
    up, stop = asyncio.get_running_loop().create_future(), asyncio.Event()

    async def body():
        for number in range(5):
            # Replies come in another order than the calls.
            await gen_server.start(Shelf, 0.01 * (5 - number), f"shelf {number}")
        async with make(middlewares, seconds)() as url:
            up.set_result(url)
            await stop.wait()
        assert process.self() is not None

    pid = await process.spawn(body)
    url = await up

    async def ask(session, number):
        async with session.get(f"{url}/{number}") as response:
            return await response.json()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=REQUESTS)) as session:
        found = await asyncio.gather(*(ask(session, number) for number in range(REQUESTS)))
    stop.set()
    await eventually(lambda: not process.is_alive(pid))
    return found


SERVERS = pytest.mark.parametrize("make", [aiohttp_server, uvicorn_server])


@SERVERS
async def test_without_the_middleware_their_calls_time_out(runtime, make):
    """Else nothing below shows anything."""
    found = await answers(make, middlewares=False, seconds=1)
    assert found.count("timed out") > 0


@pytest.mark.parametrize("listened", [True, False])
@SERVERS
async def test_with_it_every_call_is_answered(runtime, make, listened):
    told = await listening() if listened else None
    assert await answers(make, middlewares=True, seconds=30) == [str(number) for number in range(REQUESTS)]
    if told is not None:
        await told.count(REQUESTS)
