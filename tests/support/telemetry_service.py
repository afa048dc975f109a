"""The service that takes up the OpenTelemetry API: put up, taken down, and asked what it has done."""

import os
import textwrap
from pathlib import Path

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from otpylib import process

from otpylib_telemetry import otp
from otpylib_telemetry_otel.service import SERVICE
from tests.support import programs
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
EXPORTER = "otel_exporter"
W3C = TraceContextTextMapPropagator()


def settings(http_receiver, **more):
    return {
        "endpoint": http_receiver.endpoint,
        "protocol": "http/protobuf",
        "flush_interval": 0.02,
        "service_name": "shop",
        **more,
    }


def tracer():
    return trace.get_tracer("shop.client", "1.2")


async def stop(name=SERVICE):
    pid = process.whereis(name)
    if pid is not None:
        await otp.end_quietly(pid)
        await eventually(lambda: not process.is_alive(pid))


async def stats():
    return await otp.safe_call(SERVICE, ("get_stats",))


async def exporters_view():
    return (await stats())["exporters"][EXPORTER]


async def arrived(receiver, *names):
    """The spans by name, once all of these are there; none may be there twice."""
    await eventually(lambda: {each.name for each in receiver.spans} >= set(names))
    by_name = {each.name: each for each in receiver.spans}
    assert len(by_name) == len(receiver.spans)
    return by_name


def outgoing():
    headers = {}
    W3C.inject(headers)
    return headers.get("traceparent")


PRELUDE = """
import asyncio, os, sys, warnings
warnings.simplefilter("error")
from opentelemetry import trace
from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend
from otpylib_telemetry import otp, span
from otpylib_telemetry.tracing import bridge as context_bridge
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.service import start_telemetry_service
settings = {{"endpoint": {endpoint!r}, "protocol": "http/protobuf", "flush_interval": 0.05}}
async def is_up():
    while (await otp.safe_call("otel_exporter", ("get_stats",)))["state"] != "running":
        await asyncio.sleep(0.01)
async def flush():
    await is_up()
    assert (await otp.safe_call("otel_exporter", ("flush", 60.0), 15.0))["left"] == 0
async def stats(): return await otp.safe_call("telemetry_service", ("get_stats",))
async def main():
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
"""


def run(body, receiver=None, **environ):
    endpoint = None if receiver is None else receiver.endpoint
    main = textwrap.indent(textwrap.dedent(body), "    ")
    script = f"{PRELUDE.format(endpoint=endpoint)}{main}\nasyncio.run(main())\n"
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "TELEMETRY_"))}
    done = programs.run(["-c", script], cwd=ROOT, env={**kept, **environ}, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done
