"""The GenServer that runs a service: what one configuration section switches on, off and over while running.

A service has settings (:class:`~otpylib_telemetry.config.settings.SectionSettings`) and a function or an
object that goes by them. Everything else is here: defaults, ``TELEMETRY_<SECTION>_<KEY>``, otpylib-config,
the argument of a child spec and casts, the messages about bad values, and the events that tell of changes. To
add one, for a section ``telemetry.instrument``::

    class InstrumentSettings(SectionSettings):
        enabled: bool = Field(False, description="Whether the actors are seen.")


    def apply(settings: InstrumentSettings) -> None: ...  # called at the start and at every change


    TelemetryInstrument = service_module(
        "TelemetryInstrument",
        InstrumentSettings,
        lambda: Applied(apply, InstrumentSettings(enabled=False)),
        name="telemetry_instrument",
        section="telemetry.instrument",
        module=__name__,
    )

Its process is started by whichever exporter finds that anything is set for the section; see
:mod:`.starting`. The package's own are named in :mod:`.known`, so that they are imported only then.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry import otp
from otpylib_telemetry.primitives.backoff import full_jitter
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry.primitives.waiting import is_set_within
from otpylib_telemetry.services import starting
from otpylib_telemetry.services.announcing import announce, announce_applied
from otpylib_telemetry.services.section_module import section_module
from otpylib_telemetry.services.section_server import SectionServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.config.live import LiveConfig
    from otpylib_telemetry.config.settings import SectionSettings
    from otpylib_telemetry.services.service import Service

_log = logging.getLogger("otpylib_telemetry")

#: Seconds between two looks whether a config manager has come, and whether the service lost anything.
_LOOK: Final = 1.0

#: Seconds to wait for otpylib-config before starting without what it says.
_FIRST_READ: Final = 2.0

#: Seconds that going by other settings, and ending, may take.
_APPLYING: Final = 30.0
_ENDING: Final = 2.0

_RETRY = "telemetry_service_retry"


#: By name, what is kept whatever becomes of the process: changes made at runtime outlive a restart.
_configurations: dict[str, LiveConfig[Any]] = {}


class ServiceServer(SectionServer):
    """The state of a service's process."""

    def __init__(
        self,
        settings_type: type[SectionSettings],
        service: Service,
        name: str,
        section: str,
        argument: object,
    ) -> None:
        self.unknown_messages = 0
        super().__init__(settings_type, name, section, argument, _configurations.get(name), self)
        _configurations[name] = self.configuration
        self.status, self.reason = "starting", ""
        self.service = service
        self._started = time.monotonic()
        self._announced: SectionSettings | None = None
        self._applied: SectionSettings | None = None
        self._attempt = 0
        self._said = Once()
        self._applying: asyncio.Task[None] | None = None
        self._at_rest = asyncio.Event()
        starting.begun(name, self._at_rest)
        self._timer: asyncio.TimerHandle | None = None
        self._look_again()
        if self.followed.reading is None:
            self.configure()

    def patience(self) -> float | None:
        """Return how many seconds otpylib-config may take: the first reading must not hold up the start."""
        return _FIRST_READ if self._announced is None else None

    def _look_again(self) -> None:
        self.followed.watch()
        if self.status == "running" and self.is_at_rest and (loss := self.service.loss()) is not None:
            _log.warning("%s: %s", self.name, self.configuration.scrub(loss))
            self._applied = None
            self.configure()
        self._timer = self.loop.call_later(_LOOK, self._look_again)

    def configure(self) -> None:
        """Have the service go by the configuration; returns at once."""
        announce(self.name, self.configuration)
        self.followed.expect_revert()
        if self.refusal is not None:
            if self._said.is_news("refusal"):
                _log.warning("%s is idle: %s", self.name, self.refusal)
            self.status, self.reason = "idle", self.refusal
            self._at_rest.set()
            return
        self._at_rest.clear()
        if self._applying is None or self._applying.done():
            self._applying = otp.run_in_background(self.loop, self._go_by_it(), name=f"{self.name} settings")

    async def _go_by_it(self) -> None:
        while True:
            wanted, generation = self.configuration.resolution, self.configuration.generation
            settings: Any = wanted.settings
            if settings != self._applied:
                try:
                    await otp.within(_APPLYING, self.service.apply(settings))
                except Exception as error:  # noqa: BLE001 - whatever it is, the process goes on
                    self._failed(error)
                    if self._applied is None:
                        # What it has no other of is what it tries to come up with.
                        every = frozenset(type(settings).model_fields)
                        self.configuration.put_in_force(settings, wanted, failing=every)
                    self._at_rest.set()
                    return
            self._applied, self._attempt = settings, 0
            self._said.over("apply")
            self.status, self.reason = ("running" if settings.enabled else "disabled"), ""
            self.configuration.trouble = None
            self.configuration.put_in_force(settings, wanted)
            before, self._announced = self._announced, settings
            if before is not None:
                # What was read at the start is no change.
                announce_applied(self.name, self.section, before, settings, generation)
            if self.configuration.settings == settings:
                self._at_rest.set()
                return

    def _failed(self, error: Exception) -> None:
        self._attempt += 1
        wait = full_jitter(self._attempt, lambda: 1.0)
        self.status, self.reason = "degraded", self.configuration.scrub(describe(error))
        self.configuration.trouble = self.reason
        if self._said.is_news("apply"):
            _log.warning(
                "%s is degraded: %s. It is tried again; this is not reported again before it works.",
                self.name,
                self.reason,
            )
        self.process.post_later(wait, (_RETRY,))

    def stats(self) -> dict[str, Any]:
        """Return how it does."""
        return {
            "name": self.name,
            "state": self.status,
            "reason": self.reason or None,
            "uptime": time.monotonic() - self._started,
            "generation": self.configuration.generation,
            "unknown_messages": self.unknown_messages,
            **self.service.stats(),
        }

    @property
    def is_at_rest(self) -> bool:
        """Whether it goes by the configuration, as far as it can."""
        return self._at_rest.is_set()

    async def at_rest(self) -> None:
        """Wait until it goes by the configuration, but not for long."""
        await is_set_within(self._at_rest, _FIRST_READ)

    def effects(self, before: Any, after: Any, changed: frozenset[str]) -> list[str]:
        """Return in words what a change would do."""
        return self.service.effects(before, after, changed)

    def info(self, message: Any) -> None:
        """Try again to go by the settings, when it is time."""
        if otp.is_request(message, _RETRY):
            self.configure()
        else:
            self.unknown()

    async def close(self, reason: Any) -> None:
        """End."""
        del reason
        if self._timer is not None:
            self._timer.cancel()
        self.followed.end()
        if self._applying is not None:
            self._applying.cancel()
        stopping = otp.run_in_background(
            self.loop, self.service.stop(), name=f"end of {self.name}", outlasting=True
        )
        await otp.persist(stopping, _ENDING)


def service_module(  # noqa: PLR0913  # all of them by name
    class_name: str,
    settings_type: type[SectionSettings],
    make: Callable[[], Service],
    *,
    name: str,
    section: str,
    module: str,
    doc: str | None = None,
) -> Any:
    """Make the GenServer class that runs a service, and have it started where its section says anything.

    Args:
        class_name: The class's own name.
        settings_type: The section's settings.
        make: Makes the service, once for each life of the process.
        name: The registered name.
        section: The configuration section, for instance ``telemetry.poller``.
        module: ``__name__`` of the module the class is assigned in.
        doc: The class's docstring.

    Returns:
        An OTPModule class with the behaviour GEN_SERVER, and the attributes ``settings_type``, ``section``
        and ``registered_name``.
    """

    async def begin(registered: str, argument: Any) -> ServiceServer:
        await starting.take_over(registered)
        return ServiceServer(settings_type, make(), registered, section, argument)

    cls = section_module(
        class_name,
        settings_type,
        begin,
        name=name,
        section=section,
        module=module,
        doc=doc or f"GenServer registered as ``{name}``, configured by ``{section}``.",
    )
    start_link = cls.start_link

    async def take_place_and_start(_cls: Any, init_arg: Any = None, name: Any = name) -> Any:
        await starting.give_way(name)
        return await start_link(init_arg, name)

    cls.start_link = classmethod(take_place_and_start)
    starting.register(cls)
    return cls


def scrub(text: str) -> str:
    """Return a text without what the settings of any service mark as secret."""
    for configuration in [*_configurations.values()]:
        text = configuration.scrub(text)
    return text


def forget() -> None:
    """Forget what was configured; for tests, which start from nothing."""
    _configurations.clear()
    starting.forget()
