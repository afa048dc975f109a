"""``otpylib-telemetry reload``: have the configuration files read again now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otpylib_telemetry.command import where
from otpylib_telemetry.command.client import CHANGING
from otpylib_telemetry.command.screen import BAD, GOOD, one_line

if TYPE_CHECKING:
    import argparse

    from otpylib_telemetry.command.screen import Screen

NAME: Final = "reload"
HELP: Final = "have the configuration files read again now"
DESCRIPTION: Final = "Have the application read its configuration files again now, and say what changed."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    where.add_arguments(parser)


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Reload; return the exit status."""
    found = where.client_of(arguments).ask("POST", "/reload", seconds=CHANGING)
    if arguments.json:
        screen.json(found)
        return BAD if found["errors"] else GOOD
    for name, error in found["errors"].items():
        # What is said of a file or of a key begins with its name.
        before = "" if error.startswith(name) else f"{one_line(name)}: "
        screen.line(f"{before}{screen.coloured('failed', 'red')}: {one_line(error)}")
    if changed := ", ".join(found["changed"]):
        screen.line(f"changed: {one_line(changed)}")
    elif not found["errors"]:
        screen.line("nothing has changed")
    return BAD if found["errors"] else GOOD
