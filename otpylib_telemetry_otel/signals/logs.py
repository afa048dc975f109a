"""The signal "logs" of one exporter: log records of events that are part of no span, or not of one alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.instrument.log_events import LOG_EVENT
from otpylib_telemetry.scrubbing.settings import SCRUB_KEYS
from otpylib_telemetry_otel.log_records.events import LogMaker
from otpylib_telemetry_otel.log_records.severity import SEVERITIES
from otpylib_telemetry_otel.settings.limits import LOG_LIMITS
from otpylib_telemetry_otel.signals.base import Batch, Signal
from otpylib_telemetry_otel.signals.scrubbing import scrub_record

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Container, Mapping

    from otpylib_telemetry.bus.event_log import Entry
    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry.scrubbing.scrubber import Scrubber
    from otpylib_telemetry.tracing.operation import Place
    from otpylib_telemetry_otel.settings.model import OtelSettings
    from otpylib_telemetry_otel.traces.spans import FinishedSpan


#: Key into the counts that survive the exporter.
_MADE: Final = "log_records"


class _Everything:
    """Contains all there is."""

    def __contains__(self, item: object) -> bool:
        return True


_RECORDS: Final = frozenset({LOG_EVENT})
_EVERYTHING: Final = _Everything()


class Logs(Signal):
    """Makes log records of events and sends them."""

    name = "logs"
    lane = "logs"
    in_place = frozenset({"log_patterns", "log_severity", "span_events", *LOG_LIMITS, *SCRUB_KEYS})

    def __init__(self, exporter: Exporter[OtelSettings], counts: Counter[str]) -> None:
        super().__init__(exporter, counts)
        settings = exporter.settings
        self._maker = _maker(settings, self._scrubber)
        # Where there are no spans to be sent, what happens during one would be lost with it.
        self._apart: Container[str] = _RECORDS if settings.sends("traces") else _EVERYTHING

    def apart(self) -> Container[str]:
        """Return the names of the events that are not put on spans."""
        return self._apart if self.taken else ()

    def span_events(self) -> str:
        """Return what becomes of events during an operation: without log records, events of spans."""
        return self._settings.span_events if self.taken else "event"

    async def apply(self, settings: OtelSettings, changed: frozenset[str]) -> None:
        """Take patterns and severity into use."""
        await super().apply(settings, changed)
        if changed & self.in_place:
            self._maker = _maker(settings, self._scrubber)

    def collect(self, batch: Batch) -> None:
        """Make log records of events that are part of no span."""
        if not self.taken or not batch.others:
            return
        collected = batch.collected
        left: list[tuple[Entry, FinishedSpan | Place | None]] = []
        make, wall_offset_ns = self._maker.make, batch.wall_offset_ns
        for other in batch.others:
            try:
                item = make(other[0], wall_offset_ns, other[1])
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - whatever is in an event, it costs that event only
                collected.rejected += 1
                continue
            if item is None:
                left.append(other)
            else:
                collected.items.append((item, 1))
                self._counts[_MADE] += 1
        batch.unused -= len(batch.others) - len(left)
        batch.others = left

    def stats(self) -> Mapping[str, Any]:
        """Return how many log records were made, and why none are any more; nothing if none ever were."""
        told: dict[str, Any] = {}
        if self._counts[_MADE]:
            told["records"] = self._counts[_MADE]
        if self._off is not None:
            told["off"] = self._off
        return {"logs": told} if told else {}


def _maker(settings: OtelSettings, scrubber: Scrubber | None) -> LogMaker:
    scrub = None if scrubber is None else partial(scrub_record, scrubber=scrubber)
    minimum = SEVERITIES[settings.log_severity]
    return LogMaker(settings.log_patterns, minimum, settings.log_limit(), scrub)
