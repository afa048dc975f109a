"""Asks the admin API of an application, over a Unix socket or HTTP; what goes wrong is told in words."""

from __future__ import annotations

import contextlib
import getpass
import http.client
import json
import os
import socket
import ssl
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from otpylib_telemetry.command.screen import UsageError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

#: Seconds that the application has for an answer.
PATIENCE: Final = 20.0

#: The same where destinations are probed, section after section.
CHANGING: Final = 120.0

#: Seconds between two signs of life of a stream: the server sends one at least every 15.
_HEARTBEAT: Final = 60.0

_ERRORS: Final = 400


class Target(NamedTuple):
    """Where the API is: a socket, or a URL with a token."""

    socket: str | None = None
    url: str | None = None
    token: str | None = None

    def __str__(self) -> str:
        return self.socket or self.url or ""


class FailedError(Exception):
    """The application cannot be reached, or does not do what it was asked for; the message says why.

    ``problem`` is what the API answered, if it did.
    """

    def __init__(self, message: str, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.problem = problem


class Client:
    """Asks one application; each request has a connection of its own."""

    def __init__(self, target: Target) -> None:
        self.target = target
        try:
            self._split = urlsplit(target.url or "http://localhost")
            good = self._split.scheme in {"http", "https"} and bool(self._split.hostname)
            good = good and self._split.username is None and self._split.port != 0
        except ValueError:
            good = False
        if not good:
            raise UsageError("--url: expected http://HOST:PORT or https://HOST:PORT, without a user")

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: object = None,
        seconds: float = PATIENCE,
        **in_path: object,
    ) -> Any:
        """Return what the API answers, as JSON has it. ``path`` is that of the API's document."""
        with self._answered(method, path, query, body, seconds, in_path) as (answer, _), self._told():
            return self._json(answer, answer.read())

    def events(
        self, path: str, query: Mapping[str, Any], *, seconds: float | None = None
    ) -> Generator[tuple[str, Any], None, None]:
        """Yield server-sent events as they come: kind and data. Ends after so many seconds."""
        end = None if seconds is None else time.monotonic() + seconds
        with self._answered("GET", path, query, None, _HEARTBEAT, {}) as (answer, sock), self._told():
            while True:
                left = _HEARTBEAT if end is None else min(end - time.monotonic(), _HEARTBEAT)
                if left <= 0:
                    return
                sock.settimeout(left)
                try:
                    found = _next_event(answer)
                except TimeoutError:
                    if end is not None and time.monotonic() >= end:
                        return
                    raise
                if found is None:
                    raise FailedError(f"the application at {self.target} ended the connection")
                yield found

    @contextlib.contextmanager
    def _answered(  # noqa: PLR0913, PLR0917  # what a request is made of
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: object,
        seconds: float,
        in_path: Mapping[str, object],
    ) -> Iterator[tuple[http.client.HTTPResponse, socket.socket]]:
        """Send a request; gives an answer that is good, and what it comes from."""
        filled = path.format(**{name: quote(str(value), safe="") for name, value in in_path.items()})
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = f"{self._split.path.rstrip('/')}{filled}{f'?{urlencode(given)}' if given else ''}"
        data = None if body is None else json.dumps(body).encode()
        connection = self._connection(seconds)
        try:
            with self._told():
                connection.connect()
                sock = connection.sock
                connection.request(method, target, data, self._headers())
                answer = connection.getresponse()
                refused = answer.read() if answer.status >= _ERRORS else None
            if refused is not None:
                raise self._refusal(method, path, answer, refused)
            yield answer, sock
        finally:
            connection.close()

    def _headers(self) -> dict[str, str]:
        found = {"Content-Type": "application/json", "X-Telemetry-By": _user()}
        if self.target.token:
            found["Authorization"] = f"Bearer {self.target.token}"
        return found

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        if self.target.socket is not None:
            return _SocketConnection(self.target.socket, seconds)
        host, port = self._split.hostname or "", self._split.port
        if self._split.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=seconds)
        return http.client.HTTPConnection(host, port, timeout=seconds)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Say in words why an application does not answer."""
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            raise FailedError(_why(self.target, error)) from error

    def _refusal(self, method: str, path: str, answer: http.client.HTTPResponse, body: bytes) -> FailedError:
        try:
            problem = json.loads(body)
            detail = problem["detail"]
        except (ValueError, KeyError, TypeError):
            return self._no_api(answer)
        if answer.status == http.client.UNAUTHORIZED:
            if self.target.token is None:
                return FailedError(
                    f"the application at {self.target} asks for a token: put its telemetry.admin.token into "
                    "the variable TELEMETRY_ADMIN_TOKEN",
                    problem,
                )
            return FailedError(
                f"the token is not that of the application at {self.target}: TELEMETRY_ADMIN_TOKEN has to be "
                "its telemetry.admin.token",
                problem,
            )
        if answer.status in {http.client.NOT_FOUND, http.client.METHOD_NOT_ALLOWED}:
            version = self._version_without(method, path)
            if version is not None:
                return FailedError(
                    f"otpylib-telemetry {version} in the application at {self.target} cannot do this yet "
                    f"({method} {path}): update it there",
                    problem,
                )
        return FailedError(_all_of(problem, str(detail)), problem)

    def _version_without(self, method: str, path: str) -> str | None:
        """Return the version of an application whose API does not have a route; None if it has it."""
        if path == "/openapi.json":
            return None
        try:
            document = self.ask("GET", "/openapi.json")
            return None if method.lower() in document["paths"].get(path, {}) else document["info"]["version"]
        except (FailedError, KeyError, TypeError, AttributeError):
            return None

    def _json(self, answer: http.client.HTTPResponse, body: bytes) -> Any:
        try:
            return json.loads(body)
        except ValueError:
            raise self._no_api(answer) from None

    def _no_api(self, answer: http.client.HTTPResponse) -> FailedError:
        media = answer.headers.get_content_type()
        return FailedError(
            f"what answers at {self.target} is no admin API of otpylib-telemetry (HTTP {answer.status}, "
            f"{media})"
        )


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _next_event(answer: http.client.HTTPResponse) -> tuple[str, Any] | None:
    kind = "message"
    data: list[str] = []
    while line := answer.readline():
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        name, _, value = text.partition(":")
        if not text:
            if data:
                return kind, json.loads("\n".join(data))
        elif not name:
            return "heartbeat", None
        elif name == "event":
            kind = value.strip()
        elif name == "data":
            data.append(value.removeprefix(" "))
    return None


def _why(target: Target, error: Exception) -> str:  # noqa: PLR0911  # one for each reason
    if isinstance(error, TimeoutError):
        return (
            f"the application at {target} does not answer: something blocks its event loop, or it is stopped"
        )
    if target.socket is not None and isinstance(error, OSError):
        found = _why_not_the_socket(target.socket, error)
        if found is not None:
            return found
    if isinstance(error, ConnectionRefusedError):
        return (
            f"nothing listens at {target}: the application does not run, or its telemetry.admin.port is "
            "another"
        )
    if isinstance(error, socket.gaierror):
        return f"the host of {target} cannot be resolved: {error.strerror}"
    if isinstance(error, ssl.SSLError):
        return f"there is no TLS with {target}: {error.reason or error}"
    if isinstance(error, (ConnectionError, http.client.IncompleteRead, http.client.RemoteDisconnected)):
        return f"the application at {target} ended the connection"
    if isinstance(error, http.client.HTTPException):
        return f"what answers at {target} does not speak HTTP"
    return f"{target} cannot be reached: {getattr(error, 'strerror', None) or error}"


def _why_not_the_socket(path: str, error: OSError) -> str | None:  # noqa: PLR0911  # the same
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return (
            f"there is no socket {path}: the application does not run, or its telemetry.admin is not enabled "
            "or has another socket"
        )
    except PermissionError:
        return f"this user may not look at {path}: ask as the user that the application runs as"
    except OSError:
        return None
    if not stat.S_ISSOCK(found.st_mode):
        return f"{path} is no socket"
    if isinstance(error, PermissionError):
        return f"the socket {path} is another user's: ask as {_name_of(found.st_uid)}"
    if isinstance(error, ConnectionRefusedError):
        return f"the socket {path} is that of a process that has ended; the next one to start replaces it"
    return None


def _all_of(problem: Mapping[str, Any], detail: str) -> str:
    """Return a refusal with what was expected, and everything else that is wrong."""
    faults = [
        str(each["what"])
        for each in problem.get("faults") or ()
        if isinstance(each, dict) and str(each.get("what")) not in detail
    ]
    expected = problem.get("expected")
    # A whole sentence, as of the log, has said it.
    is_more = expected and not detail.endswith(".") and str(expected) not in detail
    said = f"{detail}; expected: {expected}" if is_more else detail
    return "\n".join([said, *faults])


def _name_of(uid: int) -> str:
    try:
        import pwd  # noqa: PLC0415  # not on every system

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return f"user {uid}"


def _user() -> str:
    try:
        # A header is of ASCII.
        return getpass.getuser().encode("ascii", "replace").decode()
    except (OSError, KeyError, ImportError):
        return f"user {os.getuid()}" if hasattr(os, "getuid") else "somebody"
