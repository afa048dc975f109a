"""What an exporter's process knows and does: its runner, its timer, its configuration; see :mod:`.server`."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import math
import time
from typing import TYPE_CHECKING, Any, cast

from otpylib import gen_server

from otpylib_telemetry import otp
from otpylib_telemetry.exporter import effects, process_end, registry, restart, sigterm
from otpylib_telemetry.exporter.queue import as_plain_dict
from otpylib_telemetry.exporter.runner import TICK, Runner
from otpylib_telemetry.services import starting
from otpylib_telemetry.services.section_server import SectionServer

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry.services.requests import Trial

_log = logging.getLogger("otpylib_telemetry")

FAILED = "telemetry_work_failed"

#: Seconds a call may ask to be worked on; anything else is taken for a mistake.
LONGEST_CALL = 3600.0

#: Seconds between two looks at the queue at least: an idle exporter must cost next to nothing.
SHORTEST_TICK = 0.01

#: Seconds to wait for otpylib-config before starting without what it says.
FIRST_READ = 2.0

#: Seconds a call for the configuration waits for a change under way: it is asked for its outcome.
CONFIG_PATIENCE = 0.5

#: Seconds a call to an exporter that is still starting waits for it to be up.
ANSWER_PATIENCE = FIRST_READ + 1.0


class ExporterServer(SectionServer):
    """The state of an exporter's process."""

    def __init__(self, exporter_type: type[Exporter[Any]], name: str, section: str, argument: object) -> None:
        state = self.state = registry.state_of(name)
        state.lives += 1
        super().__init__(exporter_type.settings_type, name, section, argument, state.configuration, state)
        state.configuration = self.configuration
        self.runner = Runner(
            exporter_type,
            self.state,
            self.configuration,
            self.wake,
            superseded=self.process.end,
            ended=lambda: registry.end(self.runner),
            promise=restart.promised(name),
            refusal=self.refusal,
        )
        registry.begin(self.runner)
        # Where the work runs: it passes for this process, though it does not go through its mailbox.
        self._context = contextvars.copy_context()
        self._is_awake = False
        self._has_ended = False
        self._timer: asyncio.TimerHandle | None = None
        self._next_tick = 0.0
        sigterm.drain_on_sigterm(self.loop)
        process_end.expect_process_end()
        self._watch_config()
        is_reading = self.followed.reading is not None
        self.runner.lifecycle.begin(provisional=is_reading)
        if not is_reading:
            self.runner.lifecycle.configure()
        self._arm()

    def patience(self) -> float | None:
        """Return how many seconds otpylib-config may take: the first reading must not hold up the start."""
        return None if self.runner.lifecycle.is_configured else FIRST_READ

    # --- timers and wake-ups --------------------------------------------------------------------------------

    def wake(self) -> None:
        """Have :meth:`work` called soon, once; from any thread, whatever event loop runs there."""
        if self._is_awake:
            return
        self._is_awake = True
        # The loop may be closed: there is no process left to work.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._run, context=self._context)

    def _run(self) -> None:
        self._is_awake = False
        if self._has_ended:
            return
        try:
            self.work()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  # the process dies of it, and is restarted, as of a message
            self.process.post((FAILED, error))

    def work(self) -> None:
        """Do one slice of what there is to do, and see to it that the rest follows."""
        if time.monotonic() >= self._next_tick:
            interval = min(TICK, self.configuration.settings.flush_interval)
            self._next_tick = time.monotonic() + max(SHORTEST_TICK, interval)
            self.runner.tick()
            self._watch_config()
        if self.runner.work():
            self.wake()
        self._arm()

    def _arm(self) -> None:
        """Set the one timer to whatever is due next."""
        if self._timer is not None:
            self._timer.cancel()
        at = self._next_tick
        if (due := self.runner.sender.next_at()) is not None:
            at = min(at, due)
        self._timer = self.loop.call_later(
            max(0.001, at - time.monotonic()), self._run, context=self._context
        )

    # --- configuration --------------------------------------------------------------------------------------

    def _watch_config(self) -> None:
        self.followed.watch()
        starting.watch(self.state.name, self.loop)

    def noticed(self, path: str) -> None:
        """Hear from otpylib-config that a path of the section changed."""
        if not starting.noticed(path, self.loop):
            self.followed.noticed(path)

    def snapshot(self, values: Mapping[str, Any] | None, manager: object) -> None:
        """Take what was read from this config manager; None if it could not be read."""
        if values is not None:
            self.runner.lifecycle.awaits_configuration = False
        super().snapshot(values, manager)

    def changed(self, path: object, old: Any, new: Any) -> None:
        """Take a change from a cast."""
        if self.followed.changed(path, new):
            self._tell(str.__str__(cast("str", path)), old, new)
        else:
            self.unknown()

    def _tell_of_observed(self) -> None:
        told = self.configuration.observed.told()
        if self.runner.lifecycle.is_configured:
            for key, old, new in told:
                self._tell(f"{self.section}.{key}", old, new)

    def _tell(self, path: str, old: Any, new: Any) -> None:
        if self.runner.exporter is not None:
            try:
                self.runner.exporter.noticed(path, old, new)
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001  # an exporter's defect, or a value's, must not cost the process
                _log.exception("%s failed while noticing a change of %s", self.state.name, path)

    # --- calls ----------------------------------------------------------------------------------------------

    def configure(self) -> None:
        """Go by the configuration; returns at once."""
        self._tell_of_observed()
        self.followed.expect_revert()
        self.runner.lifecycle.configure()

    @property
    def is_at_rest(self) -> bool:
        """Whether it goes by the configuration, as far as it can."""
        return self.runner.lifecycle.is_at_rest

    async def at_rest(self) -> None:
        """Wait until it goes by the configuration, if that is soon."""
        await self.runner.lifecycle.wait_at_rest(CONFIG_PATIENCE)

    def effects(self, before: Any, after: Any, changed: frozenset[str]) -> list[str]:
        """Return in words what a change would do."""
        return effects.of_change(self.runner, before, after, changed)

    def probes(self, before: Any, after: Any, changed: frozenset[str]) -> list[Trial]:
        """Return what is to be tried before a change."""
        return effects.trials_of(self.runner, before, after, changed)

    def stats(self) -> dict[str, Any]:
        """Return how it does."""
        return self.runner.stats()

    def answer(self, message: Any) -> Any:
        """Return the answer to a call about sending, or the exporter's own."""
        shutdown = self.runner.shutdown
        for tag, work in (("flush", shutdown.flush), ("drain", shutdown.drain)):
            if otp.is_request(message, tag, 2):
                try:
                    return work(_seconds(message[1]))
                except ValueError as error:
                    return ("error", str(error))
        if otp.is_request(message, "reset_breaker"):
            return self.reset_breaker()
        return self.ask_exporter(message) if type(message) is tuple else self.unknown()

    def cast(self, message: Any) -> None:
        """Take an event that was cast, or a wish to send."""
        if otp.is_request(message, "telemetry", 4) and isinstance(message[1], str):
            self.telemetry(*message[1:])
        elif otp.is_request(message, "flush_batch"):
            otp.run_in_background(self.loop, self.runner.shutdown.flush_pending(), name="flush_batch")
        else:
            self.unknown()

    def info(self, message: Any) -> None:
        """Die of what the work outside the mailbox died of."""
        if otp.is_request(message, FAILED, 2):
            raise message[1]
        self.unknown()

    async def ask_exporter(self, request: tuple[Any, ...]) -> Any:
        """Return the exporter's own answer to a call, once everything emitted before it is collected."""
        await self.runner.lifecycle.health.wait_decided(ANSWER_PATIENCE)
        await self.runner.consumer.catch_up()
        if (exporter := self.runner.exporter) is None:
            health = self.runner.lifecycle.health
            return (
                "error",
                f"{self.state.name} is {health.status}: {health.reason or 'it does not work yet'}",
            )
        with contextlib.suppress(LookupError):
            return exporter.answer(request)
        return self.unknown()

    def reset_breaker(self) -> dict[str, str]:
        """Close the circuit breaker and send what waits now; return in which states it was and is."""
        breaker = self.state.breaker
        was = breaker.state
        breaker.reset()
        self.runner.send_now()
        self._arm()
        return {"was": was, "state": breaker.state}

    def telemetry(self, name: str, measurements: Any, metadata: Any) -> None:
        """Take an event from a cast as if it had been emitted."""
        if self.runner.consumer.wants(name):
            self.state.queue.offer(name, as_plain_dict(measurements), as_plain_dict(metadata))

    async def close(self, reason: Any) -> None:
        """End this life of the exporter."""
        self._has_ended = True
        if self._timer is not None:
            self._timer.cancel()
        self.followed.end()
        await self.runner.shutdown.stop(crashed=isinstance(reason, Exception) and not _is_orderly(reason))


def _is_orderly(reason: Exception) -> bool:
    return isinstance(reason, gen_server.GenServerExited)


def _seconds(value: object) -> float:
    """Return the seconds a call asks for, whatever was sent in their place."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        # An integer too large for a float is no number that anybody meant.
        with contextlib.suppress(OverflowError):
            seconds = float(value)
            if math.isfinite(seconds):
                return min(max(0.0, seconds), LONGEST_CALL)
    raise ValueError("the timeout of flush and drain is a number of seconds")
