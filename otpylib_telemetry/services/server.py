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
:mod:`.starting`. The module that does this has to be imported by ``otpylib_telemetry/__init__.py``.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from otpylib import gen_server
from otpylib.gen_server.data import NoReply, Reply

from otpylib_telemetry import otp
from otpylib_telemetry.bus.dispatch import execute
from otpylib_telemetry.config import otpylib_config, resolve
from otpylib_telemetry.config.live import LiveConfig
from otpylib_telemetry.config.resolution import changed_keys
from otpylib_telemetry.primitives.backoff import full_jitter
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry.services import requests, starting
from otpylib_telemetry.services.requests import announce
from otpylib_telemetry.services.section import APPLY, SNAPSHOT, FollowedSection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from otpylib_telemetry.config.settings import SectionSettings

_log = logging.getLogger("otpylib_telemetry")

#: Seconds between two looks whether a config manager has come.
_LOOK: Final = 1.0

#: Seconds to wait for otpylib-config before starting without what it says.
_FIRST_READ: Final = 2.0

#: Seconds that going by other settings, and ending, may take.
_APPLYING: Final = 30.0
_ENDING: Final = 2.0

_RETRY = "telemetry_service_retry"


class Service:
    """What a section switches on and off; ``settings`` of :meth:`apply` say which."""

    async def apply(self, settings: Any) -> None:
        """Go by these settings from now on. What it raises is reported, and it is tried again."""

    async def stop(self) -> None:
        """Let go of everything: the process ends."""

    def effects(self, before: Any, after: Any, changed: frozenset[str]) -> list[str]:
        """Return in words what a change would do."""
        del before
        if "enabled" in changed:
            return ["it begins to work" if getattr(after, "enabled", True) else "it stops working"]
        return [f"it goes by {', '.join(sorted(changed))} at once"]

    def stats(self) -> Mapping[str, Any]:
        """Return what ``get_stats`` answers beside what every service says."""
        return {}


class Applied(Service):
    """A service that is one function of the settings; under those ``at_the_end`` it does nothing."""

    def __init__(self, apply: Callable[[Any], Any], at_the_end: SectionSettings) -> None:
        self._apply = apply
        self._at_the_end = at_the_end

    async def apply(self, settings: Any) -> None:
        """Call the function."""
        done = self._apply(settings)
        if inspect.isawaitable(done):
            await done

    async def stop(self) -> None:
        """Call the function with the settings under which it does nothing."""
        await self.apply(self._at_the_end)


#: By name, what is kept whatever becomes of the process: changes made at runtime outlive a restart.
_configurations: dict[str, LiveConfig[Any]] = {}


class ServiceServer:
    """The state of a service's process."""

    def __init__(
        self,
        settings_type: type[SectionSettings],
        service: Service,
        name: str,
        section: str,
        argument: object,
    ) -> None:
        self.process = otp.OwnProcess()
        self.name, self.section = name, section
        self.status, self.reason = "starting", ""
        self.unknown = 0
        self.service = service
        self._started = time.monotonic()
        self._refusal, accepted = _checked(settings_type, section, argument)
        known = _configurations.get(name)
        if known is None or known.settings_type is not settings_type or known.section != section:
            known = _configurations[name] = LiveConfig(settings_type, section, accepted, os.environ)
        else:
            known.restart(accepted, os.environ)
        self.configuration = known
        self.followed = FollowedSection(
            name, known, self.process, lambda: _FIRST_READ if self._announced is None else None
        )
        self._announced: SectionSettings | None = None
        self._applied: SectionSettings | None = None
        self._attempt = 0
        self._said = Once()
        self._applying: asyncio.Task[None] | None = None
        self._at_rest = asyncio.Event()
        starting.begun(name, self._at_rest)
        self._timer: asyncio.TimerHandle | None = None
        self.followed.watch()
        self._look_again()
        if self.followed.reading is None:
            self.configure()

    def _look_again(self) -> None:
        self.followed.watch()
        self._timer = self.process.loop.call_later(_LOOK, self._look_again)

    def noticed(self, path: str) -> None:
        """Hear from otpylib-config that a path of the section changed."""
        self.followed.noticed(path)

    def snapshot(self, values: Mapping[str, Any] | None, manager: object) -> None:
        """Take what was read from this config manager; None if it could not be read."""
        if values is not None:
            self.followed.snapshot(values, manager)
        self.configure()

    def changed(self, path: object, new: Any) -> None:
        """Take a change from a cast."""
        self.unknown += not self.followed.changed(path, new)

    def apply_changes(self) -> None:
        """Apply the changes that arrived by cast."""
        applied = self.followed.apply()
        if applied is not None:
            self.unknown += not applied
            self.configure()

    def configure(self) -> None:
        """Have the service go by the configuration; returns at once."""
        announce(self.name, self.configuration)
        self.followed.expect_revert()
        if self._refusal is not None:
            if self._said.is_news("refusal"):
                _log.warning("%s is idle: %s", self.name, self._refusal)
            self.status, self.reason = "idle", self._refusal
            self._at_rest.set()
            return
        self._at_rest.clear()
        if self._applying is None or self._applying.done():
            self._applying = otp.run_in_background(
                self.process.loop, self._go_by_it(), name=f"{self.name} settings"
            )

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
            self._announce(settings, generation)
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

    def _announce(self, settings: SectionSettings, generation: int) -> None:
        """Emit that changed settings are in force; what was read at the start is no change."""
        before, self._announced = self._announced, settings
        keys = [] if before is None else sorted(changed_keys(before, settings))
        if keys:
            does = (
                "works with changed settings" if getattr(settings, "enabled", True) else "is off now; changed"
            )
            _log.info("%s %s: %s.", self.name, does, ", ".join(keys))
            metadata = {"exporter": self.name, "section": self.section, "keys": keys}
            execute("telemetry.config.applied", {"generation": generation}, metadata)

    def stats(self) -> dict[str, Any]:
        """Return how it does."""
        return {
            "name": self.name,
            "state": self.status,
            "reason": self.reason or None,
            "uptime": time.monotonic() - self._started,
            "generation": self.configuration.generation,
            "unknown_messages": self.unknown,
            **self.service.stats(),
        }

    async def at_rest(self) -> None:
        """Wait until it goes by the configuration, but not for long."""
        await asyncio.wait({asyncio.ensure_future(self._at_rest.wait())}, timeout=_FIRST_READ)

    def effects(self, before: Any, after: Any, changed: frozenset[str]) -> list[str]:
        """Return in words what a change would do."""
        return self.service.effects(before, after, changed)

    def probes(self, before: Any, after: Any, changed: frozenset[str]) -> list[Any]:
        """Return what is to be tried before a change: no service says anything."""
        del before, after, changed
        return []

    def reply_later(self, from_: Any, work: Awaitable[Any]) -> None:
        """Answer a call when its work is done; the mailbox goes on meanwhile."""

        async def answer() -> None:
            try:
                reply = await work
            except Exception as error:  # noqa: BLE001  # the caller is told, whatever it is
                reply = ("error", self.configuration.scrub(describe(error)))
            await gen_server.reply(from_, reply)

        otp.run_in_background(self.process.loop, answer(), name=f"{self.name} call")

    def answer_config(self, from_: Any) -> None:
        """Answer with the configuration, once a change that was asked for before is in force."""

        async def settled() -> dict[str, Any]:
            await self.at_rest()
            return self.configuration.as_dict()

        self.reply_later(from_, settled())

    async def close(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
        self.followed.end()
        if self._applying is not None:
            self._applying.cancel()
        stopping = otp.run_in_background(
            self.process.loop, self.service.stop(), name=f"end of {self.name}", outlasting=True
        )
        await otp.persist(stopping, _ENDING)


def _checked(
    settings_type: type[SectionSettings], section: str, argument: object
) -> tuple[str | None, Mapping[str, Any]]:
    """Return why a start argument is refused, if it is, and what is left of it."""
    try:
        resolve.validate_argument(settings_type, section, argument)
        return None, dict(argument) if isinstance(argument, Mapping) else {}
    except Exception as error:  # noqa: BLE001 - a mapping may do anything, and init never fails
        return describe(error).removeprefix("ValueError: "), {}


async def _handle_call(_self: Any, message: Any, from_: Any, state: ServiceServer) -> Any:
    state.apply_changes()
    if otp.is_request(message, "get_stats"):
        return (Reply(payload=state.stats()), state)
    if otp.is_request(message, "get_config"):
        state.answer_config(from_)
        return (NoReply(), state)
    if (answer := requests.answer(message, state)) is not None:
        state.reply_later(from_, answer)
        return (NoReply(), state)
    state.unknown += 1
    return (Reply(payload=("error", "unknown request")), state)


async def _handle_cast(_self: Any, message: Any, state: ServiceServer) -> Any:
    if otp.is_request(message, "config_changed", 4):
        state.changed(message[1], message[3])
    else:
        state.unknown += 1
    return (NoReply(), state)


async def _handle_info(_self: Any, message: Any, state: ServiceServer) -> Any:
    if otp.is_request(message, APPLY):
        state.apply_changes()
    elif otp.is_request(message, SNAPSHOT, 3):
        state.snapshot(message[1], message[2])
    elif otp.is_request(message, otpylib_config.NOTICE, 2):
        state.noticed(message[1])
    elif otp.is_request(message, _RETRY):
        state.configure()
    else:
        state.unknown += 1
    return (NoReply(), state)


async def _terminate(self: Any, _reason: Any, _state: Any) -> None:
    server: ServiceServer | None = getattr(self, "_server", None)
    if server is not None:
        await server.close()


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

    async def init(self: Any, arg: Any) -> ServiceServer:
        registered, argument = arg
        await starting.take_over(registered)
        server = self._server = ServiceServer(settings_type, make(), registered, section, argument)
        return server

    cls = otp.server_module(
        class_name,
        {
            "init": init,
            "handle_call": _handle_call,
            "handle_cast": _handle_cast,
            "handle_info": _handle_info,
            "terminate": _terminate,
        },
        default_name=name,
        module=module,
        doc=doc or f"GenServer registered as ``{name}``, configured by ``{section}``.",
    )
    start_link = cls.start_link

    async def take_place_and_start(_cls: Any, init_arg: Any = None, name: Any = name) -> Any:
        await starting.give_way(name)
        return await start_link(init_arg, name)

    cls.start_link = classmethod(take_place_and_start)
    cls.settings_type = settings_type
    cls.section = section
    cls.registered_name = name
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
