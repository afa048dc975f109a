"""aiohttp: a middleware for servers, and what traces the requests of a client."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import web

from otpylib_telemetry.instrument import http
from otpylib_telemetry.instrument.made import Made
from otpylib_telemetry.instrument.served import EXCLUSION, Served, guarded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import SimpleNamespace

__all__ = ["Middleware", "middleware", "trace_config"]

_GATEWAY_TIMEOUT: Final = 504

#: Bytes of a body that are on their way as soon as they are handed over.
_AT_ONCE: Final = 65536

#: By which a request says that it is told of. Older versions of aiohttp have plain keys only.
_TOLD: Final[Any] = (
    web.RequestKey("otpylib_telemetry", bool) if hasattr(web, "RequestKey") else "otpylib_telemetry"
)


class Middleware:
    """Makes each request to a server an operation ``http.server.request``.

    ``web.Application(middlewares=[middleware])``, as the first of them; ``middleware(exclude=...)`` for one
    with other settings. It continues the trace of whoever sent the request, lasts until the body was sent,
    and runs the handlers outside of any otpylib process, so that ``gen_server.call`` works in them even
    where the server was started inside one.

    Args:
        exclude: Requests that are not told of: patterns over the path, such as ``"/healthz"``, or a function
            of the path.

    Raises:
        TypeError: ``exclude`` is neither patterns nor a function.
    """

    #: By which aiohttp knows what takes request and handler.
    __middleware_version__: Final = 1

    def __init__(self, *, exclude: http.Exclude = ()) -> None:
        self._is_excluded = http.excluder(exclude)
        self._known = http.known_methods()

    def __call__(
        self,
        request: web.Request | None = None,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None,
        *,
        exclude: http.Exclude = (),
    ) -> Any:
        """Serve one request; or, without one, return a middleware with other settings."""
        if request is None and handler is None:
            return Middleware(exclude=exclude)
        if not isinstance(request, web.BaseRequest) or not callable(handler):
            # aiohttp calls it with both: whoever calls it with anything else means its settings.
            raise TypeError(
                "middleware: expected nothing but exclude=..., as in middleware(exclude='/healthz')"
            )
        return self._serve(request, handler)

    async def _serve(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if _TOLD in request:
            return await handler(request)
        request[_TOLD] = True
        excluded = (
            self._is_excluded is not None and guarded(self._is_excluded, request.path, part=EXCLUSION) is True
        )
        served = Served(request.headers, partial(_attributes, request, self._known), told=not excluded)
        try:
            await served.begin_async()
            return await self._handle(request, handler, served)
        finally:
            if not _is_own_task():
                served.close()
            # Else the context ends with the task, and the body that is yet to be made is part of the request.

    async def _handle(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
        served: Served,
    ) -> web.StreamResponse:
        try:
            response = await handler(request)
        except web.HTTPException as answer:
            served.respond(answer.status)
            await served.finish_async()
            raise
        except BaseException as error:
            if isinstance(error, ConnectionError) and _is_gone(request):
                served.disconnected = True
                await served.finish_async()
            else:
                if isinstance(error, Exception):
                    # As aiohttp answers.
                    late = isinstance(error, TimeoutError)
                    served.respond(_GATEWAY_TIMEOUT if late else http.SERVER_ERROR)
                await served.finish_async(error)
            raise
        if not served.listened_to:
            return response
        status = getattr(response, "status", http.SERVER_ERROR)
        if _is_sent_at_once(response) or not _is_own_task():
            served.respond(status)
            await served.finish_async()
        else:
            asyncio.current_task().add_done_callback(partial(_sent, served, response))  # type: ignore[union-attr]
        return response


middleware: Final = Middleware()


def _is_sent_at_once(response: Any) -> bool:
    if not isinstance(response, web.StreamResponse) or isinstance(response, web.WebSocketResponse):
        return True
    body = response.body if isinstance(response, web.Response) else response
    return body is None or (isinstance(body, bytes | bytearray) and len(body) <= _AT_ONCE)


def _is_own_task() -> bool:
    """Tell whether this task is that of one request: aiohttp sends the response in it, and then it ends."""
    task = asyncio.current_task()
    code = None if task is None else getattr(task.get_coro(), "cr_code", None)
    return getattr(code, "co_name", "") == "_handle_request"


def _sent(served: Served, response: web.StreamResponse, task: asyncio.Task[Any]) -> None:
    """Tell of the end: the response was sent, or not."""
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    served.respond(response.status)
    if error is None and guarded(lambda: task.result()[1]) is True:
        served.disconnected = True
    if isinstance(error, ConnectionError):
        served.disconnected, error = True, None
    served.finish(error)


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _attributes(request: web.Request, known: frozenset[str]) -> dict[str, Any]:
    scheme = request.scheme
    agent = request.headers.get("User-Agent")
    attributes = {
        **http.method_attributes(request.method, known),
        "url.scheme": scheme,
        "url.path": request.rel_url.raw_path,
        **http.query(request.rel_url.raw_query_string),
        **http.authority(request.host, scheme),
        **http.present(client__address=request.remote, user_agent__original=agent),
        "network.protocol.version": f"{request.version.major}.{request.version.minor}",
    }
    resource = request.match_info.route.resource
    if resource is not None:
        attributes[http.ROUTE] = resource.canonical
    return attributes


def trace_config() -> aiohttp.TraceConfig:
    """Return what makes each request of a client an operation ``http.client.request``.

    ``aiohttp.ClientSession(trace_configs=[trace_config()])``. The operation lasts until the headers of the
    response are there. The request carries its context; where nobody listens, it carries the caller's.

    Returns:
        The configuration, good for any number of sessions.
    """
    known = http.known_methods()
    config = aiohttp.TraceConfig()

    async def begin(_session: Any, here: SimpleNamespace, request: aiohttp.TraceRequestStartParams) -> None:
        here.otpylib_telemetry = made = Made(request.method, str(request.url), known)
        await made.begin(request.headers)

    async def end(_session: Any, here: SimpleNamespace, answered: aiohttp.TraceRequestEndParams) -> None:
        version = answered.response.version
        said = "" if version is None else f"{version.major}.{version.minor}"
        await here.otpylib_telemetry.finish(answered.response.status, said)

    async def fail(_session: Any, here: SimpleNamespace, failed: aiohttp.TraceRequestExceptionParams) -> None:
        status = getattr(failed.exception, "status", None)
        await here.otpylib_telemetry.finish(status or None, "", failed.exception)

    config.on_request_start.append(begin)
    config.on_request_end.append(end)
    config.on_request_exception.append(fail)
    return config
