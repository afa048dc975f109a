"""Ports that nobody else takes between choosing and using them."""

from __future__ import annotations

import itertools
import os
import re
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# Below the range that Linux gives to outgoing connections (32768 and up): one of those would otherwise sit on
# the chosen port sooner or later, above all while a server under test is stopped and is to come back.
_FIRST: Final = 20_000
_LAST: Final = 32_000

#: Test processes that run side by side choose from different ranges.
_SHARES: Final = 12


def _share() -> Iterator[int]:
    number = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0)
    size = (_LAST - _FIRST) // _SHARES
    start = _FIRST + (number % _SHARES) * size
    offset = os.getpid() * 37 % size
    return itertools.cycle([*range(start + offset, start + size), *range(start, start + offset)])


_candidates = _share()


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a port on which nothing listens; no two calls give the same one for a long while."""
    every_interface = "0.0.0.0"  # noqa: S104  # bound to find out whether it is free, and closed at once
    return next(
        port for port in itertools.islice(_candidates, _LAST - _FIRST) if is_free(port, every_interface)
    )
