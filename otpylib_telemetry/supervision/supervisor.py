"""A supervisor process for our own servers: restarts what dies, in any order and number, and stops in order.

otpylib's supervisor is not used for them, for these defects: it confuses two
children whose monitor references collide, never restarts a child that was killed, ignores the shutdown a
supervisor above it sends, awaits no child's clean-up, and gives up silently when restarts come too fast.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from otpylib import process
from otpylib.runtime.atoms import SHUTDOWN

from otpylib_telemetry import otp
from otpylib_telemetry.exporter import registry, restart
from otpylib_telemetry.services import starting

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("otpylib_telemetry")

#: Restarts of one child within :data:`WINDOW` seconds that happen at once; beyond that, restarts are spaced.
FREE_RESTARTS = 5
WINDOW = 5.0
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0

#: Seconds that a supervisor waits at its start for services to go by their sections.
_SERVICES = 2.0

#: Seconds a child may take to end beyond its own limit for shutting down.
STOP_MARGIN = 1.0

RESTART = "telemetry_restart"


@dataclass(slots=True)
class Child:
    """One supervised server; ``task`` is that of its latest process."""

    name: str
    module: Any
    argument: Any = None
    pid: Any = None
    task: asyncio.Task[Any] | None = None
    restarts: deque[float] = field(default_factory=deque)
    trouble: str | None = None


class Watcher:
    """What looks after a supervisor while it runs; this one has nothing to do."""

    #: The name that the supervisor is registered under, unless it gets one at its start.
    registered: str | None = None

    async def prepare(self, supervision: Supervision) -> None:
        """Do what must be done before the supervisor is up."""

    async def on_message(self, supervision: Supervision, message: Any) -> None:
        """Act on a message that is not about a child."""


class Supervision:
    """The state of a supervisor process."""

    def __init__(
        self,
        children: list[Child],
        watcher: Watcher,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a supervisor is a process, and this is none")
        self.children = {child.name: child for child in children}
        self.process = otp.OwnProcess()
        self._promise = restart.RestartPromise(task)
        self._watcher = watcher
        self._clock = clock
        self._timers: dict[str, asyncio.TimerHandle] = {}

    async def run(self, ready: asyncio.Future[Any]) -> None:
        """Start the children, answer for them until told to stop, then stop them.

        ``ready`` gets the supervisor's pid when they are up.
        """
        try:
            for child in list(self.children.values()):
                await self.start(child)
            await self._watcher.prepare(self)
            await starting.settled(_SERVICES)
            if not ready.done():
                ready.set_result(self.process.pid)
            while await self._handle(await self.process.receive()):
                pass
        finally:
            self._promise.released.set()
            for timer in self._timers.values():
                timer.cancel()
            stopping = otp.run_in_background(
                self.process.loop, self._stop_all(), name="telemetry shutdown", outlasting=True
            )
            await otp.persist(stopping, max(map(_patience, self.children), default=0.0))

    async def start(self, child: Child) -> None:
        """Start a child; one that does not start is tried again."""
        restart.promise_restart(child.name, self._promise)
        try:
            await starting.give_way(child.name)
            # Not linked: a crash is heard of through the monitor, and the end of the supervisor is seen to
            # below.
            pid = await otp.start_server(child.module, child.argument, child.name, link=False)
            child.task = otp.task_of(pid)
            await process.monitor(pid)
            child.pid = pid
        except Exception as error:  # noqa: BLE001  # a supervisor outlives its children's troubles
            if child.trouble != str(error):
                _log.warning("%s did not start (%s); it is tried again until it does.", child.name, error)
            child.trouble = str(error)
            self._restart_later(child, LONGEST_PAUSE)
        else:
            child.trouble = None

    async def add(self, child: Child) -> None:
        """Supervise one more child, unless one of that name is there."""
        if child.name not in self.children:
            self.children[child.name] = child
            await self.start(child)

    async def _handle(self, message: Any) -> bool:
        """Act on one message; False ends the supervisor."""
        try:
            # What is started in another runtime than its own would be somebody else's.
            if message is SHUTDOWN or otp.exit_sender(message) is not None or not self.process.in_runtime:
                return False
            pid = otp.down_pid(message)
            if pid is not None:
                await self._down(pid)
            elif otp.is_request(message, RESTART, 2):
                await self._restart(message[1])
            else:
                await self._watcher.on_message(self, message)
        except Exception:  # noqa: BLE001  # a supervisor outlives whatever it is sent
            _log.exception("a message to the telemetry supervisor was ignored")
        return True

    async def _down(self, pid: Any) -> None:
        for child in self.children.values():
            if child.pid == pid:
                child.pid = None
                pause = _pause(child.restarts, self._clock())
                if pause:
                    self._restart_later(child, pause)
                else:
                    await self.start(child)

    async def _restart(self, name: Any) -> None:
        child = self.children.get(name)
        if child is not None and child.pid is None:
            await self.start(child)

    def _restart_later(self, child: Child, pause: float) -> None:
        self._timers[child.name] = self.process.post_later(pause, (RESTART, child.name))

    async def _stop_all(self) -> None:
        """Stop the children, all at once, and return when they have ended."""
        for child in reversed(self.children.values()):
            # Not by its pid, which may be another process's by now: the runtime may have been set up anew.
            if child.task is not None and not child.task.cancelling():
                child.task.cancel()
        if tasks := [child.task for child in self.children.values() if child.task is not None]:
            await asyncio.wait(tasks)
        # One that died and was not restarted any more has left its work to be finished.
        await registry.stop_promised(self._promise)


async def _supervise(
    ready: asyncio.Future[Any], _parent: Any, children: list[Child], watcher: Watcher
) -> None:
    await Supervision(children, watcher).run(ready)


def supervisor_module(module: str, name: str, doc: str, plan: Any) -> Any:
    """Make an OTPModule supervisor class that runs our own loop; ``plan`` gives children and watcher."""

    async def start_link(_cls: Any, init_arg: Any = None, name: str | None = None) -> Any:
        children, watcher = plan(init_arg)
        registered = watcher.registered or name
        return await otp.start_supervisor(_supervise, [children, watcher], registered)

    return otp.supervisor_module(name, start_link, module=module, doc=doc)


def _patience(name: str) -> float:
    """Return the seconds a child may take to end."""
    settings = registry.settings_of(name)
    return STOP_MARGIN + (0.0 if settings is None else settings.shutdown_timeout)


def _pause(restarts: deque[float], now: float) -> float:
    """Note a restart, and return the seconds to wait before it: 0 unless they come thick and fast."""
    while restarts and restarts[0] < now - WINDOW:
        restarts.popleft()
    restarts.append(now)
    excess = len(restarts) - FREE_RESTARTS
    return 0.0 if excess <= 0 else min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(excess, 10))
