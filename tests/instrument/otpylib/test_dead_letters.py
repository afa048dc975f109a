"""Messages to nobody are told of, and nothing else is."""

import asyncio

import pytest
from otpylib import atom, gen_server, process
from otpylib.runtime.atoms import KILLED
from otpylib.runtime.backends.asyncio_backend.pid import Pid

from otpylib_telemetry.instrument.otpylib.dead_letters import UNDELIVERED, UNKNOWN
from otpylib_telemetry.instrument.otpylib.rules import Rules, put_in_force
from tests.support.actors import Heard, call, server
from tests.support.runtime import in_process

WAYS = ["send", "cast", "send_after", "from outside"]


async def send(way, target, message):
    if way == "send_after":
        await process.send_after(0.0, target, message)
    elif way == "cast":
        await gen_server.cast(target, message)
    else:
        await process.send(target, message)


async def dead(name=None):
    """The pid of a process that has ended."""
    pid = await process.spawn(asyncio.sleep, args=[60], name=name)
    await process.exit(pid, KILLED)
    await asyncio.sleep(0.02)
    return pid


async def without_mailbox(name=None):
    return await process.spawn(asyncio.sleep, args=[60], name=name, mailbox=False)


async def never(_name=None):
    return Pid(atom.ensure("otpylib@localhost"), 4_000_000, 0, 1)


async def elsewhere(_name=None):
    return Pid(atom.ensure("other@host"), 1, 0, 1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("target", "told", "reason"),
    [
        (atom.ensure("nobody"), "nobody", "noproc"),
        ("nobody", "nobody", "noproc"),
        (dead, "the dead", "noproc"),
        (never, UNKNOWN, "noproc"),
        (without_mailbox, "deaf", "no_mailbox"),
        (elsewhere, UNKNOWN, "no_distribution"),
        (("till", "other@host"), "till", "no_distribution"),
        (17, "int", "bad_target"),
        (None, "NoneType", "bad_target"),
    ],
)
async def test_a_message_to_nobody_is_told_of(instrumented, way, target, told, reason):
    if way == "send_after" and isinstance(target, str):
        pytest.skip("otpylib itself refuses that")
    heard = Heard(UNDELIVERED)

    async def handle(_message, _state):
        await send(way, there, ("order", {"card": "4111"}))

    async def session():
        nonlocal there
        if callable(target):
            there = await target(told)
        await gen_server.start(server("Sender", on_cast=handle), None, "sender")
        if way != "from outside":
            await gen_server.cast("sender", "go")

    there = target
    await in_process(session)
    if way == "from outside":
        await process.send(there, ("order", {"card": "4111"}))
    found = await heard.wait_for(UNDELIVERED)
    sender = {} if way in {"from outside", "send_after"} else {"server": "sender", "module": "Sender"}
    assert found == {
        "count": 1,
        "target": told,
        "server": "",
        "module": "",
        "message": "order",
        "reason": reason,
        **sender,
    }


async def test_an_answer_to_a_caller_that_is_gone_is_told_of(instrumented):
    heard = Heard(UNDELIVERED)
    answer = asyncio.Event()

    async def handle(message, _state):
        await answer.wait()
        return message

    async def calling():
        await call("worker", "question")

    async def session():
        await gen_server.start(server(on_call=handle), None, "worker")
        pid = await process.spawn(calling, name="asker")
        await asyncio.sleep(0.01)
        await process.exit(pid, KILLED)
        await asyncio.sleep(0.01)
        answer.set()

    await in_process(session)
    found = await heard.wait_for(UNDELIVERED)
    assert (found["target"], found["server"], found["message"]) == ("asker", "worker", "late_reply")


async def test_what_arrives_and_what_otpylib_logs_is_not_told_of(instrumented):
    heard = Heard(UNDELIVERED)

    async def session():
        pid = await gen_server.start(server(on_info=handle), None, "worker")
        for target in (pid, "worker"):
            await process.send(target, "info")
            await gen_server.cast(target, "cast")
        await call("worker", "call")
        await process.send_after(0.0, pid, "later")
        await asyncio.wait_for(later.wait(), 20)
        await process.exit(pid, KILLED)
        await asyncio.sleep(0.02)

    later = asyncio.Event()

    async def handle(message, _state):
        if message == "later":
            later.set()

    before = instrumented.statistics().messages_processed
    await in_process(session)
    assert not heard.events
    assert instrumented.statistics().messages_processed - before >= 6


async def test_the_logger_gets_what_otpylib_logs_where_there_is_one(instrumented):
    heard = Heard(UNDELIVERED)
    seen = []

    async def logging():
        while True:
            seen.append((await process.receive())[0])

    async def session():
        pid = await process.spawn(logging, name=atom.ensure("logger"))
        await gen_server.start(server(), None, "worker")
        await gen_server.cast("worker", "cast")
        await asyncio.sleep(0.02)
        assert seen
        assert set(seen) == {"log"}
        await process.exit(pid, KILLED)
        await gen_server.cast("worker", "cast")

    await in_process(session)
    assert not heard.events


@pytest.mark.parametrize(
    ("rules", "seen"),
    [
        (Rules(include=("nobody",)), True),
        (Rules(include=("sender",)), True),
        (Rules(include=("other",)), False),
        (Rules(exclude=("nobody",)), False),
        (Rules(exclude=("Sender",)), False),
        (Rules(messages=("bill",)), False),
    ],
)
async def test_filters_hold_for_dead_letters(instrumented, rules, seen):
    put_in_force(rules)
    heard = Heard(UNDELIVERED)

    async def handle(_message, _state):
        await process.send("nobody", "order")

    async def session():
        await gen_server.start(server("Sender", on_call=handle), None, "sender")
        await call("sender", "go")

    await in_process(session)
    assert bool(heard.events) is seen
