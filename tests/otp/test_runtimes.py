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
from tests.support.otp_defects import repaired, server
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


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="wait_for of Python 3.12 loses no cancellation")
@pytest.mark.parametrize(("kind", "asked"), [(AsyncIOBackend, 1000), (otp.Runtime, 1)])
async def test_defect_a_supervisor_asks_for_ever_if_the_runtime_is_shut_down_while_a_child_starts_again(
    kind, asked
):
    backend = _counting(kind)
    await backend.initialize()
    set_runtime(backend)
    try:
        pid = await in_process(supervisor.start_link, _OneChild, None, "tree")
        task = backend._processes[pid].task
        await gen_server.cast("child", "fail")
        await backend.shutdown()
        await asyncio.wait([task])
        assert backend.asked == asked, repaired("otp.Runtime")
    finally:
        reset_runtime()
