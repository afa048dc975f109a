"""``otpylib-telemetry rollback N``: go back to the state of everything after a change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otpylib_telemetry.command import where
from otpylib_telemetry.command.client import CHANGING
from otpylib_telemetry.command.screen import UsageError
from otpylib_telemetry.command.set import show, status_of

if TYPE_CHECKING:
    import argparse

    from otpylib_telemetry.command.screen import Screen

NAME: Final = "rollback"
HELP: Final = "go back to the state of everything after a change"
DESCRIPTION: Final = (
    "Go back to the state that everything was in after the change of this number, which history tells. "
    "That is a change of its own, and can be taken back as well. Nothing goes back further than to what it "
    "started with."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    where.add_arguments(parser)
    parser.add_argument("generation", metavar="N", type=int, help="the number of a change")


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Go back; return the exit status."""
    if arguments.generation < 1:
        raise UsageError("rollback: expected the number of a change, as history tells it")
    client = where.client_of(arguments)
    path = "/rollback/{generation}"
    found = client.ask("POST", path, seconds=CHANGING, generation=arguments.generation)
    if arguments.json:
        screen.json(found)
    else:
        show(screen, found)
    return status_of(found)
