"""Where the instruments of tests write, and what is there."""

from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.meters.attributes import attribute_value

PROM, OTLP = "meters_prom_exporter", "meters_otlp_exporter"


def values(name=OTLP):
    """What is in the store: by metric and attributes, the number."""
    return {
        (metric.name, *((key, attribute_value(value)) for key, value in series.labels)): (
            series.value if hasattr(series, "value") else (series.count, series.sum)
        )
        for metric in store_of(name).metrics
        for series in metric.all_series()
    }


def read(provider):
    reading = provider.take_reading()
    if reading is not None:
        reading.result(10)
