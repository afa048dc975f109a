"""One life after another under a name: whoever belongs to one that is over touches nothing of the next."""

import ast
import asyncio
import pathlib

import pytest
from otpylib import process
from otpylib.runtime import get_runtime, reset_runtime, set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

import otpylib_telemetry.exporter
from otpylib_telemetry import exporter_child_spec, otp, start_exporter
from otpylib_telemetry.bus import table
from otpylib_telemetry.config import otpylib_config as reading
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.exporter.collected import Collected
from otpylib_telemetry.exporter.lease import Lease
from otpylib_telemetry.exporter.state import ExporterState
from otpylib_telemetry.supervision import supervisor as supervisor_module
from otpylib_telemetry_otel.own_runtime import OwnRuntime
from tests.support.chassis import (
    NAME,
    QUICK,
    balance,
    books,
    crash,
    delivered,
    emit,
    hang,
    make_exporter,
    runner,
    start,
    up,
)
from tests.support.runtime import in_process, running_runtime, start_config_manager
from tests.support.waiting import eventually

# --- the lease ----------------------------------------------------------------------------------------------


def test_a_lease_gives_what_belongs_to_the_name_until_the_next_one():
    state = ExporterState("mine")
    first = Lease(state)
    assert (first.holds, first.state) == (True, state)
    second = Lease(state)
    assert (first.holds, second.holds, second.state) == (False, True, state)
    assert first.state is not state


def test_an_ended_lease_holds_nothing_and_ends_no_later_one():
    state = ExporterState("mine")
    first = Lease(state)
    first.end()
    assert (first.holds, state.void_lease) == (False, None)
    second = Lease(state)
    first.end()
    assert (second.holds, second.state) == (True, state)


def test_whatever_a_life_that_is_over_does_reaches_nobody():
    """Everything a life does to what belongs to its name, done too late."""
    state = ExporterState("mine")
    late = Lease(state)
    Lease(state)
    state.subscribe(("shop.*",))
    state.queue.offer("shop.sale", {"n": 1}, {})
    state.book(Collected(items=[("item", 1)]), 1, 0)
    state.queue.connect(lambda: None, 7)
    before = (state.books(), state.queue.capacity, state.queue_limit, table.current.table.handlers["mine"])

    late.state.subscribe(("*",))
    late.state.unsubscribe()
    late.state.queue.connect(None, 1)
    late.state.queue.retain(lambda _: False)
    late.state.queue.offer("shop.sale", {"n": 2}, {})
    late.state.limit(1)
    assert late.state.queue.take(10) == []
    assert list(late.state.load(10)) == []
    late.state.put_first(lambda _: True)
    late.state.book(Collected(exported=5), 5, 3)
    late.state.breaker.failed()
    late.state.memory.clear()
    late.state.configured = True
    late.state.last_announced = ("degraded", "late")

    assert before == (
        state.books(),
        state.queue.capacity,
        state.queue_limit,
        table.current.table.handlers["mine"],
    )
    assert (state.configured, state.last_announced, state.breaker.failure_count) == (False, None, 0)


def test_a_life_keeps_its_names_state_nowhere_but_in_the_lease():
    """What keeps the state itself could go on using it when the life is over."""
    folder = pathlib.Path(otpylib_telemetry.exporter.__file__).parent
    kept = [
        f"{name}.py:{node.lineno}"
        for name in ("consumer", "sender", "lifecycle", "shutdown", "reports")
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "_state" and isinstance(node.ctx, ast.Store)
    ]
    assert kept == []


# --- lives of one runtime -----------------------------------------------------------------------------------


async def test_a_supervisor_that_ends_late_leaves_the_next_ones_exporter_alone(runtime):
    module, backend = make_exporter()
    spec = exporter_child_spec(module, {**QUICK, "shutdown_timeout": 1.0})

    async def start_tree():
        return await spec.module.start_link(spec.args, name=spec.name)

    old = await in_process(start_tree)
    await up()
    backend.always = gate = hang()
    emit(1)
    await eventually(lambda: books()["in_flight"] == 1)
    await process.exit(old, "restart it")
    await in_process(start_tree)
    await up()
    gate.set_result(None)
    backend.always = None
    await eventually(lambda: not process.is_alive(old))
    # Whatever the old supervisor still has to do, it has done when its background tasks are gone.
    await eventually(lambda: not [t for t in otp.tasks._background if t.get_name() == "telemetry shutdown"])
    emit(3, first=1)
    await delivered(backend, 4)
    assert runner().lifecycle.health.status == "running"


@pytest.mark.parametrize("first", ["crashed", "exited"])
async def test_a_life_over_before_its_tree_ended_leaves_its_successor_alone(runtime, first):
    module, backend = make_exporter()
    await start(module)
    old = runner()
    if first == "crashed":
        await crash()
    else:
        await process.exit(process.whereis(NAME), "shutdown")
    await old.shutdown.stop_for_good()
    assert not registry.is_running(NAME)
    await start(module)
    successor = runner()
    # Everything the earlier life may still do, however late.
    await old.shutdown.stop_for_good()
    await old.shutdown.stop(crashed=True)
    await old.shutdown.drain(0.1)
    old.supersede()
    old.disown()
    old.consumer.subscribe(old.configuration.settings)
    old.consumer.unsubscribe()
    old.work()
    old.tick()
    emit(5)
    await delivered(backend, 5)
    assert runner() is successor
    assert (successor.lease.holds, old.lease.holds) == (True, False)


async def test_a_batch_of_an_earlier_life_is_booked_when_it_ends(runtime):
    module, backend = make_exporter()
    await start(module)
    backend.script.append(gate := hang())
    emit(2)
    await eventually(lambda: books()["in_flight"] == 2)
    await crash()
    await start(module)
    gate.set_result(None)
    await eventually(lambda: books()["exported"] == 2)
    assert books()["in_flight"] == 0


async def test_an_exporter_opened_by_a_life_that_is_over_is_closed_and_not_used(runtime):
    module, backend = make_exporter()
    backend.opening.append(gate := hang())
    await start_exporter(module, QUICK)
    await eventually(lambda: backend.calls == ["open"])
    old = runner()
    Lease(registry.find(NAME))
    gate.set_result(None)
    await eventually(lambda: backend.calls == ["open", "close"])
    assert backend.open_now == 0
    assert not old.lifecycle.opened


# --- runtimes -----------------------------------------------------------------------------------------------


async def _set_up_anew():
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    return backend


@pytest.fixture
async def runtimes():
    """Makes a runtime, as often as it is called; all of them are shut down at the end."""
    before, made = asyncio.all_tasks(), []

    async def make():
        made.append(await _set_up_anew())
        return made[-1]

    yield make
    for backend in made:
        await backend.shutdown()
    if begun := asyncio.all_tasks() - before - {asyncio.current_task()}:
        await asyncio.wait(begun, timeout=30)
    reset_runtime()


@pytest.mark.parametrize("how", ["shut down", "left"])
@pytest.mark.parametrize("wrapped", [False, True])
async def test_the_exporter_lives_in_every_runtime(runtimes, how, wrapped):
    module, backend = make_exporter()
    spec = exporter_child_spec(module, QUICK)
    sent = 0
    for _ in range(5):
        current = await runtimes()
        if wrapped:
            await in_process(lambda: spec.module.start_link(spec.args, name=spec.name))
        else:
            await start_exporter(module, QUICK)
        await up()
        pid, mine = process.whereis(NAME), runner()
        emit(3, first=sent)
        sent += 3
        await delivered(backend, sent)
        # Long enough for everybody who was told to end to have ended.
        for _ in range(200):
            await asyncio.sleep(0)
        assert process.whereis(NAME) is pid
        assert runner() is mine
        assert get_runtime() is current
        if how == "shut down":
            await current.shutdown()
    assert backend.open_now == 1 or how == "shut down"


@pytest.mark.parametrize("in_flight", [False, True])
async def test_a_life_on_the_loop_of_another_thread_takes_over_the_queue_and_the_books(in_flight):
    """One is begun by auto-instrumentation, say, and the other by the application; each closes its own."""
    module, backend = make_exporter()
    own = OwnRuntime()
    own.call(start_exporter(module, QUICK), 30)
    own.call(eventually(lambda: runner().lifecycle.health.status == "running"), 30)
    first = runner()
    gate = own.loop.create_future()
    if in_flight:
        backend.script.append(gate)
    emit(3)
    await eventually(lambda: books()["in_flight"] == 3 if in_flight else books()["exported"] == 3)
    async with running_runtime():
        await start_exporter(module, QUICK)
        second = runner()
        emit(4, first=3)
        await eventually(lambda: (first.lease.holds, second.lease.holds) == (False, True))
        await eventually(lambda: not own.call(_names(), 30))
        if in_flight:
            own.loop.call_soon_threadsafe(gate.set_result, None)
        await eventually(lambda: books()["exported"] == 7)
        assert books()["accepted"] == 7
        assert len(backend.delivered) == 7
        assert runner() is second
    own.stop()


async def _names():
    return process.whereis(NAME)


async def test_a_process_reaches_itself_and_never_one_with_its_pid_in_the_next_runtime(runtimes):
    heard = {"first": [], "second": []}
    own = []

    async def body(name):
        own.append(otp.OwnProcess())
        while True:
            heard[name].append(await process.receive())

    await runtimes()
    pid = await process.spawn(body, args=["first"], name="somebody")
    await eventually(lambda: own)
    await runtimes()
    assert await process.spawn(body, args=["second"], name="somebody") == pid
    await eventually(lambda: len(own) == 2)
    first, second = own
    assert (first.in_runtime, second.in_runtime) == (False, True)
    first.post("late")
    first.post_later(0.0, "later")
    second.post("in time")
    await eventually(lambda: heard["second"])
    first.end()
    for _ in range(20):
        await asyncio.sleep(0)
    assert heard == {"first": [], "second": ["in time"]}
    assert process.is_alive(pid)


async def test_an_emitter_of_an_earlier_runtime_is_not_taken_for_one_of_the_present(runtimes):
    async def body():
        await asyncio.Event().wait()

    await runtimes()
    old = await process.spawn(body)
    assert otp.is_running(old)
    await runtimes()
    new = await process.spawn(body)
    assert new == old
    assert otp.is_running(new)
    assert not otp.is_running(old)


async def test_posting_from_a_thread_reaches_the_mailbox_at_once(runtime):
    heard, own = [], []

    async def body():
        own.append(otp.OwnProcess())
        while True:
            heard.append(await process.receive())

    await process.spawn(body)
    await eventually(lambda: own)
    await asyncio.to_thread(lambda: [own[0].post(n) for n in range(100)])
    await eventually(lambda: heard == list(range(100)))


async def test_outside_a_process_there_is_no_own_one(runtime):
    with pytest.raises(RuntimeError, match="mailbox of its own"):
        otp.OwnProcess()


# --- before the configuration is read -----------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["crash", "killed", "venom"])
async def test_what_was_accepted_before_the_configuration_was_read_outlives_the_process(
    runtime, reason, monkeypatch
):
    module, backend = make_exporter()
    module.exporter_type.idle_reason = lambda self: None if self.settings.endpoint == "two" else "no endpoint"
    await start_config_manager({"telemetry": {"x": {"endpoint": "two", **QUICK}}})
    spec = exporter_child_spec(module, {"shutdown_timeout": 0.3})
    # A supervisor waits a while for sections that are to be read; otpylib-config takes longer.
    monkeypatch.setattr(supervisor_module, "_SERVICES", 0.01)
    read, slow = reading.read_section, asyncio.Event()

    async def read_late(*arguments):
        await slow.wait()
        return await read(*arguments)

    monkeypatch.setattr(reading, "read_section", read_late)
    await in_process(lambda: spec.module.start_link(spec.args, name=spec.name))
    emit(50)
    assert not registry.find(NAME).configured
    slow.set()
    pid = process.whereis(NAME)
    if reason == "venom":
        await crash()
    else:
        await process.exit(pid, reason)
    await eventually(lambda: process.whereis(NAME) not in {None, pid})
    await delivered(backend, 50)
    assert backend.numbers == list(range(50))


async def test_without_a_successor_it_is_still_in_the_books(runtime, caplog):
    module, _ = make_exporter()
    module.exporter_type.idle_reason = lambda self: "no endpoint"
    await start_config_manager({"telemetry": {"x": {"endpoint": "two"}}})
    await start_exporter(module, {"shutdown_timeout": 0.3})
    emit(50)
    assert not registry.find(NAME).configured
    await process.exit(process.whereis(NAME), "shutdown")
    await eventually(lambda: not registry.is_running(NAME))
    found = registry.find(NAME).books()
    balance(found)
    assert (found["accepted"], found["queued"]) == (50, 50)
    assert f"{NAME} was drained with 50 events left: no endpoint" in caplog.text


async def test_a_configuration_that_cannot_be_read_forgets_nothing(runtime, monkeypatch):
    """otpylib-config does not answer: idle for want of an endpoint, and at work once it does."""
    module, backend = make_exporter()
    module.exporter_type.idle_reason = lambda self: None if self.settings.endpoint == "two" else "no endpoint"
    answers = []
    read = reading.read_section

    async def unwilling(section, keys):
        if not answers:
            raise TimeoutError("no answer")
        return await read(section, keys)

    monkeypatch.setattr(reading, "read_section", unwilling)
    await start_config_manager({"telemetry": {"x": {"endpoint": "two", **QUICK}}})
    await start_exporter(module, {"shutdown_timeout": 0.3, "flush_interval": 0.02})
    emit(20)
    await up(state="idle")
    assert registry.find(NAME).books()["queued"] == 20
    answers.append("yes")
    await delivered(backend, 20)


async def test_what_no_configuration_wants_is_forgotten_once_it_is_read(runtime):
    module, backend = make_exporter()
    await start_config_manager({"telemetry": {"x": {**QUICK, "event_patterns": ["other.*"]}}})
    await start_exporter(module, {"shutdown_timeout": 0.3})
    emit(20)
    await up()
    emit(1, name="other.thing")
    await delivered(backend, 1)
    assert registry.find(NAME).books()["accepted"] == 1
