"""What sends a signal, as the exporter has it built."""

from otpylib_telemetry_otel.destinations import build, resource_of


def destination_of(settings, signal="traces"):
    return build(settings, signal, resource_of(settings))
