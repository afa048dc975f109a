"""A system in which everything that happens is known: every number on a real page is what was put in."""

import asyncio
import contextlib
import urllib.request

from otpylib import gen_server, process, supervisor
from otpylib.module import SUPERVISOR
from otpylib.runtime.atoms import KILLED
from prometheus_client.parser import text_string_to_metric_families

from otpylib_telemetry import otp
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor
from otpylib_telemetry.instrument.otpylib.rules import Rules, put_in_force
from otpylib_telemetry.meters.actors import MAX_SERIES
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_prometheus import start_prometheus_exporter
from tests.support.actors import Heard, call, server, supervising
from tests.support.ledger import stats_of
from tests.support.runtime import in_process
from tests.support.waiting import eventually

PROM, OTEL = "prometheus_exporter", "otel_exporter"


async def start_page():
    await start_prometheus_exporter({"port": 0, "self_metrics": False})
    await eventually(lambda: registry.status_of(PROM)[0] == "running")


async def page(name=PROM):
    """Every sample of the actors: name, and labels sorted, to value."""
    stats = await stats_of(name)
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(stats["url"]).read().decode())
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("otpylib_")
    }


def of(samples, name, *labels, **wanted):
    """The samples of a name: their values by these labels, added up over all others."""
    found = {}
    for (sample, *pairs), value in samples.items():
        given = dict(pairs)
        if sample == name and all(given.get(key) == each for key, each in wanted.items()):
            key = tuple(given.get(label) for label in labels)
            found[key if len(key) != 1 else key[0]] = found.get(key if len(key) != 1 else key[0], 0) + value
    return found


class Shop:
    """A till that is supervised, a stock with a gate, and a pile of messages behind it."""

    def __init__(self):
        self.gate = asyncio.Event()
        self.held = asyncio.Event()

    async def work(self, message, _state):
        if message == "hold":
            self.held.set()
            await self.gate.wait()
        if message == "boom":
            raise ValueError("boom")

    async def start(self):
        till = server("Till", on_call=self.work, on_cast=self.work)

        children = [{"id": "till", "module": till, "name": "till"}]
        shop = supervising(SUPERVISOR, children, max_restarts=9, max_seconds=600)
        await supervisor.start_link(shop, None, "shop")
        await gen_server.start(server("Stock", on_info=self.work, on_call=self.work), None, "stock")
        for _ in range(3):
            await gen_server.start(server("Clerk", on_cast=self.work), None)
        await gen_server.start(server("Clerk", on_cast=self.work), None, "doomed")

    async def serve(self):
        for _ in range(7):
            await call("till", "pay")
        for _ in range(5):
            await gen_server.cast("till", "note")
        heard = Heard("otpylib.supervisor.restarted")
        for number in range(2):
            await gen_server.cast("till", "boom")
            await heard.wait_for("otpylib.supervisor.restarted", number + 1)
        for _ in range(3):
            await process.send("nobody", "lost")
        await process.exit("doomed", KILLED)
        await process.send("stock", "hold")
        await self.held.wait()
        with contextlib.suppress(TimeoutError):
            await call("stock", "late", timeout=0.05)
        for _ in range(11):
            await process.send("stock", "pile")


async def test_every_number_on_the_page_is_what_was_put_in(instrumented):
    await start_page()
    shop = Shop()
    await in_process(shop.start)
    assert of(await page(), "otpylib_mailbox_size_max", "server", server="stock") == {"stock": 0}
    await in_process(shop.serve)

    await eventually(lambda: process.whereis("doomed") is None)
    found = await page()
    # One call and eleven messages wait behind the one that is held.
    assert of(found, "otpylib_mailbox_size", "server") == {"till": 0, "shop": 0, "stock": 12, "Clerk": 0}
    assert of(found, "otpylib_mailbox_size_max", "server", server="stock") == {"stock": 12}
    assert of(found, "otpylib_processes", "module") == {"Till": 1, "Shop": 1, "Stock": 1, "Clerk": 3}

    shop.gate.set()
    await in_process(lambda: call("stock", "end"))

    async def settled():
        found = await page()
        return of(found, "otpylib_handle_duration_seconds_count", "message", server="stock").get("end") == 1

    async with asyncio.timeout(20):
        while not await settled():
            await asyncio.sleep(0.02)
    found = await page()
    handled = of(found, "otpylib_handle_duration_seconds_count", "server", "kind", "message", "outcome")
    assert handled == {
        ("till", "call", "pay", "success"): 7,
        ("till", "cast", "note", "success"): 5,
        ("till", "cast", "boom", "error"): 2,
        ("stock", "info", "hold", "success"): 1,
        ("stock", "call", "late", "success"): 1,
        ("stock", "info", "pile", "success"): 11,
        ("stock", "call", "end", "success"): 1,
    }
    waited = of(found, "otpylib_handle_wait_seconds_count", "server", "kind", "message", "outcome")
    assert waited == handled
    # All that waited behind the one that was held waited together.
    assert of(found, "otpylib_handle_wait_seconds_sum", "message", message="late")["late"] >= 0.04
    assert of(found, "otpylib_call_duration_seconds_count", "server", "outcome", "error_type") == {
        ("till", "success", None): 7,
        ("stock", "error", "TimeoutError"): 1,
        ("stock", "success", None): 1,
    }
    assert of(found, "otpylib_process_crashes_total", "server", "module", "reason") == {
        ("till", "Till", "ValueError"): 2,
        ("doomed", "Clerk", "killed"): 1,
    }
    assert of(found, "otpylib_process_spawned_total", "module")["Till"] == 3
    assert of(found, "otpylib_process_exited_total", "server", "reason", server="till") == {
        ("till", "ValueError"): 2
    }
    assert of(found, "otpylib_supervisor_restarts_total", "child", "supervisor", "reason") == {
        ("till", "shop", "ValueError"): 2
    }
    # The answer that came too late was for one that had ended by then.
    assert of(found, "otpylib_undelivered_total", "target")["nobody"] == 3
    assert of(found, "otpylib_mailbox_size", "server", server="stock") == {"stock": 0}
    assert of(await page(), "otpylib_mailbox_size_max", "server", server="stock") == {"stock": 0}
    pids = [pair for sample in found for pair in sample[1:] if "Pid<" in pair[1]]
    assert pids == []


async def test_each_exporter_has_a_maximum_of_its_own_and_they_go_with_their_servers(
    instrumented, http_receiver
):
    await start_page()
    await start_otel_exporter(
        {"endpoint": http_receiver.endpoint, "protocol": "http/protobuf", "metrics_interval": 3600}
    )
    await eventually(lambda: registry.status_of(OTEL)[0] == "running")

    async def sent():
        before = len(http_receiver.metrics)
        await otp.safe_call(OTEL, ("flush", 20), timeout=30)
        return {
            (point.name, point.attributes.get("server") or point.attributes.get("module")): point.value
            for point in http_receiver.metrics[before:]
            if point.name.startswith(("otpylib.mailbox", "otpylib.processes"))
        }

    shop = Shop()
    await in_process(shop.start)
    await page()
    await sent()

    async def pile_up():
        await process.send("stock", "hold")
        await shop.held.wait()
        for _ in range(5):
            await process.send("stock", "pile")

    await in_process(pile_up)
    shop.gate.set()
    await in_process(lambda: call("stock", "end"))
    over_otlp = await sent()
    assert over_otlp["otpylib.mailbox.size_max", "stock"] == 5
    assert over_otlp["otpylib.mailbox.size", "stock"] == 0
    assert over_otlp["otpylib.processes", "Stock"] == 1
    assert of(await page(), "otpylib_mailbox_size_max", "server", server="stock") == {"stock": 5}
    assert of(await page(), "otpylib_mailbox_size_max", "server", server="stock") == {"stock": 0}
    assert (await sent())["otpylib.mailbox.size_max", "stock"] <= 1

    await process.exit("stock", KILLED)
    await eventually(lambda: process.whereis("stock") is None)
    found = await page()
    assert not of(found, "otpylib_mailbox_size", "server", server="stock")
    assert not of(found, "otpylib_mailbox_size_max", "server", server="stock")
    assert "Stock" not in of(found, "otpylib_processes", "module")
    assert "shop" in of(found, "otpylib_mailbox_size", "server")

    OtpylibInstrumentor().uninstrument()
    assert not of(await page(), "otpylib_mailbox_size", "server")
    OtpylibInstrumentor().instrument()
    assert "shop" in of(await page(), "otpylib_mailbox_size", "server")


async def test_the_gauges_of_too_many_servers_are_one_and_the_sum_is_right(instrumented):
    async def wait():
        await asyncio.Event().wait()

    async def session():
        for number in range(MAX_SERIES + 20):
            await process.spawn(wait, name=f"server_{number}")
        for number in (3, 103):
            for _ in range(number):
                await process.send(f"server_{number}", "pile")

    await start_page()
    await in_process(session)
    found = of(await page(), "otpylib_mailbox_size", "server")
    assert len(found) == MAX_SERIES + 1
    assert (found["server_3"], found["server_103"], found["(folded)"]) == (3, 103, 0)
    put_in_force(Rules(exclude=("*",)))
    assert of(await page(), "otpylib_mailbox_size", "server") == found
