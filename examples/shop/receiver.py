"""An OTLP collector small enough to carry along: it speaks OTLP over gRPC, and can die and come back."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

from examples.shop.readings import samples_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from examples.shop.scrape import Sample

#: Seconds the collector gives a request under way when it goes down. What it has taken it has also answered
#: for, so nobody need send it again; one that is cut off in mid-answer is sent the batch a second time.
GRACE = 10.0


@dataclass(frozen=True, slots=True)
class Span:
    """A span as it arrived.

    Attributes:
        name: The operation.
        trace_id: In hexadecimal digits.
        span_id: In hexadecimal digits.
        parent_id: In hexadecimal digits; empty for none.
        start_ns: When it began, in nanoseconds since the epoch.
        end_ns: When it ended.
        failed: Whether its status is ERROR.
        message: What the error said.
        attributes: What it carries.
        events: Names of what happened during it.
    """

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    failed: bool
    message: str
    attributes: dict[str, Any]
    events: tuple[str, ...]


class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """The collector. It runs in threads of its own, as far from the application as one process allows.

    Args:
        port: Where to listen; 0 for any free port.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        #: Export requests and spans that were taken so far.
        self.requests = 0
        self.received = 0
        #: What was last said of every metric, spelt as Prometheus does.
        self.samples: dict[Sample, float] = {}
        self._lock = threading.Lock()
        self._arrived: list[Span] = []
        self._server: grpc.Server | None = None

    @property
    def url(self) -> str:
        """The endpoint to configure; the scheme says "without TLS"."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_up(self) -> bool:
        """Whether it listens."""
        return self._server is not None

    def start(self) -> None:
        """Listen; on the same port as before, if it was up before.

        Raises:
            RuntimeError: The port is taken.
        """
        server = grpc.server(
            ThreadPoolExecutor(max_workers=2, thread_name_prefix="collector"),
            options=[("grpc.so_reuseport", 0)],
        )
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, server)
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(self._measured), server)
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        server.start()
        self._server = server

    def stop(self) -> None:
        """Go down: the port is closed and every connection with it. Blocks for a moment."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(GRACE).wait()

    def take(self) -> list[Span]:
        """Return what arrived since this was last called."""
        with self._lock:
            arrived, self._arrived = self._arrived, []
        return arrived

    def Export(  # noqa: N802  # the name of the RPC
        self, request: trace_service_pb2.ExportTraceServiceRequest, _context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Take a batch; called by gRPC, in a thread."""
        spans = [
            _decode(span)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self.requests += 1
            self.received += len(spans)
            self._arrived.extend(spans)
        return trace_service_pb2.ExportTraceServiceResponse()

    def _measured(self, samples: dict[Sample, float]) -> None:
        with self._lock:
            # Cumulative: what is said later takes the place of what was said before. A whole new dict,
            # because it is read from another thread.
            self.samples = {**self.samples, **samples}


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    """The collector's other service: metrics.

    Args:
        take: Given what is said of them.
    """

    def __init__(self, take: Callable[[dict[Sample, float]], None]) -> None:
        self._take = take

    def Export(  # noqa: N802  # the name of the RPC
        self, request: metrics_service_pb2.ExportMetricsServiceRequest, _context: grpc.ServicerContext
    ) -> metrics_service_pb2.ExportMetricsServiceResponse:
        """Take a batch; called by gRPC, in a thread."""
        self._take(samples_of(request))
        return metrics_service_pb2.ExportMetricsServiceResponse()


def _decode(span: trace_pb2.Span) -> Span:
    return Span(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        message=span.status.message,
        attributes={pair.key: _value(pair.value) for pair in span.attributes},
        events=tuple(event.name for event in span.events),
    )


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return (
        getattr(value, kind) if kind in {"string_value", "bool_value", "int_value", "double_value"} else None
    )
