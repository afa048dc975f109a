"""Random systems of actors that send each other random messages, and check where each is handled."""

import asyncio
import contextlib
import random
from dataclasses import dataclass

from otpylib import gen_server, gen_statem, process, supervisor
from otpylib.atom import ensure
from otpylib.gen_statem.core import (
    EventType,
    KeepState,
    NextEventAction,
    NextState,
    PostponeAction,
    ReplyAction,
    StateTimeoutAction,
)
from otpylib.module import SUPERVISOR, OTPModule
from otpylib.supervisor import core as supervisors

from otpylib_telemetry import span
from otpylib_telemetry.bus import table
from otpylib_telemetry.bus.context import innermost
from otpylib_telemetry.instrument.otpylib.envelope import arrived
from otpylib_telemetry.tracing.operation import Operation
from tests.support.actors import server
from tests.support.machines import machine

#: How long an answer is waited for: who crashes meanwhile gives none, and otpylib does not tell.
ANSWER = 0.1
DEPTH = 6
#: All that there is to be tried.
KINDS = {"call", "cast", "info", "receive", "tick", "linked", "internal", "state_timeout"}
IDLE, OPEN = ensure("idle"), ensure("open")


@dataclass(slots=True)
class Order:
    """A message: which span has sent it, and how many have led to it."""

    sender: int
    depth: int
    called: bool = False
    crash: bool = False


def here():
    """The span that the running code is in; 0 for none."""
    place = innermost.get()
    return 0 if place is None or not place.is_place else place.span_id


class System:
    """Servers, state machines and processes of all kinds, under supervisors or not."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.handled = 0
        self.wrong = []
        self.kinds = {}
        self.crashes = 0
        #: The span around each call, by that of the call.
        self.calls = {}
        self.servers = []
        self.machines = []
        self.loops = []
        self.supervisors = []

    # --- what is told

    def listen(self):
        table.add("heard", ("*",), self._hear)

    def _hear(self, name, _measurements, metadata):
        if name == "otpylib.call.start":
            self.calls[int(metadata["span_id"], 16)] = int(metadata["parent_span_id"] or "0", 16)

    def check(self, order, kind):
        """Note a message that is handled anywhere but where it was sent."""
        self.handled += 1
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        place = innermost.get()
        if kind == "receive":
            found = here()
        elif type(place) is not Operation:
            found = f"{place} is no operation"
        elif arrived.get() is not None and arrived.get().linked:
            found = order.sender if place.links and not place.parent_span_id else "neither linked nor apart"
            self.kinds["linked"] = self.kinds.get("linked", 0) + 1
        elif order.called:
            found = self.calls.get(place.parent_span_id, "no call")
        else:
            found = place.parent_span_id
        if found != order.sender:
            self.wrong.append((kind, order, found))

    # --- what is done

    async def act(self, depth):
        """Send some messages, from here or from within a span."""
        for _ in range(self.random.choice((0, 1, 1, 2))):
            with span("inner") if self.random.random() < 0.3 else contextlib.nullcontext():
                await self.send_one(depth)

    async def send_one(self, depth, index=-1):
        if depth >= DEPTH:
            return
        chance = self.random.random()
        order = Order(here(), depth + 1, crash=self.random.random() < 0.01)
        if chance < 0.15:
            order.called, order.crash = True, False
            # Downwards only: who calls in a circle waits for himself.
            later = self.servers[max(index, depth * 3) + 1 :]
            if later:
                with contextlib.suppress(TimeoutError, ValueError, gen_server.GenServerExited):
                    await gen_server.call(self.random.choice(later), order, timeout=ANSWER)
        elif chance < 0.35:
            await gen_server.cast(self.random.choice(self.servers), order)
        elif chance < 0.5:
            await process.send(self.random.choice(self.servers), order)
        elif chance < 0.6:
            target = process.whereis(self.random.choice(self.servers)) or process.self()
            await process.send_after(0.0, target, order)
        elif chance < 0.7:
            order.crash = False
            await process.send(self.random.choice(self.loops), order)
        elif chance < 0.85:
            order.crash = False
            await gen_statem.cast(self.random.choice(self.machines), order)
        elif chance < 0.9:
            order.called, order.crash = True, False
            if depth == 0:
                with contextlib.suppress(TimeoutError, ValueError):
                    await gen_statem.call(self.random.choice(self.machines), order, timeout=ANSWER)
        else:
            await process.spawn(self.run_once, args=[order], mailbox=True)

    async def run_once(self, order):
        """A process that begins where its maker was, and sends something to itself."""
        if here() != order.sender:
            self.wrong.append(("spawn", order, here()))
        await process.send(process.self(), Order(here(), DEPTH))
        self.check(await process.receive(), "receive")
        await self.act(order.depth)

    async def on_message(self, order, _state, kind="info"):
        if type(order) is not Order:
            # An answer that came too late.
            return
        self.check(order, kind)
        if order.crash:
            self.crashes += 1
            raise ValueError("told to")
        await self.act(order.depth)

    async def on_tick(self, order, state):
        """Wake oneself, time and again."""
        self.check(order, "tick")
        await process.send_after(0.0, process.self(), Order(here(), order.depth))

    async def on_event(self, event_type, content, state, data):
        called = event_type == EventType.CALL
        order, caller = content if called else (content, None)
        self.check(order, event_type.value)
        await self.act(order.depth)
        actions = [ReplyAction(caller, "done")] if called else []
        chance = self.random.random()
        if order.depth >= DEPTH:
            return KeepState(data, actions)
        if chance < 0.2:
            actions.append(NextEventAction(EventType.INTERNAL, Order(here_after(), DEPTH)))
        elif chance < 0.3:
            actions.append(StateTimeoutAction(0.01, Order(here_after(), DEPTH)))
        if chance < 0.5 and state == IDLE and not called:
            return KeepState(data, [*actions, PostponeAction()])
        return NextState(OPEN if state == IDLE else IDLE, data, actions)

    # --- how it begins

    async def start(self):
        kind = server(
            "Worker", on_call=self._kind("call"), on_cast=self._kind("cast"), on_info=self.on_message
        )
        for number in range(20):
            name = f"server{number}"
            self.servers.append(name)
            # One child each: of several, otpylib starts the wrong one again.
            await self._supervised(name, kind)
        for number in range(5):
            self.machines.append(f"machine{number}")
            await gen_statem.start(machine(handle=self.on_event), None, self.machines[-1])
            self.loops.append(await process.spawn(self.loop, mailbox=True))
        await gen_server.start(server("Ticker", on_info=self.on_tick), None, "ticker")
        await process.send("ticker", Order(here(), 0))

    def _kind(self, kind):
        async def handle(order, state):
            await self.on_message(order, state, kind)

        return handle

    async def _supervised(self, name, child):
        async def init(_self, _argument):
            spec = supervisors.child_spec(name, child, args=None, name=name)
            return ([spec], supervisors.options(max_restarts=1_000_000))

        async def terminate(_self, _reason, _state):
            """Nothing to clean up."""

        body = {"init": init, "terminate": terminate, "__module__": __name__, "__qualname__": "Tree"}
        module = OTPModule("Tree", (), body, behavior=SUPERVISOR, version="1.0.0")
        self.supervisors.append(await supervisor.start_link(module, None, f"{name}_tree"))

    async def loop(self):
        while True:
            order = await process.receive()
            self.check(order, "receive")
            await self.act(order.depth)

    async def run(self, messages):
        """Send from within spans and from nowhere, until so many have been handled, and some of each kind."""
        await process.spawn(self.drive, args=[messages], mailbox=True, trap_exits=True)
        while not self.is_enough(messages):
            await asyncio.sleep(0.01)

    def is_enough(self, messages):
        return self.handled >= messages and self.crashes and self.kinds.keys() >= KINDS

    async def drive(self, messages):
        while not self.is_enough(messages):
            if self.random.random() < 0.8:
                with span("outer"):
                    await self.send_one(0)
            else:
                await self.send_one(0)
            await asyncio.sleep(0)


def here_after():
    """The span that a machine stays in when its callback has returned."""
    place = innermost.get()
    assert type(place) is Operation
    return place.span_id
