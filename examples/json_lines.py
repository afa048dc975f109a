"""A third-party exporter: every event becomes a line of JSON in a file. The exporter is some forty lines."""

import asyncio
import json
from pathlib import Path
from typing import TextIO

from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry import (
    Event,
    Exporter,
    ExporterSettings,
    exporter_module,
    run_in_thread,
    span,
    start_exporter,
)


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

    async def export(self, batch: list[Event]) -> None:
        """Write a batch; raising means that it is sent again."""
        lines = [json.dumps([e.name, e.measurements, e.metadata], default=str) for e in batch]
        await run_in_thread(self.file.write, "\n".join(lines) + "\n")
        await run_in_thread(self.file.flush)

    async def close(self) -> None:
        """Close the file."""
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
    """Start it without a supervision tree, emit three events, and show what arrived in the file."""
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    path = Path("events.jsonl")
    await start_exporter(JsonLinesExporter, {"path": path, "event_patterns": ["shop.*"]})
    with span("shop.checkout", {"basket": 3}) as checkout:
        checkout.metadata["paid"] = True
    await backend.shutdown()  # the exporter writes what it has before it ends
    await asyncio.sleep(0.2)
    print(await run_in_thread(path.read_text), end="")


if __name__ == "__main__":
    asyncio.run(main())
