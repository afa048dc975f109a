"""``otpylib-telemetry tap PATTERN``: events while they are emitted."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.command import where
from otpylib_telemetry.command.screen import GOOD, UsageError, one_line
from otpylib_telemetry.command.words import clock, counted, seconds_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from otpylib_telemetry.command.screen import Screen

NAME: Final = "tap"
HELP: Final = "show events while they are emitted"
DESCRIPTION: Final = (
    "Show the events that match a shell pattern while the application emits them, one on a line, until "
    "Ctrl-C. The application never waits for it: what it cannot show in time is left out, and counted. With "
    "--json each line is a JSON object."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    where.add_arguments(parser)
    parser.add_argument(
        "pattern", metavar="PATTERN", nargs="?", default="*", help="such as 'shop.*' (default: all)"
    )
    parser.add_argument(
        "--sample",
        metavar="SHARE",
        type=float,
        default=1.0,
        help="show a share of them, such as 0.01; events of one trace together or not at all",
    )
    parser.add_argument("--count", metavar="NUMBER", type=int, help="end after so many events")
    parser.add_argument("--for", dest="seconds", metavar="DURATION", help="end after a while, such as 30s")


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Show events; return the exit status."""
    if not 0 < arguments.sample <= 1:
        raise UsageError("--sample: expected a share above 0, and 1 at most")
    if arguments.count is not None and arguments.count < 1:
        raise UsageError("--count: expected 1 or more")
    seconds = None if arguments.seconds is None else seconds_of(arguments.seconds)
    query = {"pattern": arguments.pattern, "sample": arguments.sample}
    events = where.client_of(arguments).events("/events", query, seconds=seconds)
    shown = 0
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(events):
        for kind, data in events:
            if kind == "message":
                shown += 1
            _show(screen, kind, data, as_json=arguments.json)
            if shown == arguments.count:
                break
    return GOOD


def _show(screen: Screen, kind: str, data: Any, *, as_json: bool) -> None:
    if as_json:
        if kind in {"message", "dropped"}:
            screen.json_line(data)
    elif kind == "message":
        screen.line(_event(screen, data))
    elif kind == "dropped":
        screen.line(
            screen.coloured(
                f"... {counted(data['dropped'], 'event')} left out: --sample shows a share", "yellow"
            )
        )
    screen.stream.flush()


def _event(screen: Screen, found: Mapping[str, Any]) -> str:
    parts = [clock(found["time"], fraction=True), screen.coloured(one_line(found["event_name"]), "bold")]
    parts += [f"{one_line(name)}={_value(each)}" for name, each in found["measurements"].items()]
    parts += [f"{one_line(name)}={_value(each)}" for name, each in found["metadata"].items()]
    return " ".join(parts)


def _value(found: Any) -> str:
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    return json.dumps(text, ensure_ascii=False) if " " in text and isinstance(found, str) else one_line(text)
