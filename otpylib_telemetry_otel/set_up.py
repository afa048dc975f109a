"""What ``TelemetryService("name")`` sets up: providers and an exporter, once for all in a process."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from otpylib import gen_server

from otpylib_telemetry import otp
from otpylib_telemetry.exporter import registry, sigterm
from otpylib_telemetry.instrument import logging as logging_bridge
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.fork import after_fork_in_child, new_rlock
from otpylib_telemetry.primitives.process_end import before_process_ends, expect_process_end
from otpylib_telemetry.supervision.specs import start_exporter
from otpylib_telemetry_otel.exporter import OtelExporter
from otpylib_telemetry_otel.installation import LOOK_INTERVAL, SERVICE, Installation, load_providers
from otpylib_telemetry_otel.own_runtime import OwnRuntime

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence

_log = logging.getLogger("otpylib_telemetry")

_EXPORTER: Final = OtelExporter.registered_name

SIGNALS: Final = ("traces", "metrics", "logs")

#: Seconds that the exporter may take to start, and beyond its own limit to end.
PATIENCE: Final = 30.0

#: Seconds that whoever has no loop to wait on waits for the exporter to be at work: what it is made of may
#: need threads, of which there are none any more in an interpreter that exits.
_OPENED: Final = 2.0

#: Seconds that a change may take to count, and between two looks at what nobody announces.
_APPLIED: Final = 5.0
_POLL: Final = 0.02

DEFAULT_SHUTDOWN: Final = 5.0


class User(Protocol):
    """Whoever has it set up, and may share it with others.

    Attributes:
        set_up: What it has; None before and after.
    """

    set_up: SetUp | None


class SetUp:
    """The telemetry of a process, with the settings of who asked first; ``lock`` is held around all calls.

    ``modules`` are the exporters it runs. Where ``gives_way``, the environment asked for it and nobody else:
    it steps back for whatever the application sets up itself.
    """

    current: ClassVar[SetUp | None] = None
    lock: ClassVar[threading.RLock] = new_rlock()

    def __init__(  # by name, but for the first three
        self,
        settings: Mapping[str, Any],
        own: OwnRuntime | None,
        loop: Any,
        *,
        modules: Sequence[Any] = (OtelExporter,),
        gives_way: bool = False,
    ) -> None:
        self.settings = settings
        self.modules = tuple(modules)
        self.gives_way = gives_way
        self.signals: set[str] = set()
        self.users: list[User] = []
        self.own = own
        self.bridged = False
        self._loop = loop
        self._runtime: Any = otp.get_runtime() if own is None else None
        self._pid: Any = None
        self._names = [each.registered_name for each in self.modules]
        self._installation = Installation(SERVICE, {"exporters": self._names}, loop)
        self._starting: asyncio.Task[Any] | concurrent.futures.Future[Any] | None = None

    @classmethod
    def shared_by(cls, user: User, settings: Mapping[str, Any]) -> SetUp:
        """Return what is set up, or what is set up now, for one more user.

        Raises:
            RuntimeError: It is with other settings; or it cannot be set up here.
        """
        providers = load_providers()
        found = cls.current
        if found is None or not found.counts or found.gives_way:
            found = cls._begun(settings, providers)
        elif differing := _differing(found.settings, settings):
            raise RuntimeError(
                f"{_called(settings)} cannot be set up beside {_called(found.settings)}, which this process "
                f"has already: {', '.join(differing)} differ{'s' if len(differing) == 1 else ''}. Call "
                "shutdown() of that one first, or give both the same name and settings to share it"
            )
        found.users.append(user)
        return found

    @classmethod
    def _begun(cls, settings: Mapping[str, Any], providers: Any) -> SetUp:
        if otp.get_runtime() is None or otp.is_inherited():
            made = cls(settings, own := OwnRuntime(), own.loop)
            sigterm.end_on_sigterm()
        elif (loop := otp.running_loop()) is not None:
            made = cls(settings, None, loop)
        else:
            raise RuntimeError(
                "an otpylib runtime is set: initialize telemetry in a coroutine of the event loop it runs on"
            )
        made._install(providers)
        return made

    @classmethod
    def automatic(cls, modules: Sequence[Any], settings: Mapping[str, Any]) -> SetUp:
        """Return what runs these exporters for an application that does nothing for it, on an own thread.

        They have begun when this returns: those of the application come after them, and take their place.
        """
        made = cls(settings, own := OwnRuntime(), own.loop, modules=modules, gives_way=True)
        sigterm.end_on_sigterm()
        made.signals.update(SIGNALS)
        made._install(load_providers())
        own.call(made._begin_all(), PATIENCE)
        made.start(waiting=False)
        return made

    def _install(self, providers: Any) -> None:
        """Have what is made through the API go to the exporters, and forked children do the same."""
        self._installation.install(*providers)
        SetUp.current = self
        _await_forks()

    @property
    def counts(self) -> bool:
        """Whether it is still there: an application may have ended it together with its runtime."""
        there = self._runtime is otp.get_runtime() if self.own is None else not self.own.has_ended
        return there and not self._installation.ended

    def switch_on(self, signal: str) -> None:
        """Have a signal exported, those that were asked for until now besides."""
        if signal in self.signals:
            return
        self.signals.add(signal)
        try:
            if self._starting is None:
                self.start()
            elif self.own is not None:
                self.own.call(self._switch_on(signal), PATIENCE)
            else:
                otp.run_in_background(self._loop, self._switch_on(signal), name="telemetry change")
        except BaseException:
            self.signals.discard(signal)
            raise

    def start(self, *, waiting: bool = True) -> None:
        """Start the exporter."""
        if self.own is None:
            self._starting = otp.run_in_background(self._loop, self._start(), name="telemetry start")
            self._look()
            return
        self._starting = self.own.begin(self._start())
        self._loop.call_soon_threadsafe(self._look)
        if waiting:
            self._starting.result(PATIENCE)
            self.own.call(registry.wait_decided(_EXPORTER, _OPENED), PATIENCE)

    def left_by(self, user: User) -> bool:
        """Tell whether nobody uses it any more, now that one more user does not."""
        self.users = [each for each in self.users if each is not user]
        if self.users:
            return False
        if SetUp.current is self:
            SetUp.current = None
        if self.bridged:
            logging_bridge.uninstall()
        return True

    def give_up(self, user: User) -> None:
        """Take out again what could not be started."""
        if not self.signals and self.left_by(user):
            self._installation.uninstall()
            if self.own is not None:
                self.own.stop()

    async def flush(self, seconds: float) -> Any:
        """Export what is held; somebody else goes on with it."""
        if otp.whereis(_EXPORTER) is None:
            return None
        return await otp.safe_call(_EXPORTER, ("flush", seconds), timeout=seconds + PATIENCE)

    async def end(self, seconds: float) -> dict[str, Any] | None:
        """Export what is held, and take everything out again."""
        if self._starting is not None:
            await asyncio.wait({_as_future(self._starting)}, timeout=seconds)
        pid, self._pid = self._pid, None
        # The spans that have ended until now still go to the exporter.
        self._installation.uninstall()
        if pid is None:
            return None
        report: dict[str, Any] = await otp.safe_call(
            _EXPORTER, ("drain", seconds), timeout=seconds + PATIENCE
        )
        task = otp.task_of(pid)
        await otp.end_quietly(pid)
        if task is not None:
            await asyncio.wait({task}, timeout=PATIENCE)
        return report

    def in_background(self, work: Any) -> asyncio.Task[Any]:
        """Run a coroutine on the loop of the application."""
        return otp.run_in_background(self._loop, work, name="telemetry end")

    def in_child(self) -> None:
        """Begin anew in a forked child for all who use it, if it has a runtime of its own."""
        for user in self.users:
            user.set_up = None
        if self.own is None:
            return
        made = SetUp(
            self.settings, own := OwnRuntime(), own.loop, modules=self.modules, gives_way=self.gives_way
        )
        made.signals, made.users, made.bridged = self.signals, self.users, self.bridged
        made._install(load_providers())
        for name in self._names:
            # What is emitted before the exporter is up waits for it.
            registry.state_of(name).subscribe(("*",))
        for user in made.users:
            user.set_up = made
        made.start(waiting=False)
        # At once: it may end before its exporter has started.
        expect_process_end()
        sigterm.end_on_sigterm()

    def wait_started(self) -> None:
        """Wait until the exporter has started; how long it may take to export counts from then."""
        if isinstance(self._starting, concurrent.futures.Future):
            seconds = self.settings.get("shutdown_timeout", DEFAULT_SHUTDOWN)
            concurrent.futures.wait([self._starting], seconds)

    def _look(self) -> None:
        """Hand over what waits for the exporter, until it has come up."""
        if self._installation.look():
            self._loop.call_later(LOOK_INTERVAL, self._look)

    async def _start(self) -> None:
        await self._begin_all()
        while not (self._installation.ended or all(map(registry.is_configured, self._names))):  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(_POLL)
        self._installation.look()

    async def _begin_all(self) -> None:
        for module in self.modules:
            name = module.registered_name
            if otp.whereis(name) is not None or (self.gives_way and registry.is_running(name)):
                continue
            settings: Mapping[str, Any] = {}
            if module is OtelExporter:
                # What is not initialized yet is off; the rest is as configured.
                settings = {**dict.fromkeys(set(SIGNALS) - self.signals, False), **self.settings}
            pid = await start_exporter(module, settings)
            if module is OtelExporter:
                self._pid = pid

    async def _switch_on(self, signal: str) -> None:
        if self._starting is not None:
            await asyncio.shield(_as_future(self._starting))
        if self._pid is None:
            return
        change = ("config_changed", f"{OtelExporter.section}.{signal}", False, True)
        await gen_server.cast(_EXPORTER, change)
        # What is emitted before it counts would be dealt with by the old rule.
        deadline = asyncio.get_running_loop().time() + _APPLIED
        while not _counts(signal) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(_POLL)


def _as_future(started: asyncio.Task[Any] | concurrent.futures.Future[Any]) -> asyncio.Future[Any]:
    return started if isinstance(started, asyncio.Task) else asyncio.wrap_future(started)


def _counts(signal: str) -> bool:
    """Tell whether the exporter works with the signal by now."""
    state = registry.find(_EXPORTER)
    return state is None or state.applied is None or bool(getattr(state.applied, signal))


def _called(settings: Mapping[str, Any]) -> str:
    name = settings.get("service_name")
    return "What opentelemetry-instrument started" if name is None else f"TelemetryService({name!r})"


def _differing(some: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """Return the keys of settings that are not equal; their values may be secrets."""
    return [key for key in sorted({*some, *others}) if not _equal(some.get(key), others.get(key))]


def _equal(one: object, other: object) -> bool:
    try:
        return one is other or bool(one == other)
    except Exception:  # noqa: BLE001  # objects that a program gives may compare as they like
        return False


@functools.cache
def _await_forks() -> None:
    """Be told of forks, after the providers: they have been imported by now."""
    after_fork_in_child(_set_up_in_child)


#: What the parents of this process had: its loops and connections must not be taken apart here.
_of_parents: list[SetUp] = []


def _set_up_in_child() -> None:
    former, SetUp.current = SetUp.current, None
    if former is None:
        return
    _of_parents.append(former)
    try:
        former.in_child()
    except Exception as error:  # noqa: BLE001  # whoever forks must not be stopped by it
        _log.warning(
            "%s could not be set up in the forked process %s; what is made here is not exported.",
            _called(former.settings),
            describe(error),
        )


def _wait_started() -> None:
    if SetUp.current is not None:
        SetUp.current.wait_started()


before_process_ends(_wait_started)
