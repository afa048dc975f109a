"""Tasks in the background, limited in time, and ended cleanly."""

import asyncio
import contextvars

import pytest
from otpylib import process
from otpylib.runtime import get_runtime

from otpylib_telemetry import otp
from tests.support.otp_defects import repaired
from tests.support.runtime import in_process
from tests.support.waiting import eventually


async def test_defect_a_task_made_in_a_process_passes_for_it(runtime):
    async def body():
        return process.self(), await asyncio.create_task(_self())

    me, other = await in_process(body)
    assert me == other, repaired("the context of run_in_background")


async def _self():
    return process.self()


async def test_a_background_task_is_no_process_and_has_nobodys_context(runtime):
    variable = contextvars.ContextVar("variable", default="nothing")

    async def look():
        return process.self(), variable.get()

    async def body():
        variable.set("a span")
        return await otp.run_in_background(asyncio.get_running_loop(), look())

    assert await in_process(body) == (None, "nothing")


async def test_a_background_task_that_fails_is_logged(caplog):
    async def fail():
        raise ValueError("oops")

    task = otp.run_in_background(asyncio.get_running_loop(), fail(), name="the failing one")
    await asyncio.wait({task})
    await asyncio.sleep(0)
    assert "the failing one" in caplog.text
    assert "oops" in caplog.text


def test_asyncio_run_leaves_an_outlasting_task_alone():
    seen = []

    async def work(label, seconds):
        try:
            await asyncio.sleep(seconds)
            seen.append(f"{label} ended")
        except asyncio.CancelledError:
            seen.append(f"{label} cancelled")
            raise

    async def waiter(task):
        try:
            await asyncio.sleep(60)
        finally:
            seen.append(await otp.persist(task, 5.0))

    async def main():
        loop = asyncio.get_running_loop()
        otp.run_in_background(loop, work("plain", 0.05))
        task = otp.run_in_background(loop, work("outlasting", 0.05), outlasting=True)
        otp.run_in_background(loop, waiter(task))
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert seen == ["plain cancelled", "outlasting ended", True]


async def test_defect_shutdown_does_not_wait_for_clean_up(runtime):
    cleaned = []

    async def body():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.02)
            cleaned.append(True)

    pid = await process.spawn(body)
    await asyncio.sleep(0)
    task = otp.task_of(pid)
    assert task is not None
    await get_runtime().shutdown()
    assert not cleaned, repaired("persist, and task_of")
    await asyncio.wait({task})
    assert cleaned


async def test_persist_goes_on_through_cancellations():
    async def clean():
        await asyncio.sleep(0.05)

    async def ending():
        try:
            await asyncio.sleep(60)
        finally:
            outcomes.append(await otp.persist(asyncio.ensure_future(clean()), 5.0))

    outcomes = []
    task = asyncio.ensure_future(ending())
    for _ in range(4):
        await asyncio.sleep(0.005)
        task.cancel()
    await asyncio.wait({task})
    assert outcomes == [True]
    assert task.cancelled()


@pytest.mark.parametrize("work", ["hangs", "raises"])
async def test_persist_tells_whether_the_work_was_done(work, caplog):
    async def clean():
        if work == "raises":
            raise OSError("cannot")
        await asyncio.sleep(60)

    task = otp.run_in_background(asyncio.get_running_loop(), clean())
    assert await otp.persist(task, 0.02) is False
    await asyncio.wait({task})


async def test_within_ends_foreign_code_that_swallows_its_cancellation():
    release = asyncio.Event()

    async def stubborn():
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    with pytest.raises(TimeoutError):
        await otp.within(0.02, stubborn())
    release.set()
    await eventually(lambda: not otp.tasks._background)


async def test_within_gives_results_and_passes_errors_on():
    async def answer(value):
        if isinstance(value, BaseException):
            raise value
        return value

    assert await otp.within(1, answer(5)) == 5
    with pytest.raises(OSError, match="port"):
        await otp.within(1, answer(OSError("port")))
    with pytest.raises(RuntimeError, match="CancelledError"):
        await otp.within(1, answer(asyncio.CancelledError()))


async def test_what_is_limited_can_ask_how_long_it_has():
    async def ask():
        await asyncio.sleep(0)
        return otp.time_left(99)

    assert otp.time_left(99) == 99
    assert 0 < await otp.within(5, ask()) <= 5
    assert otp.time_left(99) == 99
