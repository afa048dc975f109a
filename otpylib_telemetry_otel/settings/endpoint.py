"""What an OTLP endpoint may look like, and what is meant by it: pure functions over URLs."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple
from urllib.parse import SplitResult, urlsplit, urlunsplit

_GRPC_PORT = 4317
_HTTP_PORT = 4318
_MAX_PORT = 65_535
#: Thrift over UDP (6831 compact, 6832 binary), Thrift over HTTP, and Jaeger's gRPC before OTLP.
_JAEGER_PORTS = frozenset({6831, 6832, 14268, 14250})
_JAEGER_PATH = "/api/traces"
#: Name schemes of gRPC itself, which it resolves without a host in the sense of a URL.
_GRPC_NAMES = ("unix:", "unix-abstract:", "dns:", "ipv4:", "ipv6:", "xds:")
_HOST_AND_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s:/@\[\]]+):[0-9]+")

Transport = Literal["grpc", "http/protobuf"]

SignalName = Literal["traces", "logs", "metrics"]

#: Every signal; each is also the key that switches it on and off.
SIGNALS: Final[tuple[SignalName, ...]] = ("traces", "logs", "metrics")


class SignalUrl(str):
    """An endpoint that is used exactly as given: no path is appended to it."""

    __slots__ = ()


class Complaint(NamedTuple):
    """Why an endpoint cannot be used; ``public`` has nothing taken from the endpoint."""

    reason: str
    public: str


def complaint(endpoint: str, transport: Transport) -> Complaint | None:  # noqa: PLR0911  # one line for each rule
    """Return why an endpoint does not do for OTLP over this transport, or None if it does."""
    if re.search(r"[\s\x00-\x1f\x7f]", endpoint):
        return _same("expected an endpoint without blanks or control characters")
    if "://" not in endpoint or endpoint.startswith(_GRPC_NAMES):
        return _check_name(endpoint, transport)
    try:
        url = urlsplit(endpoint)
        port = url.port
    except ValueError:
        return _same("expected a URL whose port is a number from 1 to 65535")
    if port in _JAEGER_PORTS or url.path.rstrip("/") == _JAEGER_PATH:
        return _jaeger(url.hostname, transport, "https" if url.scheme == "https" else "http")
    if url.scheme not in {"http", "https"}:
        return _same(f"expected a URL that begins with http:// or https://{_or_host_and_port(transport)}")
    if not url.hostname or port == 0:
        return _same(f"expected a URL with a host, such as {_example('collector', transport)}")
    if transport == "grpc" and url.path.rstrip("/"):
        return _same(
            "OTLP over gRPC has no path; leave it out, or set protocol = 'http/protobuf' if that is meant"
        )
    return None


def _check_name(endpoint: str, transport: Transport) -> Complaint | None:
    host, _, port = endpoint.rpartition(":")
    matched = _HOST_AND_PORT.fullmatch(endpoint.removesuffix(_JAEGER_PATH))
    if matched:
        host, _, port = matched.group().rpartition(":")
        if endpoint.endswith(_JAEGER_PATH) or (len(port) <= 5 and int(port) in _JAEGER_PORTS):  # noqa: PLR2004
            return _jaeger(host, transport)
    if transport == "http/protobuf":
        return _same(
            f"expected a URL such as {_example('collector', transport)}: only gRPC does without http://"
        )
    if endpoint.startswith(_GRPC_NAMES):
        return None
    if not matched:
        return _same(
            f"expected a URL such as {_example('collector', transport)}{_or_host_and_port(transport)}"
        )
    if len(port) > 5 or not 1 <= int(port) <= _MAX_PORT:  # noqa: PLR2004  # five digits are 65535 at most
        return _same("expected a port from 1 to 65535")
    return None


def _same(reason: str) -> Complaint:
    return Complaint(reason, reason)


def _or_host_and_port(transport: Transport) -> str:
    return " (or host:port alone)" if transport == "grpc" else ""


def _jaeger(host: str | None, transport: Transport, scheme: str = "http") -> Complaint:
    problem = "this is an address of Jaeger's own protocol, which does not take OTLP; use"
    bare = (host or "localhost").strip("[]")
    return Complaint(
        f"{problem} {_example(bare, transport, scheme)}",
        f"{problem} the OTLP port, {_port(transport)} as a rule",
    )


def _port(transport: Transport) -> int:
    return _GRPC_PORT if transport == "grpc" else _HTTP_PORT


def _example(host: str, transport: Transport, scheme: str = "http") -> str:
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{_port(transport)}"


def address_of(
    signal: SignalName, transport: Transport | None, own: str | None, base: str | None
) -> str | None:
    """Return where a signal goes: for http/protobuf the full URL; None where it cannot be told.

    The rule for a URL is that of the OTLP exporter specification for a base endpoint: ``/v1/traces``, or the
    like, is appended to the path, unless it ends so already. A :class:`SignalUrl` is used as it is.

    ``own`` is the signal's own endpoint, ``base`` the one for everything. One for spans alone says nothing
    about other signals. Where a base has the path of spans, that is exchanged for the signal's.
    """
    over_http = transport == "http/protobuf"
    if own is not None:
        return _signal_url(own, signal) if over_http else own
    if base is None or isinstance(base, SignalUrl):
        return None
    return _beside_traces(base, signal) if over_http else base


def _beside_traces(endpoint: str, signal: SignalName) -> str:
    url = urlsplit(endpoint)
    path = url.path.rstrip("/")
    if path.endswith(_path("traces")):
        path = path.removesuffix(_path("traces")) + _path(signal)
        return urlunsplit(SplitResult(url.scheme, url.netloc, path, url.query, ""))
    return _signal_url(endpoint, signal)


def _signal_url(endpoint: str, signal: SignalName) -> str:
    url = urlsplit(endpoint)
    if isinstance(endpoint, SignalUrl):
        # An empty path is the root path, by the same specification.
        return str(urlunsplit(url._replace(path=url.path or "/")))
    path = url.path.rstrip("/")
    if not path.endswith(_path(signal)):
        path += _path(signal)
    return urlunsplit(SplitResult(url.scheme, url.netloc, path, url.query, ""))


def _path(signal: SignalName) -> str:
    return f"/v1/{signal}"


def has_transport_security(endpoint: str, *, insecure: bool) -> bool:
    """Tell whether a connection to an endpoint is encrypted.

    The scheme decides; ``insecure`` counts only where there is none (OTLP exporter specification,
    "Insecure").
    """
    scheme, separator, _ = endpoint.partition("://")
    if separator and scheme.lower() in {"http", "https"}:
        return scheme.lower() == "https"
    return not insecure
