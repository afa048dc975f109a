"""What instruments cannot take, and what is said of it."""

import decimal
from collections.abc import Mapping

import numpy as np
import pytest
from opentelemetry.metrics import NoOpCounter, NoOpMeter, Observation

from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS
from tests.support.meters import OTLP, PROM, values


class Hostile:
    def __float__(self):
        raise RuntimeError("no")

    def __bool__(self):
        raise RuntimeError("no")


def test_no_measurement_raises_and_what_is_refused_is_counted_and_said_once(provide, caplog):
    meter = provide(OPENTELEMETRY).get_meter("shop")
    counter = meter.create_counter("n")
    for amount in (-1, float("nan"), float("inf"), "3", None, Hostile(), 10**400):
        counter.add(amount)
        counter.add(amount)
    meter.create_histogram("h").record(-1)
    assert values() == {}
    assert store_of(OTLP).refused == {
        "not finite, or negative where that cannot be": 9,
        "not a number": 6,
    }
    assert len([record for record in caplog.records if " n (shop)" in record.getMessage()]) == 2


class HalfReadable(dict):
    def items(self):
        yield "a", 1
        raise RuntimeError("no")


class HostileMapping(Mapping):
    def _refuse(self, *_):
        raise RuntimeError("no")

    __getitem__ = __iter__ = __len__ = __bool__ = items = _refuse


@pytest.mark.parametrize("naming", [OPENTELEMETRY, PROMETHEUS])
@pytest.mark.parametrize(
    "given",
    [Hostile(), [1], ["x"], "text", 5, {"a"}, iter("ab"), object(), np.array([1, 2]), HostileMapping()],
    ids=lambda given: type(given).__name__,
)
def test_a_measurement_with_attributes_that_are_none_counts_without_them(provide, caplog, naming, given):
    meter = provide(naming).get_meter("shop")
    for kind, method in [
        ("counter", "add"),
        ("up_down_counter", "add"),
        ("gauge", "set"),
        ("histogram", "record"),
    ]:
        instrument = getattr(meter, f"create_{kind}")(f"n.{kind}")
        for _ in range(2):
            getattr(instrument, method)(1, given)
        getattr(instrument, method)(1)
    exporter = OTLP if naming is OPENTELEMETRY else PROM
    found = [series for metric in store_of(exporter).metrics for series in metric.all_series()]
    assert len(found) == 4
    assert {getattr(series, "count", None) or series.value for series in found} == {3, 1}
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4
    assert f"expected a mapping, got {type(given).__name__}. It counts without any" in said[0]


def test_what_can_be_read_of_attributes_counts(provide, caplog):
    counter = provide(OPENTELEMETRY).get_meter("shop").create_counter("n")
    counter.add(2, HalfReadable({"b": 1}))
    assert values() == {("n", ("a", 1)): 2}
    assert "It counts with a" in caplog.text


def test_numbers_of_other_types_are_taken(provide):
    counter = provide(OPENTELEMETRY).get_meter("shop").create_counter("n")
    counter.add(True)
    counter.add(decimal.Decimal("1.5"))
    assert values() == {("n",): 2.5}


def test_attributes_without_a_key_or_a_text_of_their_own_are_as_the_sdk_has_them(provide):
    counter = provide(OPENTELEMETRY).get_meter("shop").create_counter("n")
    for _ in range(2):
        counter.add(1, {"a": object(), 3: "x", "": "y", "b": "z"})
        counter.add(1, {"b": "z", "a": None, "3": "x"})
    assert values() == {("n", ("3", "x"), ("a", None), ("b", "z")): 4}


def test_an_instrument_with_an_impossible_name_has_no_effect_and_is_reported_once(provide, caplog):
    provider = provide(OPENTELEMETRY)
    meter = provider.get_meter("shop")
    for name in ("", "1a", "a b", "ä", "a" * 256, None, 3):
        for _ in range(2):
            made = meter.create_counter(name)
            assert type(made) is NoOpCounter
            made.add(1)
    meter.create_observable_gauge("1a", [lambda _: []])
    assert values() == {}
    assert len(provider.refused) == 7
    assert len(caplog.records) == 7


def test_instruments_of_one_name_are_one_whatever_the_case(provide, caplog):
    provider = provide(OPENTELEMETRY)
    first = provider.get_meter("shop").create_counter("Sales")
    assert provider.get_meter("shop") is provider.get_meter("shop")
    assert provider.get_meter("shop").create_counter("Sales") is first
    assert caplog.text == ""
    first.add(1)
    provider.get_meter("shop").create_counter("sALES").add(1)
    assert values() == {("Sales",): 2}


def test_two_instruments_of_one_name_that_differ_both_work_and_it_is_said_once(provide, caplog):
    meter = provide(OPENTELEMETRY).get_meter("shop")
    for _ in range(3):
        meter.create_counter("n", "s", "One").add(1)
        meter.create_counter("n", "s", "Other").add(1)
        meter.create_gauge("n", "s", "One").set(5)
    assert sorted((metric.kind.value, metric.all_series()[0].value) for metric in store_of(OTLP).metrics) == [
        ("counter", 6),
        ("gauge", 5),
    ]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "the description 'One' and 'Other'" in said[0]
    assert "the kind 'Counter' and 'Gauge'" in said[1]


def test_other_buckets_for_the_same_histogram_are_reported_and_not_used(provide, caplog):
    meter = provide(OPENTELEMETRY).get_meter("shop")
    meter.create_histogram("h", explicit_bucket_boundaries_advisory=[1]).record(1)
    meter.create_histogram("h", explicit_bucket_boundaries_advisory=[2]).record(1)
    meter.create_histogram("odd", explicit_bucket_boundaries_advisory=["x"]).record(1)
    assert values() == {("h",): (2, 2), ("odd",): (1, 1)}
    assert "those of then stay" in caplog.text
    assert "The buckets that odd (shop) suggests are not used" in caplog.text


def test_a_name_that_prometheus_cannot_have_twice_is_counted_and_the_first_goes_on(provide, caplog):
    provider = provide(PROMETHEUS)
    first = provider.get_meter("shop").create_gauge("n")
    first.set(1)
    other = provider.get_meter("stock").create_histogram("n")
    for _ in range(3):
        other.record(1)
    first.set(2)
    assert list(values(PROM).values()) == [2]
    assert store_of(PROM).refused == {"metric refused": 3}
    assert caplog.text.count("metric n (histogram) is left out") == 1


def test_a_disabled_sdk_makes_no_metrics(provide, monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "True")
    provider = provide(OPENTELEMETRY)
    assert type(provider.get_meter("shop")) is NoOpMeter
    provider.get_meter("shop").create_counter("n").add(1)
    assert values() == {}


def test_after_shutdown_instruments_have_no_effect_and_what_was_written_stays(provide, caplog):
    provider = provide(OPENTELEMETRY)
    counter = provider.get_meter("shop").create_counter("n")
    provider.get_meter("shop").create_observable_gauge("g", [lambda _: [Observation(7)]])
    counter.add(1)
    provider.shutdown()
    counter.add(1)
    assert values() == {("n",): 1, ("g",): 7}
    assert type(provider.get_meter("shop")) is NoOpMeter
    assert "shut down" in caplog.text
    provider.shutdown()


def test_a_flush_reads_what_is_observed_and_has_it_exported(provide):
    flushed = []
    provider = provide(OPENTELEMETRY, flush=lambda seconds: flushed.append(seconds) or True)
    provider.get_meter("shop").create_observable_gauge("g", [lambda _: [Observation(7)]])
    assert provider.force_flush(5_000) is True
    assert values() == {("g",): 7}
    assert 0 < flushed[0] <= 5
    provider.flush = lambda _seconds: False
    assert provider.force_flush() is False
