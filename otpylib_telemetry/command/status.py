"""``otpylib-telemetry status``: how every exporter and service of an application does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.command import where
from otpylib_telemetry.command.screen import BAD, GOOD, one_line
from otpylib_telemetry.command.words import count, counted, duration

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from otpylib_telemetry.command.screen import Cell, Colour, Screen

NAME: Final = "status"
HELP: Final = "say how every exporter and service does"
DESCRIPTION: Final = (
    "Say how every exporter and service of a running application does: state, queue, circuit breaker and the "
    "books. The exit status is 1 while an exporter does not do what it is configured to do."
)

STATES: Final[dict[str, Colour]] = {
    "running": "green",
    "degraded": "red",
    "stopped": "red",
    "silent": "red",
    "starting": "yellow",
    "drained": "yellow",
}
BREAKERS: Final[dict[str, Colour]] = {"closed": "green", "open": "red", "half_open": "yellow"}
HEADS: Final = (
    *(
        "EXPORTER",
        "STATE",
        "BREAKER",
        "WAITING",
        "ACCEPTED",
        "EXPORTED",
        "SAMPLED OUT",
        "REJECTED",
        "DROPPED",
    ),
    "UP",
)
#: How full a queue is when it begins to be worth a look.
_FILLING: Final = 0.5
_FULL: Final = 0.9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    where.add_arguments(parser)


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Ask and show; return the exit status."""
    found = where.client_of(arguments).ask("GET", "/status")
    if arguments.json:
        screen.json(found)
    else:
        _show(screen, found)
    return GOOD if found["ready"] else BAD


def _show(screen: Screen, found: Mapping[str, Any]) -> None:
    ready = screen.coloured("ready", "green") if found["ready"] else screen.coloured("not ready", "red")
    screen.line(f"process {found['pid']}, otpylib-telemetry {found['version']}: {ready}")
    if found["exporters"]:
        screen.line()
        screen.table(HEADS, [row_of(each) for each in found["exporters"]])
    for each in found["exporters"]:
        for text in _remarks(each):
            screen.line(f"{each['name']}: {one_line(text)}")
    if found["services"]:
        screen.line()
        rows = [(each["name"], _state(each["state"]), each["reason"] or "") for each in found["services"]]
        screen.table(("SERVICE", "STATE", ""), rows)
    for each in found["handlers"]:
        if each["suspended"]:
            name = one_line(each["handler_id"])
            rests = screen.coloured("rests", "yellow")
            screen.line(f"handler {name} {rests}: {counted(each['failures'], 'failure')}")


def row_of(exporter: Mapping[str, Any]) -> list[Cell]:
    """Return the cells of one exporter, those of HEADS."""
    books, breaker = exporter["ledger"], exporter["breaker"]
    return [
        exporter["name"],
        _state(exporter["state"]),
        _coloured((breaker or {}).get("state", "-"), BREAKERS),
        _queue(books["queued"] + books["in_flight"], exporter["queue_limit"]),
        count(books["accepted"]),
        count(books["exported"]),
        count(books["sampled_out"]),
        _lost(books["rejected"]),
        _lost(sum(books["dropped"].values())),
        duration(exporter["uptime"]),
    ]


def _remarks(exporter: Mapping[str, Any]) -> list[str]:
    found = []
    if exporter["not_ready"]:
        found.append(f"not ready: {exporter['not_ready']}")
    elif exporter["reason"]:
        found.append(exporter["reason"])
    dropped = {reason: number for reason, number in exporter["ledger"]["dropped"].items() if number}
    if dropped:
        found.append(
            "dropped: " + ", ".join(f"{reason} {count(number)}" for reason, number in dropped.items())
        )
    folded = exporter["stats"].get("labels_folded")
    if folded:
        found.append(f"folded labels: {_folded(folded)}")
    return found


def _folded(found: Any) -> str:
    if not isinstance(found, dict):
        return str(found)
    return "; ".join(f"{metric}: {_named(labels)}" for metric, labels in found.items())


def _named(labels: Any) -> str:
    return ", ".join(map(str, labels)) if isinstance(labels, (dict, list)) else str(labels)


def _state(state: str) -> Cell:
    return _coloured(state, STATES)


def _coloured(text: str, colours: Mapping[str, Colour]) -> Cell:
    return (text, colours[text]) if text in colours else text


def _queue(depth: int, limit: int) -> Cell:
    text = f"{count(depth)}/{count(limit)}"
    if limit and depth >= limit * _FULL:
        return text, "red"
    return (text, "yellow") if limit and depth >= limit * _FILLING else text


def _lost(number: int) -> Cell:
    return (count(number), "yellow") if number else "0"
