"""What answers and errors say about a destination that no batch can have caused, in words: pure.

A wrong port, path or key is refused whatever is sent. So these are told from refusals of a batch: what waits
goes on waiting, and the words name the mistake that is likely.
"""

from __future__ import annotations

import re
from typing import Final

from otpylib_telemetry.exporter.errors import DestinationError
from otpylib_telemetry.primitives.patterns import late

KEY: Final = "the key or the login is missing or wrong (headers, api_key)"
NOT_ALLOWED: Final = "the key or the login is known and may not send here (headers, api_key)"
NO_SUCH_PATH: Final = "nothing takes this signal at this path (endpoint, protocol)"
NO_POST: Final = "what answers at this path is no OTLP receiver (endpoint)"
NO_SUCH_SERVICE: Final = (
    "what answers speaks gRPC and does not know this signal: another server's port (endpoint)"
)
MOVED: Final = "set endpoint to where it leads, if that is right"
PAGE: Final = "a web page answers, of a web server or of a proxy's login, and no OTLP receiver (endpoint)"
PROXY_LOGIN: Final = "the proxy wants a login (https_proxy, http_proxy)"
FORMAT: Final = "what answers does not take OTLP as protobuf (endpoint, protocol)"
NOT_OTLP: Final = "what answers does not answer as an OTLP receiver does: another server's port (endpoint)"
NOT_GRPC: Final = (
    "what answers does not speak gRPC: protocol and port do not fit (by custom 4317 is for grpc, 4318 for "
    "http/protobuf)"
)
NOT_HTTP: Final = (
    "what answers does not speak HTTP: protocol and port do not fit (by custom 4317 is for grpc, 4318 for "
    "http/protobuf)"
)
NO_TLS: Final = "what answers does not speak TLS: http:// in place of https://, or another port"
WANTS_TLS: Final = "what answers speaks TLS only: https:// in place of http://, or another port"
CERTIFICATE: Final = (
    "the authority that signed the server's certificate is not trusted here, or it is another server's"
)
NO_HOST: Final = "the name is wrong, or the name server is away"
CUT_OFF: Final = "the connection was closed during the TLS handshake"
CLOSED: Final = "the connection was closed without an answer"
DATES: Final = "renew it, or set the clock"
WANTS_CERTIFICATE: Final = "the server wants a certificate of the client, or another one"

_STATUSES: Final = {
    **dict.fromkeys((401,), KEY),
    **dict.fromkeys((402, 403, 451), NOT_ALLOWED),
    **dict.fromkeys((404, 410, 421), NO_SUCH_PATH),
    **dict.fromkeys((405, 426, 501, 505), NO_POST),
    **dict.fromkeys((406, 415), FORMAT),
    **dict.fromkeys((407, 511), PROXY_LOGIN),
}
_CODES: Final = {
    "UNIMPLEMENTED": NO_SUCH_SERVICE,
    "UNAUTHENTICATED": KEY,
    "PERMISSION_DENIED": NOT_ALLOWED,
}

#: How gRPC says that it got an answer of HTTP, or bytes that are none of gRPC at all.
_IS_NOT_GRPC: Final = late(
    r"http1\.x server|failed parsing http/2|http2? header with status|unexpected http status"
    r"|(?:unexpected|invalid|missing) (?:grpc request )?content-type|selected alpn property",
    re.IGNORECASE,
)
#: How OpenSSL and its relatives say what went wrong with TLS, with blanks or underscores.
_TLS: Final = (
    (late(r"wrong.version.number|http.request|packet.length.too.long", re.IGNORECASE), NO_TLS),
    (late(r"certificate.verify.failed|hostname.mismatch", re.IGNORECASE), CERTIFICATE),
    (
        late(
            r"alert.(?:certificate.required|bad.certificate|unknown.ca|handshake.failure|access.denied)"
            r"|certificate_required",
            re.IGNORECASE,
        ),
        WANTS_CERTIFICATE,
    ),
)


#: How gRPC says that a name leads nowhere, with the name.
_NO_HOST: Final = late(
    r"(?:errors resolving|DNS resolution failed for|resolver transient failure:?) ?([^\s:]*(?::\d+)?)",
    re.IGNORECASE,
)
_STREAM_REMOVED: Final = late(r"Stream removed\b")
#: What gRPC writes about a connection, and the same in plain words.
_PLAIN: Final = (
    (
        late(r"(?:\S+:\d+: )?(?:Tls handshake failed.*)?SSL_ERROR.*OPENSSL_internal:([A-Z0-9_]+).*"),
        lambda found: f"TLS fails: {found[1].lower().replace('_', ' ')}",
    ),
    (
        late(r"(?:Tls )?handshake (?:read |write )?failed.*", re.IGNORECASE | re.DOTALL),
        lambda _: CUT_OFF,
    ),
    (late(r"(?:Stream removed \()?recvmsg: ?([^()]+?)(?: \(\d+\))?\)?$"), lambda found: found[1]),
    (late(r"(?:Stream removed \()?Socket closed\)?$|Stream removed$"), lambda _: CLOSED),
)
#: How the HTTP servers of Go, nginx and Apache answer HTTP where they expect TLS.
_EXPECTS_TLS: Final = late(
    r"http request (?:was sent )?to (?:an? )?https (?:server|port)|speaking plain http", re.IGNORECASE
)
_BEGINS_A_PAGE: Final = re.compile(
    rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL
)
#: What loggers of other exporters write about an answer.
_SPOKEN_CODE: Final = late(r"\b(UNIMPLEMENTED|UNAUTHENTICATED|PERMISSION_DENIED)\b")
_SPOKEN_STATUS: Final = late(
    r"(?:\bstatus|\bcode|\bHTTP(?:/\d(?:\.\d)?)?)\W{0,4}(?:code)?\W{0,4}(\d{3})\b|\b(40[1345]) [A-Z]"
)
_REDIRECT: Final = 3
#: Bytes of an answer that are looked at.
_READ: Final = 4_096


def of_status(status: int) -> str | None:
    """Return the likely mistake behind an HTTP status; None for one that a batch can cause or that passes."""
    return MOVED if status // 100 == _REDIRECT else _STATUSES.get(status)


def of_code(code: str, details: str) -> str | None:
    """Return the likely mistake behind a gRPC status; None for one that a batch can cause, or that passes."""
    return NOT_GRPC if _IS_NOT_GRPC.search(details) else of_tls(details) or in_code(code)


def meant(code: str, details: str) -> str:
    """Return the code that is meant: older gRPC says UNKNOWN where a connection ended without an answer."""
    return "UNAVAILABLE" if code == "UNKNOWN" and _STREAM_REMOVED.match(details) else code


def no_host(said: str) -> str | None:
    """Return the name that gRPC says leads nowhere; None where it says no such thing."""
    found = _NO_HOST.search(said)
    return None if found is None else found[1].rstrip(":")


def plain(said: str) -> str:
    """Return what gRPC says about a connection in plain words."""
    for pattern, words in _PLAIN:
        if found := pattern.search(said):
            return said[: found.start()] + words(found)
    return said


def in_code(code: str) -> str | None:
    """Return the likely mistake behind a gRPC status that a gRPC server has given."""
    return _CODES.get(code)


def of_tls(said: str) -> str | None:
    """Return the likely mistake behind a failure of TLS; None where there is none to be seen."""
    return next((words for pattern, words in _TLS if pattern.search(said)), None)


def of_body(content_type: str, body: bytes) -> str | None:
    """Return the likely mistake behind what an answer says; None if it may be an OTLP receiver's."""
    start = body[:_READ]
    if _EXPECTS_TLS.search(start.decode("utf-8", "replace")):
        return WANTS_TLS
    is_html = content_type.partition(";")[0].strip().lower() in {"text/html", "application/xhtml+xml"}
    return PAGE if (is_html and b"<" in start) or _BEGINS_A_PAGE.match(start) else None


def of_words(said: str) -> str | None:
    """Return the likely mistake behind what another exporter logged."""
    if code := _SPOKEN_CODE.search(said):
        return of_code(code[0], said)
    if (found := _SPOKEN_STATUS.search(said)) and (words := of_status(int(found[1] or found[2]))):
        return words
    return of_code("", said)


def error_of(message: str, words: str) -> DestinationError:
    """Make the error of an answer that no batch can cause."""
    return DestinationError(f"{message}; {words}")
