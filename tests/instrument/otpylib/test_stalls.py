"""A loop that stands is told of, with the server, the message and the stack in which it stood."""

import asyncio
import re
import subprocess
import sys
import threading
import time

import pytest
from otpylib import gen_server, process

from otpylib_telemetry import span
from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor
from otpylib_telemetry.instrument.otpylib.rules import Rules, put_in_force
from otpylib_telemetry.instrument.otpylib.stalls import STALLED
from tests.support.actors import Heard, call, server
from tests.support.runtime import in_process


def dawdle_here(seconds):
    time.sleep(seconds)


def spin_here(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


@pytest.mark.parametrize("dawdle", [dawdle_here, spin_here])
async def test_a_stall_of_half_a_second_names_its_culprit(instrumented, dawdle):
    heard = Heard("asking.*", "otpylib.*")

    async def handle(message, _state):
        if message[0] == "dawdle":
            dawdle(0.5)

    async def session():
        await gen_server.start(server("Till", on_call=handle), None, "till")
        await gen_server.start(server(on_call=handle), None, "other")
        with span("asking"):
            await call("other", ("quick",))
            await call("till", ("dawdle", 1))
            await call("other", ("quick",))

    await in_process(session)
    told = await heard.wait_for(STALLED)
    # From when the watchdog asks: on a busy machine that is some time after the loop began to stand.
    assert told["duration_ms"] >= 150
    assert (told["server"], told["module"], told["message"], told["kind"]) == (
        "till",
        "Till",
        "dawdle",
        "call",
    )
    assert dawdle.__name__ in told["stack"]
    assert "in handle" in told["stack"]
    assert "run_forever" not in told["stack"]
    assert told["samples"] >= 1
    handled = heard.one("otpylib.handle.success", message="dawdle")
    # It belongs to what was being done.
    assert told.get("trace_id", handled["trace_id"]) == handled["trace_id"]


async def test_a_loop_that_is_fast_enough_is_not_told_of(instrumented):
    put_in_force(Rules(loop_stall_ms=60_000))
    heard = Heard(STALLED)

    async def handle(_message, _state):
        dawdle_here(0.15)

    async def session():
        await gen_server.start(server(on_call=handle), None, "till")
        await call("till", "dawdle")
        put_in_force(Rules(loop_stall_ms=0))
        await call("till", "dawdle")
        await asyncio.sleep(0.1)
        assert heard.of(STALLED) == []
        put_in_force(Rules(loop_stall_ms=20))
        while not heard.of(STALLED):
            await call("till", "dawdle")
            await asyncio.sleep(0.05)

    await in_process(session)
    # Nobody listens to what is handled: it is known all the same where the loop stood.
    told = heard.of(STALLED)[0]
    assert told["module"] == "Worker"
    assert "dawdle_here" in told["stack"]


async def test_code_outside_of_any_server_is_told_of_with_its_stack(instrumented):
    heard = Heard(STALLED)

    async def session():
        await process.send(process.self(), "that the loop is known")
        await asyncio.sleep(0.1)
        dawdle_here(0.4)
        await asyncio.sleep(0)

    await in_process(session)
    told = await heard.wait_for(STALLED)
    assert "dawdle_here" in told["stack"]
    # It is a process all the same, of no name.
    assert told["module"].endswith("body")


async def test_the_watchdog_ends_with_the_instrumentation(runtime):
    instrumentor = OtpylibInstrumentor()
    instrumentor.instrument()

    async def session():
        await process.send(process.self(), "message")

    await in_process(session)
    assert "otpylib-telemetry watchdog" in [thread.name for thread in threading.enumerate()]
    instrumentor.uninstrument()
    assert "otpylib-telemetry watchdog" not in [thread.name for thread in threading.enumerate()]


ENDLESS = """
import asyncio, logging, threading, os, sys
from otpylib import gen_server, process
from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend
from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor
from tests.support.actors import server
logging.basicConfig(format="%(message)s")

async def handle(message, state):
    threading.Event().wait()

async def application():
    await gen_server.start(server(on_cast=handle), None, "till")
    await gen_server.cast("till", "wait")

async def main():
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    OtpylibInstrumentor().instrument()
    await process.spawn(application)
    await asyncio.sleep(60)

threading.Timer(9, lambda: os._exit(0)).start()
asyncio.run(main())
"""


def test_a_loop_that_never_runs_again_is_logged_while_it_stands():
    done = subprocess.run([sys.executable, "-c", ENDLESS], capture_output=True, text=True, timeout=120)
    said = re.findall(r"The event loop has stood for \d+ s in (.*);", done.stderr)
    assert said == ["till"]
    assert "in handle" in done.stderr
