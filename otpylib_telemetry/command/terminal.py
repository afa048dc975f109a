"""A terminal that shows one picture after the other, and gives single keys."""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import TYPE_CHECKING, Any, Final, Self, TextIO

if TYPE_CHECKING:
    from collections.abc import Sequence

# ECMA-48, and xterm's second screen: what was there before comes back at the end.
_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_END_OF_LINE: Final = "\x1b[K"
_REST: Final = "\x1b[J"

_QUITS: Final = frozenset("qQ\x03\x04")


class Terminal:
    """Shows pictures in place where ``is_live``, one below the other elsewhere."""

    def __init__(self, output: TextIO, keys: TextIO, *, is_live: bool) -> None:
        self._output = output
        self._keys = keys
        self._is_live = is_live
        self._gives_keys = False
        self._modes: Any = None

    def __enter__(self) -> Self:
        if self._is_live:
            self._output.write(_ENTER)
            self._output.flush()
            self._take_keys()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._is_live:
            if self._modes is not None:
                import termios  # noqa: PLC0415  # it was there when the terminal was entered

                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._modes)
            self._output.write(_LEAVE)
            self._output.flush()

    def _take_keys(self) -> None:
        """Have single keys come at once, where the system can."""
        with contextlib.suppress(ImportError, OSError, ValueError):
            import termios  # noqa: PLC0415  # not on every system
            import tty  # noqa: PLC0415  # the same

            if self._keys.isatty():
                self._modes = termios.tcgetattr(self._keys)
                tty.setcbreak(self._keys)
                self._gives_keys = True

    def waits_for_key(self, seconds: float) -> bool:
        """Wait, and tell whether a key was pressed that ends it."""
        if not self._gives_keys:
            time.sleep(seconds)
            return False
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select([self._keys], [], [], left)
            if ready:
                # Not through the stream: what it holds back nobody could wait for.
                pressed = os.read(self._keys.fileno(), 64).decode("utf-8", "replace")
                # A key such as an arrow is more than the escape that it begins with.
                if not pressed or pressed[0] in _QUITS or pressed == "\x1b":
                    return True
        return False

    def show(self, lines: Sequence[str]) -> None:
        """Show a picture."""
        if self._is_live:
            self._output.write(_HOME + "".join(f"{line}{_END_OF_LINE}\r\n" for line in lines[:-1]))
            self._output.write("".join(lines[-1:]) + _END_OF_LINE + _REST)
        else:
            self._output.writelines(f"{line}\n" for line in lines)
        self._output.flush()
