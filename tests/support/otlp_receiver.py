"""An OTLP server that does on command what no real one does on demand: refuse, hang, reset, answer garbage.

Two of them, `GrpcReceiver` and `HttpReceiver`, with one way to be used::

    with GrpcReceiver() as receiver:
        receiver.script(GrpcStatus("UNAVAILABLE"), Ok())     # the next two requests
        ... export to receiver.endpoint ...
        assert [span.name for span in receiver.spans] == ["shop.checkout"]

They run in threads, so an event loop that a test blocks by mistake cannot hide what the server would have
seen. In front of the real server stands a relay for the bytes: it owns the port, and is what resets
connections, answers garbage, stalls and goes away, because gRPC's own server can do none of that.
"""

import contextlib
import gzip
import socket
import ssl
import struct
import threading
import time
import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import Parse
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from tests.support.ports import free_port
from tests.support.waiting import wait_until

# --- what to do with a request --------------------------------------------------------------------


@dataclass(frozen=True)
class Tls:
    """What a receiver identifies itself with; ``client_authority`` has it ask its clients as well."""

    certificate: Path
    key: Path
    client_authority: Path | None = None


@dataclass(frozen=True)
class Ok:
    """Take it."""


@dataclass(frozen=True)
class GrpcStatus:
    """Refuse it with a gRPC status (``"UNAVAILABLE"``); ``retry_after`` (seconds) is sent as RetryInfo."""

    code: str
    message: str = ""
    retry_after: float | None = None


@dataclass(frozen=True)
class HttpStatus:
    """Answer with an HTTP status; ``retry_after`` (seconds or a date) is sent as it is."""

    status: int
    retry_after: float | str | None = None
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PartialSuccess:
    """Take all but the last ``rejected`` items and say so."""

    rejected: int
    message: str = ""


@dataclass(frozen=True)
class Answer:
    """Take it and answer with these bytes instead of a message (over HTTP with this type)."""

    data: bytes
    content_type: str = "application/x-protobuf"


@dataclass(frozen=True)
class Hang:
    """Read it, wait for ``release()``, go on with ``then``. To hang before reading: ``stall()``."""

    then: Any = field(default_factory=Ok)


@dataclass(frozen=True)
class Slow:
    """Wait so many seconds (or for ``release()``), then go on with ``then``."""

    seconds: float
    then: Any = field(default_factory=Ok)


@dataclass(frozen=True)
class Reset:
    """Reset the connection once it is read. ``taken``: the items are taken, only the answer is lost."""

    taken: bool = False


@dataclass(frozen=True)
class Garbage:
    """Answer with bytes that are no protocol at all, and close."""

    data: bytes = b"\x00\xffnot what you expected\r\n" * 20


# --- what arrived ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReceivedEvent:
    name: str
    time_ns: int
    attributes: dict[str, Any]


@dataclass(frozen=True)
class ReceivedSpan:
    name: str
    trace_id: str
    span_id: str
    parent_span_id: str  # "" for a root
    kind: str  # "INTERNAL", "SERVER", ...
    start_ns: int
    end_ns: int
    status: str  # "UNSET", "OK", "ERROR"
    status_message: str
    attributes: dict[str, Any]
    events: list[ReceivedEvent]
    links: list[tuple[str, str]]  # (trace_id, span_id)
    trace_state: str
    flags: int
    dropped_attributes: int
    resource: dict[str, Any]
    scope: str
    scope_version: str
    scope_attributes: dict[str, Any]
    headers: dict[str, str]  # of the request that brought it


@dataclass(frozen=True)
class ReceivedRequest:
    """One export request, whether it was taken or not. ``message`` is the decoded protobuf message."""

    signal: str  # "traces", "metrics", "logs"
    headers: dict[str, str]
    message: Any
    spans: list[ReceivedSpan]
    behaviour: Any
    monotonic_ns: int


def _value(value):
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind)


def _attributes(pairs):
    return {pair.key: _value(pair.value) for pair in pairs}


def _enum(message, name, prefix):
    number = getattr(message, name)
    values = message.DESCRIPTOR.fields_by_name[name].enum_type.values_by_number
    return values[number].name.removeprefix(prefix) if number in values else str(number)


def decode_spans(message, headers):
    """The spans of an ExportTraceServiceRequest, flat."""
    return [
        ReceivedSpan(
            name=span.name,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_span_id=span.parent_span_id.hex(),
            kind=_enum(span, "kind", "SPAN_KIND_"),
            start_ns=span.start_time_unix_nano,
            end_ns=span.end_time_unix_nano,
            status=_enum(span.status, "code", "STATUS_CODE_"),
            status_message=span.status.message,
            attributes=_attributes(span.attributes),
            events=[ReceivedEvent(e.name, e.time_unix_nano, _attributes(e.attributes)) for e in span.events],
            links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
            trace_state=span.trace_state,
            flags=span.flags,
            dropped_attributes=span.dropped_attributes_count,
            resource=_attributes(group.resource.attributes),
            scope=scoped.scope.name,
            scope_version=scoped.scope.version,
            scope_attributes=_attributes(scoped.scope.attributes),
            headers=headers,
        )
        for group in message.resource_spans
        for scoped in group.scope_spans
        for span in scoped.spans
    ]


@dataclass(frozen=True)
class _Signal:
    name: str
    path: str
    service: str
    request: Any
    response: Any
    rejected_field: str


TRACES = _Signal(
    "traces",
    "/v1/traces",
    "opentelemetry.proto.collector.trace.v1.TraceService",
    trace_service_pb2.ExportTraceServiceRequest,
    trace_service_pb2.ExportTraceServiceResponse,
    "rejected_spans",
)
METRICS = _Signal(
    "metrics",
    "/v1/metrics",
    "opentelemetry.proto.collector.metrics.v1.MetricsService",
    metrics_service_pb2.ExportMetricsServiceRequest,
    metrics_service_pb2.ExportMetricsServiceResponse,
    "rejected_data_points",
)
LOGS = _Signal(
    "logs",
    "/v1/logs",
    "opentelemetry.proto.collector.logs.v1.LogsService",
    logs_service_pb2.ExportLogsServiceRequest,
    logs_service_pb2.ExportLogsServiceResponse,
    "rejected_log_records",
)


# --- the relay ------------------------------------------------------------------------------------

CHUNK = 65_536
THROTTLED_CHUNK = 512


class _Connection:
    """One client's connection, relayed to the server behind by two threads; the last to end closes it.

    A socket must not be closed while a thread waits on it: the kernel would keep it open, and a reset would
    come late or never. So closing means waking both threads.
    """

    def __init__(self, relay, client, upstream):
        self.relay = relay
        self.client = client
        self.upstream = upstream
        self.port_behind = upstream.getsockname()[1]  # how the server behind names this connection
        self.ending = False
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._running = 2

    def start(self):
        for pump in (self._inwards, self._outwards):
            threading.Thread(target=self._pump, args=(pump,), name="otlp-receiver", daemon=True).start()

    def _pump(self, pump):
        with contextlib.suppress(OSError):
            pump()
        self._end()
        with self._lock:
            self._running -= 1
            last = self._running == 0
        if last:
            self.client.close()
            self.upstream.close()
            self.relay.forget(self)
            self.ended.set()

    def _inwards(self):
        while self._may_flow():
            data = self.client.recv(THROTTLED_CHUNK if self.relay.bytes_per_second else CHUNK)
            if not data or not self._may_flow():
                return
            if rate := self.relay.bytes_per_second:
                time.sleep(len(data) / rate)
            self.upstream.sendall(data)

    def _outwards(self):
        while data := self.upstream.recv(CHUNK):
            self.client.sendall(data)

    def _may_flow(self):
        while not self.relay.flowing.wait(0.01):
            if self.ending:
                return False
        return not self.ending

    def _end(self, reset=False):
        with self._lock:
            if self.ending:
                return
            self.ending = True
        # Shutting down the reading side sends nothing: it only wakes the thread that reads.
        steps = [
            (self.client, socket.SHUT_RD if reset else socket.SHUT_RDWR),
            (self.upstream, socket.SHUT_RDWR),
        ]
        for end, how in steps:
            with contextlib.suppress(OSError):
                end.shutdown(how)

    def close(self, reset=False, last_words=b""):
        """End it; returns when the client can see it."""
        with contextlib.suppress(OSError):
            if last_words:
                self.client.sendall(last_words)
            if reset:
                # Lingering for zero seconds turns the close into a reset.
                self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._end(reset)
        self.ended.wait(5)


class _Relay:
    """Owns the port that clients see, and passes bytes to the server behind."""

    def __init__(self, port, behind):
        self.port = port
        self.behind = behind
        self.flowing = threading.Event()
        self.flowing.set()
        self.bytes_per_second = None
        self.accepted = 0
        self._lock = threading.Lock()
        self._connections = {}
        self._listener = None
        self._thread = None

    @property
    def listening(self):
        return self._listener is not None

    @property
    def open_connections(self):
        with self._lock:
            return len(self._connections)

    def start(self):
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        self._listener = listener
        self._thread = threading.Thread(
            target=self._accept, args=(listener,), name="otlp-receiver", daemon=True
        )
        self._thread.start()

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                upstream = socket.create_connection(("127.0.0.1", self.behind), timeout=5)
            except OSError:
                client.close()
                continue
            upstream.settimeout(None)
            for end in (client, upstream):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(self, client, upstream)
            with self._lock:
                self.accepted += 1
                self._connections[connection.port_behind] = connection
            connection.start()

    def connection(self, port_behind):
        with self._lock:
            return self._connections.get(port_behind)

    def forget(self, connection):
        with self._lock:
            self._connections.pop(connection.port_behind, None)

    def stop(self, reset=True):
        listener, self._listener = self._listener, None
        if listener is not None:
            # Closing alone does not wake a thread that is blocked in accept.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            self._thread.join()
        with self._lock:
            connections = list(self._connections.values())
        for connection in connections:
            connection.close(reset=reset)


# --- the receivers --------------------------------------------------------------------------------


class _Receiver:
    """What both have in common: the script, what arrived, and the life of the port."""

    allowed: ClassVar[tuple[type, ...]] = (Ok, PartialSuccess, Answer, Hang, Slow, Reset, Garbage)

    def __init__(self, port=None, tls=None):
        self.port = port or free_port()
        self.tls = tls
        self.default = Ok()
        self._script = deque()
        self._lock = threading.Lock()
        self._requests = []
        self._taken = []
        self._released = threading.Event()
        self._relay = _Relay(self.port, self._start_server())
        self._relay.start()

    # What a test tells it.

    def script(self, *behaviours):
        """What to do with the next requests, in order; after them ``default`` holds."""
        for behaviour in behaviours:
            self._check(behaviour)
        with self._lock:
            self._script.extend(behaviours)

    def always(self, behaviour):
        """What to do with every request that no script is left for."""
        self._check(behaviour)
        with self._lock:
            self.default = behaviour

    def release(self):
        """Let every request that hangs go on; later ones hang again."""
        with self._lock:
            released, self._released = self._released, threading.Event()
        released.set()

    def stall(self):
        """Accept connections but read nothing, until ``unstall()``."""
        self._relay.flowing.clear()

    def unstall(self):
        """Read again, beginning with what was sent meanwhile."""
        self._relay.flowing.set()

    def throttle(self, bytes_per_second):
        """Read this slowly; None for as fast as it goes."""
        self._relay.bytes_per_second = bytes_per_second

    def stop(self, reset=False):
        """Close the port and every connection (``reset``: with a reset); ``restart()`` brings it back."""
        self._relay.stop(reset)

    def restart(self):
        """Listen again on the same port, with what arrived before still there."""
        self.unstall()
        self._relay.start()

    def close(self):
        """The end: nothing of it stays."""
        with self._lock:
            self._script.clear()
            self.default = Ok()
        self._relay.stop(reset=True)
        self.unstall()
        self.release()
        self._stop_server()

    def clear(self):
        """Forget what arrived."""
        with self._lock:
            self._requests.clear()
            self._taken.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # What a test asks it.

    @property
    def host_port(self):
        return f"127.0.0.1:{self.port}"

    @property
    def endpoint(self):
        """For clients that add the signal's path themselves, or need none (gRPC)."""
        return f"{'https' if self.tls else 'http'}://{self.host_port}"

    @property
    def requests(self):
        """Every request that was read, taken or not, in order."""
        with self._lock:
            return list(self._requests)

    @property
    def taken(self):
        """The requests that were taken, whole or in part."""
        with self._lock:
            return [request for request, _ in self._taken]

    @property
    def spans(self):
        """The spans that were taken, in order."""
        with self._lock:
            return [span for _, spans in self._taken for span in spans]

    @property
    def connections(self):
        """How many connections were ever accepted."""
        return self._relay.accepted

    @property
    def open_connections(self):
        return self._relay.open_connections

    def wait_for_spans(self, count, timeout=60.0):
        """Block until so many were taken (for tests without event loop; others use ``eventually``)."""
        wait_until(lambda: len(self.spans) >= count, timeout, f"{count} spans at {self.endpoint}")
        return self.spans

    # What happens to a request.

    def _check(self, behaviour):
        if not isinstance(behaviour, self.allowed):
            raise TypeError(f"{type(self).__name__} cannot do {behaviour!r}")
        if isinstance(behaviour, Hang | Slow):
            self._check(behaviour.then)

    def _handle(self, signal, message, headers, exchange):
        """Do with one request what the script says, by the means of its protocol (``exchange``)."""
        spans = decode_spans(message, headers) if signal is TRACES else []
        with self._lock:
            behaviour = self._script.popleft() if self._script else self.default
            now = time.monotonic_ns()
            request = ReceivedRequest(signal.name, headers, message, spans, behaviour, now)
            self._requests.append(request)
            released = self._released
        while isinstance(behaviour, Hang | Slow):
            released.wait(behaviour.seconds if isinstance(behaviour, Slow) else None)
            behaviour = behaviour.then
        match behaviour:
            case Ok():
                return self._take(request, spans, signal.response(), exchange)
            case PartialSuccess(rejected, text):
                partial = {signal.rejected_field: rejected, "error_message": text}
                kept = spans[: max(0, len(spans) - rejected)]
                return self._take(request, kept, signal.response(partial_success=partial), exchange)
            case Answer():
                return self._take(request, spans, behaviour, exchange)
            case Reset(taken):
                if taken:
                    self._take(request, spans, None, exchange)
                return exchange.break_off(self._relay, reset=True)
            case Garbage(data):
                return exchange.break_off(self._relay, last_words=data)
            case _:
                return exchange.refuse(behaviour)

    def _take(self, request, spans, response, exchange):
        # Nobody waits any more for what was held up too long: such a request counts as not taken.
        if exchange.alive(self._relay):
            with self._lock:
                self._taken.append((request, spans))
        return response


def _bytes(response):
    return response.data if isinstance(response, Answer) else response.SerializeToString()


class _Exchange:
    """One request and its answer: the part that depends on the protocol."""

    port_behind: int

    def alive(self, relay):
        connection = relay.connection(self.port_behind)
        return connection is not None and not connection.ending

    def break_off(self, relay, **how):
        connection = relay.connection(self.port_behind)
        if connection is not None:
            connection.close(**how)


class _GrpcExchange(_Exchange):
    def __init__(self, context):
        self.context = context
        self.port_behind = int(context.peer().rsplit(":", 1)[1])

    def alive(self, relay):
        return self.context.is_active() and super().alive(relay)

    def break_off(self, relay, **how):
        super().break_off(relay, **how)
        self.context.abort(grpc.StatusCode.UNAVAILABLE, "the connection is gone")

    def refuse(self, behaviour):
        code = grpc.StatusCode[behaviour.code]
        if behaviour.retry_after is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromNanoseconds(int(behaviour.retry_after * 1e9))
            detail = AnyMessage()
            detail.Pack(retry)
            status = status_pb2.Status(code=code.value[0], message=behaviour.message, details=[detail])
            self.context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        self.context.abort(code, behaviour.message)


class GrpcReceiver(_Receiver):
    """OTLP over gRPC, all three signals. The scheme of ``endpoint`` says "without TLS" to exporters."""

    allowed = (*_Receiver.allowed, GrpcStatus)
    protocol = "grpc"

    def _check(self, behaviour):
        super()._check(behaviour)
        if isinstance(behaviour, GrpcStatus) and behaviour.code not in grpc.StatusCode.__members__:
            raise ValueError(f"{behaviour.code!r} is no gRPC status code")

    def _start_server(self):
        self._pool = ThreadPoolExecutor(max_workers=64, thread_name_prefix="otlp-receiver")
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
        self._server = grpc.server(self._pool, options=unlimited)
        for signal in (TRACES, METRICS, LOGS):
            export = grpc.unary_unary_rpc_method_handler(
                self._export(signal), signal.request.FromString, _bytes
            )
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(signal.service, {"Export": export}),)
            )
        if self.tls is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            pairs = [(self.tls.key.read_bytes(), self.tls.certificate.read_bytes())]
            asked = self.tls.client_authority
            credentials = grpc.ssl_server_credentials(
                pairs, asked and asked.read_bytes(), require_client_auth=asked is not None
            )
            port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self._server.start()
        return port

    def _export(self, signal):
        def export(message, context):
            metadata = context.invocation_metadata()
            headers = {key: value if isinstance(value, str) else value.hex() for key, value in metadata}
            return self._handle(signal, message, headers, _GrpcExchange(context))

        return export

    def _stop_server(self):
        self._server.stop(grace=None).wait()
        self._pool.shutdown()


class _HttpExchange(_Exchange):
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
    signals: ClassVar[dict[str, _Signal]] = {signal.path: signal for signal in (TRACES, METRICS, LOGS)}

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
            self.answer(200, _bytes(response), kind)

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


class HttpReceiver(_Receiver):
    """OTLP over HTTP (protobuf; gzip, deflate or plain), all three signals under their standard paths."""

    allowed = (*_Receiver.allowed, HttpStatus)
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
