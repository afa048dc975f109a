"""The signal "logs" of one exporter: which events it takes, what sends them, and whether it is wanted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.exporter import ExportOutcome
from otpylib_telemetry.threads import run_in_thread
from otpylib_telemetry_otel.backends import Backend, BackendUnavailableError
from otpylib_telemetry_otel.log_backends import build_logs, why_no_logs
from otpylib_telemetry_otel.logs import LOG_EVENT, SEVERITIES, LogMaker
from otpylib_telemetry_otel.refusal import SignalRefusedError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence

    from otpylib_telemetry.events import RawEvent
    from otpylib_telemetry.exporter import Collected
    from otpylib_telemetry_otel.settings import OtelSettings
    from otpylib_telemetry_otel.spans import FinishedSpan

__all__ = ["IN_PLACE", "Logs", "can_be_sent", "sends_spans"]

_log = logging.getLogger("otpylib_telemetry")

#: The keys that need no new connection.
IN_PLACE: Final = frozenset({"log_patterns", "log_severity"})

# Keys into the counts that survive the exporter.
_MADE: Final = "log_records"
_SAID: Final = "said: "


class _Everything:
    """Contains all there is."""

    def __contains__(self, item: object) -> bool:
        return True


_RECORDS: Final = frozenset({LOG_EVENT})
_EVERYTHING: Final = _Everything()


class Logs:
    """Makes log records of events and sends them.

    Args:
        name: The exporter's name.
        settings: The configuration in force.
        counts: Counters that survive the exporter.
    """

    def __init__(self, name: str, settings: OtelSettings, counts: Counter[str]) -> None:
        self._name = name
        self._settings = settings
        self._counts = counts
        self._backend: Backend | None = None
        self._maker = _maker(settings)
        self._wanted = can_be_sent(settings)
        #: Why no logs are sent though they are wanted.
        self._off: str | None = None

    @property
    def taken(self) -> bool:
        """Whether events become log records."""
        return self._wanted and self._off is None

    def apart(self) -> Container[str]:
        """Return the names of the events that are not put on spans."""
        if not self.taken:
            return ()
        # Where there are no spans to be sent, what happens during one would be lost with it.
        return _RECORDS if sends_spans(self._settings) else _EVERYTHING

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
        reason = await run_in_thread(why_no_logs, settings)
        if reason is None:
            try:
                self._backend = await run_in_thread(build_logs, settings, resource)
            except BackendUnavailableError as error:
                if not sends_spans(settings):
                    raise
                reason = str(error)
            else:
                return
        self._off = reason
        if not self._counts[_SAID + reason]:
            # Once, though the exporter may be replaced many times.
            self._counts[_SAID + reason] = 1
            _log.info("%s sends no logs: %s. With logs = false that is not said.", self._name, reason)

    async def close(self) -> None:
        """Release the connection."""
        backend, self._backend = self._backend, None
        if backend is not None:
            await run_in_thread(backend.close)

    def retune(self, settings: OtelSettings, changed: frozenset[str]) -> None:
        """Take patterns and severity into use.

        Args:
            settings: The settings to come.
            changed: The keys that differ. If logs are among them, a backend that refused them is asked again.
        """
        self._settings = settings
        if changed & IN_PLACE:
            self._maker = _maker(settings)
            if self._backend is not None:
                self._off = None

    def collect(
        self,
        events: Iterable[tuple[RawEvent, FinishedSpan | None]],
        wall_offset_ns: int,
        collected: Collected,
    ) -> int:
        """Make log records of events that are part of no span.

        Args:
            events: Each with the open span it belongs to, if any.
            wall_offset_ns: What to add to their monotonic times to get nanoseconds since the epoch.
            collected: Where the records, and what cannot be read, are entered.

        Returns:
            How many events have been entered there.
        """
        if not self.taken:
            return 0
        entered = 0
        make = self._maker.make
        for event, around in events:
            try:
                item = make(event, wall_offset_ns, around)
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - whatever is in an event, it costs that event only
                collected.rejected += 1
                entered += 1
                continue
            if item is not None:
                collected.items.append((item, 1))
                self._counts[_MADE] += 1
                entered += 1
        return entered

    async def export(
        self,
        batch: Sequence[Any],
        send: Callable[[Backend, Sequence[Any]], Awaitable[ExportOutcome | None]],
    ) -> ExportOutcome | None:
        """Send log records.

        A backend that does not know the signal is told from one in trouble: it takes the spans, so neither
        the breaker nor a retry has anything to do with it, and no more log records are made for it.

        Args:
            batch: The records.
            send: Sends items through a backend.

        Returns:
            None if all were taken, or what was refused.

        Raises:
            ExportError: They did not arrive, or will not be taken.
        """
        if self._backend is None or self._off is not None:
            return ExportOutcome(len(batch), self._off or "logs are switched off")
        try:
            return await send(self._backend, batch)
        except SignalRefusedError as error:
            self._off = (
                f"the backend takes no logs ({error}); none are sent until the configuration changes, "
                "and logs = false says that none are wanted"
            )
            return ExportOutcome(len(batch), self._off)

    def stats(self) -> dict[str, Any]:
        """Return how many log records were made, and why none are any more; nothing if none ever were."""
        told: dict[str, Any] = {}
        if self._counts[_MADE]:
            told["records"] = self._counts[_MADE]
        if self._off is not None:
            told["off"] = self._off
        return told


def sends_spans(settings: OtelSettings) -> bool:
    """Tell whether the settings have spans sent anywhere."""
    return settings.traces and (settings.transport() is None or settings.endpoint is not None)


def can_be_sent(settings: OtelSettings) -> bool:
    """Tell whether the settings alone have log records sent anywhere."""
    return settings.logs and (settings.transport() is None or settings.logs_url() is not None)


def _maker(settings: OtelSettings) -> LogMaker:
    return LogMaker(settings.log_patterns, SEVERITIES[settings.log_severity])
