"""A web application of several workers, each with an otpylib runtime and a Prometheus exporter of its own.

``GET /sell`` emits an event, and answers once that event is where no end of the worker can take it; the sale
itself is an operation, whose time is measured, and of which it is counted how many are under way.
``GET /wait`` is one that lasts as long as the client.
"""

import os

from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry import execute, otp, span
from otpylib_telemetry_prometheus import start_prometheus_exporter

SETTINGS = {"port": int(os.environ["SHOP_METRICS_PORT"]), "event_patterns": ["shop.*"], "self_metrics": False}
ANSWERS = {"lifespan.startup": "lifespan.startup.complete", "lifespan.shutdown": "lifespan.shutdown.complete"}


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    if scope["path"] == "/wait":
        async with span("shop.wait"):
            while (await receive())["type"] != "http.disconnect":
                pass
        return
    async with span("shop.checkout"):
        execute("shop.sale", {"count": 1}, {"item": "tea"})
    flushed = await otp.safe_call("prometheus_exporter", ("flush", 60.0), 90.0)
    status = 200 if flushed["left"] == 0 else 500
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def lifespan(receive, send):
    runtime = AsyncIOBackend()
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await runtime.initialize()
            set_runtime(runtime)
            await start_prometheus_exporter(SETTINGS)
        else:
            await runtime.shutdown()
        await send({"type": ANSWERS[message["type"]]})
        if message["type"] == "lifespan.shutdown":
            return
