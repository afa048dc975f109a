"""``otpylib-telemetry history``: what was changed, by whom, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.command import where
from otpylib_telemetry.command.client import FailedError
from otpylib_telemetry.command.screen import GOOD, UsageError
from otpylib_telemetry.command.words import moment, until, value

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from otpylib_telemetry.command.client import Client
    from otpylib_telemetry.command.screen import Cell, Colour, Screen

NAME: Final = "history"
HELP: Final = "show what was changed, by whom, and what became of it"
DESCRIPTION: Final = (
    "Show the changes of the configuration that the application keeps, the last one at the end. The numbers "
    "are what rollback takes."
)

_OUTCOMES: Final[dict[str, Colour]] = {"applied": "green", "pending": "yellow", "rejected": "red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    where.add_arguments(parser)
    parser.add_argument("section", metavar="SECTION", nargs="?", help="one section alone, such as otel")
    parser.add_argument("--last", metavar="NUMBER", type=int, help="the last changes, at most")


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Ask and show; return the exit status."""
    if arguments.last is not None and arguments.last < 1:
        raise UsageError("--last: expected 1 or more")
    query = {"section": arguments.section, "limit": arguments.last}
    client = where.client_of(arguments)
    found = client.ask("GET", "/history", query=query)
    if arguments.section is not None and not found["entries"]:
        _must_be_in_use(client, arguments.section.removeprefix("telemetry."))
    if arguments.json:
        screen.json(found)
    elif not found["entries"]:
        screen.line("nothing was changed since the application started")
    else:
        rows = [row for each in found["entries"] for row in _rows(each)]
        screen.table(("N", "TIME", "ORIGIN", "OUTCOME", "CHANGE"), rows)
    return GOOD


def _must_be_in_use(client: Client, section: str) -> None:
    sections = client.ask("GET", "/config")["sections"]
    if section not in sections:
        expected = ", ".join(sorted(sections))
        raise FailedError(f"no section {section!r} is in use in this process; expected: {expected}")


def _rows(entry: Mapping[str, Any]) -> list[list[Cell]]:
    section = entry["section"].removeprefix("telemetry.")
    outcome = entry["outcome"]
    told: Cell = (outcome, _OUTCOMES[outcome]) if outcome in _OUTCOMES else outcome
    by = entry["by"]
    origin = f"{entry['origin']} by {by}" if by and f"by {by}" not in entry["origin"] else entry["origin"]
    first: list[Cell] = [str(entry["generation"]), moment(entry["time"]), origin, told]
    texts = [
        f"{section}.{key}: {value(each['old'])} -> {value(each['new'])}"
        for key, each in entry["changes"].items()
    ]
    if entry["reverted"]:
        texts.append("taken back since")
    elif entry["reverts_at"] is not None:
        texts.append(f"takes itself back {until(entry['reverts_at'])}")
    return [[*(first if at == 0 else ["", "", "", ""]), text] for at, text in enumerate(texts or [section])]
