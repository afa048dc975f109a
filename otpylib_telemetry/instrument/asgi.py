"""Middleware for ASGI applications: Starlette, FastAPI, and any other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any, Final, TypeAlias

from otpylib_telemetry.instrument import http
from otpylib_telemetry.instrument.asgi_routes import Routed
from otpylib_telemetry.instrument.served import EXCLUSION, ROUTE, Served, guarded
from otpylib_telemetry.tracing import bridge

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

#: By which a scope says that its request is told of.
_TOLD: Final = "otpylib_telemetry"
#: By which FastAPI's own telemetry says the same; None where it is to be silent.
_FASTAPI: Final = "fastapi.telemetry"

#: What exceptions are called by which frameworks say that the client has gone away.
_GONE: Final = frozenset(
    {"ClientDisconnect", "WebSocketDisconnect", "ClientDisconnected", "ConnectionClosed"}
)

#: From here on a code with which a server closes a websocket says that something went wrong.
_FAULTY_CLOSE: Final = 1011
_FORBIDDEN: Final = 403


class TelemetryMiddleware:
    """Makes each request and each websocket of an application an operation ``http.server.request``.

    Put it around the application, or give it to ``add_middleware``. It continues the trace of whoever sent
    the request, and runs the application outside of any otpylib process, so that ``gen_server.call`` works in
    its handlers even where the server was started inside one.

    Args:
        app: The application.
        exclude: Requests that are not told of: patterns over the path, such as ``"/healthz"``, or a function
            of the path.
        route: Returns the template that a request's path has matched, from the scope once that was routed;
            None where it knows none. Starlette and FastAPI need none.

    Raises:
        TypeError: ``exclude`` is neither patterns nor a function, or ``app`` or ``route`` is none.
    """

    def __init__(
        self, app: Any, *, exclude: http.Exclude = (), route: Callable[[Scope], str | None] | None = None
    ) -> None:
        self.app = http.function("app", app, "an ASGI application")
        self._is_excluded = http.excluder(exclude)
        self._route = None if route is None else http.function("route", route, "a function of the scope")
        self._known = http.known_methods()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or whatever else the scope is of, which passes untouched."""
        if guarded(_is_request, scope) is not True:
            await self.app(scope, receive, send)
            return
        scope[_TOLD] = True
        excluded = (
            self._is_excluded is not None
            and guarded(self._is_excluded, scope.get("path", ""), part=EXCLUSION) is True
        )
        told = not excluded and not (scope.get(_FASTAPI) is not None and bridge.installed is not None)
        if excluded:
            scope.setdefault(_FASTAPI, None)
        attributes = partial(_attributes, scope, self._known)
        request = Served(scope.get("headers"), attributes, told=told)
        try:
            await request.begin_async()
            if request.listened_to:
                await _Exchange(self.app, scope, request, self._route).run(receive, send)
            else:
                await self.app(scope, receive, send)
        finally:
            request.close()


class _Exchange:
    """What passes between server and application for one request."""

    def __init__(
        self, app: Any, scope: Scope, request: Served, route: Callable[[Scope], str | None] | None
    ) -> None:
        self._app = app
        self._scope = scope
        self._request = request
        own = route is not None
        self._route: Any = route if own else guarded(_routed, app, scope) or _no_route
        self._part = ROUTE if own else "its route"
        self._is_websocket = scope["type"] == "websocket"
        self._has_trailers = False
        self._started = False
        self._complete = False
        # FastAPI tells of requests itself where OpenTelemetry has a provider, and one is enough.
        scope.setdefault(_FASTAPI, None)

    async def run(self, receive: Receive, send: Send) -> None:
        """Run the application."""
        try:
            await self._app(self._scope, partial(self._receive, receive), partial(self._send, send))
        except BaseException as error:
            if not self._request.finished:
                guarded(self._broken_off, error)
                await self._request.finish_async(None if self._is_going_away(error) else error)
            raise
        if not self._request.finished:
            guarded(self._came_back)
            await self._request.finish_async()

    async def _receive(self, receive: Receive) -> Message:
        message = await receive()
        guarded(self._look_at_received, message)
        return message

    async def _send(self, send: Send, message: Message) -> None:
        last = guarded(self._look_at_sent, message) is True
        try:
            await send(message)
        except OSError:
            self._request.disconnected = True
            raise
        if last:
            self._complete = True
            if self._request.is_failure:
                # The exception behind it may be yet to come.
                self._request.settle_duration()
            else:
                self._find_route()
                await self._request.finish_async()

    def _look_at_received(self, message: Message) -> None:
        kind = message["type"]
        if (kind == "http.disconnect" and not self._complete) or (
            kind == "websocket.disconnect" and message.get("code", 1005) not in http.NORMAL_CLOSE
        ):
            self._request.disconnected = True
        if kind == "websocket.disconnect":
            self._complete = True

    def _look_at_sent(self, message: Message) -> bool:
        """Note what is sent; tell whether it is the last of an HTTP response."""
        kind = message["type"]
        if kind in {"http.response.start", "websocket.http.response.start"}:
            self._started = True
            self._has_trailers = bool(message.get("trailers"))
            self._request.respond(int(message["status"]))
        elif kind == "websocket.accept":
            self._started = True
            self._request.respond(http.SWITCHING)
        elif kind == "websocket.close":
            if not self._started:
                self._request.respond(_FORBIDDEN)
            elif message.get("code", 1000) >= _FAULTY_CLOSE:
                self._request.fault(f"websocket {message['code']}")
            self._complete = True
        elif kind == "http.response.body":
            return not message.get("more_body", False) and not self._has_trailers
        elif kind == "http.response.trailers":
            return not message.get("more_trailers", False)
        return bool(kind == "http.response.pathsend")

    def _find_route(self) -> None:
        route = guarded(self._route, self._scope, part=self._part)
        if isinstance(route, str) and route:
            self._request.respond(None, route)

    def _is_going_away(self, error: BaseException) -> bool:
        if not (self._request.disconnected or self._complete):
            return False
        return isinstance(error, OSError) or type(error).__name__ in _GONE

    def _broken_off(self, error: BaseException) -> None:
        """Note that the application ended with an exception: servers answer with 500 where they still can."""
        self._find_route()
        if not self._started and isinstance(error, Exception) and not self._is_going_away(error):
            self._request.respond(http.SERVER_ERROR)

    def _came_back(self) -> None:
        """Note that the application came back, with or without a whole response."""
        self._find_route()
        if self._is_websocket or self._complete or self._request.disconnected:
            return
        if not self._started:
            self._request.respond(http.SERVER_ERROR)
        self._request.fault("incomplete_response")


def _routed(app: Any, scope: Scope) -> Callable[[Scope], str | None]:
    return Routed(app, scope).route


def _no_route(_scope: Scope) -> None:
    return None


def _is_request(scope: Scope) -> bool:
    return scope["type"] in {"http", "websocket"} and _TOLD not in scope


def _attributes(scope: Scope, known: frozenset[str]) -> dict[str, Any]:
    is_websocket = scope["type"] == "websocket"
    scheme = str(scope.get("scheme") or ("ws" if is_websocket else "http"))
    headers = _headers(scope)
    attributes = {
        **http.method_attributes(scope.get("method", "GET"), known),
        "url.scheme": scheme,
        "url.path": _path(scope),
        **http.query(http.header(scope.get("query_string") or b"")),
    }
    if named := http.authority(headers.get("host"), scheme):
        attributes |= named
    elif scope.get("server"):
        address, port = scope["server"]
        attributes |= http.server(address, port, scheme)
    if scope.get("client"):
        attributes["client.address"] = str(scope["client"][0])
    if "user-agent" in headers:
        attributes["user_agent.original"] = headers["user-agent"]
    if is_websocket:
        attributes["network.protocol.name"] = "websocket"
    return attributes | http.protocol_version(str(scope.get("http_version") or ""))


def _headers(scope: Scope) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in scope.get("headers") or ():
        key = bytes(name).lower()
        if key in {b"host", b"user-agent"}:
            found.setdefault(key.decode(), http.header(value))
    return found


def _path(scope: Scope) -> str:
    raw = scope.get("raw_path")
    if raw:
        return http.header(raw).partition("?")[0]
    return http.encoded_path(str(scope.get("path", "")))
