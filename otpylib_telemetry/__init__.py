"""Telemetry for applications built on otpylib: the event bus, and what exporters are made of.

Importing this package imports neither OpenTelemetry nor prometheus_client nor aiohttp.
"""

from otpylib_telemetry.breaker import ExporterCircuitBreaker
from otpylib_telemetry.bus import emit, emit_counter, emit_gauge, emit_timer, execute
from otpylib_telemetry.events import Event
from otpylib_telemetry.exporter import Collected, Exporter, ExportError, ExportOutcome, TooLargeError
from otpylib_telemetry.handlers import HandlerInfo
from otpylib_telemetry.manager import TelemetryManager
from otpylib_telemetry.server import exporter_module
from otpylib_telemetry.settings import ExporterSettings
from otpylib_telemetry.span import SpanContext, current_span, span, trace_context
from otpylib_telemetry.subscriptions import attach, attach_many, detach, list_handlers
from otpylib_telemetry.supervision import (
    TelemetrySupervisor,
    child_spec,
    exporter_child_spec,
    start_exporter,
    start_link,
)
from otpylib_telemetry.threads import run_in_thread
from otpylib_telemetry.toml_source import TomlSource

__all__ = [
    "Collected",
    "Event",
    "ExportError",
    "ExportOutcome",
    "Exporter",
    "ExporterCircuitBreaker",
    "ExporterSettings",
    "HandlerInfo",
    "SpanContext",
    "TelemetryManager",
    "TelemetrySupervisor",
    "TomlSource",
    "TooLargeError",
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
    "list_handlers",
    "run_in_thread",
    "span",
    "start_exporter",
    "start_link",
    "trace_context",
]
