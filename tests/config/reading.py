"""Short ways to read settings from layers."""

from otpylib_telemetry.config.resolve import resolve
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_prometheus.settings import PrometheusSettings

SECRET = "hunter2-hunter2"


def otel(environ=None, **layers):
    return resolve(OtelSettings, "telemetry.otel", environ=environ or {}, **layers)


def prometheus(environ=None, **layers):
    return resolve(PrometheusSettings, "prometheus", environ=environ or {}, **layers)


def messages(resolution):
    return [problem.message for problem in resolution.problems]
