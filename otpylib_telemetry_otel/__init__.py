"""The OpenTelemetry exporter: events become spans, log records and metrics, sent over OTLP."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.primitives.facade import names_of as _names_of
from otpylib_telemetry.supervision.specs import exporter_child_spec
from otpylib_telemetry_otel.exporter import OtelExporter, otel_callbacks, start_otel_exporter
from otpylib_telemetry_otel.metrics.producers import add_metric_producer, remove_metric_producer
from otpylib_telemetry_otel.settings.model import OtelSettings

if TYPE_CHECKING:
    from otpylib_telemetry.version import __version__
    from otpylib_telemetry_otel.metrics.producer import Measured, MetricProducer
    from otpylib_telemetry_otel.metrics.stock_producers import CallbackProducer, PrometheusRegistryProducer
    from otpylib_telemetry_otel.service import TelemetryService, start_telemetry_service

__all__ = [
    "CallbackProducer",
    "Measured",
    "MetricProducer",
    "OtelExporter",
    "OtelSettings",
    "PrometheusRegistryProducer",
    "TelemetryService",
    "__version__",
    "add_metric_producer",
    "child_spec",
    "otel_callbacks",
    "remove_metric_producer",
    "start_otel_exporter",
    "start_telemetry_service",
]

if not TYPE_CHECKING:  # or a misspelt name would be of the type Any
    __getattr__ = _names_of(
        __name__,
        {
            "otpylib_telemetry.version": ("__version__",),
            ".metrics.producer": ("Measured", "MetricProducer"),
            ".metrics.stock_producers": ("CallbackProducer", "PrometheusRegistryProducer"),
            ".service": ("TelemetryService", "start_telemetry_service"),
        },
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def child_spec(config: Mapping[str, Any] | None = None, *, name: str | None = None) -> Any:
    """Return a child spec that runs the exporter under a supervisor of its own.

    Args:
        config: Settings that go before configuration.
        name: Makes it a further instance, ``audit`` for instance: registered as ``audit_exporter``,
            configured by ``telemetry.audit``.

    Returns:
        A ``supervisor.child_spec``.

    Raises:
        ValueError: A wrong setting; the message lists every one. Or a name nothing can bear.
    """
    return exporter_child_spec(OtelExporter, config, name=name)
