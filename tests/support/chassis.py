"""A scripted exporter, and what tests of the chassis keep asking of one."""

import asyncio
from collections import deque

from otpylib import gen_server, process
from pydantic import Field

from otpylib_telemetry import Exporter, ExporterSettings, execute, exporter_module, otp, start_exporter
from otpylib_telemetry.bus import table
from otpylib_telemetry.exporter import registry
from tests.support.waiting import eventually

NAME = "x_exporter"
SECTION = "telemetry.x"

#: Settings with which batches leave at once.
QUICK = {"event_patterns": ["shop.*"], "flush_interval": 0.02, "batch_size": 10, "shutdown_timeout": 0.3}


class XSettings(ExporterSettings):
    """Two keys of its own: one applied in place, one that needs another instance."""

    endpoint: str = Field("one", description="Where to.")
    rate: float = Field(1.0, ge=0, description="How much.")
    api_key: str = Field("", description="Secret.", json_schema_extra={"secret": True})
    headers: dict[str, str] = Field(default_factory=dict, description="Headers.")


class Backend:
    """What the exporters of one name talk to, and what it does next.

    ``script`` has what becomes of the next exports: an exception to raise, an outcome to return, a future to
    wait for. ``opening`` has the same for ``open``.
    """

    def __init__(self):
        self.delivered = []
        self.batches = []
        self.endpoints = []
        self.script = deque()
        self.always = None
        self.opening = deque()
        self.applying = deque()
        self.calls = []
        self.exporters = []
        self.open_now = 0

    @property
    def numbers(self):
        return [event.measurements.get("n") for event in self.delivered]


def make_exporter(name=NAME, section=SECTION, **overrides):
    """A fresh GenServer class with a backend of its own: ``module, backend = make_exporter()``."""
    backend = Backend()

    class Scripted(Exporter[XSettings]):
        settings_type = XSettings

        def __init__(self, settings, context):
            super().__init__(settings, context)
            self.is_open = False
            backend.exporters.append(self)

        async def open(self):
            backend.calls.append("open")
            if backend.opening:
                await _act(backend.opening.popleft())
            self.is_open = True
            backend.open_now += 1

        async def export(self, batch):
            outcome = None
            if backend.script or backend.always is not None:
                action = backend.script.popleft() if backend.script else backend.always
                outcome = await _act(action)
            backend.batches.append(len(batch))
            backend.delivered.extend(batch[: len(batch)])
            backend.endpoints.extend([self.settings.endpoint] * len(batch))
            return outcome

        async def apply(self, settings, changed):
            backend.calls.append(("apply", changed))
            if backend.applying:
                await _act(backend.applying.popleft())
            return changed <= {"rate"}

        async def close(self):
            backend.calls.append("close")
            backend.open_now -= self.is_open
            self.is_open = False

    for attribute, value in overrides.items():
        setattr(Scripted, attribute, value)
    module = exporter_module(f"Server{name}", Scripted, name=name, section=section, module=__name__)
    return module, backend


async def _act(action):
    if isinstance(action, BaseException):
        raise action
    if isinstance(action, asyncio.Future):
        return await asyncio.shield(action)
    if callable(action):
        return action()
    return action


def hang():
    """An action that never ends unless its result is set."""
    return asyncio.get_running_loop().create_future()


async def start(module, **settings):
    """Start the exporter unsupervised and wait until it is up."""
    pid = await start_exporter(module, {**QUICK, **settings})
    await up(module.registered_name)
    return pid


def runner(name=NAME):
    """What runs the exporter of a name; None if it does not run."""
    return registry._runners.get(name)


def stats(name=NAME):
    return runner(name).stats()


async def up(name=NAME, state="running"):
    await eventually(lambda: runner(name).lifecycle.health.status == state, message=f"{name} is {state}")


def books(name=NAME):
    """The ledger, which must balance."""
    found = registry.find(name).books()
    balance(found)
    return found


def waiting(state):
    """What waits to be exported, lane after lane."""
    return [item for lane in state.lanes.values() for item in lane]


def balance(found):
    parts = ("exported", "rejected", "sampled_out", "queued", "in_flight")
    accounted = sum(found[part] for part in parts) + sum(found["dropped"].values())
    assert found["accepted"] == accounted, found
    assert all(found[part] >= 0 for part in (*parts, "accepted")), found
    assert all(count >= 0 for count in found["dropped"].values()), found


def emit(count, first=0, name="shop.sale"):
    for number in range(first, first + count):
        execute(name, {"n": number})


async def delivered(backend, count, name=NAME):
    """Wait until so many events have arrived, with the books balanced at every look."""

    def enough():
        books(name)
        return len(backend.delivered) >= count

    await eventually(enough)
    assert len(backend.delivered) == count


async def call(request, name=NAME, timeout=60):
    return await otp.safe_call(name, request, timeout)


async def cast(message, name=NAME):
    await gen_server.cast(name, message)


class Venom:
    """otpylib's loop compares messages; comparing this one raises, and crashes the server for real."""

    def __eq__(self, other):
        raise RuntimeError("venom")

    __hash__ = None


async def crash(name=NAME):
    """Crash a server; returns when that process is gone."""
    pid = process.whereis(name)
    await process.send(pid, (Venom(), "venom"))
    await eventually(lambda: not process.is_alive(pid), message=f"{name} has crashed")


async def mailbox_empty(name=NAME):
    """Everything sent to the process so far has been handled."""
    await call(("get_stats",), name)


def collect_events(pattern):
    """Record events of the telemetry's own: a list of (name, measurements, metadata)."""
    seen = []
    table.add(f"collected {pattern}", [pattern], lambda *event: seen.append(event))
    return seen
