"""The shop of the examples under a small load, with the admin API on a port; says where that is.

SIGUSR1 ends the catalogue as a crash does: its supervisor starts it again.
"""

import asyncio
import contextlib
import importlib
import random
import signal
import sys
from pathlib import Path

from otpylib import gen_server

from examples.shop.application import PRICES, Application, PaymentError, ask, checkout
from examples.shop.configuration import copy_to
from examples.shop.receiver import Receiver
from otpylib_telemetry import execute
from tests.support.waiting import eventually

#: Imported by what the tree starts. A supervisor of otpylib's waits five seconds for its tree, and on a busy
#: machine these take as long by themselves.
BEFORE = (
    *("otpylib_telemetry.admin.server", "otpylib_telemetry.instrument.otpylib"),
    *("otpylib_telemetry_otel.exporter", "otpylib_telemetry_prometheus.exporter"),
)

#: What must stay a text wherever it is shown.
EVIL = "shop.<script>console.error('x')</script><img src=x onerror=console.error('y')>"


async def main(directory):
    receiver = Receiver()
    receiver.start()
    values = {
        ("telemetry.otel", "endpoint"): receiver.url,
        ("telemetry.prometheus", "port"): 0,
        ("telemetry.admin", "enabled"): True,
    }
    config = copy_to(directory, values)
    shop = Application(config)
    await shop.start()
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ending.set)
    loop.add_signal_handler(signal.SIGUSR1, lambda: loop.create_task(crash()))
    print(await eventually(address), flush=True)  # noqa: T201  # whoever started this reads it
    while not ending.is_set():
        with contextlib.suppress(PaymentError, ValueError, TimeoutError):
            await checkout({random.choice(list(PRICES)): 1})
            await ask("stock", "level", "cup")
        execute(EVIL, {"count": 1}, {"<b>label</b>": "<script>"})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ending.wait(), 0.25)
    await shop.stop()
    receiver.stop()


async def address():
    return (await gen_server.call("telemetry_admin", ("get_stats",), timeout=60))["url"]


async def crash():
    # It counts what is in the basket, and there is none.
    with contextlib.suppress(TimeoutError):
        await gen_server.call("catalogue", ("price", None), timeout=1)


if __name__ == "__main__":
    for name in BEFORE:
        importlib.import_module(name)
    asyncio.run(main(Path(sys.argv[1])))
