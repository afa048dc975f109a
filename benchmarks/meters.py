"""What a measurement through the OpenTelemetry API costs.

Our ``MeterProvider`` against the SDK's, and against prometheus_client called directly, with the same two
labels, in one process and one run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import prometheus_client
from opentelemetry.sdk.metrics import MeterProvider as SdkProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from benchmarks.harness import Case, Comparison
from otpylib_telemetry.meters.provider import MeterProvider
from otpylib_telemetry.meters.streams import Feed
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS

if TYPE_CHECKING:
    from collections.abc import Callable

_ATTRIBUTES = {"method": "GET", "code": "200"}


def _repeat(call: Callable[[], Any]) -> Callable[[int], None]:
    def run(count: int) -> None:
        for _ in range(count):
            call()

    return run


def comparisons(count: int) -> list[Comparison]:
    """Return what is compared.

    Args:
        count: Operations per round.
    """
    one = MeterProvider([Feed("bench_prometheus", PROMETHEUS)]).get_meter("bench")
    feeds = [Feed("bench_prometheus", PROMETHEUS), Feed("bench_otlp", OPENTELEMETRY)]
    two = MeterProvider(feeds).get_meter("bench.two")
    sdk = SdkProvider([InMemoryMetricReader()], shutdown_on_exit=False).get_meter("bench")
    registry = prometheus_client.CollectorRegistry()
    client_counter = prometheus_client.Counter("n", "n", ["method", "code"], registry=registry)
    client_histogram = prometheus_client.Histogram("h", "h", ["method", "code"], registry=registry)
    our_counter, our_histogram = one.create_counter("n"), one.create_histogram("h")
    both_counter = two.create_counter("n")
    sdk_counter, sdk_histogram = sdk.create_counter("n"), sdk.create_histogram("h")
    return [
        Comparison(
            "One increment with two attributes",
            [
                Case(
                    "`Counter.add` (OpenTelemetry SDK)",
                    _repeat(lambda: sdk_counter.add(1, _ATTRIBUTES)),
                    count,
                ),
                Case(
                    "`labels(**labels).inc()` (prometheus_client)",
                    _repeat(lambda: client_counter.labels(**_ATTRIBUTES).inc()),
                    count,
                ),
                Case("`Counter.add`, one exporter", _repeat(lambda: our_counter.add(1, _ATTRIBUTES)), count),
                Case(
                    "`Counter.add`, two exporters", _repeat(lambda: both_counter.add(1, _ATTRIBUTES)), count
                ),
            ],
        ),
        Comparison(
            "One observation with two attributes",
            [
                Case(
                    "`Histogram.record` (OpenTelemetry SDK)",
                    _repeat(lambda: sdk_histogram.record(0.3, _ATTRIBUTES)),
                    count,
                ),
                Case(
                    "`labels(**labels).observe()` (prometheus_client)",
                    _repeat(lambda: client_histogram.labels(**_ATTRIBUTES).observe(0.3)),
                    count,
                ),
                Case(
                    "`Histogram.record`, one exporter",
                    _repeat(lambda: our_histogram.record(0.3, _ATTRIBUTES)),
                    count,
                ),
            ],
        ),
    ]
