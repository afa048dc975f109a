"""An application that forks while its exporter is at work: ``python -m tests.support.forking_app HOW DIR``.

What is delivered goes to ``DIR/delivered``, a line per event: who delivered it, and its number. What a child
finds out goes to ``DIR/child`` as JSON, what the parent does at the end to ``DIR/parent``.
"""

import asyncio
import json
import multiprocessing
import os
import pathlib
import signal
import sys
import time

from otpylib.runtime import reset_runtime, set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry import (
    Collected,
    Exporter,
    ExporterSettings,
    execute,
    exporter_module,
    list_handlers,
    otp,
    run_in_thread,
    start_exporter,
)
from otpylib_telemetry.exporter import registry

NAME = "lines_exporter"
SETTINGS = {"batch_size": 10, "flush_interval": 60, "shutdown_timeout": 2, "event_patterns": ["shop.*"]}

#: Held back by the exporter like open spans: every event whose number can be divided by this.
HELD = 7


def write(path, line):
    with pathlib.Path(path).open("a") as file:
        file.write(f"{line}\n")


def deliver(directory, numbers, go):
    while not go.exists():
        time.sleep(0.01)
    for number in numbers:
        write(directory / "delivered", f"{os.getpid()} {number}")


def make(directory, go):
    class Lines(Exporter[ExporterSettings]):
        def collect(self, events, wall_offset_ns):
            found = super().collect(events, wall_offset_ns)
            kept = self.context.memory.setdefault("kept", [])
            kept += [item for item in found.items if item[0].measurements["n"] % HELD == 0]
            found.items = [item for item in found.items if item not in kept]
            return found

        @property
        def held(self):
            return len(self.context.memory.get("kept", ()))

        def give_up_held(self, wall_offset_ns):
            return Collected(items=self.context.memory.pop("kept", []))

        async def export(self, batch):
            await run_in_thread(deliver, directory, [event.measurements["n"] for event in batch], go)

    return exporter_module("Lines", Lines, name=NAME, section="telemetry.lines", module=__name__)


async def with_exporter(directory, go, work):
    runtime = AsyncIOBackend()
    await runtime.initialize()
    set_runtime(runtime)
    await start_exporter(make(directory, go), SETTINGS)
    result = await work()
    left = (await otp.safe_call(NAME, ("drain", 60.0), timeout=90))["left"]
    books = registry.find(NAME).books()
    await runtime.shutdown()
    return result, left, books


def emit(first, count):
    for number in range(first, first + count):
        execute("shop.sale", {"n": number})


def in_child(directory, how):
    """Be the child: look at what was inherited, emit to nobody, and then run an exporter of its own."""
    inherited = {"states": registry.names(), "handlers": [handler.handler_id for handler in list_handlers()]}
    emit(1000, 50)
    if how in {"term", "pool"}:
        write(directory / "child", json.dumps({"pid": os.getpid(), "inherited": inherited}))
        while how == "term":
            time.sleep(0.05)
        return
    reset_runtime()

    async def work():
        emit(2000, 30)
        # One that found the parent's events would have them by now.
        return registry.find(NAME).books()["accepted"]

    accepted, left, books = asyncio.run(with_exporter(directory, directory, work))
    report = {"pid": os.getpid(), "inherited": inherited, "accepted": accepted, "left": left, "books": books}
    write(directory / "child", json.dumps(report))


async def parent(directory, how):
    go = directory / "go"

    async def work():
        emit(0, 25)
        await otp.safe_call(NAME, ("get_stats",))
        while registry.find(NAME).books()["in_flight"] == 0:
            await asyncio.sleep(0.01)
        # Some wait as items, some are held, some are queued: those below.
        emit(25, 15)
        status = await fork(directory, how)
        emit(40, 5)
        go.touch()
        return status

    status, left, books = await with_exporter(directory, go, work)
    write(
        directory / "parent", json.dumps({"pid": os.getpid(), "status": status, "left": left, "books": books})
    )


async def fork(directory, how):
    if how == "pool":
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=in_child, args=(directory, how)) for _ in range(2)]
        for worker in workers:
            worker.start()
        await run_in_thread(lambda: [worker.join() for worker in workers])
        return max(worker.exitcode for worker in workers)
    child = os.fork()
    if child == 0:
        try:
            in_child(directory, how)
        except BaseException as error:
            write(directory / "child", json.dumps({"error": repr(error)}))
            os._exit(1)
        if how == "exit":
            # With everything that is registered for the end of an interpreter, unlike os._exit.
            sys.exit(0)
        os._exit(0)
    if how == "term":
        while not (directory / "child").exists():
            await asyncio.sleep(0.01)
        os.kill(child, signal.SIGTERM)
    _, status = await run_in_thread(os.waitpid, child, 0)
    return status


if __name__ == "__main__":
    try:
        asyncio.run(parent(pathlib.Path(sys.argv[2]), sys.argv[1]))
    except SystemExit:
        # A child that exits from within the loop has copied it; it must not go on with it.
        import atexit

        atexit._run_exitfuncs()
        os._exit(0)
