"""A batch job that ends right after its last event: ``python -m tests.support.batch_job URL SECONDS``.

With ``never`` behind that, its endpoint is not up before it ends.
"""

import asyncio
import logging
import sys
import time

from otpylib import process
from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry import emit_counter, span
from otpylib_telemetry_prometheus import start_prometheus_exporter
from otpylib_telemetry_prometheus.endpoint import server


async def job(done, url, seconds):
    await start_prometheus_exporter(
        {"port": 0, "push_url": url, "push_job": "nightly/import", "shutdown_timeout": seconds}
    )
    async with span("import.run"):
        await emit_counter("import.rows", 120)
    await emit_counter("import.rows", 3)
    done.set()


async def main():
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(message)s")
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    done = asyncio.Event()
    await process.spawn(job, args=[done, sys.argv[1], float(sys.argv[2])])
    await done.wait()
    await backend.shutdown()
    return time.monotonic()


if "never" in sys.argv:
    server._aiohttp_web = lambda: asyncio.sleep(30)

shut_down = asyncio.run(main())
print(f"ended after {time.monotonic() - shut_down:.2f} s")  # noqa: T201  # read by the test
