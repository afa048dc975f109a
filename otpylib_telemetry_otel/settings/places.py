"""Where the signals of an exporter go, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otpylib_telemetry.config.redaction import hide_in_url
from otpylib_telemetry_otel.settings.endpoint import SIGNALS, SignalName
from otpylib_telemetry_otel.settings.given import Given

if TYPE_CHECKING:
    from otpylib_telemetry_otel.settings.model import OtelSettings

_OVER = {"grpc": " over gRPC", "http/protobuf": ""}


def places(settings: OtelSettings) -> str:
    """Return where each signal is sent, those with one destination together, and which are not sent."""
    together: dict[str, list[str]] = {}
    for signal in SIGNALS:
        together.setdefault(_place(settings, signal), []).append(signal)
    return "; ".join(f"{_listed(signals)} {place}" for place, signals in together.items())


def _place(settings: OtelSettings, signal: SignalName) -> str:
    if not getattr(settings, signal) or not settings.sends(signal):
        return "are not sent"
    connection = settings.connection(signal)
    if connection.protocol is not None and connection.url is not None:
        return f"go to {hide_in_url(connection.url)}{_OVER[connection.protocol]}"
    if connection.has_target and not isinstance(settings.exporter, Given):
        return f"go to the exporter '{settings.exporter}'"
    return "go to what the application gave"


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
