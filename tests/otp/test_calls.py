"""Calls from a process, and what is done outside of it."""

import asyncio

import pytest
from otpylib import gen_server, process
from otpylib.gen_server.data import NoReply, Reply
from otpylib.runtime.atoms import SHUTDOWN

from otpylib_telemetry import otp
from tests.support.otp_defects import ours, repaired, server
from tests.support.runtime import in_process


async def _mailbox_after(call_function):
    async def slow(self, message, from_, state):
        await asyncio.sleep(0.05)
        return (Reply(payload="reply"), state)

    pid = await in_process(server(handle_call=slow).start_link, None, "slow")

    async def body():
        otp.OwnProcess().post_later(0.01, "precious")
        assert await call_function("slow", "question", timeout=2.0) == "reply"
        try:
            return await process.receive(timeout=0.1)
        except TimeoutError:
            return None

    found = await in_process(body)
    await process.exit(pid, SHUTDOWN)
    return found


async def test_defect_call_eats_the_callers_mailbox(runtime):
    assert await _mailbox_after(gen_server.call) is None, repaired("safe_call")


async def test_safe_call_keeps_the_callers_mailbox(runtime):
    assert await _mailbox_after(otp.safe_call) == "precious"


async def test_safe_call_raises_what_is_documented(runtime):
    with pytest.raises(ValueError, match="nobody"):
        await otp.safe_call("nobody", "question")
    pid = await in_process(ours(handle_call=_never_replies).start_link, None, "mute")
    with pytest.raises(TimeoutError):
        await otp.safe_call("mute", "question", timeout=0.05)
    await process.exit(pid, SHUTDOWN)


async def _never_replies(self, message, from_, state):
    return (NoReply(), state)


async def _answers_to_tasks_of_a_process(step):
    """Call two servers at once from tasks that a process has made."""

    async def after_a_while(self, message, from_, state):
        await asyncio.sleep(state)
        return (Reply(payload=message), state)

    for name, seconds in (("one", 0.1), ("two", 0.01)):
        await in_process(server(handle_call=after_a_while).start_link, seconds, name)

    async def task(name):
        token = step()
        try:
            return await gen_server.call(name, name, timeout=0.5)
        except TimeoutError:
            return "timed out"
        finally:
            otp.step_back(token)

    async def body():
        return await asyncio.gather(task("one"), task("two"))

    return await in_process(body)


async def test_defect_tasks_of_a_process_take_each_others_replies(runtime):
    assert "timed out" in await _answers_to_tasks_of_a_process(lambda: None), repaired("step_outside")


async def test_outside_of_the_process_each_task_has_its_own_reply(runtime):
    assert await _answers_to_tasks_of_a_process(otp.step_outside) == ["one", "two"]


async def test_stepping_back_is_being_in_the_process_again(runtime):
    async def body():
        token = otp.step_outside()
        outside = process.self()
        otp.step_back(token)
        return outside, process.self() is not None

    assert await in_process(body) == (None, True)
    assert otp.step_outside() is None
    otp.step_back(None)
