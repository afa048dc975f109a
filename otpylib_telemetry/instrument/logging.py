"""Records of Python's logging as telemetry events.

A record goes the way of every event: whoever listens sees it, be it an exporter, a test or a handler of the
application's own. Records that come about by exporting are left out, or one would bring about the next.
"""

from __future__ import annotations

import logging
import threading
import traceback
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.bus.dispatch import execute, is_listened_to
from otpylib_telemetry.tracing.span import current_span

if TYPE_CHECKING:
    from collections.abc import Iterable


#: The event that a record becomes.
LOG_EVENT: Final = "log.record"

#: Loggers whose records are never taken, and all below them: ours, and those of exporters.
IGNORED: Final = ("otpylib_telemetry", "opentelemetry.exporter", "opentelemetry.sdk")

#: The name of the threads that export; whatever a library logs there, it logs because of us.
_EXPORTING: Final = "otpylib-telemetry"

#: Of deeper stacks the innermost frames are kept.
_MAX_FRAMES: Final = 64

#: Longest stack trace, in characters: an event waits in queues, and its end says what went wrong.
_MAX_STACK: Final = 16_384

#: What every record has, and what formatting adds to it: everything else was given as ``extra``.
_ORDINARY: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

_TRACE: Final = 1

_local = threading.local()


class LogBridge(logging.Handler):
    """Emits an event ``log.record`` for every record, unless nobody listens to it.

    The metadata are ``message`` (formatted), ``severity`` (the level's name), ``severity_number``
    (OpenTelemetry's), ``logger``, ``time_unix_nano``, ``code.file.path``, ``code.line.number`` and
    ``code.function.name``; the ``trace_id``, ``span_id`` and ``correlation_id`` of the span that is open;
    ``exception.type``, ``exception.message`` and ``exception.stacktrace`` where there is one; and whatever
    was given as ``extra``, as far as its keys are not among these. A ``trace_id`` or ``span_id`` given so
    stands in place of those of the span.

    Safe to be used by several threads, without a lock: a handler of the event may log as well, and would wait
    for a lock that is held while the event is dispatched.

    Args:
        level: Records below it are not taken.
        ignored: Loggers whose records are not taken, and all below them; :data:`IGNORED` are not in any case.
    """

    def __init__(self, level: int | str = logging.NOTSET, ignored: Iterable[str] = ()) -> None:
        super().__init__(level)
        names = (*IGNORED, *ignored)
        self._ignored = frozenset(names)
        self._below = tuple(f"{name}." for name in names)

    def createLock(self) -> None:  # noqa: N802 - logging's own name
        """Do without a lock."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit the event of a record, if somebody listens and it is none of ours; tell whether it did."""
        if not is_listened_to(LOG_EVENT) or self._is_ours(record):
            return False
        kept: Any = self.filter(record)
        if not kept:
            return False
        # From Python 3.12 on, a filter may give another record in place of the one it was asked about.
        self.emit(kept if isinstance(kept, logging.LogRecord) else record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Emit the event of a record."""
        _local.busy = True
        try:
            execute(LOG_EVENT, {}, _metadata(record))
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - whatever is in a record, logging it must not fail
            return
        finally:
            _local.busy = False

    def _is_ours(self, record: logging.LogRecord) -> bool:
        """Whether a record was logged by a handler of events, by a thread that exports, or by us."""
        name = record.name
        return (
            getattr(_local, "busy", False)
            or (record.threadName or threading.current_thread().name) == _EXPORTING
            or name in self._ignored
            or name.startswith(self._below)
        )


def install(
    logger: str | logging.Logger | None = None,
    *,
    level: int | str = logging.NOTSET,
    ignored: Iterable[str] = (),
) -> LogBridge:
    """Turn the records of a logger, and of all below it, into events.

    Args:
        logger: Its name, or itself; the root logger by default.
        level: Records below it are not taken. The logger's own level counts besides: Python's root logger
            takes nothing below WARNING unless it is told to.
        ignored: Further loggers whose records are not taken, and all below them.

    Returns:
        The handler that does it. A logger has at most one: a former one is removed.
    """
    found = _logger(logger)
    bridge = LogBridge(level, ignored)
    uninstall(found)
    found.addHandler(bridge)
    return bridge


def uninstall(logger: str | logging.Logger | None = None) -> bool:
    """Undo :func:`install`.

    Args:
        logger: As it was given there.

    Returns:
        Whether there was anything to undo.
    """
    found = _logger(logger)
    bridges = [handler for handler in found.handlers if isinstance(handler, LogBridge)]
    for bridge in bridges:
        found.removeHandler(bridge)
        bridge.close()
    return bool(bridges)


def severity_number(level: int) -> int:
    """Return OpenTelemetry's severity number of a level of logging.

    The ten levels from DEBUG on, say, are the four severities DEBUG to DEBUG4, as OpenTelemetry's own bridge
    has it; what is below DEBUG is TRACE, CRITICAL is FATAL.

    Args:
        level: The level, such as :data:`logging.INFO`.
    """
    tens, rest = divmod(min(max(level, 0), 59), 10)
    return _TRACE if tens == 0 else _TRACE + 4 * tens + min(rest, 3)


def _logger(logger: str | logging.Logger | None) -> logging.Logger:
    return logger if isinstance(logger, logging.Logger) else logging.getLogger(logger)


def _metadata(record: logging.LogRecord) -> dict[str, Any]:
    given = record.__dict__
    metadata = {key: value for key, value in given.items() if key not in _ORDINARY}
    if metadata.get("trace_id") is None and metadata.get("span_id") is None:
        span = current_span()
        if span is not None:
            metadata["trace_id"] = span.trace_id
            metadata["span_id"] = span.span_id
            metadata.setdefault("correlation_id", span.correlation_id)
    metadata["message"] = _message(record)
    metadata["severity"] = record.levelname
    metadata["severity_number"] = severity_number(record.levelno)
    metadata["logger"] = record.name
    metadata["time_unix_nano"] = int(record.created * 1e9)
    metadata["code.file.path"] = record.pathname
    metadata["code.line.number"] = record.lineno
    metadata["code.function.name"] = record.funcName
    if record.exc_info:
        _add_exception(metadata, record.exc_info)
    if record.stack_info:
        metadata["code.stacktrace"] = _cut(record.stack_info)
    return metadata


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - arguments that do not fit their format, or cannot be written
        # Better the format alone than no word of it.
        return record.msg if isinstance(record.msg, str) else f"<{type(record.msg).__name__}>"


def _add_exception(metadata: dict[str, Any], exc_info: Any) -> None:
    """Write the exception down at once: as an object it would keep every frame of its stack alive."""
    kind, error, stack = exc_info
    if kind is None:
        return
    module = getattr(kind, "__module__", "builtins")
    metadata["exception.type"] = (
        kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
    )
    try:
        metadata["exception.message"] = str(error)
        lines = traceback.format_exception(kind, error, stack, limit=-_MAX_FRAMES)
        metadata["exception.stacktrace"] = _cut("".join(lines))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - an exception of the application's own making may do anything
        metadata.setdefault("exception.message", "")


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_STACK else "…" + text[1 - _MAX_STACK :]
