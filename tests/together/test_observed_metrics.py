"""Numbers that sources return when an exit is about to be read, on real pages and in real requests."""

import asyncio
import threading
import urllib.request

import pytest
from otpylib import gen_server
from prometheus_client.parser import text_string_to_metric_families

from otpylib_telemetry import otp, start_exporter
from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.exporter.server import exporter_module
from otpylib_telemetry.meters import observed
from otpylib_telemetry.meters.observed import Observation, ObservedMetric
from otpylib_telemetry.metrics.exporting import PushedMetricsExporter
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_prometheus import start_prometheus_exporter
from tests.support.crash import crash
from tests.support.ledger import stats_of
from tests.support.waiting import eventually

PROM, OTEL = "prometheus_exporter", "otel_exporter"

DEPTH = ObservedMetric(Kind.GAUGE, "shop.depth", "shop_depth", "{order}", "Orders that wait.")
CPU = ObservedMetric(Kind.COUNTER, "process.cpu.time", "process_cpu_seconds", "s", "Time.")
MEMORY = ObservedMetric(Kind.UP_DOWN, "process.memory.usage", "process_resident_memory_bytes", "By")


@pytest.fixture
def told():
    """What the source returns; a function in its place is called."""
    return {
        "what": [Observation(DEPTH, 3, {"server": "till"}), Observation(CPU, 1.5), Observation(MEMORY, 9)]
    }


@pytest.fixture
def source(told):
    observed.observe("shop", lambda _exporter: told["what"]() if callable(told["what"]) else told["what"])


async def page(name=PROM):
    stats = await stats_of(name)
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(stats["url"]).read().decode())
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if family.name.startswith(("shop", "process", "other"))
    }


async def start_page(**settings):
    await start_prometheus_exporter({"port": 0, "self_metrics": False, **settings})
    await eventually(lambda: registry.status_of(PROM)[0] == "running")


async def start_sending(receiver, **settings):
    wanted = {
        "endpoint": receiver.endpoint,
        "protocol": "http/protobuf",
        "metrics_interval": 3600,
        **settings,
    }
    await start_otel_exporter(wanted)
    await eventually(lambda: registry.status_of(OTEL)[0] == "running")


async def sent(receiver):
    """What the next reading sends."""
    before = len(receiver.metrics)
    await otp.safe_call(OTEL, ("flush", 20), timeout=30)
    return {
        (point.name, point.unit, point.form, *sorted(point.attributes.items())): point.value
        for point in receiver.metrics[before:]
    }


ON_PAGE = {
    ("shop_depth", ("server", "till")): 3,
    ("process_cpu_seconds_total",): 1.5,
    ("process_resident_memory_bytes",): 9,
}


async def test_each_exit_has_them_under_its_own_names_whoever_came_first(
    runtime, http_receiver, told, source
):
    await start_page()
    assert await page() == ON_PAGE
    await start_sending(http_receiver)
    assert await sent(http_receiver) == {
        ("shop.depth", "{order}", "gauge", ("server", "till")): 3,
        ("process.cpu.time", "s", "sum"): 1.5,
        ("process.memory.usage", "By", "sum"): 9,
    }
    told["what"] = told["what"][:1]
    assert await page() == {("shop_depth", ("server", "till")): 3}
    assert {name for name, *_ in await sent(http_receiver)} == {"shop.depth"}
    observed.withdraw("shop")
    assert await page() == {}
    assert await sent(http_receiver) == {}


async def test_namespace_and_global_labels_are_the_exporters_and_change_while_it_runs(runtime, told, source):
    await start_page(namespace="eu", global_labels={"zone": "a"})
    told["what"] = [Observation(DEPTH, 3, {"zone": "mine"}), Observation(CPU, True)]

    async def names():
        stats = await stats_of(PROM)
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(stats["url"]).read().decode())
        return [line for line in text.splitlines() if not line.startswith("#")]

    assert await names() == [
        'eu_process_cpu_seconds_total{zone="a"} 1',
        'eu_shop_depth{exported_zone="mine",zone="a"} 3',
    ]
    await gen_server.cast(PROM, ("config_changed", "telemetry.prometheus.namespace", "eu", "us"))
    await eventually(lambda: registry.settings_of(PROM).namespace == "us")
    await eventually(lambda: registry.status_of(PROM)[0] == "running")
    assert (await names())[0].startswith("us_process")


async def test_it_goes_on_after_a_crash_and_another_start(runtime, told, source):
    await start_page()
    assert await page() == ON_PAGE
    await crash(PROM)
    await eventually(lambda: otp.whereis(PROM) is None)
    await start_page()
    told["what"] = [Observation(CPU, 2.5)]
    assert await page() == {("process_cpu_seconds_total",): 2.5}


async def test_a_source_that_raises_costs_its_own_series_until_it_works_again(runtime, told, source, caplog):
    observed.observe("other", lambda _exporter: [Observation(ObservedMetric(Kind.GAUGE, "o", "other"), 1)])
    await start_page()
    assert len(await page()) == 4
    good = told["what"]

    def raising():
        yield good[0]
        raise KeyError("gone")

    told["what"] = raising
    for _ in range(3):
        assert await page() == {("other",): 1}
    assert caplog.text.count("the source shop of observed metrics cannot be used: KeyError") == 1
    told["what"] = good
    assert len(await page()) == 4
    told["what"] = raising
    assert len(await page()) == 1
    assert caplog.text.count("the source shop") == 2


@pytest.mark.parametrize(
    "wrong", [{"unit": 5}, {"unit": None}, {"name": 5}, {"kind": "gauge"}, {"page_name": 3}]
)
async def test_a_metric_that_is_none_costs_itself_alone(runtime, wrong, told, source, caplog):
    made = {"kind": Kind.GAUGE, "name": "shop.odd", "page_name": "shop_odd", **wrong}
    told["what"] = [Observation(ObservedMetric(**made), 1), *told["what"]]
    observed.observe("other", lambda _exporter: [Observation(ObservedMetric(Kind.GAUGE, "o", "other"), 1)])
    await start_page()
    found = await page()
    assert {key: number for key, number in found.items() if key != ("shop_odd",)} == {
        **ON_PAGE,
        ("other",): 1,
    }
    if ("shop_odd",) not in found:
        assert "shop.odd is no metric" in caplog.text or "of shop_odd () could not be taken" in caplog.text


async def test_a_source_that_hangs_holds_up_nobody_else(runtime, told, source, caplog):
    release = threading.Event()
    told["what"] = lambda: release.wait(60) and ()
    observed.observe("other", lambda _exporter: [Observation(ObservedMetric(Kind.GAUGE, "o", "other"), 1)])
    await start_page()
    try:
        for _ in range(3):
            assert await page() == {("other",): 1}
        assert caplog.text.count("the source shop of observed metrics cannot be used") == 1
    finally:
        release.set()


@pytest.mark.parametrize(
    "wrong", [3, "text", [3], [("a", 1, {})], [Observation(DEPTH, "3")], [(DEPTH, 1)], None]
)
async def test_what_is_no_observation_costs_itself(runtime, wrong, told, source):
    told["what"] = wrong if isinstance(wrong, list) else lambda: wrong
    await start_page()
    assert await page() == {}
    told["what"] = [*(wrong if isinstance(wrong, list) else ()), Observation(CPU, 1)]
    assert await page() == {("process_cpu_seconds_total",): 1}


async def test_a_counter_whose_total_fell_has_begun_anew(runtime, http_receiver, told, source):
    await start_sending(http_receiver, metrics_temporality="delta")
    told["what"] = [Observation(CPU, 5)]
    assert [*(await sent(http_receiver)).values()] == [5]
    told["what"] = [Observation(CPU, 7)]
    assert [*(await sent(http_receiver)).values()] == [2]
    told["what"] = [Observation(CPU, 1)]
    assert [*(await sent(http_receiver)).values()] == [1]


async def test_an_exporter_of_somebody_else_has_them_too(runtime, told, source):
    got = []

    class Plain(PushedMetricsExporter):
        async def export(self, batch):
            got.extend((point.stream.name, point.point.value) for point in batch)

    module = exporter_module(
        "Plain", Plain, name="plain_exporter", section="telemetry.plain", module=__name__
    )
    await start_exporter(module, {"interval": 3600})
    await eventually(lambda: registry.status_of("plain_exporter")[0] == "running")
    await otp.safe_call("plain_exporter", ("flush", 20), timeout=30)
    assert dict(got) == {
        "shop_depth": 3,
        "process_cpu_seconds_total": 1.5,
        "process_resident_memory_bytes": 9,
    }


async def test_the_files_of_several_workers_have_them_and_lose_them(runtime, told, source, tmp_path):
    await start_page(multiprocess_dir=str(tmp_path))
    assert await page() == ON_PAGE
    told["what"] = []
    assert await page() == {}


async def test_a_source_is_told_who_reads_and_one_of_its_name_replaces_it(runtime, http_receiver):
    readers = []
    observed.observe("shop", lambda _exporter: 1 / 0)
    observed.observe("shop", lambda exporter: readers.append(exporter) or ())
    await start_page()
    await start_sending(http_receiver)
    await page()
    await sent(http_receiver)
    assert set(readers) == {PROM, OTEL}
    assert observed.sources() == ["shop"]
