"""What a message is."""

import asyncio

import pytest
from otpylib import process
from otpylib.runtime.atoms import DOWN, EXIT, KILLED, SHUTDOWN

from otpylib_telemetry import otp
from tests.support.chassis import Venom
from tests.support.otp_defects import gone, ours, repaired
from tests.support.runtime import in_process


async def _down_after(reason):
    async def sleeper():
        await asyncio.sleep(60)

    async def body():
        pid = await process.spawn(sleeper, mailbox=True)
        await process.monitor(pid)
        await asyncio.sleep(0)
        await process.exit(pid, reason)
        return pid, await process.receive(timeout=2)

    return await in_process(body)


async def test_defect_down_comes_in_two_shapes(runtime):
    _, killed = await _down_after(KILLED)
    _, shut_down = await _down_after(SHUTDOWN)
    assert (len(killed), len(shut_down)) == (4, 5), repaired("one case of down_pid")


@pytest.mark.parametrize("reason", [KILLED, SHUTDOWN, "crash"])
async def test_down_pid_reads_both(runtime, reason):
    pid, message = await _down_after(reason)
    assert otp.down_pid(message) == pid


@pytest.mark.parametrize("message", [None, (), (DOWN,), (1, 2, 3, 4), "DOWN", [DOWN], (Venom(), 1, 2, 3, 4)])
def test_down_pid_ignores_the_rest(message):
    assert otp.down_pid(message) is None
    assert otp.exit_sender(message) is None


def test_exit_sender_reads_exit_messages():
    assert otp.exit_sender((EXIT, "pid", "reason")) == "pid"


async def test_defect_monitor_references_collide(runtime):
    async def sleeper():
        await asyncio.sleep(60)

    async def body():
        first, second, third = [await process.spawn(sleeper) for _ in range(3)]
        await process.monitor(first)
        kept = await process.monitor(second)
        await process.exit(first, KILLED)
        await asyncio.sleep(0.01)
        return kept, await process.monitor(third)

    kept, new = await in_process(body)
    assert kept == new, repaired(
        "looking children up by pid in supervise.py, and perhaps supervise.py itself"
    )


async def test_defect_a_message_that_cannot_be_compared_kills_a_server(runtime, capsys):
    pid = await in_process(ours().start_link, None, "fragile")
    await process.send("fragile", (Venom(), 1))
    await gone(pid)
    assert process.whereis("fragile") is None, repaired("is_request, in part")


def test_is_request_compares_nothing_but_strings():
    assert otp.is_request(("flush", 1), "flush", 2)
    for message in [(Venom(), 1), ["flush", 1], ("flush",), "flush", None, (b"flush", 1)]:
        assert not otp.is_request(message, "flush", 2)
