"""The page of an exporter as an ASGI application, to be mounted in a server of the user's own.

The application answers at whatever path it is mounted. Who may see it is up to that server; besides, it asks
for the exporter's ``basic_auth``, if there is one.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from otpylib_telemetry.primitives.asgi import application
from otpylib_telemetry_prometheus.mount.in_process import ONLY_GET, UnavailableError, fetch
from otpylib_telemetry_prometheus.page import ScrapeRequest

if TYPE_CHECKING:
    from otpylib_telemetry.primitives.asgi import AsgiApp, Message, Receive, Send


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
        status, told, body = await _answer(exporter, scope)
        headers = {**told, "Content-Length": str(len(body))}
        pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status.value, "headers": pairs})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return application(http)


async def _answer(exporter: str, scope: Message) -> tuple[HTTPStatus, dict[str, str], bytes]:
    if scope["method"] not in {"GET", "HEAD"}:
        return ONLY_GET
    names = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("name[]", ())
    request = ScrapeRequest(_header(scope, b"accept"), _header(scope, b"accept-encoding"), tuple(names))
    try:
        page = await fetch(exporter, request, _header(scope, b"authorization") or None)
    except UnavailableError as error:
        return error.answer
    return HTTPStatus.OK, page.headers(), page.body


def _header(scope: Message, name: bytes) -> str:
    # ASGI: names are in lower case. A header sent twice means the same as its values joined (RFC 9110).
    return b", ".join(value for key, value in scope["headers"] if key == name).decode("latin-1")
