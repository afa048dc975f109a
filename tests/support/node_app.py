"""A node of otpylib's, as a program of its own: ``node_app LOOP PORT NAME PEER INSTRUMENTED ROLE``.

The role "serves" answers whatever the peer asks until its standard input ends; "asks" asks. Either prints
what it has seen as the last line of its output, as JSON.
"""

import asyncio
import importlib
import json
import sys

from otpylib import distribution, gen_server, process
from otpylib.atom import ensure
from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend, epmd
from otpylib.runtime.backends.asyncio_backend.distribution import AsyncIODistribution

from otpylib_telemetry import current_span, extract, span, trace_context
from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor
from otpylib_telemetry.instrument.otpylib.envelope import FAN_OUT
from tests.support.actors import Heard, server

ASK, ANSWER, END, SEEN, READY = map(ensure, ("ask", "answer", "end", "seen", "ready"))
PATIENCE = 60.0
STATE = "shop=7"


def here():
    found = current_span()
    return "" if found is None else f"{found.trace_id}-{found.span_id}"


def said(line):
    # otpylib prints what it receives.
    sys.stdout.write(f"\n{line}\n")
    sys.stdout.flush()


def text(value):
    """Text comes as bytes from another node."""
    return value.decode() if isinstance(value, bytes) else value


async def answering(message, _state):
    match message:
        case (kind, sender, number) if kind is ASK:
            carried = trace_context()
            told = [here(), carried.get("tracestate", ""), carried.get("baggage", "")]
            await process.send(sender, (ANSWER, number, told))


async def looping(asker):
    """A process that receives for itself, and can be told to end."""
    await process.send(asker, (READY, process.self()))
    while True:
        message = await process.receive()
        if message is END:
            return
        await process.send(asker, (SEEN, here()))


async def starting(message, _state):
    await process.spawn(looping, args=[message[1]], mailbox=True)


async def serve():
    await gen_server.start(server("Answerer", on_info=answering), None, "answerer")
    await gen_server.start(server("Starter", on_info=starting), None, "starter")


async def ask(peer):
    """Send in every way otpylib has, and note what came of it."""
    seen = {}
    me = process.self()
    with span("connecting"):
        # Whose context must stay with the connection.
        await distribution.connect(peer)
    await process.send(("answerer", peer), (ASK, me, 1))
    seen["none"] = [text((await process.receive(timeout=PATIENCE))[2][0]), here()]
    outer = {"traceparent": f"00-{5:032x}-{6:016x}-01", "tracestate": STATE, "baggage": "customer=ann"}
    with extract(outer):
        async with span("asking"):
            seen["asking"] = here()
            await process.send(("answerer", peer), (ASK, me, 2))
            await distribution.send(peer, "answerer", (ASK, me, 3))
    for name in ("by name", "by distribution"):
        answer = await process.receive(timeout=PATIENCE)
        seen[name] = [answer[1], *map(text, answer[2]), here()]
    await process.send(("starter", peer), (ensure("start"), me))
    loop = (await process.receive(timeout=PATIENCE))[1]
    with span("asking"):
        seen["loop asked"] = here()
        await process.send(loop, ensure("where"))
    seen["by pid"] = text((await process.receive(timeout=PATIENCE))[1])
    with span("many"):
        seen["many"] = here()
        for number in range(FAN_OUT + 2):
            await process.send(("answerer", peer), (ASK, me, number))
    many = [text((await process.receive(timeout=PATIENCE))[2][0]) for _ in range(FAN_OUT + 2)]
    seen["of many"] = sum(one[:32] == seen["many"][:32] for one in many)
    with span("watching"):
        await process.monitor(loop)
        await process.send(loop, END)
    seen["ends"] = [str((await process.receive(timeout=PATIENCE))[0]), here()]
    # otpylib tells other nodes of an end by link only where there is no such process (any more).
    await process.link(loop)
    seen["ends"] += [str((await process.receive(timeout=PATIENCE))[0]), here()]
    return seen


async def main(port, name, peer, instrumented, role):
    epmd.EPMD_PORT = int(port)
    if instrumented == "yes":
        OtpylibInstrumentor().instrument()
    heard = Heard("otpylib.*", "asking.*", "many.*", "connecting.*", "watching.*")
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    node = AsyncIODistribution(backend, name, "secret")
    await node.start()
    distribution.use_distribution(node)
    done = asyncio.get_running_loop().create_future()

    async def run():
        try:
            done.set_result(await (serve() if role == "serves" else ask(peer)))
        except Exception as error:
            done.set_exception(error)

    await process.spawn(run, mailbox=True, trap_exits=True)
    seen = await done
    if role == "serves":
        said("serving")
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        seen = {
            "handled": [
                event for event in heard.of("otpylib.handle.success") if event["server"] == "answerer"
            ]
        }
    said(json.dumps(seen, default=str))
    await backend.shutdown()
    node.node.close()


if __name__ == "__main__":
    factory = importlib.import_module("uvloop").new_event_loop if sys.argv[1] == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main(*sys.argv[2:]))
