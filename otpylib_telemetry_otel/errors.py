"""What a destination or a signal refuses."""

from __future__ import annotations

from dataclasses import dataclass

from otpylib_telemetry.exporter.collected import ExportOutcome
from otpylib_telemetry.exporter.errors import DestinationError, ExportError


class BackendUnavailableError(Exception):
    """What the settings ask for cannot be had as things are."""


@dataclass(frozen=True, slots=True)
class StrangeOutcome(ExportOutcome):
    """Success with an answer that is none of OTLP, so that somebody else may have given it."""


class BatchRefusedError(ExportError):
    """What answers speaks OTLP, and refuses what it has read for what is in it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=False)


class ServerBrokenError(ExportError):
    """What answers fails by itself, which OTLP says not to repeat."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=False)


class SignalRefusedError(DestinationError):
    """What answers does not take this signal at all."""
