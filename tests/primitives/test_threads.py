"""Blocking work beside the loop, and what a cancellation does to it."""

import asyncio
import subprocess
import sys
import threading

import pytest

from otpylib_telemetry.primitives import process_end
from otpylib_telemetry.primitives.threads import run_in_thread, run_in_thread_to_end, start_in_thread
from tests.support import absurd


class Gate:
    """Work on a thread that goes on until it is let through."""

    def __init__(self, outcome=None):
        self.outcome = outcome
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.ended = threading.Event()

    def work(self, *args):
        self.began.set()
        self.may_end.wait(30)
        self.ended.set()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome or args

    async def begun(self):
        while not self.began.is_set():
            await asyncio.sleep(0.001)


async def started(gate, *args, timeout=30.0, linger=30.0):
    task = asyncio.create_task(run_in_thread_to_end(gate.work, *args, timeout=timeout, linger=linger))
    await gate.begun()
    return task


async def test_the_result_is_returned():
    gate = Gate()
    gate.may_end.set()
    assert await run_in_thread_to_end(gate.work, 1, 2, timeout=30, linger=0) == (1, 2)
    assert await run_in_thread(gate.work, 3) == (3,)


async def test_what_it_raises_is_raised():
    gate = Gate(OSError("down"))
    gate.may_end.set()
    with pytest.raises(OSError, match="down"):
        await run_in_thread_to_end(gate.work, timeout=30, linger=0)


async def test_what_takes_too_long_is_given_up():
    gate = Gate()
    with pytest.raises(TimeoutError, match=r"not done within 0\.01 s"):
        await run_in_thread_to_end(gate.work, timeout=0.01, linger=30)
    gate.may_end.set()


@pytest.mark.parametrize("outcome", ["taken", OSError("refused")])
async def test_a_cancelled_caller_still_learns_what_became_of_it(outcome):
    gate = Gate(outcome)
    task = await started(gate)
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    gate.may_end.set()
    if isinstance(outcome, Exception):
        with pytest.raises(OSError, match="refused"):
            await task
    else:
        assert await task == "taken"


async def test_a_cancelled_caller_waits_no_longer_than_it_may():
    gate = Gate()
    task = await started(gate, linger=0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not gate.ended.is_set()
    gate.may_end.set()


async def test_a_second_cancellation_waits_no_more():
    gate = Gate()
    task = await started(gate)
    task.cancel()
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.may_end.set()


async def test_an_end_that_nobody_waits_for_any_more_does_no_harm(caplog):
    gate = Gate(OSError("late"))
    task = await started(gate, timeout=0.01)
    with pytest.raises(TimeoutError):
        await task
    gate.may_end.set()
    while not gate.ended.is_set():
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    assert caplog.records == []


# --- the thread itself ------------------------------------------------------------------------------------


async def test_it_runs_beside_the_loop_on_a_daemon_thread():
    release = threading.Event()

    def work(x, *, y):
        assert release.wait(10)
        return x, y, threading.current_thread().daemon, threading.get_ident()

    future = start_in_thread(work, 1, y=2)
    await asyncio.sleep(0)
    release.set()
    x, y, daemon, ident = await future
    assert (x, y, daemon) == (1, 2, True)
    assert ident != threading.get_ident()


async def test_none_is_a_result():
    assert await run_in_thread(lambda: None) is None


async def test_as_many_run_at_a_time_as_are_started():
    barrier = threading.Barrier(50)
    await asyncio.gather(*(run_in_thread(barrier.wait, 10) for _ in range(50)))


async def test_an_exception_is_raised_where_it_is_awaited():
    error = OSError("refused")

    def fail():
        raise error

    with pytest.raises(OSError, match="refused") as caught:
        await run_in_thread(fail)
    assert caught.value is error


@pytest.mark.parametrize(
    "error", [e for e in absurd.ERRORS if not isinstance(e, Exception) or isinstance(e, StopIteration)]
)
async def test_what_would_end_the_task_or_the_program_is_an_ordinary_error_there(error):
    def fail():
        raise error

    with pytest.raises(RuntimeError, match=f"the call raised {type(error).__name__}") as caught:
        await run_in_thread(fail)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("outcome", [None, OSError("too late")])
async def test_who_stops_waiting_abandons_the_result_and_nothing_is_said(outcome, background_errors):
    gate = Gate(outcome)
    task = asyncio.create_task(run_in_thread(gate.work))
    await gate.begun()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.may_end.set()
    await asyncio.to_thread(gate.ended.wait, 10)
    await asyncio.sleep(0.02)


def test_a_thread_that_ends_after_its_loop_says_nothing(recwarn):
    release = threading.Event()

    async def main():
        start_in_thread(release.wait, 10)

    asyncio.run(main())
    threads = [thread for thread in threading.enumerate() if thread.name == "otpylib-telemetry"]
    release.set()
    for thread in threads:
        thread.join(10)
    assert threads
    assert [str(warning.message) for warning in recwarn] == []


def test_a_call_that_hangs_does_not_hold_up_the_end_of_the_program():
    code = (
        "import asyncio, threading\n"
        "from otpylib_telemetry.primitives.threads import start_in_thread\n"
        "async def main():\n"
        "    start_in_thread(threading.Event().wait)\n"
        "    await asyncio.sleep(0.05)\n"
        "asyncio.run(main())\n"
        "print('ended')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("ended\n", "")


def test_without_a_running_loop_it_says_so():
    with pytest.raises(RuntimeError, match="no running event loop"):
        start_in_thread(print)


async def test_where_no_thread_can_be_started_any_more_it_is_done_here(monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't create"):
        await run_in_thread(threading.get_ident)
    monkeypatch.setattr(process_end._Told, "ending", True)
    assert await run_in_thread(threading.get_ident) == threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(lambda: 1 / 0)
