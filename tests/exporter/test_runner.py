"""One life of an exporter: consumer, sender, lifecycle and shutdown, through its process."""

import asyncio
import gc
import re
import threading
import time

import pytest
from otpylib import process
from otpylib.runtime.atoms import KILLED

from otpylib_telemetry import Collected, Exporter, ExportError, ExportOutcome, execute, otp, start_exporter
from otpylib_telemetry.bus import table
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.exporter.process import ExporterServer
from otpylib_telemetry.exporter.shutdown import SUCCESSION
from tests.support.chassis import (
    NAME,
    QUICK,
    balance,
    books,
    call,
    cast,
    collect_events,
    crash,
    delivered,
    emit,
    hang,
    mailbox_empty,
    make_exporter,
    runner,
    start,
    stats,
    up,
)
from tests.support.waiting import eventually


async def test_events_arrive_in_order_in_batches(runtime):
    module, backend = make_exporter()
    await start(module, batch_size=10)
    emit(95)
    await delivered(backend, 95)
    assert backend.numbers == list(range(95))
    assert max(backend.batches) == 10
    assert books()["exported"] == 95


async def test_a_lone_event_leaves_after_the_interval(runtime):
    module, backend = make_exporter()
    await start(module, batch_size=100, flush_interval=0.05)
    emit(1)
    await delivered(backend, 1)
    assert backend.batches == [1]


async def test_a_batch_of_events_causes_at_most_one_wake_up(runtime):
    module, backend = make_exporter()
    await start(module, batch_size=100, flush_interval=60)
    before = stats()["wakeups"]
    emit(99)
    assert stats()["wakeups"] == before
    emit(901)
    assert stats()["wakeups"] == before + 1
    await delivered(backend, 1000)
    assert stats()["wakeups"] <= before + 10


async def test_every_full_batch_is_sent_without_waiting_for_the_clock(runtime, monkeypatch):
    monkeypatch.setattr("otpylib_telemetry.exporter.process.TICK", 60.0)
    module, backend = make_exporter()
    await start(module, batch_size=10, flush_interval=60)
    for round_ in range(1, 6):
        emit(10)
        await delivered(backend, 10 * round_)
    assert backend.batches == [10] * 5


async def test_collecting_a_long_queue_lets_the_loop_turn(runtime):
    module, _backend = make_exporter()
    await start(module, batch_size=1000, flush_interval=60)
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.ensure_future(count())
    emit(50_000)
    turns = 0
    await eventually(lambda: len(registry.find(NAME).queue) < 1000)
    counter.cancel()
    assert turns > 5


async def test_events_from_threads_are_all_there(runtime):
    module, backend = make_exporter()
    await start(module)

    def work(first):
        emit(200, first)

    threads = [threading.Thread(target=work, args=(n * 1000,)) for n in range(4)]
    for thread in threads:
        thread.start()
    await delivered(backend, 800)
    for first in range(0, 4000, 1000):
        mine = [n for n in backend.numbers if first <= n < first + 1000]
        assert mine == sorted(mine)
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("where", ["collect", "tick", "give_up_held", "held", "stats"])
async def test_an_exporter_that_raises_loses_no_count_and_no_process(runtime, where):
    def broken(self, *args):
        raise RuntimeError(f"{where} is broken")

    overrides = {where: property(broken) if where == "held" else broken}
    module, _backend = make_exporter(**overrides)
    pid = await start(module)
    emit(15)
    await eventually(lambda: books()["queued"] == 0)
    assert "x_exporter" in (await call(("get_stats",)))["name"]
    books()
    await call(("drain", 1.0))
    found = books()
    if where in {"collect", "held"}:
        assert found["dropped"] == {"failed": 15}
    else:
        assert found["exported"] == 15
    assert process.is_alive(pid)


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        [],
        Collected(exported=-1),
        Collected(exported=1.5),
        Collected(items=[("a", -3)]),
        Collected(items=["no pair"]),
        Collected(dropped={"why": "two"}),
        Collected(items=None),
    ],
)
async def test_nonsense_from_collect_is_counted_as_dropped(runtime, nonsense):
    module, _ = make_exporter(collect=lambda self, events, offset: nonsense)
    await start(module)
    emit(12)
    await eventually(lambda: books()["dropped"] == {"failed": 12})


async def test_held_events_are_queued_until_they_are_settled(runtime):
    class Holding:
        def __init__(self):
            self.kept = []

    kept = []
    module, backend = make_exporter(
        collect=lambda self, events, offset: kept.extend(events) or Collected(),
        held=property(lambda self: len(kept)),
        give_up_held=lambda self, offset: Collected(items=[(kept.pop(0), 1) for _ in range(len(kept))]),
    )
    await start(module)
    emit(15)
    await eventually(lambda: stats()["held"] == 15)
    assert books()["queued"] == 15
    assert (await call(("flush", 1.0)))["left"] == 0
    assert (await call(("drain", 1.0)))["exported"] == 15
    assert len(backend.delivered) == 15
    assert books()["exported"] == 15


async def test_open_that_fails_is_degraded_retried_and_recovers(runtime, caplog):
    caplog.set_level("INFO", logger="otpylib_telemetry")
    module, backend = make_exporter()
    backend.opening.extend([OSError("port taken"), OSError("port taken")])
    await start_exporter(module, QUICK)
    await up(state="degraded")
    assert stats()["reason"] == "OSError: port taken"
    emit(5)
    await up()
    await delivered(backend, 5)
    assert backend.calls == ["open", "close", "open", "close", "open"]
    texts = [record.getMessage() for record in caplog.records]
    assert len([text for text in texts if "is degraded" in text]) == 1
    assert "x_exporter works again." in texts
    # Whoever is woken by the one is to hear of the other.
    levels = {
        record.levelname for record in caplog.records if re.search("is degraded|works again", record.message)
    }
    assert levels == {"WARNING"}


async def test_open_that_hangs_gives_way_to_a_change(runtime):
    module, backend = make_exporter()
    backend.opening.append(hang())
    await start_exporter(module, QUICK)
    await eventually(lambda: backend.calls == ["open"])
    emit(3)
    await cast(("config_changed", "telemetry.x.endpoint", "one", "two"))
    await up()
    await delivered(backend, 3)
    assert backend.endpoints == ["two"] * 3


async def test_a_constructor_that_raises_is_an_outside_reason(runtime):
    failures = [RuntimeError("no library")]
    original = {}

    def init(self, settings, context):
        if failures:
            raise failures.pop()
        Exporter.__init__(self, settings, context)

    module, backend = make_exporter(__init__=init)
    del original
    await start_exporter(module, QUICK)
    await up(state="degraded")
    emit(3)
    await up()
    await delivered(backend, 3)


async def test_close_that_raises_or_hangs_holds_nothing_up(runtime, monkeypatch):
    monkeypatch.setattr("otpylib_telemetry.exporter.lifecycle.CLOSE_LIMIT", 0.05)

    async def close(self):
        await asyncio.sleep(3600)

    module, backend = make_exporter(close=close)
    await start(module, shutdown_timeout=0.5)
    await cast(("config_changed", "telemetry.x.endpoint", "one", "two"))
    emit(1)
    await eventually(lambda: backend.endpoints == ["two"])
    answer = await asyncio.wait_for(call(("drain", 0.2)), 60)
    assert answer == {"exported": 0, "left": 0, "reason": None}


async def test_the_limit_holds_while_the_backend_hangs_and_nothing_blocks(runtime):
    module, backend = make_exporter()
    gate = hang()
    backend.script.append(gate)
    await start(module, batch_size=10, queue_limit=50, flush_interval=0.02)
    emit(20)
    await eventually(lambda: books()["in_flight"] == 10)
    emit(80, first=20)
    await eventually(lambda: books()["dropped"] == {"queue_full": 50})
    found = books()
    assert found["queued"] + found["in_flight"] == 50
    assert (await call(("get_stats",)))["breaker"] == "closed"
    assert (await call(("get_config",)))["generation"] == 1
    await cast(("config_changed", "telemetry.x.batch_size", 10, 20))
    await mailbox_empty()
    assert books()["accepted"] == 100
    gate.set_result(None)
    await delivered(backend, 50)
    assert backend.numbers == list(range(50))


async def test_a_new_endpoint_gets_what_is_queued_while_the_old_one_hangs(runtime):
    module, backend = make_exporter()
    gate = hang()
    backend.script.append(gate)
    await start(module)
    emit(10)
    await eventually(lambda: books()["in_flight"] == 10)
    emit(20, first=10)
    await cast(("config_changed", "telemetry.x.endpoint", "one", "two"))
    await delivered(backend, 20)
    assert set(backend.endpoints) == {"two"}
    assert backend.open_now == 2
    gate.set_result(None)
    await delivered(backend, 30)
    await eventually(lambda: backend.open_now == 1)
    assert backend.endpoints.count("one") == 10


async def test_a_new_endpoint_is_tried_though_the_breaker_had_opened_for_the_old(runtime):
    module, backend = make_exporter()
    backend.script.append(OSError("down"))
    await start(module, failure_threshold=1, reset_timeout=3600)
    emit(5)
    await eventually(lambda: stats()["breaker"] == "open")
    await cast(("config_changed", "telemetry.x.endpoint", "one", "two"))
    await delivered(backend, 5)
    assert stats()["breaker"] == "closed"


async def test_what_the_backend_refuses_is_balanced(runtime):
    module, backend = make_exporter()
    backend.script.extend(
        [
            ExportError("bad", retryable=False),
            ExportOutcome(rejected=4),
            ExportError("later", retry_after=0),
            None,
        ]
    )
    await start(module)
    emit(30)
    await eventually(lambda: books()["queued"] + books()["in_flight"] == 0)
    assert books()["rejected"] == 14
    assert books()["exported"] == 16


async def test_flush_sends_what_is_there_and_says_what_was_left(runtime):
    module, backend = make_exporter()
    await start(module, flush_interval=60, batch_size=30, retry_attempts=0)
    emit(25)
    assert await call(("flush", 60.0)) == {"exported": 25, "left": 0, "reason": None}
    backend.always = OSError("refused")
    emit(5)
    assert await call(("flush", 60.0)) == {"exported": 0, "left": 5, "reason": "OSError: refused"}
    books()
    assert await call(("flush", 0)) == {"exported": 0, "left": 5, "reason": "OSError: refused"}


async def test_what_is_accepted_while_a_flush_is_under_way_is_no_part_of_it(runtime):
    module, backend = make_exporter()
    first, second = hang(), hang()
    backend.script.extend([first, second])
    await start(module, flush_interval=60, batch_size=30)
    emit(5)
    flushing = asyncio.create_task(call(("flush", 60.0)))
    await eventually(lambda: books()["in_flight"] == 5)
    emit(40)
    await eventually(lambda: books()["queued"] >= 10)
    first.set_result(None)
    assert await flushing == {"exported": 5, "left": 0, "reason": None}
    second.set_result(None)
    await delivered(backend, 45)


async def test_flush_batch_sends_without_waiting(runtime):
    module, backend = make_exporter()
    await start(module, flush_interval=60)
    emit(3)
    await cast(("flush_batch",))
    await delivered(backend, 3)


async def test_flush_of_a_hanging_backend_ends_in_time_and_loses_nothing(runtime):
    module, backend = make_exporter()
    gate = hang()
    backend.script.append(gate)
    await start(module)
    emit(5)
    answer = await call(("flush", 0.1))
    assert answer == {"exported": 0, "left": 5, "reason": "time is up"}
    gate.set_result(None)
    await delivered(backend, 5)


@pytest.mark.parametrize("seconds", ["soon", None, True, float("nan"), float("inf"), 10**400, [1]])
@pytest.mark.parametrize("what", ["flush", "drain"])
async def test_a_timeout_that_is_none_is_refused(runtime, what, seconds):
    module, _ = make_exporter()
    await start(module)
    answer = await call((what, seconds))
    assert answer == ("error", "the timeout of flush and drain is a number of seconds")
    assert stats()["state"] == "running"


async def test_drain_exports_releases_and_takes_no_more(runtime):
    module, backend = make_exporter()
    pid = await start(module, flush_interval=60)
    emit(7)
    assert await call(("drain", 60.0)) == {"exported": 7, "left": 0, "reason": None}
    assert backend.open_now == 0
    assert stats()["state"] == "drained"
    emit(3)
    await cast(("telemetry", "shop.sale", {"n": 1}, {}))
    await cast(("config_changed", "telemetry.x.endpoint", "one", "two"))
    await mailbox_empty()
    assert books()["accepted"] == 7
    assert backend.calls == ["open", "close"]
    assert process.is_alive(pid)


async def test_drain_tries_all_it_can_and_leaves_the_rest_with_the_name(runtime, caplog):
    module, backend = make_exporter()
    backend.always = OSError("refused")
    await start(module, flush_interval=60, retry_attempts=3)
    emit(7)
    answer = await call(("drain", 60.0))
    assert answer == {"exported": 0, "left": 7, "reason": "OSError: refused"}
    assert len([call_ for call_ in backend.calls if call_ == "close"]) == 1
    assert books()["queued"] == 7
    assert "x_exporter was drained with 7 events left: OSError: refused." in caplog.text


async def test_drain_of_a_hanging_backend_ends_in_time(runtime):
    module, backend = make_exporter()
    backend.always = hang()
    await start(module)
    emit(7)
    await eventually(lambda: books()["in_flight"] == 7)
    answer = await asyncio.wait_for(call(("drain", 0.2)), 60)
    assert answer["left"] == 7
    assert backend.open_now == 0
    assert books()["queued"] == 7


async def test_switching_off_drains_and_on_again_goes_on(runtime):
    module, backend = make_exporter()
    await start(module, flush_interval=60)
    emit(7)
    await cast(("config_changed", "telemetry.x.enabled", True, False))
    await up(state="disabled")
    assert len(backend.delivered) == 7
    assert backend.open_now == 0
    emit(5)
    await cast(("telemetry", "shop.sale", {"n": 1}, {}))
    await mailbox_empty()
    assert books()["accepted"] == 7
    assert NAME not in table.current.table.handlers
    await cast(("config_changed", "telemetry.x.enabled", False, True))
    await up()
    emit(3)
    await call(("flush", 1.0))
    assert len(backend.delivered) == 10
    assert books()["exported"] == 10


async def test_switching_on_does_not_wait_for_a_drain_that_hangs(runtime):
    module, backend = make_exporter()
    backend.script.append(hang())
    await start(module, shutdown_timeout=60)
    emit(7)
    await eventually(lambda: books()["in_flight"] == 7)
    await cast(("config_changed", "telemetry.x.enabled", True, False))
    await mailbox_empty()
    await cast(("config_changed", "telemetry.x.enabled", False, True))
    emit(0)
    await delivered(backend, 7)
    assert stats()["state"] == "running"


async def test_what_could_not_be_delivered_before_switching_off_is_delivered_afterwards(runtime):
    module, backend = make_exporter()
    backend.script.extend([OSError("down")] * 4)
    await start(module, flush_interval=60)
    emit(7)
    await cast(("config_changed", "telemetry.x.enabled", True, False))
    await up(state="disabled")
    assert books()["queued"] == 7
    await cast(("config_changed", "telemetry.x.enabled", False, True))
    await up()
    await call(("flush", 2.0))
    await delivered(backend, 7)


async def test_an_exporter_with_nothing_to_do_is_idle_says_so_once_and_costs_nothing(runtime, caplog):
    module, backend = make_exporter(
        idle_reason=lambda self: "no endpoint" if self.settings.endpoint == "none" else None
    )
    await start_exporter(module, {**QUICK, "endpoint": "none"})
    await up(state="idle")
    emit(5)
    await cast(("config_changed", "telemetry.x.rate", 1.0, 2.0))
    await mailbox_empty()
    assert books()["accepted"] == 0
    assert caplog.text.count("is idle: no endpoint") == 1
    assert table.current.table.handlers == {}
    await cast(("config_changed", "telemetry.x.endpoint", "none", "one"))
    await up()
    emit(5)
    await delivered(backend, 5)
    await cast(("config_changed", "telemetry.x.endpoint", "one", "none"))
    await up(state="idle")
    await eventually(lambda: backend.open_now == 0)


async def test_the_same_trouble_is_said_once_in_all_lives_and_again_after_it_was_over(runtime, caplog):
    caplog.set_level("INFO", logger="otpylib_telemetry")
    module, backend = make_exporter(
        idle_reason=lambda self: "no endpoint" if self.settings.endpoint == "none" else None
    )
    settings = {**QUICK, "endpoint": "none"}
    await start_exporter(module, settings)
    await up(state="idle")
    for _ in range(3):
        await crash()
        await start_exporter(module, settings)
        await up(state="idle")
    assert caplog.text.count("is idle: no endpoint") == 1
    backend.opening.extend([OSError("port taken")] * 100)
    await cast(("config_changed", "telemetry.x.endpoint", "none", "one"))
    await up(state="degraded")
    await crash()
    await start_exporter(module, settings)
    await up(state="degraded")
    assert caplog.text.count("is degraded: OSError: port taken") == 1
    backend.opening.clear()
    await up()
    assert caplog.text.count("works again") == 1
    await cast(("config_changed", "telemetry.x.endpoint", "one", "none"))
    await up(state="idle")
    assert caplog.text.count("is idle: no endpoint") == 2


async def test_what_came_from_the_environment_is_said_in_no_reason_and_no_statistics(
    runtime, monkeypatch, caplog
):
    monkeypatch.setenv("EP", "http://user:sesame@Backend.internal:4317/v1")

    def own_stats(self):
        return {"url": f"{self.settings.endpoint}/x", "deep": [{"host": "backend.internal"}], "port": 4317}

    module, backend = make_exporter(stats=own_stats)
    backend.opening.append(OSError("cannot bind Backend.internal"))
    backend.always = ExportError("no route to backend.internal:4317 for sesame")
    await start_exporter(module, {**QUICK, "endpoint": "${EP}", "api_key": "hunter2"})
    await up(state="degraded")
    assert stats()["reason"] == "OSError: cannot bind <redacted>"
    await up()
    emit(1)
    await eventually(lambda: stats()["export_failures"] > 0)
    shown = await call(("get_stats",))
    assert shown["reason"] == "no route to <redacted> for <redacted>"
    assert shown["url"] == "<redacted>/x"
    assert shown["deep"] == [{"host": "<redacted>"}]
    assert shown["port"] == 4317
    # What an old endpoint is in trouble for is not shown after a change either.
    await cast(("config_changed", "telemetry.x.endpoint", None, "elsewhere"))
    await eventually(lambda: runner().exporter.settings.endpoint == "elsewhere")
    emit(1)
    await eventually(lambda: (stats()["reason"] or "").startswith("no route"))
    said = caplog.text + repr(await call(("get_stats",))) + repr(await call(("flush", 0.2)))
    assert "cannot export" in said
    assert "backend.internal" not in said.lower()
    assert "sesame" not in said
    await call(("drain", 0.1))


async def test_an_idle_reason_says_nothing_from_the_environment(runtime, monkeypatch, caplog):
    monkeypatch.setenv("EP", "backend.internal:4317")
    module, _ = make_exporter(idle_reason=lambda self: f"{self.settings.endpoint} is no URL")
    await start_exporter(module, {**QUICK, "endpoint": "${EP}"})
    await up(state="idle")
    assert stats()["reason"] == "<redacted> is no URL"
    assert "is idle: <redacted> is no URL" in caplog.text
    assert "backend.internal" not in caplog.text


async def test_a_crash_without_anybody_to_restart_it_drains_after_a_while(runtime, monkeypatch):
    monkeypatch.setattr("otpylib_telemetry.exporter.shutdown.SUCCESSION", 0.05)
    assert SUCCESSION > 0.05
    module, backend = make_exporter()
    await start(module, flush_interval=60)
    emit(5)
    await crash()
    emit(5, first=5)
    await eventually(lambda: backend.open_now == 0)
    assert backend.numbers == list(range(10))
    books()
    assert NAME not in table.current.table.handlers


async def test_a_successor_finds_everything_as_it_was(runtime):
    module, backend = make_exporter()
    gate = hang()
    backend.script.append(gate)
    await start(module, failure_threshold=1)
    emit(10)
    await eventually(lambda: books()["in_flight"] == 10)
    emit(5, first=10)
    await crash()
    emit(5, first=15)
    books()
    await start(module, failure_threshold=1)
    emit(5, first=20)
    await delivered(backend, 15)
    gate.set_result(None)
    await delivered(backend, 25)
    assert sorted(backend.numbers) == list(range(25))
    await eventually(lambda: backend.open_now == 1)
    assert stats()["lives"] == 2
    assert books()["exported"] == 25


async def test_an_open_breaker_stays_open_across_a_crash(runtime):
    module, backend = make_exporter()
    backend.script.append(OSError("down"))
    await start(module, failure_threshold=1, reset_timeout=3600)
    emit(5)
    await eventually(lambda: stats()["breaker"] == "open")
    await crash()
    await start(module, failure_threshold=1, reset_timeout=3600)
    assert stats()["breaker"] == "open"
    assert books()["queued"] == 5


async def test_no_event_is_lost_between_a_crash_and_a_restart(runtime):
    module, backend = make_exporter()
    await start(module)
    for round_ in range(5):
        emit(10, first=round_ * 20)
        await crash()
        emit(10, first=round_ * 20 + 10)
        await start(module)
    await delivered(backend, 100)
    assert sorted(backend.numbers) == list(range(100))


async def test_a_second_process_of_a_running_name_is_refused(runtime):
    module, _ = make_exporter()
    pid = await start(module)
    with pytest.raises(RuntimeError, match="x_exporter cannot start: a process of that name is running"):
        await start_exporter(module)
    assert process.whereis(NAME) == pid


async def test_a_successor_of_a_living_process_ends_it(runtime):
    module, backend = make_exporter()
    old = await start(module)
    emit(3)
    await process.unregister(NAME)
    new = await start(module)
    await eventually(lambda: not process.is_alive(old))
    assert process.whereis(NAME) == new
    emit(3, first=3)
    await delivered(backend, 6)
    assert backend.open_now == 1


async def test_the_self_metrics_of_an_exporter_cannot_run_in_circles(runtime):
    module, _ = make_exporter(stats=lambda self: {"mine": self.context.stats()["state"], "name": "forged"})
    await start(module)
    answer = await call(("get_stats",))
    assert answer["mine"] == "running"
    assert answer["name"] == NAME


async def test_drops_are_reported_once_per_interval(runtime, caplog):
    seen = collect_events("telemetry.exporter.dropped")
    module, backend = make_exporter()
    backend.always = hang()
    await start(module, queue_limit=10)
    emit(30)
    await eventually(lambda: "x_exporter dropped 20 events (in all: 20 queue_full)." in caplog.text)
    emit(30)
    await asyncio.sleep(0.1)
    assert caplog.text.count("x_exporter dropped") == 1
    assert [event[1] for event in seen] == [{"count": 20}]


async def test_catching_up_collects_what_was_emitted_before(runtime):
    module, backend = make_exporter()
    await start(module, flush_interval=60, batch_size=10_000)
    emit(350)
    await backend.exporters[-1].context.catch_up()
    assert stats()["queue_depth"] == 0
    assert books()["queued"] == 350


async def test_an_exporter_with_a_length_of_zero_is_an_exporter(runtime):
    module, backend = make_exporter(__len__=lambda self: 0)
    await start(module)
    await cast(("config_changed", "telemetry.x.batch_size", 10, 20))
    await mailbox_empty()
    emit(3)
    await delivered(backend, 3)
    assert backend.calls == ["open"]


async def test_nothing_is_left_running_after_the_end(runtime):
    module, backend = make_exporter()
    backend.always = hang()
    pid = await start(module, shutdown_timeout=0.1)
    emit(5)
    await eventually(lambda: books()["in_flight"] == 5)
    await process.exit(pid, KILLED)
    await eventually(lambda: backend.open_now == 0)
    await eventually(lambda: not otp.tasks._background)
    gc.collect()
    assert runner_is_gone()


def runner_is_gone():
    found = registry.find(NAME)
    balance(found.books())
    return not registry.is_running(NAME) and found.books()["queued"] == 5


async def test_time_is_told_by_the_monotonic_clock(runtime):
    module, backend = make_exporter()
    await start(module)
    before = time.monotonic_ns()
    execute("shop.sale")
    await delivered(backend, 1)
    assert before <= backend.delivered[0].monotonic_ns <= time.monotonic_ns()
    assert runner().exporter is backend.exporters[-1]


async def test_a_wake_up_goes_through_no_mailbox_and_comes_once_for_all_that_waits(runtime, monkeypatch):
    # However long it takes here: what is left when a slice is over is worked on in the next turn.
    monkeypatch.setattr("otpylib_telemetry.exporter.consumer.SLICE_NS", 60 * 10**9)
    module, backend = make_exporter()
    await start(module, flush_interval=60, batch_size=5)
    monkeypatch.setattr(otp.OwnProcess, "post", lambda *_: pytest.fail("a message was sent"))
    worked = []
    work = ExporterServer.work
    monkeypatch.setattr(ExporterServer, "work", lambda self: (worked.append(1), work(self)))
    before = stats()["wakeups"]
    emit(500)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(worked) == 1
    assert stats()["wakeups"] == before + 1
    await delivered(backend, 500)


async def test_events_of_another_event_loop_wake_the_exporter(runtime):
    module, backend = make_exporter()
    await start(module, flush_interval=60, batch_size=50)

    async def elsewhere():
        emit(50)

    await asyncio.to_thread(asyncio.run, elsewhere())
    await delivered(backend, 50)


async def test_while_more_is_left_than_one_slice_takes_no_further_wake_up_is_sent(runtime, monkeypatch):
    monkeypatch.setattr("otpylib_telemetry.exporter.consumer.SLICE_NS", 1000)
    module, backend = make_exporter()
    await start(module, batch_size=10)
    before = stats()["wakeups"]
    for first in range(0, 6000, 300):
        emit(300, first)
        await asyncio.sleep(0)
    assert stats()["wakeups"] - before <= 3
    await delivered(backend, 6000)
    assert backend.numbers == list(range(6000))


async def test_a_process_that_crashed_is_not_woken_while_it_waits_for_a_successor(runtime):
    module, backend = make_exporter()
    await start(module, batch_size=5)
    await crash()
    emit(20)
    await asyncio.sleep(0.05)
    assert books()["queued"] == 20
    assert stats()["queue_depth"] == 20
    await start(module, batch_size=5)
    await delivered(backend, 20)
