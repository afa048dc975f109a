"""An application that ends as soon as it has begun, while its exporter is still importing and connecting."""

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]

APPLICATION = textwrap.dedent(
    """
    import asyncio
    import sys

    from otpylib.runtime import set_runtime
    from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

    from otpylib_telemetry import span
    from otpylib_telemetry_otel import start_otel_exporter


    async def main():
        backend = AsyncIOBackend()
        await backend.initialize()
        set_runtime(backend)
        await start_otel_exporter({"endpoint": sys.argv[1], "shutdown_timeout": 60})
        for number in range(50):
            with span("shop.short", {"number": number}):
                pass


    asyncio.run(main())
    """
)


def test_everything_it_emitted_arrives_once(grpc_receiver):
    command = [sys.executable, "-c", APPLICATION, grpc_receiver.endpoint]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    numbers = [each.attributes["number"] for each in grpc_receiver.spans]
    assert sorted(numbers) == list(range(50))
