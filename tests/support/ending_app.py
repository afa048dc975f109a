"""An application that ends in the way it is told to: ``python -m tests.support.ending_app END BACKEND FORM
DIR``.

It accepts 25 events and ends at once. What is delivered goes to ``DIR/delivered``, a line per event, and
closing the exporter to ``DIR/closed``.
"""

import asyncio
import contextlib
import importlib
import logging
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

from otpylib import process, supervisor
from otpylib.module import SUPERVISOR, OTPModule
from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry import (
    Exporter,
    ExporterSettings,
    execute,
    exporter_child_spec,
    exporter_module,
    run_in_thread,
    start_exporter,
)

SETTINGS = {"batch_size": 10, "flush_interval": 60, "shutdown_timeout": 0.8, "event_patterns": ["shop.*"]}
EVENTS = 25


#: What keeps the event loop from ever turning again.
BLOCKED = {
    "spinning": lambda: [None for _ in iter(int, 1)],
    "sleeping": lambda: time.sleep(3600),
    "locked": lambda: [lock.acquire() for lock in [threading.Lock()] * 2],
    "reading": lambda: [one.recv(1) for one in socket.socketpair()],
    "waiting for a thread": lambda: threading.Event().wait(),
    "waiting for a process": lambda: subprocess.run(
        ["sleep", "60"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ),
    "logging": lambda: [logging.getLogger().handlers[0].acquire(), time.sleep(3600)],
}


def write(path, lines):
    with pathlib.Path(path).open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def deliver(backend, path, numbers):
    """What the backend does with a batch, on a thread as a network library would."""
    if backend == "hanging":
        time.sleep(3600)
    if backend == "refusing":
        raise OSError("connection refused")
    if backend == "slow":
        time.sleep(0.1)
    write(path, numbers)


def make(backend, directory):
    class Lines(Exporter[ExporterSettings]):
        async def export(self, batch):
            numbers = [event.measurements["n"] for event in batch]
            await run_in_thread(deliver, backend, directory / "delivered", numbers)

        async def close(self):
            write(directory / "closed", ["closed"])

    return exporter_module(
        "LinesExporter", Lines, name="lines_exporter", section="telemetry.lines", module=__name__
    )


async def nothing(self, *args):
    """Do nothing."""


async def start(form, module):
    if form == "alone":
        await start_exporter(module, SETTINGS)
        return
    specs = [exporter_child_spec(module, SETTINGS)]
    if form == "bare":
        name = module.registered_name
        specs = [supervisor.child_spec(id=name, module=module, args=SETTINGS, name=name)]

    async def init(self, arg):
        return (specs, supervisor.options())

    tree = OTPModule("Tree", (), {"init": init, "terminate": nothing}, behavior=SUPERVISOR, version="1.0.0")
    ready = asyncio.get_running_loop().create_future()

    async def application():
        ready.set_result(await tree.start_link(None, "tree"))
        await asyncio.sleep(3600)

    await process.spawn(application, mailbox=True)
    await ready


async def main(end, backend, form, directory):
    runtime = AsyncIOBackend()
    await runtime.initialize()
    set_runtime(runtime)
    if end == "own_handler":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, write, directory / "own", ["own"])
    await start(form, make(backend, directory))
    if end == "later_handler":
        signal.signal(signal.SIGTERM, lambda *_: write(directory / "own", ["own"]))
    for number in range(EVENTS):
        execute("shop.sale", {"n": number})
    if end == "under_way":
        await asyncio.sleep(0.02)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    if end in {"return", "under_way"}:
        return
    if end == "shutdown_return":
        await runtime.shutdown()
        return
    if end == "shutdown":
        await runtime.shutdown()
        await asyncio.sleep(1.5)
        return
    if end in {"own_handler", "later_handler"}:
        while not (directory / "own").exists():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        return
    if end in BLOCKED:
        BLOCKED[end]()
    if end == "twice":
        await asyncio.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(30)
        sys.exit("nothing ended it")


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    name, _, on = sys.argv[1].partition("@")
    if on:
        asyncio.set_event_loop_policy(importlib.import_module(on).EventLoopPolicy())
    asyncio.run(main(name, *sys.argv[2:4], pathlib.Path(sys.argv[4])))
