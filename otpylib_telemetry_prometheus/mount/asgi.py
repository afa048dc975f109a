"""The page of an exporter as an ASGI application, to be mounted in a server of the user's own.

The application answers at whatever path it is mounted. Who may see it is up to that server; besides, it asks
for the exporter's ``basic_auth``, if there is one.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from otpylib_telemetry.primitives.asgi import application
from otpylib_telemetry_prometheus.mount.in_process import UnavailableError, fetch
from otpylib_telemetry_prometheus.page import ScrapeRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry.primitives.asgi import AsgiApp, Message, Receive, Send


_TEXT: Final = "text/plain; charset=utf-8"


def asgi_app(exporter: str = "prometheus_exporter") -> AsgiApp:
    """Make an ASGI application that serves the page of an exporter of this process.

    The exporter may run on another event loop, in another thread. Without it the answer is 503 with the
    reason.

    Args:
        exporter: The registered name of the exporter; that of a further instance is ``<name>_exporter``.

    Returns:
        An application as ASGI 3 has it; it also takes part in ``lifespan``, and refuses websockets.
    """

    async def http(scope: Message, _receive: Receive, send: Send) -> None:
        await _http(exporter, scope, send)

    return application(http)


async def _http(exporter: str, scope: Message, send: Send) -> None:
    method = scope["method"]
    if method not in {"GET", "HEAD"}:
        await _say(send, HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD", {"Allow": "GET, HEAD"})
        return
    try:
        page = await fetch(exporter, _request(scope), _header(scope, b"authorization") or None)
    except UnavailableError as error:
        await _say(send, error.status, str(error), error.headers, with_body=method != "HEAD")
        return
    await _send(send, HTTPStatus.OK, page.headers(), page.body, with_body=method != "HEAD")


def _request(scope: Message) -> ScrapeRequest:
    names = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("name[]", ())
    return ScrapeRequest(_header(scope, b"accept"), _header(scope, b"accept-encoding"), tuple(names))


def _header(scope: Message, name: bytes) -> str:
    # ASGI: names are in lower case. A header sent twice means the same as its values joined (RFC 9110).
    return b", ".join(value for key, value in scope["headers"] if key == name).decode("latin-1")


async def _say(
    send: Send,
    status: HTTPStatus,
    text: str,
    headers: Mapping[str, str] | None = None,
    *,
    with_body: bool = True,
) -> None:
    all_headers = {"Content-Type": _TEXT, **(headers or {})}
    await _send(send, status, all_headers, f"{text}\n".encode(), with_body=with_body)


async def _send(
    send: Send, status: HTTPStatus, headers: Mapping[str, str], body: bytes, *, with_body: bool
) -> None:
    pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    pairs.append((b"content-length", str(len(body)).encode("ascii")))
    await send({"type": "http.response.start", "status": status.value, "headers": pairs})
    await send({"type": "http.response.body", "body": body if with_body else b""})
