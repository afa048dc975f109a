"""OTLP over HTTP."""

from __future__ import annotations

import gzip
import ssl
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

from google.protobuf.json_format import Parse  # type: ignore[import-untyped]
from google.rpc import status_pb2  # type: ignore[import-untyped]

from otpylib_telemetry_mock.otlp_receiver.behaviours import Answer
from otpylib_telemetry_mock.otlp_receiver.exchange import Exchange, as_http, encoded
from otpylib_telemetry_mock.otlp_receiver.received import SIGNALS, Signal
from otpylib_telemetry_mock.otlp_receiver.relay import spawn

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry_mock.otlp_receiver.behaviours import GrpcStatus, HttpStatus
    from otpylib_telemetry_mock.otlp_receiver.relay import Relay
    from otpylib_telemetry_mock.otlp_receiver.tls import Tls

#: Seconds between two looks of the server at whether it is to stop.
_POLL = 0.02


class _HttpExchange(Exchange):
    def __init__(self, handler: _Handler) -> None:
        self._handler = handler
        self.port_behind = handler.client_address[1]

    def break_off(self, relay: Relay, *, reset: bool = False, last_words: bytes = b"") -> None:
        self._handler.close_connection = True
        super().break_off(relay, reset=reset, last_words=last_words)

    def refuse(self, behaviour: GrpcStatus | HttpStatus) -> None:
        status = as_http(behaviour)
        headers = dict(status.headers)
        if status.retry_after is not None:
            headers["Retry-After"] = str(status.retry_after)
        body = status_pb2.Status(message=status.message).SerializeToString()
        self._handler.answer(status.status, body, headers)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    signals: ClassVar[dict[str, Signal]] = {signal.path: signal for signal in SIGNALS}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        signal = self.signals.get(self.path)
        if signal is None:
            self.answer(404, b"no such signal")
            return
        headers = {key.lower(): value for key, value in self.headers.items()}
        try:
            message = _decoded(signal, body, headers)
        except Exception as error:  # noqa: BLE001  # whatever was sent
            self.server.undecodable.append(error)
            self.answer(400, str(error).encode())
            return
        response = self.server.handle_export(signal, message, headers, _HttpExchange(self))
        if response is not None:
            kind = {"Content-Type": response.content_type} if isinstance(response, Answer) else {}
            self.answer(200, encoded(response), kind)

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send a response; a client that has gone is left alone."""
        try:
            self.send_response(status)
            for key, value in {"Content-Type": "application/x-protobuf", **(headers or {})}.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing: what arrived can be asked for."""


def _decoded(signal: Signal, body: bytes, headers: dict[str, str]) -> Any:
    match headers.get("content-encoding", "identity"):
        case "gzip":
            body = gzip.decompress(body)
        case "deflate":
            body = zlib.decompress(body)
    if headers.get("content-type", "").startswith("application/json"):
        return Parse(body, signal.request())
    return signal.request.FromString(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, handle: Callable[..., Any], undecodable: list[Exception]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.handle_export = handle
        self.undecodable = undecodable

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        threading.current_thread().name = "otlp-receiver"
        super().process_request_thread(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that went away is what several tests are about."""


class HttpServer:
    """A server on a port of its own; the relay in front of it has the public one."""

    def __init__(self, handle: Callable[..., Any], undecodable: list[Exception], tls: Tls | None) -> None:
        self._server = _Server(handle, undecodable)
        if tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tls.client_authority)
            context.load_cert_chain(tls.certificate, tls.key)
            if tls.client_authority is not None:
                context.verify_mode = ssl.CERT_REQUIRED
            # The handshake is for the thread of each connection, not for the one that accepts them.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )

    def start(self) -> int:
        """Listen, and return the port."""
        self._thread = spawn(self._server.serve_forever, _POLL)
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
