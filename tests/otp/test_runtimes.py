"""A runtime beside another."""

import asyncio
import sys
import threading

import pytest
from otpylib import gen_server, process, supervisor
from otpylib.module import SUPERVISOR, OTPModule
from otpylib.runtime import get_runtime, reset_runtime, set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry import otp
from tests.support.otp_defects import ours, repaired, server
from tests.support.runtime import in_process


async def test_defect_a_program_has_one_runtime_and_a_private_one_beside_it_is_not_in_its_way(
    runtime,
):
    """otpylib's own functions find the private one on its thread, and the one that is set everywhere else."""
    from otpylib.process import api  # noqa: PLC0415  # what is replaced

    original, mine = api.get_runtime, get_runtime()
    up, done = threading.Event(), threading.Event()
    found = {}

    async def private():
        backend = AsyncIOBackend()
        await backend.initialize()
        with otp.private_runtime(backend):
            pid = await process.spawn(asyncio.Event().wait, name="somebody")
            found["private"] = (otp.get_runtime() is backend, process.whereis("somebody") is pid)
            found["emitter"] = otp.is_running(emitter)
            up.set()
            await asyncio.to_thread(done.wait)
            await backend.shutdown()

    emitter = await process.spawn(asyncio.Event().wait)
    thread = threading.Thread(target=asyncio.run, args=[private()])
    thread.start()
    await asyncio.to_thread(up.wait)
    assert (otp.get_runtime(), get_runtime(), process.whereis("somebody")) == (mine, mine, None)
    assert found == {"private": (True, True), "emitter": True}
    done.set()
    await asyncio.to_thread(thread.join)
    assert api.get_runtime is original, repaired("private_runtime")


async def _fail(_self, _message, _state):
    raise ValueError("told to")


class _OneChild(metaclass=OTPModule, behavior=SUPERVISOR, version="1.0.0"):
    async def init(self, _arg):
        child = supervisor.child_spec(id="child", module=server(handle_cast=_fail), name="child")
        return ([child], supervisor.options())

    async def terminate(self, _reason, _state):
        """Nothing."""


def _counting(kind):
    """A kind of runtime that counts, up to a thousand, how often processes ask that it has forgotten."""

    class Counting(kind):
        asked = 0

        async def receive(self, timeout=None, match=None):
            if self.self() not in self._processes:
                self.asked += 1
                if self.asked == 1000:
                    raise asyncio.CancelledError
            return await super().receive(timeout, match)

    return Counting()


async def _asked_at_the_end(kind, turns):
    """Make a child fail, let the loop have so many turns, shut the runtime down; tell what was asked."""
    backend = _counting(kind)
    await backend.initialize()
    set_runtime(backend)
    try:
        pid = await in_process(supervisor.start_link, _OneChild, None, "tree")
        task = backend._processes[pid].task
        await gen_server.cast("child", "fail")
        for _ in range(turns):
            await asyncio.sleep(0)
        await backend.shutdown()
        await asyncio.wait([task])
        return backend.asked
    finally:
        reset_runtime()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="wait_for of Python 3.12 loses no cancellation")
@pytest.mark.parametrize(("kind", "asked"), [(AsyncIOBackend, 1000), (otp.Runtime, 1)])
async def test_defect_a_supervisor_asks_for_ever_if_the_runtime_is_shut_down_while_a_child_starts_again(
    kind, asked
):
    # Which turn it is that the cancellation is lost in depends on what else is due then.
    assert max([await _asked_at_the_end(kind, turns) for turns in range(20)]) == asked, repaired(
        "otp.Runtime"
    )


async def test_defect_a_runtime_that_was_shut_down_starts_processes_and_ours_are_not_started(runtime):
    before = otp.is_shut_down()
    await runtime.shutdown()
    left = await process.spawn(asyncio.Event().wait)
    assert process.is_alive(left), repaired("is_shut_down")
    runtime._processes[left].task.cancel()
    assert (before, otp.is_shut_down()) == (False, True)
    with pytest.raises(RuntimeError, match="late cannot start: the otpylib runtime was shut down"):
        await otp.start_server(ours(), None, "late", link=False)
