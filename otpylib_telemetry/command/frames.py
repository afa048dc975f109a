"""What ``top`` shows: two answers of the API as one picture, and a picture as lines. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.command.screen import one_line
from otpylib_telemetry.command.status import BREAKERS, STATES
from otpylib_telemetry.command.words import clock, count, duration

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence

    from otpylib_telemetry.command.screen import Cell, Colour, Screen

#: Rows of a part where the output is no terminal.
_ROWS: Final = 10
#: Lines of a picture that are no rows: the head, and title, heads and gap of each part.
_FIXED: Final = 14
_PARTS: Final = 3


def measured(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is shown: rates between two answers, and the rest as the second one has it."""
    seconds = max(after["at"] - before["at"], 0.001)
    status = after["status"]
    earlier = {each["name"]: each for each in before["status"]["exporters"]}
    return {
        "pid": status["pid"],
        "time": status["time"],
        "ready": status["ready"],
        "exporters": [
            _exporter(each, earlier.get(each["name"], each), seconds) for each in status["exporters"]
        ],
        "operations": _operations(after["traces"]),
        "mailboxes": _mailboxes(after["actors"]),
        "metrics": _metrics(after["metrics-by-size"]),
    }


def _exporter(now: Mapping[str, Any], then: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    def rate(which: str) -> float:
        # An exporter that was restarted counts from 0 again.
        return max(0.0, (_number(now, which) - _number(then, which)) / seconds)

    return {
        **{key: now[key] for key in ("name", "state", "queue_limit", "not_ready")},
        "waiting": now["ledger"]["queued"] + now["ledger"]["in_flight"],
        "breaker": None if now["breaker"] is None else now["breaker"]["state"],
        **{f"{which}_per_second": rate(which) for which in ("accepted", "exported", "rejected", "dropped")},
    }


def _number(exporter: Mapping[str, Any], which: str) -> int:
    found = exporter["ledger"][which]
    return sum(found.values()) if isinstance(found, dict) else int(found)


def _operations(traces: Mapping[str, Any] | None) -> list[dict[str, Any]] | None:
    """Return the operations of the traces that are recorded, the slowest first."""
    if traces is None:
        return None
    found: dict[str, list[Mapping[str, Any]]] = {}
    for trace in traces["traces"]:
        for span in trace["spans"]:
            found.setdefault(span["name"], []).append(span)
    told = [
        {
            "name": name,
            "count": len(spans),
            "mean_ms": sum(each["duration_ms"] for each in spans) / len(spans),
            "max_ms": max(each["duration_ms"] for each in spans),
            "wait_ms": max((each["wait_ms"] or 0 for each in spans), default=0),
            "errors": sum(each["error"] is not None for each in spans),
        }
        for name, spans in found.items()
    ]
    return sorted(told, key=lambda each: -each["max_ms"])


def _mailboxes(actors: Mapping[str, Any] | None) -> list[dict[str, Any]] | None:
    """Return every process with a mailbox, the deepest first."""
    if actors is None:
        return None
    found = [
        {key: actor[key] for key in ("pid", "name", "module", "mailbox", "crashes", "restarts", "age")}
        for actor in _flat(actors["roots"])
        if actor["mailbox"] is not None
    ]
    return sorted(found, key=lambda each: (-each["mailbox"], -each["crashes"], -each["restarts"]))


def _flat(actors: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    for actor in actors:
        yield actor
        yield from _flat(actor["children"])


def _metrics(found: Mapping[str, Any] | None) -> list[dict[str, Any]] | None:
    return None if found is None else list(found["largest"])


def lines_of(screen: Screen, found: Mapping[str, Any], size: os.terminal_size | None) -> list[str]:
    """Return a picture as lines, as many and as wide as fit."""
    rows = _ROWS
    if size is not None:
        rows = max(1, (size.lines - _FIXED - len(found["exporters"])) // _PARTS)
    ready = screen.coloured("ready", "green") if found["ready"] else screen.coloured("not ready", "red")
    lines = [f"process {found['pid']}  {clock(found['time'])}  {ready}"]
    width = None if size is None else size.columns
    for title, heads, cells in _tables(found, rows):
        lines += ["", *screen.rows([title, *heads], cells, width)]
    return lines if size is None else lines[: size.lines]


def _tables(found: Mapping[str, Any], rows: int) -> Iterable[tuple[str, Sequence[str], list[list[Cell]]]]:
    heads: tuple[str, ...] = (
        "STATE",
        "BREAKER",
        "WAITING",
        "IN/S",
        "OUT/S",
        "LOST/S",
    )
    yield "EXPORTER", heads, [_exporter_row(each) for each in found["exporters"]]
    operations = found["operations"]
    if operations is not None:
        heads = ("COUNT", "MEAN", "LONGEST", "LONGEST WAIT", "ERRORS")
        yield "SLOWEST OPERATIONS", heads, [_operation_row(each) for each in operations[:rows]]
    mailboxes = found["mailboxes"]
    if mailboxes is not None:
        heads = ("MAILBOX", "CRASHES", "RESTARTS", "AGE")
        yield "DEEPEST MAILBOXES", heads, [_mailbox_row(each) for each in mailboxes[:rows]]
    metrics = found["metrics"]
    if metrics is not None:
        heads = ("SERIES", "LIMIT", "EXPORTER", "FULLEST LABELS")
        yield "LARGEST METRICS", heads, [_metric_row(each) for each in metrics[:rows]]


def _exporter_row(found: Mapping[str, Any]) -> list[Cell]:
    return [
        found["name"],
        _coloured(found["state"], STATES),
        _coloured(found["breaker"] or "-", BREAKERS),
        f"{count(found['waiting'])}/{count(found['queue_limit'])}",
        *(count(found[f"{which}_per_second"]) for which in ("accepted", "exported")),
        _bad(found["rejected_per_second"] + found["dropped_per_second"]),
    ]


def _operation_row(found: Mapping[str, Any]) -> list[Cell]:
    spans = [duration(found[key] / 1000) for key in ("mean_ms", "max_ms", "wait_ms")]
    return [found["name"], count(found["count"]), *spans, _bad(found["errors"])]


def _mailbox_row(found: Mapping[str, Any]) -> list[Cell]:
    return [
        found["name"] or f"{found['module']} {found['pid'].removeprefix('#Pid')}",
        count(found["mailbox"]),
        _bad(found["crashes"]),
        count(found["restarts"]),
        duration(found["age"]),
    ]


def _metric_row(found: Mapping[str, Any]) -> list[Cell]:
    labels = [f"{name} {count(number)}" for name, number in found["labels"].items()]
    labels += [f"{name} {count(number)} (folded)" for name, number in found["folded"].items()]
    is_full = found["overflowing"] or found["series"] >= found["limit"]
    series = count(found["series"])
    return [
        found["metric"],
        (series, "red") if is_full else series,
        count(found["limit"]),
        found["exporter"],
        one_line(", ".join(labels)),
    ]


def _coloured(text: str, colours: Mapping[str, Colour]) -> Cell:
    return (text, colours[text]) if text in colours else text


def _bad(number: float) -> Cell:
    return (count(number), "red") if number else count(number)
