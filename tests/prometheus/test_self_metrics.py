"""What the exporters of a process say about themselves."""

import math
import re

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from otpylib_telemetry import emit_counter, execute
from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.metrics.names import metric_name
from otpylib_telemetry.self_metrics import EXPORTER, PROMETHEUS, SELF_METRICS
from otpylib_telemetry_prometheus import start_prometheus_exporter
from otpylib_telemetry_prometheus.client.merged import MergedRegistries
from otpylib_telemetry_prometheus.exposition.families import names_of
from otpylib_telemetry_prometheus.push import Pusher, PushPlan
from otpylib_telemetry_prometheus.self_metrics import self_families
from otpylib_telemetry_prometheus.settings import PrometheusSettings
from tests.support import chassis
from tests.support.ledger import stats_of
from tests.support.prometheus_server import check_with_promtool
from tests.support.waiting import eventually


class Collecting:
    """Families as a registry, for prometheus_client's own renderer."""

    def __init__(self, families):
        self.families = families

    def collect(self):
        return self.families


def text_of(families):
    return generate_latest(Collecting(families)).decode()


def values(families):
    """``{(sample name, labels but exporter as a tuple): {exporter: value}}``."""
    found = {}
    for family in families:
        for sample in family.samples:
            labels = dict(sample.labels)
            exporter = labels.pop("exporter")
            found.setdefault((sample.name, *labels.values()), {})[exporter] = sample.value
    return found


def complete(answer):
    """An answer of a Prometheus exporter with everything that it may have in it."""
    pushing = Pusher(None, "prometheus_exporter")
    pushing.configure(PushPlan.of(PrometheusSettings(push_url="http://gateway:9091")))
    return {
        **answer,
        "lanes": {"spans": 3},
        "overflowing": ["shop_orders_total"],
        "labels_folded": {"shop_orders_total": {"order": 2001}},
        "samples_refused": {"not a number": 2},
        "operations_given_up": {"expired": 1},
        "pages": 4,
        "scrape_seconds_sum": 0.5,
        "scrape_bytes_sum": 1000,
        "push": pushing.stats(),
        "merged": MergedRegistries("prometheus_exporter").stats(),
        "multiprocess": {"writes": 2, "trouble": None, "files_skipped": 0, "workers_absorbed": 1},
    }


#: An answer of an exporter that sends metrics, as far as it is about these.
SENDING = {
    "name": "otel_exporter",
    "metrics": {
        "readings": 5,
        "skipped": 1,
        "cut_off": 2,
        "unobserved": 3,
        "producers": [{"failures": 4}, {"failures": 2, "left_out": 1}],
    },
}


async def serving(**settings):
    await start_prometheus_exporter({"port": 0, **settings})

    async def is_running():
        return (await stats_of("prometheus_exporter"))["state"] == "running"

    await eventually(is_running)


async def test_every_metric_of_the_table_is_there_and_no_other(runtime):
    await serving()
    (answer,) = registry.all_stats()
    families = self_families([complete(answer), SENDING])
    assert [family.name for family in families] == [metric.family for metric in SELF_METRICS]
    for family, metric in zip(families, SELF_METRICS, strict=True):
        assert {sample.name for sample in family.samples} == set(metric.samples)
        assert all(tuple(sample.labels) == ("exporter", *metric.labels) for sample in family.samples)


async def test_what_a_running_exporter_answers_gives_all_that_always_is(runtime):
    await serving()
    of_every_exporter = {metric.family for metric in SELF_METRICS if metric.name.startswith(EXPORTER)}
    named = {family.name for family in self_families(registry.all_stats())}
    # Lanes are there with items of several kinds only.
    of_some = {each for each in of_every_exporter if each.startswith(f"{EXPORTER}metric_")}
    assert named >= of_every_exporter - of_some - {f"{EXPORTER}lane_items"}


async def test_the_page_passes_the_parsers_and_promtool(runtime):
    await serving()
    text = text_of(self_families([complete(*registry.all_stats()), SENDING]))
    parsed = {family.name: family for family in text_string_to_metric_families(text)}
    assert len(parsed) == len(SELF_METRICS)
    said = check_with_promtool(text)
    # "count" as the end of a name would be one of the things it complains of.
    assert said == "", said


def test_names_and_descriptions_keep_to_the_rules_of_prometheus():
    names = [metric.name for metric in SELF_METRICS]
    assert len(set(names)) == len(names)
    for metric in SELF_METRICS:
        assert re.fullmatch(r"otpylib_telemetry_(exporter|prometheus)_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.type == "counter")
        assert metric.documentation.endswith(".")
        assert metric.type in {"counter", "gauge", "summary"}
    taken = [name for family in self_families([complete({})]) for name in names_of(family)]
    assert len(set(taken)) == len(taken)


def test_what_sending_metrics_missed_is_on_it():
    told = values(self_families([SENDING]))
    name = "otpylib_telemetry_exporter_metric_"
    assert {key: number["otel_exporter"] for key, number in told.items() if key[0].startswith(name)} == {
        (f"{name}readings_total",): 5,
        (f"{name}readings_failed_total", "skipped"): 1,
        (f"{name}readings_failed_total", "cut_off"): 2,
        (f"{name}readings_failed_total", "unobserved"): 3,
        (f"{name}producer_failures_total",): 6,
        (f"{name}producer_parts_left_out_total",): 1,
    }


async def test_every_exporter_of_the_process_is_on_it(runtime):
    await serving()
    module, backend = chassis.make_exporter()
    await chassis.start(module, retry_attempts=0, failure_threshold=1, reset_timeout=3600)
    chassis.emit(5)
    await chassis.delivered(backend, 5)
    found = values(self_families(registry.all_stats()))
    accepted = found[f"{EXPORTER}events_accepted_total",]
    assert accepted.keys() == {"prometheus_exporter", "x_exporter"}
    assert accepted["x_exporter"] == 5
    assert found[f"{EXPORTER}state", "running"] == {"prometheus_exporter": 1, "x_exporter": 1}
    assert found[f"{EXPORTER}state", "degraded"] == {"prometheus_exporter": 0, "x_exporter": 0}
    assert found[f"{EXPORTER}breaker_state", "closed"]["x_exporter"] == 1
    assert "x_exporter" not in found[f"{PROMETHEUS}scrapes_total",]

    backend.always = OSError("down")
    chassis.emit(3)
    await eventually(lambda: registry.find("x_exporter").breaker.state == "open")
    found = values(self_families(registry.all_stats()))
    assert found[f"{EXPORTER}breaker_state", "open"]["x_exporter"] == 1
    assert found[f"{EXPORTER}breaker_state", "closed"]["x_exporter"] == 0
    assert found[f"{EXPORTER}breaker_transitions_total", "open"]["x_exporter"] == 1
    assert found[f"{EXPORTER}breaker_transitions_total", "half_open"]["x_exporter"] == 0
    assert found[f"{EXPORTER}export_failures_total",]["x_exporter"] >= 1
    assert found[f"{EXPORTER}events_queued",]["x_exporter"] == 3
    backend.always = None


async def test_the_ledger_on_the_page_balances(runtime):
    await serving()
    module, backend = chassis.make_exporter()
    await chassis.start(module, queue_limit=10)
    backend.always = chassis.hang()
    chassis.emit(40)
    await eventually(lambda: chassis.stats()["in_flight"] > 0)
    found = values(self_families(registry.all_stats()))
    of = lambda name: sum(  # noqa: E731
        by["x_exporter"] for (sample, *_), by in found.items() if sample == f"{EXPORTER}{name}"
    )
    parts = ("exported_total", "rejected_total", "dropped_total", "sampled_out_total", "queued", "in_flight")
    assert of("events_accepted_total") == 40 == sum(of(f"events_{part}") for part in parts)
    assert found[f"{EXPORTER}events_dropped_total", "queue_full"]["x_exporter"] == 30
    assert found[f"{EXPORTER}queue_limit",]["x_exporter"] == 10
    backend.always.set_result(None)
    backend.always = None


async def test_a_refused_value_shows_until_it_is_mended(runtime):
    await serving()
    change = ("config_changed", "telemetry.prometheus.max_series", 2000, 0)
    await chassis.cast(change, "prometheus_exporter")
    key = (f"{EXPORTER}config_problems", "rejected")
    await eventually(lambda: values(self_families(registry.all_stats()))[key]["prometheus_exporter"] == 1)
    await chassis.cast((*change[:3], 500), "prometheus_exporter")
    await eventually(lambda: values(self_families(registry.all_stats()))[key]["prometheus_exporter"] == 0)


async def test_a_restart_is_counted_and_one_that_is_gone_is_stopped(runtime):
    module, _ = chassis.make_exporter()
    await chassis.start(module)
    chassis.emit(2)
    await chassis.crash()
    await chassis.start(module)
    found = values(self_families(registry.all_stats()))
    assert found[f"{EXPORTER}starts_total",] == {"x_exporter": 2}
    chassis.runner().disown()
    registry.end(chassis.runner())
    found = values(self_families(registry.all_stats()))
    assert found[f"{EXPORTER}state", "stopped"] == {"x_exporter": 1}
    assert found[f"{EXPORTER}state", "running"] == {"x_exporter": 0}
    assert found[f"{EXPORTER}events_accepted_total",] == {"x_exporter": 2}
    assert (f"{EXPORTER}uptime_seconds",) not in found


async def test_a_name_nothing_ever_ran_under_is_not_on_it():
    registry.state_of("future_exporter")
    assert registry.all_stats() == []


async def test_they_need_no_series_and_come_under_no_limit(runtime):
    await serving(max_series=1)
    await emit_counter("shop.orders", country="de")
    await emit_counter("shop.orders", country="fr")
    await emit_counter("shop.orders", city="berlin")

    async def overflowing():
        return (await stats_of("prometheus_exporter"))["overflowing"]

    await eventually(overflowing)
    before = (await stats_of("prometheus_exporter"))["series"]
    found = values(self_families(registry.all_stats()))
    assert found[f"{PROMETHEUS}overflowing_metrics",]["prometheus_exporter"] == 1
    assert found[f"{PROMETHEUS}metric_overflowing", "shop_orders_total"]["prometheus_exporter"] == 1
    folded = found[f"{PROMETHEUS}metric_label_folded", "shop_orders_total", "country"]
    assert folded["prometheus_exporter"] == 1
    assert (await stats_of("prometheus_exporter"))["series"] == before


def test_no_ordinary_event_has_one_of_their_names():
    # An event would have to be called like the telemetry's own.
    own = {metric.name for metric in SELF_METRICS}
    for name in ("telemetry.exporter.dropped", "telemetry.breaker.opened", "shop.exporter.state"):
        assert metric_name(name) not in own
        assert not metric_name(name).startswith("otpylib_")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = [
    *SeriesStore(1).__dict__,
    "name",
    "state",
    "breaker",
    "dropped",
    "lanes",
    "labels_folded",
    "overflowing",
    "push",
    "merged",
]
KEYS += ["accepted", "rejected_for", "uptime", "scrapes", "breaker_transitions", "config_problems"]


@given(st.lists(st.dictionaries(st.sampled_from(KEYS), anything), max_size=3))
def test_whatever_an_exporter_answers_the_page_can_be_made(answers):
    families = self_families(answers)
    text = text_of(families)
    assert len(list(text_string_to_metric_families(text))) == len(families)
    lines = [line.rpartition(" ")[0] for line in text.split("\n") if line and not line.startswith("#")]
    assert len(set(lines)) == len(lines)
    for family in families:
        assert all(math.isfinite(sample.value) for sample in family.samples)


async def test_an_exporter_whose_answer_fails_costs_the_others_nothing(runtime):
    def stats(_self):
        raise RuntimeError("no stats")

    await serving()
    module, _ = chassis.make_exporter(stats=stats)
    await chassis.start(module)
    execute("shop.sale", {"n": 1})
    found = values(self_families(registry.all_stats()))
    assert found[f"{EXPORTER}state", "running"].keys() == {"prometheus_exporter", "x_exporter"}


def test_a_metric_nobody_has_a_number_for_is_not_on_the_page():
    assert self_families([{"name": "x_exporter"}, {}]) == []
