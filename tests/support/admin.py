"""The admin API under test: served on a real socket and a real port, and asked there."""

import asyncio
import contextlib
import io
import json
from typing import NamedTuple

import aiohttp

from otpylib_telemetry import otp
from otpylib_telemetry.admin.service import TelemetryAdmin
from tests.support.waiting import eventually

NAME = "telemetry_admin"
JSON = {"Content-Type": "application/json"}


class Answer(NamedTuple):
    status: int
    body: object
    headers: object


async def start(**settings):
    """Start the service; returns its statistics once it goes by them."""
    await otp.start_server(TelemetryAdmin, {"enabled": True, **settings}, NAME, link=False)
    await eventually(lambda: stats_now_are(lambda found: found["state"] != "starting"))
    return await stats()


async def stats():
    return await otp.safe_call(NAME, ("get_stats",), timeout=60)


async def stats_now_are(test):
    return test(await stats())


class Client:
    """Asks the API over a socket or a port."""

    def __init__(self, *, socket=None, port=None, token=None, headers=None):
        self._socket = socket
        self.base = "http://localhost" if socket else f"http://127.0.0.1:{port}"
        self._headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}

    @contextlib.asynccontextmanager
    async def session(self):
        connector = aiohttp.UnixConnector(self._socket) if self._socket else None
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            yield session

    async def ask(self, method, path, body=None, **headers):
        """Send a request; the answer's JSON is read."""
        own = {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        data = None if data is None else io.BytesIO(data)
        own = {**({} if method in {"GET", "HEAD"} else JSON), **self._headers, **own}
        url = self.base + path
        async with self.session() as session, session.request(method, url, data=data, headers=own) as answer:
            text = await answer.text()
        return Answer(answer.status, json.loads(text) if text else None, answer.headers)

    async def get(self, path, **headers):
        return await self.ask("GET", path, **headers)

    @contextlib.asynccontextmanager
    async def events(self, query=""):
        """Read live events: an iterator of ``(kind, data)``, heartbeats as ``("heartbeat", None)``."""
        url = f"{self.base}/events{query}"
        async with self.session() as session, session.get(url, headers=self._headers) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.content_type == "text/event-stream"
            yield Stream(answer)


class Stream:
    def __init__(self, answer):
        self.answer = answer

    async def to_the_end(self):
        while True:
            await self.next()

    async def next(self):
        lines = []
        while True:
            line = (await asyncio.wait_for(self.answer.content.readline(), 60)).decode()
            if not line:
                raise EOFError
            if line == "\n":
                break
            lines.append(line.rstrip("\n"))
        if lines == [": heartbeat"]:
            return "heartbeat", None
        found = dict(line.split(": ", 1) for line in lines)
        return found.get("event", "message"), json.loads(found["data"])
