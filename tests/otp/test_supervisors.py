"""Supervisors."""

import asyncio

import pytest
from otpylib import process, supervisor
from otpylib.module import SUPERVISOR, OTPModule
from otpylib.runtime.atoms import KILLED, SHUTDOWN

from otpylib_telemetry import otp
from tests.support.chassis import Venom
from tests.support.otp_defects import gone, repaired, server
from tests.support.runtime import in_process
from tests.support.waiting import eventually


async def _nothing(self, *args):
    """Do nothing."""


def supervisor_of(*specs):
    async def init(self, arg):
        return (list(specs), supervisor.options(max_restarts=100, max_seconds=1))

    body = {"init": init, "terminate": _nothing}
    return OTPModule("Sup", (), body, behavior=SUPERVISOR, version="1.0.0")


async def test_defect_supervisor_start_takes_the_first_message_for_its_handshake(runtime):
    async def body():
        await process.send(process.self(), ("hello", 1))
        with pytest.raises(RuntimeError, match="Unexpected init reply"):  # otherwise the future can go
            await supervisor_of().start_link(None, "sup")

    await in_process(body)


async def _never_ready(ready, parent):
    raise OSError("cannot")


async def test_our_supervisors_start_keeps_the_mailbox(runtime):
    async def run(ready, parent):
        ready.set_result(process.self())
        await asyncio.sleep(60)

    async def body():
        await process.send(process.self(), ("hello", 1))
        pid = await otp.start_supervisor(run, [], "sup")
        assert process.whereis("sup") == pid
        return await process.receive(timeout=1)

    assert await in_process(body) == ("hello", 1)


async def test_a_supervisor_that_dies_before_it_is_up_is_an_error_and_no_hang(runtime):
    with pytest.raises(RuntimeError, match="stopped before it was up"):
        await asyncio.wait_for(otp.start_supervisor(_never_ready, [], "sup"), 60)


async def test_defect_a_nested_supervisor_is_not_stopped(runtime):
    inner = supervisor.child_spec(id="inner", module=supervisor_of(), name="inner")
    outer = await in_process(supervisor_of(inner).start_link, None, "outer")
    await process.send(outer, SHUTDOWN)
    await gone(outer)
    await asyncio.sleep(0.02)
    assert process.whereis("inner") is not None, repaired("exit_sender's use in supervise.py")


async def test_defect_a_supervisor_that_was_shut_down_is_started_again_by_the_one_above(runtime):
    inner = supervisor.child_spec(id="inner", module=supervisor_of(), name="inner")
    await in_process(supervisor_of(inner).start_link, None, "outer")
    old = process.whereis("inner")
    await process.send(old, SHUTDOWN)
    await gone(old)
    await asyncio.sleep(0.02)
    assert process.whereis("inner") is not None, repaired("the CancelledError in start_supervisor")


async def test_defect_a_killed_child_is_not_restarted(runtime):
    child = supervisor.child_spec(id="child", module=server(), name="child")
    await in_process(supervisor_of(child).start_link, None, "sup")
    await process.exit(process.whereis("child"), KILLED)
    await asyncio.sleep(0.05)
    assert process.whereis("child") is None, repaired("supervise.py, in part")


async def test_defect_a_child_whose_init_fails_at_a_restart_stays_dead(runtime):
    starts = []

    async def init(self, arg):
        starts.append(1)
        if len(starts) == 2:
            raise OSError("not now")

    child = supervisor.child_spec(id="child", module=server(init=init), name="child")
    await in_process(supervisor_of(child).start_link, None, "sup")
    await process.send("child", (Venom(), 1))
    await eventually(lambda: len(starts) == 2)
    await asyncio.sleep(0.1)
    assert len(starts) == 2, repaired("supervise.py's repeated attempts")
    assert process.whereis("child") is None


async def test_without_a_runtime_starting_says_what_to_do():
    with pytest.raises(RuntimeError, match="no otpylib runtime is set"):
        await otp.start_supervisor(_never_ready, [], "sup")
    assert otp.whereis("sup") is None
