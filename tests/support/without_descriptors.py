"""Exports over gRPC, takes every file descriptor there is for a while, and tells what became of the spans."""

import asyncio
import json
import os
import pathlib
import resource
import sys

from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry import otp, span
from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver
from otpylib_telemetry_otel import start_otel_exporter

DESCRIPTORS = pathlib.Path("/proc/self/fd")


async def stats():
    return await otp.safe_call("otel_exporter", ("get_stats",))


async def attempts(count):
    """Have something sent until it has been tried so many times."""
    before = (await stats())["export_failures"]
    while (await stats())["export_failures"] < before + count:
        with span("x"):
            pass
        await asyncio.sleep(0.01)


def take_all():
    resource.setrlimit(resource.RLIMIT_NOFILE, (len([*DESCRIPTORS.iterdir()]) + 20, 4096))
    held = []
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return held


async def main(when):
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    receiver = GrpcReceiver()
    receiver.stop()
    settings = {"endpoint": receiver.endpoint, "protocol": "grpc", "metrics": False, "logs": False}
    settings |= {"flush_interval": 0.02, "reset_timeout": 0.1, "retry_attempts": 1}
    await start_otel_exporter(settings)
    while (await stats())["state"] != "running":
        await asyncio.sleep(0.01)
    if when == "later":
        await attempts(3)
    held = take_all()
    await attempts(10)
    told = await stats()
    for each in held:
        os.close(each)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
    receiver.restart()
    while not receiver.spans:
        await asyncio.sleep(0.05)
    sys.stdout.write(json.dumps({"reason": told["reason"], "dropped": told["dropped"]}) + "\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
