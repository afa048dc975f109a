"""``otpylib-telemetry trace ID``: a trace as a waterfall, and what decided what becomes of it."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.command import where
from otpylib_telemetry.command.screen import BAD, GOOD, UsageError, one_line
from otpylib_telemetry.command.words import clock, duration, seconds_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from otpylib_telemetry.command.client import Client
    from otpylib_telemetry.command.screen import Cell, Screen

NAME: Final = "trace"
HELP: Final = "show a trace as a waterfall, and what decided what becomes of it"
DESCRIPTION: Final = (
    "Show the operations of a trace, and what patterns, sampling, limits and answers of each exporter "
    "make of it. Without an id: the traces that ended last. Traces are recorded from the first time that "
    "anybody asks until a minute after the last."
)

#: The id alone, or the whole header in which it travels.
_ID: Final = re.compile(r"(?:00-)?([0-9a-f]{32})(?:-[0-9a-f]{16}-[0-9a-f]{2})?")
_MOST: Final = 100
_LISTED: Final = 20
_BAR: Final = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    where.add_arguments(parser)
    parser.add_argument("id", metavar="ID", nargs="?", help="32 hexadecimal digits, or a traceparent")
    parser.add_argument("--event", metavar="NAME", help="say what becomes of events of this name instead")
    parser.add_argument(
        "--wait",
        metavar="DURATION",
        default="2s",
        help="how long to wait for a trace if none is recorded yet (default: 2s)",
    )


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Ask and show; return the exit status."""
    seconds = seconds_of(arguments.wait, "--wait")
    client = where.client_of(arguments)
    if arguments.event is not None:
        found = {"explained": client.ask("GET", "/explain/event/{name}", name=arguments.event)["explained"]}
        return _tell(screen, found, as_json=arguments.json)
    if arguments.id is None:
        return _list(screen, _recorded(client, None, seconds), as_json=arguments.json)
    named = _ID.fullmatch(arguments.id.strip().lower())
    if named is None:
        raise UsageError("trace: expected an id of 32 hexadecimal digits, or a traceparent")
    traces = _recorded(client, named[1], seconds)
    trace = next((each for each in traces if each["trace_id"] == named[1]), None)
    explained = client.ask("GET", "/explain/{trace_id}", trace_id=named[1])["explained"]
    return _tell(screen, {"trace": trace, "explained": explained}, as_json=arguments.json)


def _recorded(client: Client, wanted: str | None, seconds: float) -> list[dict[str, Any]]:
    """Return the traces that are recorded; waits for the wanted one, or for any."""
    end = time.monotonic() + seconds
    while True:
        found: list[dict[str, Any]] = client.ask("GET", "/traces", query={"limit": _MOST})["traces"]
        is_there = any(wanted in {None, each["trace_id"]} for each in found)
        if is_there or time.monotonic() >= end:
            return found
        time.sleep(min(0.2, seconds))


def _list(screen: Screen, traces: list[dict[str, Any]], *, as_json: bool) -> int:
    if as_json:
        screen.json({"traces": traces})
    elif not traces:
        screen.line("no trace has ended since they are recorded: ask again")
    else:
        rows: list[list[Cell]] = [
            [
                each["trace_id"],
                clock(each["start"], fraction=True),
                duration(each["duration_ms"] / 1000),
                str(len(each["spans"]) + each["left_out"]),
                ("error", "red") if each["error"] else "ok",
                each["name"],
            ]
            for each in traces[:_LISTED]
        ]
        screen.table(("TRACE", "BEGAN", "TOOK", "SPANS", "", "NAME"), rows)
    return GOOD if traces else BAD


def _tell(screen: Screen, found: Mapping[str, Any], *, as_json: bool) -> int:
    is_taken = any(each["takes"] for each in found["explained"])
    good = GOOD if is_taken or found.get("trace") is not None else BAD
    if as_json:
        screen.json(found)
        return good
    if found.get("trace") is not None:
        for line in waterfall(screen, found["trace"]):
            screen.line(line)
        screen.line()
    elif "trace" in found:
        screen.line("its operations are not recorded: they ended before anybody asked, or in another process")
        screen.line()
    for each in found["explained"]:
        takes = {True: ("takes it", "green"), False: ("does not take it", "yellow"), None: ("", "bold")}
        said = takes[each["takes"]][0] or "cannot say"
        screen.line(f"{screen.coloured(one_line(each['name']), 'bold')}: {said}")
        for text in each["answers"]:
            screen.line(f"  {one_line(text)}")
    return good


def waterfall(screen: Screen, trace: Mapping[str, Any]) -> list[str]:
    """Return a trace as lines: ``#`` where an operation ran, ``.`` where it waited before."""
    spans = trace["spans"]
    depths = _depths(spans)
    names = [f"{'  ' * depths[each['span_id']]}{one_line(each['name'])}" for each in spans]
    width = max(map(len, names), default=0)
    whole = max(trace["duration_ms"], 0.001)
    head = f"{screen.coloured(one_line(trace['name']), 'bold')} took {duration(whole / 1000)}"
    lines = [f"trace {trace['trace_id']}: {head}, began {clock(trace['start'], fraction=True)}"]
    for name, each in zip(names, spans, strict=True):
        waited = f", waited {duration(each['wait_ms'] / 1000)}" if each["wait_ms"] else ""
        bar = _bar(each, whole)
        took = duration(each["duration_ms"] / 1000)
        work = f", own {duration(each['work_ms'] / 1000)}" if each["work_ms"] < each["duration_ms"] else ""
        failed = f" {screen.coloured(one_line(each['error']), 'red')}" if each["error"] else ""
        lines.append(f"{name:<{width}} |{bar}| {took}{work}{waited}{failed}")
    if trace["left_out"]:
        lines.append(f"... {trace['left_out']} more")
    return lines


def _depths(spans: list[dict[str, Any]]) -> dict[str, int]:
    parents = {each["span_id"]: each["parent_span_id"] for each in spans}
    found = {}
    for span_id, parent in parents.items():
        depth, above, seen = 0, parent, {span_id}
        while above in parents and above not in seen:
            seen.add(above)
            depth, above = depth + 1, parents[above]
        found[span_id] = depth
    return found


def _bar(span: Mapping[str, Any], whole: float) -> str:
    """Return the place of an operation in its trace, as that many characters."""
    begin = min(_BAR - 1, max(0, int(span["start_ms"] / whole * _BAR)))
    length = max(1, min(_BAR - begin, round(span["duration_ms"] / whole * _BAR)))
    waited = min(begin, round((span["wait_ms"] or 0) / whole * _BAR))
    return f"{' ' * (begin - waited)}{'.' * waited}{'#' * length}".ljust(_BAR)
