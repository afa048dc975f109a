"""What exporters of metrics have in common: recording, reading at an interval, other settings, removal."""

import pytest

from otpylib_telemetry import metrics
from otpylib_telemetry.exporter.base import ExportContext
from otpylib_telemetry.exporter.collected import Collected
from otpylib_telemetry.metrics.definitions import DefinitionError
from otpylib_telemetry.metrics.exporting import (
    OPENTELEMETRY,
    Preference,
    PushedMetricsExporter,
    PushedMetricsSettings,
)
from tests.support import declare

EVENT = ("shop.order", {"count": 2}, {"country": "de"}, 1, None)


class Settings(PushedMetricsSettings):
    host: str = "localhost"


class Pushed(PushedMetricsExporter[Settings]):
    settings_type = Settings
    naming = OPENTELEMETRY
    preference = Preference.DELTA


async def nothing_more():
    return None


@pytest.fixture
def memory():
    return {}


@pytest.fixture
def make(memory):
    def make(**settings):
        context = ExportContext("pushed_exporter", "telemetry.pushed", memory, nothing_more, dict)
        return Pushed(Settings(**settings), context)

    return make


async def read(exporter, held=0, *, last_chance=False):
    """What a reading tells: names, labels and values."""
    told = []

    def book(function):
        collected = function()
        assert isinstance(collected, Collected)
        told.extend(item for item, weight in collected.produced_items if weight == 1)
        return True

    await exporter.produce(book, held, 5, last_chance=last_chance)
    return [(point.stream.name, dict(point.labels), point.point.value) for point in told]


async def test_events_are_added_up_and_told_once(make):
    exporter = make()
    await exporter.open()
    assert exporter.collect([EVENT, EVENT], 0).exported == 2
    assert await read(exporter) == [("shop.order.total", {"country": "de"}, 4)]
    assert await read(exporter) == []
    exporter.collect([EVENT], 0)
    assert await read(exporter) == [("shop.order.total", {"country": "de"}, 2)]
    assert exporter.stats()["series"] == 1


async def test_an_exporter_that_follows_goes_on_where_the_other_stopped(make):
    first = make()
    first.collect([EVENT], 0)
    second = make()
    second.collect([EVENT], 0)
    assert await read(second) == [("shop.order.total", {"country": "de"}, 4)]


async def test_while_points_wait_nothing_is_read_but_for_the_last_time(make):
    exporter = make()
    exporter.collect([EVENT], 0)
    assert await read(exporter, held=1) == []
    assert await read(exporter, held=1, last_chance=True) == [("shop.order.total", {"country": "de"}, 2)]


async def test_it_is_due_after_each_interval(make):
    exporter = make(interval=2)
    assert not exporter.produce_due(10**9)
    assert not exporter.produce_due(2 * 10**9)
    assert exporter.produce_due(3 * 10**9)


async def test_of_a_series_that_is_removed_the_next_reading_tells_the_rest(make):
    exporter = make()
    exporter.collect([EVENT], 0)
    assert exporter.answer(("remove", "shop.order.total")) is True
    assert exporter.answer(("remove", "shop.order.total")) is False
    assert await read(exporter) == [("shop.order.total", {"country": "de"}, 2)]
    with pytest.raises(LookupError):
        exporter.answer(("unknown",))


async def test_other_definitions_are_taken_in_place_and_another_server_needs_another_exporter(make):
    exporter = make()
    exporter.collect([EVENT], 0)
    defined = metrics.counter("shop.orders", event="shop.order")
    assert await exporter.apply(Settings(metrics=[defined]), frozenset({"metrics"})) is True
    exporter.collect([EVENT], 0)
    # What was made of events before, and what is made of them now.
    assert await read(exporter) == [("shop.order.total", {"country": "de"}, 2), ("shop.orders", {}, 1)]
    assert await exporter.apply(Settings(host="elsewhere"), frozenset({"host", "metrics"})) is False
    assert exporter.settings.host == "localhost"


async def test_definitions_that_clash_are_refused_and_change_nothing(make):
    exporter = make(metrics=[metrics.counter("shop.orders", event="shop.order")])
    await exporter.open()
    exporter.collect([EVENT], 0)
    declare.gauge(exporter.metrics.store, "shop.taken", owner="somebody")
    clashing = [metrics.last_value("shop.taken", event="x")]
    with pytest.raises(DefinitionError, match="belongs to the gauge"):
        await exporter.apply(Settings(metrics=clashing), frozenset({"metrics"}))
    exporter.collect([EVENT], 0)
    assert (await read(exporter))[0] == ("shop.orders", {}, 2)
