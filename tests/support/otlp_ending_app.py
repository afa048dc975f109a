"""An application with 2,000 spans waiting that ends in the way it is told to:

``python -m tests.support.otlp_ending_app END ENDPOINT PROTOCOL SECONDS``. END is ``return`` or ``sigterm``;
then somebody else sends the signal. SECONDS is its shutdown_timeout. What is said of the end goes to stderr.
"""

import asyncio
import logging
import sys

from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry import otp, span
from otpylib_telemetry_otel import start_otel_exporter

SPANS = 2000
#: Every so many one fails: 20 of them.
FAILING = 100
BATCH = 100


def settings(endpoint, protocol, **more):
    return {
        "endpoint": endpoint,
        "protocol": protocol,
        "event_patterns": ["shop.*"],
        "metrics": False,
        "batch_size": BATCH,
        "flush_interval": 60,
        # Without a deadline an end would take ten minutes.
        "timeout": 600,
        **more,
    }


def emit():
    """2,000 spans; the last of every hundred fails."""
    for number in range(SPANS):
        try:
            with span("shop.work", {"number": number, "text": "x" * 500}):
                if number % FAILING == FAILING - 1:
                    raise LookupError(str(number))
        except LookupError:
            pass


async def main(end, endpoint, protocol, seconds):
    runtime = AsyncIOBackend()
    await runtime.initialize()
    set_runtime(runtime)
    await start_otel_exporter(settings(endpoint, protocol, shutdown_timeout=float(seconds)))
    while (await otp.safe_call("otel_exporter", ("get_stats",), timeout=60))["state"] != "running":
        await asyncio.sleep(0.01)
    emit()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    if end != "return":
        await asyncio.sleep(300)
        sys.exit("nothing ended it")


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    asyncio.run(main(*sys.argv[1:]))
