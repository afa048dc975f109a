"""``[telemetry.poller]``: the service that polls, and its GenServer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field, field_validator

from otpylib_telemetry.config.field_types import Number, Words
from otpylib_telemetry.config.refusals import RefusedError
from otpylib_telemetry.config.settings import SectionSettings
from otpylib_telemetry.meters import observed
from otpylib_telemetry.metrics.elsewhere import elsewhere
from otpylib_telemetry.poller import polls
from otpylib_telemetry.poller.measurements import actors, garbage, process
from otpylib_telemetry.poller.measurements.event_loop import NAME as LOOP
from otpylib_telemetry.poller.measurements.event_loop import LoopLag
from otpylib_telemetry.poller.polling import Polling, start_soon
from otpylib_telemetry.poller.polls import SECTION, Poll
from otpylib_telemetry.primitives.fork import after_fork_in_child
from otpylib_telemetry.services.server import service_module
from otpylib_telemetry.services.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otpylib_telemetry.meters.observed import Observation

#: The measurements there are without a line of code.
MEASUREMENTS: Final = ("process", "gc", "event_loop", "otpylib")

#: The name under which exporters ask for what was polled.
_SOURCE: Final = "telemetry poller"


class PollerSettings(SectionSettings):
    """What is polled, and how often."""

    enabled: bool = Field(
        True,
        description="Whether the poller works. Anything that is set here brings it up, and so does `poll`.",
    )
    interval: Number = Field(
        10.0,
        ge=polls.SHORTEST,
        le=86_400,
        description="How often everything is measured that has no interval of its own.",
        json_schema_extra={"unit": "seconds"},
    )
    timeout: Number = Field(
        5.0,
        ge=polls.SHORTEST,
        le=3_600,
        description="How long a function that is polled may take.",
        json_schema_extra={"unit": "seconds"},
    )
    measurements: Words = Field(
        MEASUREMENTS,
        description="What is measured without a line of code: any of `process`, `gc`, `event_loop` and "
        "`otpylib`; an empty list for nothing but the application's own functions.",
    )

    @field_validator("measurements")
    @classmethod
    def _are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            if each not in MEASUREMENTS:
                raise RefusedError(
                    f"expected any of {', '.join(MEASUREMENTS)}, but {each[:40]!r} is none of them"
                )
        return value


class Poller(Service):
    """Polls as its settings say."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._polling = Polling(self._loop)
        self._settings: PollerSettings | None = None
        self._lag: LoopLag | None = None
        self._built_in = {
            "process": _built_in(process.NAME, process.measure, blocks=True),
            "gc": _built_in(garbage.NAME, garbage.measure),
            "event_loop": _built_in(LOOP, self._measure_lag),
            "otpylib": _built_in(actors.NAME, actors.measure),
        }
        polls.when_changed(self._changed)

    async def apply(self, settings: PollerSettings) -> None:
        """Poll what these say from now on."""
        self._settings = settings
        self._bring_in_line()

    async def stop(self) -> None:
        """Poll no more; nothing is left on a page."""
        polls.no_longer(self._changed)
        self._settings = None
        self._bring_in_line()

    def stats(self) -> Mapping[str, Any]:
        """Return by name what is polled, and what is wrong with it."""
        return {"polls": self._polling.stats()}

    def _changed(self) -> None:
        start_soon(self._loop, self._bring_in_line)

    def _bring_in_line(self) -> None:
        settings = self._settings
        wanted: list[Poll] = []
        measured: Iterable[str] = ()
        if settings is not None and settings.enabled:
            measured = settings.measurements
            wanted = [*(self._built_in[each] for each in measured), *polls.polls()]
        if "event_loop" not in measured and self._lag is not None:
            self._lag.stop()
            self._lag = None
        elif "event_loop" in measured and self._lag is None:
            self._lag = LoopLag(self._loop)
        if settings is not None:
            self._polling.use(wanted, settings.interval, settings.timeout)
        else:
            self._polling.use((), self._polling.interval, self._polling.timeout)
        if wanted:
            observed.observe(_SOURCE, self._observe)
        else:
            observed.withdraw(_SOURCE)

    def _measure_lag(self) -> polls.Measured:
        return polls.Measured([], [], []) if self._lag is None else self._lag.measure()

    def _observe(self, _exporter: str) -> list[Observation]:
        lag = self._lag
        return [*self._polling.observations(), *(() if lag is None else lag.observations())]


def _built_in(name: str, measure: Any, *, blocks: bool = False) -> Poll:
    elsewhere.begin(name)
    return Poll(name, measure, built_in=True, blocks=blocks)


TelemetryPoller = service_module(
    "TelemetryPoller",
    PollerSettings,
    Poller,
    name="telemetry_poller",
    section=SECTION,
    module=__name__,
    doc=(
        "GenServer that measures from time to time, registered as ``telemetry_poller``, configured by\n"
        "``telemetry.poller``. It is started wherever an exporter runs and the section says anything, or\n"
        "``poll`` was called; in a supervision tree of the application it works without either."
    ),
)


# What is polled is polled by the parent; a poller of the child observes for itself.
after_fork_in_child(lambda: observed.withdraw(_SOURCE))
