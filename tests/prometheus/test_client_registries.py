"""prometheus_client's registries on our page, and our metrics in them."""

import asyncio
import subprocess
import sys
import threading
import time
import types

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from otpylib_telemetry import emit_counter, emit_timer, execute, span
from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.aggregation.metric_spec import Kind, SummaryShape
from otpylib_telemetry_prometheus import start_prometheus_exporter
from otpylib_telemetry_prometheus.client.collector import RegistryCollector, private_registry
from otpylib_telemetry_prometheus.client.merged import (
    MergedRegistries,
    merge_registry,
    merged_in,
    unmerge_registry,
)
from otpylib_telemetry_prometheus.exposition.negotiation import OPENMETRICS
from otpylib_telemetry_prometheus.exposition.store_families import names_in
from otpylib_telemetry_prometheus.exposition.writer import Exposition
from tests.support import declare
from tests.support.ledger import stats_of
from tests.support.versions import needs_new_client
from tests.support.waiting import eventually


def merged(*registries, **limits):
    found = MergedRegistries("prometheus_exporter", **limits)
    for registry in registries:
        found.add(registry)
    return found


def rows(families):
    """``{(sample name, labels as a sorted tuple): value}``, of theirs and ours alike."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


class Giving:
    """A collector that gives what it is told, or does what it is told."""

    def __init__(self, *metrics, act=None):
        self.metrics = metrics
        self.act = act
        self.asked = 0

    def collect(self):
        self.asked += 1
        if self.act is not None:
            self.act()
        return self.metrics


def registry_of(*collectors):
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return registry


# --- theirs on our page


async def test_every_metric_of_a_registry_is_taken_over_as_it_is():
    registry = CollectorRegistry(target_info={"service": "shop"})
    prometheus_client.Counter("c", "C.", ["a"], registry=registry).labels('x"\n').inc(2.5, {"trace_id": "t"})
    prometheus_client.Gauge("g", "G.", registry=registry).set(-3)
    prometheus_client.Histogram("h", "H.", registry=registry).observe(0.3)
    prometheus_client.Summary("s", "S.", registry=registry).observe(4)
    prometheus_client.Info("i", "I.", registry=registry).info({"version": "1"})
    prometheus_client.Enum("e", "E.", states=["up", "down"], registry=registry).state("down")
    families = await merged(registry).families(())
    theirs = {metric.name: metric for metric in registry.collect()}
    assert {family.name for family in families} == theirs.keys()
    for family in families:
        metric = theirs[family.name]
        assert (family.documentation, family.type) == (metric.documentation, metric.type)
    assert rows(families) == rows(theirs.values())
    (counter,) = [family for family in families if family.name == "c"]
    assert counter.samples[0].exemplar.labels == {"trace_id": "t"}


async def test_a_name_that_is_taken_is_left_out_counted_and_said_once(caplog):
    registry = CollectorRegistry()
    prometheus_client.Counter("shop_orders", "Theirs.", registry=registry)
    prometheus_client.Gauge("shop_page_bucket", "Theirs.", registry=registry)
    prometheus_client.Gauge("other", "Theirs.", registry=registry)
    found = merged(registry)
    for _ in range(3):
        families = await found.families({"shop_orders_total", "shop_page_bucket"})
        assert [family.name for family in families] == ["other"]
    assert found.stats()["duplicates"] == 6
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "leaves out the metric shop_orders of Counter (shop_orders) of a merged registry" in said[0]
    assert "leaves out the metric shop_page_bucket of Gauge" in said[1]
    assert all("the page has that name already" in one for one in said)


async def test_of_two_registries_with_the_same_name_the_first_has_it():
    first, second = CollectorRegistry(), CollectorRegistry()
    prometheus_client.Gauge("g", "First.", registry=first).set(1)
    prometheus_client.Gauge("g", "Second.", registry=second).set(2)
    found = merged(first, second, first)
    assert rows(await found.families(())) == {("g", ()): 1}
    assert found.stats() == {"registries": 2, "missing": [], "failures": {}, "duplicates": 1}


async def test_a_metric_that_a_collector_gives_in_parts_is_one():
    parts = [GaugeMetricFamily("g", "G.", labels=["a"]) for _ in range(2)]
    for number, part in enumerate(parts):
        part.add_metric([str(number)], number)
    (family,) = await merged(registry_of(Giving(*parts))).families(())
    assert rows([family]) == {("g", (("a", "0"),)): 0, ("g", (("a", "1"),)): 1}


def raising(error):
    def act():
        raise error

    return act


BROKEN = {
    "raises": Giving(act=raising(RuntimeError("no database"))),
    "exits": Giving(act=raising(SystemExit(1))),
    "no metric": Giving("not a metric"),
    "text for a value": Giving(GaugeMetricFamily("bad", "Bad.", value="many")),
    "number for a label": Giving(GaugeMetricFamily("bad", "Bad.")),
    "surrogate": Giving(GaugeMetricFamily("bad", "Bad \ud800.", value=1)),
    "unknown type": Giving(types.SimpleNamespace(name="n", documentation="", type="odd", samples=[])),
    "nothing": Giving(),
}
BROKEN["number for a label"].metrics[0].add_sample("bad", {"a": 5}, 1)
BROKEN["nothing"].collect = lambda: None


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_collector_costs_itself_alone_and_is_said_once(name, caplog):
    before, after = (Giving(CounterMetricFamily(word, "Good.", value=1)) for word in ("before", "after"))
    found = merged(registry_of(before, BROKEN[name], after))
    for _ in range(3):
        assert [family.name for family in await found.families(())] == ["before", "after"]
    assert found.failures == {"failed": 3}
    (record,) = caplog.records
    assert "Giving of a merged registry cannot be collected (" in record.getMessage()
    assert "its metrics are not on the page" in record.getMessage()


async def test_a_collector_that_works_again_is_back_and_its_next_failure_is_news(caplog):
    collector = Giving(GaugeMetricFamily("g", "G.", value=1), act=raising(OSError("down")))
    found = merged(registry_of(collector))
    assert await found.families(()) == []
    collector.act = None
    assert len(await found.families(())) == 1
    collector.act = raising(OSError("down"))
    assert await found.families(()) == []
    assert len(caplog.records) == 2


async def test_a_slow_collector_holds_up_neither_the_others_nor_the_loop(caplog):
    going_on = threading.Event()
    slow = Giving(GaugeMetricFamily("slow", "S.", value=1), act=lambda: going_on.wait(20))
    others = [Giving(GaugeMetricFamily(f"g{number}", "G.", value=1)) for number in range(3)]
    found = merged(registry_of(others[0], slow, *others[1:]), collector_limit=0.05)
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    for _ in range(3):
        assert [family.name for family in await found.families(())] == ["g0", "g1", "g2"]
    counting.cancel()
    assert turns > 100
    assert slow.asked == 1  # nobody piles up threads behind one that does not come back
    assert found.failures == {"slow": 3}
    (record,) = caplog.records
    assert "Giving of a merged registry takes too long" in record.getMessage()
    going_on.set()

    async def back():
        return len(await found.families(())) == 4

    await eventually(back)


async def test_all_collectors_together_have_a_limit():
    before = set(threading.enumerate())
    slow = [Giving(act=lambda: time.sleep(0.2)) for _ in range(20)]
    found = merged(registry_of(*slow), collector_limit=0.05, scrape_limit=0.2)
    await found.families(())
    assert found.failures["slow"] == 20
    assert sum(one.asked for one in slow) < 20
    await eventually(lambda: not set(threading.enumerate()) - before)


async def test_whatever_collects_can_be_merged():
    assert rows(await merged(Giving(GaugeMetricFamily("g", "G.", value=4))).families(())) == {("g", ()): 4}
    with pytest.raises(TypeError, match=r"expected a registry of prometheus_client.* not str"):
        merged("prometheus_client:REGISTRY")


async def test_ours_in_a_merged_registry_is_not_on_the_page_twice():
    registry = registry_of(RegistryCollector(), Giving(GaugeMetricFamily("g", "G.", value=1)))
    declare.counter(store_of("prometheus_exporter"), "shop_orders_total", "O.").at(()).add(1)
    found = merged(registry)
    assert [family.name for family in await found.families(())] == ["g"]
    assert found.duplicates == 0


async def test_a_registry_can_be_merged_before_its_exporter_starts_and_be_taken_off_again():
    registry = CollectorRegistry()
    merge_registry(registry)
    merge_registry(registry)
    merge_registry(registry, exporter="inner_exporter")
    from otpylib_telemetry.exporter.registry import find  # noqa: PLC0415

    assert merged_in(find("prometheus_exporter").memory, "").stats()["registries"] == 1
    assert unmerge_registry(registry)
    assert not unmerge_registry(registry)
    assert not unmerge_registry(registry, exporter="nobody")
    assert merged_in(find("inner_exporter").memory, "").stats()["registries"] == 1


async def test_registries_are_found_by_their_import_paths(caplog):
    found = merged()
    await found.configure(["prometheus_client:REGISTRY"])
    assert "python_info" in {family.name for family in await found.families(())}
    await found.configure([])
    assert await found.families(()) == []
    assert caplog.records == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no_such_module:REGISTRY", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("prometheus_client:REGISTER", "has no attribute 'REGISTER'"),
        ("prometheus_client:Counter", None),
        ("sys:path", "it is no registry but an object of type list"),
    ],
)
async def test_a_path_that_leads_nowhere_is_said_once_and_shows_as_missing(path, reason, caplog):
    found = merged(registry_of(Giving(GaugeMetricFamily("g", "G.", value=1))))
    await found.configure([path])
    await found.configure([path])
    assert [family.name for family in await found.families(())] == ["g"]
    if reason is None:  # a class has the method, too; asking it is what fails
        assert found.failures == {"failed": 1}
        return
    (record,) = caplog.records
    assert f"cannot merge {path}, which merge_registries names: " in record.getMessage()
    assert reason in record.getMessage()
    assert found.stats()["missing"] == [path]
    assert found.failures == {"missing": 1}


# --- ours in theirs


def every_kind(store):
    declare.counter(store, "shop_orders_total", "Orders.").at((("country", "de"),)).add(2)
    declare.gauge(store, "shop_basket", "Basket.").at(()).set(-1.5)
    declare.up_down(store, "shop_open", "Open.").at(()).add(-2)
    declare.histogram(store, "shop_page_seconds", "Page.", (0.1, 1)).at((("page", "a"),)).observe(0.1)
    exponential = declare.exponential(store, "shop_size_bytes", "Size.", scale=20, max_size=160).at(())
    shape = SummaryShape(quantiles=(0.5, 1), scale=5, max_size=160, slice_ns=10**12, slices=2)
    summary = declare.summary(store, "shop_wait_seconds", "Wait.", shape).at(())
    for value in (-3, 0, 0.5, 5, 5):
        exponential.observe(value)
        summary.observe(value)


async def test_every_kind_of_ours_reads_back_from_theirs():
    store = store_of("prometheus_exporter")
    every_kind(store)
    assert {metric.kind for metric in store.metrics} == set(Kind)
    registry = registry_of(RegistryCollector())
    for generate in (generate_latest, generate_openmetrics):
        assert b"shop_page_seconds_bucket" in generate(registry)
    value = registry.get_sample_value
    assert value("shop_orders_total", {"country": "de"}) == 2
    assert value("shop_basket") == -1.5
    assert value("shop_open") == -2
    assert value("shop_page_seconds_bucket", {"page": "a", "le": "0.1"}) == 1
    assert value("shop_page_seconds_bucket", {"page": "a", "le": "+Inf"}) == 1
    assert value("shop_page_seconds_sum", {"page": "a"}) == 0.1
    assert value("shop_size_bytes_bucket", {"le": "+Inf"}) == value("shop_size_bytes_count") == 5
    assert value("shop_size_bytes_bucket", {"le": "0.0"}) == 2
    assert value("shop_size_bytes_sum") == value("shop_wait_seconds_sum") == 7.5
    assert value("shop_wait_seconds", {"quantile": "0.5"}) == pytest.approx(0.5, rel=0.02)
    assert value("shop_wait_seconds", {"quantile": "1.0"}) == 5
    assert value("shop_wait_seconds_count") == 5
    assert names_in(store) >= {sample.name for metric in registry.collect() for sample in metric.samples}


async def test_theirs_has_exactly_what_our_own_page_has():
    store = store_of("prometheus_exporter")
    every_kind(store)
    page = Exposition().text([store])
    theirs = generate_latest(private_registry()).decode()
    assert rows(text_string_to_metric_families(theirs)) == rows(text_string_to_metric_families(page))


def told(text):
    """What a page in OpenMetrics says of families: name, type, description and unit."""
    return sorted((one.name, one.type, one.documentation, one.unit) for one in openmetrics_families(text))


async def test_both_tell_the_same_of_every_kind_units_included():
    store = store_of("prometheus_exporter")
    shape = SummaryShape(quantiles=(0.5,), scale=5, max_size=160, slice_ns=10**12, slices=2)
    declare.counter(store, "sent_bytes_total", "Sent.", "bytes").at(()).add(2)
    declare.gauge(store, "level_ratio", "Level.", "ratio").at(()).set(1)
    declare.gauge(store, "odd", "A unit its name does not end in.", "ratio").at(()).set(1)
    declare.up_down(store, "open_requests", "Open.", "requests").at(()).add(2)
    declare.histogram(store, "page_seconds", "Page.", (0.1, 1), "seconds").at(()).observe(0.1)
    declare.exponential(store, "size_bytes", "Size.", scale=20, max_size=160, unit="bytes").at(()).observe(1)
    declare.summary(store, "wait_seconds", "Wait.", shape, "seconds").at(()).observe(1)
    assert {metric.kind for metric in store.metrics} == set(Kind)
    page = told(Exposition().text([store], form=OPENMETRICS))
    assert told(generate_openmetrics(private_registry()).decode()) == page
    assert [unit for *_, unit in page] == ["ratio", "", "requests", "seconds", "bytes", "bytes", "seconds"]


@given(st.lists(st.floats(-1000, 1000), max_size=30))
def test_the_buckets_of_an_exponential_histogram_hold_what_they_say(values):
    store = store_of("hypothetical_exporter")
    store.remove("size")
    series = declare.exponential(store, "size", "S.", scale=20, max_size=160).at(())
    for value in values:
        series.observe(value)
    registry = registry_of(RegistryCollector("hypothetical_exporter"))
    for metric in registry.collect():
        for sample in metric.samples:
            if sample.name == "size_bucket":
                limit = float(sample.labels["le"])
                assert sample.value == sum(value <= limit for value in values)


async def test_ours_is_collected_from_any_thread_with_what_was_emitted_just_before(runtime):
    await start_prometheus_exporter({"port": 0, "namespace": "eu", "global_labels": {"country": "all"}})
    await eventually(_running)
    registry = private_registry()
    await emit_counter("shop.orders", 2, country="de")
    labels = {"country": "all", "exported_country": "de"}
    assert registry.get_sample_value("eu_shop_orders_total", labels) == 2  # on the loop's own thread
    await emit_counter("shop.orders", 3, country="de")
    read = await asyncio.to_thread(registry.get_sample_value, "eu_shop_orders_total", labels)
    assert read == 5


@needs_new_client
async def test_ours_is_there_where_single_metrics_are_asked_for(runtime):
    await start_prometheus_exporter({"port": 0})
    await eventually(_running)
    await emit_counter("shop.orders", 2, country="de")
    restricted = private_registry().restricted_registry(["shop_orders_total"])
    assert b"shop_orders_total{" in generate_latest(restricted)


async def _running():
    return (await stats_of("prometheus_exporter"))["state"] == "running"


async def test_what_others_collect_is_never_torn_while_events_pour_in(runtime):
    await start_prometheus_exporter({"port": 0})
    await eventually(_running)
    registry, torn, reads = private_registry(), [], []

    def read():
        for _ in range(8):
            found = {}
            for metric in registry.collect():
                for sample in metric.samples:
                    found.setdefault(metric.name, {})[sample.name, sample.labels.get("le")] = sample.value
            series = found.get("shop_page_duration_seconds")
            if series:
                reads.append(1)
                count = series["shop_page_duration_seconds_count", None]
                if series["shop_page_duration_seconds_bucket", "+Inf"] != count:
                    torn.append(series)
                if abs(series["shop_page_duration_seconds_sum", None] - count) > 1e-6:
                    torn.append(series)

    reading = asyncio.create_task(asyncio.to_thread(read))
    while not reading.done():
        for _ in range(50):
            await emit_timer("shop.page", 1000)
        await asyncio.sleep(0)
    await reading
    assert reads
    assert torn == []


async def test_an_exemplar_leads_to_the_operation(runtime):
    await start_prometheus_exporter({"port": 0})
    await eventually(_running)
    with span("shop.checkout"):
        execute("shop.sale", {"count": 1})
    registry = private_registry()
    exemplars = [
        sample.exemplar
        for metric in registry.collect()
        for sample in metric.samples
        if sample.exemplar is not None
    ]
    for exemplar in exemplars:
        assert len(exemplar.labels["trace_id"]) == 32
        assert exemplar.timestamp == pytest.approx(time.time(), abs=60)


async def test_an_exporter_that_does_not_run_has_no_metrics():
    assert list(private_registry("nobody").collect()) == []


def test_nothing_of_prometheus_client_is_imported_before_it_is_needed():
    script = (
        "import sys, otpylib_telemetry_prometheus, otpylib_telemetry_prometheus.client.merged as r\n"
        "r.RegistryCollector()\n"
        "assert not {'prometheus_client', 'aiohttp'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
