"""Log records made through the OpenTelemetry API, as events of the bus.

One with a name becomes an event of that name, any other one a ``log.record`` like those of the logging
bridge; whoever listens sees it, and an exporter makes a log record of it again.

The global ``LoggerProvider`` is one for good, as the ``TracerProvider`` is; see
:mod:`~otpylib_telemetry_otel.api.tracer_provider`.

Imports OpenTelemetry's SDK: to be imported only where it is wanted.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import _logs as api
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor

from otpylib_telemetry.bus.dispatch import execute, is_listened_to
from otpylib_telemetry.instrument.logging import IGNORED, LOG_EVENT
from otpylib_telemetry.primitives.fork import after_fork_in_child
from otpylib_telemetry.tracing.operations import Phase, classify
from otpylib_telemetry.tracing.propagation import format_span_id, format_trace_id, format_traceparent

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadWriteLogRecord


#: The name of the threads that export.
_EXPORTING: Final = "otpylib-telemetry"

_local = threading.local()


class _Switch:
    """Whether records become events."""

    on = False


class _Processor(LogRecordProcessor):
    """Emits an event for every record."""

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Emit the event of a record, unless it was made by whoever listens to such events."""
        if not _Switch.on or getattr(_local, "busy", False):
            return
        record, scope = log_record.log_record, log_record.instrumentation_scope
        if scope is not None and _is_about_exporting(scope.name):
            return
        name = record.event_name or LOG_EVENT
        # One that would begin or end an operation was not meant to: it is a record like any other.
        if classify(name)[1] is not Phase.NONE:
            name = LOG_EVENT
        if not is_listened_to(name):
            return
        _local.busy = True
        try:
            execute(name, {}, _metadata(log_record, name))
        finally:
            _local.busy = False

    def shutdown(self) -> None:
        """Do nothing: there is nothing here to release."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Do nothing: an event is with its listeners at once."""
        del timeout_millis
        return True


_lock = threading.Lock()
#: Providers that have our processor.
_served: weakref.WeakSet[Any] = weakref.WeakSet()


def install() -> bool:
    """Have log records of the OpenTelemetry API become events.

    Returns:
        Whether that is possible: not with a global provider that takes no processor.
    """
    with _lock:
        provider: Any = api.get_logger_provider()
        if not hasattr(provider, "add_log_record_processor"):
            # Nothing is set, or something that cannot be used: then this is without effect.
            if isinstance(provider, api.NoOpLoggerProvider) or not _is_unset(provider):
                return False
            api.set_logger_provider(LoggerProvider(shutdown_on_exit=False))
            provider = api.get_logger_provider()
            if not hasattr(provider, "add_log_record_processor"):
                return False
        if provider not in _served:
            provider.add_log_record_processor(_Processor())
            _served.add(provider)
        _Switch.on = True
        return True


def uninstall() -> None:
    """Undo :func:`install`: records are of no effect from now on."""
    with _lock:
        _Switch.on = False


def _is_about_exporting(scope: str) -> bool:
    """Tell whether a record comes about by exporting: one such record would bring about the next.

    The scope of a record that comes from Python's logging is the name of its logger.
    """
    return (
        threading.current_thread().name == _EXPORTING
        or scope in IGNORED
        or scope.startswith(tuple(f"{name}." for name in IGNORED))
    )


def _is_unset(provider: object) -> bool:
    """Tell whether a provider only stands in for one that is still to be set."""
    return type(provider).__name__ == "ProxyLoggerProvider"


def _after_fork() -> None:
    """Leave what was installed to the parent; the child may install its own."""
    global _lock  # noqa: PLW0603 - there is one set of global providers
    _lock = threading.Lock()
    _Switch.on = False


after_fork_in_child(_after_fork)


def _metadata(log_record: ReadWriteLogRecord, name: str) -> dict[str, Any]:
    record, scope = log_record.log_record, log_record.instrumentation_scope
    metadata: dict[str, Any] = dict(record.attributes or {})
    if record.event_name and name == LOG_EVENT:
        metadata["event.name"] = record.event_name
    if scope is not None and scope.name:
        metadata["otel.scope.name"] = scope.name
        metadata["otel.scope.version"] = scope.version or ""
    if record.body is not None:
        metadata["body"] = record.body
    if record.severity_number is not None and record.severity_number.value:
        metadata["severity_number"] = record.severity_number.value
    if record.severity_text:
        metadata["severity"] = record.severity_text
    at_ns = record.timestamp or record.observed_timestamp
    if at_ns and name == LOG_EVENT:
        metadata["time_unix_nano"] = at_ns
    if record.trace_id and record.span_id:
        metadata["trace_id"] = format_trace_id(record.trace_id)
        metadata["span_id"] = format_span_id(record.span_id)
        sampled = bool(record.trace_flags and record.trace_flags.sampled)
        metadata["traceparent"] = format_traceparent(record.trace_id, record.span_id, sampled=sampled)
    return metadata
