"""One operation, written as people write it: ``with span()`` against the libraries called directly."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import CollectorRegistry, Gauge, Histogram

from benchmarks import ours, peers
from benchmarks.harness import Case, Comparison
from otpylib_telemetry import execute, span
from otpylib_telemetry.exporter.base import ExportContext
from otpylib_telemetry.exporter.consumer import CHUNK
from otpylib_telemetry_otel.backend import OtelBackend
from otpylib_telemetry_prometheus.backend import PrometheusBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry.exporter.queue import EventQueue

#: What an operation carries.
ATTRIBUTES = {"method": "GET", "route": "/orders"}

_numbers = itertools.count()


def _tracer(*, encode: bool = False) -> tuple[TracerProvider, Any]:
    exporter = peers.Encode() if encode else peers.Discard()
    provider = TracerProvider(resource=Resource.create({"service.name": "bench"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=100_000))
    return provider, provider.get_tracer("bench")


def _instruments() -> tuple[Gauge, Histogram]:
    registry = CollectorRegistry()
    return (
        Gauge("request_in_flight", "Requests.", list(ATTRIBUTES), registry=registry),
        Histogram("request_seconds", "Requests.", [*ATTRIBUTES, "outcome"], registry=registry),
    )


def sdk(*, encode: bool = False) -> Callable[[int], None]:
    """``start_as_current_span`` through a BatchSpanProcessor."""
    provider, tracer = _tracer(encode=encode)

    def run(count: int) -> None:
        for _ in range(count):
            with tracer.start_as_current_span("shop.request", attributes=ATTRIBUTES):
                pass
        provider.force_flush()

    return run


def client() -> Callable[[int], None]:
    """``inc`` and ``dec`` of a gauge, ``observe`` of a histogram, by labels."""
    gauge, histogram = _instruments()

    def run(count: int) -> None:
        for _ in range(count):
            gauge.labels(**ATTRIBUTES).inc()
            gauge.labels(**ATTRIBUTES).dec()
            histogram.labels(**ATTRIBUTES, outcome="success").observe(0.0123)

    return run


def both_libraries() -> Callable[[int], None]:
    """A span and the three metrics around one operation."""
    provider, tracer = _tracer()
    gauge, histogram = _instruments()

    def run(count: int) -> None:
        for _ in range(count):
            gauge.labels(**ATTRIBUTES).inc()
            with tracer.start_as_current_span("shop.request", attributes=ATTRIBUTES):
                pass
            gauge.labels(**ATTRIBUTES).dec()
            histogram.labels(**ATTRIBUTES, outcome="success").observe(0.0123)
        provider.force_flush()

    return run


def nobody() -> Callable[[int], None]:
    """``with span()`` where nobody listens."""

    def run(count: int) -> None:
        for _ in range(count):
            with span("nobody.listens", ATTRIBUTES):
                pass

    return run


def spans(*backends: type[Exporter[Any]], encode: bool = False, pairs: bool = False) -> Callable[[int], None]:
    """``with span()`` until every exporter has collected it, or two ``execute`` of the same.

    Args:
        *backends: The exporters.
        encode: Whether an OTLP request is made of each batch as well.
        pairs: Whether two events are emitted instead.
    """
    name = f"op{next(_numbers)}"
    exporters = [_attached(name, backend) for backend in backends]
    use = ours.encoder() if encode else (lambda _: None)
    operation, start, stop = f"{name}.request", f"{name}.request.start", f"{name}.request.success"

    def run(count: int) -> None:
        with ours.reading(*(queue for queue, _ in exporters)):
            for chunk in ours.chunks(count):
                if pairs:
                    for _ in chunk:
                        execute(start, {}, ATTRIBUTES)
                        execute(stop, {"duration_ms": 1.5}, ATTRIBUTES)
                else:
                    for _ in chunk:
                        with span(operation, ATTRIBUTES):
                            pass
                for queue, exporter in exporters:
                    ours.collect(queue, exporter, use)

    return run


def caller(readers: int) -> Callable[[int], None]:
    """``with span()`` of which several exporters will read: what the caller pays.

    Args:
        readers: How many.
    """
    name = f"op{next(_numbers)}"
    queues = [ours.attached(f"{name}_{number}", f"{name}.*") for number in range(readers)]

    operation = f"{name}.request"

    def run(count: int) -> None:
        with ours.reading(*queues):
            for chunk in ours.chunks(count):
                for _ in chunk:
                    with span(operation, ATTRIBUTES):
                        pass
                for queue in queues:
                    queue.take(2 * CHUNK)

    return run


def _attached(name: str, backend: type[Exporter[Any]]) -> tuple[EventQueue, Exporter[Any]]:
    own = f"{name}_{backend.__name__}"
    settings = backend.settings_type(**({"metrics": False} if backend is OtelBackend else {}))
    context = ExportContext(own, "telemetry.bench", {}, ours.nothing, dict)
    return ours.attached(own, f"{name}.*"), backend(settings, context)


def comparisons(count: int) -> list[Comparison]:
    """Return the cases.

    Args:
        count: Operations per round.
    """
    few = count // 4
    both = (OtelBackend, PrometheusBackend)
    return [
        Comparison(
            "One operation, whole cost, OpenTelemetry exporter",
            [
                Case("`start_as_current_span`, `BatchSpanProcessor` (OpenTelemetry SDK)", sdk(), few),
                Case("`with span()`", spans(OtelBackend), few),
                Case("two `execute`", spans(OtelBackend, pairs=True), few),
                Case("`with span()`, nobody listens", nobody(), few),
            ],
        ),
        Comparison(
            "One operation, encoded as OTLP, whole cost",
            [
                Case("the same and `encode_spans` (OpenTelemetry SDK)", sdk(encode=True), few),
                Case("`with span()`, encoded", spans(OtelBackend, encode=True), few),
            ],
        ),
        Comparison(
            "One operation, whole cost, Prometheus exporter",
            [
                Case("gauge `inc`, `dec`, histogram `observe`, by labels (prometheus_client)", client(), few),
                Case("`with span()`", spans(PrometheusBackend), few),
                Case("two `execute`", spans(PrometheusBackend, pairs=True), few),
            ],
        ),
        Comparison(
            "One operation, whole cost, both exporters",
            [
                Case("both libraries", both_libraries(), few),
                Case("`with span()`", spans(*both), few),
                Case("two `execute`", spans(*both, pairs=True), few),
                Case("`with span()`, the caller's part", caller(2), few),
                Case("`with span()`, the caller's part, five exporters", caller(5), few),
            ],
        ),
    ]
