"""What an exception, or whatever was given as ``exc_info``, says: written down at once, and bounded.

As an object it would keep every frame of its stack alive.
"""

from __future__ import annotations

import sys
import traceback
from itertools import islice
from types import TracebackType
from typing import Any, Final

from otpylib_telemetry.primitives.any_value import MAX_TEXT_LENGTH, text
from otpylib_telemetry.primitives.errors import error_text

#: Of deeper stacks the innermost frames are kept; so many are some ten thousand characters.
MAX_FRAMES: Final = 64

#: How many exceptions are told of: what caused one another, and the members of groups.
_MAX_EXCEPTIONS: Final = 8

#: How many notes an exception may have to be written as Python writes it.
_MAX_NOTES: Final = 64

# Asked of Python's own types, because a class or its metaclass may do anything where it is asked itself.
_of_exceptions: Final[Any] = BaseException.__dict__
_traceback: Final = _of_exceptions["__traceback__"].__get__
_cause: Final = _of_exceptions["__cause__"].__get__
_context: Final = _of_exceptions["__context__"].__get__
_is_suppressed: Final = _of_exceptions["__suppress_context__"].__get__
_members: Final[Any] = BaseExceptionGroup.exceptions
_name: Final[Any] = type.__dict__["__name__"]
_qualified_name: Final[Any] = type.__dict__["__qualname__"]
_module: Final[Any] = type.__dict__["__module__"]

_CAUSED: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
_DURING: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"


def short_name(kind: type) -> str:
    """Return the name of a class, without its module."""
    return text(_name.__get__(kind))


def class_name(kind: type) -> str:
    """Return the name of a class as the semantic conventions want it: with its module, unless built in."""
    name = text(_qualified_name.__get__(kind))
    try:
        module = _module.__get__(kind)
    except Exception:  # noqa: BLE001 - a class that has lost it
        return name
    return name if module == "builtins" or type(module) is not str else text(f"{module}.{name}")


def failure(exc_info: Any, exc_text: Any = None, *, with_stack: bool = True) -> dict[str, str]:
    """Return ``exception.type``, ``exception.message`` and ``exception.stacktrace``, as far as known.

    They are of whatever a program gave as ``exc_info``; ``exc_text`` is what a record has of one it has lost.
    """
    kind, error, stack, written = _raised(exc_info)
    found: dict[str, str] = {}
    if kind is not None:
        found["exception.type"] = class_name(kind)
    if error is not None:
        found["exception.message"] = error_text(error)
    if not with_stack:
        return found
    if error is not None:
        written = stack_trace(error, kind, stack)
    elif stack is not None:
        written = "".join(traceback.format_tb(stack, limit=-MAX_FRAMES))
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
        return type(error) if kind is None else kind, error, stack or traceback_of(error), ""
    return kind, error, stack, ""


def traceback_of(error: BaseException) -> TracebackType | None:
    """Return the traceback of an exception, whatever its class does where it is asked."""
    found: TracebackType | None = _traceback(error)
    return found


def stack_trace(
    error: BaseException, kind: type[BaseException] | None = None, stack: TracebackType | None = None
) -> str:
    """Return an exception as Python writes it, with its causes; no longer than is kept of it.

    One with causes, members of groups or notes without end is written with the first of them.
    """
    stack = stack or traceback_of(error)
    try:
        if _is_small(error):
            written = "".join(
                traceback.format_exception(kind or type(error), error, stack, limit=-MAX_FRAMES)
            )
            if len(written) <= MAX_TEXT_LENGTH:
                return written
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001, S110 - an exception of the application's own making may do anything
        pass
    try:
        return cut("".join(_bounded(error, stack)))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - no stack left to write a stack with, say
        return ""


def _is_small(error: BaseException) -> bool:
    """Tell whether there is an end to what belongs to an exception."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        notes = one.__dict__.get("__notes__", ())
        members = _members_of(one)
        if len(seen) + len(members) > _MAX_EXCEPTIONS or len(notes) > _MAX_NOTES:
            return False
        waiting += members
        waiting += [linked for linked in (_cause(one), _context(one)) if linked is not None]
    return True


def _members_of(error: BaseException) -> tuple[BaseException, ...]:
    found: tuple[BaseException, ...] = ()
    if issubclass(type(error), BaseExceptionGroup):
        found = _members.__get__(error)
    return found


def _bounded(error: BaseException, stack: TracebackType | None) -> list[str]:
    """Write an exception and the first of what belongs to it; of their own code, only their texts run."""
    parts: list[str] = []
    seen: set[int] = set()
    found: BaseException | None = error
    link = ""
    while found is not None and id(found) not in seen:
        if len(seen) == _MAX_EXCEPTIONS:
            parts.append(f"(More that came before is left out.)\n{link}")
            break
        seen.add(id(found))
        parts.append(_one(found, stack if found is error else traceback_of(found)) + link)
        cause = _cause(found)
        link = _DURING if cause is None else _CAUSED
        if cause is None and not _is_suppressed(found):
            cause = _context(found)
        found = cause
    parts.reverse()
    return parts


def _one(error: BaseException, stack: TracebackType | None) -> str:
    frames = traceback.format_tb(stack, limit=-MAX_FRAMES) if stack is not None else []
    head = "Traceback (most recent call last):\n" if frames else ""
    members = _members_of(error)
    told = [f"  | {_said(member)}\n" for member in islice(members, _MAX_EXCEPTIONS)]
    if len(members) > len(told):
        told.append(f"  | and {len(members) - len(told)} more\n")
    return f"{head}{''.join(frames)}{_said(error)}\n{''.join(told)}"


def _said(error: BaseException) -> str:
    name, said = class_name(type(error)), error_text(error)
    return f"{name}: {said}" if said else name


def cut(written: str) -> str:
    """Return a stack trace no longer than is kept of it: its end."""
    return written if len(written) <= MAX_TEXT_LENGTH else "…" + written[1 - MAX_TEXT_LENGTH :]
