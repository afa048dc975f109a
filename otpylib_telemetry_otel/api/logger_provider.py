"""Log records made through the OpenTelemetry API, as events of the bus.

One with a name becomes an event of that name, any other one a ``log.record`` like those of the logging
bridge. Whoever listens sees it; the record itself goes along, and is what an exporter sends.

The global ``LoggerProvider`` is one for good, as the ``TracerProvider`` is; see
:mod:`~otpylib_telemetry_otel.api.tracer_provider`.

Imports OpenTelemetry's SDK: to be imported only where it is wanted.
"""

from __future__ import annotations

import inspect
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import _logs as api
from opentelemetry.context import Context
from opentelemetry.sdk._logs import Logger, LoggerProvider, LogRecordProcessor

from otpylib_telemetry.bus.dispatch import execute, is_listened_to
from otpylib_telemetry.instrument.log_events import IGNORED
from otpylib_telemetry.primitives.any_value import text
from otpylib_telemetry.primitives.fork import after_fork_in_child, new_lock
from otpylib_telemetry_otel.api.log_records import event_name, metadata_of, read, words
from otpylib_telemetry_otel.api.scopes import scope_of
from otpylib_telemetry_otel.resources import current_resource

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadWriteLogRecord
    from opentelemetry.sdk.resources import Resource


#: The name of the threads that export.
_EXPORTING: Final = "otpylib-telemetry"

_BELOW: Final = tuple(f"{name}." for name in IGNORED)

_local = threading.local()


class _Switch:
    """Whether records become events."""

    on = False


class _Processor(LogRecordProcessor):
    """Emits an event for every record."""

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Emit the event of a record, unless it was made by whoever listens to such events."""
        _local.taken = True
        _emit(log_record.log_record, log_record.instrumentation_scope)

    def enabled(self, **about: Any) -> bool:
        """Tell whether anybody would see a record, by what is known ``about`` it."""
        return _is_heard(about)

    def shutdown(self) -> None:
        """Do nothing: there is nothing here to release."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Do nothing: an event is with its listeners at once."""
        del timeout_millis
        return True


def _is_heard(about: dict[str, Any]) -> bool:
    return _Switch.on and is_listened_to(event_name(words(about.get("event_name"))))


def _emit(given: Any, scope: Any) -> None:
    if not _Switch.on or getattr(_local, "busy", False) or _is_about_exporting(scope):
        return
    _local.busy = True
    try:
        record = read(given, scope)
        name = event_name(record.event_name)
        if is_listened_to(name):
            execute(name, {}, metadata_of(record, name))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a record that cannot even be looked at; making it must not fail
        return
    finally:
        _local.busy = False


#: Whether the SDK's loggers take the fields of a record as well as a record: older ones do not.
_TAKES_FIELDS: Final = "body" in inspect.signature(Logger.emit).parameters


class _Logger(api.Logger):
    """The SDK's logger, of which nothing is raised into the application.

    The SDK makes attributes text where they are given, and what their own code raises there gets through.
    What newer releases of it can do, it can do with older ones.
    """

    def __init__(self, logger: Any, scope: Any) -> None:
        super().__init__(text(scope.name, None))
        self._logger = logger
        self._scope = scope

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)

    def enabled(self, **fields: Any) -> bool:
        """Tell whether a record would be taken."""
        ask = getattr(self._logger, "enabled", None)
        return _is_heard(fields) if ask is None else bool(ask(**fields))

    def emit(self, record: Any = None, **fields: Any) -> None:
        """Emit a record, given as one or in its fields."""
        _local.taken = False
        try:
            if record is None and not _TAKES_FIELDS:
                record, fields = _record_of(fields), {}
            self._logger.emit(record, **fields)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - whatever is in it, the record is mended and goes its way
            if not _local.taken:
                _emit(_record_of(fields) if record is None else record, self._scope)


def _record_of(fields: dict[str, Any]) -> Any:
    """Return a record that has these fields, whatever they are."""
    context = fields.pop("context", None)
    made = api.LogRecord(context=context if issubclass(type(context), Context) else None)
    for name, value in fields.items():
        if value is not None:
            setattr(made, name, value)
    return made


class _Provider(LoggerProvider):
    """The SDK's provider, with loggers from which nothing is raised into the application."""

    @property
    def resource(self) -> Resource:
        """The resource of the exporter, as far as it is known by now."""
        return current_resource()

    def get_logger(self, name: Any, *about: Any, **named: Any) -> api.Logger:
        """Return the logger of a scope; what is no name, version or attribute is made one."""
        logger: Any = super().get_logger(*scope_of(name, *about, **named))
        return _Logger(logger, logger._instrumentation_scope) if isinstance(logger, Logger) else logger  # noqa: SLF001


_lock = new_lock()
#: Providers that have our processor.
_served: weakref.WeakSet[Any] = weakref.WeakSet()


def install() -> bool:
    """Have log records of the OpenTelemetry API become events, unless the provider takes no processor."""
    with _lock:
        provider: Any = api.get_logger_provider()
        if not hasattr(provider, "add_log_record_processor"):
            # Nothing is set, or something that cannot be used: then this is without effect.
            if type(provider).__name__ != "ProxyLoggerProvider":
                return False
            api.set_logger_provider(_Provider(shutdown_on_exit=False))
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


def _is_about_exporting(scope: Any) -> bool:
    """Tell whether a record comes about by exporting: one such record would bring about the next.

    The scope of a record that comes from Python's logging is the name of its logger.
    """
    name = getattr(scope, "name", None)
    return threading.current_thread().name == _EXPORTING or (
        type(name) is str and (name in IGNORED or name.startswith(_BELOW))
    )


# What was installed is left to the parent; the child may install its own.
after_fork_in_child(uninstall)
