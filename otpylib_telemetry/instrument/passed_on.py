"""Records that pass from Python's logging to loguru, or back, so that two bridges hear of one record.

Applications connect the two libraries with a few lines of their own, which leave no mark on what they pass
on. The stack of the caller tells: the one library is called while the other one handles a record that says
the same. The bridge of the library in which it was logged tells of it, because it knows more.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import FrameType

#: How far up the stack one library is looked for from the other: their own frames, and a few between them.
_FAR: Final = 16

#: Where logging hands over a record to a handler; each has it as ``record``.
_HANDLING: Final = frozenset({logging.Logger.callHandlers.__code__, logging.Handler.handle.__code__})

#: Where loguru hands over a message, whatever the kind of sink.
_SINKS: Final = "loguru._simple_sinks"

#: For each bridge of loguru that is installed, what tells whether it takes a record.
loguru_takes: list[Callable[[Mapping[str, Any]], bool]] = []


def record_around() -> logging.LogRecord | None:
    """Return the record of Python's logging for whose sake loguru was called, or None."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - documented, and the only way up the stack
    for _ in range(_FAR):
        if frame is None:
            return None
        if frame.f_code in _HANDLING:
            found = frame.f_locals.get("record")
            return found if isinstance(found, logging.LogRecord) else None
        frame = frame.f_back
    return None


def is_told_by_loguru(record: logging.LogRecord) -> bool:
    """Tell whether a record of logging says what loguru passes on, and whose bridge takes it."""
    if not loguru_takes:
        return False
    try:
        found = _loguru_record()
        return (
            found is not None
            and says_the_same(record, found["message"])
            and any(takes(found) for takes in loguru_takes)
        )
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - whatever is in a record, logging it must not fail
        return False


def says_the_same(record: logging.LogRecord, message: str) -> bool:
    """Tell whether one of two messages is in the other: who passes it on may put something around it."""
    said = record.getMessage()
    return message in said or said in message


def _loguru_record() -> Mapping[str, Any] | None:
    """Return the record that loguru is handing over to a sink, or None."""
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - as above
    for _ in range(_FAR):
        if frame is None:
            return None
        if frame.f_code.co_name == "write" and frame.f_globals.get("__name__") == _SINKS:
            # Its caller is the handler, with the record, or the thread of one, with the message.
            caller = frame.f_back
            around = {} if caller is None else caller.f_locals
            found = around.get("record") or getattr(around.get("message"), "record", None)
            return found if isinstance(found, Mapping) else None
        frame = frame.f_back
    return None
