"""Records of loguru as telemetry events, as those of Python's logging are.

otpylib needs loguru, so it is there where this package is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from loguru import logger

from otpylib_telemetry.bus.dispatch import is_listened_to
from otpylib_telemetry.instrument import log_events, passed_on
from otpylib_telemetry.instrument.log_events import LOG_EVENT, NOTHING, UNREADABLE, read, severity_number
from otpylib_telemetry.instrument.logging import is_taken
from otpylib_telemetry.primitives.any_value import text
from otpylib_telemetry.primitives.exceptions import failure
from otpylib_telemetry.tracing.places import current_span
from otpylib_telemetry.tracing.propagation import SpanContext

if TYPE_CHECKING:
    from collections.abc import Iterable

Record: TypeAlias = "Mapping[str, Any]"

#: Under this key a record has the span in which it was logged, on its way to loguru's thread.
_PLACE: Final = "otpylib_telemetry"


class LoguruBridge:
    """Emits an event ``log.record`` for every record of loguru, unless nobody listens to it.

    The metadata are those of :class:`~otpylib_telemetry.instrument.logging.LogBridge`: ``severity`` is the
    name of loguru's level, ``logger`` the module that logs, and what was bound, contextualized or given along
    is in it as ``extra`` of logging is.

    :func:`install` has loguru ask :meth:`passes` for each record, in the context of the caller. It emits the
    event there and then, so that loguru neither formats the record nor takes a lock for it. As a sink by
    itself, in ``logger.add(LoguruBridge())``, it emits when loguru hands over the message.

    Args:
        ignored: Modules whose records are not taken, and all below them; those of telemetry are not in any
            case.
        filter: Tells of a record, as loguru's own filters do, whether it is taken.
        enqueue: Whether loguru hands over the messages on a thread of its own; the event is emitted there.
    """

    def __init__(
        self,
        ignored: Iterable[str] = (),
        *,
        filter: Callable[[Any], Any] | None = None,  # noqa: A002 - loguru's own name
        enqueue: bool = False,
    ) -> None:
        self._ignored = log_events.Ignored(ignored)
        if filter is not None and not callable(filter):
            raise TypeError(f"filter: expected a function of a record, got {type(filter).__name__}")
        self._filter = (
            None if filter is None else log_events.Filter("The filter of the loguru bridge", filter)
        )
        #: The process in which loguru's thread emits the events; None without such a thread.
        self._emitting = os.getpid() if enqueue else None
        #: Below this level of loguru it is asked for nothing.
        self.least = 0

    def passes(self, record: Any) -> bool:
        """Emit the event of a record, or have loguru hand it over to :meth:`write`, which does it later.

        Raises nothing: loguru would print it.
        """
        # Where nobody listens, that is all; but nobody knows who listens in the process that emits.
        if self._emitting in {None, os.getpid()} and not is_listened_to(LOG_EVENT):
            return False
        if self._is_told(record) or not self._is_let_through(record):
            return False
        if self._emitting is not None:
            if (span := current_span()) is not None:
                # A process that the record is sent to may not know the type of the id.
                record[_PLACE] = tuple(span._replace(correlation_id=text(span.correlation_id)))
            return True
        log_events.emit(_metadata, record)
        return False

    def write(self, message: Any) -> None:
        """Emit the event of a message that loguru hands over."""
        record = getattr(message, "record", None)
        if not isinstance(record, Mapping) or not is_listened_to(LOG_EVENT):
            return
        if self._emitting is not None or (not self._is_told(record) and self._is_let_through(record)):
            log_events.emit(_metadata, record)

    def stop(self) -> None:
        """Be taken out of loguru."""
        if self.takes in passed_on.loguru_takes:
            passed_on.loguru_takes.remove(self.takes)

    def takes(self, record: Record) -> bool:
        """Tell whether it is asked for a record of this level and module, and does not leave it out."""
        return bool(record["level"].no >= self.least) and not self._is_ours(record)

    def _is_ours(self, record: Record) -> bool:
        """Whether a record was logged by a handler of events, by a thread that exports, or by us."""
        return log_events.is_caused_by_us(read(_thread, record, None)) or self._ignored.has(
            record.get("name")
        )

    def _is_told(self, record: Record) -> bool:
        """Whether the record is none to tell of, or the bridge of logging tells of it."""
        if self._is_ours(record):
            return True
        around = passed_on.record_around()
        return around is not None and read(self._is_told_by_logging, (around, record), otherwise=False)

    def _is_told_by_logging(self, both: tuple[Any, Record]) -> bool:
        around, record = both
        if self._ignored.has(around.name):
            return True
        return passed_on.says_the_same(around, record["message"]) and is_taken(around)

    def _is_let_through(self, record: Record) -> bool:
        return self._filter is None or bool(self._filter(record))


class _Installed:
    """The bridge that is installed, and its number with loguru."""

    bridge: LoguruBridge | None = None
    number = 0


def install(
    *,
    level: int | str = 0,
    ignored: Iterable[str] = (),
    filter: Callable[[Any], Any] | None = None,  # noqa: A002 - loguru's own name
    enqueue: bool = False,
    context: Any = None,
) -> LoguruBridge:
    """Turn the records of loguru into events.

    ``logger.remove()`` takes out this bridge as well: install it when loguru's own sinks are set up.

    Args:
        level: Records below it are not taken; a number, or the name of one of loguru's levels.
        ignored: Modules whose records are not taken, and all below them.
        filter: Tells of a record, as loguru's own filters do, whether it is taken.
        enqueue: Have the events emitted on a thread of loguru's, in the process that called this. Records of
            processes that have this logger from it arrive there, too. They keep the ids of the span in which
            they were logged.
        context: How these other processes are started (``multiprocessing``), as ``logger.add`` wants it.

    Returns:
        The sink that does it. There is at most one: a former one is removed.

    Raises:
        TypeError: The level, the filter or the ignored modules are of a wrong type.
        ValueError: There is no such level.
    """
    if not isinstance(level, (str, int)):
        raise TypeError(f"level: expected a number or the name of a level, got {type(level).__name__}")
    bridge = LoguruBridge(ignored, filter=filter, enqueue=enqueue)
    # Asked before the former one is gone.
    bridge.least = logger.level(level).no if isinstance(level, str) else level
    uninstall()
    number = logger.add(
        bridge,
        level=bridge.least,
        format=_nothing,
        filter=bridge.passes,
        colorize=False,
        backtrace=False,
        diagnose=False,
        enqueue=enqueue,
        context=context,
    )
    _Installed.bridge, _Installed.number = bridge, number
    passed_on.loguru_takes.append(bridge.takes)
    return bridge


def uninstall() -> bool:
    """Undo :func:`install`.

    Returns:
        Whether there was anything to undo.
    """
    bridge, _Installed.bridge = _Installed.bridge, None
    if bridge is None:
        return False
    try:
        logger.remove(_Installed.number)
    except ValueError:
        # The application has removed all there were.
        return False
    finally:
        bridge.stop()
    return True


def _nothing(_record: Any) -> str:
    """Be the format: what is sent is not what loguru writes."""
    return ""


def _metadata(record: Record) -> dict[str, Any]:
    """Return the metadata of a record's event."""
    message = read(_message, record, UNREADABLE)
    severity, level = read(_severity, record, (0, ""))
    return log_events.metadata_of(
        log_events.Logged(
            message,
            text(message, None),
            severity,
            level,
            read(_time_ns, record, 0),
            read(_name, record, ""),
            read(_extra, record, NOTHING),
            {**read(_place, record, NOTHING), **read(_failure, record, NOTHING)},
            read(_span, record, None),
        )
    )


def _message(record: Record) -> str:
    return str.__str__(record["message"])


def _severity(record: Record) -> tuple[int, str]:
    level = record["level"]
    return severity_number(int(level.no)), str.__str__(level.name)


def _time_ns(record: Record) -> int:
    return log_events.nanoseconds(record["time"].timestamp())


def _name(record: Record) -> str:
    return str.__str__(record["name"])


def _thread(record: Record) -> Any:
    return record["thread"].name


def _extra(record: Record) -> Mapping[Any, Any]:
    extra: Mapping[Any, Any] = record["extra"]
    return dict(extra)


def _place(record: Record) -> dict[str, Any]:
    return {
        "code.file.path": record["file"].path,
        "code.line.number": record["line"],
        "code.function.name": record["function"],
    }


def _failure(record: Record) -> dict[str, str]:
    return failure(record["exception"])


def _span(record: Record) -> SpanContext | None:
    place = record.get(_PLACE)
    return None if place is None else SpanContext(*place)
