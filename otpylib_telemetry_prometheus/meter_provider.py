"""PrometheusMeterProvider: what is measured through the OpenTelemetry API, at our Prometheus endpoint.

To be set when the application is imported, before anything runs::

    from opentelemetry import metrics
    from otpylib_telemetry_prometheus.meter_provider import PrometheusMeterProvider

    metrics.set_meter_provider(PrometheusMeterProvider())

The series are the exporter's own, those events make included: they are there before it starts and after it
has crashed, and with ``PROMETHEUS_MULTIPROC_DIR`` they are merged over the workers. A forked worker counts
from 0 for itself. There need be no exporter at all: ``MultiProcessCollector`` of prometheus_client finds the
series of all workers in that directory.

Imports OpenTelemetry's API, and not its SDK.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    from otpylib_telemetry.meters.provider import CALLBACK_TIMEOUT, MeterProvider
    from otpylib_telemetry.meters.streams import Feed
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "opentelemetry":
        raise
    raise ModuleNotFoundError(
        f"PrometheusMeterProvider needs OpenTelemetry's API, and there is no module {error.name}: "
        "pip install 'otpylib-telemetry[meters,prometheus]'",
        name=error.name,
    ) from None
from otpylib_telemetry.aggregation.exporter_stores import when_made
from otpylib_telemetry.metrics.names import PROMETHEUS
from otpylib_telemetry_prometheus.sharing import share

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otpylib_telemetry.meters.views import View


class PrometheusMeterProvider(MeterProvider):
    """A ``MeterProvider`` whose instruments are the metrics of a Prometheus exporter.

    Args:
        exporter: The exporter's registered name; it need not run yet.
        views: What becomes of the measurements of chosen instruments; see
            :class:`otpylib_telemetry.meters.views.View`.
        feeds: Further exporters that get the same measurements, for instance
            ``Feed("otel_exporter", OPENTELEMETRY)``.
        callback_timeout: Seconds the callback of an observable instrument may take.

    Raises:
        TypeError: A view is not one of ours.
        ValueError: The time limit is not positive.
    """

    def __init__(
        self,
        exporter: str = "prometheus_exporter",
        views: Iterable[View] = (),
        feeds: Iterable[Feed] = (),
        *,
        callback_timeout: float = CALLBACK_TIMEOUT,
    ) -> None:
        when_made(exporter, share)
        super().__init__((Feed(exporter, PROMETHEUS), *feeds), views, callback_timeout=callback_timeout)
