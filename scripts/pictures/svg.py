"""Shapes and text as SVG. Colours suit a light page and a dark one: every picture brings its own paper."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Where the pictures are.
PICTURES: Final = Path(__file__).parents[2] / "docs" / "pictures"

PAPER, INK, FAINT, LINE = "#ffffff", "#1f2430", "#6b7280", "#9aa3b2"

_FONT = "font-family=\"-apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif\""
_MONO = "font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\""


def number(value: float) -> str:
    """Write a coordinate: a tenth of a pixel is as fine as anybody sees."""
    return f"{value:.1f}".removesuffix(".0")


def rect(
    x: float,
    y: float,
    width: float,
    height: float,
    *,
    fill: str = "none",
    stroke: str = "none",
    radius: float = 4,
) -> str:
    """Draw a box."""
    return (
        f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
        f' rx="{number(radius)}" fill="{fill}" stroke="{stroke}"/>'
    )


def text(
    x: float,
    y: float,
    words: str,
    *,
    size: float = 13,
    fill: str = INK,
    anchor: str = "start",
    bold: bool = False,
    mono: bool = False,
) -> str:
    """Write one line; ``y`` is its baseline."""
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{number(x)}" y="{number(y)}" font-size="{number(size)}" fill="{fill}"'
        f' text-anchor="{anchor}"{weight}{" " + _MONO if mono else ""}>{escape(words, quote=False)}</text>'
    )


def path(
    points: str, *, stroke: str = LINE, width: float = 1.2, arrow: bool = False, fill: str = "none"
) -> str:
    """Draw a path, with an arrow head at its end if that is wanted."""
    head = ' marker-end="url(#head)"' if arrow else ""
    return f'<path d="{points}" fill="{fill}" stroke="{stroke}" stroke-width="{number(width)}"{head}/>'


def picture(width: float, height: float, title: str, shapes: Iterable[str]) -> str:
    """Put shapes on paper.

    Args:
        width: In pixels.
        height: In pixels.
        title: What a reader hears who does not see it.
        shapes: In the order in which they are drawn.
    """
    size = f"{number(width)} {number(height)}"
    sides = f'width="{number(width)}" height="{number(height)}"'
    marker = 'viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" {sides} role="img" {_FONT}>',
        f"<title>{escape(title, quote=False)}</title>",
        f'<defs><marker id="head" {marker}><path d="M0 0 L8 4 L0 8 z" fill="{LINE}"/></marker></defs>',
        rect(0, 0, width, height, fill=PAPER, radius=0),
        *shapes,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
