"""Middleware for WSGI applications: Flask, Django, Bottle, and any other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Final, TypeAlias

from otpylib_telemetry.instrument import http
from otpylib_telemetry.instrument.served import EXCLUSION, ROUTE, Served, guarded

Environ: TypeAlias = MutableMapping[str, Any]

#: By which an environment says that its request is told of.
_TOLD: Final = "otpylib_telemetry.told"

#: Responses that have no body, so that nobody has to read one.
_BODILESS: Final = frozenset({204, 304})


class TelemetryMiddleware:
    """Makes each request to an application an operation ``http.server.request``.

    Put it around the application: ``app.wsgi_app = TelemetryMiddleware(app.wsgi_app)`` for Flask. It
    continues the trace of whoever sent the request, and lasts until the body was sent.

    Args:
        app: The application.
        exclude: Requests that are not told of: patterns over the path, such as ``"/healthz"``, or a function
            of the path.
        route: Returns the template that a request's path has matched, from the environment once that was
            routed; None where it knows none. Flask and Bottle need none.

    Raises:
        TypeError: ``exclude`` is neither patterns nor a function, or ``app`` or ``route`` is none.
    """

    def __init__(
        self, app: Any, *, exclude: http.Exclude = (), route: Callable[[Environ], str | None] | None = None
    ) -> None:
        self.app = http.function("app", app, "a WSGI application")
        self._is_excluded = http.excluder(exclude)
        self._route = (
            _route if route is None else http.function("route", route, "a function of the environment")
        )
        self._known = http.known_methods()

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        if _TOLD in environ:
            return self.app(environ, start_response)  # type: ignore[no-any-return]  # as WSGI has it
        environ[_TOLD] = True
        excluded = guarded(self._leaves_out, environ, part=EXCLUSION) is True
        request = Served(environ, partial(_attributes, environ, self._known), told=not excluded)
        # A response is made in steps, between which the thread does other things: what they are inside of is
        # a context of its own.
        inside = copy_context()
        inside.run(request.begin)
        exchange = _Exchange(environ, request, inside, self._route)
        run = exchange.told if request.listened_to else exchange.untold
        return run(self.app, start_response)  # type: ignore[no-any-return]  # as above

    def _leaves_out(self, environ: Environ) -> bool:
        return self._is_excluded is not None and self._is_excluded(_whole_path(environ))


class _Exchange:
    """What passes between server and application for one request."""

    def __init__(
        self, environ: Environ, request: Served, inside: Context, route: Callable[[Environ], str | None]
    ) -> None:
        self._environ = environ
        self._request = request
        self.inside = inside
        self._route = route
        self._status = 0

    def untold(self, app: Any, start_response: Callable[..., Any]) -> Any:
        """Run the application, though nobody listens: its trace goes on in each step of the body."""
        body = self.inside.run(app, self._environ, start_response)
        return body if isinstance(body, list | tuple) else _body(self, body, ended=True)

    def told(self, app: Any, start_response: Callable[..., Any]) -> Any:
        """Run the application and tell of the request once its body was sent."""
        try:
            body = self.inside.run(app, self._environ, partial(self._respond, start_response))
        except BaseException as error:
            self.failed(error)
            raise
        return _body(self, body, ended=False)

    def failed(self, error: BaseException) -> None:
        """Note that an exception ended it: servers answer with 500 where they still can."""
        if not self._status and isinstance(error, Exception):
            self._request.respond(http.SERVER_ERROR)
        self.finish(error)

    def finish(self, error: BaseException | None = None) -> None:
        """Tell of its end, once."""
        if not self._request.finished:
            self._find_route()
            self.inside.run(self._request.finish, error)

    def closed_early(self) -> None:
        """Note that the server gave up before the body's end: the client has gone, unless none was wanted."""
        if self._environ.get("REQUEST_METHOD") != "HEAD" and self._status not in _BODILESS:
            self._request.disconnected = True

    def _respond(self, start_response: Callable[..., Any], status: Any, *rest: Any, **more: Any) -> Any:
        guarded(self._look_at, status)
        # Flask takes it away before the body is sent.
        self._find_route()
        return start_response(status, *rest, **more)

    def _look_at(self, status: Any) -> None:
        self._status = int(str(status)[:3])
        self._request.respond(self._status)

    def _find_route(self) -> None:
        route = guarded(self._route, self._environ, part=ROUTE)
        if isinstance(route, str) and route:
            self._request.respond(None, route)


def _body(exchange: _Exchange, body: Any, *, ended: bool) -> Any:
    """Return a body that tells of its end, and is to the server what the one given was."""
    wrapper = exchange._environ.get("wsgi.file_wrapper")  # noqa: SLF001  # of this module
    if isinstance(wrapper, type) and isinstance(body, wrapper):
        # Servers hand such a file to the system as a whole.
        if not ended:
            guarded(_tell_at_close, exchange, body)
        return body
    return (_SizedBody if hasattr(type(body), "__len__") else _Body)(exchange, body, ended=ended)


def _tell_at_close(exchange: _Exchange, body: Any) -> None:
    close = getattr(body, "close", None)

    def told() -> None:
        try:
            if close is not None:
                close()
        finally:
            exchange.finish()

    body.close = told


class _Body:
    """The body of a response: each of its steps runs inside of the request."""

    def __init__(self, exchange: _Exchange, body: Any, *, ended: bool) -> None:
        self._exchange = exchange
        self._given = body
        self._steps: Iterator[bytes] | None = None
        self._ended = ended

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        run = self._exchange.inside.run
        try:
            if self._steps is None:
                self._steps = run(iter, self._given)
            return run(next, self._steps)  # type: ignore[no-any-return]  # as above
        except StopIteration:
            self._end()
            raise
        except BaseException as error:
            if not self._ended:
                self._ended = True
                self._exchange.failed(error)
            raise

    def close(self) -> None:
        """Close the body, read to its end or not."""
        try:
            close = getattr(self._given, "close", None)
            if close is not None:
                self._exchange.inside.run(close)
        except BaseException as error:
            if not self._ended:
                self._ended = True
                self._exchange.failed(error)
            raise
        finally:
            if not self._ended:
                self._exchange.closed_early()
            self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._exchange.finish()


class _SizedBody(_Body):
    """The same where the server can see how many steps there are."""

    def __len__(self) -> int:
        return len(self._given)


def _route(environ: Environ) -> str | None:
    """Return the template as Flask (Werkzeug) and Bottle leave it in the environment."""
    rule = getattr(getattr(environ.get("werkzeug.request"), "url_rule", None), "rule", None)
    if rule is None:
        rule = getattr(environ.get("bottle.route"), "rule", None)
    return None if rule is None else f"{environ.get('SCRIPT_NAME') or ''}{rule}"


def _whole_path(environ: Environ) -> str:
    return f"{environ.get('SCRIPT_NAME') or ''}{environ.get('PATH_INFO') or ''}"


def _attributes(environ: Environ, known: frozenset[str]) -> dict[str, Any]:
    get = environ.get
    scheme = str(get("wsgi.url_scheme") or "http")
    # An environment holds bytes as latin-1.
    path = _whole_path(environ).encode("latin-1", "replace")
    attributes = {
        **http.method_attributes(get("REQUEST_METHOD", "GET"), known),
        "url.scheme": scheme,
        "url.path": http.encoded_path(path) or "/",
        **http.query(_text(get("QUERY_STRING") or "")),
        **http.present(client__address=get("REMOTE_ADDR"), user_agent__original=_agent(environ)),
        **http.protocol_version(str(get("SERVER_PROTOCOL") or "")),
    }
    named = http.authority(get("HTTP_HOST"), scheme)
    if not named:
        port = str(get("SERVER_PORT") or "")
        named = http.server(get("SERVER_NAME"), int(port) if port.isdigit() else None, scheme)
    return attributes | named


def _agent(environ: Environ) -> str | None:
    agent = environ.get("HTTP_USER_AGENT")
    return None if agent is None else _text(agent)


def _text(native: Any) -> str:
    """Return what bytes say that an environment holds as latin-1."""
    return str(native).encode("latin-1", "replace").decode("utf-8", "replace")
