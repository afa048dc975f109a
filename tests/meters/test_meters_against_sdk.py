"""The same calls through our MeterProvider and through the SDK's come to the same points."""

import math

from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider as SdkProvider
from opentelemetry.sdk.metrics import export, view

from otpylib_telemetry.aggregation import exporter_stores
from otpylib_telemetry.aggregation.metric import Counter, Exponential, Gauge, Histogram, UpDown
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.meters import views
from otpylib_telemetry.meters.attributes import attribute_value
from otpylib_telemetry.meters.provider import MeterProvider
from otpylib_telemetry.meters.streams import Feed
from otpylib_telemetry.metrics.names import OPENTELEMETRY
from tests.support.examples import examples
from tests.support.versions import needs_new_sdk

EXPORTER = "compared_exporter"
SYNCHRONOUS = {"counter": "add", "up_down_counter": "add", "histogram": "record", "gauge": "set"}
OBSERVABLE = ("observable_counter", "observable_up_down_counter", "observable_gauge")
TYPES = {Counter: "sum", UpDown: "sum", Gauge: "gauge", Histogram: "histogram", Exponential: "exponential"}

#: Sums of these are exact, so that a difference is a difference.
exact = st.integers(-4000, 4000) | st.integers(-4000, 4000).map(lambda n: n / 4)
amounts = exact | st.sampled_from([math.nan, math.inf, -math.inf])
scalars = st.sampled_from(["x", "y", "", "1", 1, True, 1.0, 0, False]) | st.lists(
    st.sampled_from(["a", "b"]), max_size=2
)
attributes = st.none() | st.dictionaries(st.sampled_from(["a", "b.c", "d"]), scalars, max_size=3)


@st.composite
def views_of(draw, kind, name):
    """Keywords of up to two views of one instrument; the second is renamed, so that they do not conflict."""
    found = []
    for index in range(draw(st.integers(0, 2))):
        keys = draw(st.none() | st.sets(st.sampled_from(["a", "b.c", "d"])))
        made = {"instrument_name": name, "attribute_keys": keys, "aggregation": draw(aggregations(kind))}
        if index or draw(st.booleans()):
            made["name"] = f"{name}.renamed{index}"
            made["description"] = "another"
        found.append(made)
    return found


def aggregations(kind):
    plain = [None, ("DefaultAggregation", {}), ("DropAggregation", {}), ("LastValueAggregation", {})]
    if kind != "histogram":
        # The sum of a histogram's measurements only rises: so the specification, and not the SDK.
        plain.append(("SumAggregation", {}))
    buckets = [("ExplicitBucketHistogramAggregation", {"boundaries": [-1, 0, 2.5, 100]})]
    buckets.append(("ExplicitBucketHistogramAggregation", {}))
    if kind in {"histogram", "counter"}:
        # Negative ones the SDK cannot merge what it has collected (1.45).
        buckets.append(("ExponentialBucketHistogramAggregation", {"max_size": 8, "max_scale": 5}))
    return st.sampled_from(plain + buckets)


@st.composite
def scenarios(draw):
    instruments = []
    for index in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from([*SYNCHRONOUS, *OBSERVABLE]))
        name = f"metric{index}"
        instruments.append(
            {
                "kind": kind,
                "name": name,
                "unit": draw(st.sampled_from(["", "s", "By", "{thing}"])),
                "scope": draw(st.sampled_from([("shop", None), ("shop", "1.2"), ("stock", "3")])),
                "buckets": draw(st.none() | st.just([1.0, 2.0])) if kind == "histogram" else None,
                "views": draw(views_of(kind, name)),
            }
        )
    callers = [i for i, each in enumerate(instruments) if each["kind"] in SYNCHRONOUS]
    calls = (
        st.lists(st.tuples(st.sampled_from(callers), amounts, attributes), max_size=30)
        if callers
        else st.just([])
    )
    rounds = []
    for _ in range(2):
        observed = {}
        for index, each in enumerate(instruments):
            if each["kind"] in OBSERVABLE:
                least = 0 if each["kind"] == "observable_counter" else -100
                found = draw(st.lists(st.tuples(st.integers(least, 100), attributes), max_size=5))
                # Two observations of the same attributes are the callback's mistake, and nobody's rule.
                unlike = {str(point(named or {})): (value, named) for value, named in found}
                observed[index] = list(unlike.values())
        rounds.append((draw(calls), observed))
    return instruments, rounds


def made(module, keywords):
    aggregation = keywords["aggregation"]
    if aggregation is not None:
        aggregation = getattr(module, aggregation[0])(**aggregation[1])
    return module.View(**{**keywords, "aggregation": aggregation})


def play(provider, instruments, rounds, read):
    """Make the calls; return what is read after each round."""
    present = {}
    handles = {}
    for index, each in enumerate(instruments):
        meter = provider.get_meter(*each["scope"])
        create = getattr(meter, f"create_{each['kind']}")
        if each["kind"] in OBSERVABLE:
            create(
                each["name"],
                [lambda _options, at=index: [Observation(*one) for one in present.get(at, ())]],
                unit=each["unit"],
            )
            continue
        more = {"explicit_bucket_boundaries_advisory": each["buckets"]} if each["buckets"] else {}
        handles[index] = getattr(create(each["name"], each["unit"], **more), SYNCHRONOUS[each["kind"]])
    found = []
    for calls, observed in rounds:
        for index, amount, named in calls:
            handles[index](amount, named)
        present.clear()
        present.update(observed)
        found.append(read())
    return found


def point(given):
    """Attributes as something that can be compared, in which 1, True and 1.0 differ."""
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    return tuple(sorted((key, type(value).__name__, value) for key, value in plain.items()))


def of_sdk(data):
    points = {}
    for resource in data.resource_metrics if data else ():
        for scoped in resource.scope_metrics:
            scope = (scoped.scope.name, scoped.scope.version or "")
            for metric in scoped.metrics:
                kind = {
                    export.Sum: "sum",
                    export.Gauge: "gauge",
                    export.Histogram: "histogram",
                    export.ExponentialHistogram: "exponential",
                }[type(metric.data)]
                identity = (scope, metric.name, metric.unit, metric.description, kind)
                for each in metric.data.data_points:
                    points[(*identity, point(each.attributes or {}))] = sdk_numbers(each)
    return points


def sdk_numbers(each):
    if isinstance(each, export.NumberDataPoint):
        return each.value
    if isinstance(each, export.HistogramDataPoint):
        return (tuple(each.explicit_bounds), tuple(each.bucket_counts), each.sum)
    return (
        each.scale,
        each.zero_count,
        each.sum,
        buckets({each.positive.offset + i: n for i, n in enumerate(each.positive.bucket_counts)}),
        buckets({each.negative.offset + i: n for i, n in enumerate(each.negative.bucket_counts)}),
    )


def buckets(counts):
    return tuple(sorted((index, count) for index, count in counts.items() if count))


def of_store(store):
    points = {}
    for metric in store.metrics:
        scope = (metric.scope.name, metric.scope.version)
        identity = (scope, metric.name, metric.unit, metric.description, TYPES[type(metric)])
        for series in metric.all_series():
            given = {key: attribute_value(value) for key, value in series.labels}
            points[(*identity, point(given))] = our_numbers(metric, series)
    return points


def our_numbers(metric, series):
    if isinstance(metric, Histogram):
        return (series.bounds, tuple(series.counts), series.sum)
    if isinstance(metric, Exponential):
        held = series.buckets
        return (held.scale, held.zeros, held.sum, buckets(held.positive), buckets(held.negative))
    return series.value


def level(points, others):
    """The points with exponential buckets as coarse as those of the others: how fine they are is free."""
    return {
        identity: coarser(numbers, others.get(identity, numbers)[0])
        if identity[4] == "exponential" and identity in others
        else numbers
        for identity, numbers in points.items()
    }


def coarser(numbers, other_scale):
    scale, zeros, total, *signs = numbers
    steps = max(0, scale - other_scale)
    merged = []
    for sign in signs:
        counts = {}
        for index, count in sign:
            counts[index >> steps] = counts.get(index >> steps, 0) + count
        merged.append(tuple(sorted(counts.items())))
    return (scale - steps, zeros, total, *merged) if any(merged) else (zeros, total)


@needs_new_sdk
@settings(max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck))
@given(scenarios())
def test_the_same_calls_and_views_come_to_the_same_points(scenario):
    instruments, rounds = scenario
    chosen = [each for instrument in instruments for each in instrument["views"]]
    reader = export.InMemoryMetricReader()
    theirs = SdkProvider([reader], shutdown_on_exit=False, views=[made(view, each) for each in chosen])
    try:
        expected = play(theirs, instruments, rounds, lambda: of_sdk(reader.get_metrics_data()))
    except Exception as error:
        # The SDK cannot put a histogram of nothing but zeros together with a later one.
        if str(error) != "Incorrect merge scale":
            raise
        reject()

    registry.forget(EXPORTER)
    ours = MeterProvider([Feed(EXPORTER, OPENTELEMETRY)], [made(views, each) for each in chosen])

    def read():
        assert ours.force_flush()
        return of_store(exporter_stores.store_of(EXPORTER))

    try:
        found = play(ours, instruments, rounds, read)
    finally:
        ours.shutdown()
    assert [level(one, other) for one, other in zip(found, expected, strict=True)] == [
        level(other, one) for one, other in zip(found, expected, strict=True)
    ]
