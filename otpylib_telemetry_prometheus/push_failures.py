"""Why a Pushgateway was not reached, in words instead of those of aiohttp."""

from __future__ import annotations

import os
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

from otpylib_telemetry.primitives.errors import describe

#: aiohttp is imported when something is pushed, and not before: hence names.
_OF_AIOHTTP: Final = {
    "ServerDisconnectedError": "the connection was closed before an answer came",
    "ClientPayloadError": "the answer was cut short",
    "ClientResponseError": "what answers there does not speak HTTP",
}


def failure_words(error: BaseException, url: str) -> str:
    """Return what kept a page from a gateway, or from the proxy on the way: who, and why."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    parts = urlsplit(url)
    host = getattr(error, "host", None) or parts.hostname
    port = getattr(error, "port", None) or parts.port or {"https": 443}.get(parts.scheme, 80)
    return f"{f'[{host}]' if ':' in str(host) else host}:{port}: {_why(cause)}"


def _why(error: BaseException) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"the server's certificate is not accepted: {error.verify_message}"
        case ssl.SSLError():
            reason: str = getattr(error, "reason", None) or "the handshake is broken off"
            return f"TLS fails: {reason.lower().replace('_', ' ')}"
        case socket.gaierror():
            return f"the host cannot be found: {error.strerror}"
        # What asyncio writes there is its own text.
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number)
        case _:
            return _OF_AIOHTTP.get(type(error).__name__) or describe(error)
