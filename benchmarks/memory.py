"""Bytes per span that is open, by tracemalloc: ours against the SDK's, with the same four attributes."""

from __future__ import annotations

import gc
import tracemalloc
from typing import TYPE_CHECKING

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from benchmarks import ours
from benchmarks.peers import LABELS
from otpylib_telemetry import execute
from otpylib_telemetry_otel.backend import OtelBackend

if TYPE_CHECKING:
    from collections.abc import Callable

SPANS = 5_000


def _bytes_per_span(fill: Callable[[], object], spans: int) -> float:
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = fill()
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return (after - before) / spans


def own(count: int = SPANS) -> float:
    """Return the bytes of one of so many of our spans that are open."""
    name, queue, exporter = ours.exporter_of(OtelBackend)

    def fill() -> object:
        with ours.reading(queue):
            for number in range(count):
                execute(f"{name}.request.start", {}, {"correlation_id": number, **LABELS})
            ours.collect(queue, exporter)
        return exporter

    return _bytes_per_span(fill, count)


def _sdk(count: int) -> float:
    provider = TracerProvider(resource=Resource.create({"service.name": "bench"}), shutdown_on_exit=False)
    tracer = provider.get_tracer("bench")

    def fill() -> object:
        spans = []
        for number in range(count):
            one = tracer.start_span("shop.request")
            one.set_attribute("correlation_id", number)
            for key, value in LABELS.items():
                one.set_attribute(key, value)
            spans.append(one)
        return spans

    return _bytes_per_span(fill, count)


def table(count: int) -> str:
    """Measure, with so many spans at most, and return the result as a Markdown table."""
    count = min(count, SPANS)
    sdk, own_bytes = _sdk(count), own(count)
    return "\n".join(
        [
            "| memory of one open span | bytes | ratio |",
            "|---|---:|---:|",
            f"| OpenTelemetry SDK | {sdk:.0f} | 1.00 |",
            f"| otpylib-telemetry | {own_bytes:.0f} | {own_bytes / sdk:.2f} |",
        ]
    )
