"""The Prometheus exporter: telemetry events become metrics on an HTTP endpoint."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.primitives.facade import names_of as _names_of
from otpylib_telemetry.supervision.specs import exporter_child_spec
from otpylib_telemetry_prometheus.exporter import (
    PrometheusExporter,
    prometheus_callbacks,
    start_prometheus_exporter,
)
from otpylib_telemetry_prometheus.settings import PrometheusSettings

if TYPE_CHECKING:
    from otpylib_telemetry.version import __version__
    from otpylib_telemetry_prometheus.client.collector import RegistryCollector, private_registry
    from otpylib_telemetry_prometheus.client.merged import merge_registry, unmerge_registry
    from otpylib_telemetry_prometheus.mount.asgi import asgi_app
    from otpylib_telemetry_prometheus.mount.wsgi import wsgi_app

__all__ = [
    "PrometheusExporter",
    "PrometheusSettings",
    "RegistryCollector",
    "__version__",
    "asgi_app",
    "child_spec",
    "merge_registry",
    "private_registry",
    "prometheus_callbacks",
    "start_prometheus_exporter",
    "unmerge_registry",
    "wsgi_app",
]

if not TYPE_CHECKING:  # or a misspelt name would be of the type Any
    __getattr__ = _names_of(
        __name__,
        {
            "otpylib_telemetry.version": ("__version__",),
            ".client.collector": ("RegistryCollector", "private_registry"),
            ".client.merged": ("merge_registry", "unmerge_registry"),
            ".mount.asgi": ("asgi_app",),
            ".mount.wsgi": ("wsgi_app",),
        },
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def child_spec(config: Mapping[str, Any] | None = None, *, name: str | None = None) -> Any:
    """Return a child spec that runs the exporter under a supervisor of its own.

    Args:
        config: Settings that go before configuration.
        name: Makes it a further instance, ``audit`` for instance: registered as ``audit_exporter``,
            configured by ``telemetry.audit``.

    Returns:
        A ``supervisor.child_spec``.

    Raises:
        ValueError: A wrong setting; the message lists every one. Or a name nothing can bear.
    """
    return exporter_child_spec(PrometheusExporter, config, name=name)
