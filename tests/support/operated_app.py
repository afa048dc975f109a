"""A shop that somebody operates from a second terminal: ``python -m tests.support.operated_app``.

It goes by ``config.toml`` of its working directory, and does what it reads, a line each: ``sell COUNT``,
``visit COUNT`` (each by another customer), ``pile COUNT`` (as many messages in the mailbox of ``till``, which
stays so until the next line) or ``crash COUNT`` (of ``till``, whose supervisor starts it again).
It answers each line with ``done``.
"""

import asyncio
import itertools
import logging
import sys

import otpylib_config
from otpylib import gen_server, process, supervisor
from otpylib.module import SUPERVISOR
from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

import otpylib_telemetry
from otpylib_telemetry import TomlSource, execute, span
from tests.support.actors import server, supervising
from tests.support.waiting import eventually

_numbers = itertools.count()


async def sell(count):
    for _ in range(count):
        async with span("shop.order", {"sku": "book", "password": "sesame-sesame"}):
            with span("shop.order.pay", {"card": "visa"}):
                await asyncio.sleep(0)


async def visit(count):
    for _ in range(count):
        execute("shop.visit", {"count": 1}, {"customer": f"c{next(_numbers)}", "country": "de"})
        await asyncio.sleep(0)


async def pile(count):
    for _ in range(count + 1):
        await gen_server.cast("till", gates[-1])


async def crash(count):
    for _ in range(count):
        before = process.whereis("till")
        await gen_server.cast("till", "crash")
        await eventually(lambda before=before: process.whereis("till") not in {before, None})


async def takes(message, _state):
    if message == "crash":
        raise RuntimeError("the drawer sticks")
    await message.wait()


DOES = {"sell": sell, "visit": visit, "pile": pile, "crash": crash}
#: What a pile of messages waits for.
gates = [asyncio.Event()]


async def application():
    source = TomlSource("config.toml")
    await otpylib_config.start(otpylib_config.ConfigSpec(id="app", sources=[source], reload_interval=0.2))
    await otpylib_telemetry.start_link()
    till = {"id": "till", "module": server("Till", on_cast=takes), "args": None, "name": "till"}
    await supervisor.start_link(supervising(SUPERVISOR, [till], max_restarts=100), None, "shop_sup")
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while line := (await reader.readline()).decode().split():
        gates.pop().set()
        gates.append(asyncio.Event())
        await DOES[line[0]](int(line[1]))
        sys.stdout.write("done\n")
        sys.stdout.flush()


async def main():
    runtime = AsyncIOBackend()
    await runtime.initialize()
    set_runtime(runtime)
    ended = asyncio.Event()

    async def run():
        try:
            await application()
        finally:
            ended.set()

    await process.spawn(run, mailbox=True)
    await ended.wait()
    await runtime.shutdown()


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    asyncio.run(main())
