"""What is seen, as pictures for a terminal: pure functions from data to something rich can draw."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from examples.shop.claims import Claim
    from examples.shop.load import Summary
    from examples.shop.receiver import Span
    from examples.shop.scrape import Operation
    from examples.shop.traces import Trace
    from examples.shop.witness import LogLine

GOOD, BAD, BUSY, FAINT, HEAD = "green", "bold red", "yellow", "dim", "bold"

#: The colour of each server's spans.
COLOURS = {
    "http": "bright_blue",
    "checkout": "cyan",
    "catalogue": "green",
    "stock": "yellow",
    "payment": "magenta",
}
LEVELS = {"INFO": "cyan", "WARNING": "yellow"}

_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int, top: float = 0.0) -> str:
    """Draw numbers as a row of bars.

    Args:
        values: The numbers, oldest first.
        width: Columns; with more numbers than that each bar is the highest of several, with fewer they are
            right-aligned.
        top: What a full bar stands for, at least.
    """
    if not values:
        return " " * width
    if len(values) > width:
        edges = [round(column * len(values) / width) for column in range(width + 1)]
        values = [max(values[begin:end]) for begin, end in itertools.pairwise(edges)]
    highest = max(*values, top, 1e-9)
    drawn = "".join(_BARS[min(7, int(max(value, 0.0) / highest * 7.999))] for value in values)
    return drawn.rjust(width)


def mark(claim: Claim) -> Text:
    """Draw whether a claim held; a question mark where nobody can tell."""
    return Text("?", BUSY) if claim.undecided else tick(claim.held)


def tick(held: object) -> Text:
    """A check mark, or a cross."""
    return Text("✓", GOOD) if held else Text("✗", BAD)


def number(value: float) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,.0f}".replace(",", " ")


def milliseconds(value: float) -> str:
    """A time that is read at a glance."""
    if math.isnan(value):
        return "-"
    if value < 0.0995:  # noqa: PLR2004  # two digits that count
        return f"{value * 1000:.0f} µs"
    digits = 2 if value < 0.995 else 1 if value < 99.95 else 0  # noqa: PLR2004  # two or three that count
    return f"{value:.{digits}f} ms"


# --- traces -------------------------------------------------------------------------------------------------


def waterfall(trace: Trace, width: int) -> RenderableType:
    """Draw a trace: every span a bar on the trace's own time, below the span it belongs to.

    Args:
        trace: A whole one.
        width: Columns there are.
    """
    root = trace.root
    if root is None:
        raise ValueError("a trace without a root has no time of its own")
    inner = width - 4
    names = 28 if width < 100 else 34  # noqa: PLR2004  # narrow and wide
    bar_width = inner - names - 12
    lines = []
    rows = list(trace.walk())
    for index, (span, depth) in enumerate(rows):
        name = Text(_branches(rows, index) + _called(span), overflow="ellipsis", no_wrap=True)
        name.stylize(FAINT, 0, depth * 2)
        if span.failed:
            name.append(" ✗")
            name.stylize(BAD, depth * 2)
        name.truncate(names, overflow="ellipsis", pad=True)
        bar = Text(_bar(span, root, bar_width), BAD if span.failed else _colour(span))
        took = Text(f"{milliseconds((span.end_ns - span.start_ns) / 1e6):>10}", BAD if span.failed else "")
        lines.append(Text.assemble(name, " ", bar, " ", took))
    title = Text.assemble(
        (f"{root.attributes.get('method')} {root.attributes.get('route')} ", HEAD),
        (str(root.attributes.get("status")), BAD if trace.failed else GOOD),
    )
    if trace.failed:
        title.append(f"  {next((span.message for span, _ in reversed(rows) if span.failed), '')}", "red")
    events = sorted({event for span, _ in rows for event in span.events if event != "exception"})
    foot = Text(f"trace {root.trace_id[:8]}… · {len(rows)} spans", FAINT)
    if events:
        foot.append(f" · also {', '.join(events)}")
    return Panel(
        Group(*lines),
        title=title,
        title_align="left",
        subtitle=foot,
        subtitle_align="right",
        border_style="red" if trace.failed else FAINT,
        width=width,
    )


def _branches(rows: Sequence[tuple[Span, int]], index: int) -> str:
    """The lines that lead from a span to the one it belongs to."""
    depth = rows[index][1]
    drawn = ""
    for level in range(1, depth + 1):
        later = next((below for _, below in rows[index + 1 :] if below <= level), 0)
        goes_on = later == level
        if level == depth:
            drawn += "├ " if goes_on else "└ "
        else:
            drawn += "│ " if goes_on else "  "
    return drawn


def _called(span: Span) -> str:
    """What a span is called: a message by who handles it, or is asked."""
    server, message = span.attributes.get("server"), span.attributes.get("message")
    if span.name == "otpylib.handle":
        return f"{server} ← {message}"
    return f"call {server}" if span.name == "otpylib.call" else span.name.removeprefix("shop.")


def _bar(span: Span, root: Span, width: int) -> str:
    """A bar on the root's time, to half a column, with dots for the time spent waiting in a mailbox."""
    whole = max(1, root.end_ns - root.start_ns)
    begin = max(0, round((span.start_ns - root.start_ns) / whole * 2 * width))
    end = round((span.end_ns - root.start_ns) / whole * 2 * width)
    begin = min(begin, 2 * width - 1)
    end = min(max(end, begin + 1), 2 * width)
    halves = [begin <= half < end for half in range(2 * width)]
    drawn = {(True, True): "━", (True, False): "╸", (False, True): "╺", (False, False): " "}
    bar = "".join(drawn[left, right] for left, right in zip(halves[::2], halves[1::2], strict=True))
    waited = round(span.attributes.get("wait_ms", 0.0) * 1e6 / whole * width)
    first = begin // 2
    return f"{bar[: max(0, first - waited)]:<{max(0, first - waited)}}{'·' * min(waited, first)}{bar[first:]}"


def _colour(span: Span) -> str:
    return COLOURS.get(span.name.split(".")[1], "white")


def _table() -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        header_style=FAINT,
        padding=(0, 1),
        collapse_padding=True,
        pad_edge=False,
        show_edge=False,
    )


# --- metrics and ledgers ------------------------------------------------------------------------------------


def busiest(operations: Sequence[Operation], rows: int = 8) -> RenderableType:
    """Tabulate the busiest operations."""
    table = _table()
    table.add_column("operation")
    for head in ("per s", "errors/s", "p50", "p95", "in flight"):
        table.add_column(head, justify="right")
    table.add_column("0.5 ms … 1 s", width=13, no_wrap=True)
    for operation in operations[:rows]:
        name = operation.name.removeprefix("shop_").replace("_", ".")
        table.add_row(
            Text(name, COLOURS.get(name.split(".")[0], "white")),
            f"{operation.rate:.1f}",
            Text(f"{operation.errors:.1f}", BAD if operation.errors else FAINT),
            milliseconds(operation.p50),
            milliseconds(operation.p95),
            str(operation.in_flight),
            Text(_histogram(operation.buckets), FAINT),
        )
    return table


def _histogram(buckets: Sequence[tuple[float, float]]) -> str:
    heights = [count - below for (_, count), (_, below) in zip(buckets, [(0.0, 0.0), *buckets], strict=False)]
    return sparkline(heights[:13], 13)


def left_side(stats: Mapping[str, Any]) -> int:
    """Return the sum that ``accepted`` must equal."""
    return int(
        sum(stats[key] for key in ("exported", "rejected", "sampled_out", "queued", "in_flight"))
        + sum(stats["dropped"].values())
    )


def ledgers(all_stats: Iterable[Mapping[str, Any]]) -> RenderableType:
    """Tabulate where every event is that the exporters took."""
    table = _table()
    table.add_column("events", vertical="bottom", no_wrap=True)
    for head in ("accepted", "=", "exported", "sampled\nout", "rejected", "dropped", "queued", "in\nflight"):
        table.add_column(head, justify="right")
    table.add_column("")
    for stats in all_stats:
        table.add_row(
            stats["name"].removesuffix("_exporter"),
            Text(number(stats["accepted"]), HEAD),
            "=",
            number(stats["exported"]),
            number(stats["sampled_out"]),
            number(stats["rejected"]),
            number(sum(stats["dropped"].values())),
            number(stats["queued"]),
            number(stats["in_flight"]),
            tick(left_side(stats) == stats["accepted"]),
        )
    return table


# --- what the steps show ------------------------------------------------------------------------------------


def comparison(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> RenderableType:
    """Tabulate a first column of names and others of numbers."""
    table = _table()
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else str(cell) for cell in row))
    return table


def latency_cells(summary: Summary) -> tuple[str, str, str, str]:
    """The cells of a summary: rate, median, 95th percentile, worst."""
    return (
        f"{summary.rate:.0f}/s",
        milliseconds(summary.p50),
        milliseconds(summary.p95),
        milliseconds(summary.worst),
    )


def course(name: str, states: Sequence[str], width: int) -> Text:
    """Draw a state over time: a line where all is well, a broken one where it is not.

    Args:
        name: Of what.
        states: Oldest first; ``"up"`` and ``"closed"`` are well.
        width: Columns; there are as many states.
    """
    line = Text(f"  {name:<16}", FAINT)
    for state in states[-width:]:
        well = state in {"up", "closed"}
        line.append("━" if well else "╌", GOOD if well else BAD)
    return line.append(f"  {states[-1] if states else ''}", FAINT)


def curve(name: str, values: Sequence[float], colour: str, width: int, top: float = 0.0) -> Text:
    """Draw a number over time, with its highest value.

    Args:
        name: Of what.
        values: Oldest first.
        colour: Of the bars.
        width: Columns.
        top: What a full bar stands for, at least.
    """
    bars = sparkline(values[-width:], min(len(values), width), top)
    return Text.assemble(
        (f"  {name:<16}", FAINT), (bars, colour), (f"  at most {number(max(values, default=0))}", FAINT)
    )


def log_lines(lines: Iterable[LogLine], since: float) -> RenderableType:
    """Show log lines as an operator reads them."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(justify="right", no_wrap=True, style=FAINT, width=7)
    table.add_column(no_wrap=True, width=7)
    table.add_column(ratio=1, overflow="fold")
    for line in lines:
        level = Text(line.level, LEVELS.get(line.level, BAD))
        table.add_row(f"{max(0.0, line.at - since):.1f} s", level, Text(line.text))
    return Panel(table, title="what the operator reads in the log", title_align="left", border_style=FAINT)


def claim_list(claims: Iterable[Claim]) -> RenderableType:
    """Show every claim with what was seen of it."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(width=1)
    table.add_column(width=1, style=FAINT)
    table.add_column(width=45)
    table.add_column(ratio=1)
    step = 0
    for claim in claims:
        number_, step = (str(claim.step) if claim.step != step else ""), claim.step
        text = Text(claim.text, BAD if claim.failed else "")
        table.add_row(mark(claim), number_, text, Text(claim.evidence, FAINT))
    return table
