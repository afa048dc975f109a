"""Dashboards, from series that a real Prometheus scraped; two of them from the demonstration's shop.

Grafana draws them better. This reads the same JSON, asks Prometheus the same queries and draws the answers,
panel by panel in the dashboard's own grid. Needed: ``prometheus`` on the PATH, and two and a half minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from examples.shop.screen import Screen
from examples.shop.stage import Options, Stage, free_port
from examples.shop.witness import OperatorsLog
from scripts.pictures import svg

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

ROOT: Final = Path(__file__).parents[2]
DASHBOARDS: Final = ROOT / "monitoring" / "grafana"

#: Those that are drawn of the shop.
NAMES: Final = ("application", "telemetry")

#: Requests per second; seconds of the run, and when the collector dies and is back.
RATE, SECONDS, DIES, BACK = 40.0, 150.0, 75.0, 95.0

#: What is shown: the last so many seconds, one point every so many, rates over so many.
RANGE, STEP, WINDOW = 120, 2, 30

CAPTION: Final = (
    f"Drawn by a script, not by Grafana, from {RANGE} s of the demonstration's shop in a real Prometheus. "
    f"The collector was dead for {BACK - DIES:.0f} s."
)

#: How often a row that is repeated for each operation or counter is drawn.
REPEATS: Final = 2

#: Pixels of a column and of a row of the grid.
COLUMN, ROW, HEAD = 50.0, 27.0, 66.0
COLOURS: Final = ("#3b6fc4", "#c27a1a", "#3a8f55", "#c2453a", "#8a52b5", "#2a9d9d", "#a5851f", "#d4679c")
WORST: Final = 8

Series = tuple[str, list[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A Prometheus that runs, and the end of the range that it is asked for."""

    url: str
    end: float

    def ask(self, path: str, **arguments: object) -> Any:
        """Ask its HTTP interface."""
        query = urllib.parse.urlencode(arguments)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}") as answer:  # noqa: S310  # our own
            return json.load(answer)["data"]

    def names(self) -> list[str]:
        """Return the names of all metrics."""
        return list(self.ask("label/__name__/values"))

    def lines(self, query: str) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """Return what a query gives over the range."""
        found = self.ask("query_range", query=query, start=self.end - RANGE, end=self.end, step=STEP)
        return [
            (one["metric"], [(float(at), float(value)) for at, value in one["values"] if value != "NaN"])
            for one in found["result"]
        ]

    def now(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Return what a query gives at the end of the range."""
        found = self.ask("query", query=query, time=self.end)
        return [(one["metric"], float(one["value"][1])) for one in found["result"]]


def make() -> dict[Path, str]:
    """Run the shop under a Prometheus, and draw its dashboards."""
    with tempfile.TemporaryDirectory(prefix="prometheus-") as directory:
        return asyncio.run(_run(Path(directory)))


async def _run(directory: Path) -> dict[Path, str]:
    metrics = free_port()
    async with watching(directory, metrics, "shop") as prometheus_of:
        await _open_the_shop(metrics, directory)
        return await asyncio.to_thread(_draw_all, prometheus_of())


@contextlib.asynccontextmanager
async def watching(directory: Path, port: int, job: str) -> AsyncIterator[Callable[[], Prometheus]]:
    """Run a Prometheus that scrapes a port every second; give what asks it about the time until now."""
    own = free_port()
    (directory / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s}\n"
        "scrape_configs:\n"
        f"  - job_name: {job}\n"
        f'    static_configs: [{{targets: ["127.0.0.1:{port}"], labels: {{instance: {job}-1}}}}]\n',
        encoding="utf-8",
    )
    command = [
        "prometheus",
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{own}",
        "--log.level=error",
    ]
    server = subprocess.Popen(command)  # noqa: ASYNC220, S603  # our own arguments; it ends with us
    try:
        yield lambda: Prometheus(f"http://127.0.0.1:{own}", time.time() - 2)
    finally:
        server.terminate()
        server.wait()


async def _open_the_shop(port: int, directory: Path) -> None:
    with (directory / "screen").open("w", encoding="utf-8") as nowhere:
        screen = Screen(Console(file=nowhere, width=100))
        stage = Stage(Options(metrics_port=port, rate=RATE), screen, OperatorsLog(), directory)
        try:
            await stage.open()
            await asyncio.sleep(DIES)
            await asyncio.to_thread(stage.receiver.stop)
            await asyncio.sleep(BACK - DIES)
            stage.receiver.start()
            await asyncio.sleep(SECONDS - BACK)
        finally:
            await stage.close()


def _draw_all(prometheus: Prometheus) -> dict[Path, str]:
    return dict(draw(name, prometheus, CAPTION, "the demonstration's shop") for name in NAMES)


def draw(name: str, prometheus: Prometheus, caption: str, of: str) -> tuple[Path, str]:
    """Draw a dashboard in its own grid; give the file and what is in it."""
    dashboard = json.loads((DASHBOARDS / f"{name}.json").read_text(encoding="utf-8"))
    shapes: list[str] = []
    y = HEAD
    for row, panels in _rows(dashboard, prometheus):
        shapes.append(svg.text(14, y + 18, f"▾ {row}", bold=True, size=14))
        y += ROW
        top = min((panel["gridPos"]["y"] for panel, _ in panels), default=0)
        for panel, names in panels:
            place = panel["gridPos"]
            box = (
                place["x"] * COLUMN + 6,
                y + (place["y"] - top) * ROW,
                place["w"] * COLUMN - 6,
                place["h"] * ROW - 6,
            )
            shapes += _panel(panel, box, prometheus, names)
        y += max((p["gridPos"]["y"] - top + p["gridPos"]["h"] for p, _ in panels), default=0) * ROW
    shapes.append(svg.text(14, 26, dashboard["title"], bold=True, size=17))
    shapes.append(svg.text(14, 48, caption, size=12, fill=svg.FAINT))
    title = f"The dashboard {dashboard['title']}, drawn from a run of {of}."
    return svg.PICTURES / f"dashboard-{name}.svg", svg.picture(24 * COLUMN + 12, y + 10, title, shapes)


def _rows(
    dashboard: dict[str, Any], prometheus: Prometheus
) -> list[tuple[str, list[tuple[dict[str, Any], dict[str, str]]]]]:
    """Return the rows with their panels; a repeated row for the first values of its variable."""
    rows: list[tuple[str, str | None, list[dict[str, Any]]]] = []
    for panel in sorted(dashboard["panels"], key=lambda p: (p["gridPos"]["y"], p["gridPos"]["x"])):
        if panel["type"] == "row":
            rows.append((panel["title"], panel.get("repeat"), [*panel.get("panels", [])]))
        else:
            rows[-1][2].append(panel)
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    expanded = []
    for title, repeat, panels in rows:
        if repeat is None:
            expanded.append((title, [(panel, {}) for panel in panels]))
            continue
        for value in _values(variables[repeat], prometheus)[:REPEATS]:
            names = {repeat: value}
            expanded.append((_fill(title, names), [(panel, names) for panel in panels]))
    return expanded


def _values(variable: dict[str, Any], prometheus: Prometheus) -> list[str]:
    wanted = re.fullmatch(r"metrics\((.*)\)", variable["definition"])
    assert wanted is not None  # noqa: S101  # the only kind that rows are repeated for
    pattern = re.compile(variable["regex"].strip("/"))
    found = {
        match[1]
        for name in prometheus.names()
        if re.fullmatch(wanted[1], name) and (match := pattern.search(name))
    }
    # What an application calls its operations comes before their endings.
    return sorted(
        found, key=lambda name: (name.endswith(("_success", "_error")), name != "shop_checkout", name)
    )


def _fill(text: str, names: dict[str, str]) -> str:
    known = {**names, "job": ".*", "instance": ".*", "exporter": ".*", "server": ".*"}
    known |= {"__rate_interval": f"{WINDOW}s", "__range": f"{RANGE}s"}
    return re.sub(r"\$\{?(\w+)\}?", lambda match: known.get(match[1], match[0]), text)


def _panel(
    panel: dict[str, Any],
    box: tuple[float, float, float, float],
    prometheus: Prometheus,
    names: dict[str, str],
) -> list[str]:
    x, y, width, height = box
    shapes = [
        svg.rect(x, y, width, height, fill="#fbfcfe", stroke="#d5dae3"),
        svg.text(
            x + 10,
            y + 18,
            panel["title"],
            bold=True,
            size=min(12, (width - 16) / 6.9 / len(panel["title"]) * 12),
        ),
    ]
    unit = panel["fieldConfig"]["defaults"].get("unit", "short")
    queries = [(_fill(one["expr"], names), one.get("legendFormat", "")) for one in panel["targets"]]
    if panel["type"] == "timeseries":
        series = [
            (_legend(legend, labels), points)
            for query, legend in queries
            for labels, points in prometheus.lines(query)
            if points
        ]
        return shapes + _curves(series, (x + 8, y + 26, width - 16, height - 34), unit, prometheus.end)
    found = [(labels, value) for query, _ in queries for labels, value in prometheus.now(query)]
    if panel["type"] == "stat":
        shown = _number(found[0][1], unit) if found else "no data"
        return [
            *shapes,
            svg.text(x + width / 2, y + height / 2 + 22, shown, anchor="middle", size=38, bold=True),
        ]
    lines = [
        f"{labels.get('exporter', '')}  {labels.get('state', labels.get('metric', ''))}"
        for labels, _ in found
    ]
    for number, line in enumerate(lines[:8] or ["none"]):
        shapes.append(svg.text(x + 14, y + 44 + 19 * number, line, size=12, mono=True))
    return shapes


def _legend(template: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: labels.get(match[1], ""), template)


def _curves(series: list[Series], box: tuple[float, float, float, float], unit: str, end: float) -> list[str]:
    """Draw lines over time, with a scale and a legend."""
    x, y, width, height = box
    if not series:
        return [svg.text(x + width / 2, y + height / 2, "no data", anchor="middle", fill=svg.FAINT)]
    series = sorted(series, key=lambda one: -max(value for _, value in one[1]))
    shown, more = series[:WORST], len(series) - WORST
    columns = 1 if width < 420 else 2
    legend_rows = min(4, -(-len(shown) // columns))
    fitting = legend_rows * columns
    plot_height = height - 14 - 15 * legend_rows - 6
    left, plot_width = x + 46, width - 50
    top = max(max(value for _, value in points) for _, points in series) or 1.0
    top = _round_up(top / 1024) * 1024 if unit == "bytes" and top >= 1024 else _round_up(top)
    shapes = []
    for part in range(3):
        level = y + plot_height * (1 - part / 2) + 4
        shapes.append(
            svg.path(
                f"M{svg.number(left)} {svg.number(level)} h{svg.number(plot_width)}",
                stroke="#e3e7ee",
                width=1,
            )
        )
        label = _number(top * part / 2, unit)
        shapes.append(svg.text(left - 5, level + 4, label, size=10, fill=svg.FAINT, anchor="end"))
    for number, (_, points) in enumerate(shown):
        drawn = " ".join(
            f"{svg.number(left + plot_width * (1 - (end - at) / RANGE))},"
            f"{svg.number(y + 4 + plot_height * (1 - value / top))}"
            for at, value in points
        )
        colour = COLOURS[number % len(COLOURS)]
        shapes.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
    below = y + plot_height + 22
    letters = int((width / columns - 20) / 6.1)
    for number, (name, _) in enumerate(shown[:fitting]):
        column, row = number % columns, number // columns
        lx, ly = x + 4 + column * width / columns, below + 15 * row
        if number == fitting - 1 and more + len(shown) - fitting > 0:
            name = f"{name}, and {more + len(shown) - fitting} more" if more > 0 else name  # noqa: PLW2901
        if len(name) > letters:
            name = name[: letters - 1] + "…"  # noqa: PLW2901
        shapes.append(svg.rect(lx, ly - 7, 10, 4, fill=COLOURS[number % len(COLOURS)], radius=1))
        shapes.append(svg.text(lx + 15, ly, name, size=11))
    return shapes


def _round_up(value: float) -> float:
    """Return the next number that makes a scale easy to read."""
    power = 10.0 ** len(str(int(value))) / 10 if value >= 1 else 1.0
    while value < power:
        power /= 10
    return next(power * step for step in (1, 2, 4, 5, 8, 10) if value <= power * step * 1.0001)


def _number(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s" and value and value < 1:
        return f"{value * 1000:.3g} ms"
    if unit == "bytes" and value >= 1024:
        return f"{value / 1024:.3g} KiB"
    words = f"{value:,.0f}".replace(",", " ") if value >= 1000 else f"{value:.3g}"
    return words + {"s": " s", "bytes": " B"}.get(unit, "")
