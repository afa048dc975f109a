"""Processes that begin, end and crash are told of, with the reason, and where it happened."""

import asyncio
import contextlib
import gc
import weakref

import pytest
from otpylib import atom, gen_server, gen_statem, process
from otpylib.gen_server.data import Stop
from otpylib.module import GEN_STATEM, OTPModule
from otpylib.runtime.atoms import KILLED, NORMAL, SHUTDOWN, SUPERVISOR_SHUTDOWN

from otpylib_telemetry import execute, otp, span
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor, identity, reasons
from otpylib_telemetry.instrument.otpylib.rules import Rules, put_in_force
from otpylib_telemetry_otel import start_otel_exporter
from tests.support.actors import Heard, call, server
from tests.support.runtime import in_process
from tests.support.waiting import eventually

LIFE = ("otpylib.process.*", "otpylib.name.*")


async def acting(message, _state):
    """A handler that does what it is told."""
    if isinstance(message, BaseException):
        raise message
    return message


def raised_here():
    raise KeyError("no such order")


async def test_a_process_that_begins_and_ends_is_told_of(instrumented):
    heard = Heard(*LIFE)

    async def session():
        pid = await gen_server.start(server("Till", on_cast=acting), None, "till")
        await process.spawn_link(asyncio.sleep, args=[0], name=atom.ensure("brief"))
        await gen_server.cast(pid, Stop("normal"))
        return pid

    pid = await in_process(session)
    spawned = heard.one("otpylib.process.spawned", server="till")
    assert (spawned["module"], spawned["pid"], spawned["count"]) == ("Till", str(pid), 1)
    assert not spawned["linked"]
    assert heard.one("otpylib.process.spawned", server="brief")["linked"]
    exited = await heard.wait_for("otpylib.process.exited", server="till")
    assert (exited["reason"], exited["pid"], exited["module"]) == ("normal", str(pid), "Till")
    assert 0 <= exited["lifetime_ms"] < 60_000
    await heard.wait_for("otpylib.process.exited", server="brief")
    assert not heard.of("otpylib.process.crashed")


#: How a server ends, the reason that is told, and whether it is a crash.
ENDS = {
    "raises": (ValueError("no"), "ValueError", True),
    "raises what otpylib raises": (gen_server.GenServerExited("x"), "GenServerExited", True),
    "stops normal": (Stop("normal"), "normal", False),
    "stops NORMAL": (Stop(NORMAL), "normal", False),
    "stops shutdown": (Stop(SHUTDOWN), "shutdown", False),
    "stops for a reason with more": (Stop(("shutdown", "of the shop")), "shutdown", False),
    "stops without a reason": (Stop(), "stop", False),
    "stops with None": (Stop(None), "stop", False),
    "stops for another reason": (Stop("database_gone"), "database_gone", True),
    "stops with content": (Stop("10.0.0.1 is gone!"), "str", True),
    "stops with an exception": (Stop(OSError("disk")), "OSError", True),
    "leaks a cancellation": (asyncio.CancelledError(), "CancelledError", True),
}


@pytest.mark.parametrize("early", [False, True], ids=["spawned after", "spawned before"])
@pytest.mark.parametrize("way", ["cast", "info", "call"])
@pytest.mark.parametrize(("how", "reason", "is_crash"), ENDS.values(), ids=ENDS.keys())
async def test_the_reason_of_a_server_that_ends(runtime, how, reason, is_crash, way, early):
    heard = Heard(*LIFE, "otpylib.handle.*")
    instrumentor = OtpylibInstrumentor()
    if not early:
        instrumentor.instrument()

    async def start():
        await gen_server.start(server(on_cast=acting, on_info=acting, on_call=acting), None, "worker")

    async def session():
        if way == "cast":
            await gen_server.cast("worker", how)
        elif way == "info":
            await process.send("worker", how)
        else:
            with contextlib.suppress(TimeoutError, gen_server.GenServerExited, OSError):
                await call("worker", how, timeout=0.05)

    try:
        await in_process(start)
        instrumentor.instrument()
        await in_process(session)
        exited = await heard.wait_for("otpylib.process.exited", reason=reason)
    finally:
        instrumentor.uninstrument()
    crashed = heard.of("otpylib.process.crashed", server="worker")
    assert len(crashed) == is_crash
    if is_crash:
        names = [name for name, _, told in heard.events if told.get("pid") == exited["pid"]]
        assert names[-2:] == ["otpylib.process.crashed", "otpylib.process.exited"]
        assert crashed[0]["reason"] == reason
        assert crashed[0]["lifetime_ms"] >= 0
    if isinstance(how, BaseException):
        assert crashed[0]["error_type"] == type(how).__name__
        if isinstance(how, ValueError):
            assert crashed[0]["error"] == "no"
            assert "in acting" in crashed[0]["stacktrace"]


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "handling"])
@pytest.mark.parametrize(
    ("given", "reason", "is_crash"),
    [
        (KILLED, "killed", True),
        ("killed", "killed", True),
        ("crash", "crash", True),
        (("badmatch", 1), "badmatch", True),
        (ValueError("x"), "ValueError", True),
        (NORMAL, "normal", False),
        (SHUTDOWN, "shutdown", False),
        (SUPERVISOR_SHUTDOWN, "supervisor_shutdown", False),
    ],
)
async def test_a_process_that_is_asked_to_end_ends_for_that_reason(
    instrumented, given, reason, is_crash, busy
):
    heard = Heard(*LIFE, "otpylib.handle.*", "inner.*", "asking.*")
    begun = asyncio.Event()

    async def handle(_message, _state):
        begun.set()
        with span("inner"):
            await asyncio.Event().wait()

    async def session():
        await gen_server.start(server(on_info=handle), None, "worker")
        if busy:
            with span("asking"):
                await process.send("worker", "wait")
            await begun.wait()
        await process.exit("worker", given)

    await in_process(session)
    exited = await heard.wait_for("otpylib.process.exited", server="worker")
    assert exited["reason"] == reason
    crashed = heard.of("otpylib.process.crashed", server="worker")
    assert [each["reason"] for each in crashed] == [reason] * is_crash
    if busy:
        handled = heard.one("otpylib.handle.error")
        assert (handled["error"], handled["error_type"]) == (reason, "CancelledError")
        trace = heard.one("asking.success")["trace_id"]
        assert handled["trace_id"] == trace
        for each in crashed:
            assert [one["name"] for one in each["open_spans"]] == ["otpylib.handle", "inner"]
            assert {one["trace_id"] for one in each["open_spans"]} == {trace}


async def test_whatever_a_process_does_about_it_the_reason_is_told_once(instrumented):
    heard = Heard(*LIFE)
    asleep = []

    async def sleeping():
        asleep.append(1)
        await asyncio.sleep(60)

    async def swallowing():
        with contextlib.suppress(asyncio.CancelledError):
            await sleeping()
        await asyncio.sleep(0.02)

    async def waiting():
        await asyncio.wait_for(sleeping(), 50)

    async def failing():
        try:
            await sleeping()
        finally:
            raise OSError("in the clean-up")

    ways = {"swallowing": swallowing, "waiting": waiting, "failing": failing}

    async def session(reason):
        for name, way in ways.items():
            await process.spawn(way, name=f"{name}_{reason}")
        while len(asleep) < len(ways):
            await asyncio.sleep(0.005)
        asleep.clear()
        for name in ways:
            await process.exit(f"{name}_{reason}", reason)

    for reason in ("killed", "broken"):
        await in_process(session, reason)
        for name in ways:
            expected = "OSError" if name == "failing" else reason
            await heard.wait_for("otpylib.process.exited", server=f"{name}_{reason}", reason=expected)
            assert heard.one("otpylib.process.crashed", server=f"{name}_{reason}")["reason"] == expected


async def test_it_is_switched_on_and_off_while_processes_end(runtime):
    heard = Heard(*LIFE)
    instrumentor = OtpylibInstrumentor()

    async def session():
        instrumentor.instrument()
        first = await process.spawn(asyncio.sleep, args=[60], name="first")
        await process.exit(first, "one")
        instrumentor.uninstrument()
        unseen = await process.spawn(asyncio.sleep, args=[60], name="unseen")
        second = await process.spawn(asyncio.sleep, args=[60], name="second")
        await process.exit(unseen, "two")
        instrumentor.instrument()
        await process.exit(second, "three")

    try:
        await in_process(session)
        await heard.wait_for("otpylib.process.crashed", server="second", reason="three")
        await heard.wait_for("otpylib.process.crashed", server="first", reason="one")
        assert not heard.of("otpylib.process.crashed", server="unseen")
    finally:
        instrumentor.uninstrument()


async def test_state_machines_and_servers_end_alike(instrumented):
    heard = Heard(*LIFE)
    core = gen_statem.core

    async def callback_mode(_self):
        return core.CallbackMode.HANDLE_EVENT_FUNCTION

    async def init(_self, fails):
        if fails:
            raised_here()
        return atom.ensure("open"), None

    async def handle_event(_self, _type, content, _state, data):
        if isinstance(content, Exception):
            raise content
        return core.StopState(reason=content[0], state_data=data) if content else core.KeepState(data)

    async def terminate(_self, _reason, _state, _data):
        """Nothing to clean up."""

    callbacks = {"callback_mode": callback_mode, "init": init, "handle_event": handle_event}
    body = {**callbacks, "terminate": terminate, "__module__": __name__, "__qualname__": "Door"}
    door = OTPModule("Door", (), body, behavior=GEN_STATEM, version="1.0.0")

    async def session():
        for name, content in (("orderly", ["shutdown"]), ("worn", ["worn"]), ("raises", ValueError("no"))):
            await core.start(door, None, name)
            await core.cast(name, ())
            await core.cast(name, content)
        with contextlib.suppress(RuntimeError):
            await core.start(door, "fails", "broken")

    await in_process(session)
    await heard.wait_for("otpylib.process.exited", server="orderly", reason="shutdown")
    for name, reason in (("worn", "worn"), ("raises", "ValueError"), ("broken", "KeyError")):
        await heard.wait_for("otpylib.process.crashed", server=name, reason=reason)
    assert not heard.of("otpylib.process.crashed", server="orderly")
    assert len(heard.one("otpylib.process.crashed", server="raises")["recent"]) == 2


@pytest.mark.parametrize("given", [KILLED, "crash", SHUTDOWN])
async def test_a_process_that_never_ran_ends_too(instrumented, given):
    heard = Heard(*LIFE)

    async def session():
        pid = await process.spawn(asyncio.sleep, args=[60], name="short")
        await process.exit(pid, given)

    await in_process(session)
    await heard.wait_for("otpylib.process.exited", server="short", reason=reasons.named(given))


async def test_links_end_for_the_reason_of_the_first(instrumented):
    heard = Heard(*LIFE)

    async def linked(*others):
        for other in others:
            await process.link(other)
        await asyncio.sleep(60)

    async def crashing():
        await asyncio.sleep(0.02)
        raise LookupError("first")

    async def session():
        for kind in ("crash", "exit"):
            first = await process.spawn(crashing if kind == "crash" else linked, name=f"{kind}_first")
            second = await process.spawn(linked, args=[first], name=f"{kind}_second")
            await process.spawn(linked, args=[second], name=f"{kind}_third")
            if kind == "exit":
                await asyncio.sleep(0.05)
                await process.exit(first, "broken")

    await in_process(session)
    for kind, reason in (("crash", "LookupError"), ("exit", "broken")):
        for name in ("first", "second", "third"):
            crashed = await heard.wait_for("otpylib.process.crashed", server=f"{kind}_{name}")
            assert crashed["reason"] == reason


async def test_one_that_traps_exits_does_not_end(instrumented):
    heard = Heard(*LIFE)
    seen = []

    async def trapping():
        seen.append(await process.receive())
        await process.receive()

    async def session():
        pid = await process.spawn(trapping, trap_exits=True, name="trapping")
        await process.exit(pid, "please")
        await asyncio.sleep(0.02)
        assert seen
        await process.send(pid, "end")

    await in_process(session)
    assert (await heard.wait_for("otpylib.process.exited", server="trapping"))["reason"] == "normal"
    assert not heard.of("otpylib.process.crashed")


async def test_an_end_of_the_runtime_is_no_crash(instrumented):
    heard = Heard(*LIFE)

    async def session():
        await gen_server.start(server(), None, "worker")
        await process.spawn(asyncio.sleep, args=[60], name="other")

    await in_process(session)
    await instrumented.shutdown()
    for name in ("worker", "other"):
        exited = await heard.wait_for("otpylib.process.exited", server=name)
        assert exited["reason"] == "shutdown"
    assert not heard.of("otpylib.process.crashed")


@pytest.mark.parametrize("start", [gen_server.start, gen_server.start_link])
async def test_an_init_that_fails_is_a_crash(instrumented, start):
    heard = Heard(*LIFE)

    async def init(_argument):
        raised_here()

    async def session():
        await start(server("Broken", on_init=init), None, "broken")

    with pytest.raises((RuntimeError, UnboundLocalError)):
        await in_process(session)
    crashed = await heard.wait_for("otpylib.process.crashed", server="broken")
    assert (crashed["reason"], crashed["error_type"]) == ("KeyError", "KeyError")
    assert "in raised_here" in crashed["stacktrace"]
    assert (await heard.wait_for("otpylib.process.exited", server="broken"))["reason"] == "KeyError"


async def test_a_crash_belongs_to_the_trace_of_the_message_and_so_does_what_it_causes(instrumented):
    heard = Heard(*LIFE, "asking.*", "otpylib.handle.*", "after.*")
    entries = []

    async def watch(message, _state):
        with span("after"):
            entries.append(message)

    async def session():
        pid = await gen_server.start(server(on_cast=acting), None, "worker")

        async def watcher():
            await process.monitor(pid)
            ready.set()
            await watch(await process.receive(), None)

        ready = asyncio.Event()
        await process.spawn(watcher)
        await ready.wait()
        with span("asking"):
            await gen_server.cast("worker", ValueError("no"))

    await in_process(session)
    after = await heard.wait_for("after.success")
    asking = heard.one("asking.success")
    assert after["trace_id"] == asking["trace_id"]
    handled = heard.one("otpylib.handle.error")
    assert after["parent_span_id"] == handled["span_id"]


async def test_a_name_that_is_taken_over_is_told_of(instrumented):
    heard = Heard(*LIFE)

    async def session():
        first = await process.spawn(asyncio.sleep, args=[60], name="till")
        second = await process.spawn(asyncio.sleep, args=[60], name="till")
        await process.exit(first, KILLED)
        await asyncio.sleep(0.01)
        await process.spawn(asyncio.sleep, args=[60], name="till")
        return first, second

    first, second = await in_process(session)
    told = heard.one("otpylib.name.taken_over")
    assert (told["name"], told["old_pid"], told["pid"], told["count"]) == ("till", str(first), str(second), 1)


async def test_filters_hold_and_what_is_ours_or_otpylibs_is_not_told_of(instrumented):
    heard = Heard(*LIFE)
    put_in_force(Rules(exclude=("noisy*",)))

    async def session():
        await gen_server.start(server(on_call=acting), None, "worker")
        await gen_server.start(server("Noisy", on_cast=acting), None, "noisy")
        await gen_server.start(server("Noisy", on_cast=acting), None, "noisy_and_well")
        await gen_server.cast("noisy", ValueError())

    await in_process(session)
    assert await call("worker", "outside") == "outside"
    # What is left out as noise does not crash unnoticed.
    assert (await heard.wait_for("otpylib.process.crashed"))["server"] == "noisy"
    told = {metadata["server"] for name, _, metadata in heard.events if name != "otpylib.process.crashed"}
    assert "worker" in told
    assert not told & {"noisy", "noisy_and_well"}
    assert not [name for name in told if "bridge" in name]


async def test_the_last_messages_come_with_a_crash(instrumented):
    """Whoever listens to messages, or to crashes alone."""
    for patterns in (("otpylib.*",), ("otpylib.process.crashed",)):
        heard = Heard(*patterns)
        put_in_force(Rules(recorder=5))

        async def session():
            await gen_server.start(server(on_cast=acting, on_call=acting), None, "worker")
            for number in range(8):
                await call("worker", (f"ask_{number}", "payload"))
            await gen_server.cast("worker", ValueError("no"))

        await in_process(session)
        crashed = await heard.wait_for("otpylib.process.crashed")
        recent = crashed["recent"]
        assert [each["message"] for each in recent] == ["ask_4", "ask_5", "ask_6", "ask_7", "ValueError"]
        assert [each["outcome"] for each in recent] == ["success"] * 4 + ["error"]
        assert [each["kind"] for each in recent] == ["call"] * 4 + ["cast"]
        assert all(each["age_ms"] >= each["duration_ms"] >= 0 for each in recent)
        assert not any("payload" in each for each in recent)
        if len(patterns[0]) == len("otpylib.*"):
            assert all(each["wait_ms"] >= 0 for each in recent)


async def test_payloads_are_told_if_asked_for_without_what_is_secret(instrumented):
    heard = Heard("otpylib.process.crashed")
    put_in_force(Rules(payloads=True))
    messages = [
        ("login", {"user": "ann", "password": "hunter2", "nested": [{"api_key": "hunter2"}]}),
        ("fetch", "https://ann:hunter2@example.com/?token=hunter2"),
        ("header", "Authorization: Bearer hunter2"),
        ("long", "x" * 10_000),
        ("deep", [[[[[[[[]]]]]]]]),
    ]

    async def session():
        await gen_server.start(server(on_cast=acting, on_call=acting), None, "worker")
        for message in messages:
            await call("worker", message)
        await gen_server.cast("worker", ValueError("no"))

    await in_process(session)
    recent = (await heard.wait_for("otpylib.process.crashed"))["recent"]
    assert "hunter2" not in str(recent)
    assert "'user': 'ann'" in recent[0]["payload"]
    assert all(len(each["payload"]) <= 300 for each in recent)


async def test_a_crash_is_a_log_record_in_its_trace_with_all_that_is_known(instrumented, http_receiver):
    await start_otel_exporter({"endpoint": http_receiver.endpoint, "protocol": "http/protobuf"})
    await eventually(lambda: registry.status_of("otel_exporter")[0] == "running")
    heard = Heard("otpylib.process.crashed")

    async def session():
        await gen_server.start(server("Till", on_cast=acting), None, "till")
        await gen_server.cast("till", "note")
        with span("asking"):
            await gen_server.cast("till", ValueError("no"))

    await in_process(session)
    await heard.wait_for("otpylib.process.crashed")
    await otp.safe_call("otel_exporter", ("flush", 20), timeout=30)
    (record,) = [one for one in http_receiver.logs if one.event_name == "otpylib.process.crashed"]
    assert record.body == "till has crashed: ValueError: no"
    assert record.severity == "ERROR"
    (asking,) = [one for one in http_receiver.spans if one.name == "asking"]
    assert record.trace_id == asking.trace_id
    found = record.attributes
    assert (found["server"], found["reason"], found["exception.type"]) == ("till", "ValueError", "ValueError")
    assert "in acting" in found["exception.stacktrace"]
    assert [each["message"] for each in found["recent"]] == ["note", "ValueError"]
    assert [each["name"] for each in found["open_spans"]] == ["otpylib.handle"]


async def test_what_a_process_leaves_open_ends_with_its_reason(instrumented, http_receiver):
    await start_otel_exporter({"endpoint": http_receiver.endpoint, "protocol": "http/protobuf"})
    await eventually(lambda: registry.status_of("otel_exporter")[0] == "running")

    async def working():
        execute("work.start", {}, {"order": 7})
        await asyncio.sleep(60)

    async def session():
        pid = await process.spawn(working, name="worker")
        await asyncio.sleep(0.01)
        await process.exit(pid, KILLED)

    await in_process(session)
    await eventually(lambda: [one for one in http_receiver.spans if one.name == "work"])
    (left,) = [one for one in http_receiver.spans if one.name == "work"]
    assert left.attributes["otpylib.telemetry.incomplete"] == "emitter_died"
    assert left.attributes["otpylib.process.exit_reason"] == "killed"
    assert left.attributes["order"] == 7


async def test_unnamed_servers_remember_nothing_and_nor_does_anybody_where_it_is_off(instrumented):
    heard = Heard("otpylib.process.crashed")

    async def session(name):
        pid = await gen_server.start(server(on_cast=acting), None, name)
        await gen_server.cast(pid, "one")
        await gen_server.cast(pid, ValueError("no"))

    await in_process(session, None)
    put_in_force(Rules(recorder=0))
    await in_process(session, "worker")
    told = await heard.wait_for("otpylib.process.crashed", 2)
    assert not any("recent" in each for each in told)


async def test_nothing_of_a_process_stays_after_its_end(instrumented):
    Heard("otpylib.*")
    before = len(identity.known)

    async def session():
        for number in range(50):
            name = f"worker_{number}" if number % 2 else None
            pid = await gen_server.start(server(on_cast=acting), None, name)
            await gen_server.cast(pid, "one")
            if number % 3 == 0:
                await process.exit(pid, KILLED)
            else:
                await gen_server.cast(pid, ValueError("no"))

    await in_process(session)
    async with asyncio.timeout(20):
        while len(identity.known) > before:
            await asyncio.sleep(0.005)
    assert not identity._recording


async def test_nothing_of_a_message_is_kept_unless_that_is_asked_for(instrumented):
    Heard("otpylib.*")
    payloads = []

    async def session():
        await gen_server.start(server(on_cast=acting, on_call=acting), None, "worker")
        for _ in range(30):
            payload = {1}
            payloads.append(weakref.ref(payload))
            await gen_server.cast("worker", ("message", payload))
            del payload
        await call("worker", "end")

    await in_process(session)
    gc.collect()
    # The last one may be on the stack of the server yet.
    assert sum(each() is not None for each in payloads) <= 1
