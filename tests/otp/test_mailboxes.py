"""The mailbox of the process that is running."""

import asyncio
import time

from otpylib import process
from otpylib.runtime import get_runtime

from otpylib_telemetry import otp
from tests.support.otp_defects import repaired
from tests.support.runtime import in_process


def test_defect_send_is_a_coroutine():
    assert asyncio.iscoroutinefunction(process.send), repaired("OwnProcess.post")


async def test_defect_timers_do_not_catch_up(runtime):
    """Timers count ticks: a loop that is busy between them makes each one longer, for good."""
    late, punctual = [], []
    get_runtime().timing_wheel.insert("probe", 200, "", None, callback=lambda: late.append(1))
    asyncio.get_running_loop().call_later(0.2, punctual.append, 1)
    for _ in range(6):
        time.sleep(0.05)
        await asyncio.sleep(0.011)
    assert punctual
    assert not late, repaired("OwnProcess.post_later, and the exporters' timer made with call_later")


async def test_post_later_delivers_and_can_be_cancelled(runtime):
    async def body():
        me = otp.OwnProcess()
        me.post_later(0.0, "never").cancel()
        me.post_later(0.01, "hello")
        return await process.receive(timeout=2)

    assert await in_process(body) == "hello"
