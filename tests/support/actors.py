"""Small actors, and what telemetry told of them."""

import asyncio

from otpylib import dynamic_supervisor, gen_server, supervisor
from otpylib.gen_server.data import NoReply, Reply, Stop
from otpylib.module import GEN_SERVER, SUPERVISOR, OTPModule

from otpylib_telemetry.bus import table

#: Seconds a call in a test may take.
PATIENCE = 20.0


def server(name="Worker", *, on_call=None, on_cast=None, on_info=None, on_init=None):
    """A GenServer class; each handler gets the message and the state, and may return what is replied.

    A handler that returns a ``Stop`` stops the server, one of calls that returns ``NoReply`` leaves it open.
    """

    async def init(_self, argument):
        return argument if on_init is None else await on_init(argument)

    async def handle_call(_self, message, caller, state):
        answer = None if on_call is None else await on_call(message, state)
        return (answer, state) if isinstance(answer, Stop | NoReply) else (Reply(payload=answer), state)

    async def handle_cast(_self, message, state):
        done = None if on_cast is None else await on_cast(message, state)
        return (done, state) if isinstance(done, Stop) else (NoReply(), state)

    async def handle_info(_self, message, state):
        done = None if on_info is None else await on_info(message, state)
        return (done, state) if isinstance(done, Stop) else (NoReply(), state)

    async def terminate(_self, _reason, _state):
        """Nothing to clean up."""

    body = {
        "init": init,
        "handle_call": handle_call,
        "handle_cast": handle_cast,
        "handle_info": handle_info,
        "terminate": terminate,
        "__module__": __name__,
        "__qualname__": name,
    }
    return OTPModule(name, (), body, behavior=GEN_SERVER, version="1.0.0")


def supervising(kind, children, **options):
    """A supervisor class of these children."""
    module = supervisor if kind == SUPERVISOR else dynamic_supervisor

    async def init(_self, _argument):
        specs = [module.core.child_spec(**child) for child in children]
        return specs, module.core.options(**options)

    async def terminate(_self, _reason, _state):
        """Nothing to clean up."""

    body = {"init": init, "terminate": terminate, "__module__": __name__, "__qualname__": "Shop"}
    return OTPModule("Shop", (), body, behavior=kind, version="1.0.0")


async def call(target, message, timeout=PATIENCE):
    return await gen_server.call(target, message, timeout=timeout)


class Heard:
    """Every event of some patterns, in order."""

    def __init__(self, *patterns):
        self.events = []
        table.add("heard", patterns or ("*",), self._hear)

    def _hear(self, name, measurements, metadata):
        self.events.append((name, dict(measurements), dict(metadata)))

    def of(self, pattern, **wanted):
        """Metadata and measurements of the events of a name that have these values."""
        return [
            {**measurements, **metadata}
            for name, measurements, metadata in list(self.events)
            if name == pattern and all(metadata.get(key) == value for key, value in wanted.items())
        ]

    def one(self, pattern, **wanted):
        """The only one of these."""
        found = self.of(pattern, **wanted)
        assert len(found) == 1, (pattern, wanted, [name for name, _, _ in self.events])
        return found[0]

    async def wait_for(self, pattern, count=1, **wanted):
        """The first so many of these, once they are there."""
        async with asyncio.timeout(PATIENCE):
            while len(found := self.of(pattern, **wanted)) < count:
                await asyncio.sleep(0.005)
        return found[0] if count == 1 else found
