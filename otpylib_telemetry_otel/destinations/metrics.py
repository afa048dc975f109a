"""What sends the metrics, built from the settings: for metrics what ``backends`` is for spans.

OpenTelemetry is imported by :func:`build_metrics` and not by this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry_otel.destinations.base import Destination, SdkDestination, missing
from otpylib_telemetry_otel.destinations.otlp import over_otlp, why_none
from otpylib_telemetry_otel.errors import BackendUnavailableError
from otpylib_telemetry_otel.sdk import plugins

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry_otel.settings.model import OtelSettings

__all__ = ["EXPORTERS", "build_metrics", "why_no_metrics"]

EXPORTERS: Final = "opentelemetry_metrics_exporter"


def why_no_metrics(settings: OtelSettings) -> str | None:
    """Return why no metrics can be sent under these settings though they are wanted, or None if they can.

    Args:
        settings: With ``metrics`` on.
    """
    otlp = settings.metrics_transport() is not None
    return why_none(settings, "metric", EXPORTERS, otlp=otlp, url=settings.metrics_url())


def build_metrics(settings: OtelSettings, resource: Mapping[str, Any]) -> Destination:
    """Build what sends metrics. Imports OpenTelemetry, reads files, connects to nothing.

    Args:
        settings: Settings under which metrics can be sent; see :func:`why_no_metrics`.
        resource: The resource attributes of the settings.

    Raises:
        BackendUnavailableError: A package or a file is missing, the exporter cannot be built, or it is one
            that wants to collect for itself.
    """
    protocol = settings.metrics_transport()
    try:
        from otpylib_telemetry_otel.otlp.services import METRICS  # noqa: PLC0415
        from otpylib_telemetry_otel.sdk.metrics import MetricConverter, MetricEncoder  # noqa: PLC0415

        if protocol is None:
            return SdkDestination(_exporter(settings.exporter), MetricConverter(resource))
        encode = MetricEncoder(resource).encode
        return over_otlp(settings.for_metrics(), protocol, settings.metrics_url() or "", METRICS, encode)
    except ImportError as error:
        raise BackendUnavailableError(missing("exporting metrics", error)) from error


def _exporter(name: str) -> Any:
    from opentelemetry.sdk.metrics.export import MetricReader  # noqa: PLC0415 - see the module's docstring

    exporter = plugins.load(EXPORTERS, name, "metric exporter", "opentelemetry-exporter-{}")
    if isinstance(exporter, MetricReader):
        exporter.shutdown()
        raise BackendUnavailableError(
            f"the OpenTelemetry metric exporter {name!r} is a MetricReader, which collects for itself from a "
            f"MeterProvider and takes no metrics from others. For Prometheus there is telemetry.prometheus"
        )
    return exporter
