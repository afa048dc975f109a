"""What is called, in which words, and what the exit status means."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from typing import TYPE_CHECKING, Final

from otpylib_telemetry.command import (
    bundle,
    check,
    completion,
    config,
    flush,
    history,
    reload,
    reset,
    rollback,
    schema,
    status,
    tap,
    top,
    trace,
    where,
)
from otpylib_telemetry.command import set as change
from otpylib_telemetry.command.client import FailedError
from otpylib_telemetry.command.screen import BAD, WRONG_USE, Screen, UsageError
from otpylib_telemetry.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROGRAM: Final = "otpylib-telemetry"

#: Each has ``NAME``, ``HELP``, ``DESCRIPTION``, ``add_arguments(parser)``, and ``run(arguments, screen)``,
#: which returns the exit status.
COMMANDS: Final = (
    *(status, top, tap, trace),
    *(config, change, history, rollback, reload),
    *(flush, reset, bundle),
    *(check, schema, completion),
)

_DESCRIPTION: Final = "Look after the telemetry of an otpylib application from outside of it."
_STATUS: Final = (
    "The exit status is 0 if all is good, 1 if something is bad, 2 if the command was used wrongly."
)

#: What a shell takes for "ended by the interrupt key".
_INTERRUPTED: Final = 130


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    found = argparse.ArgumentParser(prog=PROGRAM, description=_DESCRIPTION, epilog=_STATUS)
    found.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    where.add_arguments(found)
    found.add_argument("--json", action="store_true", help="write JSON")
    commands = found.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        below = commands.add_parser(
            command.NAME, help=command.HELP, description=command.DESCRIPTION, epilog=_STATUS
        )
        below.set_defaults(run=command.run, parser=found)
        command.add_arguments(below)
        # Before the command and after it: what is not given there leaves what was given here.
        below.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="write JSON")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Args:
        argv: The command line without the name of the program; by default that of the process.

    Returns:
        0 if all is good, 1 if something is bad, 2 if the command was used wrongly.
    """
    try:
        arguments = parser().parse_args(argv)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else WRONG_USE
    screen = Screen(sys.stdout)
    try:
        with _quiet():
            done: int = arguments.run(arguments, screen)
        sys.stdout.flush()
    except UsageError as error:
        sys.stderr.write(f"{PROGRAM} {arguments.command}: {error}\n")
        return WRONG_USE
    except FailedError as error:
        if arguments.json:
            screen.json({"error": str(error), "problem": error.problem})
        sys.stderr.write(f"{PROGRAM} {arguments.command}: {error}\n")
        return BAD
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read it has seen enough. Python would complain once more when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BAD
    return done


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Have the library log nowhere: where it matters, what it says is part of a command's answer."""
    log, silent = logging.getLogger("otpylib_telemetry"), logging.NullHandler()
    propagated, log.propagate = log.propagate, False
    log.addHandler(silent)
    try:
        yield
    finally:
        log.removeHandler(silent)
        log.propagate = propagated
