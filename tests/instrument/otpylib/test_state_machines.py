"""Each event of a state machine is handled in its own sender's context, whatever the machine does with it."""

import asyncio

import pytest
from otpylib import gen_statem, process
from otpylib.atom import ensure
from otpylib.gen_statem.core import (
    EventType,
    KeepState,
    NextEventAction,
    NextState,
    PostponeAction,
    RepeatState,
    ReplyAction,
    StateTimeoutAction,
    StopState,
)

from otpylib_telemetry import current_span, span
from otpylib_telemetry.bus import table
from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor
from otpylib_telemetry.instrument.otpylib.rules import Rules, put_in_force
from tests.support.actors import PATIENCE, Heard
from tests.support.machines import machine
from tests.support.runtime import in_process

OPEN, IDLE = ensure("open"), ensure("idle")


async def start(module, name="door", argument=None):
    return await gen_statem.start(module, argument, name)


async def call(target, message):
    return await gen_statem.call(target, message, timeout=PATIENCE)


@pytest.mark.parametrize("by_state", [(), ("idle", "open")])
async def test_every_event_is_a_child_of_what_its_sender_did(instrumented, by_state):
    heard = Heard("otpylib.*", "asking.*")
    seen = []

    async def handle(event_type, content, state, data):
        seen.append((event_type, type(event_type), content if event_type != "call" else content[0]))
        if event_type == EventType.CALL:
            return NextState(OPEN, data, [ReplyAction(content[1], current_span().span_id)])
        return None

    async def session():
        pid = await start(machine("Door", handle=handle, by_state=by_state))
        with span("asking"):
            told = await call("door", ("push", 1))
            await gen_statem.cast("door", "knock")
            await process.send(pid, {"a": 1})
        await call("door", "end")
        return told

    told = await in_process(session)
    asking = heard.one("asking.success")
    pushed = heard.one("otpylib.handle.success", message="push")
    called = heard.one("otpylib.call.success", message="push")
    assert (pushed["kind"], pushed["server"], pushed["module"]) == ("call", "door", "Door")
    assert (pushed["state"], pushed["span_id"]) == ("idle", told)
    assert pushed["parent_span_id"] == called["span_id"]
    assert called["parent_span_id"] == asking["span_id"]
    for message, kind in (("knock", "cast"), ("dict", "info")):
        handled = heard.one("otpylib.handle.success", message=message)
        assert (handled["kind"], handled["state"]) == (kind, "open")
        assert handled["parent_span_id"] == asking["span_id"]
        assert handled["wait_ms"] >= 0
    # What the callbacks get is what they got before.
    assert {kind for _, kind, _ in seen} == {EventType}
    assert [content for _, _, content in seen] == [("push", 1), "knock", {"a": 1}, "end"]


@pytest.mark.parametrize("change", [NextState, RepeatState])
async def test_a_postponed_event_is_handled_where_its_own_sender_was_and_has_waited_since_it_came(
    instrumented, change
):
    """However often it is postponed, and with others that look the same."""
    heard = Heard("otpylib.handle.*", "a.*", "b.*", "opening.*", "inner.*")
    handled, waiting = [], asyncio.Event()

    async def handle(event_type, content, state, data):
        if content == "open":
            if change is RepeatState:
                return RepeatState(data + 1)
            return NextState(OPEN, data + 1)
        if data < 2:
            waiting.set()
            actions = [PostponeAction()]
            if event_type == EventType.CALL:
                # A reply to somebody else in between changes nothing.
                actions.insert(0, NextEventAction(EventType.INTERNAL, "noted"))
            return KeepState(data, actions)
        with span("inner"):
            handled.append((content[0] if event_type == EventType.CALL else content, current_span().trace_id))
        if event_type == EventType.CALL:
            return KeepState(data, [ReplyAction(content[1], "done")])
        return None

    async def session():
        await start(machine(handle=handle), argument=0)
        traces = {}
        for name in ("a", "b"):
            with span(name):
                traces[name] = current_span().trace_id
                await gen_statem.cast("door", "walk")
        caller = asyncio.create_task(in_process(one_call))
        await waiting.wait()
        with span("opening"):
            await gen_statem.cast("door", "open")
            await asyncio.sleep(0.05)
            await gen_statem.cast("door", "open")
        traces["called"] = await caller
        return traces

    async def one_call():
        with span("a"):
            assert await call("door", "walk") == "done"
            return current_span().trace_id

    traces = await in_process(session)
    async with asyncio.timeout(PATIENCE):
        while len([one for one in handled if one[0] == "walk"]) < 3:
            await asyncio.sleep(0.005)
    walked = [trace for content, trace in handled if content == "walk"]
    assert sorted(walked) == sorted(traces.values())
    ends = heard.of("otpylib.handle.success", message="walk")
    for trace in traces.values():
        mine = [one for one in ends if one["trace_id"] == trace]
        assert len(mine) >= 2
        assert [one["wait_ms"] for one in mine] == sorted(one["wait_ms"] for one in mine)
        assert mine[-1]["wait_ms"] > 30
        sender = {one["parent_span_id"] for one in mine}
        assert len(sender) == 1


async def test_what_an_event_leads_to_belongs_to_it(instrumented):
    """Internal events, replies, timeouts: all are sent when the callback has returned."""
    heard = Heard("otpylib.*", "asking.*")
    got = asyncio.get_running_loop().create_future()

    async def handle(event_type, content, state, data):
        if content == "go":
            return NextState(
                OPEN,
                data,
                [NextEventAction(EventType.INTERNAL, ("then", 1)), StateTimeoutAction(0.01, "late")],
            )
        if event_type == EventType.STATE_TIMEOUT:
            return KeepState(data, [ReplyAction((data, "answer"), "timed out")])
        return None

    async def session():
        await start(machine(handle=handle), argument=process.self())
        with span("asking"):
            await gen_statem.cast("door", "go")
        message = await process.receive(timeout=PATIENCE)
        got.set_result((message, current_span()))

    await in_process(session)
    message, where = got.result()
    assert message == ("answer", "timed out")
    asking = heard.one("asking.success")
    gone = heard.one("otpylib.handle.success", message="go")
    internal = await heard.wait_for("otpylib.handle.success", message="then")
    timeout = await heard.wait_for("otpylib.handle.success", message="state_timeout")
    assert gone["parent_span_id"] == asking["span_id"]
    assert (internal["kind"], internal["parent_span_id"]) == ("info", gone["span_id"])
    assert (timeout["kind"], timeout["parent_span_id"]) == ("info", gone["span_id"])
    assert where.span_id == timeout["span_id"]


@pytest.mark.parametrize("listens", [True, False])
async def test_nothing_stays_of_the_event_before(instrumented, listens):
    Heard(*(["otpylib.*"] if listens else []), "start.*", "a.*", "own.*")
    seen = []

    async def handle(event_type, content, state, data):
        seen.append((content, getattr(current_span(), "trace_id", None)))

    async def session():
        with span("start"):
            start_trace = current_span().trace_id
            await start(machine(handle=handle))
        with span("a"):
            await gen_statem.cast("door", "a")
            trace = current_span().trace_id
        await gen_statem.cast("door", "nothing")
        async with asyncio.timeout(PATIENCE):
            while len(seen) < 2:
                await asyncio.sleep(0.005)
        return start_trace, trace

    started, trace = await in_process(session)
    found = dict(seen)
    assert found["a"] == trace
    assert found["nothing"] not in {started, trace}
    assert listens or found["nothing"] is None


async def test_an_event_fails_as_its_callback_does_and_what_follows_belongs_to_it(instrumented):
    heard = Heard("otpylib.handle.*", "asking.*")

    async def handle(event_type, content, state, data):
        if content == "raise":
            raise ValueError("no")
        return {"stop": StopState("enough", data), "bad": "nonsense"}[content]

    async def session():
        told = []
        for content in ("raise", "bad", "stop"):
            pid = await start(machine(handle=handle), name=content)
            await process.monitor(pid)
            with span("asking"):
                await gen_statem.cast(content, content)
            down = await process.receive(timeout=PATIENCE)
            told.append((type(down[-1]).__name__, current_span().span_id))
        return told

    told = await in_process(session)
    assert [name for name, _ in told] == ["ValueError", "GenStatemBadReturn", "GenStatemExited"]
    ended = [
        heard.one("otpylib.handle.error", message="raise"),
        heard.one("otpylib.handle.error", message="bad"),
        heard.one("otpylib.handle.success", message="stop"),
    ]
    assert [one.get("error_type") for one in ended] == ["ValueError", "GenStatemBadReturn", None]
    # The message that tells of the end was sent by what it came of.
    assert [one["span_id"] for one in ended] == [where for _, where in told]


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (OPEN, "open"),
        ("open", "open"),
        ((ensure("up"), "auth"), "up/auth"),
        ("a state with content: 42", "str"),
        (7, "int"),
        (None, "NoneType"),
    ],
)
async def test_states_have_names_and_their_content_is_not_told(instrumented, state, told):
    heard = Heard("otpylib.handle.*")

    async def handle(event_type, content, _state, data):
        return NextState(state, data)

    async def session():
        await start(machine(handle=handle))
        await gen_statem.cast("door", "one")
        await gen_statem.cast("door", "two")

    await in_process(session)
    assert (await heard.wait_for("otpylib.handle.success", message="two"))["state"] == told


async def test_filtered_machines_still_pass_the_context_on(instrumented):
    put_in_force(Rules(exclude=("door",)))
    heard = Heard("otpylib.*", "asking.*", "inner.*")

    async def handle(event_type, content, state, data):
        if content == "go":
            return NextState(OPEN, data, [NextEventAction(EventType.INTERNAL, "then")])
        with span("inner"):
            return None

    async def session():
        await start(machine(handle=handle))
        with span("asking"):
            await gen_statem.cast("door", "go")

    await in_process(session)
    inner = await heard.wait_for("inner.success")
    assert inner["parent_span_id"] == heard.one("asking.success")["span_id"]
    assert heard.of("otpylib.handle.success") == []


async def test_events_postponed_before_and_after_it_is_switched_on_and_off(runtime):
    """They are replayed in either state, to callbacks that see what they always see."""
    seen = []
    Heard("a.*")

    async def handle(event_type, content, state, data):
        kind = event_type
        if content == "open":
            return NextState(OPEN, data)
        if state == IDLE:
            return KeepState(data, [PostponeAction()])
        match kind:
            case EventType.CAST:
                seen.append((content, getattr(current_span(), "trace_id", None), kind.value, kind == "cast"))
        return None

    async def session():
        await start(machine(handle=handle))
        instrumentor = OtpylibInstrumentor()
        traces = []
        for number in range(4):
            (instrumentor.instrument if number % 2 else instrumentor.uninstrument)()
            with span("a"):
                traces.append(current_span().trace_id)
                await gen_statem.cast("door", number)
            await asyncio.sleep(0.01)
        await gen_statem.cast("door", "open")
        async with asyncio.timeout(PATIENCE):
            while len(seen) < 4:
                await asyncio.sleep(0.005)
        instrumentor.uninstrument()
        return traces

    try:
        traces = await in_process(session)
    finally:
        OtpylibInstrumentor().uninstrument()
        table.remove("heard")
    assert [one[0] for one in seen] == [0, 1, 2, 3]
    assert {one[2:] for one in seen} == {("cast", True)}
    assert seen[1][1] == traces[1]
    assert seen[3][1] == traces[3]
