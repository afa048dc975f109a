"""The life of an event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scripts.pictures import svg

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = svg.PICTURES / "event.svg"

WIDTH, HEIGHT = 940.0, 545.0
TASK: Final = ("#eef4ff", "#3b6fc4")
KEPT: Final = ("#fff8dc", "#a5851f")
PROCESS: Final = ("#eef8f0", "#3a8f55")
AWAY: Final = ("#f3f4f6", "#6b7280")


def _box(
    x: float, y: float, width: float, lines: tuple[str, ...], colours: tuple[str, str], height: float = 0
) -> Iterator[str]:
    fill, stroke = colours
    tall = height or 24 + 17 * len(lines)
    yield svg.rect(x, y, width, tall, fill=fill, stroke=stroke, radius=6)
    for number, line in enumerate(lines):
        first = number == 0
        yield svg.text(
            x + 12,
            y + 22 + 17 * number,
            line,
            bold=first,
            size=13 if first else 12,
            fill=svg.INK if first else svg.FAINT,
        )


def _arrow(points: str) -> str:
    return svg.path(points, width=1.8, arrow=True)


def draw() -> str:
    """Return the picture."""
    shapes = [
        svg.text(20, 30, "In the caller's task", bold=True, fill=TASK[1]),
        *_box(20, 44, 218, ("execute, emit, span", "name, measurements, metadata"), TASK),
        _arrow("M238 73 H266"),
        *_box(268, 44, 210, ("handler table", "one look-up by the name"), TASK),
        _arrow("M478 73 H514"),
        *_box(516, 44, 236, ("other handlers", "called at once, or by the manager"), TASK),
        _arrow("M372 102 V148"),
        svg.text(382, 130, "one append for each exporter", fill=svg.FAINT, size=12),
        svg.text(20, 172, "Kept under the exporter's name", bold=True, fill=KEPT[1]),
        *_box(268, 150, 210, ("queue", "bounded by queue_limit"), KEPT),
        _arrow("M478 179 H514"),
        *_box(516, 150, 236, ("dropped", "queue_full, counted by reason"), AWAY),
        svg.text(20, 192, "It outlives every process.", fill=svg.FAINT, size=12),
        _arrow("M372 208 V254"),
        svg.text(382, 236, "one wake-up for each batch", fill=svg.FAINT, size=12),
        svg.text(20, 278, "In the exporter's process", bold=True, fill=PROCESS[1]),
        svg.text(20, 298, "Slices of two milliseconds.", fill=svg.FAINT, size=12),
        *_box(268, 256, 210, ("collect", "every event is counted once"), PROCESS),
        _arrow("M320 314 C320 345 150 335 150 366"),
        *_box(20, 368, 264, ("spans, log records", "assembled, sampled, one lane for each"), PROCESS),
        _arrow("M426 314 C426 345 640 335 640 366"),
        *_box(516, 368, 252, ("series", "added up by labels"), PROCESS),
        _arrow("M478 285 H514"),
        *_box(516, 256, 236, ("rejected, sampled out", "or of no use: all are counted"), AWAY),
        _arrow("M150 426 C150 446 330 440 330 464"),
        _arrow("M560 426 C560 446 420 440 420 464"),
        svg.text(520, 455, "read every metrics_interval", fill=svg.FAINT, size=12),
        *_box(268, 466, 236, ("send", "batches, breaker, retries, time limit"), PROCESS),
        _arrow("M268 495 H234"),
        *_box(20, 466, 212, ("OTLP", "gRPC or HTTP"), AWAY),
        _arrow("M730 426 V464"),
        *_box(640, 466, 186, ("page", "made when it is scraped"), AWAY),
        *_equation(),
    ]
    title = "The life of an event: from the caller's task through the queue and the exporter's process."
    return svg.picture(WIDTH, HEIGHT, title, shapes)


def _equation() -> Iterator[str]:
    yield svg.text(800, 62, "At every moment", bold=True, fill=svg.INK)
    terms = (
        "accepted =",
        "  exported",
        "+ rejected",
        "+ dropped",
        "+ sampled_out",
        "+ queued",
        "+ in_flight",
    )
    for number, term in enumerate(terms):
        yield svg.text(800, 86 + 20 * number, term.replace(" ", "\u00a0"), mono=True, size=13)
