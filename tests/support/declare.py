"""Metrics of each kind, declared in a line."""

from otpylib_telemetry.aggregation.metric_spec import Kind, MetricSpec


def counter(store, name, description="", unit="", **more):
    return store.declare(MetricSpec(kind=Kind.COUNTER, name=name, description=description, unit=unit, **more))


def gauge(store, name, description="", unit="", **more):
    return store.declare(MetricSpec(kind=Kind.GAUGE, name=name, description=description, unit=unit, **more))


def up_down(store, name, description="", unit="", **more):
    return store.declare(MetricSpec(kind=Kind.UP_DOWN, name=name, description=description, unit=unit, **more))


def histogram(store, name, description, bounds, unit="", **more):
    kind = Kind.HISTOGRAM
    return store.declare(
        MetricSpec(kind=kind, name=name, description=description, bounds=tuple(bounds), unit=unit, **more)
    )


def exponential(store, name, description="", unit="", **more):
    kind = Kind.EXPONENTIAL
    return store.declare(MetricSpec(kind=kind, name=name, description=description, unit=unit, **more))


def summary(store, name, description, shape, unit="", **more):
    kind = Kind.SUMMARY
    return store.declare(
        MetricSpec(kind=kind, name=name, description=description, shape=shape, unit=unit, **more)
    )
