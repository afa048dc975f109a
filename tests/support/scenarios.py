"""What can be seen of otpylib through its public functions, as scripts that note every result in order.

Each is run in a fresh runtime; whatever is instrumented, the notes are the same.
"""

import asyncio
import contextvars
import re

from otpylib import application, dynamic_supervisor, gen_server, gen_statem, process, supervisor, task
from otpylib.atom import ensure
from otpylib.dynamic_supervisor.atoms import TEMPORARY
from otpylib.gen_server.data import NoReply, Stop
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
from otpylib.module import APPLICATION, DYNAMIC_SUPERVISOR, SUPERVISOR, TASK, OTPModule
from otpylib.runtime import get_runtime
from otpylib.runtime.atoms import KILLED, SHUTDOWN
from otpylib.supervisor import core as supervisors

from tests.support.actors import server
from tests.support.machines import machine

PATIENCE = 20.0
SHORT = 0.03
_PRIVATE = re.compile(r"call_\d+_[0-9a-f]{8}|0x[0-9a-f]+|timer_\d+")


class Notes(list):
    """What was seen, in order; nothing in it differs from run to run."""

    def __call__(self, *seen):
        self.append(tuple(_plain(one) for one in seen))

    async def of(self, what, awaitable):
        """Note what something gives or raises."""
        try:
            self(what, await awaitable)
        except Exception as error:
            self(what, error)

    async def inbox(self, count, timeout=PATIENCE):
        """Note the next messages of this process."""
        for _ in range(count):
            await self.of("received", process.receive(timeout=timeout))


def _plain(value):
    if type(value) is TimeoutError:
        # Whether it ends while it waits, or in between, is a matter of time, and its words say which.
        return "TimeoutError"
    if isinstance(value, BaseException):
        return (type(value).__name__, _PRIVATE.sub("#", str(value)))
    if isinstance(value, tuple | list):
        return tuple(_plain(one) for one in value)
    return _PRIVATE.sub("#", repr(value))


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


async def ended(*pids):
    await settled()
    await until(lambda: not any(process.is_alive(pid) for pid in pids))


async def messages(note):
    """Whatever is sent arrives as the very object, in order; and what there is to wait for is waited for."""
    payloads = [
        None,
        0,
        "",
        (),
        "word",
        ("tag", 1),
        {"a": 1},
        [1],
        b"x",
        object(),
        ValueError("x"),
        ensure("a"),
    ]
    got = []

    async def receiver():
        got.extend([await process.receive() for _ in payloads])
        note("in time", await process.receive(timeout=PATIENCE))
        await note.of("too late", process.receive(timeout=SHORT))
        await note.of("at once", process.receive(timeout=0))
        await note.of("matching", process.receive(match=lambda _message: True))
        me = process.self()
        await process.send(me, "to myself")
        note("waiting", get_runtime().process_info(me).message_queue_length)
        await note.inbox(1)
        # What is cancelled while it waits takes nothing away.
        waiting = asyncio.create_task(process.receive())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await process.send(me, "later")
        await note.inbox(1)

    pid = await process.spawn(receiver, mailbox=True)
    for payload in payloads:
        await process.send(pid, payload)
    await process.send(pid, "last")
    await ended(pid)
    note("the very objects", all(one is other for one, other in zip(payloads, got, strict=True)))
    for target in ("nobody", ensure("nobody"), pid, 7, None, ("name", "node")):
        await note.of("to nobody", process.send(target, "x"))
    deaf = await process.spawn(asyncio.sleep, args=[PATIENCE], mailbox=False)
    await note.of("to one without a mailbox", process.send(deaf, "x"))
    await process.exit(deaf, KILLED)


async def ends(note):
    """Links, monitors, trapped exits, with every reason."""

    async def wait_for(reason):
        message = await process.receive()
        if isinstance(reason, Exception):
            raise reason
        return message

    for reason in ("normal", ValueError("broken"), SHUTDOWN, KILLED, ensure("custom")):
        pid, ref = await process.spawn_monitor(wait_for, args=[reason], mailbox=True)
        await process.link(pid)
        # One that is ended before it has begun stays for ever: otpylib's own.
        await asyncio.sleep(0)
        note(
            "linked",
            get_runtime().process_info(pid).links,
            get_runtime().process_info(pid).monitored_by == {ref},
        )
        if reason == "normal" or isinstance(reason, Exception):
            await process.send(pid, "go")
        else:
            await note.of("exit", process.exit(pid, reason))
        await ended(pid)
        await note.inbox(3, timeout=SHORT)
        await note.of("monitor", process.monitor(pid))
        await note.of("link", process.link(pid))
        await note.of("exit", process.exit(pid, KILLED))
    left = await process.spawn(wait_for, args=["normal"], mailbox=True)
    ref = await process.monitor(left)
    await process.demonitor(ref, flush=True)
    await process.link(left)
    await process.unlink(left)
    await asyncio.sleep(0)
    await process.exit(left, ensure("custom"))
    await note.inbox(1, timeout=SHORT)

    async def trapping():
        await note.inbox(2)

    trap = await process.spawn(trapping, mailbox=True, trap_exits=True)
    await asyncio.sleep(0)
    await process.exit(trap, ensure("please"))
    await process.exit(trap, SHUTDOWN)
    await ended(trap)

    async def parent():
        await process.spawn_link(wait_for, args=[ValueError("of the child")], name="child", mailbox=True)
        await process.receive()

    watched, _ = await process.spawn_monitor(parent, mailbox=True)
    await until(lambda: process.whereis("child") is not None)
    await process.send("child", "go")
    await ended(watched)
    await note.inbox(1)


async def names(note):
    """Registering, and who is found."""

    async def wait():
        await process.receive()

    one = await process.spawn(wait, name="one", mailbox=True)
    two = await process.spawn(wait, mailbox=True)
    await note.of("register", process.register("two", two))
    await note.of("taken", process.register("one", two))
    await note.of("atom", process.register(ensure("one"), two))
    note(process.whereis("one"), process.whereis("two"), process.whereis(ensure("one")), process.whereis("x"))
    note(process.whereis_name(one), process.whereis_name(two), sorted(map(str, process.registered())))
    await note.of("unregister", process.unregister("two"))
    await note.of("again", process.unregister("two"))
    note(process.whereis("two"), len(process.processes()))
    await process.send(ensure("one"), "by atom")
    await ended(two)
    note(process.whereis(ensure("one")), process.whereis_name(two))
    await process.send("one", "by name")
    await ended(one)
    note(process.whereis("one"), process.registered())


async def timers(note):
    me = process.self()
    refs = [await process.send_after(delay, me, str(delay)) for delay in (0.15, 0.05, 0.3, 0.1, 0.2)]
    note("left", [0 < await process.read_timer(ref) < 1 for ref in refs])
    note("cancelled", await process.cancel_timer(refs[2]), await process.cancel_timer(refs[2]))
    note("gone", await process.read_timer(refs[2]))
    await process.register("me")
    await process.send_after(0.25, "me", "by name")
    await process.send_after(0.35, ensure("nobody"), "to nobody")
    await note.of("unknown", process.send_after(0.1, "nobody", "x"))
    await note.inbox(5)
    await process.sleep(0.02)
    await note.inbox(1, timeout=SHORT)
    note("cancelled", await process.cancel_timer(refs[0]), await process.read_timer(refs[0]))


async def servers(note):
    """Every answer and every end of a GenServer."""

    async def on_call(message, state):
        note("call", message, process.self() == process.whereis("server"))
        match message:
            case "defer":
                return NoReply()
            case ("nested", target):
                return await gen_server.call(target, "inner", timeout=PATIENCE)
            case "stop":
                return Stop(reason="enough")
            case "error":
                return LookupError("as an answer")
            case "raise":
                raise LookupError("raised")
            case "slow":
                await asyncio.sleep(2 * SHORT)
        return (message, state)

    async def on_info(message, state):
        note("info", message)
        if message == "stop":
            return Stop(reason=None)
        if message == "raise":
            raise ValueError("raised")
        return None

    module = server(on_call=on_call, on_cast=on_info, on_info=on_info)

    async def started(name="server"):
        pid = await gen_server.start(module, ["state"], name)
        await process.monitor(pid)
        return pid

    await started()
    for message in ("hello", ("a", 1), None, "error"):
        await note.of("answer", gen_server.call("server", message, timeout=PATIENCE))
    await note.of("no timeout", gen_server.call("server", "x"))
    await note.of("no answer", gen_server.call("server", "defer", timeout=SHORT))
    await note.of("unknown", gen_server.call("nobody", "x", timeout=PATIENCE))
    await note.of("by pid", gen_server.call(process.whereis("server"), "x", timeout=PATIENCE))
    await note.of("cast", gen_server.cast("server", "cast"))
    await note.of("cast to nobody", gen_server.cast("nobody", "cast"))
    await process.send("server", ("info", 1))
    await note.of("late", gen_server.call("server", "slow", timeout=SHORT))
    await note.inbox(1)
    # What comes while an answer is awaited is lost: otpylib's own.
    for number in range(3):
        await process.send(process.self(), number)
    await note.of("answer", gen_server.call("server", "hello", timeout=PATIENCE))
    await note.inbox(1, timeout=SHORT)
    await gen_server.start(module, [], "other")
    await note.of("nested", gen_server.call("server", ("nested", "other"), timeout=PATIENCE))
    for how, message in (
        (gen_server.call, "stop"),
        (gen_server.call, "raise"),
        (gen_server.cast, "stop"),
        (gen_server.cast, "raise"),
        (process.send, "stop"),
        (process.send, "raise"),
        (process.send, (ensure("stop"), "please")),
    ):
        if process.whereis("server") is None:
            await started()
        if how is gen_server.call:
            await note.of("answer", how("server", message, timeout=20 * SHORT))
        else:
            await how("server", message)
        # While an answer is awaited, that of the end is lost, too.
        await note.inbox(1, SHORT if message == "raise" and how is gen_server.call else PATIENCE)
    outside = contextvars.Context()
    made = asyncio.get_running_loop().create_task(
        gen_server.call("other", "outside", timeout=PATIENCE), context=outside
    )
    await note.of("outside", made)

    async def failing(_argument):
        raise ValueError("at the beginning")

    await note.of("failing init", gen_server.start(server(on_init=failing), None, "failing"))
    await note.of("failing init", gen_server.start_link(server(on_init=failing), None))
    await note.of("no server", gen_server.start(object, None))


async def deferred_answers(note):
    """Answers given later, and by somebody else; and context variables of the application's own."""
    own = contextvars.ContextVar("own", default="default")
    callers = []

    async def init(_self, argument):
        return argument

    async def handle_call(_self, message, caller, state):
        note("call", message, own.get())
        own.set(message)
        callers.append(caller)
        return (NoReply(), state)

    async def handle_cast(_self, message, state):
        note("cast", own.get())
        while callers:
            await gen_server.reply(callers.pop(), ("answer to", message))
        return (NoReply(), state)

    async def terminate(_self, _reason, _state):
        """Nothing."""

    body = {
        "init": init,
        "handle_call": handle_call,
        "handle_cast": handle_cast,
        "handle_info": handle_cast,
        "terminate": terminate,
        "__module__": __name__,
        "__qualname__": "Deferring",
    }
    module = OTPModule("Deferring", (), body, behavior=server().__behavior__, version="1.0.0")
    own.set("of the starter")
    await gen_server.start(module, None, "server")
    own.set("of the caller")

    async def asking(message):
        await note.of("answer", gen_server.call("server", message, timeout=PATIENCE))

    pids = [await process.spawn(asking, args=[number], mailbox=True) for number in range(3)]
    await until(lambda: len(callers) == 3)
    await gen_server.cast("server", "go")
    await ended(*pids)
    note(own.get())


async def _supervised(note, strategy, restarts):
    async def init(argument):
        note("begins", argument)
        return argument

    async def fail(message, state):
        note("handles", state, message)
        if message == "raise":
            raise ValueError("no")
        return Stop(reason="enough") if message == "stop" else None

    child = server("Child", on_init=init, on_info=fail)

    async def tree(_self, _argument):
        specs = [supervisors.child_spec(name, child, args=name, name=name) for name in ("a", "b", "c")]
        return (specs, supervisors.options(max_restarts=restarts, strategy=strategy))

    async def terminate(_self, _reason, _state):
        """Nothing."""

    body = {"init": tree, "terminate": terminate, "__module__": __name__, "__qualname__": "Tree"}
    module = OTPModule("Tree", (), body, behavior=SUPERVISOR, version="1.0.0")
    return await supervisor.start_link(module, None, "tree")


async def settled():
    """Let everybody do what there is to do: that takes turns of the loop, and no time."""
    for _ in range(300):
        await asyncio.sleep(0)


async def _crash(note, name, message="raise"):
    await process.send(name, message)
    await settled()
    note(sorted(map(str, process.registered())))


def supervisors_of(strategy):
    async def scenario(note):
        pid = await _supervised(note, strategy, 5)
        await note.of("again", _supervised(note, strategy, 5))
        await _crash(note, "b")
        await process.send(pid, "nonsense")
        await _crash(note, "a", "stop")
        await process.send(pid, SHUTDOWN)
        await settled()
        note(process.registered(), len(process.processes()))

    return scenario


async def giving_up(note):
    pid = await _supervised(note, "one_for_one", 1)
    await process.monitor(pid)
    await _crash(note, "a")
    await _crash(note, "a")
    await note.inbox(1)
    note(process.registered(), len(process.processes()))


async def dynamic_supervisors(note):
    async def init(argument):
        note("begins", argument)
        return argument

    async def fail(message, _state):
        raise ValueError(message)

    child = server("Child", on_init=init, on_info=fail)

    async def tree(_self, _argument):
        return ([dynamic_supervisor.child_spec("fixed", child, args="fixed")], dynamic_supervisor.options())

    async def terminate(_self, reason, _state):
        note("terminates", reason)

    body = {"init": tree, "terminate": terminate, "__module__": __name__, "__qualname__": "Dynamic"}
    module = OTPModule("Dynamic", (), body, behavior=DYNAMIC_SUPERVISOR, version="1.0.0")
    pid = await dynamic_supervisor.start_link(module, None, "tree")
    spec = dynamic_supervisor.child_spec
    await note.of("added", dynamic_supervisor.start_child(pid, spec("one", child, args=1, name="one")))
    await note.of(
        "added",
        dynamic_supervisor.start_child(pid, spec("two", child, args=2, restart=TEMPORARY, name="two")),
    )
    await note.of("twice", dynamic_supervisor.start_child(pid, spec("one", child, args=1)))
    for ask in (
        dynamic_supervisor.list_children,
        dynamic_supervisor.which_children,
        dynamic_supervisor.count_children,
    ):
        await note.of("children", ask(pid))
    await process.send("two", "temporary")
    await settled()
    await _crash(note, "one")
    await note.of("children", dynamic_supervisor.list_children(pid))
    await note.of("ended", dynamic_supervisor.terminate_child(pid, "one"))
    await note.of("unknown", dynamic_supervisor.terminate_child(pid, "nobody"))
    await note.of("children", dynamic_supervisor.count_children(pid))
    await process.send(pid, SHUTDOWN)
    await settled()


def machines(*by_state):
    async def scenario(note):
        async def handle(event_type, content, state, data):
            called = event_type == EventType.CALL
            asked, caller = content if called else (content, None)
            note(event_type, asked, state, data)
            answer = [ReplyAction(caller, (asked, state))] if called else []
            match asked:
                case "open":
                    return NextState(ensure("open"), data + 1, [*answer, StateTimeoutAction(0.05, "late")])
                case "wait" if state == ensure("idle"):
                    return KeepState(data, [PostponeAction()])
                case "then":
                    return RepeatState(data, [*answer, NextEventAction(EventType.INTERNAL, "inner")])
                case "stop":
                    return StopState("enough", data)
                case "raise":
                    raise ValueError("no")
                case "bad":
                    return 7
            return KeepState(data, answer)

        for last in ("stop", "raise", "bad"):
            pid = await gen_statem.start(machine(handle=handle, by_state=by_state), 0, "machine")
            await process.monitor(pid)
            await note.of("answer", gen_statem.call("machine", "hello", timeout=PATIENCE))
            for message in ("wait", "then", "wait"):
                await gen_statem.cast("machine", message)
            await note.of("none", gen_statem.call("machine", "wait", timeout=SHORT))
            await note.of("answer", gen_statem.call("machine", "open", timeout=PATIENCE))
            await process.sleep(0.15)
            await process.send("machine", ("info", 1))
            await note.of("unknown", gen_statem.call("nobody", "x", timeout=PATIENCE))
            await gen_statem.cast("machine", last)
            await note.inbox(1)

    return scenario


async def tasks_and_applications(note):
    async def run(_self, argument):
        note("runs", argument)
        if argument == "raise":
            raise ValueError("no")

    body = {"run": run, "__module__": __name__, "__qualname__": "Work"}
    work = OTPModule("Work", (), body, behavior=TASK, version="1.0.0")
    for start in (task.start, task.start_link):
        await note.of("task", start(work, 1))
    await note.of("task", task.start(work, "raise"))
    await settled()

    async def start(_self, start_type, argument):
        note(start_type, argument)
        if argument == "raise":
            raise ValueError("no")
        return await _supervised(note, "one_for_one", 3)

    async def stop(_self, state):
        note("stop", state)

    body = {"start": start, "stop": stop, "__module__": __name__, "__qualname__": "App"}
    app = OTPModule("App", (), body, behavior=APPLICATION, version="1.0.0")
    await note.of("application", application.start(app, "raise"))
    await note.of("application", application.start_link(app, 1))


def trapping(scenario):
    """Have a scenario run as a process that traps exits."""

    async def run(note):
        pid = await process.spawn(note.of, args=["end", scenario(note)], mailbox=True, trap_exits=True)
        await ended(pid)

    return run


SCENARIOS = {
    "messages": messages,
    "ends": trapping(ends),
    "names": names,
    "timers": timers,
    "servers": servers,
    "deferred answers": deferred_answers,
    "one for one": supervisors_of("one_for_one"),
    "one for all": supervisors_of("one_for_all"),
    "rest for one": supervisors_of("rest_for_one"),
    "giving up": giving_up,
    "dynamic supervisors": dynamic_supervisors,
    "one function": machines(),
    "a function for each state": machines("idle", "open"),
    "tasks and applications": tasks_and_applications,
}
