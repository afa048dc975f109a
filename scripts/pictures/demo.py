"""The demonstration's screen, and one of its traces: from a real run, recorded by rich."""

from __future__ import annotations

import asyncio
import io
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from examples.shop.pictures import COLOURS, milliseconds
from examples.shop.screen import Screen
from examples.shop.stage import Options, Stage, until
from examples.shop.steps import first_look, outage
from examples.shop.witness import OperatorsLog
from scripts.pictures import svg

if TYPE_CHECKING:
    from examples.shop.receiver import Span
    from examples.shop.traces import Trace

#: The first step, the outage, and a trace.
SCREEN: Final = svg.PICTURES / "demo.svg"
OUTAGE: Final = svg.PICTURES / "outage.svg"
TRACE: Final = svg.PICTURES / "trace.svg"

#: Requests per second: fewer than the demonstration has, so that a busy machine draws the same picture.
RATE: Final = 60.0

#: Columns of the terminal.
COLUMNS: Final = 110

#: Colours of the terminal's names on white paper.
ON_PAPER: Final = {
    "bright_blue": "#4a7fd0",
    "cyan": "#2a9d9d",
    "green": "#3a8f55",
    "yellow": "#c79a1e",
    "magenta": "#a855b0",
}
FAILED: Final = "#c2453a"


def make() -> dict[Path, str]:
    """Run the demonstration's first step and its outage; return the pictures."""
    console = Console(file=io.StringIO(), record=True, width=COLUMNS, force_terminal=True, highlight=False)
    screen, log = Screen(console), OperatorsLog()
    log.install()
    with tempfile.TemporaryDirectory(prefix="shop-") as directory:
        stage = Stage(Options(rate=RATE), screen, log, Path(directory))
        return asyncio.run(_record(stage, console))


async def _record(stage: Stage, console: Console) -> dict[Path, str]:
    screen = stage.screen
    screen.open = lambda: None  # type: ignore[method-assign]  # no panel that moves
    screen.headline("otpylib-telemetry · a shop under load, reconfigured while it runs")
    try:
        await stage.open()
        await first_look.run(stage)
        pictures = {SCREEN: _terminal(console, "make demo: what telemetry shows of a shop")}
        pictures[TRACE] = draw_trace(_typical(stage))
        screen.step("", "")
        console.export_text(clear=True)
        panel = asyncio.create_task(_panel_of_the_outage(stage, console))
        await outage.run(stage)
        await panel
        pictures[OUTAGE] = _terminal(console, "make demo: the collector dies for seven seconds")
    finally:
        await stage.close()
    for claim in stage.claims.failed:
        sys.stderr.write(f"did not hold: {claim.text} ({claim.evidence})\n")
    return pictures


async def _panel_of_the_outage(stage: Stage, console: Console) -> None:
    """Print the panel once, when the collector has been down for a while."""
    await until(lambda: not stage.receiver.is_up)
    await asyncio.sleep(4.0)
    console.print(stage.screen._panel())  # noqa: SLF001  # what a terminal shows at the bottom


def _terminal(console: Console, title: str) -> str:
    """Return what was recorded; without fonts from elsewhere, which pages do not load."""
    drawn = console.export_svg(title=title, clear=True)
    drawn = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)
    drawn = drawn.replace("font-family: Fira Code", "font-family: ui-monospace, 'DejaVu Sans Mono'")
    drawn = re.sub(r"\n\s*\n+", "\n", drawn)
    return re.sub(r"(<svg [^>]*>)", rf"\1\n<title>{title}</title>", drawn, count=1)


def _typical(stage: Stage) -> Trace:
    """Return a checkout that failed and took as long as such ones do; without one, the largest trace."""
    whole = [trace for trace in stage.monitor.archive.traces.values() if trace.is_whole]
    failed = [trace for trace in whole if trace.failed and len(trace.spans) > 4]
    if failed:
        return sorted(failed, key=lambda trace: trace.duration_ns)[len(failed) // 2]
    return max(whole, key=lambda trace: len(trace.spans))


def draw_trace(trace: Trace) -> str:
    """Draw a trace as a waterfall."""
    root = trace.root
    assert root is not None  # noqa: S101  # it is whole
    rows = list(trace.walk())
    left, width, step, top = 300.0, 560.0, 26.0, 74.0
    whole = max(1, root.end_ns - root.start_ns)
    bottom = top + step * len(rows)
    head = f"{root.attributes.get('method')} {root.attributes.get('route')} {root.attributes.get('status')}"
    shapes = [
        svg.text(20, 28, head, bold=True, size=15, fill=FAILED if trace.failed else svg.INK),
        svg.text(20, 48, f"trace {root.trace_id}, {len(rows)} spans", size=12, fill=svg.FAINT, mono=True),
    ]
    for quarter in range(5):
        x = left + width * quarter / 4
        shapes.append(
            svg.path(f"M{svg.number(x)} {svg.number(top - 6)} V{svg.number(bottom)}", stroke="#e5e7eb")
        )
        label = milliseconds(whole * quarter / 4e6) if quarter else "0"
        shapes.append(svg.text(x, top - 12, label, size=11, fill=svg.FAINT, anchor="middle"))
    for number, (span, depth) in enumerate(rows):
        y = top + step * number
        begin = left + width * (span.start_ns - root.start_ns) / whole
        length = max(2.0, width * (span.end_ns - span.start_ns) / whole)
        colour = FAILED if span.failed else _colour(span)
        name = span.name + (" ✗" if span.failed else "")
        shapes += [
            svg.text(
                20 + 16 * depth, y + 15, name, size=12.5, mono=True, fill=FAILED if span.failed else svg.INK
            ),
            svg.rect(begin, y + 5, length, 13, fill=colour, radius=3),
            svg.text(
                left + width + 12,
                y + 15,
                milliseconds((span.end_ns - span.start_ns) / 1e6),
                size=12,
                mono=True,
            ),
        ]
    messages = [span.message for span, _ in reversed(rows) if span.failed and span.message]
    foot = f"status ERROR: {messages[0]}" if messages else ""
    shapes.append(svg.text(20, bottom + 22, foot, size=12, fill=FAILED))
    title = "One request of the demonstration's shop as a waterfall of spans, as it arrived at the collector."
    return svg.picture(left + width + 100, bottom + 36, title, shapes)


def _colour(span: Span) -> str:
    return ON_PAPER.get(COLOURS.get(span.name.split(".")[1], ""), "#6b7280")
