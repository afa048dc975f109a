"""Cancellation of the caller, and callbacks that turn out to be async."""

import asyncio
import gc
import inspect

import pytest

from otpylib_telemetry import (
    attach,
    emit,
    emit_counter,
    emit_gauge,
    emit_timer,
    execute,
    list_handlers,
)
from otpylib_telemetry.bus import table
from tests.bus.recorders import AsyncRecorder, Recorder, every_way_to_emit, start_and_cancel
from tests.support import absurd

# --- cancellation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "emitting",
    [
        lambda: emit("a"),
        lambda: emit_counter("a"),
        lambda: emit_timer("a", 1),
        lambda: emit_gauge("a", 1),
    ],
)
async def test_the_cancellation_of_the_caller_passes_and_is_no_failure(emitting):
    async def slow(*_event):
        await asyncio.sleep(60)

    await attach("slow", "*", slow)
    after = []

    async def caller():
        await emitting()
        after.append("went on")

    task = await start_and_cancel(caller())
    assert task.cancelled()
    assert after == []
    assert list_handlers()[0].failures == 0


async def test_a_time_limit_around_emit_works():
    async def slow(*_event):
        await asyncio.sleep(60)

    await attach("slow", "*", slow)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await emit("a")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(emit("a"), 0.01)
    assert list_handlers()[0].failures == 0


async def test_a_time_limit_inside_a_handler_is_its_own_failure(quiet):
    async def impatient(*_event):
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)

    await attach("h", "*", impatient)
    await emit("a")
    assert list_handlers()[0].failures == 1


async def test_a_cancelled_future_in_a_handler_is_its_own_failure(quiet):
    async def leaking(*_event):
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    await attach("h", "a", leaking)
    await emit("a")
    assert list_handlers()[0].failures == 1


async def test_execute_in_the_clean_up_of_a_cancelled_task_does_not_raise(quiet):
    await attach("h", "a", Recorder(asyncio.CancelledError()))
    after = []

    async def caller():
        try:
            await asyncio.sleep(60)
        finally:
            execute("a")
            after.append("cleaned up")

    task = await start_and_cancel(caller())
    assert task.cancelled()
    assert after == ["cleaned up"]
    assert list_handlers()[0].failures == 1


async def test_closing_the_coroutine_of_the_caller_passes():
    async def slow(*_event):
        await asyncio.sleep(60)

    await attach("slow", "*", slow)
    after = []

    async def caller():
        await emit("a")
        after.append("went on")

    coroutine = caller()
    coroutine.send(None)
    coroutine.close()
    assert after == []
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    assert list_handlers()[0].failures == 0


async def test_handlers_behind_one_in_which_the_caller_was_cancelled_are_left_to_the_manager():
    async def slow(*_event):
        await asyncio.sleep(60)

    await attach("slow", "*", slow)
    await attach("behind", "*", AsyncRecorder())
    await start_and_cancel(emit("a"))
    behind = table.current.table.handlers["behind"]
    assert [call[0] for call in behind.backlog] == ["a"]


# --- handlers that turn out to be async -------------------------------------------------------------------


async def test_a_plain_callback_that_gives_a_coroutine_has_it_awaited_and_is_called_once():
    seen = AsyncRecorder()
    calls = []

    def around(*event):
        calls.append(event[0])
        return seen(*event)

    await attach("h", "*", around)
    await emit("a")
    await emit("b")
    assert calls == seen.names == ["a", "b"]


def test_its_coroutine_is_not_left_unawaited_when_there_is_no_loop(recwarn):
    seen = AsyncRecorder()

    def around(*event):
        return seen(*event)

    table.add("h", ["*"], around)
    for _ in range(3):
        execute("a")
    table.remove("h")
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


async def test_a_callback_that_is_async_only_now_and_then_works_throughout():
    seen = AsyncRecorder()
    plain = []
    await attach("h", "*", lambda name, *rest: seen(name, *rest) if name == "async" else plain.append(name))
    for name in ("plain", "async", "plain", "async"):
        await emit(name)
    assert seen.names == ["async", "async"]
    assert plain == ["plain", "plain"]
    assert list_handlers()[0].failures == 0


async def test_what_else_a_plain_callback_returns_is_ignored():
    odd = absurd.Malicious()
    await attach("h", "*", lambda *_event: odd)
    await every_way_to_emit("a")
    assert list_handlers()[0].failures == 0
