"""GenServers: start, init, terminate, names."""

import asyncio
import contextvars

import pytest
from otpylib import gen_server, process
from otpylib.runtime import get_runtime
from otpylib.runtime.atoms import KILLED, SHUTDOWN

from otpylib_telemetry import otp
from otpylib_telemetry.otp import servers
from tests.support.chassis import Venom
from tests.support.otp_defects import gone, ours, repaired, server
from tests.support.runtime import in_process
from tests.support.waiting import eventually


async def test_defect_terminate_is_never_called(runtime):
    ended = []

    async def terminate(self, reason, state):
        ended.append(reason)

    for end in ("crash", "exit"):
        pid = await in_process(server(terminate=terminate).start_link, None, f"probe {end}")
        if end == "crash":
            await process.send(pid, (Venom(), 1))
        else:
            await process.exit(pid, SHUTDOWN)
        await gone(pid)
    assert ended == [], repaired("_serve")


@pytest.mark.parametrize("end", ["crash", "stop", SHUTDOWN, KILLED, "any reason"])
async def test_ours_calls_terminate_whatever_ends_the_server(runtime, end, capsys):
    ended = []

    async def terminate(self, reason, state):
        ended.append(reason)

    async def handle_info(self, message, state):
        raise gen_server.GenServerExited("told to")

    pid = await in_process(ours(terminate=terminate, handle_info=handle_info).start_link)
    if end == "crash":
        await process.send(pid, (Venom(), 1))
    elif end == "stop":
        await process.send(pid, "stop")
    else:
        await process.exit(pid, end)
    await eventually(lambda: len(ended) == 1)
    expected = {"crash": RuntimeError, "stop": gen_server.GenServerExited}.get(end, str)
    assert isinstance(ended[0], expected)


async def test_a_terminate_that_raises_is_logged_and_hides_nothing(runtime, caplog):
    async def terminate(self, reason, state):
        raise OSError("cannot end")

    pid = await in_process(ours(terminate=terminate).start_link)
    await process.exit(pid, SHUTDOWN)
    await gone(pid)
    assert "Ours did not end cleanly" in caplog.text


async def _reason_of_a_leaked_cancellation(cls):
    async def body():
        pid = await cls.start_link(None, "leaky")
        await process.unlink(pid)
        await process.monitor(pid)
        await process.send(pid, "leak")
        return (await process.receive(timeout=2))[-1]

    return await in_process(body)


async def _leak(self, message, state):
    raise asyncio.CancelledError


async def test_defect_a_leaked_cancellation_counts_as_an_orderly_end(runtime):
    reason = await _reason_of_a_leaked_cancellation(server(handle_info=_leak))
    assert reason is SHUTDOWN, repaired("the look at cancelling() in _serve")


async def test_ours_takes_a_leaked_cancellation_for_the_crash_it_is(runtime):
    reason = await _reason_of_a_leaked_cancellation(ours(handle_info=_leak))
    assert isinstance(reason, RuntimeError)


async def test_defect_a_server_inherits_the_context_of_whoever_starts_it(runtime):
    assert await _context_in(server) == "a span", repaired("the context of start_server")


async def test_ours_starts_in_a_context_of_its_own(runtime):
    assert await _context_in(ours) == "nothing"


async def _context_in(make):
    variable = contextvars.ContextVar("variable", default="nothing")
    seen = []

    async def init(self, arg):
        seen.append(variable.get())

    async def body():
        variable.set("a span")
        pid = await make(init=init).start_link(None, "probe")
        await process.exit(pid, SHUTDOWN)

    await in_process(body)
    return seen[0]


async def _fail(self, arg):
    raise OSError("port taken")


async def test_defect_start_hides_why_init_failed(runtime):
    with pytest.raises(UnboundLocalError):  # otherwise our own start without a link can go
        await in_process(gen_server.start, server(init=_fail))


async def test_defect_start_works_in_a_process_only(runtime):
    with pytest.raises(RuntimeError, match="within a process"):  # otherwise our own start_link can go
        await gen_server.start_link(server())


async def test_ours_starts_anywhere_and_says_why_it_does_not(runtime):
    pid = await ours().start_link()
    assert process.whereis("ours") == pid
    with pytest.raises(RuntimeError, match=r"broken did not start: its init failed with .*port taken"):
        await ours(init=_fail).start_link(name="broken")
    assert process.whereis("broken") is None


async def test_without_a_runtime_starting_says_what_to_do():
    with pytest.raises(RuntimeError, match="no otpylib runtime is set"):
        await ours().start_link()
    assert otp.whereis("ours") is None


async def test_an_init_that_takes_too_long_leaves_no_server_behind(runtime, monkeypatch):
    monkeypatch.setattr(servers, "START_TIMEOUT", 0.05)

    async def slow(self, arg):
        await asyncio.sleep(60)

    with pytest.raises(RuntimeError, match="took longer than"):
        await ours(init=slow).start_link()
    await eventually(lambda: process.whereis("ours") is None)


async def test_defect_an_init_that_takes_too_long_leaves_a_server_behind(runtime):
    async def slow(self, arg):
        await asyncio.sleep(60)

    async def body():
        starting = asyncio.create_task(gen_server.start_link(server(init=slow), name="undead"))
        await asyncio.sleep(0.02)
        starting.cancel()
        await asyncio.wait({starting})

    await in_process(body)
    assert process.whereis("undead") is not None, repaired("end_quietly in _wait_for_init")


async def test_a_starter_that_is_cancelled_leaves_no_server_behind(runtime):
    async def slow(self, arg):
        await asyncio.sleep(0.05)

    starting = asyncio.ensure_future(ours(init=slow).start_link())
    await eventually(lambda: process.whereis("ours"))
    starting.cancel()
    await eventually(lambda: process.whereis("ours") is None)


async def test_starting_during_the_shutdown_of_the_backend_does_not_hang(runtime):
    async def slow(self, arg):
        await asyncio.sleep(60)

    starting = asyncio.ensure_future(ours(init=slow).start_link())
    await eventually(lambda: process.whereis("ours"))
    await get_runtime().shutdown()
    with pytest.raises(RuntimeError, match="stopped before it was up"):
        await asyncio.wait_for(starting, 60)


async def test_defect_a_second_server_takes_a_name_over_and_loses_it(runtime):
    async def body():
        return await server().start_link(None, "same"), await server().start_link(None, "same")

    first, second = await in_process(body)
    assert process.whereis("same") == second, repaired("_refuse_a_second")
    await process.exit(first, KILLED)
    assert process.whereis("same") is None, repaired("_refuse_a_second, in part")


async def test_ours_refuses_a_second_server_of_a_name(runtime):
    pid = await ours().start_link()
    with pytest.raises(RuntimeError, match="a process of that name is running"):
        await ours().start_link()
    assert process.whereis("ours") == pid


async def test_a_server_that_is_ending_does_not_refuse_its_successor(runtime):
    async def terminate(self, reason, state):
        await asyncio.sleep(0.1)

    first = await ours(terminate=terminate).start_link()
    await process.exit(first, SHUTDOWN)
    second = await ours().start_link()
    await gone(first)
    assert process.whereis("ours") == second
