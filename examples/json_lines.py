"""A third-party exporter: every event becomes a line of JSON in a file. The exporter is some forty lines."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry import (
    Event,
    Exporter,
    ExporterSettings,
    ExportOutcome,
    execute,
    exporter_module,
    run_in_thread,
    start_exporter,
)


def as_line(event: Event) -> str | None:
    """Return an event as a line of JSON, or None: its metadata may be anything."""
    with suppress(Exception):
        return json.dumps([event.name, event.measurements, event.metadata], default=str) + "\n"
    return None


class JsonLinesSettings(ExporterSettings):
    """``[telemetry.json_lines]``: what every exporter has, and the file."""

    path: Path = Path("events.jsonl")


class JsonLines(Exporter[JsonLinesSettings]):
    """Queue, batches, retries, breaker, reconfiguration and shutdown come with the base class's server."""

    settings_type = JsonLinesSettings
    file: TextIO | None = None

    async def open(self) -> None:
        """Open the file; if that fails, the exporter says why, keeps events and tries again."""
        self.file = await run_in_thread(self.settings.path.open, "a", encoding="utf-8")

    async def export(self, batch: Sequence[Event]) -> ExportOutcome:
        """Write a batch; raising means that it is sent again. What JSON cannot say counts as rejected."""
        lines = [line for event in batch if (line := as_line(event)) is not None]
        await run_in_thread(self._write, "".join(lines))
        return ExportOutcome(rejected=len(batch) - len(lines))

    def _write(self, text: str) -> None:
        if self.file is None:
            raise ValueError("the file is not open")
        self.file.write(text)
        self.file.flush()

    async def close(self) -> None:
        """Close the file, if it was ever open."""
        if self.file is not None:
            self.file.close()


JsonLinesExporter = exporter_module(
    "JsonLinesExporter",
    JsonLines,
    name="json_lines_exporter",
    section="telemetry.json_lines",
    module=__name__,
)


async def main() -> None:
    """Start it without a supervision tree, and emit two events; what it has is written before it ends."""
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    await start_exporter(JsonLinesExporter, {"event_patterns": ["shop.*"]})
    execute("shop.orders", {"count": 2}, {"basket": "b-1"})
    execute("shop.stock", {"value": 40})
    execute("warehouse.stock", {"value": 7})  # no pattern of this exporter's matches
    await backend.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
    print(Path("events.jsonl").read_text(encoding="utf-8"), end="")
