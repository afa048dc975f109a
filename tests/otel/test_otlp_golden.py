"""Recorded events in, exactly these data points out.

A new case is a ``NAME.events.jsonl`` in ``tests/golden``, with a ``NAME.definitions.json`` if its metrics are
defined.
``python -m tests.otel.test_otlp_golden`` writes what it makes today to ``NAME.TEMPORALITY.otlp.txt``, to
be read before it is kept: a line for each metric, and below it one for each data point and each exemplar.
"""

import json

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.version import __version__ as sdk_version

from otpylib_telemetry.aggregation.cursors import Cursors
from otpylib_telemetry.aggregation.temporality import Preference, Reading
from otpylib_telemetry.metrics.names import OPENTELEMETRY
from otpylib_telemetry.version import __version__
from otpylib_telemetry_mock.otlp_receiver.received import attributes_of
from otpylib_telemetry_otel.sdk.metrics import MetricEncoder
from tests.support.golden import CASES, SECOND, events_of, expected, keep, recorder_of
from tests.support.otlp_metrics import CUMULATIVE, DELTA
from tests.support.versions import needs_new_sdk

TEMPORALITIES = {0: "last value", DELTA: "delta", CUMULATIVE: "cumulative"}
#: What is another with every release.
VERSIONS = {__version__: "OWN VERSION", sdk_version: "SDK VERSION"}


def exported(case, temporality):
    """What is sent of the events: once after the first half of them, and once at the end."""
    now = 0
    store, recorder = recorder_of(case, OPENTELEMETRY, lambda: now)
    events, cursors, told = events_of(case), Cursors(), []
    half = (len(events) + 1) // 2
    for now, some in ((10 * SECOND, events[:half]), (20 * SECOND, events[half:])):
        recorder.record(some)
        reading = Reading(now + SECOND, 0, Preference(temporality))
        points = [
            point
            for metric in store.metrics
            for point in cursors.advance(metric, metric.all_series(), reading)
        ]
        encoded = MetricEncoder(Resource.create({"service.name": "shop"})).encode(points)
        assert encoded.refused == 0
        request = ExportMetricsServiceRequest.FromString(encoded.body)
        told += [f"--- after {now // SECOND + 1} s", *lines(request)]
    return "\n".join(told) + "\n"


def lines(message):
    for group in message.resource_metrics:
        attributes = attributes_of(group.resource.attributes)
        attributes["service.instance.id"] = f"of {len(attributes['service.instance.id'])} characters"
        yield f"resource {shown({key: VERSIONS.get(value, value) for key, value in attributes.items()})}"
        for scoped in group.scope_metrics:
            version = VERSIONS.get(scoped.scope.version, scoped.scope.version)
            yield f"scope {scoped.scope.name} {version} {shown(attributes_of(scoped.scope.attributes))}"
            for metric in scoped.metrics:
                yield from of_metric(metric)


def of_metric(metric):
    form = metric.WhichOneof("data")
    data = getattr(metric, form)
    temporality = TEMPORALITIES[getattr(data, "aggregation_temporality", 0)]
    monotonic = " monotonic" if getattr(data, "is_monotonic", False) else ""
    unit = metric.unit or "-"
    yield f"{shown(metric.name)} {unit} {temporality}{monotonic} {form}: {metric.description}"
    for point in data.data_points:
        since, when = point.start_time_unix_nano // SECOND, point.time_unix_nano // SECOND
        told = VALUES[form](point)
        yield f"  {shown(attributes_of(point.attributes))} from {since} s to {when} s = {told}"
        for one in point.exemplars:
            value = getattr(one, one.WhichOneof("value"))
            at = one.time_unix_nano / SECOND
            yield f"    exemplar {value!r} at {at:g} s, trace {one.trace_id.hex()}, span {one.span_id.hex()}"


def number(point):
    return getattr(point, point.WhichOneof("value"))


def histogram(point):
    bounds = [*point.explicit_bounds, "inf"]
    counts = [f"{bound}: {n}" for bound, n in zip(bounds, point.bucket_counts, strict=True)]
    return ", ".join([f"count {point.count}, sum {point.sum!r}", *counts, *extremes(point)])


def extremes(point):
    return [f"{name} {getattr(point, name)!r}" for name in ("min", "max") if point.HasField(name)]


def exponential(point):
    sides = [
        f"{name} {side.offset}+{list(side.bucket_counts)}"
        for name in ("positive", "negative")
        if (side := getattr(point, name)).bucket_counts
    ]
    scale = f"scale {point.scale}, zeros {point.zero_count}"
    return ", ".join([f"count {point.count}, sum {point.sum!r}, {scale}", *sides, *extremes(point)])


VALUES = {"sum": number, "gauge": number, "histogram": histogram, "exponential_histogram": exponential}


def shown(value):
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


@needs_new_sdk
@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
@pytest.mark.parametrize("case", CASES)
def test_recorded_events_make_exactly_these_points(case, temporality):
    assert exported(case, temporality) == expected(f"{case}.{temporality}.otlp.txt")


if __name__ == "__main__":
    for each in CASES:
        for kind in ("cumulative", "delta"):
            keep(f"{each}.{kind}.otlp.txt", exported(each, kind))
