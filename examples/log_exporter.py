"""A third-party exporter of log records: Python's logging, and OpenTelemetry's logs API, as lines of logfmt.

What an exporter is given are events. One that tells of a log record brings it along, in the fields of
OpenTelemetry's data model and with nothing in it that could not be sent.
"""

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry import (
    Event,
    Exporter,
    ExporterSettings,
    execute,
    exporter_module,
    run_in_thread,
    span,
    start_exporter,
)
from otpylib_telemetry.instrument.log_record import LogRecord, record_in
from otpylib_telemetry.instrument.logging import install


def as_line(record: LogRecord) -> str:
    """Return a log record as a line of logfmt: ``level=WARNING logger=shop.stock msg="3 left" order=7``."""
    fields = {
        "level": record.severity_text,
        "logger": record.scope[0] if record.scope else "",
        "event": record.event_name,
        "trace": f"{record.trace_id:032x}" if record.trace_id else "",
        "msg": record.body,
        # Where in the code it was made is for other places.
        **{key: value for key, value in record.attributes.items() if not key.startswith("code.")},
    }
    told = {key: value for key, value in fields.items() if value is not None and value != ""}
    return " ".join(f"{key}={as_value(value)}" for key, value in told.items())


def as_value(value: object) -> str:
    """Return text that is a word as it is, and anything else as JSON has it."""
    if isinstance(value, str) and value.replace(".", "").replace("_", "").isalnum():
        return value
    return json.dumps(value, default=repr)


class LogfmtSettings(ExporterSettings):
    """``[telemetry.logfmt]``: what every exporter has, and the file."""

    path: Path = Path("records.log")


class Logfmt(Exporter[LogfmtSettings]):
    """Queue, batches, retries, breaker, reconfiguration and shutdown come with the base class's server."""

    settings_type = LogfmtSettings

    async def export(self, batch: Sequence[Event]) -> None:
        """Write the log records of a batch; any other event is none of this exporter's business."""
        records = [record for event in batch if (record := record_in(event.metadata)) is not None]
        await run_in_thread(self._append, "".join(f"{as_line(record)}\n" for record in records))

    def _append(self, lines: str) -> None:
        with self.settings.path.open("a", encoding="utf-8") as file:
            file.write(lines)


LogfmtExporter = exporter_module(
    "LogfmtExporter", Logfmt, name="logfmt_exporter", section="telemetry.logfmt", module=__name__
)


async def main() -> None:
    """Start it without a supervision tree, and log; what it has is written before the runtime ends."""
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    await start_exporter(LogfmtExporter)
    install(level=logging.INFO)
    logger = logging.getLogger("shop.stock")
    logger.setLevel(logging.INFO)
    logger.warning("%d packets left", 3, extra={"order": 7})
    logger.info({"tea": 3, "coffee": [1, 2]})
    with span("shop.order", {"correlation_id": "c-1"}):
        logger.error("sold out", exc_info=LookupError("no tea"))
    execute("shop.opened", {}, {"message": "an event, and no log record"})
    await backend.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
    print(Path("records.log").read_text(encoding="utf-8"), end="")
