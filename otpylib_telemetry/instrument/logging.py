"""Records of Python's logging as telemetry events.

A record goes the way of every event: whoever listens sees it, be it an exporter, a test or a handler of the
application's own. Records that come about by exporting are left out, or one would bring about the next.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.bus.dispatch import is_listened_to
from otpylib_telemetry.instrument import log_events, passed_on
from otpylib_telemetry.instrument.last_resort import handlers_of, print_as_before
from otpylib_telemetry.instrument.log_events import LOG_EVENT, NOTHING, UNREADABLE, read, severity_number
from otpylib_telemetry.primitives.any_value import any_value, text
from otpylib_telemetry.primitives.exceptions import cut, failure

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LOG_EVENT", "LogBridge", "install", "severity_number", "uninstall"]

#: What every record has, and what formatting adds to it: everything else was given as ``extra``.
_ORDINARY: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

#: A message of one of these types is sent as it is and not as text, as OpenTelemetry's own bridge has it.
_STRUCTURED: Final = (NoneType, bool, int, float, bytes, Mapping, Sequence)

_UNKNOWN: Final = 0


class LogBridge(logging.Handler):
    """Emits an event ``log.record`` for every record, unless nobody listens to it.

    The metadata are ``message`` (formatted), ``severity`` (the level's name), ``severity_number``
    (OpenTelemetry's), ``logger``, ``time_unix_nano``, ``code.file.path``, ``code.line.number`` and
    ``code.function.name``; the ``trace_id``, ``span_id`` and ``correlation_id`` of the span that is open;
    ``exception.type``, ``exception.message`` and ``exception.stacktrace`` where there is one; and whatever
    was given as ``extra``, as far as its keys are not among these. ``log_record`` is what an exporter sends:
    a :class:`~otpylib_telemetry.instrument.log_record.LogRecord`, which has all of ``extra`` among its
    attributes, whatever the keys are.

    Nothing in a record, however odd, is raised into the application or printed. What the bridge does not take
    is printed where Python would have done so without it: from WARNING on, unless there is another handler.

    Safe to be used by several threads, without a lock: a handler of the event may log as well, and would wait
    for a lock that is held while the event is dispatched.

    Args:
        level: Records below it are not taken.
        ignored: Loggers whose records are not taken, and all below them; those of telemetry and of
            OpenTelemetry are not in any case.
    """

    def __init__(self, level: int | str = logging.NOTSET, ignored: Iterable[str] = ()) -> None:
        super().__init__(level)
        self._ignored = log_events.Ignored(ignored)
        self._let_through = log_events.Filter("A filter of the logging bridge", self.filter)

    def createLock(self) -> None:  # noqa: N802 - logging's own name
        """Do without a lock."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Emit the event of a record, if somebody listens and it is none of ours; tell whether it did."""
        if not is_listened_to(LOG_EVENT) or self._is_ours(record):
            print_as_before(self, record)
            return False
        if passed_on.is_told_by_loguru(record):
            return False
        kept: Any = self._let_through(record)
        if not kept:
            return False
        # From Python 3.12 on, a filter may give another record in place of the one it was asked about.
        self.emit(kept if isinstance(kept, logging.LogRecord) else record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Emit the event of a record."""
        log_events.emit(_metadata, record)

    def takes(self, record: logging.LogRecord) -> bool:
        """Tell whether it is asked for a record of this level and logger, and does not leave it out."""
        return record.levelno >= self.level and not self._is_ours(record)

    def _is_ours(self, record: logging.LogRecord) -> bool:
        """Whether a record was logged by a handler of events, by a thread that exports, or by us."""
        return log_events.is_caused_by_us(getattr(record, "threadName", None)) or self._ignored.has(
            getattr(record, "name", None)
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


def _logger(logger: str | logging.Logger | None) -> logging.Logger:
    return logger if isinstance(logger, logging.Logger) else logging.getLogger(logger)


def is_taken(record: logging.LogRecord) -> bool:
    """Tell whether there is a bridge on the way of a record that takes it."""
    return any(isinstance(handler, LogBridge) and handler.takes(record) for handler in handlers_of(record))


def _metadata(record: logging.LogRecord) -> dict[str, Any]:
    """Return the metadata of a record's event."""
    message = read(_message, record, UNREADABLE)
    severity, level = read(_severity, record, (_UNKNOWN, ""))
    return log_events.metadata_of(
        log_events.Logged(
            message,
            any_value(record.msg) if read(_is_structured, record, otherwise=False) else text(message, None),
            severity,
            level,
            read(_time_ns, record, 0),
            read(_name, record, ""),
            read(_extra, record, NOTHING),
            {**read(_place, record, NOTHING), **read(_failure, record, NOTHING)},
        )
    )


def _extra(record: logging.LogRecord) -> dict[Any, Any]:
    given = record.__dict__
    # Most records have none, which a set tells faster than a loop.
    unknown = given.keys() - _ORDINARY
    return {key: value for key, value in given.items() if key in unknown} if unknown else {}


def _message(record: logging.LogRecord) -> str:
    try:
        return str.__str__(record.getMessage())
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - arguments that do not fit their format, or cannot be written
        # Better the format alone than no word of it.
        kind = type(record.msg)
        return text(record.msg, None) if issubclass(kind, str) else f"<{kind.__name__}>"


def _is_structured(record: logging.LogRecord) -> bool:
    kind = type(record.msg)
    return not record.args and issubclass(kind, _STRUCTURED) and not issubclass(kind, str)


def _severity(record: logging.LogRecord) -> tuple[int, str]:
    level: Any = record.levelno
    words = str.__str__(record.levelname) if issubclass(type(record.levelname), str) else ""
    if not issubclass(type(level), int | float):
        # By the name alone: what has none of the levels' names is text again.
        level = logging.getLevelName(words)
        if type(level) is not int:
            return _UNKNOWN, words
    return severity_number(int(level)), words or logging.getLevelName(int(level))


def _time_ns(record: logging.LogRecord) -> int:
    return log_events.nanoseconds(record.created)


def _name(record: logging.LogRecord) -> str:
    return str.__str__(record.name) if issubclass(type(record.name), str) else ""


def _place(record: logging.LogRecord) -> dict[Any, Any]:
    """Where in the code it was made, and how that was reached if it says so."""
    place = {
        "code.file.path": record.pathname,
        "code.line.number": record.lineno,
        "code.function.name": record.funcName,
        "code.stacktrace": cut(text(record.stack_info, None)) if record.stack_info else None,
    }
    return {key: value for key, value in place.items() if value is not None}


def _failure(record: logging.LogRecord) -> dict[Any, Any]:
    return dict(failure(getattr(record, "exc_info", None), getattr(record, "exc_text", None)))
