"""How long shutting down takes with 2,000 finished spans and a collector that is of no help.

Each case runs in an interpreter of its own: a hanging shutdown must not hold up the others.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
import time
from typing import Any

SPANS = 2_000
PROTOCOLS = {"grpc": "OTLP/gRPC", "http/protobuf": "OTLP/HTTP"}
SITUATIONS = {"refused": "port refused", "silent": "accepts, never answers"}

#: Seconds after which a case is given up.
PATIENCE = 300


def table() -> str:
    """Run every case, and return the result as a Markdown table."""
    rows = [
        "| situation | | OpenTelemetry SDK | otpylib-telemetry | left, by its own report |",
        "|---|---|---:|---:|---|",
    ]
    for situation, described in SITUATIONS.items():
        for protocol, name in PROTOCOLS.items():
            sdk, ours = (_run(who, protocol, situation) for who in ("sdk", "ours"))
            rows.append(
                f"| {described} | {name} | {sdk['seconds']:.1f} s | {ours['seconds']:.1f} s "
                f"| {ours['left']} events of {ours['accepted']} |"
            )
    return "\n".join(rows)


def _run(who: str, protocol: str, situation: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.shutdown", who, protocol, situation]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)  # noqa: S603  # ourselves
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _endpoint(situation: str) -> tuple[str, socket.socket]:
    """Return an address where nobody listens, or somebody who never says anything."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    if situation == "refused":
        listener.close()
    return endpoint, listener


def sdk(protocol: str, endpoint: str) -> dict[str, Any]:
    """The SDK's tracer with its BatchSpanProcessor and its OTLP exporter."""
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415  # one case, one library
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )

        exporter: Any = OTLPSpanExporter(endpoint=endpoint)
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter as HttpExporter,
        )

        exporter = HttpExporter(endpoint=f"{endpoint}/v1/traces")
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("bench")
    for _ in range(SPANS):
        tracer.start_span("shop.request").end()
    began = time.monotonic()
    provider.shutdown()
    return {"seconds": time.monotonic() - began}


async def ours(protocol: str, endpoint: str) -> dict[str, Any]:
    """Our exporter with its defaults; two events for each span."""
    from otpylib.runtime import set_runtime  # noqa: PLC0415  # one case, one library
    from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend  # noqa: PLC0415

    from otpylib_telemetry import otp, span  # noqa: PLC0415
    from otpylib_telemetry_otel import start_otel_exporter  # noqa: PLC0415

    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    await start_otel_exporter({"endpoint": endpoint, "protocol": protocol, "event_patterns": ["shop.*"]})
    while (await otp.safe_call("otel_exporter", ("get_stats",), timeout=5.0))["state"] != "running":  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    for _ in range(SPANS):
        with span("shop.request"):
            pass
    began = time.monotonic()
    report = await otp.safe_call("otel_exporter", ("drain", 5.0), timeout=60.0)
    seconds = time.monotonic() - began
    stats = await otp.safe_call("otel_exporter", ("get_stats",), timeout=5.0)
    return {"seconds": seconds, "left": report["left"], "accepted": stats["accepted"]}


def main() -> None:
    """Run one case, and print what it took."""
    logging.disable()
    who, protocol, situation = sys.argv[1:]
    endpoint, listener = _endpoint(situation)
    result = sdk(protocol, endpoint) if who == "sdk" else asyncio.run(ours(protocol, endpoint))
    listener.close()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
