"""What an exporter's process knows and does: its runner, its timer, its configuration; see :mod:`.server`."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from otpylib import gen_server

from otpylib_telemetry import otp
from otpylib_telemetry.config import resolve
from otpylib_telemetry.config.live import LiveConfig
from otpylib_telemetry.exporter import effects, process_end, registry, restart, sigterm
from otpylib_telemetry.exporter.queue import as_plain_dict
from otpylib_telemetry.exporter.runner import TICK, Runner
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.services import starting
from otpylib_telemetry.services.section import FollowedSection

if TYPE_CHECKING:
    import asyncio

    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry.services.requests import Trial

_log = logging.getLogger("otpylib_telemetry")

FAILED = "telemetry_work_failed"

#: The reply to a call nobody knows.
UNKNOWN = ("error", "unknown request")

#: Seconds between two looks at the queue at least: an idle exporter must cost next to nothing.
SHORTEST_TICK = 0.01

#: Seconds to wait for otpylib-config before starting without what it says.
FIRST_READ = 2.0

#: Seconds a call for the configuration waits for a change under way: it is asked for its outcome.
CONFIG_PATIENCE = 0.5

#: Seconds a call to an exporter that is still starting waits for it to be up.
ANSWER_PATIENCE = FIRST_READ + 1.0


class ExporterServer:
    """The state of an exporter's process."""

    def __init__(self, exporter_type: type[Exporter[Any]], name: str, section: str, argument: object) -> None:
        self.process = otp.OwnProcess()
        self.loop = self.process.loop
        self.state = registry.state_of(_as_text(name))
        self.state.lives += 1
        self.settings_type = exporter_type.settings_type
        self.section = section
        refusal, accepted = _check_argument(exporter_type, section, argument)
        self.configuration = self._configuration(accepted)
        self.runner = Runner(
            exporter_type,
            self.state,
            self.configuration,
            self.wake,
            superseded=self.process.end,
            ended=lambda: registry.end(self.runner),
            promise=restart.promised(self.state.name),
            refusal=refusal,
        )
        registry.begin(self.runner)
        # Where the work runs: it passes for this process, though it does not go through its mailbox.
        self._context = contextvars.copy_context()
        self._is_awake = False
        self._has_ended = False
        self._timer: asyncio.TimerHandle | None = None
        self._next_tick = 0.0
        self.followed = FollowedSection(
            self.state.name,
            self.configuration,
            self.process,
            lambda: None if self.runner.lifecycle.is_configured else FIRST_READ,
        )
        sigterm.drain_on_sigterm(self.loop)
        process_end.expect_process_end()
        self._watch_config()
        is_reading = self.followed.reading is not None
        self.runner.lifecycle.begin(provisional=is_reading)
        if not is_reading:
            self.runner.lifecycle.configure()
        self._arm()

    def _configuration(self, argument: Mapping[str, Any]) -> LiveConfig[Any]:
        known = self.state.configuration
        if known is None or known.settings_type is not self.settings_type or known.section != self.section:
            known = LiveConfig(self.settings_type, self.section, argument, os.environ)
            self.state.configuration = known
        else:
            known.restart(argument, os.environ)
        return known

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
            self.followed.snapshot(values, manager)
            self._tell_of_observed()
        self.runner.lifecycle.configure()

    def changed(self, path: object, old: Any, new: Any) -> None:
        """Take a change from a cast."""
        if self.followed.changed(path, new):
            self._tell(str.__str__(cast("str", path)), old, new)
        else:
            self.state.unknown_messages += 1

    def apply(self) -> None:
        """Apply the changes that arrived by cast."""
        applied = self.followed.apply()
        if applied is not None:
            self.state.unknown_messages += not applied
            self._tell_of_observed()
            self.followed.expect_revert()
            self.runner.lifecycle.configure()

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

    def reply_later(self, from_: Any, work: Any) -> None:
        """Answer a call when its work is done; the mailbox goes on meanwhile."""

        async def answer() -> None:
            try:
                reply = await work
            except Exception as error:  # noqa: BLE001  # the caller is told, whatever it is
                reply = ("error", self.configuration.scrub(describe(error)))
            await gen_server.reply(from_, reply)

        otp.run_in_background(self.loop, answer(), name=f"{self.state.name} call")

    def configure(self) -> None:
        """Go by the configuration; returns at once."""
        self._tell_of_observed()
        self.followed.expect_revert()
        self.runner.lifecycle.configure()

    async def at_rest(self) -> None:
        """Wait until it goes by it, if that is soon."""
        await self.runner.lifecycle.wait_at_rest(CONFIG_PATIENCE)

    def effects(self, before: Any, after: Any, changed: frozenset[str]) -> list[str]:
        """Return in words what a change would do."""
        return effects.of_change(self.runner, before, after, changed)

    def probes(self, before: Any, after: Any, changed: frozenset[str]) -> list[Trial]:
        """Return what is to be tried before a change."""
        return effects.trials_of(self.runner, before, after, changed)

    async def settled_configuration(self) -> dict[str, Any]:
        """Return the configuration once a change that was asked for before is in force, if that is soon."""
        await self.runner.lifecycle.wait_at_rest(CONFIG_PATIENCE)
        return self.configuration.as_dict()

    async def ask_exporter(self, request: tuple[Any, ...]) -> Any:
        """Return the exporter's own answer to a call, once everything emitted before it is collected."""
        await self.runner.lifecycle.wait_decided(ANSWER_PATIENCE)
        await self.runner.consumer.catch_up()
        if (exporter := self.runner.exporter) is None:
            state, reason = self.runner.lifecycle.status, self.runner.lifecycle.reason
            return ("error", f"{self.state.name} is {state}: {reason or 'it does not work yet'}")
        with contextlib.suppress(LookupError):
            return exporter.answer(request)
        self.state.unknown_messages += 1
        return UNKNOWN

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
            self.state.queue.offer(name, _as_dict(measurements), _as_dict(metadata))

    async def close(self, reason: Any) -> None:
        """End this life of the exporter."""
        self._has_ended = True
        if self._timer is not None:
            self._timer.cancel()
        self.followed.end()
        await self.runner.stop(crashed=isinstance(reason, Exception) and not _is_orderly(reason))


def _as_text(name: Any) -> str:
    return name if isinstance(name, str) else str(getattr(name, "name", name))


def _as_dict(details: Any) -> dict[str, Any]:
    try:
        return as_plain_dict(details)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  # what somebody put into a message may do anything, exit included
        return {}


def _is_orderly(reason: Exception) -> bool:
    return isinstance(reason, gen_server.GenServerExited)


def _check_argument(
    exporter_type: type[Exporter[Any]], section: str, argument: object
) -> tuple[str | None, Mapping[str, Any]]:
    """Return why a start argument is refused, if it is, and what is left of it."""
    if argument is None:
        return None, {}
    if not isinstance(argument, Mapping):
        return f"the start argument is a table of settings, not {type(argument).__name__}", {}
    try:
        resolve.validate_argument(exporter_type.settings_type, section, argument)
        return None, dict(argument)
    except Exception as error:  # noqa: BLE001  # a mapping may do anything, and init never fails
        return describe(error).removeprefix("ValueError: "), {}
