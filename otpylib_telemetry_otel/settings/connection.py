"""Where and how one signal is sent, worked out once from the settings."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry_otel.settings.endpoint import Transport


@dataclass(frozen=True, slots=True)
class Connection:
    """Where and how one signal is sent. What may be secret is not shown by ``repr``.

    Attributes:
        protocol: How OTLP is spoken; None for an exporter that does not speak it.
        url: Where to: for http/protobuf the full URL. None where it cannot be told.
        headers: Sent with every request; names in lower case, secrets in clear text.
        timeout: Seconds for one request.
        compression: ``none``, ``gzip`` or ``deflate``.
        files: The server's authorities, the client's key and the client's certificate, as PEM files.
        encrypted: Whether gRPC encrypts; over http/protobuf the URL says it.
    """

    protocol: Transport | None
    url: str | None = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    timeout: float
    compression: str
    files: tuple[str | None, str | None, str | None] = field(repr=False)
    encrypted: bool

    @property
    def has_target(self) -> bool:
        """Whether there is anything to send to; an exporter that is not OTLP's needs no URL."""
        return self.protocol is None or self.url is not None


def login_in(url: str) -> tuple[str, str | None]:
    """Return a URL without the name and password in it, and the header ``authorization`` they stand for."""
    parts = urlsplit(url)
    if parts.username is None:
        return url, None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return bare, f"Basic {base64.b64encode(pair.encode()).decode()}"
