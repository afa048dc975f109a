"""TelemetryManager: async handlers, for those who cannot await them."""

import asyncio
import threading

import pytest
from otpylib import gen_server, process
from otpylib.runtime import get_runtime
from otpylib.runtime.atoms import KILLED

from otpylib_telemetry import TelemetryManager, attach, detach, execute, list_handlers
from otpylib_telemetry.bus import backlog, table
from otpylib_telemetry.bus.handler import BACKLOG_LIMIT
from otpylib_telemetry.bus.manager import MANAGER
from tests.support.crash import crash
from tests.support.runtime import in_process, running_runtime
from tests.support.waiting import eventually


async def start_manager(name=None):
    return await in_process(lambda: TelemetryManager.start_link(name=name))


async def end_of(pid):
    await eventually(lambda: not process.is_alive(pid))


async def stats():
    return await gen_server.call(MANAGER, ("get_stats",), timeout=60)


class Recorder:
    """An async handler: waits for ``gate``, if any, before it notes the number of an event."""

    def __init__(self, gate=None):
        self.numbers = []
        self.started = []
        self.gate = gate

    async def __call__(self, _name, measurements, _metadata):
        self.started.append(measurements["n"])
        if self.gate is not None:
            await self.gate.wait()
        self.numbers.append(measurements["n"])


def emit_numbers(numbers, name="a"):
    for n in numbers:
        execute(name, {"n": n})


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


# --- crash, restart, end ----------------------------------------------------------------------------------


async def test_a_crash_loses_nothing_but_what_was_being_handled(runtime):
    pid = await start_manager()
    stuck, quick = Recorder(asyncio.Event()), Recorder()
    await attach("stuck", "*", stuck)
    await attach("quick", "*", quick)
    emit_numbers(range(10))
    await eventually(lambda: stuck.started == [0] and len(quick.numbers) == 10)

    await crash(MANAGER)
    await end_of(pid)
    emit_numbers(range(10, 20))
    stuck.gate.set()
    await start_manager()

    await eventually(lambda: len(stuck.numbers) == 19)
    assert stuck.numbers == list(range(1, 20))
    await eventually(lambda: quick.numbers == list(range(20)))


async def test_an_announcement_behind_the_message_that_kills_it_is_not_lost(runtime):
    pid = await start_manager()
    seen = Recorder()
    await attach("h", "*", seen)
    await crash(MANAGER)
    emit_numbers(range(5))
    await end_of(pid)
    await start_manager()
    await eventually(lambda: seen.numbers == list(range(5)))


async def test_crashes_in_the_middle_of_a_stream_neither_double_nor_reorder(runtime):
    seen = Recorder()
    await attach("h", "*", seen)
    pid = await start_manager()
    for round_ in range(10):
        emit_numbers(range(round_ * 50, round_ * 50 + 50))
        await asyncio.sleep(0)
        await crash(MANAGER)
        await end_of(pid)
        pid = await start_manager()
    await eventually(lambda: backlog.waiting() == 0 and seen.numbers[-1:] == [499])
    assert seen.numbers == list(range(500))  # the handler never waits, so nothing was being handled


async def test_a_handler_that_ignores_its_cancellation_is_not_overtaken_by_the_next_manager(runtime):
    release = asyncio.Event()
    running, seen = [0], []

    async def stubborn(_name, measurements, _metadata):
        running[0] += 1
        assert running[0] == 1
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        seen.append(measurements["n"])
        running[0] -= 1

    await attach("h", "*", stubborn)
    pid = await start_manager()
    emit_numbers(range(3))
    await eventually(lambda: running == [1])
    await crash(MANAGER)
    await end_of(pid)
    await start_manager()
    emit_numbers([3])
    await asyncio.sleep(0.02)
    assert seen == []
    release.set()
    await eventually(lambda: seen == [0, 1, 2, 3])
    assert (await stats())["async_calls"] == 3


@pytest.mark.parametrize("how", ["kill", "shutdown"])
async def test_told_to_end_it_makes_the_calls_that_wait(how, background_errors):
    seen = []

    async def handler(_name, measurements, _metadata):
        await asyncio.sleep(0)
        seen.append(measurements["n"])

    await attach("h", "*", handler)
    async with running_runtime() as backend:
        pid = await start_manager()
        emit_numbers(range(100))
        if how == "kill":
            await process.exit(pid, KILLED)
            await end_of(pid)
        else:
            await backend.shutdown()
        await eventually(lambda: len(seen) == 100)
    assert seen == list(range(100))


async def test_told_to_end_it_does_not_wait_for_ever(background_errors, monkeypatch):
    monkeypatch.setattr("otpylib_telemetry.bus.manager._GRACE", 0.05)
    stuck = Recorder(asyncio.Event())
    await attach("h", "*", stuck)
    async with running_runtime():
        await start_manager()
        emit_numbers(range(3))
        await eventually(lambda: stuck.started == [0])
    await eventually(lambda: backlog.waiting() == 2)


async def test_a_second_manager_takes_over_and_the_end_of_the_first_does_not_matter(runtime):
    seen = Recorder()
    await attach("h", "*", seen)
    first = await start_manager()
    second = await start_manager("another")
    await process.exit(first, KILLED)
    await end_of(first)
    assert process.is_alive(second)
    emit_numbers(range(3))
    await eventually(lambda: seen.numbers == [0, 1, 2])


def test_what_one_event_loop_left_is_delivered_in_the_next():
    seen = Recorder()
    table.add("h", ["*"], seen)

    async def first():
        seen.gate = asyncio.Event()
        async with running_runtime():
            await start_manager()
            emit_numbers(range(3))
            await eventually(lambda: seen.started == [0])
            await crash(MANAGER)
            await eventually(lambda: get_runtime().whereis(MANAGER) is None)

    async def second():
        seen.gate = None
        async with running_runtime():
            await start_manager()
            await eventually(lambda: seen.numbers == [1, 2, 3])

    asyncio.run(first())
    emit_numbers([3])
    asyncio.run(second())
    assert seen.numbers == [1, 2, 3]


def test_a_worker_that_died_with_its_loop_is_replaced_in_the_next():
    seen = Recorder()
    handler = table.add("h", ["*"], seen)
    emit_numbers(range(2))
    loop = asyncio.new_event_loop()
    assert backlog.claim(handler, loop)
    loop.close()
    backlog.connect(lambda _handler: None)
    assert backlog.claim(handler, loop)
    assert backlog.next_call(handler)[1] == {"n": 0}


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
