"""OTLP over HTTP."""

import gzip
import ssl
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from google.protobuf.json_format import Parse
from google.rpc import status_pb2

from tests.support.otlp_receiver.behaviours import Answer, HttpStatus
from tests.support.otlp_receiver.received import LOGS, METRICS, TRACES, Signal
from tests.support.otlp_receiver.receiver import Exchange, Receiver, encoded


class _HttpExchange(Exchange):
    def __init__(self, handler):
        self.handler = handler
        self.port_behind = handler.client_address[1]

    def break_off(self, relay, **how):
        self.handler.close_connection = True
        super().break_off(relay, **how)

    def refuse(self, behaviour):
        headers = dict(behaviour.headers)
        if behaviour.retry_after is not None:
            headers["Retry-After"] = str(behaviour.retry_after)
        body = status_pb2.Status(message=behaviour.message).SerializeToString()
        self.handler.answer(behaviour.status, body, headers)


class _HttpHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    receiver: ClassVar["HttpReceiver"]
    signals: ClassVar[dict[str, Signal]] = {signal.path: signal for signal in (TRACES, METRICS, LOGS)}

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        signal = self.signals.get(self.path)
        if signal is None:
            self.answer(404, b"no such signal")
            return
        headers = {key.lower(): value for key, value in self.headers.items()}
        try:
            message = self._decode(signal, body, headers)
        except Exception as error:
            self.receiver.undecodable.append(error)
            self.answer(400, str(error).encode())
            return
        response = self.receiver._handle(signal, message, headers, _HttpExchange(self))
        if response is not None:
            kind = {"Content-Type": response.content_type} if isinstance(response, Answer) else {}
            self.answer(200, encoded(response), kind)

    def _decode(self, signal, body, headers):
        match headers.get("content-encoding", "identity"):
            case "gzip":
                body = gzip.decompress(body)
            case "deflate":
                body = zlib.decompress(body)
        if headers.get("content-type", "").startswith("application/json"):
            return Parse(body, signal.request())
        return signal.request.FromString(body)

    def answer(self, status, body, headers=None):
        try:
            self.send_response(status)
            for key, value in {"Content-Type": "application/x-protobuf", **(headers or {})}.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True

    def log_message(self, *_):
        """Silent: what arrived can be asked for."""


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def process_request_thread(self, request, client_address):
        threading.current_thread().name = "otlp-receiver"
        super().process_request_thread(request, client_address)

    def handle_error(self, request, client_address):
        """A client that went away is what several tests are about."""


class HttpReceiver(Receiver):
    """OTLP over HTTP (protobuf; gzip, deflate or plain), all three signals under their standard paths."""

    allowed = (*Receiver.allowed, HttpStatus)
    protocol = "http/protobuf"

    @property
    def traces_endpoint(self):
        """For clients that use the address exactly as given."""
        return f"{self.endpoint}{TRACES.path}"

    def _start_server(self):
        self.undecodable = []
        handler = type("Handler", (_HttpHandler,), {"receiver": self})
        self._server = _HttpServer(("127.0.0.1", 0), handler)
        if self.tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.tls.client_authority)
            context.load_cert_chain(self.tls.certificate, self.tls.key)
            if self.tls.client_authority is not None:
                context.verify_mode = ssl.CERT_REQUIRED
            # The handshake is for the thread of each connection, not for the one that accepts them.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="otlp-receiver", daemon=True
        )
        self._thread.start()
        return self._server.server_address[1]

    def _stop_server(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
