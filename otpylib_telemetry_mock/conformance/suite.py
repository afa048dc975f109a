"""The suite itself: see :mod:`otpylib_telemetry_mock.conformance`."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from otpylib_telemetry_mock.conformance.hooks import ExporterUnderTest, on_a_runtime
from otpylib_telemetry_mock.conformance.odd import odd_events
from otpylib_telemetry_mock.conformance.subject import (
    StallWatch,
    Subject,
    emit,
    eventually,
    listening,
    open_descriptors,
    plain_data_faults,
    raw_events,
    recorded_logs,
    require,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry_mock.conformance.odd import EventData

_SECRET = "conformance-s3cr3t"  # noqa: S105  # what must not be seen

#: Turns of the event loop after which an export is cancelled.
_TURNS = (0, 1, 2, 3, 5, 8, 13)


class ExporterConformance(ExporterUnderTest):
    """Tests of one exporter.

    Make a subclass whose name begins with ``Test``, set the attribute ``exporter``, and override the methods
    ``settings``, ``changed_settings``, ``unreachable_settings``, ``events`` and ``received`` as far as the
    exporter has something to say there.
    """

    # --- opening, collecting, exporting --------------------------------------------------------------------

    @on_a_runtime
    async def test_it_opens(self, subject: Subject) -> None:
        """It reaches the state ``running`` with the settings of the test."""
        await subject.start()

    @on_a_runtime
    async def test_every_event_is_accounted_for_and_exported(self, subject: Subject) -> None:
        """A few hundred events are exported, none is lost, and the ledger balances at every look."""
        await subject.start()
        for _ in range(5):
            emit(self.events(60))
            await subject.stats()
        await self._all_exported(subject, 300)
        self._all_received(300, exactly=True)

    @on_a_runtime
    async def test_collecting_accounts_for_each_event_once(self, subject: Subject) -> None:
        """``collect``, ``tick`` and ``give_up_held`` neither raise nor lose count, whatever the events."""
        exporter = subject.alone()
        given = accounted = 0
        started: list[EventData] = [
            ("conformance.order.start", {}, {"span_id": f"{n:016x}"}) for n in range(10)
        ]
        for events in (self.events(50), started, odd_events("conformance"), self.events(50)):
            given += len(events)
            accounted += exporter.collect(raw_events(events), 0).events()
            require(
                accounted + exporter.held == given,
                f"of {given} events given to collect(), {accounted} are accounted for and "
                f"{exporter.held} held",
            )
        accounted += exporter.tick(2**62, 0, lambda _emitter: True).events()
        accounted += exporter.give_up_held(0).events()
        require(
            (accounted, exporter.held) == (given, 0),
            f"of {given} events, {accounted} are accounted for after give_up_held(), and {exporter.held} "
            "still held",
        )
        await exporter.close()

    @on_a_runtime
    async def test_odd_events_cost_only_themselves(self, subject: Subject) -> None:
        """Values nobody expects spoil neither the process nor the ordinary events beside them."""
        await subject.start()
        odd = odd_events("conformance.odd")
        ordinary = self.events(len(odd))
        for one, other in zip(odd, ordinary, strict=True):
            emit([other, one])
        stats = await self._handled(subject)
        require(stats["lives"] == 1, "an odd event crashed the exporter's process")
        require(not stats["dropped"], f"events were dropped beside odd ones: {stats['dropped']}")
        require(
            stats["rejected"] <= len(odd),
            f"{len(odd)} odd events cost {stats['rejected']}: one bad item must not spoil its batch",
        )
        self._all_received(len(ordinary))

    @on_a_runtime
    async def test_it_leaves_the_event_loop_free(self, subject: Subject) -> None:
        """Blocking work happens on threads: the application's event loop runs on while it exports."""
        await subject.start()
        async with StallWatch() as watch:
            for _ in range(10):
                emit(self.events(30))
                await asyncio.sleep(0.02)
            await subject.flush(self.deadline)
            await subject.drain(self.deadline)
        require(
            watch.longest < self.longest_stall,
            f"the event loop could run nothing else for {watch.longest:.2f} s",
        )

    @on_a_runtime
    async def test_exporting_can_be_cancelled_at_any_moment(self, subject: Subject) -> None:
        """A cancelled ``export`` ends, reports nothing as arrived that is not, and harms no other one."""
        exporter = subject.alone()
        await exporter.open()
        try:
            for turns in _TURNS:
                await self._cancelled(exporter, turns)
            batch, _ = self._batch(exporter)
            await asyncio.wait_for(exporter.export(batch), self.patience)
        finally:
            await exporter.close()

    @on_a_runtime
    async def test_it_does_not_feed_itself(self, subject: Subject) -> None:
        """It emits no event for each batch or flush, which would be an event to export in its turn."""
        await subject.start(event_patterns=["*"])
        emit(self.events(10))
        for _ in range(2):
            await subject.flush(self.deadline)
        with listening("*") as seen:
            for _ in range(5):
                await subject.flush(self.deadline)
        require(not seen, f"flushing emits events: {sorted({name for name, _, _ in seen})}")

    # --- messages ------------------------------------------------------------------------------------------

    @on_a_runtime
    async def test_unknown_messages_are_counted_and_ignored(self, subject: Subject) -> None:
        """A call or cast that nobody knows is answered with an error, or ignored; never a crash."""
        await subject.start()
        unknown: list[Any] = [("no_such_request",), ("no_such_request", 1, 2), "text", 5, None, ()]
        for message in unknown:
            reply = await subject.call(message)
            require(
                isinstance(reply, tuple) and reply[:1] == ("error",),
                f"the unknown call {message!r} was answered with {reply!r}",
            )
            await subject.cast(message)
        stats = await subject.stats()
        require(stats["lives"] == 1, "an unknown message crashed the exporter's process")
        require(
            stats["unknown_messages"] >= 2 * len(unknown),
            f"{2 * len(unknown)} unknown messages, {stats['unknown_messages']} counted",
        )

    @on_a_runtime
    async def test_statistics_are_plain_data(self, subject: Subject) -> None:
        """``get_stats`` and ``get_config`` are made of what JSON has."""
        await subject.start()
        emit(self.events(10))
        stats = await self._handled(subject)
        require("stats_error" not in stats, f"stats() failed: {stats.get('stats_error')}")
        config = await subject.call(("get_config",))
        faults = [*plain_data_faults(stats, "stats"), *plain_data_faults(config, "config")]
        require(not faults, f"not plain data: {', '.join(faults)}")

    @on_a_runtime
    async def test_secrets_are_not_shown(self, subject: Subject) -> None:
        """Secret settings are in no log line, event, statistics or configuration that can be seen.

        Left out if the exporter has no secret setting that takes a text.
        """
        secrets = _secrets_of(self.exporter.exporter_type.settings_type)
        if not secrets:
            pytest.skip("the exporter has no secret settings that take a text")
        subject.settings.update(secrets)
        with recorded_logs() as lines, listening("*") as seen:
            await subject.start()
            emit(self.events(10))
            await subject.flush(self.deadline)
            shown = [await subject.stats(), await subject.call(("get_config",))]
            await subject.drain(self.deadline)
        for what, said in (("get_stats", shown[:1]), ("get_config", shown[1:]), ("logs", lines)):
            require(_SECRET not in repr(said), f"a secret is to be seen in {what}")
        require(_SECRET not in repr(seen), "a secret is to be seen in an event")

    # --- ends and beginnings -------------------------------------------------------------------------------

    @on_a_runtime
    async def test_it_survives_a_crash_of_its_process(self, subject: Subject) -> None:
        """What was accepted before a crash is exported after it, and the ledger goes on."""
        await subject.start(flush_interval=60.0, batch_size=10_000)
        emit(self.events(50))
        await subject.crash()
        emit(self.events(50))
        await self._all_exported(subject, 100)
        self._all_received(100)

    @on_a_runtime
    async def test_it_is_reconfigured_without_loss(self, subject: Subject) -> None:
        """Settings that change while events flow cost none of them."""
        await subject.start()
        generation = (await subject.stats())["config_generation"]
        changes: list[Mapping[str, Any]] = [{"batch_size": 7}, {"batch_size": 30, "flush_interval": 0.1}]
        changes += [{key: value} for key, value in self.changed_settings(subject.directory).items()]
        for change in changes:
            emit(self.events(20))
            await subject.change(**change)
            emit(self.events(20))
            await subject.reaches("running")
        stats = await self._all_exported(subject, 40 * len(changes))
        self._all_received(40 * len(changes))
        await subject.reaches("running")
        require(stats["lives"] == 1, "a change of settings cost the exporter's process")
        require(
            stats["config_generation"] - generation >= len(changes),
            f"of {len(changes)} changes {stats['config_generation'] - generation} came into force; "
            f"problems: {(await subject.call(('get_config',)))['problems']}",
        )

    @on_a_runtime
    async def test_it_can_be_disabled_and_enabled_again(self, subject: Subject) -> None:
        """``enabled = false`` exports what is held and lets go; ``true`` brings it back to work."""
        await subject.start()
        emit(self.events(30))
        await subject.change(enabled=False)
        await subject.reaches("disabled")
        emit(self.events(30))
        await subject.change(enabled=True)
        await subject.reaches("running")
        emit(self.events(30))
        await self._all_exported(subject, 60)
        self._all_received(60)

    @on_a_runtime
    async def test_draining_exports_what_is_held(self, subject: Subject) -> None:
        """``("drain", seconds)`` keeps to its time, and leaves nothing where the backend takes it all."""
        await subject.start(flush_interval=60.0, batch_size=10_000)
        emit(self.events(100))
        report = await subject.drain(self.deadline)
        require(report["left"] == 0, f"draining left {report['left']} events: {report['reason']}")
        await subject.reaches("drained")
        self._all_received(100, exactly=True)

    @on_a_runtime
    async def test_a_backend_that_is_away_costs_no_events(self, subject: Subject) -> None:
        """It starts all the same, says what is wrong, keeps what it is given, and ends within its time.

        Left out without :meth:`unreachable_settings`.
        """
        unreachable = self.unreachable_settings(subject.directory)
        if unreachable is None:
            pytest.skip("unreachable_settings() gives none")
        subject.settings.update(unreachable, retry_attempts=100)
        # Some notice when they open, others when they send.
        await subject.start("running", "degraded")
        emit(self.events(30))
        await subject.says_what_is_wrong()
        report = await subject.drain(1.0)
        stats = await subject.stats()
        require(
            not stats["dropped"] and not stats["rejected"],
            f"events were given up: {stats['dropped'] or stats['rejected_for']} ({report['reason']})",
        )

    @on_a_runtime
    async def test_closing_releases_every_resource(self, subject: Subject) -> None:
        """After a drain there are no more files, sockets, threads and tasks than before it was started."""

        async def life(subject: Subject) -> Exporter[Any]:
            await subject.start()
            emit(self.events(30))
            exporter = subject.running()
            await subject.drain(self.deadline)
            return exporter

        # The first time is for what a library opens once and for all.
        await life(subject)
        await subject.end()
        files, threads = open_descriptors(), threading.active_count()
        tasks = len(asyncio.all_tasks())
        # While they are referred to, nothing is released but by the exporters themselves.
        kept = []
        for _ in range(3):
            kept.append(await life(subject))
            await self._not_more(open_descriptors, files, "files and sockets")
            await subject.end()
        await self._not_more(threading.active_count, threads + 1, "threads")
        await self._not_more(lambda: len(asyncio.all_tasks()), tasks, "tasks")
        kept.clear()

    @on_a_runtime
    async def test_closing_is_idempotent(self, subject: Subject) -> None:
        """``close`` may be called before ``open``, after it, and twice; then it can be opened again."""
        exporter = subject.alone()
        await exporter.close()
        await exporter.open()
        await exporter.close()
        await exporter.close()
        another = subject.alone()
        await another.open()
        await another.close()

    def _batch(self, exporter: Exporter[Any]) -> tuple[list[Any], int]:
        """Return items of one lane, and of how many events they are made."""
        items = exporter.collect(raw_events(self.events(20)), 0).items
        if not items:
            pytest.skip("the exporter makes no items of the events: there is no export to cancel")
        lane = exporter.lane(items[0][0])
        some = [(item, weight) for item, weight in items if exporter.lane(item) == lane]
        return [item for item, _ in some], sum(weight for _, weight in some)

    async def _cancelled(self, exporter: Exporter[Any], turns: int) -> None:
        batch, events = self._batch(exporter)
        before = self.received()

        async def export() -> None:
            await exporter.export(batch)

        task = asyncio.create_task(export())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=self.patience)
        require(task.done(), f"a cancelled export goes on for {self.patience:g} s")
        if task.cancelled() or task.exception() is not None or before is None:
            return
        arrived = (self.received() or 0) - before
        require(
            arrived >= events,
            f"a cancelled export returned as if its {events} events had arrived; {arrived} have",
        )

    async def _not_more(self, count: Callable[[], int | None], limit: int | None, what: str) -> None:
        if limit is None:
            return
        try:
            await eventually(lambda: (count() or 0) <= limit, what, min(self.patience, 10.0))
        except AssertionError:
            raise AssertionError(f"{limit} {what} before, {count()} after closing") from None


def _secrets_of(settings_type: Any) -> dict[str, str]:
    """Return a text for each secret setting that takes one."""
    secrets = {}
    for key in settings_type.secret_keys():
        for text in (_SECRET, f"user:{_SECRET}"):
            try:
                settings_type(**{key: text})
            except ValidationError:
                continue
            secrets[key] = text
            break
    return secrets
