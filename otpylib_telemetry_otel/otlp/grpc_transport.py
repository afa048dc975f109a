"""OTLP over gRPC: one attempt to send one request.

The channel is our own and not that of OpenTelemetry's exporter, which keeps a server's RetryInfo, its partial
success and the reason of a failure to itself, and retries inside an attempt.

Imports grpc: to be imported only where something is about to be exported.
"""

from __future__ import annotations

import datetime as dt
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from otpylib_telemetry.exporter.errors import ExportError
from otpylib_telemetry.primitives.fork import new_lock
from otpylib_telemetry_otel.otlp import mistakes
from otpylib_telemetry_otel.otlp.certificates import why_refused
from otpylib_telemetry_otel.otlp.credentials import watched
from otpylib_telemetry_otel.otlp.greeting import why_closed
from otpylib_telemetry_otel.otlp.grpc_core import descriptors_left, make_channel
from otpylib_telemetry_otel.otlp.grpc_import import grpc
from otpylib_telemetry_otel.otlp.reply import accepted, no_answer, refused_by_grpc, too_large
from otpylib_telemetry_otel.version import user_agent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otpylib_telemetry.exporter.collected import ExportOutcome
    from otpylib_telemetry_otel.otlp.services import Service
    from otpylib_telemetry_otel.settings.connection import Connection


#: OTLP specification, "OTLP/gRPC Request": the size every server is to take, in bytes before compression.
MAX_REQUEST: Final = 4 * 1024 * 1024

#: After these the connection may be a dead one, or one whose next attempt gRPC itself would put off.
_NEW_CHANNEL: Final = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED"})

#: What gRPC says of a certificate it does not accept.
_BAD_CERTIFICATE: Final = "CERTIFICATE_VERIFY_FAILED"

#: What it says of its own deadline, and of a connection that was closed without an answer.
_OWN_DEADLINE: Final = "Deadline Exceeded"
_CLOSED: Final = re.compile(r"Socket closed|recvmsg|Stream removed")
_HTTPS_PORT: Final = 443


class _Channel:
    """A channel, which is closed when nobody uses it any more."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.users = 0
        self.retired = False


class GrpcTransport:
    """Sends requests of one signal to one server. Safe to be used by several threads."""

    def __init__(self, service: Service, connection: Connection) -> None:
        self._service = service
        url = connection.url or ""
        parts = urlsplit(url)
        # Without a scheme, or with one of gRPC's own, it is a name for gRPC to resolve.
        self._has_host = parts.scheme in {"http", "https"}
        self._target = parts.netloc if self._has_host else url
        self._timeout = connection.timeout
        self._headers = tuple(connection.headers.items())
        compressed = connection.compression == "gzip"
        self._compression = grpc.Compression.Gzip if compressed else grpc.Compression.NoCompression
        self._watched = watched(connection.files)
        self._encrypted = connection.encrypted
        self._max_request = MAX_REQUEST
        # A new channel is to make a new connection, instead of getting the broken one of the old channel, or
        # sitting out its back-off, out of the pool that all channels share.
        self._options = (
            ("grpc.primary_user_agent", user_agent()),
            ("grpc.use_local_subchannel_pool", 1),
        )
        self._lock = new_lock()
        self._current: _Channel | None = None
        self._live: set[_Channel] = set()
        self._closed = False
        # Who has answered once speaks what it is spoken to in.
        self._has_answered = False

    def send(self, body: bytes) -> ExportOutcome | None:
        """Send a request and wait for the answer; return what was not taken, None if everything was."""
        if len(body) > self._max_request:
            raise too_large(len(body), self._max_request)
        if self._watched is not None and self._watched.renewed():
            self._retire(self._current)
        with self._channel() as used:
            # Bytes in, bytes out: an answer that cannot be decoded is for us to judge.
            call = used.channel.unary_unary(self._service.method)
            try:
                answer: bytes = call(
                    body, timeout=self._timeout, metadata=self._headers, compression=self._compression
                )
            except grpc.RpcError as error:
                code = mistakes.meant(error.code().name, error.details() or "")
                # Without descriptors a new one could not be had: then the old one tries again.
                if code in _NEW_CHANNEL and descriptors_left():
                    self._retire(used)
                raise self._failure(code, error) from error
            except ValueError as error:
                raise ExportError("the connection was closed meanwhile") from error
        self._has_answered = True
        return accepted(self._service, answer)

    def close(self) -> None:
        """Close the connection. A request under way is cancelled."""
        with self._lock:
            self._closed, self._current = True, None
            live = list(self._live)
            self._live.clear()
        for each in live:
            each.channel.close()

    def _failure(self, code: str, error: Any) -> ExportError:
        details = error.details() or ""
        if code == "UNAVAILABLE" and _BAD_CERTIFICATE in details:
            host, port = _host_and_port(self._target)
            if wrong := why_refused(host, port, dt.datetime.now(tz=dt.UTC)):
                return mistakes.error_of(f"{code}: {wrong}", mistakes.DATES)
        if code == "DEADLINE_EXCEEDED" and _OWN_DEADLINE in details:
            return no_answer(self._timeout, code)
        is_unknown = self._has_host and not self._has_answered
        if code == "UNAVAILABLE" and is_unknown and _CLOSED.search(details):
            host, port = _host_and_port(self._target)
            if words := why_closed(host, port, encrypted=self._encrypted, is_grpc=True):
                return mistakes.error_of(f"{code}: {self._target}", words)
        trailers = {item.key: item.value for item in error.trailing_metadata() or ()}
        return refused_by_grpc(code, details, trailers)

    @contextmanager
    def _channel(self) -> Iterator[_Channel]:
        with self._lock:
            if self._closed:
                raise ExportError("the exporter is closed")
            used = self._current
            if used is None:
                used = self._current = _Channel(self._connect())
                self._live.add(used)
            used.users += 1
        try:
            yield used
        finally:
            with self._lock:
                used.users -= 1
            self._close_if_unused(used)

    def _retire(self, channel: _Channel | None) -> None:
        """Have the next request use another channel than this; those under way keep theirs."""
        if channel is None:
            return
        with self._lock:
            channel.retired = True
            if self._current is channel:
                self._current = None
        self._close_if_unused(channel)

    def _close_if_unused(self, channel: _Channel) -> None:
        with self._lock:
            if not channel.retired or channel.users or channel not in self._live:
                return
            self._live.remove(channel)
        channel.channel.close()

    def _connect(self) -> Any:
        if not self._encrypted:
            return make_channel(self._target, None, self._options)
        found = None if self._watched is None else self._watched.credentials
        credentials = grpc.ssl_channel_credentials(
            root_certificates=found and found.certificate,
            private_key=found and found.client_key,
            certificate_chain=found and found.client_certificate,
        )
        return make_channel(self._target, credentials, self._options)


def _host_and_port(target: str) -> tuple[str, int]:
    url = urlsplit(f"//{target}")
    return url.hostname or "", url.port or _HTTPS_PORT
