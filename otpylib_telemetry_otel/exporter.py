"""OtelExporter: the process that runs :class:`~otpylib_telemetry_otel.backend.OtelBackend`."""

from collections.abc import Mapping
from typing import Any

from otpylib_telemetry.exporter.server import exporter_module
from otpylib_telemetry.supervision.specs import start_exporter
from otpylib_telemetry_otel.backend import OtelBackend

OtelExporter = exporter_module(
    "OtelExporter",
    OtelBackend,
    name="otel_exporter",
    section="telemetry.otel",
    module=__name__,
    doc="GenServer that exports spans over OTLP or any installed OpenTelemetry exporter, registered as "
    "``otel_exporter``, configured by ``telemetry.otel``.",
)

#: The same class, under the name it has where GenServers are given as callbacks.
otel_callbacks = OtelExporter


async def start_otel_exporter(config: Mapping[str, Any] | None = None, *, name: str | None = None) -> Any:
    """Start the exporter by itself, unsupervised.

    Args:
        config: Settings that go before configuration.
        name: Makes it a further instance, as for ``child_spec``.

    Returns:
        Its pid.

    Raises:
        ValueError: A wrong setting; the message lists every one.
        RuntimeError: No otpylib runtime is set.
    """
    return await start_exporter(OtelExporter, config, name=name)
