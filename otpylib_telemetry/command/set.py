"""``otpylib-telemetry set KEY VALUE``: change settings of a running application."""

from __future__ import annotations

import json
import math
import tomllib
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.command import where
from otpylib_telemetry.command.client import CHANGING
from otpylib_telemetry.command.screen import BAD, GOOD, UsageError, one_line
from otpylib_telemetry.command.words import seconds_of, until, value

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from otpylib_telemetry.command.screen import Screen

NAME: Final = "set"
HELP: Final = "change settings, for good or for a while, or say what that would do"
DESCRIPTION: Final = (
    "Change settings of a running application, all of them or none. Values are written as in TOML; what "
    "is no TOML is a text. The exit status is 1 if the change was refused, or is not in force because its "
    "destination does not answer."
)

#: Outcomes with which all is well.
_GOOD: Final = frozenset({"applied", "would_apply"})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    where.add_arguments(parser)
    parser.add_argument(
        "changes",
        metavar="KEY VALUE",
        nargs="+",
        help="such as otel.sampling_rate 0.5; several pairs are one change",
    )
    parser.add_argument("--for", dest="seconds", metavar="DURATION", help="take it back by itself after 10m")
    parser.add_argument("--dry-run", action="store_true", help="say what it would do, and do nothing")
    parser.add_argument(
        "--add", action="store_true", help="add values to the lists that are in force, and keep the rest"
    )
    parser.add_argument(
        "--take-back", action="store_true", help="take changes of these keys back: KEY without a VALUE"
    )


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Change; return the exit status."""
    seconds = None if arguments.seconds is None else seconds_of(arguments.seconds)
    changes = changes_of(arguments.changes, take_back=arguments.take_back)
    query = {"dry_run": "1" if arguments.dry_run else None, "for": seconds}
    client = where.client_of(arguments)
    if arguments.add:
        changes = added(client.ask("GET", "/config"), changes)
    found = client.ask("PATCH", "/config", query=query, body=changes, seconds=CHANGING)
    if arguments.json:
        screen.json(found)
    else:
        show(screen, found)
    return status_of(found)


def changes_of(words: Sequence[str], *, take_back: bool = False) -> dict[str, Any]:
    """Return what is to be changed: keys and values in turn, or keys alone."""
    if take_back:
        return {_key(word): None for word in words}
    if len(words) % 2:
        raise UsageError(f"set: {words[-1]} has no value; --take-back takes a change of it back")
    return {_key(key): parsed(text) for key, text in zip(words[::2], words[1::2], strict=True)}


def added(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return lists as they are in force with what is to be added."""
    found = {}
    for path, more in changes.items():
        section, _, key = path.partition(".")
        keys = config["sections"].get(section, {"keys": {}})["keys"]
        before = keys[key]["value"] if key in keys else None
        if not isinstance(before, list):
            raise UsageError(f"--add: {path} is no list")
        new = more if isinstance(more, list) else [more]
        found[path] = [*before, *(each for each in new if each not in before)]
    return found


def _key(word: str) -> str:
    key = word.removeprefix("telemetry.")
    if "." not in key.strip("."):
        raise UsageError(f"set: expected a key with its section, such as otel.sampling_rate, not {word!r}")
    return key


def parsed(text: str) -> Any:
    """Return a value that is written as in TOML; what is none is the text itself."""
    try:
        table = tomllib.loads(f"value = {text}")
        found = table["value"]
        is_value = len(table) == 1 and not (isinstance(found, float) and not math.isfinite(found))
        json.dumps(found)
    except (tomllib.TOMLDecodeError, TypeError, RecursionError):
        return text
    return found if is_value else text


def status_of(changed: Mapping[str, Any]) -> int:
    """Return the exit status of a change, a dry run or a rollback."""
    answers = all(each["ok"] for each in changed["probes"].values())
    return GOOD if changed["outcome"] in _GOOD and answers and not changed["problems"] else BAD


_OUTCOMES: Final = {
    "applied": "in force",
    "pending": "accepted, and not in force: what was goes on",
    "superseded": "not in force: another change came before it was, and counts",
    "rejected": "refused",
    "would_apply": "dry run: this would be applied",
    "would_reject": "dry run: this would be refused",
}


#: What a dry run comes to whose destination does not answer.
_WAITS: Final = "dry run: this would wait until the new destination answers"


def show(screen: Screen, changed: Mapping[str, Any]) -> None:
    """Show what became of a change, a dry run or a rollback."""
    outcome = changed["outcome"]
    for key, each in changed["changes"].items():
        screen.line(f"{one_line(key)}: {one_line(value(each['old']))} -> {one_line(value(each['new']))}")
    if not changed["changes"]:
        # Of what is wished already and waits a dry run tells effects.
        is_in_force = outcome not in {"pending", "superseded"} and not changed["effects"]
        screen.line(f"nothing differs from what is {'in force' if is_in_force else 'wished already'}")
    for key, origin in changed["overrode"].items():
        screen.line(f"{one_line(key)} was from: {one_line(origin)}")
    for text in changed["effects"]:
        screen.line(one_line(text))
    for section, probe in changed["probes"].items():
        good = "it answers" if probe["ok"] else f"it does not answer: {one_line(probe['reason'] or '')}"
        screen.line(
            f"{section}, the new destination: {screen.coloured(good, 'green' if probe['ok'] else 'red')}"
        )
    for text in changed["problems"]:
        screen.line(screen.coloured(one_line(text), "red"))
    if outcome == "pending" and not changed["problems"]:
        screen.line("it is still being tried: otpylib-telemetry history tells what comes of it")
    if changed["reverts_at"] is not None:
        screen.line(f"it takes itself back {until(changed['reverts_at'])}")
    number = "" if changed["generation"] is None else f" (generation {changed['generation']})"
    answers = all(probe["ok"] for probe in changed["probes"].values())
    said = _OUTCOMES.get(outcome, outcome) if answers else _WAITS
    screen.line(screen.coloured(f"{said}{number}", "green" if outcome in _GOOD and answers else "red"))
