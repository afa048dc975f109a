"""The page of docs/reference with every command and its options, made from what reads the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from otpylib_telemetry.command.main import PROGRAM, parser

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "commands.md"

INTRODUCTION = f"""\
# Commands

This page is made from the code by `python -m scripts.reference`. How they are used is in
[The command](../how-to/operate/command.md) and [Four incidents](../how-to/operate/incidents.md).

`{PROGRAM}` and `python -m otpylib_telemetry` are the same. The exit status is 0 if all is good, 1 if
something is bad, 2 if the command was used wrongly. `--socket`,
`--url` and `--json` may stand before the command as well.
"""


def page() -> str:
    """Return the page."""
    parts = [INTRODUCTION]
    for action in parser()._actions:  # noqa: SLF001  # argparse has no other way
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # the same
            parts += [_command(name, below) for name, below in action.choices.items()]
    return "\n".join(parts)


def _command(name: str, below: argparse.ArgumentParser) -> str:
    rows = "".join(
        f"| {_written(action)} | {_cell(action.help or '')} |\n"
        for action in below._actions  # noqa: SLF001  # argparse has no other way
        if "--help" not in action.option_strings
    )
    return f"## {name}\n\n{_cell(below.description or '')}\n\n| argument | |\n|---|---|\n{rows}"


def _written(action: Any) -> str:
    value = f" {action.metavar or action.dest.upper()}" if action.nargs != 0 else ""
    if not action.option_strings:
        found = value.strip()
        return f"`[{found}]`" if action.nargs == "?" else f"`{found}`"
    return f"`{action.option_strings[-1]}{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
