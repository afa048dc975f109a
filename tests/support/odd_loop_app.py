"""Both exporters on an event loop that need not be asyncio's plain one.

``python -m tests.support.odd_loop_app LOOP OTLP_ENDPOINT PROTOCOL`` prints how many events were left, and
what its page says of a counter that two threads have counted.
"""

import importlib
import sys

if sys.argv[1:2] == ["gevent"]:
    importlib.import_module("gevent.monkey").patch_all()

import asyncio
import threading
import urllib.request

from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry import execute, otp, span
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_prometheus import start_prometheus_exporter


async def main(endpoint, protocol):
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    await start_prometheus_exporter({"port": 0})
    await start_otel_exporter({"endpoint": endpoint, "protocol": protocol})
    with span("odd.work"):
        execute("odd.counted", {"count": 2})
    thread = threading.Thread(target=execute, args=("odd.counted", {"count": 3}))
    thread.start()
    thread.join()
    report = await otp.safe_call("otel_exporter", ("flush", 60), 60)
    while (url := (await otp.safe_call("prometheus_exporter", ("get_stats",), 60))["url"]) is None:
        await asyncio.sleep(0.01)
    page = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=60).read().decode())
    await backend.shutdown()
    print(report["left"], *(line for line in page.splitlines() if line.startswith("odd_counted_total")))  # noqa: T201


def run(loop, *arguments):
    if loop == "uvloop":
        factory = importlib.import_module("uvloop").new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main(*arguments))
    elif loop == "nest_asyncio":
        importlib.import_module("nest_asyncio").apply()

        async def outer():
            asyncio.get_running_loop().run_until_complete(main(*arguments))

        asyncio.run(outer())
    elif loop == "thread":
        thread = threading.Thread(target=asyncio.run, args=(main(*arguments),))
        thread.start()
        thread.join()
    else:
        asyncio.run(main(*arguments), debug=loop == "debug")


if __name__ == "__main__":
    run(*sys.argv[1:])
