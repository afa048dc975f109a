"""The signal "logs" of one exporter: which events it takes, what sends them, and whether it is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.instrument.logging import LOG_EVENT
from otpylib_telemetry.primitives.threads import run_in_thread
from otpylib_telemetry_otel.destinations import build, why_none
from otpylib_telemetry_otel.errors import BackendUnavailableError
from otpylib_telemetry_otel.log_records import SEVERITIES, LogMaker
from otpylib_telemetry_otel.signals.base import Signal

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Container, Iterable, Mapping

    from otpylib_telemetry.bus.events import RawEvent
    from otpylib_telemetry.exporter.base import Collected
    from otpylib_telemetry_otel.settings.model import OtelSettings
    from otpylib_telemetry_otel.traces.spans import FinishedSpan

__all__ = ["IN_PLACE", "Logs"]

#: The keys that need no new connection.
IN_PLACE: Final = frozenset({"log_patterns", "log_severity"})

#: Key into the counts that survive the exporter.
_MADE: Final = "log_records"


class _Everything:
    """Contains all there is."""

    def __contains__(self, item: object) -> bool:
        return True


_RECORDS: Final = frozenset({LOG_EVENT})
_EVERYTHING: Final = _Everything()


class Logs(Signal):
    """Makes log records of events and sends them.

    Args:
        name: The exporter's name.
        settings: The configuration in force.
        counts: Counters that survive the exporter.
    """

    def __init__(self, name: str, settings: OtelSettings, counts: Counter[str]) -> None:
        super().__init__("logs", name, counts, wanted=settings.sends("logs"))
        self._settings = settings
        self._maker = _maker(settings)

    def apart(self) -> Container[str]:
        """Return the names of the events that are not put on spans."""
        if not self.taken:
            return ()
        # Where there are no spans to be sent, what happens during one would be lost with it.
        return _RECORDS if self._settings.sends("traces") else _EVERYTHING

    async def open(self, resource: Mapping[str, Any]) -> None:
        """Build what sends them, if they are wanted and there is anything that does.

        Args:
            resource: The resource attributes.

        Raises:
            BackendUnavailableError: It cannot be built, and there is no other signal that could do without.
        """
        settings = self._settings
        self._off = None
        if not settings.logs:
            return
        reason = await run_in_thread(why_none, settings, "logs")
        if reason is None:
            try:
                self._destination = await run_in_thread(build, settings, "logs", resource)
            except BackendUnavailableError as error:
                if not settings.sends("traces"):
                    raise
                reason = str(error)
            else:
                return
        self._switch_off(reason)

    def apply_options(self, settings: OtelSettings, changed: frozenset[str]) -> None:
        """Take patterns and severity into use.

        Args:
            settings: The settings to come.
            changed: The keys that differ. If logs are among them, a backend that refused them is asked again.
        """
        self._settings = settings
        if changed & IN_PLACE:
            self._maker = _maker(settings)
            if self._destination is not None:
                self._off = None

    def collect(
        self,
        events: Iterable[tuple[RawEvent, FinishedSpan | None]],
        wall_offset_ns: int,
        collected: Collected,
    ) -> list[RawEvent]:
        """Make log records of events that are part of no span.

        Args:
            events: Each with the open span it belongs to, if any.
            wall_offset_ns: What to add to their monotonic times to get nanoseconds since the epoch.
            collected: Where the records, and what cannot be read, are entered.

        Returns:
            The events that have not been entered there: no records are made of them.
        """
        if not self.taken:
            return [event for event, _ in events]
        left: list[RawEvent] = []
        make = self._maker.make
        for event, around in events:
            try:
                item = make(event, wall_offset_ns, around)
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - whatever is in an event, it costs that event only
                collected.rejected += 1
                continue
            if item is None:
                left.append(event)
            else:
                collected.items.append((item, 1))
                self._counts[_MADE] += 1
        return left

    def stats(self) -> dict[str, Any]:
        """Return how many log records were made, and why none are any more; nothing if none ever were."""
        told: dict[str, Any] = {}
        if self._counts[_MADE]:
            told["records"] = self._counts[_MADE]
        if self._off is not None:
            told["off"] = self._off
        return told


def _maker(settings: OtelSettings) -> LogMaker:
    return LogMaker(settings.log_patterns, SEVERITIES[settings.log_severity])
