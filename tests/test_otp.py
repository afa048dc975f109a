"""Every defect of otpylib and otpylib-config that is worked around, shown to be there, beside the way around
it.

A test named ``defect_...`` fails when the library is repaired; its message says what can go then.
"""

import asyncio
import contextvars
import threading
import time

import pytest
from otpylib import atom, gen_server, process, supervisor
from otpylib.gen_server.data import NoReply, Reply
from otpylib.module import GEN_SERVER, SUPERVISOR, ModuleError, OTPModule
from otpylib.runtime import get_runtime
from otpylib.runtime.atoms import DOWN, EXIT, KILLED, SHUTDOWN
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend
from otpylib_config import CONFIG_MANAGER, Config

from otpylib_telemetry import otp
from otpylib_telemetry.config import otpylib_config
from tests.support.chassis import Venom
from tests.support.runtime import MemorySource, in_process
from tests.support.waiting import eventually


def repaired(what):
    """What to say when a defect is not there any more."""
    return f"otpylib is repaired: {what} can go"


def server(**callbacks):
    """A GenServer class: callbacks(self, ...) over defaults that do nothing."""

    async def init(self, arg):
        return arg

    async def handle_call(self, message, from_, state):
        return (Reply(payload=message), state)

    async def handle_other(self, message, state):
        return (NoReply(), state)

    async def terminate(self, reason, state):
        """Nothing."""

    body = {
        "init": init,
        "handle_call": handle_call,
        "handle_cast": handle_other,
        "handle_info": handle_other,
        "terminate": terminate,
        **callbacks,
    }
    return OTPModule("Probe", (), body, behavior=GEN_SERVER, version="1.0.0")


def ours(**callbacks):
    """The same through otp.server_module; init gets (name, argument)."""
    plain = server(**callbacks)
    body = {
        key: plain.__dict__[key] for key in ("init", "handle_call", "handle_cast", "handle_info", "terminate")
    }
    return otp.server_module("Ours", body, default_name="ours", module=__name__, doc="A probe.")


async def outside(work):
    """Await it outside the process that is running: a call would eat the messages waited for."""
    return await otp.run_in_background(asyncio.get_running_loop(), work)


async def gone(pid):
    await eventually(lambda: not process.is_alive(pid))


# --- current_emitter ----------------------------------------------------------------------------------------


def test_the_emitter_is_the_thread_outside_any_process():
    assert otp.current_emitter() == threading.get_ident()
    assert otp.is_running(otp.current_emitter())


async def test_the_emitter_is_the_pid_inside_a_process(runtime):
    async def body():
        return process.self(), otp.current_emitter()

    pid, emitter = await in_process(body)
    # The short way says what the long one does; otherwise current_emitter must go.
    assert pid == emitter
    await gone(pid)
    assert not otp.is_running(pid)


# --- safe_call ----------------------------------------------------------------------------------------------


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


# --- OwnProcess, run_in_background --------------------------------------------------------------------------


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


# --- down_pid, exit_sender, task_of, is_request -------------------------------------------------------------


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
    await eventually(lambda: not otp._background)


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


async def test_defect_a_message_that_cannot_be_compared_kills_a_server(runtime, capsys):
    pid = await in_process(ours().start_link, None, "fragile")
    await process.send("fragile", (Venom(), 1))
    await gone(pid)
    assert process.whereis("fragile") is None, repaired("is_request, in part")


def test_is_request_compares_nothing_but_strings():
    assert otp.is_request(("flush", 1), "flush", 2)
    for message in [(Venom(), 1), ["flush", 1], ("flush",), "flush", None, (b"flush", 1)]:
        assert not otp.is_request(message, "flush", 2)


# --- step_outside -------------------------------------------------------------------------------------------


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


# --- start_server -------------------------------------------------------------------------------------------


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
    with pytest.raises(RuntimeError, match="no otpylib runtime is set"):
        await otp.start_supervisor(_never_ready, [], "sup")
    assert otp.whereis("sup") is None


async def test_an_init_that_takes_too_long_leaves_no_server_behind(runtime, monkeypatch):
    monkeypatch.setattr(otp, "START_TIMEOUT", 0.05)

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


# --- supervisors --------------------------------------------------------------------------------------------


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


def test_defect_otpmodule_refuses_inherited_callbacks():
    base = server()
    with pytest.raises(ModuleError, match=r"(?i)callback"):  # otherwise server_module can derive
        OTPModule("Derived", (base,), {}, behavior=GEN_SERVER, version="1.0.0")


def test_our_modules_look_like_any_other():
    cls = ours()
    assert (cls.__name__, cls.__module__, cls.__doc__) == ("Ours", __name__, "A probe.")
    assert cls.__behavior__ == GEN_SERVER
    sup = otp.supervisor_module("OurSup", _nothing, module=__name__, doc="Of ours.")
    assert sup.__behavior__ == SUPERVISOR


# --- otpylib-config -----------------------------------------------------------------------------------------


async def test_defect_the_config_managers_name_is_an_atom_only(runtime, config_manager):
    await config_manager({"telemetry": {"x": {"rate": 1.0}}})
    assert process.whereis("config_manager") is None, repaired("config_manager_name")
    assert process.whereis(CONFIG_MANAGER) == otpylib_config.manager() is not None
    assert atom.ensure("config_manager") is CONFIG_MANAGER


async def test_defect_a_section_cannot_be_read_at_once(runtime, config_manager):
    await config_manager({"telemetry": {"x": {"rate": 1.0}}})
    assert await Config.get("telemetry.x") is None, repaired("read_section's reading key by key")
    assert await otpylib_config.read_section("telemetry.x", ["rate", "other"]) == {"rate": 1.0}


async def test_a_section_put_whole_and_entries_put_by_themselves_are_read(runtime, config_manager):
    await config_manager()
    await Config.put("telemetry.x", {"rate": 1.0, "headers": {"a": "1"}})
    await Config.put("telemetry.x.headers.b", "2")
    found = await otpylib_config.read_section("telemetry.x", ["rate", "headers", "headers.b"])
    assert found == {"rate": 1.0, "headers": {"a": "1", "b": "2"}}


async def _told(config_manager, subscribe, times=3):
    source = MemorySource({"telemetry": {"x": {"rate": 1.0}}})
    await config_manager(source)
    told = []

    async def body():
        for _ in range(times):
            await subscribe(told)
        await outside(Config.put("telemetry.x.rate", 2.0))
        while True:
            try:
                told.append(await process.receive(timeout=0.05))
            except TimeoutError:
                return told

    return await in_process(body, name="listener")


async def test_defect_a_subscriber_that_subscribes_again_is_told_again(runtime, config_manager):
    async def subscribe(told):
        async def callback(pid, path, old, new):
            told.append(path)

        await Config.subscribe("telemetry.x.*", callback, process.self())

    told = await _told(config_manager, subscribe)
    assert len(told) == 3, repaired("the module-level callback and the constant identifier in config_watch")


async def test_ours_is_told_once_however_often_it_subscribes(runtime, config_manager):
    told = await _told(config_manager, lambda _told: otpylib_config.subscribe("listener", "telemetry.x"))
    assert told == [(otpylib_config.NOTICE, "telemetry.x.rate")]


async def test_defect_reload_does_nothing(runtime, config_manager):
    source = MemorySource({"telemetry": {"x": {"rate": 1.0}}})
    await config_manager(source, reload_interval=600)
    source.values = {"telemetry": {"x": {"rate": 2.0}}}
    await Config.reload()
    await asyncio.sleep(0.02)
    assert await Config.get("telemetry.x.rate") == 1.0, repaired("the advice to use a short reload_interval")


async def test_defect_a_restarted_manager_has_forgotten_its_subscribers(runtime, config_manager):
    control = await config_manager({"telemetry": {"x": {"rate": 1.0}}})

    async def body():
        await otpylib_config.subscribe("listener", "telemetry.x")
        await control.crash()
        await outside(Config.put("telemetry.x.rate", 2.0))
        try:
            return await process.receive(timeout=0.05)
        except TimeoutError:
            return None

    found = await in_process(body, name="listener")
    assert found is None, repaired("watching for another config manager in server.py")


async def test_what_is_limited_can_ask_how_long_it_has():
    async def ask():
        await asyncio.sleep(0)
        return otp.time_left(99)

    assert otp.time_left(99) == 99
    assert 0 < await otp.within(5, ask()) <= 5
    assert otp.time_left(99) == 99


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
