"""What sends log records and what sends metrics have this in common: where they go, and how."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from otpylib_telemetry_otel.destinations.base import OtlpDestination, grpc_transport, http_transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry_otel.destinations.base import Destination
    from otpylib_telemetry_otel.settings.model import OtelSettings

__all__ = ["over_otlp", "why_none"]


def why_none(settings: OtelSettings, noun: str, group: str, *, otlp: bool, url: str | None) -> str | None:
    """Return why nothing of a signal can be sent though it is wanted, or None if it can be.

    Args:
        settings: The settings.
        noun: What is sent: ``log`` or ``metric``.
        group: The entry points of its exporters.
        otlp: Whether it goes over OTLP, and not through another exporter.
        url: Where it goes then.
    """
    if not otlp:
        name = settings.exporter
        if any(entry.name == name for entry in entry_points(group=group)):
            return None
        return f"no installed package registers a {noun} exporter named {name!r} (entry points {group})"
    if url is not None:
        return None
    if settings.endpoint is None:
        return "no endpoint is set"
    return (
        f"the endpoint is one for traces alone (OTEL_EXPORTER_OTLP_TRACES_ENDPOINT), and neither "
        f"{noun}s_endpoint nor OTEL_EXPORTER_OTLP_ENDPOINT is set"
    )


def over_otlp(
    settings: OtelSettings, protocol: str, url: str, signal: Any, encode: Callable[[Any], Any]
) -> Destination:
    """Return what sends a signal over OTLP.

    Args:
        settings: The settings as they are for this signal.
        protocol: ``grpc`` or ``http/protobuf``.
        url: Where it goes.
        signal: One of :mod:`~otpylib_telemetry_otel.otlp.services`.
        encode: Makes requests of items.
    """
    there = settings.model_copy(update={"endpoint": url})
    if protocol == "grpc":
        return OtlpDestination(encode, grpc_transport(there, signal))
    return OtlpDestination(encode, http_transport(there, signal, url))
