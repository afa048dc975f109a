"""Exceptions as Python writes them, where one exception is written many times.

An exception that passes nested spans is written at each of them, with a frame or two more each time. Writing
a frame is what takes the time. So the texts of frames are kept: by their code, which lives on anyway, and
never by the exception or by what its frames hold.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, TracebackType

_HEAD: Final = "Traceback (most recent call last):\n"

#: From so many equal frames in a row on, Python says how many more there are.
_REPEATED: Final = 3

#: How many texts of frames are kept, and how long the longest of these may be, in characters.
_MAX_KEPT: Final = 1024
_MAX_LENGTH: Final = 2048

#: By the file, because code of two files may be equal, and by where in the code.
_kept: Final[dict[tuple[str, CodeType, int], str]] = {}


def one_exception(
    kind: type[BaseException], error: BaseException, stack: TracebackType | None, most: int
) -> str:
    """Return an exception that is no group as Python writes it, without those it came from.

    Of its frames it has the innermost, at most so many.
    """
    said = traceback.TracebackException(kind, error, stack, limit=0, compact=True).format_exception_only()
    frames = "".join(_frames(stack, most))
    return f"{_HEAD}{frames}{''.join(said)}" if stack is not None else "".join(said)


def _frames(stack: TracebackType | None, most: int) -> Iterator[str]:
    """Return the texts of the innermost frames; of equal ones in a row, how many there are."""
    before, count = None, 0
    for frame in _innermost(stack, most):
        code = frame.tb_frame.f_code
        where = (code.co_filename, frame.tb_lineno, code.co_name)
        if where != before:
            yield from _repeated(count)
            before, count = where, 0
        count += 1
        if count <= _REPEATED:
            yield _text(frame, code)
    yield from _repeated(count)


def _innermost(stack: TracebackType | None, most: int) -> list[TracebackType]:
    found: list[TracebackType] = []
    while stack is not None:
        found.append(stack)
        stack = stack.tb_next
    return found[-most:]


def _repeated(count: int) -> Iterator[str]:
    more = count - _REPEATED
    if more > 0:
        yield f"  [Previous line repeated {more} more time{'s' if more > 1 else ''}]\n"


def _text(frame: TracebackType, code: CodeType) -> str:
    key = (code.co_filename, code, frame.tb_lasti)
    found = _kept.get(key)
    if found is None:
        found = "".join(traceback.format_tb(frame, limit=1))
        if len(_kept) >= _MAX_KEPT:
            _kept.clear()
        if len(found) <= _MAX_LENGTH:
            _kept[key] = found
    return found
