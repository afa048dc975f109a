"""Two functions for an application's own HTTP server: read how telemetry does, and change its configuration.

    python http_configuration.py

serves them on a free port, asks for the status, changes the sampling, and shows that it counts.
"""

import asyncio
import json
from typing import Any

from aiohttp import ClientSession, web
from otpylib import gen_server
from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry import otp
from otpylib_telemetry_otel import start_otel_exporter

EXPORTERS = ("otel_exporter", "prometheus_exporter")


async def get_telemetry_status(_request: web.Request) -> web.Response:
    """Answer with the statistics and the configuration of every exporter that runs; secrets are redacted."""
    status: dict[str, Any] = {}
    for name in EXPORTERS:
        if otp.whereis(name) is not None:
            status[name] = {
                "stats": await otp.safe_call(name, ("get_stats",)),
                "config": await otp.safe_call(name, ("get_config",)),
            }
    return web.json_response(status, dumps=_dumps)


async def update_telemetry_config(request: web.Request) -> web.Response:
    """Change one key: ``{"path": "telemetry.otel.sampling_rate", "value": 0.5}``.

    The exporter checks the value. What it refuses stays as it was, and the answer says why.
    """
    change = await request.json()
    path, value = str(change["path"]), change["value"]
    name = f"{path.split('.')[1]}_exporter"
    if otp.whereis(name) is None:
        raise web.HTTPNotFound(text=f"no exporter reads {path}")
    before = await otp.safe_call(name, ("get_config",))
    await gen_server.cast(name, ("config_changed", path, None, value))
    after = await otp.safe_call(name, ("get_config",))
    problems = [problem for problem in after["problems"] if problem not in before["problems"]]
    answer = {"generation": after["generation"], "value": after["config"].get(path.rpartition(".")[2])}
    return web.json_response({**answer, "problems": problems}, status=422 if problems else 200, dumps=_dumps)


def _dumps(value: Any) -> str:
    return json.dumps(value, default=str)


async def main() -> None:
    """Serve the two, and use them."""
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    await start_otel_exporter(
        {"exporter": "console", "service_name": "shop", "metrics": False, "logs": False}
    )

    app = web.Application()
    app.router.add_get("/telemetry/status", get_telemetry_status)
    app.router.add_put("/telemetry/config", update_telemetry_config)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    url = f"http://{host}:{port}/telemetry"

    async with ClientSession() as session:
        for value in (0.5, "half"):
            body = {"path": "telemetry.otel.sampling_rate", "value": value}
            async with session.put(f"{url}/config", json=body) as answer:
                print(answer.status, (await answer.json())["value"])
        async with session.get(f"{url}/status") as answer:
            status = await answer.json()
    print(status["otel_exporter"]["config"]["config"]["sampling_rate"])

    await runner.cleanup()
    await backend.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
