"""An exporter's life: opened, reconfigured, replaced, switched off and on, as its configuration wants."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Literal

from otpylib_telemetry import otp
from otpylib_telemetry.bus.dispatch import execute
from otpylib_telemetry.config.resolution import changed_keys
from otpylib_telemetry.exporter.base import ExportError
from otpylib_telemetry.exporter.changes import own_changes, own_keys, parts, with_kept, with_part
from otpylib_telemetry.exporter.consumer import PRODUCING_SHARE
from otpylib_telemetry.exporter.opening import GRACE, GivesWayError, Opener
from otpylib_telemetry.exporter.presence import say_place
from otpylib_telemetry.primitives.backoff import full_jitter
from otpylib_telemetry.primitives.errors import describe, error_text
from otpylib_telemetry.services.requests import announce

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from otpylib_telemetry.config.live import LiveConfig
    from otpylib_telemetry.config.settings import ExporterSettings
    from otpylib_telemetry.exporter.base import ExportContext, Exporter
    from otpylib_telemetry.exporter.consumer import QueueConsumer
    from otpylib_telemetry.exporter.lease import Lease
    from otpylib_telemetry.exporter.sender import Sender
    from otpylib_telemetry.exporter.state import ExporterState

_log = logging.getLogger("otpylib_telemetry")

Status = Literal["starting", "running", "degraded", "idle", "disabled", "drained", "stopped"]

#: Seconds that closing an exporter may take while the process goes on.
CLOSE_LIMIT = 5.0

#: Seconds that applying settings may take.
APPLY_LIMIT = 30.0


class Lifecycle:
    """Brings one exporter in line with its configuration, again and again.

    ``wake`` is called when there may be something to do; ``refusal`` says why it must not work at all.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # the parts of one runner
        self,
        exporter_type: type[Exporter[Any]],
        context: ExportContext,
        lease: Lease,
        configuration: LiveConfig[Any],
        consumer: QueueConsumer,
        sender: Sender,
        *,
        wake: Callable[[], None],
        refusal: str | None,
    ) -> None:
        self.status: Status = "starting"
        self.reason = None if refusal is None else configuration.scrub(refusal)
        self.opened = False
        #: Whether what otpylib-config says is still to be read: then no event is forgotten for want of a use.
        self.awaits_configuration = False
        #: Awaited before the first exporter is opened: the end of an earlier life, whose port may be needed.
        self.after: Callable[[], Awaitable[None]] | None = None
        self._type = exporter_type
        self._context = context
        self._lease = lease
        self._configuration = configuration
        self._consumer = consumer
        self._sender = sender
        self._wake = wake
        self._refusal = refusal
        self._loop = asyncio.get_running_loop()
        self._announced: ExporterSettings = configuration.in_force
        # What is being brought into force.
        self._wanted = configuration.resolution
        # What it tried to come up with in this life.
        self._tried: ExporterSettings | None = None
        self._reconciling: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._again = asyncio.Event()
        self._opener = Opener(self._again)
        self._suspended = False
        # Set once it is known whether an exporter is at work, and if not, why.
        self._decided = asyncio.Event()
        #: Set while no change is being brought into force.
        self._at_rest = asyncio.Event()
        self._at_rest.set()

    @property
    def _state(self) -> ExporterState:
        return self._lease.state

    def begin(self, *, provisional: bool) -> None:
        """Subscribe at once, so that no event is missed while the configuration is read.

        Where none was ever in force, every event is taken until then, and the unwanted are forgotten.
        """
        settings = self._configuration.settings
        self.awaits_configuration = provisional
        if self._refusal is not None:
            return
        if provisional and not self._state.configured:
            traces = self._type.tells_of_traces(None)
            self._consumer.subscribe(settings, to_everything=True, traces=traces)
        elif settings.enabled:
            self._consumer.subscribe(settings, traces=self._type.tells_of_traces(settings))

    @property
    def is_configured(self) -> bool:
        """Whether a configuration was ever to be brought into force in this life."""
        return self._reconciling is not None

    def configure(self) -> None:
        """Bring exporter and subscription in line with the configuration; returns at once."""
        if self._suspended:
            return
        announce(self._state.name, self._configuration)
        self._again.set()
        self._at_rest.clear()
        self._sender.recheck()
        if self._reconciling is None or self._reconciling.done():
            self._reconciling = self._start(self._reconcile(), "reconfiguration")

    def configure_at_last(self) -> None:
        """Go by what is known of the configuration if none was to be brought into force so far."""
        if self._reconciling is None:
            self.configure()

    async def wait_started(self, seconds: float) -> None:
        """Wait for a start that is under way: an application may end as soon as it has begun."""
        if self.status == "starting" and self._reconciling is not None:
            await asyncio.wait({self._reconciling}, timeout=max(0.0, seconds))

    async def wait_decided(self, seconds: float) -> None:
        """Wait until an exporter is at work or it is known why none is."""
        try:
            async with asyncio.timeout(seconds):
                await self._decided.wait()
        except TimeoutError:
            return

    @property
    def is_at_rest(self) -> bool:
        """Whether no change is being brought into force; one that waits for its next attempt is not."""
        return self._at_rest.is_set() or self._reconciling is None or self._reconciling.done()

    async def wait_at_rest(self, seconds: float) -> None:
        """Wait for the change that is being brought into force."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._at_rest.wait()

    async def suspend(self) -> None:
        """Apply no more changes; returns when none is being applied."""
        self._suspended = True
        if self._reconciling is not None:
            self._reconciling.cancel()
            await asyncio.wait({self._reconciling}, timeout=GRACE)

    async def release(self, seconds: float = CLOSE_LIMIT) -> None:
        """Close the exporter, and those that were replaced before, within so many seconds."""
        self.detach_exporter(seconds)
        if self._retiring:
            await asyncio.wait(set(self._retiring), timeout=seconds)

    def detach_exporter(self, seconds: float = CLOSE_LIMIT) -> None:
        """Use the exporter no more, and have it closed when the batch it may be sending has ended."""
        exporter, opened = self._consumer.exporter, self.opened
        self._consumer.exporter, self.opened = None, False
        self._sender.use(None)
        if exporter is not None and opened:
            self._retire(exporter, seconds)

    def set_status(self, status: Status, reason: str | None) -> None:
        """Enter another state, for the reason given."""
        self._configuration.trouble = reason
        if status in {"running", "disabled"}:
            said, self._state.last_announced = self._state.last_announced, None
            if status == "running" and said is not None and said[0] == "degraded":
                # At the level of what said that it does not.
                _log.warning("%s works again.", self._state.name)
        self.status, self.reason = status, reason
        self._decided.set()

    def _is_news(self, status: Status, reason: str) -> bool:
        """Tell whether nobody was told yet, in this life or an earlier one, and take it as told."""
        said, self._state.last_announced = self._state.last_announced, (status, reason)
        return said != (status, reason)

    def _start(self, work: Any, what: str) -> asyncio.Task[None]:
        return otp.run_in_background(self._loop, work, name=f"{self._state.name} {what}", outlasting=True)

    async def _reconcile(self) -> None:
        """Go on until what is in force is what is wanted; trouble from outside is retried with back-off."""
        if self.after is not None:
            await self.after()
            self.after = None
        attempt = 0
        while self._again.is_set() and self._lease.holds:
            self._again.clear()
            self._wanted, generation = self._configuration.resolution, self._configuration.generation
            wanted = self._wanted.settings
            try:
                await self._bring_into_force(wanted)
            except GivesWayError:
                continue
            except Exception as error:  # noqa: BLE001  # ports, names, files, packages: an outside reason
                if not self._lease.holds:
                    return
                attempt += 1
                wait = full_jitter(attempt, lambda: 1.0)
                self._degrade(error, wait, wanted)
                if self.opened:
                    self._announce(generation)
                else:
                    # What it has no other of is what it tries to come up with.
                    before = self._configuration.in_force
                    is_known = self._state.was_open or self._state.rested
                    kept = own_changes(before, wanted) if is_known else frozenset[str]()
                    self._state.was_open = self._state.was_open and bool(kept)
                    kept |= {"enabled"} if self._state.rested else set()
                    self._put_in_force(with_kept(wanted, before, kept), works=False)
                await self._pause(wait)
                continue
            attempt = 0
            self._announce(generation)
            if wanted is not self._configuration.settings:
                self._again.set()
        self._at_rest.set()
        self._wake()

    def _put_in_force(self, settings: ExporterSettings, *, works: bool = True) -> None:
        """Note what the exporter goes by: of each key what is wanted, or what it had before.

        What is its own does not work before it is open.
        """
        if (exporter := self._consumer.exporter) is not None and self.opened:
            settings = settings.model_copy(update=dict(exporter.ahead()))
        failing = frozenset[str]() if works else own_keys(type(settings))
        self._configuration.put_in_force(settings, self._wanted, failing=failing)

    async def _pause(self, seconds: float) -> None:
        """Wait before the next attempt; a change of configuration ends the wait."""
        if not self._again.is_set():
            self._at_rest.set()
        try:
            async with asyncio.timeout(seconds):
                await self._again.wait()
        except TimeoutError:
            self._again.set()

    async def _bring_into_force(self, wanted: ExporterSettings) -> None:
        if self._refusal is not None:
            self._rest(self._configuration.scrub(self._refusal))
            return
        if not wanted.enabled:
            await self._disable(wanted)
            return
        may_go_back = self._was_open_with_others(wanted)
        try:
            await self._work_with(wanted)
        except GivesWayError:
            raise
        except Exception:
            if may_go_back:
                await self._open_as_it_was(wanted)
            raise
        finally:
            self._tried = wanted

    async def _work_with(self, wanted: ExporterSettings) -> None:
        # What is ahead of the rest has to come back with it.
        is_all_in_force = self._configuration.in_force == wanted or (self._state.rested and not self.opened)
        is_here = self._state.applied == wanted and is_all_in_force
        if not is_here and self.opened:
            await self._prove(wanted)
        candidate = self._consumer.exporter if is_here else None
        if candidate is None:
            candidate = self._type(wanted, self._context)
        if (reason := candidate.idle_reason()) is not None:
            await self._idle(reason)
            return
        if not self.opened and self._is_unproved(wanted):
            # What is emitted meanwhile waits as well.
            self._use_common(wanted)
            await self._prove(wanted)
        self._use_common(wanted)
        if not self.opened:
            await self._open(candidate, wanted)
        elif self._state.applied != wanted:
            await self._change(candidate, wanted)
        self._put_in_force(wanted)
        self._settle(wanted)

    def _settle(self, wanted: ExporterSettings) -> None:
        """Enter the state in which the settings in force leave it; what is wrong with them has been said."""
        if not wanted.withheld:
            self.set_status("running", None)
            if (exporter := self._consumer.exporter) is not None:
                say_place(self._state, exporter, self._configuration.scrub)
            return
        reason = self._configuration.scrub("; ".join(dict.fromkeys(wanted.withheld.values())))
        self._is_news("degraded", reason)
        self.set_status("degraded", reason)

    def _use_common(self, wanted: ExporterSettings) -> None:
        """Take the settings into use that are the chassis' own."""
        self._state.settings = wanted
        self._state.breaker.adjust(wanted.failure_threshold, wanted.reset_timeout)
        self._consumer.subscribe(wanted, traces=self._type.tells_of_traces(wanted))
        self._keep_wanted(wanted)
        before, kept = self._configuration.in_force, frozenset[str]()
        if self.opened or self._state.rested:
            # Until it is open, an exporter that was off is off.
            kept = own_changes(before, wanted) | {"enabled"}
        elif self._state.was_open:
            # What an earlier life had open counts until something else is.
            kept = own_changes(before, wanted)
        self._put_in_force(with_kept(wanted, before, kept), works=self.opened)

    def _keep_wanted(self, wanted: ExporterSettings | None) -> None:
        if wanted is None and self.awaits_configuration:
            return
        if not self._state.configured:
            self._state.configured = True
            self._consumer.keep_wanted(wanted)
            # What was read at the start is no change.
            self._announced = self._configuration.settings

    async def _open(self, candidate: Exporter[Any], wanted: ExporterSettings) -> None:
        before = self._state.applied
        is_changed = before is not None and bool(own_changes(before, wanted))
        if before is None or is_changed:
            self._state.breaker.reset()
        # It collects before it is open: what it makes of the events waits as well as the events do.
        self._consumer.exporter, self._state.applied = candidate, wanted
        self._decided.set()
        self._wake()
        await self._open_or_give_way(candidate)
        self._use(candidate, in_doubt=is_changed)

    def _was_open_with_others(self, wanted: ExporterSettings) -> bool:
        """Tell whether an exporter of an earlier life was open with other settings, and none is now."""
        return (
            not self.opened
            and self._state.was_open
            and bool(own_changes(self._configuration.in_force, wanted))
        )

    def _is_unproved(self, wanted: ExporterSettings) -> bool:
        """Tell whether settings with which nothing was open yet have to prove themselves first.

        At a start they need not: the first batch shows it, and what comes back is kept. What came into being
        by a change is another matter, and so is what an earlier life with other settings has left.
        """
        if self._was_open_with_others(wanted) or self._state.rested:
            return True
        earlier = self._tried or (self._state.applied if self._state.left else None)
        return earlier is not None and bool(own_changes(earlier, wanted))

    async def proof(self, wanted: ExporterSettings) -> Sequence[str] | None:
        """Try where settings send to that need to prove themselves; return what was tried."""
        return await self._type.prove(wanted, self._state.proved)

    async def _open_as_it_was(self, wanted: ExporterSettings) -> None:
        """Open what an earlier life had open, where what is wanted in its place cannot be had."""
        before = self._configuration.in_force
        settings = with_kept(wanted, before, own_changes(before, wanted))
        try:
            candidate = self._type(settings, self._context)
            if candidate.idle_reason() is None:
                self._use_common(settings)
                await self._open(candidate, settings)
        except GivesWayError:
            raise
        except Exception:  # noqa: BLE001  # what is said is why it needs this: the new one is tried again first
            return

    async def _prove(self, wanted: ExporterSettings) -> None:
        """Try where the settings send to: a destination that has not proved itself replaces none."""
        try:
            await self._opener.run(self.proof(wanted))
        except GivesWayError:
            raise
        except Exception:
            # What has nothing to do with it comes into force all the same.
            self._use_common(wanted)
            if self.opened:
                await self._take_over_in_part(wanted, unproved=True)
            raise
        self._state.proved = wanted

    async def _change(self, candidate: Exporter[Any], wanted: ExporterSettings) -> None:
        try:
            await self._take_over(wanted, candidate)
        except GivesWayError:
            raise
        except Exception:
            # One thing that cannot be had does not hold up the others.
            await self._take_over_in_part(wanted)
            raise

    async def _take_over_in_part(self, wanted: ExporterSettings, *, unproved: bool = False) -> None:
        separate = list(parts(own_changes(self._state.applied, wanted), self._type.inseparable))
        # A single part is what has just failed.
        for part in separate if len(separate) > 1 else ():
            if unproved and any(part & together for together in self._type.inseparable):
                continue
            if (before := self._state.applied) and (some := with_part(before, wanted, part)):
                # Why there are parts at all is said for the whole.
                with contextlib.suppress(Exception):
                    await self._take_over(some, None)

    async def _take_over(self, wanted: ExporterSettings, candidate: Exporter[Any] | None) -> None:
        running = self._consumer.exporter
        # The keys every exporter has are the chassis' own: they are in force by now.
        own = own_changes(self._state.applied, wanted)
        if running is not None and (not own or await otp.within(APPLY_LIMIT, running.apply(wanted, own))):
            running.settings = self._state.applied = self._state.proved = wanted
            self._put_in_force(wanted)
            return
        candidate = candidate or self._type(wanted, self._context)
        await self._open_or_give_way(candidate)
        self._state.breaker.reset()
        self._state.applied = wanted
        self._use(candidate, in_doubt=True)
        self._put_in_force(wanted)
        # New batches do not wait for the one the old exporter may be sending.
        if running is not None:
            self._retire(running, CLOSE_LIMIT)

    def _use(self, exporter: Exporter[Any], *, in_doubt: bool) -> None:
        if not self._lease.holds:
            # Another life has begun while it was opened.
            self._retire(exporter, CLOSE_LIMIT)
            return
        self._consumer.exporter, self.opened, self._state.was_open = exporter, True, True
        self._state.proved, self._state.rested = self._state.applied, False
        self._sender.use(exporter, in_doubt=in_doubt)
        self._wake()

    async def _open_or_give_way(self, exporter: Exporter[Any]) -> None:
        try:
            await self._opener.open(exporter)
        except asyncio.CancelledError:
            self._retire(exporter, CLOSE_LIMIT)
            raise
        except Exception:
            await self._close(exporter, CLOSE_LIMIT)
            raise

    def _retire(self, exporter: Exporter[Any], seconds: float) -> asyncio.Task[None]:
        """Close an exporter when the batch it may be sending has ended, whose answer would be lost."""

        async def close() -> None:
            await self._sender.wait_for(exporter)
            await self._close(exporter, seconds)
            self._wake()

        task = self._start(close(), "retirement")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
        return task

    async def _close(self, exporter: Exporter[Any], seconds: float) -> None:
        try:
            await otp.within(seconds, exporter.close())
        except Exception as error:  # noqa: BLE001  # whatever it is, it is closed as far as we are concerned
            reason = self._configuration.scrub(describe(error))
            _log.warning("%s did not close cleanly: %s", self._state.name, reason)

    async def _disable(self, wanted: ExporterSettings) -> None:
        self._state.was_open, self._state.rested = False, True
        self._keep_wanted(None)
        self._consumer.unsubscribe()
        if self._consumer.exporter is not None:
            await self._export_the_rest(wanted.shutdown_timeout)
            await self.release()
        self._put_in_force(wanted)
        self.set_status("disabled", "enabled is false")

    async def _export_the_rest(self, seconds: float) -> None:
        """Export what is held before resting; what cannot be delivered stays with the name."""
        await self._consumer.catch_up()
        self._consumer.give_up_held()
        end = self._loop.time() + seconds
        await self._consumer.produce(seconds * PRODUCING_SHARE, last_chance=True)
        seconds = end - self._loop.time()
        await self._sender.empty(seconds, last_chance=True, give_way=self._again.is_set, urgent_first=True)
        await self._sender.abandon(GRACE)

    async def _idle(self, reason: str) -> None:
        self._state.was_open, self._state.rested = False, True
        self._keep_wanted(None)
        self._consumer.unsubscribe()
        self.detach_exporter()
        self._rest(self._configuration.scrub(reason))

    def _rest(self, reason: str) -> None:
        if self._is_news("idle", reason):
            _log.warning("%s is idle: %s", self._state.name, reason)
        self._put_in_force(self._wanted.settings)
        self.set_status("idle", reason)

    def _degrade(self, error: Exception, wait: float, wanted: ExporterSettings) -> None:
        said = error_text(error) if isinstance(error, ExportError) else ""
        reason = self._configuration.scrub(said or describe(error))
        if self._is_news("degraded", reason):
            kept = sorted(changed_keys(self._configuration.in_force, wanted))
            held_back = f", without the new {', '.join(kept)}" if kept else ""
            still = f"It goes on as it was{held_back}" if self.opened else "Events are taken all the same"
            _log.warning(
                "%s is degraded: %s. %s; tried again in %.1f s.", self._state.name, reason, still, wait
            )
        self.set_status("degraded", reason)

    def _announce(self, generation: int) -> None:
        """Emit that changed settings are in force."""
        before, self._announced = self._announced, self._configuration.in_force
        name, keys = self._state.name, sorted(changed_keys(before, self._announced))
        if not keys:
            return
        changed = ", ".join(keys)
        if not self._announced.enabled:
            _log.info("%s is off now; changed: %s.", name, changed)
        elif trouble := self._sender.trouble:
            _log.warning(
                "%s goes by changed settings: %s. The outage goes on until something arrives: %s.",
                name,
                changed,
                trouble,
            )
        else:
            _log.info("%s works with changed settings: %s.", name, changed)
        metadata = {"exporter": name, "section": self._configuration.section, "keys": keys}
        execute("telemetry.config.applied", {"generation": generation}, metadata)
