"""``otpylib-telemetry reset EXPORTER``: close a circuit breaker, so that what waits is sent now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otpylib_telemetry.command import where
from otpylib_telemetry.command.screen import GOOD

if TYPE_CHECKING:
    import argparse

    from otpylib_telemetry.command.screen import Screen

NAME: Final = "reset"
HELP: Final = "close the circuit breaker of an exporter: what waits is sent now"
DESCRIPTION: Final = (
    "Close the circuit breaker of an exporter. What waits is sent now, and not after reset_timeout; if the "
    "backend still does not answer, the breaker opens again."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    where.add_arguments(parser)
    parser.add_argument("exporter", metavar="EXPORTER", help="its registered name or its section: otel")


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Close it; return the exit status."""
    client = where.client_of(arguments)
    found = client.ask("POST", "/breaker/{exporter}/reset", exporter=arguments.exporter)
    if arguments.json:
        screen.json(found)
    else:
        screen.line(f"{found['exporter']}: the circuit breaker was {found['was']}, and is {found['state']}")
    return GOOD
