"""TelemetryManager: crash, restart and end."""

import asyncio

import pytest
from otpylib import process
from otpylib.runtime import get_runtime
from otpylib.runtime.atoms import KILLED

from otpylib_telemetry import attach
from otpylib_telemetry.bus import backlog, table
from otpylib_telemetry.bus.manager import MANAGER
from tests.bus.managing import Recorder, emit_numbers, end_of, start_manager, stats
from tests.support.crash import crash
from tests.support.runtime import running_runtime
from tests.support.waiting import eventually

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
