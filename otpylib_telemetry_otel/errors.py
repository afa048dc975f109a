"""What a destination or a signal refuses."""

from __future__ import annotations

from otpylib_telemetry.exporter.base import DestinationError


class BackendUnavailableError(Exception):
    """What the settings ask for cannot be had as things are."""


class SignalRefusedError(DestinationError):
    """What answers does not take this signal at all."""
