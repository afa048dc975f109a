"""What a command writes: lines for a person, in colour on a terminal, or JSON for a program."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The exit statuses.
GOOD: Final = 0
BAD: Final = 1
WRONG_USE: Final = 2

Colour: TypeAlias = Literal["red", "yellow", "green", "bold"]

#: Select Graphic Rendition, ECMA-48.
_CODES: Final[Mapping[Colour, str]] = {"red": "31", "yellow": "33", "green": "32", "bold": "1"}


class UsageError(Exception):
    """A command was used wrongly; the message says how, and is written for whoever typed it."""


class Screen:
    """Where a command writes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._in_colour = _is_coloured(stream)

    def line(self, text: str = "") -> None:
        """Write one line. What cannot be shown there is escaped: a file may have anything in it."""
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(f"{text}\n".encode(encoding, "backslashreplace").decode(encoding))

    def json(self, value: Any) -> None:
        """Write a value as JSON."""
        self.line(json.dumps(value, indent=2, ensure_ascii=True, default=str))

    def coloured(self, text: str, colour: Colour) -> str:
        """Return a text in a colour, if the screen has any."""
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self._in_colour else text


def _is_coloured(stream: TextIO) -> bool:
    # https://no-color.org: present and not empty, whatever its value.
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
