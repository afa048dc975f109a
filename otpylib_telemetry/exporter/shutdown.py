"""The ends of an exporter: flushed, drained, stopped, crashed, superseded; each within its time."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from otpylib_telemetry import otp
from otpylib_telemetry.exporter.consumer import PRODUCING
from otpylib_telemetry.exporter.draining import export_the_rest, share_of_producing
from otpylib_telemetry.primitives.waiting import is_set_within

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.config.live import LiveConfig
    from otpylib_telemetry.exporter.consumer import QueueConsumer
    from otpylib_telemetry.exporter.lease import Lease
    from otpylib_telemetry.exporter.lifecycle import Lifecycle
    from otpylib_telemetry.exporter.restart import RestartPromise
    from otpylib_telemetry.exporter.sender import Sender
    from otpylib_telemetry.exporter.state import ExporterState


_log = logging.getLogger("otpylib_telemetry")


#: Seconds a crashed process without a promise of restart waits for a successor before it exports: any
#: supervisor restarts faster.
SUCCESSION = 1.0


#: The same for one that was cancelled, which few supervisors restart.
KILL_SUCCESSION = 0.02


#: The part of the time for shutting down that is kept for closing the exporter, and the most of it, in
#: seconds.
CLOSING_SHARE = 0.2

CLOSING = 0.5


#: Seconds that everything around the shutting down may take.
GRACE = 0.1


class Shutdown:
    """Brings one life of an exporter to its end; ``ended`` is called when nobody bears the name any more."""

    def __init__(  # noqa: PLR0913  # the parts of one runner
        self,
        lease: Lease,
        configuration: LiveConfig[Any],
        consumer: QueueConsumer,
        sender: Sender,
        lifecycle: Lifecycle,
        *,
        promise: RestartPromise | None,
        ended: Callable[[], None],
    ) -> None:
        self._lease = lease
        self._configuration = configuration
        self._consumer = consumer
        self._sender = sender
        self._lifecycle = lifecycle
        #: The supervisor's word under which this life was started, whether or not it still counts.
        self.promise_given = promise
        #: Whether its process has ended.
        self.has_begun = False
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        # Set once this life bears its name no more.
        self._over = asyncio.Event()
        self._draining: asyncio.Task[dict[str, Any]] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._releasing: asyncio.Task[None] | None = None

    @property
    def _state(self) -> ExporterState:
        return self._lease.state

    @property
    def _promise(self) -> RestartPromise | None:
        promise = self.promise_given
        return promise if promise is not None and promise.holds else None

    async def flush(self, seconds: float) -> dict[str, Any]:
        """Export everything accepted so far, within so many seconds.

        Returns ``exported``: events handled to the end since the call, whatever became of them; ``left``:
        events that still wait, 0 if all of them came meanwhile; ``reason``: why, None if none do.
        """
        books, end = self._state.ledger, self._loop.time() + seconds
        before = books.done()
        await self._lifecycle.wait_started(seconds)
        caught_up = await self._consumer.catch_up()
        await self._consumer.produce(share_of_producing(end), last_chance=True)
        sent = await self._sender.empty(end - self._loop.time(), last_chance=False)
        left = 0 if caught_up and sent else self._state.left - self._state.held_events
        return self._report(books.done() - before, left, self._why(left))

    async def flush_pending(self) -> None:
        """Export what is pending now, without waiting for it to arrive."""
        await self._consumer.catch_up()
        await self._consumer.produce(PRODUCING, last_chance=True)
        self._sender.send_due(force=True)

    async def drain(self, seconds: float) -> dict[str, Any]:
        """Stop taking events, export what is held, release every resource; returns what :meth:`flush` does.

        What is left stays with the exporter's name.
        """
        if self._draining is None:
            self._draining = self._start(self._drain(seconds), "drain")
        return await asyncio.shield(self._draining)

    async def _drain(self, seconds: float) -> dict[str, Any]:
        books = self._state.ledger
        before = books.done()
        end = self._loop.time() + seconds
        closing = min(CLOSING, seconds * CLOSING_SHARE)
        self._consumer.unsubscribe()
        self._lifecycle.configure_at_last()
        await self._lifecycle.wait_started((end - closing - self._loop.time()) / 2)
        await self._lifecycle.suspend()
        await export_the_rest(self._consumer, self._sender, end - closing)
        # Asked before it is drained: that would be a circular reason.
        reason = self._why(self._state.left)
        if self._lease.holds:
            await self._sender.abandon(closing / 2)
            self._state.queue.connect(None, 1)
            self._lifecycle.health.enter("drained", "it was drained")
        await self._lifecycle.release(max(0.01, end - self._loop.time()))
        report = self._report(books.done() - before, self._state.left, reason)
        self._say_what_is_left(report["left"], report["reason"])
        return report

    def _say_what_is_left(self, left: int, reason: str | None) -> None:
        if left:
            self._state.left_reported = left
            _log.warning(
                "%s was drained with %d events left: %s. They are lost when this process ends, unless it is "
                "started again before.",
                self._state.name,
                left,
                reason,
            )
        self._lifecycle.health.say_drained(left)

    def _why(self, left: int) -> str | None:
        """Return why events are left, if any are."""
        if not left:
            return None
        starting = "it is still starting" if self._lifecycle.health.status == "starting" else None
        return self._sender.reports.trouble or self._lifecycle.health.reason or starting or "time is up"

    @staticmethod
    def _report(exported: int, left: int, reason: str | None) -> dict[str, Any]:
        return {
            "exported": exported,
            "left": left,
            "reason": (reason or "time is up") if left else None,
        }

    async def stop(self, *, crashed: bool) -> None:
        """End this life; a process that crashed may come back.

        Whoever restarts it finds everything as it was; where nobody does, what is held is exported.
        """
        self.has_begun = True
        if self._stopping is None and (crashed or self._promise):
            self._start(self._await_successor(), "succession", outlasting=False)
        else:
            await self.stop_for_good()

    async def stop_for_good(self) -> None:
        """End this life and export what is held, whoever might come after it."""
        if self._stopping is None:
            self._stopping = self._start(self._stop(), "end")
        limit = KILL_SUCCESSION + self._configuration.settings.shutdown_timeout + GRACE
        if not await otp.persist(self._stopping, limit) and self._draining is not None:
            self._draining.cancel()
            await self._sender.abandon(0)
            if self._state.left != self._state.left_reported:
                self._say_what_is_left(self._state.left, "time is up")
        self._finish()

    def supersede(self) -> None:
        """Step back at once: a successor bears the name now."""
        self._lifecycle.detach_exporter()
        self._finish()
        self._releasing = self._start(self._lifecycle.suspend(), "hand-over")

    async def released(self) -> None:
        """Return when what a successor may need has been let go, or is not going to be."""
        if self._releasing is not None:
            await self._releasing
        if not self._sender.busy():
            await self._lifecycle.release()

    def _start(self, work: Any, what: str, *, outlasting: bool = True) -> asyncio.Task[Any]:
        return otp.run_in_background(
            self._loop, work, name=f"{self._state.name} {what}", outlasting=outlasting
        )

    async def _await_successor(self) -> None:
        try:
            await self._succession()
        finally:
            # Also when the application ends, and cancels this, before anybody took over.
            if not self._over.is_set():
                await self.stop_for_good()

    async def _succession(self) -> None:
        """Return when somebody has taken over, or is not expected to any more."""
        promise = self._promise
        if promise is None:
            await is_set_within(self._over, SUCCESSION)
            return
        events = [asyncio.ensure_future(event.wait()) for event in (self._over, promise.released)]
        try:
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for event in events:
                event.cancel()

    async def _stop(self) -> None:
        if self._lifecycle.health.status == "drained" or await is_set_within(self._over, KILL_SUCCESSION):
            return
        await self.drain(self._configuration.settings.shutdown_timeout)

    def _finish(self) -> None:
        self._consumer.unsubscribe()
        self._lifecycle.health.enter("stopped", self._lifecycle.health.reason)
        if self._lease.holds:
            self._state.queue.connect(None, 1)
            self._lease.end()
            self._ended()
        self._over.set()
