"""OTLP over HTTP: one attempt to send one request.

The client is our own and not OpenTelemetry's exporter, which takes a redirect for success, does not read a
partial success, and retries inside an attempt.

Imports urllib3: to be imported only where something is about to be exported.
"""

from __future__ import annotations

import datetime as dt
import gzip
import http.client
import socket
import ssl
import time
import zlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

from otpylib_telemetry.exporter.errors import DestinationError, ExportError
from otpylib_telemetry.primitives.fork import new_lock
from otpylib_telemetry.primitives.proxies import Proxy, ProxyError, proxy_for
from otpylib_telemetry_otel.otlp import mistakes
from otpylib_telemetry_otel.otlp.certificates import why_refused
from otpylib_telemetry_otel.otlp.credentials import watched
from otpylib_telemetry_otel.otlp.greeting import why_closed
from otpylib_telemetry_otel.otlp.reply import PROTOBUF, accepted, no_answer, refused_by_http, too_large
from otpylib_telemetry_otel.version import user_agent

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.exporter.collected import ExportOutcome
    from otpylib_telemetry_otel.otlp.services import Service
    from otpylib_telemetry_otel.settings.connection import Connection


#: OTLP specification, "OTLP/HTTP Request": the size every server is to take, in bytes before compression.
MAX_REQUEST: Final = 20 * 1024 * 1024

#: An answer to an export is some bytes; nobody has to read more of what is something else.
MAX_ANSWER: Final = 65_536

#: Connections kept for the next request; with fewer than are in use at once, urllib3 complains in the log.
KEPT_CONNECTIONS: Final = 64

_HTTP_PORT: Final = 80
_HTTPS_PORT: Final = 443

#: OpenSSL's numbers for a certificate before and after its time.
_WRONG_TIME: Final = frozenset({9, 10})


#: What Python's HTTP client says of a proxy that makes no tunnel.
_REFUSED_BY_PROXY: Final = "Tunnel connection failed: "


class HttpTransport:
    """Sends requests of one signal to one URL. Safe to be used by several threads."""

    def __init__(self, service: Service, connection: Connection) -> None:
        self._service = service
        self._url = connection.url or ""
        self._timeout = connection.timeout
        # In this order: what describes the body is not for a setting to change.
        self._headers = {"user-agent": user_agent(), **connection.headers, "content-type": PROTOBUF}
        self._compression = connection.compression
        if self._compression != "none":
            self._headers["content-encoding"] = self._compression
        self._watched = watched(connection.files)
        self._max_request = MAX_REQUEST
        #: The time in seconds since the epoch.
        self._clock: Callable[[], float] = time.time
        self._lock = new_lock()
        self._pool: urllib3.PoolManager | None = None
        self._proxy: Proxy | None = None
        self._closed = False
        # Who has answered once speaks what it is spoken to in.
        self._has_answered = False

    def send(self, body: bytes) -> ExportOutcome | None:
        """Send a request and wait for the answer; return what was not taken, None if everything was."""
        if len(body) > self._max_request:
            raise too_large(len(body), self._max_request)
        if self._watched is not None and self._watched.renewed():
            self._forget_connections()
        deadline = time.monotonic() + self._timeout
        try:
            response = self._connections().request(
                "POST",
                self._url,
                body=_compressed(body, self._compression),
                headers=self._headers,
                timeout=urllib3.Timeout(total=self._timeout),
                redirect=False,
                retries=False,
                preload_content=False,
            )
            self._has_answered = True
            answer = _read(response, deadline)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._failure(error) from error
        if 200 <= response.status < 300:  # noqa: PLR2004 - the class of status codes that means success
            return accepted(self._service, answer, response.headers.get("content-type", ""))
        reason = response.reason or ""
        if response.status == http.HTTPStatus.PROXY_AUTHENTICATION_REQUIRED and self._proxy is not None:
            reason = f"{reason} (of the proxy {self._proxy.name})"
        raise refused_by_http(response.status, reason, response.headers, answer or b"", self._clock())

    def close(self) -> None:
        """Close the connections. A request under way ends as soon as its connection does."""
        self._closed = True
        self._forget_connections()

    def _connections(self) -> urllib3.PoolManager:
        with self._lock:
            if self._closed:
                raise ExportError("the exporter is closed")
            if self._pool is None:
                context = None if self._watched is None else self._watched.credentials.context
                self._proxy = self._find_proxy()
                self._pool = _pool(self._proxy, context)
            return self._pool

    def _find_proxy(self) -> Proxy | None:
        """Return the proxy of the environment, or of the system's settings."""
        try:
            proxy = proxy_for(self._url, getproxies())
        except ProxyError as error:
            # It may be mended where the application is started; what waits is not lost meanwhile.
            raise ExportError(str(error)) from None
        return None if proxy is None or proxy_bypass(urlsplit(self._url).netloc) else proxy

    def _forget_connections(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.clear()

    def _failure(self, error: Exception) -> ExportError:
        cause = _root(error)
        if isinstance(cause, TimeoutError | urllib3.exceptions.TimeoutError):
            return no_answer(self._timeout)
        url = urlsplit(self._url)
        said, words = _in_words(cause), self._mistake(cause)
        if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in _WRONG_TIME:
            present = dt.datetime.fromtimestamp(self._clock(), tz=dt.UTC)
            port = url.port or _HTTPS_PORT
            said, words = why_refused(url.hostname or "", port, present) or said, mistakes.DATES
        where = url.netloc
        if self._proxy is not None:
            at_proxy = isinstance(error, urllib3.exceptions.ProxyError)
            where += (
                f": the proxy {self._proxy.name}" if at_proxy else f" (through the proxy {self._proxy.name})"
            )
        if isinstance(error, urllib3.exceptions.LocationValueError):
            return DestinationError(f"{where}: {said}")
        return mistakes.error_of(f"{where}: {said}", words) if words else ExportError(f"{where}: {said}")

    def _mistake(self, cause: BaseException) -> str | None:
        """Return the likely mistake behind what ended a request, if no batch can have caused it."""
        url = urlsplit(self._url)
        match cause:
            case ssl.SSLError():
                return mistakes.of_tls(f"{cause.reason} {cause}")
            case socket.gaierror():
                return mistakes.NO_HOST
            case http.client.RemoteDisconnected() | ConnectionResetError() if (
                self._proxy is None and not self._has_answered
            ):
                host, encrypted = url.hostname or "", url.scheme == "https"
                port = url.port or (_HTTPS_PORT if encrypted else _HTTP_PORT)
                return why_closed(host, port, encrypted=encrypted, is_grpc=False)
            case _:
                return mistakes.NOT_HTTP if _speaks_no_http(cause) else None


def _compressed(body: bytes, compression: str) -> bytes:
    match compression:
        case "gzip":
            # Without the time, so that the same batch is the same bytes.
            return gzip.compress(body, compresslevel=6, mtime=0)
        case "deflate":
            return zlib.compress(body)
        case _:
            return body


def _pool(proxy: Proxy | None, context: ssl.SSLContext | None) -> urllib3.PoolManager:
    """Make a connection pool, through a proxy if there is one."""
    options: dict[str, Any] = {"maxsize": KEPT_CONNECTIONS}
    if context is not None:
        options["ssl_context"] = context
    if proxy is None:
        return urllib3.PoolManager(**options)
    if proxy.is_socks:
        if find_spec("socks") is None:
            raise ExportError(f"the proxy {proxy.name} speaks SOCKS, which needs the package PySocks")
        from urllib3.contrib.socks import SOCKSProxyManager  # noqa: PLC0415 - of a package that few have

        pool: urllib3.PoolManager = SOCKSProxyManager(
            proxy.url, username=proxy.username, password=proxy.password, **options
        )
        return pool
    headers = {"proxy-authorization": proxy.authorization} if proxy.authorization else None
    return urllib3.ProxyManager(proxy.url, proxy_headers=headers, **options)


def _read(response: urllib3.BaseHTTPResponse, deadline: float) -> bytes | None:
    """Read an answer, no longer than until the deadline and no more than is worth reading.

    None stands for one that cannot be decompressed: what its status says counts all the same.
    """
    parts: list[bytes] = []
    size = 0
    try:
        while size <= MAX_ANSWER and (part := response.read1(MAX_ANSWER, decode_content=True)):
            parts.append(part)
            size += len(part)
            if time.monotonic() > deadline:
                raise TimeoutError  # noqa: TRY301 - the same as if the socket had said it
    except urllib3.exceptions.DecodeError:
        response.close()
        return None
    except BaseException:
        response.close()
        raise
    if size > MAX_ANSWER:
        response.close()
    # Back into the pool, unless it was closed.
    response.release_conn()
    return b"".join(parts)[:MAX_ANSWER]


def _root(error: BaseException) -> BaseException:
    """The innermost cause: around it, urllib3 wraps the same words several times."""
    seen = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = getattr(error, "reason", None) or (error.args[-1] if error.args else None)
        if not isinstance(inner, BaseException):
            inner = error.__cause__
        if not isinstance(inner, BaseException):
            return error
        error = inner
    return error


def _speaks_no_http(error: BaseException) -> bool:
    return isinstance(error, http.client.HTTPException) and not isinstance(
        error, OSError | http.client.IncompleteRead
    )


def _in_words(error: BaseException) -> str:  # noqa: PLR0911 - one line for each kind
    match error:
        case ssl.SSLCertVerificationError():
            return f"the server's certificate is not accepted: {error.verify_message}"
        case ssl.SSLEOFError():
            return mistakes.CUT_OFF
        case ssl.SSLError() if error.reason:
            return f"TLS fails: {error.reason.lower().replace('_', ' ')}"
        case socket.gaierror():
            return f"the host cannot be found: {error.strerror}"
        case http.client.RemoteDisconnected():
            return mistakes.CLOSED
        case OSError() if error.strerror:
            return error.strerror
        case OSError() if str(error).startswith(_REFUSED_BY_PROXY):
            return f"it refuses ({str(error).removeprefix(_REFUSED_BY_PROXY)})"
        case http.client.IncompleteRead():
            return "the answer was cut short"
        case http.client.HTTPException() if _speaks_no_http(error):
            return f"the answer cannot be read ({type(error).__name__})"
        case _:
            return f"{type(error).__name__}: {error}"
