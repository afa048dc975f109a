"""How an exporter is: its status with the reason, and what the log says of it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Literal

from otpylib_telemetry.config.resolution import changed_keys
from otpylib_telemetry.exporter.errors import ExportError
from otpylib_telemetry.primitives.errors import describe, error_text
from otpylib_telemetry.primitives.waiting import is_set_within

if TYPE_CHECKING:
    from otpylib_telemetry.config.live import LiveConfig
    from otpylib_telemetry.config.settings import ExporterSettings
    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry.exporter.lease import Lease

_log = logging.getLogger("otpylib_telemetry")

Status = Literal["starting", "running", "degraded", "idle", "disabled", "drained", "stopped"]


class Health:
    """The status of one life of an exporter. What was said of it last is known to the next life, too."""

    def __init__(self, lease: Lease, configuration: LiveConfig[Any], reason: str | None) -> None:
        self.status: Status = "starting"
        self.reason = reason
        self._lease = lease
        self._configuration = configuration
        #: Set once it is known whether an exporter is at work, and if not, why.
        self.decided = asyncio.Event()

    async def wait_decided(self, seconds: float) -> None:
        """Wait until an exporter is at work or it is known why none is."""
        await is_set_within(self.decided, seconds)

    def enter(self, status: Status, reason: str | None) -> None:
        """Enter another state, for the reason given."""
        self._configuration.trouble = reason
        if status in {"running", "disabled"}:
            state = self._lease.state
            said, state.last_announced = state.last_announced, None
            if status == "running" and said is not None and said[0] == "degraded":
                # At the level of what said that it does not.
                _log.warning("%s works again.", state.name)
        self.status, self.reason = status, reason
        self.decided.set()

    def idle(self, reason: str) -> None:
        """Say why there is nothing to do."""
        if self._is_news("idle", reason):
            _log.warning("%s is idle: %s", self._lease.state.name, reason)
        self.enter("idle", reason)

    def settle(self, settings: ExporterSettings, exporter: Exporter[Any] | None) -> None:
        """Enter the state in which the settings in force leave it; what is wrong with them has been said."""
        if not settings.withheld:
            self.enter("running", None)
            if exporter is not None:
                self.say_place(exporter)
            return
        reason = self._configuration.scrub("; ".join(dict.fromkeys(settings.withheld.values())))
        self._is_news("degraded", reason)
        self.enter("degraded", reason)

    def degrade(self, error: Exception, wait: float, wanted: ExporterSettings, *, is_open: bool) -> None:
        """Say why settings cannot be brought into force, what goes on, and when it is tried again."""
        said = error_text(error) if isinstance(error, ExportError) else ""
        reason = self._configuration.scrub(said or describe(error))
        if self._is_news("degraded", reason):
            kept = sorted(changed_keys(self._configuration.in_force, wanted))
            held_back = f", without the new {', '.join(kept)}" if kept else ""
            still = f"It goes on as it was{held_back}" if is_open else "Events are taken all the same"
            name = self._lease.state.name
            _log.warning("%s is degraded: %s. %s; tried again in %.1f s.", name, reason, still, wait)
        self.enter("degraded", reason)

    def say_place(self, exporter: Exporter[Any]) -> None:
        """Say where an exporter that works serves or sends, if that was not the last that was said of it."""
        state = self._lease.state
        try:
            place = exporter.place()
        except Exception as error:  # noqa: BLE001  # a line in the log is not worth an exporter
            place = f"where it serves or sends cannot be told ({describe(error)})"
        if place is not None and place != state.place:
            state.place = place
            _log.info("%s is up: %s.", state.name, self._configuration.scrub(place))

    def say_drained(self, left: int) -> None:
        """Say once what became of all events when it was drained; what is left was said before."""
        state = self._lease.state
        said, state.place = state.place, None
        if said is None or left:
            return
        books = state.ledger
        _log.info(
            "%s was drained, and nothing is left: of the events it accepted, %d were exported, %d rejected, "
            "%d dropped and %d sampled out.",
            state.name,
            books.exported,
            books.rejected,
            sum(books.dropped.values()),
            books.sampled_out,
        )

    def _is_news(self, status: Status, reason: str) -> bool:
        """Tell whether nobody was told yet, in this life or an earlier one, and take it as told."""
        state = self._lease.state
        said, state.last_announced = state.last_announced, (status, reason)
        return said != (status, reason)
