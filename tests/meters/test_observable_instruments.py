"""Instruments whose callbacks are asked when somebody reads."""

import threading
import time

import pytest
from opentelemetry.metrics import Observation

from otpylib_telemetry.aggregation import observers
from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.meters.views import (
    View,
)
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS
from tests.support.meters import OTLP, PROM, read, values
from tests.support.waiting import eventually


def test_what_is_not_observed_any_more_goes_and_comes_back(provide):
    provider = provide(PROMETHEUS, OPENTELEMETRY)
    present = {"x": 1, "y": 2}

    def observe(_options):
        return [Observation(value, {"a": key}) for key, value in present.items()]

    meter = provider.get_meter("shop")
    meter.create_observable_gauge("g", [observe])
    meter.create_observable_counter("c", [observe])
    meter.create_observable_up_down_counter("u", [observe])
    read(provider)
    assert values() == {(name, ("a", key)): value for name in "gcu" for key, value in present.items()}
    present = {"y": 5}
    read(provider)
    assert values() == {(name, ("a", "y")): 5 for name in "gcu"}
    assert len(values(PROM)) == 3
    present = {"x": 7, "y": 5}
    read(provider)
    assert len(values()) == 6


def test_a_failing_callback_costs_its_own_series_alone_until_it_works_again(provide, caplog):
    provider = provide(OPENTELEMETRY)
    meter = provider.get_meter("shop")
    failing = True

    def sometimes(_options):
        yield Observation(1, {"a": "early"})
        if failing:
            raise KeyError("gone")

    meter.create_observable_gauge("sometimes", [sometimes])
    meter.create_observable_gauge("always", [lambda _: [Observation(2)]])
    failing = False
    read(provider)
    assert values() == {("sometimes", ("a", "early")): 1, ("always",): 2}
    failing = True
    for _ in range(3):
        read(provider)
        assert values() == {("always",): 2}
    assert caplog.text.count("The callback of sometimes (shop) cannot be used: KeyError") == 1
    failing = False
    read(provider)
    assert values() == {("sometimes", ("a", "early")): 1, ("always",): 2}
    failing = True
    read(provider)
    assert caplog.text.count("The callback of sometimes") == 2


@pytest.mark.parametrize(
    ("returned", "taken"),
    [
        (3, {}),
        ("text", {}),
        ([3], {}),
        ([Observation("x")], {}),
        ([Observation(1, 5)], {("g",): 1}),
        ([Observation(1, {"a": 1}), 3, Observation(None), Observation(2)], {("g", ("a", 1)): 1, ("g",): 2}),
    ],
)
def test_what_a_callback_returns_beside_observations_costs_itself_and_is_reported(
    provide, caplog, returned, taken
):
    provider = provide(OPENTELEMETRY)
    provider.get_meter("shop").create_observable_gauge("g", [lambda _: returned])
    read(provider)
    assert values() == taken
    assert "The callback of g (shop) cannot be used" in caplog.text


def test_a_callback_may_exit_and_be_a_generator_and_return_nothing(provide):
    def exits(_options):
        raise SystemExit

    def generator():
        options = yield
        for number in (1, 2):
            assert options.timeout_millis == 1_000
            options = yield [Observation(number)]

    provider = provide(OPENTELEMETRY)
    meter = provider.get_meter("shop")
    meter.create_observable_gauge("exits", [exits])
    meter.create_observable_gauge("nothing", [lambda _: None])
    meter.create_observable_gauge("generator", [generator()])
    meter.create_observable_gauge("none")
    for number in (1, 2):
        read(provider)
        assert values() == {("generator",): number}
    read(provider)
    assert values() == {}


def test_slow_callbacks_cost_themselves_alone_and_are_not_called_twice_at_once(provide, caplog):
    provider = provide(OPENTELEMETRY, callback_timeout=0.3)
    meter = provider.get_meter("shop")
    go = threading.Event()
    calls = []

    def slow(name):
        def call(_options):
            calls.append(name)
            go.wait(20)
            return [Observation(1)]

        return call

    for number in range(5):
        meter.create_observable_gauge(f"slow{number}", [slow(number)])
        meter.create_observable_gauge(f"quick{number}", [lambda _: [Observation(2)]])
    quick = {(f"quick{number}",): 2 for number in range(5)}
    for _ in range(2):
        read(provider)
        assert values() == quick
        # All of them are at it at once, and none is called again before it has come back.
        assert sorted(calls) == [0, 1, 2, 3, 4]
    assert caplog.text.count("it takes too long") == 5
    go.set()

    def all_back():
        read(provider)
        return len(values()) == 10

    deadline = time.monotonic() + 10
    while not all_back() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(values()) == 10


def test_a_callback_given_twice_is_asked_once_and_the_later_observation_counts(provide):
    provider = provide(OPENTELEMETRY)
    calls = []

    def observe(_options):
        calls.append(1)
        return [Observation(1, {"a": "x"}), Observation(2, {"a": "x"})]

    for _ in range(2):
        provider.get_meter("shop").create_observable_counter("n", [observe])
    provider.get_meter("shop").create_observable_counter("n", [lambda _: [Observation(9, {"a": "y"})]])
    read(provider)
    assert (len(calls), values()) == (1, {("n", ("a", "x")): 2, ("n", ("a", "y")): 9})


def test_an_attribute_filter_adds_up_observed_sums(provide):
    views = [View(instrument_name="*", attribute_keys=["a"])]
    provider = provide(OPENTELEMETRY, views=views)
    found = [Observation(3, {"a": "x", "b": "1"}), Observation(4, {"a": "x", "b": "2"})]
    provider.get_meter("shop").create_observable_counter("n", [lambda _: found])
    provider.get_meter("shop").create_observable_gauge("g", [lambda _: found])
    for _ in range(2):
        read(provider)
        assert values() == {("n", ("a", "x")): 7, ("g", ("a", "x")): 4}


def test_observed_series_beyond_the_limit_add_up_in_the_overflow_series_and_leave_it(provide):
    views = [View(instrument_name="n", aggregation_cardinality_limit=2)]
    provider = provide(OPENTELEMETRY, views=views)
    count = 5
    provider.get_meter("shop").create_observable_counter(
        "n", [lambda _: [Observation(10, {"a": number}) for number in range(count)]]
    )
    for _ in range(2):
        read(provider)
        (metric,) = store_of(OTLP).metrics
        assert (len(metric.series), metric.overflow.value) == (2, 30)
    count = 1
    read(provider)
    assert (len(metric.series), metric.overflow) == (1, None)


def test_a_negative_or_infinite_observation_is_refused_and_its_series_goes(provide):
    provider = provide(OPENTELEMETRY)
    observed = [1]
    provider.get_meter("shop").create_observable_counter("n", [lambda _: [Observation(observed[-1])]])
    read(provider)
    assert values() == {("n",): 1}
    for value in (-1, float("inf"), float("nan")):
        observed.append(value)
        read(provider)
        assert values() == {}
    assert store_of(OTLP).refused == {"not finite, or negative where that cannot be": 3}


def test_an_observed_counter_that_stands_still_does_not_expire(provide):
    provider = provide(OPENTELEMETRY)
    provider.get_meter("shop").create_observable_counter("n", [lambda _: [Observation(5)]])
    provider.get_meter("shop").create_observable_up_down_counter("u", [lambda _: [Observation(0)]])
    for now in (0, 5, 10, 15, 20):
        read(provider)
        store_of(OTLP).expire(now, 8)
    assert len(values()) == 2


async def test_readings_at_the_same_time_share_one_round(provide, runtime):
    provider = provide(PROMETHEUS, OPENTELEMETRY)
    calls, go = [], threading.Event()

    def observe(_options):
        calls.append(1)
        go.wait(5)
        return [Observation(len(calls))]

    provider.get_meter("shop").create_observable_gauge("g", [observe])
    first = provider.take_reading()
    await eventually(lambda: calls)
    assert provider.take_reading() is first
    go.set()
    await observers.refresh(OTLP)
    assert values(PROM) == {("g", ("otel_scope_name", "shop")): 1}
    await observers.refresh(PROM)
    assert values() == {("g",): 2}


async def test_a_reading_where_nobody_observes_does_nothing(provide, runtime):
    await observers.refresh("nobody_exporter")
    assert provide(OPENTELEMETRY).take_reading() is None

    class Broken:
        def take_reading(self):
            raise RuntimeError

    broken = Broken()
    observers.register(OTLP, broken)
    await observers.refresh(OTLP)
    observers.unregister(OTLP, broken)


def test_what_is_read_without_being_asked_is_observed_from_time_to_time(provide):
    provider = provide(OPENTELEMETRY)
    calls = []
    provider.get_meter("shop").create_observable_gauge("g", [lambda _: calls.append(1)])
    regularly = observers.Regularly(OTLP, interval=5)
    assert [regularly.tick(int(seconds * 1e9)) for seconds in (1, 2, 5.9, 6, 10, 11.1)] == [
        *(True, False, False),
        *(True, False, True),
    ]
    read(provider)
    assert calls
