"""A node with telemetry by ``config.toml`` of its directory: ``shop_node PORT NAME PEER``.

It has a server ``till``. With a peer it asks the till there, inside of an operation, and ends; without one it
serves until its standard input ends. What it was told to export is exported then.
"""

import asyncio
import sys

import otpylib_config
from otpylib import distribution, gen_server, process
from otpylib.atom import ensure
from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend, epmd
from otpylib.runtime.backends.asyncio_backend.distribution import AsyncIODistribution

import otpylib_telemetry
from otpylib_telemetry import TomlSource, otp, span
from tests.support.actors import server
from tests.support.waiting import eventually

PAY, PAID = map(ensure, ("pay", "paid"))


async def paying(message, _state):
    match message:
        case (kind, sender) if kind is PAY:
            with span("shop.receipt"):
                await process.send(sender, PAID)


async def is_up():
    return (await otp.safe_call("otel_exporter", ("get_stats",), timeout=60))["state"] == "running"


async def run(peer):
    source = TomlSource("config.toml")
    await otpylib_config.start(otpylib_config.ConfigSpec(id="node", sources=[source]))
    await otpylib_telemetry.start_link()
    await eventually(is_up)
    await gen_server.start(server("Till", on_info=paying), None, "till")
    sys.stdout.write("\nup\n")
    sys.stdout.flush()
    if peer:
        await distribution.connect(peer)
        async with span("shop.order"):
            await process.send(("till", peer), (PAY, process.self()))
        assert await process.receive(timeout=60) is PAID
    else:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await otp.safe_call("otel_exporter", ("drain", 30.0), timeout=60)


async def main(port, name, peer=""):
    epmd.EPMD_PORT = int(port)
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    node = AsyncIODistribution(backend, name, "secret")
    await node.start()
    distribution.use_distribution(node)
    done = asyncio.get_running_loop().create_future()

    async def whole():
        try:
            done.set_result(await run(peer))
        except Exception as error:
            done.set_exception(error)

    await process.spawn(whole, mailbox=True)
    await done
    await backend.shutdown()
    node.node.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
