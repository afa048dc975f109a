"""The receiver: the script, what arrived, and the life of the port."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from otpylib_telemetry.primitives.fork import new_lock
from otpylib_telemetry_mock.otlp_receiver.behaviours import (
    Answer,
    Behaviour,
    Garbage,
    GrpcStatus,
    Hang,
    HttpStatus,
    Ok,
    PartialSuccess,
    Reset,
    Slow,
)
from otpylib_telemetry_mock.otlp_receiver.grpc_server import GrpcServer
from otpylib_telemetry_mock.otlp_receiver.http_server import HttpServer
from otpylib_telemetry_mock.otlp_receiver.received import (
    LOGS,
    METRICS,
    TRACES,
    ReceivedLog,
    ReceivedPoint,
    ReceivedRequest,
    ReceivedSpan,
    Signal,
    logs_in,
    points_in,
    spans_in,
)
from otpylib_telemetry_mock.otlp_receiver.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from otpylib_telemetry_mock.otlp_receiver.exchange import Exchange
    from otpylib_telemetry_mock.otlp_receiver.tls import Tls

#: Seconds between two looks at what has arrived.
_POLL = 0.01

_SERVERS: dict[str, type[GrpcServer | HttpServer]] = {"grpc": GrpcServer, "http/protobuf": HttpServer}


class _Server(Protocol):
    def start(self) -> int: ...

    def stop(self) -> None: ...


class OtlpReceiver:
    """An OTLP collector for tests: it keeps what it takes, and fails on command.

    It listens on 127.0.0.1, over gRPC and HTTP on the same port, and takes all three signals. It runs in
    threads of its own: an event loop that a test blocks by mistake does not hide what has arrived. It is a
    context manager.

    Needs the extra ``otel``.
    """

    protocols: ClassVar[tuple[str, ...]] = ("grpc", "http/protobuf")

    def __init__(self, port: int | None = None, tls: Tls | None = None) -> None:
        """Listen.

        Args:
            port: The port; None for any that is free.
            tls: What it identifies itself with; None for none. With TLS one protocol has to be chosen:
                ``GrpcReceiver`` or ``HttpReceiver``.

        Raises:
            OSError: The port is taken.
            ValueError: Both protocols are asked for, and TLS.
        """
        if tls is not None and len(self.protocols) > 1:
            raise ValueError("with TLS one port speaks one protocol: use GrpcReceiver or HttpReceiver")
        self.tls = tls
        self.default: Behaviour = Ok()
        #: What could not be decoded, as exceptions.
        self.undecodable: list[Exception] = []
        self._script: deque[Behaviour] = deque()
        self._lock = new_lock()
        self._requests: list[ReceivedRequest] = []
        self._taken: list[tuple[ReceivedRequest, list[ReceivedSpan]]] = []
        self._released = threading.Event()
        self._servers: list[_Server] = []
        behind = {}
        for protocol in self.protocols:
            server = _SERVERS[protocol](self._handle, self.undecodable, tls)
            behind[protocol] = server.start()
            self._servers.append(server)
        try:
            self._relay = Relay(port, behind)
        except BaseException:
            self._stop_servers()
            raise

    # What a test tells it.

    def script(self, *behaviours: Behaviour) -> None:
        """Say what to do with the next requests.

        Args:
            behaviours: One a request, in order. After them holds what ``always`` says.
        """
        for behaviour in behaviours:
            self._check(behaviour)
        with self._lock:
            self._script.extend(behaviours)

    def always(self, behaviour: Behaviour) -> None:
        """Say what to do with every request that no script is left for.

        Args:
            behaviour: What to do.
        """
        self._check(behaviour)
        with self._lock:
            self.default = behaviour

    def release(self) -> None:
        """Let every request that hangs go on; later ones hang again."""
        with self._lock:
            released, self._released = self._released, threading.Event()
        released.set()

    def stall(self) -> None:
        """Accept connections but read nothing, until ``unstall()``."""
        self._relay.flowing.clear()

    def unstall(self) -> None:
        """Read again, beginning with what was sent meanwhile."""
        self._relay.flowing.set()

    def throttle(self, bytes_per_second: float | None) -> None:
        """Read slowly.

        Args:
            bytes_per_second: How fast; None for as fast as it goes.
        """
        self._relay.bytes_per_second = bytes_per_second

    def stop(self, *, reset: bool = False) -> None:
        """Close the port and every connection; ``restart()`` brings it back.

        Args:
            reset: Reset the connections instead of closing them.
        """
        self._relay.stop(reset=reset)

    def restart(self) -> None:
        """Listen again on the same port, with what arrived before still there."""
        self.unstall()
        self._relay.start()

    def close(self) -> None:
        """End it for good."""
        with self._lock:
            self._script.clear()
            self.default = Ok()
        self._relay.stop(reset=True)
        self.unstall()
        self.release()
        self._stop_servers()

    def clear(self) -> None:
        """Forget what arrived."""
        with self._lock:
            self._requests.clear()
            self._taken.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # What a test asks it.

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._relay.port

    @property
    def protocol(self) -> str:
        """A protocol it speaks, for ``[telemetry.otel] protocol``."""
        return self.protocols[0]

    @property
    def host_port(self) -> str:
        """Address and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def endpoint(self) -> str:
        """The address for ``[telemetry.otel] endpoint``, with either protocol."""
        return f"{'https' if self.tls else 'http'}://{self.host_port}"

    @property
    def requests(self) -> list[ReceivedRequest]:
        """Every request that was read, taken or not, in order."""
        with self._lock:
            return list(self._requests)

    @property
    def taken(self) -> list[ReceivedRequest]:
        """The requests that were taken, whole or in part."""
        with self._lock:
            return [request for request, _ in self._taken]

    @property
    def spans(self) -> list[ReceivedSpan]:
        """The spans that were taken, in order."""
        with self._lock:
            return [span for _, spans in self._taken for span in spans]

    @property
    def logs(self) -> list[ReceivedLog]:
        """The log records that were taken, in order."""
        return [record for message in self._messages(LOGS) for record in logs_in(message)]

    @property
    def metrics(self) -> list[ReceivedPoint]:
        """The data points that were taken, in order; of a cumulative metric the newest counts."""
        return [point for message in self._messages(METRICS) for point in points_in(message)]

    @property
    def connections(self) -> int:
        """How many connections were ever accepted."""
        return self._relay.accepted

    @property
    def open_connections(self) -> int:
        """How many connections are open."""
        return self._relay.open_connections

    def wait_for(self, condition: Callable[[Self], object], timeout: float = 60.0) -> None:
        """Block until something is true of the receiver. In a coroutine: ``await asyncio.to_thread(...)``.

        Args:
            condition: Is given the receiver.
            timeout: Seconds to wait.

        Raises:
            AssertionError: It did not become true in time.
        """
        deadline = time.monotonic() + timeout
        while not condition(self):
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"not so within {timeout:g} s at {self.endpoint}, which took {len(self.spans)} spans, "
                    f"{len(self.logs)} log records and {len(self.metrics)} data points"
                )
            time.sleep(_POLL)

    def wait_for_spans(self, count: int, timeout: float = 60.0) -> list[ReceivedSpan]:
        """Block until so many spans were taken.

        Args:
            count: How many.
            timeout: Seconds to wait.

        Returns:
            The spans.

        Raises:
            AssertionError: They did not arrive in time.
        """
        self.wait_for(lambda receiver: len(receiver.spans) >= count, timeout)
        return self.spans

    # What happens to a request.

    def _messages(self, signal: Signal) -> list[Any]:
        return [request.message for request in self.taken if request.signal == signal.name]

    def _check(self, behaviour: Behaviour) -> None:
        if not isinstance(behaviour, Behaviour):
            raise TypeError(f"a receiver cannot do {behaviour!r}: see otpylib_telemetry_mock.otlp_receiver")
        if isinstance(behaviour, Hang | Slow):
            self._check(behaviour.then)
        if isinstance(behaviour, GrpcStatus):
            GrpcServer.check(behaviour)

    def _handle(self, signal: Signal, message: Any, headers: dict[str, str], exchange: Exchange) -> Any:
        """Do with one request what the script says, by the means of its protocol (``exchange``)."""
        spans = spans_in(message, headers) if signal is TRACES else []
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
                exchange.break_off(self._relay, reset=True)
            case Garbage(data):
                exchange.break_off(self._relay, last_words=data)
            case GrpcStatus() | HttpStatus():
                exchange.refuse(behaviour)
        return None

    def _take(
        self, request: ReceivedRequest, spans: list[ReceivedSpan], response: Any, exchange: Exchange
    ) -> Any:
        # Nobody waits any more for what was held up too long: such a request counts as not taken.
        if exchange.alive(self._relay):
            with self._lock:
                self._taken.append((request, spans))
        return response

    def _stop_servers(self) -> None:
        for server in self._servers:
            server.stop()


class GrpcReceiver(OtlpReceiver):
    """The same over gRPC alone."""

    protocols = ("grpc",)


class HttpReceiver(OtlpReceiver):
    """The same over HTTP alone: protobuf or JSON; gzip, deflate or plain."""

    protocols = ("http/protobuf",)
