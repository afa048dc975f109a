"""A label with ever new values among labels that matter: these stay exact, and what is kept does not grow."""

from collections import Counter

import pytest

from otpylib_telemetry import metrics
from otpylib_telemetry.aggregation.folding import FOLDED
from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry.metrics.automatic.events import MetricOptions
from otpylib_telemetry.metrics.labels import LabelRules
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS
from otpylib_telemetry.metrics.recorder import MetricRecorder

#: Seconds of a thousand orders each, every one of which has a few events.
SECONDS = 12
ORDERS = 1_000
MAX_SERIES = 300

DEFINITIONS = [
    metrics.counter("own.orders", event="shop.paid", tags=["region", "method", "plan", "status", "order_id"]),
    metrics.distribution(
        "own.amount",
        event="shop.paid",
        measurement="value",
        tags=["region", "method", "plan", "status", "order_id"],
        buckets=[10, 50],
    ),
]


def about(number):
    """The labels of an order; four of the five have few values."""
    return {
        "region": f"r{number % 3}",
        "method": f"m{number % 4}",
        "plan": f"p{number % 2}",
        "status": f"s{number % 5}",
        "order_id": f"o{number}",
    }


def events_of(second):
    now = second * 1_000_000_000
    for number in range(second * ORDERS, (second + 1) * ORDERS):
        order = about(number)
        yield "shop.order.start", {}, {**order, "span_id": number}, now, 1
        yield "shop.paid", {"count": 2, "value": number % 100}, order, now, 1
        yield "shop.order.success", {"duration_ms": number % 7}, {**order, "span_id": number}, now, 1


def size(recorder):
    """How much is remembered of labels."""
    plans = recorder._automatic._plans.by_event.values()
    caches = [plan.bindings for plan in plans]
    remembered = sum(
        len(typed.found)
        for cache in caches
        for shape in cache._shapes.values()
        for typed in shape.typed.values()
    )
    tags = sum(len(bound.tags.texts) + len(bound.tags._typed) for bound in recorder._defined._bound)
    series = sum(len(metric.all_series()) for metric in recorder._store.metrics)
    return remembered + recorder._automatic._plans.remembered, tags, series, len(recorder._operations)


@pytest.mark.parametrize("naming", [PROMETHEUS, OPENTELEMETRY])
def test_four_labels_stay_exact_and_nothing_grows_while_the_fifth_is_ever_new(naming):
    reports = []
    store = SeriesStore(MAX_SERIES, report=reports.append)
    recorder = MetricRecorder(store, naming)
    recorder.configure(
        MetricOptions(LabelRules(), (0.002, 0.01), exemplars=False), DEFINITIONS, automatic=True
    )
    sizes = []
    for second in range(SECONDS):
        events = list(events_of(second))
        assert recorder.record(events) == (len(events), 0)
        sizes.append(size(recorder))
    assert set(sizes[1:]) == {sizes[-1]}
    number_of = Counter()
    paid, took, last = Counter(), Counter(), {}
    for number in range(SECONDS * ORDERS):
        key = tuple(sorted({**about(number), "order_id": FOLDED}.items()))
        number_of[key] += 1
        paid[key] += number % 100
        took[key] += number % 7
        last[key] = number % 100
    assert len(number_of) == 60
    found = {
        metric.kind.value + metric.name.replace("_", "."): {one.labels: one for one in metric.all_series()}
        for metric in store.metrics
    }
    assert all(metric.overflow is None for metric in store.metrics)
    end = ".seconds" if naming is PROMETHEUS else ""

    def values(name):
        return {key: one.value for key, one in found.pop(name).items()}

    assert values("countershop.paid.total") == {key: 2 * number for key, number in number_of.items()}
    assert values("gaugeshop.paid") == last
    assert values("up-down countershop.order.in.flight") == dict.fromkeys(number_of, 0)
    assert values("counterown.orders" + (".total" if naming is PROMETHEUS else "")) == number_of
    amounts = found.pop("histogramown.amount")
    assert {key: (one.count, one.sum) for key, one in amounts.items()} == {
        key: (number_of[key], paid[key]) for key in number_of
    }
    times = found.pop(f"histogramshop.order.duration{end}")
    assert {key: (one.count, pytest.approx(one.sum)) for key, one in times.items()} == {
        tuple(sorted((*key, ("outcome", "success")))): (number_of[key], took[key] / 1000) for key in number_of
    }
    assert found == {}, "an operation has no second histogram of the same numbers"
    assert len(reports) == len(store.metrics) == len(store.folded())
    assert all("order_id" in report for report in reports)
    assert {tuple(labels) for labels in store.folded().values()} == {("order_id",)}


def test_other_rules_begin_with_all_labels():
    store = SeriesStore(10)
    recorder = MetricRecorder(store, PROMETHEUS)

    def measure(*numbers):
        for number in numbers:
            recorder.record([("paid", {"count": 1}, {"order": number, "shop": "a", "till": "t"}, 0, 1)])
        return {dict(one.labels).get("order") for one in store.find("paid_total").series.values()}

    recorder.configure(MetricOptions(LabelRules(), ()))
    assert measure(*range(30)) == {FOLDED}
    recorder.configure(MetricOptions(LabelRules(), ()))
    assert measure(31) == {FOLDED}
    recorder.configure(MetricOptions(LabelRules.of(["order", "shop"], []), ()))
    assert store.folded() == {}
    assert measure(32, 33) == {FOLDED, "32", "33"}
    recorder.configure(MetricOptions(LabelRules.of(None, ["order"]), ()))
    assert measure(34) == {FOLDED, "32", "33", None}
