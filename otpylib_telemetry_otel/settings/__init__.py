"""The settings of the OpenTelemetry exporter."""

from otpylib_telemetry_otel.settings.model import OtelSettings

__all__ = ["OtelSettings"]
