"""An exporter's life: opened, reconfigured, replaced, switched off and on, as its configuration wants."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from otpylib_telemetry import otp
from otpylib_telemetry.exporter.changes import as_it_was, own_changes, own_keys, parts, with_kept, with_part
from otpylib_telemetry.exporter.closing import CLOSE_LIMIT, Closer
from otpylib_telemetry.exporter.draining import export_the_rest
from otpylib_telemetry.exporter.health import Health
from otpylib_telemetry.exporter.opening import GRACE, GivesWayError, Opener
from otpylib_telemetry.exporter.proof import Proof
from otpylib_telemetry.primitives.backoff import full_jitter
from otpylib_telemetry.primitives.waiting import is_set_within
from otpylib_telemetry.services.announcing import announce, announce_applied

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from otpylib_telemetry.config.live import LiveConfig
    from otpylib_telemetry.config.settings import ExporterSettings
    from otpylib_telemetry.exporter.base import ExportContext, Exporter
    from otpylib_telemetry.exporter.consumer import QueueConsumer
    from otpylib_telemetry.exporter.lease import Lease
    from otpylib_telemetry.exporter.sender import Sender
    from otpylib_telemetry.exporter.state import ExporterState

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
        reason = self._refusal = None if refusal is None else configuration.scrub(refusal)
        self.health = Health(lease, configuration, reason)
        self.proof = Proof(exporter_type, lease, configuration)
        self.closer = Closer(lease.state.name, sender, wake, configuration.scrub)
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
        self._loop = asyncio.get_running_loop()
        self._announced: ExporterSettings = configuration.in_force
        # What is being brought into force.
        self._wanted = configuration.resolution
        self._reconciling: asyncio.Task[None] | None = None
        self._again = asyncio.Event()
        self._opener = Opener(self._again, self.closer)
        self._suspended = False
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
        if self._wanted.settings != self._configuration.settings:
            # What stood in the way of what was wanted before is no answer to who wants something else.
            self._configuration.trouble = None
        self._again.set()
        self._at_rest.clear()
        self._sender.recheck()
        if self._reconciling is None or self._reconciling.done():
            self._reconciling = otp.run_in_background(
                self._loop, self._reconcile(), name=f"{self._state.name} reconfiguration", outlasting=True
            )

    def configure_at_last(self) -> None:
        """Go by what is known of the configuration if none was to be brought into force so far."""
        if self._reconciling is None:
            self.configure()

    async def wait_started(self, seconds: float) -> None:
        """Wait for a start that is under way: an application may end as soon as it has begun."""
        if self.health.status == "starting" and self._reconciling is not None:
            await asyncio.wait({self._reconciling}, timeout=max(0.0, seconds))

    @property
    def is_at_rest(self) -> bool:
        """Whether no change is being brought into force; one that waits for its next attempt is not."""
        return self._at_rest.is_set() or self._reconciling is None or self._reconciling.done()

    async def wait_at_rest(self, seconds: float) -> None:
        """Wait for the change that is being brought into force."""
        await is_set_within(self._at_rest, seconds)

    async def suspend(self) -> None:
        """Apply no more changes; returns when none is being applied."""
        self._suspended = True
        if self._reconciling is not None:
            self._reconciling.cancel()
            await asyncio.wait({self._reconciling}, timeout=GRACE)

    async def release(self, seconds: float = CLOSE_LIMIT) -> None:
        """Close the exporter, and those that were replaced before, within so many seconds."""
        self.detach_exporter(seconds)
        await self.closer.wait(seconds)

    def detach_exporter(self, seconds: float = CLOSE_LIMIT) -> None:
        """Use the exporter no more, and have it closed when the batch it may be sending has ended."""
        exporter, opened = self._consumer.exporter, self.opened
        self._consumer.exporter, self.opened = None, False
        self._sender.use(None)
        if exporter is not None and opened:
            self.closer.retire(exporter, seconds)

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
                self.health.degrade(error, wait, wanted, is_open=self.opened)
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
        if not await is_set_within(self._again, seconds):
            self._again.set()

    async def _bring_into_force(self, wanted: ExporterSettings) -> None:
        if self._refusal is not None:
            self._rest(self._refusal)
            return
        if not wanted.enabled:
            await self._disable(wanted)
            return
        may_go_back = not self.opened and self.proof.was_open_with_others(wanted)
        try:
            await self._work_with(wanted)
        except GivesWayError:
            raise
        except Exception:
            if may_go_back:
                await self._open_as_it_was(wanted)
            raise
        finally:
            self.proof.tried = wanted

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
        if not self.opened and self.proof.is_needed(wanted):
            # What is emitted meanwhile waits as well.
            self._use_common(wanted)
            await self._prove(wanted)
        self._use_common(wanted)
        if not self.opened:
            await self._open(candidate, wanted)
        elif self._state.applied != wanted:
            await self._change(candidate, wanted)
        self._put_in_force(wanted)
        self.health.settle(wanted, self._consumer.exporter)

    def _use_common(self, wanted: ExporterSettings) -> None:
        """Take the settings into use that are the chassis' own."""
        self._state.settings = wanted
        self._state.breaker.adjust(wanted.failure_threshold, wanted.reset_timeout)
        self._consumer.subscribe(wanted, traces=self._type.tells_of_traces(wanted))
        self._keep_wanted(wanted)
        before = self._configuration.in_force
        if self.opened or self._state.rested:
            # Until it is open, an exporter that was off is off.
            settings = as_it_was(before, wanted, "enabled")
        else:
            # What an earlier life had open counts until something else is.
            settings = as_it_was(before, wanted) if self._state.was_open else wanted
        self._put_in_force(settings, works=self.opened)

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
        self.health.decided.set()
        self._wake()
        await self._opener.open(candidate)
        self._use(candidate, in_doubt=is_changed)

    async def _open_as_it_was(self, wanted: ExporterSettings) -> None:
        """Open what an earlier life had open, where what is wanted in its place cannot be had."""
        settings = as_it_was(self._configuration.in_force, wanted)
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
            await self._opener.run(self.proof.attempt(wanted))
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
        await self._opener.open(candidate)
        self._state.breaker.reset()
        self._state.applied = wanted
        self._use(candidate, in_doubt=True)
        self._put_in_force(wanted)
        # New batches do not wait for the one the old exporter may be sending.
        if running is not None:
            self.closer.retire(running, CLOSE_LIMIT)

    def _use(self, exporter: Exporter[Any], *, in_doubt: bool) -> None:
        if not self._lease.holds:
            # Another life has begun while it was opened.
            self.closer.retire(exporter, CLOSE_LIMIT)
            return
        self._consumer.exporter, self.opened, self._state.was_open = exporter, True, True
        self._state.proved, self._state.rested = self._state.applied, False
        self._sender.use(exporter, in_doubt=in_doubt)
        self._wake()

    async def _disable(self, wanted: ExporterSettings) -> None:
        self._state.was_open, self._state.rested = False, True
        self._keep_wanted(None)
        self._consumer.unsubscribe()
        if self._consumer.exporter is not None:
            # What cannot be delivered stays with the name.
            end = self._loop.time() + wanted.shutdown_timeout
            await export_the_rest(self._consumer, self._sender, end, give_way=self._again.is_set)
            await self._sender.abandon(GRACE)
            await self.release()
        self._put_in_force(wanted)
        self.health.enter("disabled", "enabled is false")

    async def _idle(self, reason: str) -> None:
        self._state.was_open, self._state.rested = False, True
        self._keep_wanted(None)
        self._consumer.unsubscribe()
        self.detach_exporter()
        self._rest(self._configuration.scrub(reason))

    def _rest(self, reason: str) -> None:
        self._put_in_force(self._wanted.settings)
        self.health.idle(reason)

    def _announce(self, generation: int) -> None:
        """Emit that changed settings are in force."""
        before, self._announced = self._announced, self._configuration.in_force
        name, section = self._state.name, self._configuration.section
        trouble, is_idle = self._sender.reports.trouble, self.health.status == "idle"
        announce_applied(name, section, before, self._announced, generation, trouble, is_idle=is_idle)
