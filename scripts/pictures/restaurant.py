"""An application in which everything that can go wrong with actors goes wrong when it is asked to.

The dashboard and the alert rules of the actors are looked at with it: what they show is what was done.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from otpylib import gen_server, process, supervisor
from otpylib.gen_server.data import NoReply, Reply
from otpylib.module import GEN_SERVER, SUPERVISOR, OTPModule

from otpylib_telemetry import attach, detach

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: What has to be configured; the port comes from whoever runs it.
CONFIGURATION: Final = """
[telemetry.prometheus]
host = "127.0.0.1"
port = {port}

[telemetry.instrument]
enabled = true

[telemetry.poller]
enabled = true
"""

#: Seconds that anything may take.
PATIENCE: Final = 30.0


async def _begin(_self: Any, argument: Any) -> Any:
    return argument


async def _answer(_self: Any, _message: Any, _caller: Any, state: Any) -> Any:
    return (Reply(payload="well"), state)


async def _crash(_self: Any, message: Any, _state: Any) -> Any:
    raise ValueError(f"{message[0]}: out of paper")


async def _ignore(_self: Any, _message: Any, state: Any) -> Any:
    return (NoReply(), state)


async def _end(_self: Any, _reason: Any, _state: Any) -> None:
    """Nothing to clean up."""


def _server(name: str, **callbacks: Any) -> Any:
    """Make a GenServer that crashes with every cast."""
    usual = {"init": _begin, "handle_call": _answer, "handle_cast": _crash, "handle_info": _ignore}
    body = {**usual, "terminate": _end, "__module__": __name__, "__qualname__": name, **callbacks}
    return OTPModule(name, (), body, behavior=GEN_SERVER, version="1.0.0")


async def _take(_self: Any, message: Any, _caller: Any, state: Any) -> Any:
    match message:
        case ("pay", seconds):
            await asyncio.sleep(seconds)
        case ("count", seconds):
            time.sleep(seconds)  # noqa: ASYNC251  # which is the trouble
    return (Reply(payload="paid"), state)


async def _cook(_self: Any, message: Any, hob: Any) -> Any:
    await hob.wait()
    await asyncio.sleep(message[1])
    return (NoReply(), hob)


async def _begin_once(_self: Any, starts: Any) -> Any:
    starts.append(1)
    if len(starts) > 1:
        raise OSError("no water")
    return starts


Till = _server("Till", handle_call=_take)
Kitchen = _server("Kitchen", handle_info=_cook)
Oven = _server("Oven")
Dishwasher = _server("Dishwasher", init=_begin_once)


class Staff(metaclass=OTPModule, behavior=SUPERVISOR, version="1.0.0"):
    """Supervises; its argument is its children, and how often they may be started again."""

    async def init(self, argument: Any) -> Any:
        """Say which children there are."""
        children, most = argument
        specs = [
            supervisor.child_spec(id=name, module=module, name=name, args=given)
            for name, module, given in children
        ]
        return specs, supervisor.options(max_restarts=most, max_seconds=3600)

    async def terminate(self, _reason: Any, _state: Any) -> None:
        """Nothing to clean up."""


async def inside(work: Callable[[], Awaitable[Any]]) -> None:
    """Do something in an otpylib process, which a guest is, and wait for its end."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def body() -> None:
        try:
            await work()
        except BaseException as error:
            done.set_exception(error)
            raise
        done.set_result(None)

    await process.spawn(body, name="guest", mailbox=True)
    await asyncio.wait_for(done, PATIENCE)


class Restaurant:
    """A tree of three supervisors.

    ``till`` and ``kitchen`` are under ``restaurant``, ``oven`` under ``bakery``, ``dishwasher`` under
    ``scullery``.
    """

    def __init__(self) -> None:
        self.hob = asyncio.Event()
        self.hob.set()
        self._told: asyncio.Queue[str] = asyncio.Queue()

    async def open(self) -> None:
        """Start all of them."""
        await attach("restaurant", "otpylib.supervisor.*", self._hear)

        async def start() -> None:
            ordinary = [("till", Till, None), ("kitchen", Kitchen, self.hob)]
            await supervisor.start_link(Staff, (ordinary, 100), "restaurant")
            await supervisor.start_link(Staff, ([("oven", Oven, None)], 1), "bakery")
            await supervisor.start_link(Staff, ([("dishwasher", Dishwasher, [])], 100), "scullery")

        await inside(start)

    async def close(self) -> None:
        """Listen no more."""
        await detach("restaurant")

    def _hear(self, name: str, _measurements: Any, _metadata: Any) -> None:
        self._told.put_nowait(name.rpartition(".")[2])

    async def serve(self, guests: int, seconds: float = 0.0) -> None:
        """Serve guests, each of whom pays and has something cooked."""

        async def dine() -> None:
            for _ in range(guests):
                await process.send("kitchen", ("cook", seconds))
                await gen_server.call("till", ("pay", seconds), timeout=PATIENCE)

        await inside(dine)

    async def back_up(self, orders: int) -> None:
        """Have orders wait for the kitchen, which has one in hand, until its hob is on again."""
        self.hob.clear()

        async def order() -> None:
            for _ in range(orders + 1):
                await process.send("kitchen", ("cook", 0.0))

        await inside(order)

    async def crash(self, name: str, outcome: str) -> None:
        """Crash a server, and wait for what comes of it: ``restarted``, ``gave_up`` or ``restart_failed``."""
        await inside(lambda: gen_server.cast(name, ("print",)))
        heard = await asyncio.wait_for(self._told.get(), PATIENCE)
        if heard != outcome:
            raise RuntimeError(f"{name}: {heard}, not {outcome}")

    async def time_out(self) -> None:
        """Have a guest wait for the till for too short a time."""

        async def hurry() -> None:
            with contextlib.suppress(TimeoutError):
                await gen_server.call("till", ("pay", 0.3), timeout=0.05)
            # The answer that comes too late still finds the guest.
            await gen_server.call("till", ("pay", 0.0), timeout=PATIENCE)

        await inside(hurry)

    async def lose(self, messages: int) -> None:
        """Have a guest say something to nobody."""

        async def shout() -> None:
            for _ in range(messages):
                await process.send("nobody", ("hello",))

        await inside(shout)

    async def stall(self, seconds: float) -> None:
        """Have the till block the event loop."""
        await inside(lambda: gen_server.call("till", ("count", seconds), timeout=PATIENCE))
