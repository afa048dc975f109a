"""The layers of configuration: where the value in force comes from."""

from __future__ import annotations

from typing import Final

from scripts.pictures import svg

PAGE: Final = svg.PICTURES / "layers.svg"

#: From weakest to strongest: what sets a value, and an example.
LAYERS: Final = (
    ("default", "of the settings model", "sampling_rate = 1.0"),
    ("standard environment variables", "OTEL_..., PROMETHEUS_MULTIPROC_DIR", "OTEL_TRACES_SAMPLER_ARG=0.5"),
    ("TELEMETRY_<KEY>", "for every exporter", "TELEMETRY_BATCH_SIZE=500"),
    ("TELEMETRY_<SECTION>_<KEY>", "for one exporter", "TELEMETRY_OTEL_SAMPLING_RATE=0.2"),
    ("otpylib-config", "config.toml, Config.put", "[telemetry.otel] sampling_rate = 0.1"),
    ("start argument", "of child_spec or a start function", '{"sampling_rate": 0.05}'),
    (
        "a change while it runs",
        "file saved, Config.put, config_changed",
        "outlives a restart of the exporter",
    ),
)

WIDTH, STEP, TOP = 980.0, 52.0, 76.0


def draw() -> str:
    """Return the picture."""
    count = len(LAYERS)
    shapes = [
        svg.text(20, 28, "Of several values for one key, the highest one is in force.", bold=True, size=14),
        svg.text(
            20, 48, "A value that is refused is left out: the next one below it counts.", fill=svg.FAINT
        ),
    ]
    for number, (name, what, example) in enumerate(LAYERS):
        y = TOP + (count - 1 - number) * STEP
        shade = 252 - 9 * number
        shapes += [
            svg.rect(76, y, 560, STEP - 8, fill=f"rgb({shade - 24},{shade - 12},253)", stroke="#3b6fc4"),
            svg.text(90, y + 19, name, bold=True),
            svg.text(90, y + 36, what, size=12, fill=svg.FAINT),
            svg.text(652, y + 27, example, size=12, mono=True),
        ]
    bottom = TOP + count * STEP - 8
    shapes += [
        svg.path(f"M44 {svg.number(bottom)} V{svg.number(TOP)}", width=2, arrow=True),
        svg.text(20, TOP - 2, "strongest", size=11, fill=svg.FAINT),
        svg.text(20, bottom + 14, "weakest", size=11, fill=svg.FAINT),
    ]
    title = "The layers of configuration, from the default up to a change made while the application runs."
    return svg.picture(WIDTH, bottom + 26, title, shapes)
