"""Requests of aiohttp in, answers of the API out. Imported where aiohttp is there alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from otpylib_telemetry.admin import api, mount, sockets
from otpylib_telemetry.admin.access import access_of
from otpylib_telemetry.admin.problems import body_too_long
from otpylib_telemetry.admin.routing import Request

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from otpylib_telemetry.admin.access import Access
    from otpylib_telemetry.admin.routing import Answer

__all__ = ["access_of", "answer", "received", "sent", "web"]

#: Bytes that a body may have: what aiohttp's low-level server takes.
_LONGEST_BODY: Final = 1024 * 1024

#: Seconds between two looks whether the client is still there.
_LOOK: Final = 0.5

#: Bytes that wait for a client which does not read, at most.
_BUFFERED: Final = 64 * 1024


async def answer(request: web.BaseRequest, access: Access, *, is_private: bool) -> web.StreamResponse:
    """Answer a request of the API's own server."""
    return await sent(request, await api.answer(received(request, is_private=is_private), access))


def routes(prefix: str, token: str | None) -> list[web.AbstractRouteDef]:
    """See :func:`otpylib_telemetry.admin.routes`."""
    prefix, access = f"/{prefix.strip('/')}".rstrip("/"), mount.access_of(token)

    async def answered(request: web.Request) -> web.StreamResponse:
        # The pattern as a whole: an application may be part of another one, below a path of its own.
        resource = request.match_info.route.resource
        below = "" if resource is None else resource.canonical.removesuffix("/{tail}").rstrip("/")
        found = received(request)
        found = replace(found, path=found.path[len(below) :] or "/")
        return await sent(request, await mount.answer(found, access))

    return [web.route("*", f"{prefix}/{{tail:.*}}", answered), web.route("*", prefix or "/", answered)]


def received(request: web.BaseRequest, *, is_private: bool = False) -> Request:
    """Return a request as the API has them."""

    async def read() -> bytes:
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise body_too_long(_LONGEST_BODY) from None

    connected: Any = request.get_extra_info("socket") if is_private else None
    return Request(
        request.method,
        request.rel_url.raw_path,
        request.rel_url.raw_query_string,
        {name.lower(): value for name, value in request.headers.items()},
        read,
        by=None if connected is None else sockets.user_of(connected),
        is_private=is_private,
    )


async def sent(request: web.BaseRequest, found: Answer) -> web.StreamResponse:
    """Send an answer; returns it as aiohttp has it."""
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
        "Content-Type": found.media,
        **found.headers,
    }
    if isinstance(found.body, bytes):
        return web.Response(status=found.status, body=found.body, headers=headers)
    response = web.StreamResponse(status=found.status, headers=headers)
    if request.method == "HEAD":
        await found.body.aclose()
        return response
    await _stream(request, response, found.body)
    return response


async def _stream(
    request: web.BaseRequest, response: web.StreamResponse, body: AsyncGenerator[bytes, None]
) -> None:
    transport: Any = request.transport
    try:
        if transport is not None:
            transport.set_write_buffer_limits(_BUFFERED)
        await response.prepare(request)
        while (piece := await _next(request, body)) is not None:
            async with asyncio.timeout(mount.STALLED):
                await response.write(piece)
    except (TimeoutError, ConnectionError):
        # It went away, or takes nothing any more.
        if transport is not None:
            transport.abort()
    finally:
        await body.aclose()


async def _next(request: web.BaseRequest, body: AsyncGenerator[bytes, None]) -> bytes | None:
    """Return the next piece, or None at the end, which is also when the client has gone away."""
    # aiohttp goes on with the handler of a request whose connection is lost.
    waiting = asyncio.ensure_future(anext(body, None))
    try:
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=_LOOK)
            if request.transport is None or request.transport.is_closing():
                return None
        return waiting.result()
    finally:
        waiting.cancel()
        await asyncio.wait({waiting})
