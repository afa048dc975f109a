"""What sends the log records, built from the settings: for logs what ``backends`` is for spans.

OpenTelemetry is imported by :func:`build_logs` and not by this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry_otel.destinations.base import Destination, SdkDestination, missing
from otpylib_telemetry_otel.destinations.otlp import over_otlp, why_none
from otpylib_telemetry_otel.errors import BackendUnavailableError
from otpylib_telemetry_otel.sdk import plugins
from otpylib_telemetry_otel.version import own_version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry_otel.settings.model import OtelSettings

__all__ = ["EXPORTERS", "build_logs", "why_no_logs"]

EXPORTERS: Final = "opentelemetry_logs_exporter"


def why_no_logs(settings: OtelSettings) -> str | None:
    """Return why no logs can be sent under these settings though they are wanted, or None if they can.

    Args:
        settings: With ``logs`` on.
    """
    otlp = settings.logs_transport() is not None
    return why_none(settings, "log", EXPORTERS, otlp=otlp, url=settings.logs_url())


def build_logs(settings: OtelSettings, resource: Mapping[str, Any]) -> Destination:
    """Build what sends log records. Imports OpenTelemetry, reads files, connects to nothing.

    Args:
        settings: Settings under which logs can be sent; see :func:`why_no_logs`.
        resource: The resource attributes of the settings.

    Raises:
        BackendUnavailableError: A package or a file is missing, or the exporter cannot be built.
    """
    protocol = settings.logs_transport()
    if protocol is None:
        try:
            from otpylib_telemetry_otel.sdk.logs import LogConverter  # noqa: PLC0415 - see the docstring
        except ImportError as error:
            raise BackendUnavailableError(missing("exporting logs", error)) from error
        exporter = plugins.load(EXPORTERS, settings.exporter, "log exporter", "opentelemetry-exporter-{}")
        return SdkDestination(exporter, LogConverter(resource))
    try:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - see the module's docstring

        from otpylib_telemetry_otel.otlp.logs import LogEncoder  # noqa: PLC0415
        from otpylib_telemetry_otel.otlp.services import LOGS  # noqa: PLC0415

        complete = Resource.create(dict(resource))
        encoder = LogEncoder(complete.attributes, complete.schema_url, ("otpylib_telemetry", own_version()))
        return over_otlp(settings.for_logs(), protocol, settings.logs_url() or "", LOGS, encoder.encode)
    except ImportError as error:
        raise BackendUnavailableError(missing("exporting logs over OTLP", error)) from error
