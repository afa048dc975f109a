"""The terminal: what happened scrolls by, and below it a panel follows the present.

Where the output is no terminal there is no panel: the same text, in order, and nothing else.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from examples.shop import pictures
from examples.shop.load import Summary
from examples.shop.pictures import BAD, BUSY, FAINT, GOOD, HEAD

if TYPE_CHECKING:
    from collections.abc import Iterable

    from examples.shop.claims import Claims
    from examples.shop.witness import LogLine

#: Exit statuses.
FAILED, TOO_BUSY = 1, 3

#: Wider than this, lines are no longer read at a glance.
WIDEST = 120


@dataclass(slots=True)
class Present:
    """What the panel shows."""

    latency: Summary = field(default_factory=lambda: Summary(0, 0.0, 0.0, 0.0, 0.0))
    rates: list[float] = field(default_factory=list)
    p95s: list[float] = field(default_factory=list)
    arriving: list[float] = field(default_factory=list)
    waiting: list[float] = field(default_factory=list)
    breaker: str = "-"
    collector_up: bool = False
    metrics_url: str = "-"
    balanced: bool = True


class Screen:
    """What the demonstration writes to.

    Args:
        console: Where to; by default standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        # The stream by itself: whoever replaces sys.stdout for a moment must not swallow ours.
        self.console = console or Console(file=sys.stdout, highlight=False)
        self.console.width = min(self.console.width, WIDEST)
        self.began = time.monotonic()
        self.present = Present()
        self._title = ""
        self._gap_is_due = True
        self._live: Live | None = None

    @property
    def width(self) -> int:
        """Columns there are."""
        return self.console.width

    def open(self) -> None:
        """Begin to show the present, if this is a terminal."""
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(
                get_renderable=self._panel,
                console=self.console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def close(self) -> None:
        """Leave the terminal as it was."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def refresh(self) -> None:
        """Draw the present anew."""
        if self._live is not None:
            self._live.refresh()

    def headline(self, text: str) -> None:
        """Say what this is."""
        self.console.print(Rule(Text(text, HEAD), align="left", style=FAINT, characters="═"))
        self.gap()

    def step(self, title: str, why: str) -> None:
        """Begin a step.

        Args:
            title: What happens.
            why: What to look for.
        """
        self._title = title
        self.gap()
        self.console.print(Rule(Text(title, HEAD), align="left", style=FAINT))
        self._gap_is_due = True
        if why:
            self.console.print(Text(why, FAINT))
        self.gap()

    def gap(self) -> None:
        """Leave a line empty, unless the last one is."""
        if self._gap_is_due:
            self.console.print()
            self._gap_is_due = False

    def say(self, text: str | Text, at: float | None = None) -> None:
        """Tell one thing that happened, with the time.

        Args:
            text: What.
            at: When, in monotonic seconds; now, if not given.
        """
        when = (time.monotonic() if at is None else at) - self.began
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=7, justify="right", style=FAINT)
        grid.add_column()
        grid.add_row(f"{when:.1f} s", text)
        self.console.print(grid)
        self._gap_is_due = True

    def show(self, *pictures_: RenderableType) -> None:
        """Show pictures."""
        for picture in pictures_:
            self.console.print(picture)
        self._gap_is_due = True
        self.gap()

    def log(self, lines: Iterable[LogLine]) -> None:
        """Show log lines, if there are any."""
        if shown := list(lines):
            self.gap()
            self.show(pictures.log_lines(shown, self.began))

    def verdict(self, claims: Claims, seconds: float) -> int:
        """Say how it ended.

        Args:
            claims: What was claimed.
            seconds: How long it took.

        Returns:
            The exit status: 0 if everything held, 1 if something did not, 3 if the machine was too busy to
            tell.
        """
        for claim in claims.failed:
            self.console.print(Text.assemble(("did not hold: ", BAD), claim.text, f" ({claim.evidence})"))
        for claim in claims.undecided:
            self.console.print(
                Text.assemble(("cannot be told: ", BUSY), claim.text, f" ({claim.evidence}): {claim.waited}")
            )
        if claims.failed:
            return FAILED
        if claims.undecided:
            self.console.print(
                Text("This machine is too busy to tell (exit status 3). Everything else held.", BUSY)
            )
            return TOO_BUSY
        self.console.print(Text(f"Everything held. {seconds:.0f} s.", GOOD))
        return 0

    def _panel(self) -> RenderableType:
        now = self.present
        width = min(60, max(12, self.width - 51))
        grid = Table.grid(padding=(0, 1))
        grid.add_column(style=FAINT, width=9)
        grid.add_column(width=width, no_wrap=True)
        grid.add_column(no_wrap=True)
        grid.add_row(
            "requests",
            Text(pictures.sparkline(now.rates[-width:], width), "bright_blue"),
            f"{now.latency.rate:.0f}/s",
        )
        grid.add_row(
            "latency",
            Text(pictures.sparkline(now.p95s[-width:], width, top=20.0), "cyan"),
            f"p50 {now.latency.p50:.1f}  p95 {now.latency.p95:.1f} ms",
        )
        collector = Text.assemble(
            f"{now.arriving[-1] if now.arriving else 0:.0f}/s to the collector ",
            ("● up", GOOD) if now.collector_up else ("● down", BAD),
        )
        grid.add_row("spans", Text(pictures.sparkline(now.arriving[-width:], width), "green"), collector)
        waiting = Text.assemble(
            f"{pictures.number(now.waiting[-1] if now.waiting else 0)} events, breaker ",
            (now.breaker.replace("_", " "), GOOD if now.breaker == "closed" else BAD),
        )
        grid.add_row(
            "waiting", Text(pictures.sparkline(now.waiting[-width:], width, top=2000.0), "yellow"), waiting
        )
        ledger = Text.assemble(("✓ balanced", GOOD) if now.balanced else ("✗ not balanced", BAD))
        grid.add_row("ledgers", ledger, Text(now.metrics_url, FAINT))
        elapsed = f"{time.monotonic() - self.began:.0f} s"
        return Panel(
            Group(grid),
            title=Text(self._title, HEAD),
            title_align="left",
            subtitle=Text(elapsed, FAINT),
            subtitle_align="right",
            border_style="bright_blue",
            width=self.width,
        )
