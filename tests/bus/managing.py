"""Starting and asking the TelemetryManager, and an async handler that notes numbers."""

from otpylib import gen_server, process

from otpylib_telemetry import TelemetryManager, execute
from otpylib_telemetry.bus.manager import MANAGER
from tests.support.runtime import in_process
from tests.support.waiting import eventually


async def start_manager(name=None):
    return await in_process(lambda: TelemetryManager.start_link(name=name))


async def end_of(pid):
    await eventually(lambda: not process.is_alive(pid))


async def stats():
    return await gen_server.call(MANAGER, ("get_stats",), timeout=60)


class Recorder:
    """An async handler: waits for ``gate``, if any, before it notes the number of an event."""

    def __init__(self, gate=None):
        self.numbers = []
        self.started = []
        self.gate = gate

    async def __call__(self, _name, measurements, _metadata):
        self.started.append(measurements["n"])
        if self.gate is not None:
            await self.gate.wait()
        self.numbers.append(measurements["n"])


def emit_numbers(numbers, name="a"):
    for n in numbers:
        execute(name, {"n": n})
