"""An application under load: ``python -m tests.support.loaded_app PORT EVENTS_PER_SECOND SECONDS``.

Afterwards it says how many events it emitted, and stays until somebody ends it.
"""

import asyncio
import sys
import time

from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry import execute
from otpylib_telemetry_prometheus import start_prometheus_exporter

#: Turns a second: between two the event loop is free.
TURNS = 100


async def main(port, per_second, seconds):
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    # All go into one counter and one histogram, half of them into each.
    await start_prometheus_exporter({"port": port, "event_patterns": ["load.*"]})
    sys.stdout.write("emitting\n")
    sys.stdout.flush()
    begun, emitted = time.monotonic(), 0
    while (passed := time.monotonic() - begun) < seconds:
        due = min(int(passed * per_second), emitted + per_second // 10)
        for number in range(emitted, due):
            if number % 2:
                execute("load.done", {"count": 2}, {})
            else:
                execute("load.work", {"duration_ms": number % 1000}, {})
        emitted = due
        await asyncio.sleep(1 / TURNS)
    sys.stdout.write(f"{emitted}\n")
    sys.stdout.flush()
    await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
