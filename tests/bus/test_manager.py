"""TelemetryManager: async handlers, for those who cannot await them."""

import asyncio
import threading

import pytest
from otpylib import gen_server, process

from otpylib_telemetry import attach, detach, execute, list_handlers
from otpylib_telemetry.bus import backlog, table
from otpylib_telemetry.bus.handler import BACKLOG_LIMIT
from otpylib_telemetry.bus.manager import MANAGER
from tests.bus.managing import Recorder, emit_numbers, start_manager, stats
from tests.support.runtime import in_process
from tests.support.waiting import eventually


async def test_it_is_registered_under_its_name(runtime):
    pid = await start_manager()
    assert process.whereis(MANAGER) == pid


async def test_calls_of_plain_functions_are_made_in_order(runtime):
    await start_manager()
    seen = Recorder()
    await attach("h", "*", seen)
    emit_numbers(range(200))
    assert seen.numbers == []
    await eventually(lambda: len(seen.numbers) == 200)
    assert seen.numbers == list(range(200))


async def test_calls_from_threads_are_made_in_the_order_of_each_thread(runtime):
    await start_manager()
    seen = []

    async def handler(_name, measurements, metadata):
        seen.append((metadata["thread"], measurements["n"]))

    await attach("h", "*", handler)

    def work(number):
        for n in range(100):
            execute("a", {"n": n}, {"thread": number})

    await asyncio.gather(*(asyncio.to_thread(work, number) for number in range(4)))
    await eventually(lambda: len(seen) == 400)
    for number in range(4):
        assert [n for thread, n in seen if thread == number] == list(range(100))


async def test_a_slow_handler_delays_no_other(runtime):
    await start_manager()
    slow, quick = Recorder(asyncio.Event()), Recorder()
    await attach("slow", "*", slow)
    await attach("quick", "*", quick)
    emit_numbers(range(3))
    await eventually(lambda: quick.numbers == [0, 1, 2])
    assert slow.started == [0]
    slow.gate.set()
    await eventually(lambda: slow.numbers == [0, 1, 2])


async def test_a_handler_that_never_waits_lets_the_loop_have_its_turn(runtime):
    await start_manager()
    turns = []
    seen = []

    async def handler(_name, measurements, _metadata):
        seen.append(measurements["n"])
        turns.append(ticks[0])

    ticks = [0]

    async def tick():
        while len(seen) < 900:
            ticks[0] += 1
            await asyncio.sleep(0)

    await attach("h", "*", handler)
    emit_numbers(range(900))
    await tick()
    assert len(set(turns)) >= 10


async def test_what_is_handed_over_is_what_was_emitted_whatever_becomes_of_the_dicts(runtime):
    await start_manager()
    seen = []

    async def handler(_name, measurements, metadata):
        seen.append((measurements["n"], metadata["user"]))

    await attach("h", "*", handler)
    measurements, metadata = {"n": 1}, {"user": "u"}
    execute("a", measurements, metadata)
    measurements["n"], metadata["user"] = 2, "v"
    await eventually(lambda: seen == [(1, "u")])


async def test_a_burst_is_announced_once(runtime, monkeypatch):
    await start_manager()
    announced = []
    genuine = backlog._notify
    monkeypatch.setattr(backlog, "_notify", lambda handler: (announced.append(handler), genuine(handler)))
    seen = Recorder()
    await attach("h", "*", seen)
    emit_numbers(range(500))
    assert len(announced) == 1
    await eventually(lambda: len(seen.numbers) == 500)
    assert len(announced) == 1


# --- before it runs, and when it is full ------------------------------------------------------------------


async def test_what_was_emitted_before_it_ran_is_delivered_when_it_starts(runtime):
    one, other = Recorder(), Recorder()
    await attach("one", "*", one)
    await attach("other", "*", other)
    emit_numbers(range(10))
    await start_manager()
    await eventually(lambda: one.numbers == other.numbers == list(range(10)))
    emit_numbers([10])
    await eventually(lambda: one.numbers == other.numbers == list(range(11)))


async def test_the_backlog_is_bounded_and_what_it_cannot_hold_is_counted(runtime):
    seen = Recorder()
    await attach("h", "*", seen)
    emit_numbers(range(BACKLOG_LIMIT + 250))
    assert list_handlers()[0].missed == 250
    assert backlog.waiting() == BACKLOG_LIMIT
    await start_manager()
    await eventually(lambda: seen.numbers == list(range(BACKLOG_LIMIT)))
    assert (await stats())["missed"] == 250


async def test_what_the_backlog_cannot_hold_is_counted_exactly_across_threads():
    handler = table.add("h", ["*"], Recorder())

    threads = [threading.Thread(target=emit_numbers, args=(range(1000),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(handler.backlog), handler.missed) == (BACKLOG_LIMIT, 8000 - BACKLOG_LIMIT)


async def test_without_a_manager_a_detached_or_replaced_handler_leaves_nothing_behind():
    await attach("h", "*", Recorder())
    emit_numbers(range(5))
    await attach("h", "*", Recorder())
    assert backlog.waiting() == 0
    emit_numbers(range(5))
    await detach("h")
    assert backlog.waiting() == 0


async def test_with_a_manager_what_was_emitted_before_detaching_is_delivered(runtime):
    await start_manager()
    seen = Recorder()
    await attach("h", "*", seen)
    emit_numbers(range(5))
    await detach("h")
    emit_numbers([5])
    await eventually(lambda: seen.numbers == [0, 1, 2, 3, 4])


# --- failing handlers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError(), SystemExit(1), asyncio.CancelledError(), GeneratorExit()])
async def test_a_failing_handler_is_isolated_and_reported(runtime, error):
    await start_manager()
    reports = []

    async def bad(*_event):
        await asyncio.sleep(0)
        raise error

    async def watch(*event):
        reports.append(event)

    good = Recorder()
    await attach("bad", "a", bad)
    await attach("good", "a", good)
    await attach("watch", "telemetry.handler.*", watch)
    emit_numbers(range(8))
    await eventually(lambda: good.numbers == list(range(8)) and len(reports) == 1)
    await eventually(lambda: backlog.waiting() == 0)
    answer = await stats()
    assert (answer["handler_failures"], answer["missed"], answer["suspended"]) == (5, 3, ["bad"])


async def test_a_failing_async_handler_of_everything_ends_by_itself(runtime):
    await start_manager()
    calls = []

    async def bad(name, *_rest):
        calls.append(name)
        raise ValueError

    await attach("bad", "*", bad)
    execute("a")
    await eventually(lambda: len(calls) == 2)
    await eventually(lambda: backlog.waiting() == 0)
    assert calls == ["a", "telemetry.handler.failure"]


# --- what it answers --------------------------------------------------------------------------------------


async def test_it_tells_how_the_bus_is_doing(runtime):
    await start_manager()
    seen = Recorder()
    await attach("h", "a", seen)
    await attach("plain", "a", lambda *_: None)
    emit_numbers(range(4))
    execute(None)
    await eventually(lambda: len(seen.numbers) == 4)
    answer = await stats()
    assert answer.pop("uptime") >= 0
    assert answer == {
        "handlers": 2,
        "suspended": [],
        "handler_failures": 0,
        "missed": 0,
        "async_calls": 4,
        "async_calls_waiting": 0,
        "refused_events": 1,
        "unknown_messages": 0,
    }


async def test_unknown_messages_are_counted_and_ignored(runtime):
    pid = await start_manager()
    assert (await gen_server.call(MANAGER, "?", timeout=60))[0] == "error"
    await gen_server.cast(MANAGER, ("what", 1))
    await process.send(MANAGER, {"a": 1})
    await process.send(MANAGER, object())
    await eventually(lambda: process.is_alive(pid))
    assert (await stats())["unknown_messages"] == 4


async def test_handlers_run_outside_the_manager_and_with_nobodys_context(runtime):
    pid = await start_manager()
    selves = []

    async def handler(*_event):
        selves.append(process.self())

    await attach("h", "*", handler)

    async def server():
        execute("a")

    await in_process(server)
    await eventually(lambda: len(selves) == 1)
    assert selves == [None]
    assert process.is_alive(pid)
