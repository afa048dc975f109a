"""The context of the sender travels with every message, whatever it is and however it is sent."""

import asyncio

import pytest
from otpylib import gen_server, process
from otpylib.gen_server.data import Stop

from otpylib_telemetry import current_span, span
from otpylib_telemetry.instrument.otpylib import envelope
from otpylib_telemetry.instrument.otpylib.envelope import FAN_OUT, TIMER_CHAIN
from otpylib_telemetry.instrument.otpylib.rules import Rules, put_in_force
from tests.support.actors import Heard, call, server
from tests.support.runtime import in_process

#: How a message is sent, and the kind it is then.
WAYS = ["call", "cast", "info", "send_after", "reply"]


async def send(way, target, message):
    if way == "call":
        await call(target, message)
    elif way == "cast":
        await gen_server.cast(target, message)
    elif way == "info":
        await process.send(target, message)
    else:
        await process.send_after(0.01, target, message)


@pytest.mark.parametrize("payload", ["word", ("tag", 1), {"a": 1}, 7, None, b"x", [1]])
@pytest.mark.parametrize("way", ["call", "cast", "info", "send_after"])
async def test_a_handler_runs_in_its_senders_context(instrumented, way, payload):
    heard = Heard("asking.*", "otpylib.handle.*", "inner.*")
    got = asyncio.get_running_loop().create_future()

    async def handle(message, _state):
        if message != "stop":
            with span("inner"):
                got.set_result(message)

    async def session():
        await gen_server.start(server(on_call=handle, on_cast=handle, on_info=handle), None, "worker")
        with span("asking"):
            await send(way, "worker", payload)
        assert await asyncio.wait_for(got, 20) == payload

    await in_process(session)
    asking, inner = heard.one("asking.success"), await heard.wait_for("inner.success")
    handled = await heard.wait_for("otpylib.handle.success")
    assert inner["parent_span_id"] == handled["span_id"]
    assert asking["trace_id"] == inner["trace_id"] == handled["trace_id"]
    if way != "call":
        assert handled["parent_span_id"] == asking["span_id"]
    assert handled["kind"] == {"call": "call", "cast": "cast"}.get(way, "info")
    assert handled["server"] == "worker"
    assert handled["module"] == "Worker"
    assert handled["wait_ms"] >= 0
    assert handled["duration_ms"] >= 0


@pytest.mark.parametrize("listens", [True, False])
async def test_each_message_is_handled_in_its_own_senders_context(instrumented, listens):
    """None where the sender is in none; nothing stays of the message before, or of whoever started it."""
    if listens:
        Heard("otpylib.*", "a.*", "b.*", "start.*")
    else:
        Heard("a.*", "b.*", "start.*")
    seen = []

    async def handle(message, _state):
        seen.append((message, getattr(current_span(), "trace_id", None)))

    async def session():
        traces = {}
        with span("start"):
            await gen_server.start(server(on_info=handle, on_call=handle), None, "worker")
        for name in ("a", "b"):
            with span(name):
                traces[name] = current_span().trace_id
                await process.send("worker", name)
        await process.send("worker", "nothing")
        await call("worker", "end")
        return traces

    traces = await in_process(session)
    found = dict(seen)
    assert found["a"] == traces["a"]
    assert found["b"] == traces["b"]
    if not listens:
        assert found["nothing"] is None
    else:
        assert found["nothing"] not in {*traces.values()}


async def test_a_process_that_receives_for_itself_goes_from_context_to_context(instrumented):
    Heard("a.*", "b.*", "own.*")
    seen = []

    async def receiver():
        for number in range(4):
            message = await process.receive(timeout=20 if number % 2 else None)
            seen.append((message, getattr(current_span(), "trace_id", None)))
        with span("own"):
            own = current_span().trace_id
            await process.receive()
            seen.append(("inside", current_span().trace_id == own))

    async def session():
        traces = {}
        with span("a"):
            pid = await process.spawn(receiver, mailbox=True)
            traces["a"] = current_span().trace_id
            await process.send(pid, "a")
        with span("b"):
            traces["b"] = current_span().trace_id
            await process.send(pid, "b")
        await process.send(pid, "none")
        with span("a"):
            traces["again"] = current_span().trace_id
            await process.send(pid, "again")
            await process.send(pid, "while inside")
        while len(seen) < 5:
            await asyncio.sleep(0.005)
        return traces

    traces = await in_process(session)
    assert dict(seen) == {**traces, "none": None, "inside": True}


async def test_calls_within_a_handler_leave_it_where_it_is(instrumented):
    """The answer is a message as well, and comes from elsewhere."""
    for patterns in (("asking.*", "otpylib.*"), ("asking.*",)):
        heard = Heard(*patterns)
        seen = []

        async def answer(message, _state):
            return message

        async def ask(message, _state, seen=seen):
            before = current_span()
            await call("answerer", message)
            seen.append(before == current_span())
            return current_span().trace_id

        async def session(ask=ask, answer=answer):
            await gen_server.start(server(on_call=answer), None, "answerer")
            await gen_server.start(server(on_call=ask), None, "asker")
            with span("asking"):
                trace = current_span().trace_id
                before = current_span()
                assert await call("asker", "question") == trace
                assert current_span() == before

        await in_process(session)
        assert seen == [True]
        assert heard.events
        for name in ("answerer", "asker"):
            await process.exit(name, "killed")
        await asyncio.sleep(0)


async def test_a_call_is_told_of_at_the_caller(instrumented):
    heard = Heard("otpylib.*", "asking.*")
    hold = asyncio.Event()

    async def handle(message, _state):
        if message == "slow":
            await hold.wait()
        return message

    async def session():
        await gen_server.start(server("Till", on_call=handle), None, "till")
        with span("asking"):
            await call("till", ("pay", 1))
        with pytest.raises(TimeoutError):
            await call("till", "slow", timeout=0.05)
        hold.set()
        with pytest.raises(ValueError, match="not found"):
            await call("nobody", "hello")

    await in_process(session)
    # Outside of any process it is made by a process of its own, which is not told of.
    assert await call("till", "outside") == "outside"
    told = heard.one("otpylib.call.success", message="pay")
    assert (told["server"], told["module"]) == ("till", "Till")
    assert told["parent_span_id"] == heard.one("asking.success")["span_id"]
    handled = await heard.wait_for("otpylib.handle.success", message="pay")
    assert handled["parent_span_id"] == told["span_id"]
    late = heard.one("otpylib.call.error", message="slow")
    assert late["error_type"] == "TimeoutError"
    assert late["duration_ms"] > 40  # the clock of the loop is coarse
    unknown = heard.one("otpylib.call.error", message="hello")
    assert (unknown["server"], unknown["error_type"]) == ("nobody", "ValueError")
    outside = heard.one("otpylib.call.success", message="outside")
    handled = await heard.wait_for("otpylib.handle.success", message="outside")
    assert handled["parent_span_id"] == outside["span_id"]


async def test_a_handler_that_raises_is_an_error_and_one_that_stops_is_not(instrumented):
    heard = Heard("otpylib.handle.*")

    async def handle(message, _state):
        if message == "stop":
            return Stop(reason="enough")
        if message == "exited":
            raise gen_server.GenServerExited("of another")
        raise ValueError("no")

    async def session():
        for message in ("stop", "exited", "raise"):
            await gen_server.start(server(on_cast=handle), None, message)
            await gen_server.cast(message, message)

    await in_process(session)
    await heard.wait_for("otpylib.handle.success", message="stop")
    assert (await heard.wait_for("otpylib.handle.error", message="exited"))["error_type"] == "GenServerExited"
    raised = await heard.wait_for("otpylib.handle.error", message="raise")
    assert (raised["error"], raised["error_type"]) == ("no", "ValueError")
    assert "in handle" in raised["stacktrace"]


@pytest.mark.parametrize(
    ("relation", "linked", "same"), [("child", False, True), ("link", True, False), ("none", False, False)]
)
@pytest.mark.parametrize("kind", ["call", "cast", "info"])
async def test_the_relation_is_chosen_for_each_kind(instrumented, kind, relation, linked, same):
    put_in_force(Rules(**{f"{kind}s": relation}))
    heard = Heard("otpylib.*", "asking.*")

    async def session():
        await gen_server.start(server(), None, "worker")
        with span("asking"):
            await send(kind, "worker", "message")

    await in_process(session)
    handled = await heard.wait_for("otpylib.handle.success")
    asking = heard.one("asking.success")
    assert (handled["trace_id"] == asking["trace_id"]) is same
    assert bool(handled.get("links")) is linked
    if linked:
        assert asking["trace_id"] in str(handled["links"])


async def test_a_cast_that_fans_out_to_many_is_linked_beyond_a_bound(instrumented):
    heard = Heard("otpylib.handle.success", "asking.*")

    async def session():
        await gen_server.start(server(), None, "worker")
        with span("asking"):
            for _ in range(FAN_OUT + 5):
                await process.send("worker", "message")
        await call("worker", "end")

    await in_process(session)
    asking = heard.one("asking.success")
    handled = heard.of("otpylib.handle.success", message="message")
    inside = [event for event in handled if event["trace_id"] == asking["trace_id"]]
    assert len(inside) == FAN_OUT
    assert sum(1 for event in handled if event.get("links")) == 5


async def test_a_process_that_wakes_itself_begins_a_new_trace_now_and_then(instrumented):
    heard = Heard("otpylib.handle.success")

    async def wake(message, _state):
        await process.send_after(0.0, process.self(), "tick")

    async def session():
        await gen_server.start(server(on_info=wake), None, "ticker")
        await process.send("ticker", "tick")

    await in_process(session)
    ticks = await heard.wait_for("otpylib.handle.success", 2 * TIMER_CHAIN + 10)
    lengths = {}
    for event in ticks:
        lengths[event["trace_id"]] = lengths.get(event["trace_id"], 0) + 1
    assert max(lengths.values()) == TIMER_CHAIN + 1
    assert all(event.get("links") for event in ticks[TIMER_CHAIN + 1 : TIMER_CHAIN + 2])


@pytest.mark.parametrize(
    ("rules", "seen"),
    [
        (Rules(), {"one", "two", "Other"}),
        (Rules(include=("o*",)), {"one"}),
        (Rules(include=("Worker",)), {"one", "two"}),
        (Rules(exclude=("Other", "two")), {"one"}),
        (Rules(messages=("x*",)), set()),
    ],
)
async def test_filters_leave_out_servers_modules_and_messages_and_nothing_of_the_trace(
    instrumented, rules, seen
):
    put_in_force(rules)
    heard = Heard("otpylib.*", "asking.*", "inner.*")

    async def handle(message, _state):
        with span("inner"):
            return

    async def session():
        await gen_server.start(server(on_call=handle), None, "one")
        await gen_server.start(server(on_call=handle), None, "two")
        other = await gen_server.start(server("Other", on_cast=handle), None)
        with span("asking"):
            await call("one", "message")
            await call("two", "message")
            await gen_server.cast(other, "message")

    await in_process(session)
    inner = await heard.wait_for("inner.success", 3)
    assert {event["trace_id"] for event in inner} == {heard.one("asking.success")["trace_id"]}
    assert {event["server"] for event in heard.of("otpylib.handle.success")} == seen
    assert {event["server"] for event in heard.of("otpylib.call.success")} == seen - {"Other"}


async def test_a_process_that_never_receives_leaves_its_makers_request_some_time(instrumented, monkeypatch):
    monkeypatch.setattr(envelope, "ORIGIN_SECONDS", 0.2)
    heard = Heard("asking.*", "tick.*")
    ready = asyncio.Event()

    async def ticker():
        while not heard.of("tick.success", late=True):
            with span("tick", {"late": ready.is_set()}):
                await asyncio.sleep(0.01)

    async def session():
        with span("asking"):
            await process.spawn(ticker)
            await asyncio.sleep(0)
        await heard.wait_for("tick.success")
        await asyncio.sleep(0.3)
        ready.set()

    await in_process(session)
    late = await heard.wait_for("tick.success", late=True)
    asking = heard.one("asking.success")
    assert heard.of("tick.success")[0]["parent_span_id"] == asking["span_id"]
    assert late["trace_id"] != asking["trace_id"]
    assert late["parent_span_id"] is None
