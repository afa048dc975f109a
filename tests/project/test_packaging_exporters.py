"""Each exporter in an environment that has its extra alone, or none."""

import pytest

from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver, HttpReceiver
from tests.support.distributions import VERSIONS
from tests.support.otlp_metrics import points_at

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


STARTS_AN_EXPORTER = """
import asyncio, logging, sys, urllib.request
from otpylib import gen_server, process
from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend
from otpylib_telemetry import execute, span
from {package} import start_{kind}_exporter

logging.basicConfig(stream=sys.stdout)

async def application(done):
    try:
        await start_{kind}_exporter({config!r})
        for _ in range(600):
            stats = await gen_server.call("{kind}_exporter", ("get_stats",), timeout=60)
            if {wanted!r} in repr(stats):
                break
            await asyncio.sleep(0.1)
        print("STATS", stats)
        {then}
    except Exception as error:
        print("ERROR", error)
    done.set()

async def main():
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    done = asyncio.Event()
    await process.spawn(application, args=[done], mailbox=True)
    await asyncio.wait_for(done.wait(), 200)
    tasks = asyncio.all_tasks() - {{asyncio.current_task()}}
    await backend.shutdown()
    if tasks:
        await asyncio.wait(tasks, timeout=60)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("kind", "config"),
    [("otel", {"endpoint": "http://127.0.0.1:1"}), ("prometheus", {"port": 0})],
)
def test_an_exporter_without_its_extra_says_which_to_install(execute_in, kind, config):
    wanted = f"otpylib-telemetry[{kind}]"
    package = f"otpylib_telemetry_{kind}"
    said = execute_in(
        None, STARTS_AN_EXPORTER.format(package=package, kind=kind, config=config, wanted=wanted, then="")
    )
    assert wanted in said


SERVES_A_PAGE = """execute("shop.sold", {"count": 3}, {"item": "tea"})
        await gen_server.call("prometheus_exporter", ("flush", 60.0), timeout=6)
        page = await asyncio.to_thread(lambda: urllib.request.urlopen(stats["url"], timeout=60).read())
        print(page.decode())"""


@pytest.mark.parametrize("versions", VERSIONS)
def test_a_page_is_served_with_the_prometheus_extra_alone(execute_in, versions):
    program = STARTS_AN_EXPORTER.format(
        package="otpylib_telemetry_prometheus",
        kind="prometheus",
        config={"port": 0},
        wanted="'state': 'running'",
        then=SERVES_A_PAGE,
    )
    said = execute_in("prometheus", program, versions=versions)
    assert 'shop_sold_total{item="tea"} 3' in said
    assert "otpylib_telemetry_exporter_events_accepted_total" in said
    assert "ERROR" not in said


SENDS_EVERY_SIGNAL = """with span("shop.order"):
            execute("shop.sold", {"count": 3}, {})
        execute("shop.opened", {}, {})
        print(await gen_server.call("otel_exporter", ("flush", 60.0), timeout=15))"""


@pytest.mark.parametrize("versions", VERSIONS)
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_every_signal_is_sent_with_the_otel_extra_alone(execute_in, protocol, versions):
    with (GrpcReceiver if protocol == "grpc" else HttpReceiver)() as receiver:
        program = STARTS_AN_EXPORTER.format(
            package="otpylib_telemetry_otel",
            kind="otel",
            config={"endpoint": receiver.endpoint, "protocol": protocol},
            wanted="'state': 'running'",
            then=SENDS_EVERY_SIGNAL,
        )
        said = execute_in("otel", program, versions=versions)
        assert {request.signal for request in receiver.taken} == {"traces", "logs", "metrics"}, said
        assert {point.name for point in points_at(receiver)} >= {"shop.sold.total", "shop.order.duration"}
        assert [each.name for each in receiver.spans] == ["shop.order"]
    assert "ERROR" not in said


MEASURES = """
try:
    from otpylib_telemetry_prometheus.meter_provider import PrometheusMeterProvider
except ModuleNotFoundError as error:
    print(error)
else:
    from otpylib_telemetry.aggregation.exporter_stores import store_of
    PrometheusMeterProvider().get_meter("shop").create_counter("sales").add(1)
    print(store_of("prometheus_exporter").series_count())
"""


def test_the_meter_provider_needs_its_extra_alone_and_says_so(execute_in):
    assert execute_in("meters", MEASURES).strip() == "1"
    assert "pip install 'otpylib-telemetry[meters,prometheus]'" in execute_in(None, MEASURES)
