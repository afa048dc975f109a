"""Producers that come with the package."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.metrics.collectors import collectors_of
from otpylib_telemetry.primitives.clock import wall_clock
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry.primitives.polling import LATE, Round, Watches
from otpylib_telemetry_otel.metrics.producers import (
    _MS_PER_SECOND,
    _log,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.sdk.metrics.export import MetricsData

    from otpylib_telemetry_otel.metrics.producer import Measured


#: The part of its time that a producer grants one collector of a registry.
_COLLECTOR_SHARE: Final = 0.5


class CallbackProducer:
    """Metrics of user code.

    Args:
        callback: Returns the values there are, each as a
            :class:`~otpylib_telemetry_otel.metrics.producer.Measured`; called on a thread.
        scope: Name of the instrumentation scope.
    """

    def __init__(self, callback: Callable[[], Iterable[Measured]], scope: str = "") -> None:
        self._callback = callback
        self._scope = scope
        self._started_ns = _now_ns()
        # Of each counter where it began and what it was: one that falls has begun anew.
        self._counters: dict[Any, tuple[int, float, int]] = {}

    def produce(self, timeout_millis: float) -> MetricsData:
        """Return what the callback says."""
        from otpylib_telemetry_otel.metrics.conversion import of_values  # noqa: PLC0415 - it imports OpenTelemetry

        del timeout_millis
        values, now_ns = list(self._callback()), _now_ns()
        counters: dict[Any, tuple[int, float, int]] = {}
        timed = []
        for one in values:
            start_ns = self._started_ns
            if one.kind == "counter":
                key = (one.name, *sorted((name, str(value)) for name, value in one.attributes.items()))
                start_ns, last, at_ns = self._counters.get(key, (start_ns, 0, now_ns))
                if one.value < last:
                    start_ns = at_ns
                counters[key] = (start_ns, one.value, now_ns)
            timed.append((one, start_ns))
        self._counters = counters
        return of_values(self._scope, timed, now_ns)


class PrometheusRegistryProducer:
    """What a registry of prometheus_client holds.

    Rules: OpenTelemetry's "Prometheus and OpenMetrics Compatibility", "Prometheus Metric points to OTLP".
    Names stay as they are. Counters become monotonic sums, gauges and what has no type gauges, histograms
    histograms, information and states non-monotonic sums. Summaries become histograms without buckets, that
    is count and sum, because the SDK has no form of its own for them; quantiles, which prometheus_client's
    own summaries do not have, gauges called ``<name>_quantile``. Exemplars come along. Where there is no
    ``_created`` the beginning is told as unknown.

    Each collector of the registry is asked by itself. One that raises, or does not come back in time, is left
    out of that reading, counted and reported once; all others are there.

    Args:
        registry: The registry, or anything whose ``collect()`` yields such metrics.

    Attributes:
        left_out: How often a collector was left out of a reading.
    """

    def __init__(self, registry: Any) -> None:
        self._registry = registry
        self.left_out = 0
        self._watches = Watches(lambda collector: collector.collect())
        self._troubles = Once()

    def produce(self, timeout_millis: float) -> MetricsData:
        """Return what the registry holds."""
        from otpylib_telemetry_otel.metrics.conversion import (  # noqa: PLC0415
            metrics_data,
            metrics_of,
        )

        now_ns = _now_ns()
        collectors = collectors_of(self._registry)
        watches = self._watches.of([collector for collector, _ in collectors])
        limit = timeout_millis / _MS_PER_SECOND * _COLLECTOR_SHARE
        outcomes = Round(watches, None, limit).wait()
        metrics = []
        for (collector, label), watch in zip(collectors, watches, strict=True):
            outcome = outcomes[watch]
            trouble = LATE if outcome is None else outcome.error
            if outcome is not None and trouble is None:
                try:
                    metrics += metrics_of(outcome.observations, now_ns)
                except Exception as error:  # noqa: BLE001 - a collector may say anything
                    trouble = error
            self._account(collector, label, trouble)
        return metrics_data("prometheus_client", metrics)

    def _account(self, collector: Any, label: str, trouble: str | BaseException | None) -> None:
        if trouble is None:
            self._troubles.over(id(collector))
            return
        self.left_out += 1
        if self._troubles.is_news(id(collector)):
            _log.warning(
                "%s of a registry of prometheus_client cannot be collected (%s); its metrics are not "
                "exported. All others are; it is asked again each time, and further failures are "
                "only counted.",
                label,
                trouble if isinstance(trouble, str) else describe(trouble),
            )


def _now_ns() -> int:
    return time.monotonic_ns() + wall_clock.offset_ns()
