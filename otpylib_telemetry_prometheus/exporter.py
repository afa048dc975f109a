"""The process that runs :class:`~otpylib_telemetry_prometheus.backend.PrometheusBackend`."""

from collections.abc import Mapping
from typing import Any

from otpylib_telemetry.exporter.server import exporter_module
from otpylib_telemetry.supervision.specs import start_exporter
from otpylib_telemetry_prometheus.backend import PrometheusBackend

PrometheusExporter = exporter_module(
    "PrometheusExporter",
    PrometheusBackend,
    name="prometheus_exporter",
    section="telemetry.prometheus",
    module=__name__,
    doc="GenServer that exports metrics on an HTTP endpoint, registered as ``prometheus_exporter``, "
    "configured by ``telemetry.prometheus``.",
)

#: The same class, under the name it has where GenServers are given as callbacks.
prometheus_callbacks = PrometheusExporter


async def start_prometheus_exporter(
    config: Mapping[str, Any] | None = None, *, name: str | None = None
) -> Any:
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
    return await start_exporter(PrometheusExporter, config, name=name)
