"""What a destination or a signal refuses."""

from __future__ import annotations

from otpylib_telemetry.exporter.base import DestinationError, ExportError


class BackendUnavailableError(Exception):
    """What the settings ask for cannot be had as things are."""


class ServerBrokenError(ExportError):
    """What answers fails by itself, which OTLP says not to repeat."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=False)


class SignalRefusedError(DestinationError):
    """What answers does not take this signal at all."""
