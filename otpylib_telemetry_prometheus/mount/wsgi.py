"""The page of an exporter as a WSGI application, to be mounted in a server of the user's own.

The application answers at whatever path it is mounted. Who may see it is up to that server; besides, it asks
for the exporter's ``basic_auth``, if there is one. The server has to run on threads other than that of the
exporter's event loop.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from otpylib_telemetry_prometheus.mount.in_process import ONLY_GET, UnavailableError, fetch_from_thread
from otpylib_telemetry_prometheus.page import ScrapeRequest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from wsgiref.types import StartResponse, WSGIApplication


def wsgi_app(exporter: str = "prometheus_exporter") -> WSGIApplication:
    """Make a WSGI application that serves the page of an exporter of this process.

    Without such an exporter the answer is 503 with the reason.

    Args:
        exporter: The registered name of the exporter; that of a further instance is ``<name>_exporter``.

    Returns:
        An application as PEP 3333 has it.
    """

    def app(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        status, headers, body = _answer(exporter, environ)
        length = ("Content-Length", str(len(body)))
        start_response(f"{status.value} {status.phrase}", [*headers.items(), length])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    return app


def _answer(exporter: str, environ: Mapping[str, Any]) -> tuple[HTTPStatus, dict[str, str], bytes]:
    if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
        return ONLY_GET
    request = ScrapeRequest(
        environ.get("HTTP_ACCEPT", ""),
        environ.get("HTTP_ACCEPT_ENCODING", ""),
        tuple(parse_qs(environ.get("QUERY_STRING", "")).get("name[]", ())),
    )
    try:
        page = fetch_from_thread(exporter, request, environ.get("HTTP_AUTHORIZATION"))
    except UnavailableError as error:
        return error.answer
    return HTTPStatus.OK, page.headers(), page.body
