"""What metrics are called whose names are not plain English, and what becomes of names that meet."""

import logging

import pytest

from otpylib_telemetry import execute
from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry.metrics.automatic.events import MetricOptions
from otpylib_telemetry.metrics.definitions import counter, last_value
from otpylib_telemetry.metrics.labels import LabelRules
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS, instrument_name, metric_name
from otpylib_telemetry.metrics.recorder import MetricRecorder
from tests.prometheus.test_prometheus_exporter import NAME, page, start
from tests.support.ledger import stats_of
from tests.support.waiting import eventually

UTF8 = {"Accept": "text/plain;version=1.0.0;escaping=allow-utf-8"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shop.größe", "shop_größe"),
        ("shop.grüße-2", "shop_grüße_2"),
        ("店.売上", "店_売上"),
        ("हिन्दी.x", "हिन्दी_x"),
        ("a·b…c d/e€", "a_b_c_d_e_"),
        ("1größe", "_1größe"),
        ("größe:summe", "größe_summe"),
        ("a.b-c", "a_b_c"),
        ("ü" * 300, "ü" * 183 + "_8f7522ba324420b6"),
    ],
)
def test_letters_and_digits_of_a_name_somebody_gave_stay_and_all_else_becomes_an_underscore(name, expected):
    assert instrument_name(name, "", Kind.GAUGE) == (expected, "")


def test_names_that_are_made_of_events_have_underscores_for_all_that_is_illegal():
    assert metric_name("shop.größe") == "shop_gr__e"


async def test_defined_names_reach_whoever_can_read_them_and_others_get_two_that_differ(runtime):
    definitions = [last_value("shop.größe.value"), last_value("shop.grüße.value")]
    port = await start(metrics=definitions)
    execute("shop.größe", {"value": 1}, {})
    execute("shop.grüße", {"value": 2}, {})

    async def both():
        text = (await page(port, **UTF8))[1].decode()
        return text if text.count("\n{") == 2 else None

    text = await eventually(both)
    assert '\n{"shop_größe_value"} 1\n' in text
    assert '\n{"shop_grüße_value"} 2\n' in text
    classic = (await page(port))[1].decode()
    values = [line.rpartition(" ") for line in classic.splitlines() if line[0] != "#"]
    assert sorted(value for _, _, value in values) == ["1", "2"]
    assert len({name for name, _, _ in values}) == 2


async def test_events_whose_names_meet_on_the_page_are_told_of_once(runtime, caplog):
    port = await start()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            execute("shop.größe", {"value": 1}, {})
            execute("shop.grüße", {"value": 2}, {})

        async def both():
            return "shop_gr__e 2" in (await page(port, **UTF8))[1].decode()

        await eventually(both)
    (message,) = [one.getMessage() for one in caplog.records if "shop_gr__e" in one.getMessage()]
    assert "shop.größe" in message
    assert "shop.grüße" in message
    assert (await stats_of(NAME))["metrics_shared"] == {"shop_gr__e": ["shop.größe", "shop.grüße"]}


def recorded(naming, events, definitions=()):
    reports = []
    store = SeriesStore(100, report=reports.append)
    recorder = MetricRecorder(store, naming)
    recorder.configure(MetricOptions(LabelRules(), (1.0,)), definitions, automatic=True)
    recorder.record([(name, measurements, {}, 0, 1) for name, measurements in events * 3])
    return reports, recorder.stats()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("a.b", {"count": 1}), ("a-b", {"count": 1})),
        (("a.b", {"duration_ms": 1}), ("a-b", {"duration_ms": 1})),
        (("a.b", {"value": 1}), ("a-b", {"value": 1})),
        (("a.b.start", {}), ("a-b.start", {})),
        (("a.b", {"count": 1}), ("a-b.total", {"count": 1})),
    ],
)
def test_whatever_the_kind_two_events_of_one_metric_are_told_of_once(first, second):
    reports, stats = recorded(PROMETHEUS, [first, second])
    (message,) = reports
    assert repr(first[0].removesuffix(".start")) in message
    assert repr(second[0].removesuffix(".start")) in message
    assert len(stats["metrics_shared"]) == 1
    assert recorded(PROMETHEUS, [first])[0] == []


def test_names_that_keep_their_dots_do_not_meet():
    reports, stats = recorded(OPENTELEMETRY, [("a.b", {"count": 1}), ("a-b", {"count": 1})])
    assert reports == []
    assert "metrics_shared" not in stats


def test_the_ends_of_one_operation_do_not_count_as_two():
    ends = [("a.stop", {"duration_ms": 1}), ("a.success", {}), ("a.error", {"duration_ms": 1})]
    assert recorded(PROMETHEUS, ends)[0] == []


def test_an_event_that_wants_the_name_of_a_definition_is_refused_and_told_of():
    reports, stats = recorded(PROMETHEUS, [("a.b", {"count": 1})], [counter("a_b", event="x")])
    (message,) = reports
    assert "a_b_total" in message
    assert stats["samples_refused"] == {"metric refused": 3}
