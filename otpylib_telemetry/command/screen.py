"""What a command writes: lines for a person, in colour on a terminal, or JSON for a program."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: The exit statuses.
GOOD: Final = 0
BAD: Final = 1
WRONG_USE: Final = 2

Colour: TypeAlias = Literal["red", "yellow", "green", "bold"]

#: A text of a table, in a colour or in none.
Cell: TypeAlias = "str | tuple[str, Colour]"

#: Select Graphic Rendition, ECMA-48.
_CODES: Final[Mapping[Colour, str]] = {"red": "31", "yellow": "33", "green": "32", "bold": "1"}


class UsageError(Exception):
    """A command was used wrongly; the message says how, and is written for whoever typed it."""


class Screen:
    """Where a command writes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._in_colour = _is_coloured(stream)

    @property
    def stream(self) -> TextIO:
        """What is written to."""
        return self._stream

    def line(self, text: str = "") -> None:
        """Write one line. What cannot be shown there is escaped: a file may have anything in it."""
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(f"{text}\n".encode(encoding, "backslashreplace").decode(encoding))

    def json(self, value: Any) -> None:
        """Write a value as JSON."""
        self.line(json.dumps(value, indent=2, ensure_ascii=True, default=str))

    def json_line(self, value: Any) -> None:
        """Write a value as JSON on one line, at once: for what goes on."""
        self.line(json.dumps(value, ensure_ascii=True, default=str))
        self._stream.flush()

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """Write rows below their heads, each column as wide as it has to be."""
        for line in self.rows(heads, rows):
            self.line(line)

    def rows(
        self, heads: Sequence[str], rows: Sequence[Sequence[Cell]], width: int | None = None
    ) -> list[str]:
        """Return rows below their heads as lines, of that many characters at most."""
        head: list[Cell] = [(each, "bold") for each in heads]
        cells = [head, *([_on_one_line(cell) for cell in row] for row in rows)]
        widths = [max(len(_text(row[at])) for row in cells) for at in range(len(heads))]
        return [self._row(row, widths, width) for row in cells]

    def _row(self, cells: Sequence[Cell], widths: Sequence[int], width: int | None) -> str:
        parts, begin = [], 0
        for cell, wide in zip(cells, widths, strict=True):
            text = _text(cell) if width is None else _text(cell)[: max(0, width - begin)]
            shown = text if isinstance(cell, str) or not text else self.coloured(text, cell[1])
            parts.append(shown + " " * (wide - len(text)))
            begin += wide + 2
        return "  ".join(parts).rstrip()

    def coloured(self, text: str, colour: Colour) -> str:
        """Return a text in a colour, if the screen has any."""
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self._in_colour else text


def _is_coloured(stream: TextIO) -> bool:
    # https://no-color.org: present and not empty, whatever its value.
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def one_line(text: str) -> str:
    """Return a text on one line, without control characters: a terminal obeys those that a value has."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _on_one_line(cell: Cell) -> Cell:
    return one_line(cell) if isinstance(cell, str) else (one_line(cell[0]), cell[1])
