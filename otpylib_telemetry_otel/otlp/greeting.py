"""Why a server may have closed a connection without a word: it is greeted once more, in another way.

It is only about a better message, and asked only after such a failure.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Final

from otpylib_telemetry_otel.otlp import mistakes
from otpylib_telemetry_otel.otlp.certificates import ASKING_LIMIT

_H2: Final = "h2"
_HTTP1: Final = "http/1.1"


def why_closed(host: str, port: int, *, encrypted: bool, is_grpc: bool) -> str | None:
    """Return the likely mistake; None if greeting the server shows none."""
    spoken, other = (_H2, _HTTP1) if is_grpc else (_HTTP1, _H2)
    answer = _greeted(host, port, spoken)
    if answer is None:
        return None
    if not encrypted:
        return mistakes.WANTS_TLS
    if words := mistakes.of_tls(answer):
        return words
    if answer != spoken and _greeted(host, port, other) == other:
        return mistakes.NOT_GRPC if is_grpc else mistakes.NOT_HTTP
    return None


def _greeted(host: str, port: int, protocol: str) -> str | None:
    """Return the protocol that a server chooses over TLS, or the alert it sends; None if it speaks no TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Nothing is sent, and nothing that it says is believed.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    try:
        with (
            socket.create_connection((host, port), ASKING_LIMIT) as plain,
            context.wrap_socket(plain, server_hostname=host or None) as tls,
        ):
            chosen = tls.selected_alpn_protocol() or ""
            with contextlib.suppress(TimeoutError):
                # With TLS 1.3, what is wrong with a client's certificate is said after the handshake.
                tls.recv(1)
            return chosen
    except ssl.SSLError as error:
        return error.reason if error.reason and "ALERT" in error.reason else None
    except (OSError, ValueError):
        return None
