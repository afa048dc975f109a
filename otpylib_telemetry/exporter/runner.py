"""Runs one exporter for one life of its process.

The runner lives on the event loop and knows nothing of mailboxes; ``process.py`` is the process around it.
What must outlive both is in ``state.py``. Its parts are ``consumer.py`` (events in), ``sender.py`` (batches
out), ``lifecycle.py`` (configuration) and ``shutdown.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.bus.dispatch import execute
from otpylib_telemetry.config.redaction import scrubbed
from otpylib_telemetry.exporter.base import ExportContext, Exporter
from otpylib_telemetry.exporter.consumer import QueueConsumer
from otpylib_telemetry.exporter.lease import Lease
from otpylib_telemetry.exporter.lifecycle import Lifecycle
from otpylib_telemetry.exporter.sender import Sender
from otpylib_telemetry.exporter.shutdown import Shutdown
from otpylib_telemetry.primitives.errors import describe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from otpylib_telemetry.config.live import LiveConfig
    from otpylib_telemetry.exporter.restart import RestartPromise
    from otpylib_telemetry.exporter.state import ExporterState

_log = logging.getLogger("otpylib_telemetry")

#: Seconds between two looks at the clock-driven work of an exporter.
TICK = 1.0

#: Seconds between two reports of dropped events.
REPORT_INTERVAL = 60.0

#: Seconds that a life on the loop of another thread may take to step back.
STEPPING_BACK = 5.0


class Runner:
    """One life of an exporter.

    From here on it bears the name, and whoever did so before does not. ``wake`` is called from any thread
    when :meth:`work` has something to do; ``superseded`` when another life of the name has begun; ``ended``
    when this one has ended and none has begun. ``promise`` is the word under which it was started, if any.
    ``refusal`` says why it must not work at all, for instance a bad start argument.
    """

    def __init__(  # noqa: PLR0913  # what a life is made of
        self,
        exporter_type: type[Exporter[Any]],
        state: ExporterState,
        configuration: LiveConfig[Any],
        wake: Callable[[], None],
        *,
        superseded: Callable[[], None],
        ended: Callable[[], None],
        promise: RestartPromise | None,
        refusal: str | None,
    ) -> None:
        self.exporter_type = exporter_type
        self.state = state
        self.lease = lease = Lease(state)
        self.configuration = configuration
        self.consumer = QueueConsumer(lease, wake, scrub=configuration.scrub)
        self.sender = Sender(lease, wake, clock=time.monotonic, scrub=configuration.scrub)
        context = ExportContext(
            state.name, configuration.section, state.memory, self.consumer.catch_up, self.chassis_stats
        )
        self.lifecycle = Lifecycle(
            exporter_type,
            context,
            lease,
            configuration,
            self.consumer,
            self.sender,
            wake=wake,
            refusal=refusal,
        )
        self.shutdown = Shutdown(
            lease,
            configuration,
            self.consumer,
            self.sender,
            self.lifecycle,
            promise=promise,
            ended=ended,
        )
        self._started = time.monotonic()
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self._superseded = superseded
        self._reported_drops = sum(state.books()["dropped"].values())
        self._reported_at = float("-inf")

    @property
    def exporter(self) -> Exporter[Any] | None:
        """The exporter that collects now."""
        return self.consumer.exporter

    @property
    def status(self) -> str:
        """What the exporter does: it is degraded as well while its destination is a wrong one."""
        is_misdirected = self.lifecycle.health.status == "running" and self.sender.reports.is_misdirected
        return "degraded" if is_misdirected else self.lifecycle.health.status

    @property
    def reason(self) -> str | None:
        """Why it does not work as it should."""
        return self.lifecycle.health.reason or self.sender.reports.trouble

    def supersede(self) -> Callable[[], Awaitable[None]]:
        """Step back, for another life has begun; returns what waits until all that it may need is let go.

        That other life may run on the loop of another thread.
        """
        if self.thread == threading.get_ident() or not self.loop.is_running():
            self._step_back()
            return self.shutdown.released

        async def let_go() -> None:
            self._step_back()
            await self.shutdown.released()

        letting_go = asyncio.run_coroutine_threadsafe(let_go(), self.loop)

        async def released() -> None:
            # Its loop may have been closed meanwhile: nothing of it is left then.
            await asyncio.wait({asyncio.wrap_future(letting_go)}, timeout=STEPPING_BACK)

        return released

    def _step_back(self) -> None:
        self.shutdown.supersede()
        self._superseded()

    def work(self) -> bool:
        """Collect for one slice of time and send what is due; return whether there is more to collect."""
        more = self.consumer.work()
        if self.lease.holds:
            self.sender.send_due()
        return more

    def send_now(self) -> None:
        """Try again what failed, whatever its back-off says."""
        if self.lease.holds:
            self.sender.send_due(ignore_rest=True)

    def collect_now(self, seconds: float) -> None:
        """Collect every event emitted before this call; another thread than the loop's waits ``seconds``."""
        if threading.get_ident() == self.thread:
            self.consumer.collect_now()
            return
        collected = threading.Event()

        def collect() -> None:
            try:
                self.consumer.collect_now()
            finally:
                collected.set()

        with contextlib.suppress(RuntimeError):  # the loop is closed: what is in the series is all there is
            self.loop.call_soon_threadsafe(collect)
            collected.wait(seconds)

    def tick(self) -> None:
        """Do what is due by the clock."""
        self.consumer.tick()
        if self.lease.holds:
            self._report_drops()

    def disown(self) -> None:
        """Be of no use any more: this is a forked child, and the exporter is its parent's."""
        self.lease.end()
        self.sender.disown()

    def stats(self) -> dict[str, Any]:
        """Return the ledger, the breaker, the queue and what the exporter adds."""
        own: dict[str, Any] = {}
        if self.exporter is not None:
            try:
                own = scrubbed(dict(self.exporter.stats()), self.configuration.scrub)
            except Exception as error:  # noqa: BLE001  # the books must be readable all the same
                own = {"stats_error": self.configuration.scrub(describe(error))}
        return {**own, **self.chassis_stats()}

    def chassis_stats(self) -> dict[str, Any]:
        """Return what is the same for every exporter."""
        state, breaker = self.state, self.state.breaker
        return {
            **state.books(),
            **state.summary(),
            "rejected_for": dict(state.ledger.rejected_for),
            "name": state.name,
            "section": self.configuration.section,
            "state": self.status,
            "reason": self.reason,
            "breaker": breaker.state,
            "breaker_failures": breaker.failure_count,
            "breaker_transitions": dict(breaker.transitions),
            "queue_depth": len(state.queue),
            "queue_limit": state.queue_limit,
            "held": state.held_events,
            "lanes": {name: len(lane) for name, lane in state.lanes.items() if name},
            "sent": {name: books.as_dict() for name, books in state.lane_books.items() if name},
            "batches": self.sender.batches,
            "export_failures": self.sender.failures,
            "wakeups": state.queue.wakeups,
            "uptime": time.monotonic() - self._started,
            "lives": state.lives,
            "unknown_messages": state.unknown_messages,
            "config_generation": self.configuration.generation,
            "config_problems": dict(Counter(each.kind for each in self.configuration.resolution.problems)),
        }

    def _report_drops(self) -> None:
        """Say how many events were dropped, at most once per interval."""
        dropped = self.state.books()["dropped"]
        total, now = sum(dropped.values()), time.monotonic()
        if total <= self._reported_drops or now - self._reported_at < REPORT_INTERVAL:
            return
        _log.warning(
            "%s dropped %d events (in all: %s).",
            self.state.name,
            total - self._reported_drops,
            ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items())),
        )
        execute(
            "telemetry.exporter.dropped",
            {"count": total - self._reported_drops},
            {"exporter": self.state.name, "reasons": dict(dropped)},
        )
        self._reported_drops, self._reported_at = total, now
