"""One request that is made: an operation whose context goes with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from otpylib_telemetry.instrument import http
from otpylib_telemetry.instrument.served import guarded
from otpylib_telemetry.primitives.exceptions import class_name
from otpylib_telemetry.tracing.span import span
from otpylib_telemetry.tracing.transfer import inject

if TYPE_CHECKING:
    from otpylib_telemetry.tracing.span import Span


class Made:
    """One request of a client.

    Args:
        method: Its method.
        url: Where to.
        known: The methods that are told by their names.
    """

    def __init__(self, method: str, url: str, known: frozenset[str]) -> None:
        self._use: Span = span(http.MADE, lambda: guarded(_attributes, method, url, known) or {})

    async def begin(self, headers: Any) -> None:
        """Begin the operation and put its context into the headers."""
        await self._use.__aenter__()
        inject(headers)

    async def finish(self, status: int | None, version: str, error: BaseException | None = None) -> None:
        """Tell of its end: a response, or an exception."""
        use = self._use
        for key, value in http.protocol_version(version).items():
            use.set_attribute(key, value)
        if status is not None:
            use.set_attribute(http.STATUS, status)
        if error is not None:
            use.set_attribute(http.ERROR_TYPE, class_name(type(error)))
            await use.__aexit__(type(error), error, error.__traceback__)
            return
        if status is not None and status >= http.CLIENT_ERROR:
            use.set_attribute(http.ERROR_TYPE, str(status))
            use.fail("")
        await use.__aexit__(None, None, None)


def _attributes(method: str, url: str, known: frozenset[str]) -> dict[str, Any]:
    told = http.method_attributes(method, known)
    parts = urlsplit(url)
    attributes = {
        "span.kind": "client",
        "span.name": http.span_name(told[http.METHOD], None),
        **told,
        "url.full": http.full_url(url),
        **http.server(parts.hostname, parts.port, parts.scheme),
    }
    return http.bounded(attributes)
