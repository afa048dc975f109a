"""What OpenTelemetry's semantic conventions for HTTP say of a request: names, attributes, outcomes.

Pure: it knows no framework. The conventions are the stable ones (semantic conventions 1.23 and later).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import translate
from typing import Any, Final, TypeAlias
from urllib.parse import quote, unquote_plus, urlsplit

from otpylib_telemetry.bus import log

#: The operations: a request that is served, and one that is made.
SERVED: Final = "http.server.request"
MADE: Final = "http.client.request"

#: What an attribute holds in place of a secret, as the conventions have it.
REDACTED: Final = "REDACTED"

METHOD: Final = "http.request.method"
ROUTE: Final = "http.route"
STATUS: Final = "http.response.status_code"
ERROR_TYPE: Final = "error.type"
#: Whether the client went away before it had all of the response. The conventions have no name for it.
DISCONNECTED: Final = "http.client_disconnected"

SERVER_ERROR: Final = 500
CLIENT_ERROR: Final = 400
SWITCHING: Final = 101
#: The codes with which a websocket is closed in good order: done, going away, no code given.
NORMAL_CLOSE: Final = frozenset({1000, 1001, 1005})

_OTHER: Final = "_OTHER"
_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)
#: The variable that names other methods.
_KNOWN_METHODS: Final = "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS"
#: The variable of OpenTelemetry's own instrumentations that leaves requests out.
_EXCLUDED_URLS: Final = "OTEL_PYTHON_EXCLUDED_URLS"

_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}

#: Names of parameters whose values are nobody's business: those of the conventions, and words for the same.
_SECRET: Final = re.compile(
    r"passw|pass[-_.]?(phrase|code)|^pass$|pwd|secret|token|signature|^sig$|credential|(api|access)[-_.]?key"
    r"|^key$|auth(?!or)|session|jwt|^code$|^otp$",
    re.IGNORECASE,
)
#: What parts the parameters of a query.
_BETWEEN: Final = re.compile(r"([&;])")
#: Characters of a text of a request that are looked at, and kept: senders choose its length.
_LONGEST: Final = 8192
#: What a path may hold as it is (RFC 3986).
_IN_PATH: Final = "/:@!$&'()*+,;=~-._%"

#: What ``exclude`` may be: patterns over the path, or a function that tells.
Exclude: TypeAlias = str | Iterable[str] | Callable[[str], bool]


def known_methods() -> frozenset[str]:
    """Return the methods that are told by their names."""
    named = frozenset(filter(None, map(str.strip, os.environ.get(_KNOWN_METHODS, "").split(","))))
    return named or _METHODS


def method_attributes(method: Any, known: frozenset[str]) -> dict[str, Any]:
    """Return how a request's method is told: others than those known by one name for all of them."""
    if method in known:
        return {METHOD: method}
    return {METHOD: _OTHER, "http.request.method_original": header(method)}


def span_name(method: str, route: str | None) -> str:
    """Return the name of a span: never with a path in it, of which there is no end."""
    shown = "HTTP" if method == _OTHER else method
    return shown if route is None else f"{shown} {route}"


def header(value: Any) -> str:
    """Return what a header says as text, whatever bytes it is made of."""
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "replace")
    return value if isinstance(value, str) else str(value)


def authority(host: str | None, scheme: str) -> dict[str, Any]:
    """Return the server's address and port as a ``Host`` header names them."""
    if not host:
        return {}
    try:
        parts = urlsplit(f"//{host}")
        address, port = parts.hostname, parts.port
    except ValueError:
        return {}
    return server(address, port, scheme)


def server(address: Any, port: Any, scheme: str) -> dict[str, Any]:
    """Return how a server's address is told, with the scheme's port where there is no other."""
    if not address:
        return {}
    port = _PORTS.get(scheme) if port is None else port
    return {"server.address": str(address), **({} if port is None else {"server.port": port})}


def query(text: str) -> dict[str, Any]:
    """Return how a query string is told: without what looks like a credential."""
    return {"url.query": scrubbed(text)} if text else {}


def scrubbed(text: str) -> str:
    """Return a query string without the values of parameters that are named like credentials."""
    text = shortened(text)
    if "=" not in text:
        return text
    return "".join(map(_scrub, _BETWEEN.split(text)))


def _scrub(parameter: str) -> str:
    name, _, value = parameter.lstrip("=").partition("=")
    if not value or _SECRET.search(unquote_plus(name)) is None:
        return parameter
    return f"{parameter.removesuffix(value)}{REDACTED}"


def shortened(text: str) -> str:
    """Return a text as it is, or its beginning where it is longer than anybody would read."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def bounded(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a request, of which no text is longer than it may be."""
    return {key: shortened(value) if isinstance(value, str) else value for key, value in attributes.items()}


def full_url(url: str) -> str:
    """Return a URL without user name, password and what looks like a credential in its query."""
    before, mark, rest = url.partition("?")
    scheme, slashes, place = before.partition("://")
    host, slash, path = place.partition("/")
    if "@" in host:
        host = f"{REDACTED}:{REDACTED}@{host.rpartition('@')[2]}"
    asked, hash_, fragment = rest.partition("#")
    return f"{scheme}{slashes}{host}{slash}{path}{mark}{scrubbed(asked)}{hash_}{fragment}"


def encoded_path(raw: bytes | str) -> str:
    """Return a path as a URL has it, from one whose escapes were read."""
    return quote(raw, safe=_IN_PATH)


def protocol_version(said: str) -> dict[str, Any]:
    """Return how a version is told: ``HTTP/1.1`` or ``1.1``."""
    version = said.rpartition("/")[2]
    return {"network.protocol.version": version} if version else {}


def present(**attributes: Any) -> dict[str, Any]:
    """Return the attributes that have a value; a double underscore is a dot."""
    return {key.replace("__", "."): value for key, value in attributes.items() if value not in (None, "")}


def function(what: str, value: Any, expected: str) -> Any:
    """Return a function that was given; TypeError where it is none."""
    if not callable(value):
        raise TypeError(f"{what}: expected {expected}, got {type(value).__name__}")
    return value


def excluder(exclude: Exclude) -> Callable[[str], bool] | None:
    """Return what tells whether requests for a path are left out; None where none are.

    Raises:
        TypeError: It is neither patterns nor a function.
    """
    if callable(exclude):
        return exclude
    if isinstance(exclude, str):
        exclude = filter(None, map(str.strip, exclude.split(",")))
    patterns = list(exclude) if isinstance(exclude, Iterable) else [None]
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError("exclude: patterns over the path, such as '/healthz', or a function of the path")
    return _matcher([translate(str(pattern)) for pattern in patterns], _excluded_by_environment())


def _matcher(whole: list[str], parts: list[str]) -> Callable[[str], bool] | None:
    expressions = [*whole, *(f"(?s:.*)(?:{part})" for part in parts)]
    if not expressions:
        return None
    matches = re.compile("|".join(f"(?:{one})" for one in expressions)).match
    # Somebody's expression may take the square of a path's length.
    return lambda path: matches(path[:_LONGEST]) is not None


def _excluded_by_environment() -> list[str]:
    """Return the expressions that OpenTelemetry's variable names: found anywhere, a request is left out."""
    usable = []
    for written in os.environ.get(_EXCLUDED_URLS, "").split(","):
        part = written.strip()
        try:
            re.compile(part)
        except re.error as error:
            log.warning("%s: %r is no regular expression (%s); it is ignored.", _EXCLUDED_URLS, part, error)
        else:
            usable += [part] if part else []
    return usable
