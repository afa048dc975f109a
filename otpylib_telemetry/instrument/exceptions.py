"""What ``exc_info`` says of an exception, whatever was given as it."""

from __future__ import annotations

import sys
import traceback
from types import TracebackType
from typing import Any, Final

from otpylib_telemetry.primitives.errors import error_text

#: Of deeper stacks the innermost frames are kept.
_MAX_FRAMES: Final = 64

#: Longest stack trace, in characters: an event waits in queues, and its end says what went wrong.
_MAX_STACK: Final = 16_384


def failure(exc_info: Any, exc_text: Any) -> dict[str, str]:
    """Return ``exception.type``, ``exception.message`` and ``exception.stacktrace``, as far as they are told.

    It is written down at once: as an object it would keep every frame of its stack alive.
    """
    kind, error, stack, written = _raised(exc_info)
    found: dict[str, str] = {}
    if kind is not None:
        module = getattr(kind, "__module__", "builtins")
        found["exception.type"] = (
            kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
        )
    if error is not None:
        found["exception.message"] = error_text(error)
        written = _formatted(kind, error, stack)
    elif stack is not None:
        written = "".join(traceback.format_tb(stack, limit=-_MAX_FRAMES))
    # A record that was pickled, to come from another process, has lost the exception and kept its text.
    if (error is None or stack is None) and isinstance(exc_text, str) and exc_text:
        written = exc_text
    if written:
        found["exception.stacktrace"] = cut(written)
    return found


def _raised(
    given: Any,
) -> tuple[type[BaseException] | None, BaseException | None, TracebackType | None, str]:
    """Return type, exception and traceback of whatever ``exc_info`` is, or its text where it is one."""
    # The type is asked, not the value: a value may lie about its class, or raise when asked.
    given_type = type(given)
    if issubclass(given_type, str):
        return None, None, None, str.__str__(given)
    if issubclass(given_type, int) and given:
        given, given_type = sys.exc_info(), tuple
    kind, error, stack = None, None, None
    for part in given if issubclass(given_type, tuple | list) else (given,):
        # By what they are, and not by where they stand: some are left out, or swapped.
        if issubclass(type(part), BaseException):
            error = part
        elif issubclass(type(part), TracebackType):
            stack = part
        elif issubclass(type(part), type) and issubclass(part, BaseException):
            kind = part
    if error is not None:
        return type(error) if kind is None else kind, error, stack or _traceback_of(error), ""
    return kind, error, stack, ""


def _traceback_of(error: BaseException) -> TracebackType | None:
    # Its class may do anything where an attribute is asked for.
    found: TracebackType | None = BaseException.__getattribute__(error, "__traceback__")
    return found


def _formatted(kind: type[BaseException] | None, error: BaseException, stack: TracebackType | None) -> str:
    try:
        return "".join(traceback.format_exception(kind, error, stack, limit=-_MAX_FRAMES))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - an exception of the application's own making may do anything
        return "".join(traceback.format_tb(stack, limit=-_MAX_FRAMES))


def cut(text: str) -> str:
    """Return a stack trace no longer than is kept of it: its end."""
    return text if len(text) <= _MAX_STACK else "…" + text[1 - _MAX_STACK :]
