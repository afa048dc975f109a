"""Telemetry for applications built on otpylib: the event bus, and what exporters are made of.

Importing this package imports neither OpenTelemetry nor prometheus_client nor aiohttp. What emits is there at
once. The rest is imported when it is first used: a program that only emits starts in half the time.
"""

from typing import TYPE_CHECKING

from otpylib_telemetry.bus.dispatch import emit, emit_counter, emit_gauge, emit_timer, execute
from otpylib_telemetry.bus.events import Event
from otpylib_telemetry.bus.subscriptions import attach, attach_many, detach, list_handlers
from otpylib_telemetry.bus.table import HandlerInfo
from otpylib_telemetry.primitives.facade import names_of as _names_of
from otpylib_telemetry.primitives.threads import run_in_thread
from otpylib_telemetry.tracing.parts import span_stack_traces
from otpylib_telemetry.tracing.places import current_span
from otpylib_telemetry.tracing.propagation import SpanContext
from otpylib_telemetry.tracing.span import span
from otpylib_telemetry.tracing.transfer import extract, inject, trace_context

if TYPE_CHECKING:
    from otpylib_telemetry.bus.manager import TelemetryManager
    from otpylib_telemetry.config.settings import ExporterSettings
    from otpylib_telemetry.config.toml_source import TomlSource
    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry.exporter.breaker import ExporterCircuitBreaker
    from otpylib_telemetry.exporter.collected import Collected, ExportOutcome
    from otpylib_telemetry.exporter.errors import ExportError, TooLargeError
    from otpylib_telemetry.exporter.probe import Probe
    from otpylib_telemetry.exporter.server import exporter_module
    from otpylib_telemetry.poller.polls import poll, unpoll
    from otpylib_telemetry.poller.service import TelemetryPoller
    from otpylib_telemetry.supervision.specs import exporter_child_spec, start_exporter
    from otpylib_telemetry.supervision.suite import TelemetrySupervisor, child_spec, start_link
    from otpylib_telemetry.version import __version__

__all__ = [
    "Collected",
    "Event",
    "ExportError",
    "ExportOutcome",
    "Exporter",
    "ExporterCircuitBreaker",
    "ExporterSettings",
    "HandlerInfo",
    "Probe",
    "SpanContext",
    "TelemetryManager",
    "TelemetryPoller",
    "TelemetrySupervisor",
    "TomlSource",
    "TooLargeError",
    "__version__",
    "attach",
    "attach_many",
    "child_spec",
    "current_span",
    "detach",
    "emit",
    "emit_counter",
    "emit_gauge",
    "emit_timer",
    "execute",
    "exporter_child_spec",
    "exporter_module",
    "extract",
    "inject",
    "list_handlers",
    "poll",
    "run_in_thread",
    "span",
    "span_stack_traces",
    "start_exporter",
    "start_link",
    "trace_context",
    "unpoll",
]

if not TYPE_CHECKING:  # or a misspelt name would be of the type Any
    __getattr__ = _names_of(
        __name__,
        {
            ".bus.manager": ("TelemetryManager",),
            ".config.settings": ("ExporterSettings",),
            ".config.toml_source": ("TomlSource",),
            ".exporter.base": ("Exporter",),
            ".exporter.breaker": ("ExporterCircuitBreaker",),
            ".exporter.collected": ("Collected", "ExportOutcome"),
            ".exporter.errors": ("ExportError", "TooLargeError"),
            ".exporter.probe": ("Probe",),
            ".exporter.server": ("exporter_module",),
            ".poller.polls": ("poll", "unpoll"),
            ".poller.service": ("TelemetryPoller",),
            ".supervision.specs": ("exporter_child_spec", "start_exporter"),
            ".supervision.suite": ("TelemetrySupervisor", "child_spec", "start_link"),
            ".version": ("__version__",),
            # Packages that may be named without being imported.
            **{f".{part}": () for part in ("admin", "instrument", "meters", "metrics", "poller")},
        },
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
