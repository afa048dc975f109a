"""What an application at full load feels: drawn from the table on the page of benchmarks."""

from __future__ import annotations

import re
from typing import Final

from benchmarks.application import HEAD
from scripts.pictures import svg

PAGE: Final = svg.PICTURES / "application.svg"
SOURCE: Final = svg.PICTURES.parent / "benchmarks.md"

#: Which columns of the table are drawn, and above what.
PANELS: Final = (
    ("requests/s", "requests per second", "more is better"),
    ("p99", "p99 of a request", "less is better"),
    ("telemetry", "CPU per request for telemetry", "less is better"),
)

#: One for each row of the table.
COLOURS: Final = ("#9aa3b2", "#3b6fc4", "#7ea2de", "#c79a1e")

LEFT, PANEL, GAP, TOP, STEP = 320.0, 200.0, 50.0, 78.0, 34.0


def rows() -> list[dict[str, str]]:
    """Return the rows of the table, each with its cells by the heads of their columns."""
    lines = SOURCE.read_text(encoding="utf-8").splitlines()
    begin = lines.index(HEAD)
    heads = _cells(HEAD)
    found = []
    for line in lines[begin + 2 :]:
        if not line.startswith("|"):
            break
        found.append(dict(zip(heads, _cells(line), strict=True)))
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def draw() -> str:
    """Return the picture."""
    table = rows()
    bottom = TOP + STEP * len(table)
    width = LEFT + (PANEL + GAP) * len(PANELS)
    shapes = []
    for number, (row, colour) in enumerate(zip(table, COLOURS, strict=True)):
        y = TOP + STEP * number
        name = next(iter(row.values())).replace("`", "")
        shapes += [
            svg.rect(20, y + 5, 10, 18, fill=colour, radius=2),
            svg.text(38, y + 18, name, size=12),
        ]
    for number, (column, what, better) in enumerate(PANELS):
        x = LEFT + (PANEL + GAP) * number
        shapes += [
            svg.text(x, 30, what, bold=True, size=12.5),
            svg.text(x, 48, better, size=11, fill=svg.FAINT),
            svg.path(f"M{svg.number(x)} {svg.number(TOP - 8)} V{svg.number(bottom)}"),
        ]
        amounts = [_amount(row[column]) for row in table]
        for place, (row, amount, colour) in enumerate(zip(table, amounts, COLOURS, strict=True)):
            y = TOP + STEP * place
            length = PANEL * 0.8 * amount / max(amounts)
            shapes += [
                svg.rect(x, y + 3, length, 22, fill=colour, radius=2),
                svg.text(x + length + 6, y + 19, row[column] or "0", size=12, mono=True),
            ]
    title = "An aiohttp application at full load: requests per second, p99, and what telemetry takes."
    return svg.picture(width, bottom + 16, title, shapes)


def _amount(cell: str) -> float:
    """Return the number in a cell; without one there is nothing."""
    found = re.match(r"[\d.]+", cell)
    return float(found[0]) if found else 0.0
