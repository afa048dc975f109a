"""The packages and their folders, drawn from the imports themselves.

An arrow leads from a folder to one that it imports from. It is left out where a longer way says the same.
A box stands one row above the highest one that it imports from, so all arrows point down.
"""

from __future__ import annotations

import ast
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scripts.pictures import svg

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).parents[2]
CORE: Final = "otpylib_telemetry"
EXPORTERS: Final = ("otpylib_telemetry_otel", "otpylib_telemetry_prometheus", "otpylib_telemetry_mock")
PAGE: Final = svg.PICTURES / "house.svg"

COLOURS: Final = {
    CORE: ("#eef4ff", "#3b6fc4"),
    "otpylib_telemetry_otel": ("#fdf3e7", "#c27a1a"),
    "otpylib_telemetry_prometheus": ("#fdeeee", "#c2453a"),
    "otpylib_telemetry_mock": ("#eef8f0", "#3a8f55"),
}

CAPTION: Final = (
    "Every box is a folder, or a file beside the folders.",
    "An arrow leads to what it imports from.",
    "An arrow is left out where a longer way says the same.",
    "So every arrow points down.",
)

BOX_HEIGHT, ROW_HEIGHT, GAP, MARGIN, HEAD = 26.0, 54.0, 12.0, 18.0, 34.0
#: How wide a letter is, and how wide the way of an arrow that passes a row.
LETTER, PASSAGE = 7.9, 8.0


def parts_of(package: str, root: Path = ROOT) -> dict[str, set[str]]:
    """Return the parts of a package, folders and files, each with those that it imports from."""
    graph: dict[str, set[str]] = {}
    for file in sorted((root / package).rglob("*.py")):
        own = file.relative_to(root / package).parts[0].removesuffix(".py")
        if own != "__init__":
            graph.setdefault(own, set()).update(_imported(file, package))
    return {part: {other for other in others if other in graph} - {part} for part, others in graph.items()}


def _imported(file: Path, package: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == package and len(parts) > 1:
                yield parts[1]


def needed_arrows(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Leave out every arrow where a longer way leads to the same part."""
    below: dict[str, set[str]] = {}

    def reach(part: str) -> set[str]:
        if part not in below:
            below[part] = set().union(*({other} | reach(other) for other in graph[part]))
        return below[part]

    return {
        part: {other for other in others if not any(other in reach(third) for third in others)}
        for part, others in graph.items()
    }


def rows_of(graph: Mapping[str, set[str]]) -> dict[str, int]:
    """Return the row of every part, 0 at the bottom: one above the highest of those that it imports from."""
    rows: dict[str, int] = {}

    def row(part: str) -> int:
        if part not in rows:
            rows[part] = 1 + max((row(other) for other in graph[part]), default=-1)
        return rows[part]

    for part in graph:
        row(part)
    return rows


class Plan:
    """Where the boxes of one package stand.

    Args:
        graph: The parts of the package.
    """

    def __init__(self, graph: Mapping[str, set[str]]) -> None:
        arrows = needed_arrows(graph)
        row = rows_of(graph)
        self.rows: list[list[str]] = [[] for _ in range(max(row.values()) + 1)]
        #: The ways of the arrows: the boxes at both ends, and a passage in every row between.
        self.ways: list[list[str]] = []
        self.at: dict[str, float] = {}
        self._beside: dict[str, list[str]] = {}
        for part in sorted(graph):
            self.rows[row[part]].append(part)
        for part in sorted(graph):
            for other in sorted(arrows[part]):
                passages = [f"{part}>{other}>{between}" for between in range(row[part] - 1, row[other], -1)]
                for passage, between in zip(passages, range(row[part] - 1, row[other], -1), strict=True):
                    self.rows[between].append(passage)
                way = [part, *passages, other]
                self.ways.append(way)
                for one, next_one in pairwise(way):
                    self._beside.setdefault(one, []).append(next_one)
                    self._beside.setdefault(next_one, []).append(one)
        self._order()
        self._place()

    def width_of(self, box: str) -> float:
        """Return how much room a box takes in its row."""
        return PASSAGE if ">" in box else len(box) * LETTER + 18

    def _order(self) -> None:
        """Sort each row by where its neighbours stand, up and down a few times: few arrows cross then."""
        place = {box: float(index) for row in self.rows for index, box in enumerate(row)}
        for turn in range(24):
            for row in self.rows if turn % 2 else reversed(self.rows):
                centres = {
                    box: sum(place[other] for other in self._beside.get(box, [box]))
                    / len(self._beside.get(box, [box]))
                    for box in row
                }
                row.sort(key=lambda box: (centres[box], box))
                place.update({box: index - len(row) / 2 for index, box in enumerate(row)})

    def _place(self) -> None:
        """Set every box below and above its neighbours as far as the boxes beside it allow."""
        for row in self.rows:
            self._spread(row, [0.0] * len(row))
        for turn in range(60):
            for row in self.rows if turn % 2 else reversed(self.rows):
                wanted = []
                for box in row:
                    others = self._beside.get(box, [box])
                    wanted.append(sum(self.at[other] for other in others) / len(others))
                self._spread(row, wanted)
        left = min(self.at[box] - self.width_of(box) / 2 for box in self.at)
        for box in self.at:
            self.at[box] -= left
        self.width = max(self.at[box] + self.width_of(box) / 2 for box in self.at)
        self.height = (len(self.rows) - 1) * ROW_HEIGHT + BOX_HEIGHT

    def _spread(self, row: list[str], wanted: list[float]) -> None:
        """Place a row's boxes where they want to be, in order and apart from each other."""
        groups: list[tuple[float, list[str]]] = []
        for box, centre in zip(row, wanted, strict=True):
            groups.append((centre, [box]))
            while len(groups) > 1 and self._overlap(groups[-2], groups[-1]):
                (one, first), (other, second) = groups[-2:]
                both = first + second
                middle = (one * len(first) + other * len(second)) / len(both)
                groups[-2:] = [(middle, both)]
        for centre, boxes in groups:
            x = centre - self._length(boxes) / 2
            for box in boxes:
                self.at[box] = x + self.width_of(box) / 2
                x += self.width_of(box) + GAP

    def _length(self, boxes: list[str]) -> float:
        return sum(map(self.width_of, boxes)) + GAP * (len(boxes) - 1)

    def _overlap(self, left: tuple[float, list[str]], right: tuple[float, list[str]]) -> bool:
        return left[0] + self._length(left[1]) / 2 + GAP > right[0] - self._length(right[1]) / 2

    def draw(self, x: float, y: float, stroke: str) -> Iterator[str]:
        """Draw arrows and boxes; ``x`` and ``y`` are the upper left corner."""
        top = {
            box: y + (len(self.rows) - 1 - index) * ROW_HEIGHT
            for index, row in enumerate(self.rows)
            for box in row
        }
        for way in self.ways:
            points = []
            for upper, lower in pairwise(way):
                x1, y1 = x + self.at[upper], top[upper] + BOX_HEIGHT
                x2, y2 = x + self.at[lower], top[lower] - (2 if ">" not in lower else 0)
                middle = (y1 + y2) / 2
                if not points:
                    points.append(f"M{svg.number(x1)} {svg.number(y1)}")
                points.append(
                    f"C{svg.number(x1)} {svg.number(middle)} {svg.number(x2)} {svg.number(middle)}"
                    f" {svg.number(x2)} {svg.number(y2)}"
                )
                if ">" in lower:
                    points.append(f"V{svg.number(top[lower] + BOX_HEIGHT)}")
            yield svg.path(" ".join(points), arrow=True)
        for row in self.rows:
            for box in row:
                if ">" not in box:
                    width = self.width_of(box)
                    left = x + self.at[box] - width / 2
                    yield svg.rect(left, top[box], width, BOX_HEIGHT, fill="#ffffff", stroke=stroke)
                    yield svg.text(x + self.at[box], top[box] + 17.5, box, anchor="middle", mono=True)


def draw(root: Path = ROOT) -> str:
    """Return the picture."""
    core = Plan(parts_of(CORE, root))
    plans = [Plan(parts_of(package, root)) for package in EXPORTERS]
    inner = sum(plan.width + 2 * MARGIN for plan in plans) + 2 * MARGIN
    width = max(inner, core.width + 2 * MARGIN) + 2 * MARGIN
    spare = (width - 2 * MARGIN - sum(plan.width + 2 * MARGIN for plan in plans)) / (len(plans) - 1)
    upper = max(plan.height for plan in plans) + HEAD + MARGIN
    shapes: list[str] = []
    x = MARGIN
    floor = MARGIN + upper + 40
    for package, plan in zip(EXPORTERS, plans, strict=True):
        fill, stroke = COLOURS[package]
        height = plan.height + HEAD + MARGIN
        y = MARGIN + upper - height
        shapes.append(svg.rect(x, y, plan.width + 2 * MARGIN, height, fill=fill, stroke=stroke, radius=8))
        shapes.append(svg.text(x + 10, y + 21, package, bold=True, fill=stroke, mono=True))
        shapes += plan.draw(x + MARGIN, y + HEAD, stroke)
        middle = svg.number(x + plan.width / 2 + MARGIN)
        shapes.append(
            svg.path(
                f"M{middle} {svg.number(MARGIN + upper)} V{svg.number(floor - 2)}", width=2.4, arrow=True
            )
        )
        x += plan.width + 2 * MARGIN + spare
    fill, stroke = COLOURS[CORE]
    height = core.height + HEAD + MARGIN
    shapes.append(svg.rect(MARGIN, floor, width - 2 * MARGIN, height, fill=fill, stroke=stroke, radius=8))
    shapes.append(svg.text(MARGIN + 10, floor + 21, CORE, bold=True, fill=stroke, mono=True))
    shapes += core.draw((width - core.width) / 2, floor + HEAD, stroke)
    shapes += [
        svg.text(MARGIN + 14, floor + 62 + 19 * line, words, fill=svg.FAINT)
        for line, words in enumerate(CAPTION)
    ]
    title = "The folders of the four packages. Arrows lead from a folder to those that it imports from: down."
    return svg.picture(width, floor + height + MARGIN, title, shapes)
