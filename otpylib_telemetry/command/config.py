"""``otpylib-telemetry config``: what is in force, and where each value comes from."""

from __future__ import annotations

from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.command import where
from otpylib_telemetry.command.client import FailedError
from otpylib_telemetry.command.screen import GOOD, one_line
from otpylib_telemetry.command.words import value

if TYPE_CHECKING:
    import argparse
    from collections.abc import Container, Iterable, Mapping

    from otpylib_telemetry.command.screen import Cell, Screen

NAME: Final = "config"
HELP: Final = "show what is in force, and where each value comes from"
DESCRIPTION: Final = (
    "Show every value in force with its origin: a file, the environment, an argument, a change at runtime. "
    "What is wanted and not in force yet is marked, and all that was refused is told. Secrets are never "
    "shown."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    where.add_arguments(parser)
    parser.add_argument(
        "pattern",
        metavar="PATTERN",
        nargs="?",
        default="*",
        help="a section or a shell pattern over the keys: otel, 'otel.sampling*', '*.endpoint'",
    )
    parser.add_argument("--set", action="store_true", help="only what is not the default")


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Ask and show; return the exit status."""
    found = where.client_of(arguments).ask("GET", "/config")
    pattern = arguments.pattern.removeprefix("telemetry.")
    keys = {f"{name}.{key}": (name, key) for name, each in found["sections"].items() for key in each["keys"]}
    meant = {place for path, place in keys.items() if _is_meant(path, place[0], pattern)}
    if keys and not meant:
        raise FailedError(_unknown(arguments.pattern, keys, found["sections"]))
    for name, section in found["sections"].items():
        section["keys"] = {
            key: each
            for key, each in section["keys"].items()
            if (name, key) in meant and (not arguments.set or each["origin"] != "default" or each["pending"])
        }
    if arguments.json:
        screen.json(found)
    else:
        _show(screen, found, {section for section, _ in meant})
    return GOOD


def _is_meant(path: str, section: str, pattern: str) -> bool:
    return pattern in {section, path} or fnmatchcase(path, pattern)


def _unknown(pattern: str, keys: Iterable[str], sections: Iterable[str]) -> str:
    near = get_close_matches(pattern.removeprefix("telemetry."), [*sections, *keys], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"no key matches {pattern!r}: the sections in use are {', '.join(sorted(sections))}{hint}"


def _show(screen: Screen, found: Mapping[str, Any], meant: Container[str]) -> None:
    sections = {name: each for name, each in found["sections"].items() if name in meant}
    rows = [
        row
        for name, section in sections.items()
        for key, each in section["keys"].items()
        for row in _rows(f"{name}.{key}", each)
    ]
    screen.table(("KEY", "VALUE", "ORIGIN"), rows)
    for section in sections.values():
        for text in section["problems"]:
            screen.line(f"{screen.coloured('refused', 'red')}: {one_line(text)}")
    for path, trouble in found["files"].items():
        if trouble:
            screen.line(f"{screen.coloured('file', 'red')}: {one_line(f'{path}: {trouble}')}")


def _rows(key: str, found: Mapping[str, Any]) -> list[list[Cell]]:
    rows: list[list[Cell]] = [[key, value(found["value"]), found["origin"]]]
    if found["pending"]:
        rows.append(["  wanted", (value(found["wished"]), "yellow"), "not in force"])
    return rows
