"""What a Pushgateway gets, which refuses a page as a whole for one series that it cannot take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from otpylib_telemetry import emit_counter
from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry_prometheus import merge_registry
from otpylib_telemetry_prometheus.exposition.families import Family, Sample, undated
from otpylib_telemetry_prometheus.exposition.negotiation import CLASSIC
from otpylib_telemetry_prometheus.exposition.writer import Exposition
from otpylib_telemetry_prometheus.push import Pusher, PushPlan
from otpylib_telemetry_prometheus.settings import PrometheusSettings
from tests.prometheus.test_joined_page import NAME, fetch, samples, start
from tests.support import declare
from tests.support.chassis import runner

TAKEN = {"job", "instance", "region"}


class Stamped:
    """A registry's collector whose samples have times."""

    def collect(self):
        age = GaugeMetricFamily("backup_age", "A.", labels=["job"])
        age.add_metric(["old"], 5, timestamp=1_700_000_000)
        age.add_metric(["new"], 6, timestamp=1_700_000_001)
        age.add_metric(["new"], 7, timestamp=1_700_000_002)
        age.add_metric(["now"], 8)
        yield age
        done = CounterMetricFamily("backups", "B.")
        done.add_metric([], 3, timestamp=1_700_000_000)
        yield done
        took = HistogramMetricFamily("backup_seconds", "T.")
        took.add_metric([], [("1", 1), ("+Inf", 2)], 4, timestamp=1_700_000_000)
        yield took


async def pushed():
    return (await runner(NAME).exporter._pages.text()).decode()


async def measure():
    registry = CollectorRegistry()
    registry.register(Stamped())
    merge_registry(registry)
    for name in ("customers", "orders"):
        for label in ("job", "instance", "region", "shop"):
            await emit_counter(f"import.{label}", **{label: name})
    await emit_counter("import.both", job="a", exported_job="b")
    await emit_counter("import.both", job="b", exported_job="a")


@pytest.mark.parametrize("workers", [False, True], ids=["one process", "workers"])
async def test_a_label_of_the_gateway_s_name_is_exported_and_times_stay_behind(runtime, tmp_path, workers):
    more = {"multiprocess_dir": str(tmp_path)} if workers else {}
    port = await start(
        push_url="http://127.0.0.1:1", push_grouping={"region": "eu"}, self_metrics=False, **more
    )
    await measure()
    found = samples(await pushed())
    plain = samples(await fetch(port))
    assert not any({name for name, _ in labels} & TAKEN for _, labels in found)
    assert len(found) == len(plain)
    for label in ("job", "instance", "region"):
        for name in ("customers", "orders"):
            assert any(key == f"import_{label}_total" and (label, name) in labels for key, labels in plain)
            exported = (f"exported_{label}", name)
            assert any(key == f"import_{label}_total" and exported in labels for key, labels in found)
    both = [dict(labels) for key, labels in found if key == "import_both_total"]
    assert {(one["exported_job"], one["exported_exported_job"]) for one in both} == {("b", "a"), ("a", "b")}
    ages = {dict(labels)["exported_job"]: value for (key, labels), value in found.items() if "age" in key}
    assert ages == {"old": 5, "new": 7, "now": 8}
    assert " 1700000000" not in await pushed()
    assert "backup_age" in await fetch(port)
    assert " 17000000" in await fetch(port)


async def test_a_real_gateway_takes_all_of_it(runtime, pushgateway):
    gateway = pushgateway()
    settings = {"push_url": gateway.url, "push_job": "night", "push_grouping": {"region": "eu"}}
    await start(**settings)
    await measure()
    pushing = Pusher(runner(NAME).exporter._pages.text, NAME)
    pushing.configure(PushPlan.of(PrometheusSettings(**settings)))
    assert await pushing.push_now(), pushing.trouble
    for label in ("job", "instance", "region"):
        for name in ("customers", "orders"):
            labels = {"job": "night", "region": "eu", f"exported_{label}": name}
            assert gateway.value(f"import_{label}_total", **labels) == 1
    assert gateway.value("backup_age", exported_job="new") == 7
    assert gateway.value("backups_total") == 3


NAMES = st.sampled_from(
    ["job", "instance", "exported_job", "exported_exported_job", "region", "x", "http.job"]
)


@given(
    series=st.lists(
        st.dictionaries(NAMES, st.sampled_from(["a", "b", ""]), max_size=4), min_size=1, max_size=8
    )
)
def test_series_that_differ_still_do_whatever_the_gateway_sets(series):
    store, told = SeriesStore(20), []
    metric = declare.gauge(store, "level", "L.")
    different = {tuple(sorted((name, text) for name, text in labels.items() if text)) for labels in series}
    for labels in different:
        metric.at(labels).set(1)
    text = b"".join(Exposition(report=told.append, taken=TAKEN).render(CLASSIC, [store])).decode()
    written = [labels for _, labels in samples(text)]
    assert not any({name for name, _ in labels} & TAKEN for labels in written)
    assert not told
    assert len(set(written)) == len(different)


def test_of_a_series_with_several_times_the_latest_is_kept():
    times = [(1.0, 1), (3.0, 3), (2.0, 2)]
    family = Family("x", "", "gauge", "", tuple(Sample("x", {}, value, at) for at, value in times))
    assert undated(family).samples == (Sample("x", {}, 3),)
    untimed = Family("x", "", "gauge", "", (Sample("x", {}, 9), *family.samples))
    assert undated(untimed).samples == (Sample("x", {}, 9),)
    plain = Family("x", "", "gauge", "", (Sample("x", {}, 9),))
    assert undated(plain) is plain
