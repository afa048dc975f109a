"""Views are those of OpenTelemetry's SDK, by another import."""

import inspect

import pytest
from opentelemetry.metrics import Counter, Histogram
from opentelemetry.sdk.metrics import (
    AlignedHistogramBucketExemplarReservoir,
    SimpleFixedSizeExemplarReservoir,
    view,
)
from opentelemetry.sdk.metrics import Counter as SdkCounter

from otpylib_telemetry.aggregation.cursors import Cursors
from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.aggregation.temporality import Preference, Reading
from otpylib_telemetry.meters import views
from otpylib_telemetry.meters.attributes import attribute_value
from otpylib_telemetry.meters.views import (
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    LastValueAggregation,
    SumAggregation,
    View,
)
from otpylib_telemetry.metrics.names import OPENTELEMETRY
from tests.meters.test_exemplars import in_span
from tests.support.meters import OTLP, values

CLASSES = [name for name in view.__all__ if name != "Aggregation"]


@pytest.mark.parametrize("name", CLASSES)
def test_names_arguments_their_order_and_defaults_are_those_of_the_sdk(name):
    theirs = inspect.signature(getattr(view, name)).parameters
    ours = inspect.signature(getattr(views, name)).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for key, parameter in theirs.items():
        assert (ours[key].kind, ours[key].default) == (parameter.kind, parameter.default), key
    # An older SDK may have fewer.
    assert all(each.default is not each.empty for each in ours.values())


def test_all_of_them_by_position():
    made = View(Counter, "a", "m", "1", "u", "b", "d", {"k"}, SumAggregation(), None, "s", 3)
    assert (made.instrument_type, made.meter_name, made.description) == (Counter, "m", "d")
    assert (made.instrument_unit, made.aggregation_cardinality_limit) == ("s", 3)
    view.View(SdkCounter, "a", "m", "1", "u", "b", "d", {"k"}, view.SumAggregation(), None, "s")
    assert ExponentialBucketHistogramAggregation(10, 3, False) != ExponentialBucketHistogramAggregation(10, 3)


def test_a_factory_that_is_none_is_refused():
    with pytest.raises(TypeError, match="exemplar_reservoir_factory"):
        View(instrument_name="a", exemplar_reservoir_factory=3)


def points():
    """The points of one reading, by the name of their metric."""
    found = {}
    for metric in store_of(OTLP).metrics:
        for point in Cursors().advance(
            metric, metric.all_series(), Reading(10**18, 0, Preference.CUMULATIVE)
        ):
            found[point.stream.name] = point.point
    return found


@pytest.mark.parametrize("wanted", [True, False])
def test_extremes_are_told_if_they_are_wanted(provide, wanted):
    made = [
        View(instrument_name="a", aggregation=ExplicitBucketHistogramAggregation([1], wanted)),
        View(instrument_name="b", aggregation=ExponentialBucketHistogramAggregation(record_min_max=wanted)),
    ]
    meter = provide(OPENTELEMETRY, views=made).get_meter("shop")
    for name in ("a", "b", "c"):
        for value in (2, 7):
            meter.create_histogram(name).record(value)
    found = {name: (point.least, point.greatest) for name, point in points().items()}
    assert found == {
        "a": (2, 7) if wanted else (None, None),
        "b": (2, 7) if wanted else (None, None),
        "c": (2, 7),
    }


def test_reservoirs_of_the_sdk_choose_the_exemplars(provide):
    asked = []

    def factory(kind):
        asked.append(kind.__name__)
        if "Explicit" in kind.__name__:
            return AlignedHistogramBucketExemplarReservoir
        return lambda **more: SimpleFixedSizeExemplarReservoir(**{"size": 4, **more})

    made = [
        View(instrument_name="h", exemplar_reservoir_factory=factory, attribute_keys=["kept"]),
        View(
            instrument_name="e",
            aggregation=ExponentialBucketHistogramAggregation(),
            exemplar_reservoir_factory=factory,
        ),
        View(instrument_name="*", exemplar_reservoir_factory=factory),
    ]
    made[2] = View(instrument_type=Counter, exemplar_reservoir_factory=factory)
    meter = provide(OPENTELEMETRY, views=made).get_meter("shop")
    for value in (1, 6, 7):
        meter.create_counter("n").add(value, {"a": 1}, in_span(sampled=True))
        meter.create_histogram("h").record(value, {"kept": 1, "left": [value]}, in_span(sampled=True))
        meter.create_histogram("e").record(value, {"a": 1}, in_span(sampled=True))
        meter.create_histogram("e").record(value, {"a": 1}, in_span(sampled=False))
    found = points()
    assert sorted(each.value for each in found["n"].exemplars) == [1, 6, 7]
    assert sorted(each.value for each in found["e"].exemplars) == [1, 6, 7]
    # The last of each bucket.
    assert sorted(each.value for each in found["h"].exemplars) == [1, 7] or sorted(
        each.value for each in found["h"].exemplars
    ) == [1, 7]
    last = max(found["h"].exemplars)
    assert {key: attribute_value(text) for key, text in last.traced.attributes} == {"left": (7,)}
    assert (last.traced.trace_id, last.traced.span_id) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert sorted(asked) == [
        "_ExplicitBucketHistogramAggregation",
        "_ExponentialBucketHistogramAggregation",
        "_SumAggregation",
    ]
    assert not points()["n"].exemplars


def test_a_reservoir_that_fails_costs_exemplars_alone_and_is_reported_once(provide, caplog):
    def factory(_kind):
        raise RuntimeError("no idea")

    made = [View(instrument_name="n", exemplar_reservoir_factory=factory)]
    counter = provide(OPENTELEMETRY, views=made).get_meter("shop").create_counter("n")
    for _ in range(2):
        counter.add(1, {}, in_span(sampled=True))
        assert points()["n"].exemplars == ()
    assert values() == {("n",): 2}
    assert caplog.text.count("the exemplar reservoir of n failed (RuntimeError: no idea)") == 1


CLASHES = [
    # Two names become one.
    (
        [View(instrument_name="a", name="x"), View(instrument_name="b", name="x")],
        ["counter", "counter"],
        True,
    ),
    ([View(instrument_name="a", name="X"), View(instrument_name="b", name="x")], ["counter", "gauge"], True),
    ([View(meter_name="shop", name="x")], ["counter", "histogram"], True),
    # One becomes the other.
    ([View(instrument_name="a", name="b")], ["counter", "counter"], True),
    # Or not.
    (
        [View(instrument_name="a", name="x"), View(instrument_name="b", name="y")],
        ["counter", "counter"],
        False,
    ),
    ([View(instrument_name="*", aggregation=LastValueAggregation())], ["counter", "gauge"], False),
    ([View(instrument_type=Histogram, name="x")], ["counter", "histogram"], False),
]


@pytest.mark.parametrize(("made", "kinds", "clash"), CLASHES)
def test_views_that_make_one_metric_of_two_instruments_are_reported_once(provide, caplog, made, kinds, clash):
    provider = provide(OPENTELEMETRY, views=made)
    for _ in range(2):
        for name, kind in zip("ab", kinds, strict=True):
            getattr(provider.get_meter("shop"), f"create_{kind}")(name)
    provider.get_meter("stock").create_counter("x")
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == clash, said
    if clash:
        assert "of two instruments, a and b (shop)" in said[0]


def test_views_that_clash_later_are_reported_then(provide, caplog):
    provider = provide(OPENTELEMETRY)
    for name in "ab":
        provider.get_meter("shop").create_counter(name)
    assert not caplog.records
    provider.use_views([View(instrument_name="a", name="b")])
    assert "one metric b of two instruments" in caplog.text
