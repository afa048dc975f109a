"""``otpylib-telemetry flush``: have everything exported that was accepted so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otpylib_telemetry.command import where
from otpylib_telemetry.command.client import PATIENCE
from otpylib_telemetry.command.screen import BAD, GOOD, one_line
from otpylib_telemetry.command.words import counted, seconds_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from typing import Any

    from otpylib_telemetry.command.screen import Screen

NAME: Final = "flush"
HELP: Final = "export everything that was accepted so far"
DESCRIPTION: Final = (
    "Export everything that the exporters have accepted so far, without waiting for their interval. The exit "
    "status is 1 if something is left."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    where.add_arguments(parser)
    parser.add_argument("exporter", metavar="EXPORTER", nargs="?", help="one alone: its name or its section")
    parser.add_argument(
        "--timeout", metavar="DURATION", default="5s", help="how long it may take (default: 5s)"
    )


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Flush and tell; return the exit status."""
    seconds = seconds_of(arguments.timeout, "--timeout")
    query = {"timeout": seconds, "exporter": arguments.exporter}
    client = where.client_of(arguments)
    found = client.ask("POST", "/flush", query=query, seconds=seconds + PATIENCE)
    if arguments.json:
        screen.json(found)
    else:
        for name, each in found["exporters"].items():
            screen.line(f"{name}: {_told(screen, each)}")
        if not found["exporters"]:
            screen.line("no exporter runs")
    return GOOD if found["complete"] else BAD


def _told(screen: Screen, found: Mapping[str, Any]) -> str:
    if found["error"] is not None:
        return f"{screen.coloured('failed', 'red')}: {one_line(found['error'])}"
    if found["left"]:
        reason = found["details"].get("reason")
        said = f" ({one_line(str(reason))})" if reason else ""
        return screen.coloured(f"{counted(found['left'], 'event')} left{said}", "red")
    return screen.coloured("nothing is left", "green")
