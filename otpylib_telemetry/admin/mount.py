"""The API inside a server of the user's own: routes of aiohttp, and an ASGI application.

That server may run on another event loop than the exporters, in another thread: requests are answered on
theirs. Who may ask is up to that server; besides, a token may be asked for.
"""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from pydantic import SecretStr

from otpylib_telemetry.admin import api
from otpylib_telemetry.admin.access import Access
from otpylib_telemetry.admin.problems import ProblemError, body_too_long
from otpylib_telemetry.admin.routing import Answer, Request
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.primitives.asgi import application

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine
    from concurrent.futures import Future

    from otpylib_telemetry.primitives.asgi import AsgiApp, Message, Receive, Send

#: Bytes that a body may have.
_LONGEST_BODY: Final = 1024 * 1024

#: Seconds that a client may take to read what is written for it.
STALLED: Final = 30.0


def access_of(token: str | None) -> Access:
    """Return who may ask: by which name the server is called is its own affair."""
    return Access(None if token is None else SecretStr(token), None)


async def answer(request: Request, access: Access) -> Answer:
    """Answer a request on the event loop that the exporters run on."""
    home = next((each.loop for each in registry.running()), None)
    if home is None or home is asyncio.get_running_loop() or home.is_closed():
        return await api.answer(request, access)
    try:
        body = await request.read()
    except ProblemError as error:
        return api.refused(error)

    async def read() -> bytes:
        return body

    found: Answer = await asyncio.wrap_future(_start(api.answer(replace(request, read=read), access), home))
    return found if isinstance(found.body, bytes) else replace(found, body=_from(found.body, home))


async def _from(
    body: AsyncGenerator[bytes, None], home: asyncio.AbstractEventLoop
) -> AsyncGenerator[bytes, None]:
    """Make a stream of another loop one of this."""

    async def following() -> bytes | None:
        return await anext(body, None)

    try:
        while (piece := await asyncio.wrap_future(_start(following(), home))) is not None:
            yield piece
    finally:
        _start(body.aclose(), home)


def _start(work: Coroutine[Any, Any, Any], home: asyncio.AbstractEventLoop) -> Future[Any]:
    return contextvars.Context().run(asyncio.run_coroutine_threadsafe, work, home)


def asgi_app(token: str | None = None) -> AsgiApp:
    """See :func:`otpylib_telemetry.admin.asgi_app`."""
    access = access_of(token)

    async def http(scope: Message, receive: Receive, send: Send) -> None:
        await _http(access, scope, receive, send)

    return application(http)


async def _http(access: Access, scope: Message, receive: Receive, send: Send) -> None:
    found = await answer(_received(scope, receive), access)
    headers = {
        "content-type": found.media,
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
        **{name.lower(): value for name, value in found.headers.items()},
    }
    if isinstance(found.body, bytes):
        headers["content-length"] = str(len(found.body))
    listed = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": found.status.value, "headers": listed})
    is_head = scope["method"] == "HEAD"
    if isinstance(found.body, bytes):
        await send({"type": "http.response.body", "body": b"" if is_head else found.body})
        return
    if is_head:
        await found.body.aclose()
        await send({"type": "http.response.body", "body": b""})
        return
    await _stream(found.body, receive, send)


async def _stream(body: AsyncGenerator[bytes, None], receive: Receive, send: Send) -> None:
    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def write() -> None:
        async for piece in body:
            async with asyncio.timeout(STALLED):
                await send({"type": "http.response.body", "body": piece, "more_body": True})

    # One that ends ends the other: a client that has gone away, or the last piece.
    tasks = {asyncio.ensure_future(gone()), asyncio.ensure_future(write())}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await body.aclose()


def _received(scope: Message, receive: Receive) -> Request:
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    root = quote(str(scope.get("root_path", "")).rstrip("/"))
    path = raw.decode("latin-1").partition("?")[0]

    async def read() -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise ProblemError(HTTPStatus.BAD_REQUEST, "the client went away", where="body")
            body += message.get("body", b"")
            if len(body) > _LONGEST_BODY:
                raise body_too_long(_LONGEST_BODY)
            if not message.get("more_body", False):
                return bytes(body)

    return Request(
        scope["method"],
        path[len(root) :] if root and path.startswith(f"{root}/") else path,
        scope.get("query_string", b"").decode("latin-1"),
        {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
        read,
    )
