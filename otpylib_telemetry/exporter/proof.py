"""Which settings have to prove themselves before an exporter goes by them, and how they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otpylib_telemetry.exporter.changes import own_changes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otpylib_telemetry.config.live import LiveConfig
    from otpylib_telemetry.config.settings import ExporterSettings
    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry.exporter.lease import Lease


class Proof:
    """What one life of an exporter needs proof of."""

    def __init__(
        self, exporter_type: type[Exporter[Any]], lease: Lease, configuration: LiveConfig[Any]
    ) -> None:
        #: What it tried to come up with in this life.
        self.tried: ExporterSettings | None = None
        self._type = exporter_type
        self._lease = lease
        self._configuration = configuration

    def was_open_with_others(self, wanted: ExporterSettings) -> bool:
        """Tell whether an exporter of an earlier life was open with other settings."""
        was_open = self._lease.state.was_open
        return was_open and bool(own_changes(self._configuration.in_force, wanted))

    def is_needed(self, wanted: ExporterSettings) -> bool:
        """Tell whether settings with which nothing was open yet have to prove themselves first.

        At a start they need not: the first batch shows it, and what comes back is kept. What came into being
        by a change is another matter, and so is what an earlier life with other settings has left.
        """
        state = self._lease.state
        if self.was_open_with_others(wanted) or state.rested:
            return True
        earlier = self.tried or (state.applied if state.left else None)
        return earlier is not None and bool(own_changes(earlier, wanted))

    async def attempt(self, wanted: ExporterSettings) -> Sequence[str] | None:
        """Try where settings send to that need to prove themselves; return what was tried."""
        state = self._lease.state
        proved = state.proved
        if proved is not None and state.rested:
            # However good it was: much may have happened since.
            proved = proved.model_copy(update={"enabled": False})
        return await self._type.prove(wanted, proved)
