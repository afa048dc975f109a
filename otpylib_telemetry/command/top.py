"""``otpylib-telemetry top``: what goes on in an application, live in a terminal."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any, Final, TextIO

from otpylib_telemetry.command import where
from otpylib_telemetry.command.client import FailedError
from otpylib_telemetry.command.frames import lines_of, measured
from otpylib_telemetry.command.screen import GOOD, UsageError
from otpylib_telemetry.command.terminal import Terminal
from otpylib_telemetry.command.words import seconds_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from otpylib_telemetry.command.client import Client
    from otpylib_telemetry.command.screen import Screen

NAME: Final = "top"
HELP: Final = "show what goes on, live: rates, queues, breakers, slow operations, mailboxes, metrics"
DESCRIPTION: Final = (
    "Show, again and again, the rates of every exporter (in: accepted; out: exported; lost: rejected or "
    "dropped) with queue and circuit breaker, the slowest operations, the deepest mailboxes and the largest "
    "metrics. It ends with q or Ctrl-C. Where the output is no terminal, it is one picture, or --count of "
    "them."
)

#: What is asked for, and the key of the picture that it is.
_ASKED: Final[tuple[tuple[str, Mapping[str, int]], ...]] = (
    ("/status", {}),
    ("/actors", {}),
    ("/metrics-by-size", {"limit": 20}),
    ("/traces", {"limit": 100}),
)
#: Statuses of an API that does not have a route.
_UNKNOWN: Final = 404


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    where.add_arguments(parser)
    parser.add_argument(
        "--interval", metavar="DURATION", default="2s", help="time between two pictures (default: 2s)"
    )
    parser.add_argument("--count", metavar="NUMBER", type=int, help="end after so many pictures")


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Show pictures; return the exit status."""
    seconds = seconds_of(arguments.interval, "--interval")
    if arguments.count is not None and arguments.count < 1:
        raise UsageError("--count: expected 1 or more")
    client = where.client_of(arguments)
    is_live = screen.stream.isatty() and not arguments.json
    left = arguments.count or (None if is_live else 1)
    # Ctrl-C is how it ends.
    interrupted = contextlib.suppress(KeyboardInterrupt)
    with interrupted, Terminal(screen.stream, sys.stdin, is_live=is_live) as terminal:
        before = _picture(client)
        while left is None or left > 0:
            if terminal.waits_for_key(seconds):
                break
            after = _picture(client)
            found = measured(before, after)
            if arguments.json:
                screen.json_line(found)
            else:
                size = _size(screen.stream) if is_live else None
                terminal.show(lines_of(screen, found, size))
            before, left = after, None if left is None else left - 1
    return GOOD


def _size(stream: TextIO) -> os.terminal_size:
    """Return the size of the terminal as it is now; variables of a shell tell what it was once."""
    with contextlib.suppress(OSError, ValueError):
        found = os.get_terminal_size(stream.fileno())
        if found.columns and found.lines:
            return found
    return shutil.get_terminal_size()


def _picture(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = {"at": time.monotonic()}
    for path, query in _ASKED:
        try:
            found[path.strip("/")] = client.ask("GET", path, query=query)
        except FailedError as error:
            if path == "/status" or (error.problem or {}).get("status") != _UNKNOWN:
                raise
            found[path.strip("/")] = None
    return found
