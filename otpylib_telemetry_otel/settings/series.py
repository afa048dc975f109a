"""The keys that are about metrics: what they are made of, and how their numbers are told."""

from typing import Literal

from pydantic import Field

from otpylib_telemetry.aggregation.exporter_stores import DEFAULT_MAX_SERIES
from otpylib_telemetry.config.field_types import Number, OptionalNumber, WholeNumber, Words
from otpylib_telemetry.metrics.buckets import DURATION_BOUNDS
from otpylib_telemetry.metrics.labels import DROPPED_BY_DEFAULT
from otpylib_telemetry.metrics.settings import (
    AUTOMATIC,
    AutomaticMetrics,
    BucketBounds,
    LabelChoice,
    MetricDefinitions,
)
from otpylib_telemetry.scrubbing.settings import ScrubSettings
from otpylib_telemetry_otel.settings.fields import MetricProducers, MetricReaders


class SeriesSettings(ScrubSettings):
    """What the OpenTelemetry exporter can be told about metrics."""

    metrics: bool = Field(
        True, description="Whether metrics are made of the events and sent, beside those of other sources."
    )
    metrics_interval: Number = Field(
        60.0,
        ge=0.001,
        le=86_400,
        description="From one export of the metrics to the next; looked at once a second, or more often "
        "where `flush_interval` is shorter. In the environment: `OTEL_METRIC_EXPORT_INTERVAL`, in "
        "milliseconds.",
        json_schema_extra={"unit": "seconds"},
    )
    metrics_temporality: Literal["cumulative", "delta", "lowmemory"] = Field(
        "cumulative",
        description="What a data point counts from: `cumulative`, the beginning of its series; `delta`, "
        "the point before it, but for what rises and falls; `lowmemory`, as `delta`, but for observable "
        "counters. Changed while it runs, nothing is lost or sent twice.",
        json_schema_extra={"env": ["OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"]},
    )
    metrics_histogram: Literal["explicit", "exponential"] = Field(
        "explicit",
        description="Which buckets histograms of durations have: those of `metrics_buckets`, or exponential "
        "ones, which adapt to what is measured. In the environment: "
        "`OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION`.",
    )
    self_metrics: bool = Field(
        True,
        description="Whether metrics also say how every exporter of the process is doing: `otel.sdk...` and "
        "`otpylib.telemetry...`.",
    )
    metrics_exemplars: bool = Field(
        True,
        description="Whether data points carry the ids of a trace in which something was measured. In the "
        "environment: `OTEL_METRICS_EXEMPLAR_FILTER` (`always_off`).",
    )
    metric_producers: MetricProducers = Field(
        (),
        description="Metric producers whose metrics are sent beside the exporter's own, for as long as it is "
        "there. Only a program can give any.",
    )
    metric_readers: MetricReaders = Field(
        (),
        description="Metric readers of OpenTelemetry, which read the metrics for themselves, also where "
        "there is no endpoint. Only a program can give any.",
    )
    metrics_definitions: MetricDefinitions = AUTOMATIC
    automatic_metrics: AutomaticMetrics = None
    span_metrics: bool = Field(
        True,
        description="Whether every operation also has the metrics `<operation>.in_flight`, "
        "`<operation>.duration` and, where it waited, `<operation>.wait`.",
    )
    metrics_labels: LabelChoice = Field(
        None,
        description="Which metadata become attributes of metrics: a list of names, or `all` (the default): "
        "every name whose value is a string, number or boolean, less `metrics_drop_labels`. A name listed "
        "here is kept even if it is one of the correlation keys. Metrics of actors and HTTP have attributes "
        "of a fixed list, of which this leaves those it names.",
    )
    metrics_drop_labels: Words = Field(
        tuple(sorted(DROPPED_BY_DEFAULT)),
        description="Metadata that do not become attributes of metrics. A list of your own replaces this "
        "one, but the correlation keys stay out all the same unless `metrics_labels` names them.",
    )
    metrics_buckets: BucketBounds = DURATION_BOUNDS
    max_series: WholeNumber = Field(
        DEFAULT_MAX_SERIES,
        ge=1,
        le=1_000_000,
        description="How many series one metric may have. Then the attribute with the most values is folded; "
        "if that does not help, the rest is counted in one series with the attribute "
        "`otel.metric.overflow`.",
    )
    series_ttl: OptionalNumber = Field(
        None,
        ge=1,
        le=31_536_000,
        description="After how long without a measurement a series is removed; looked at when metrics are "
        "exported. Unset: never.",
        json_schema_extra={"unit": "seconds"},
    )
