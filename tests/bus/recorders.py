"""Handlers that remember, a clock that stands still, and ways to emit."""

import asyncio

from otpylib_telemetry import emit, execute


class Recorder:
    """A plain handler that remembers; raises what ``error`` says."""

    def __init__(self, error=None):
        self.events = []
        self.error = error

    def __call__(self, name, measurements, metadata):
        self.events.append((name, dict(measurements), dict(metadata)))
        if self.error is not None:
            raise self.error

    @property
    def names(self):
        return [name for name, _, _ in self.events]


class AsyncRecorder(Recorder):
    async def __call__(self, name, measurements, metadata):
        await asyncio.sleep(0)
        super().__call__(name, measurements, metadata)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def drive(coroutine):
    """Run a coroutine that waits for nothing, without an event loop to get in the way of what it raises."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration:
            return


async def every_way_to_emit(name, measurements=None, metadata=None):
    execute(name, measurements, metadata)
    await emit(name, measurements, metadata)


async def start_and_cancel(work):
    task = asyncio.create_task(work)
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    return task
