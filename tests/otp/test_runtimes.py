"""A runtime beside another."""

import asyncio
import threading

from otpylib import process
from otpylib.runtime import get_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry import otp
from tests.support.otp_defects import repaired


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
