"""Metrics as an OTLP request.

What is in a data point is anything at all where others made it. A point that cannot be encoded is left out
and counted; what is only an attribute of it, a name or an exemplar is mended or goes by itself.

Imports OpenTelemetry: to be imported only where metrics are about to be exported. All of it runs on a thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics.export import ExponentialHistogram, Gauge, Histogram, Sum

from otpylib_telemetry.metrics.event_values import number_of
from otpylib_telemetry.primitives.any_value import INT64_MAX, INT64_MIN, scope_text, text
from otpylib_telemetry_otel.otlp.values import Encoded, fill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from opentelemetry.sdk.metrics.export import Metric, MetricsData


_SPAN_ID_BYTES: Final = 8
_TRACE_ID_BYTES: Final = 16


def encoded(data: MetricsData) -> Encoded:
    """Return the request of metrics; a point that cannot be encoded is left out, so that the others go."""
    request = ExportMetricsServiceRequest()
    refused, reason = 0, ""
    for group in data.resource_metrics:
        told = request.resource_metrics.add(schema_url=scope_text(group.resource.schema_url))
        fill(told.resource.attributes, group.resource.attributes)
        for scoped in group.scope_metrics:
            messages = told.scope_metrics.add(schema_url=scope_text(scoped.schema_url))
            scope = scoped.scope
            if scope is not None:
                messages.scope.name = scope_text(scope.name)
                messages.scope.version = scope_text(scope.version)
                fill(messages.scope.attributes, scope.attributes or {})
            for metric in scoped.metrics:
                failed, why = _put_metric(messages.metrics, metric)
                refused, reason = refused + failed, why or reason
    return Encoded(request.SerializeToString(), refused, reason)


def _put_metric(messages: Any, metric: Metric) -> tuple[int, str]:
    """Add a metric; returns how many of its points could not be encoded, and why the last could not."""
    data: Any = metric.data
    form, put = next(((form, put) for kind, form, put in _FORMS if isinstance(data, kind)), ("", None))
    if put is None:
        kind = type(data).__name__
        return len(data.data_points), f"{text(metric.name)}: there are no metrics of type {kind}"
    message = messages.add(
        name=text(metric.name, None),
        description=text(metric.description or "", None),
        unit=text(metric.unit or "", None),
    )
    whole = getattr(message, form)
    points = whole.data_points
    refused, reason = 0, ""
    for point in data.data_points:
        told = points.add()
        try:
            fill(told.attributes, point.attributes or {})
            told.time_unix_nano = max(0, point.time_unix_nano)
            if form != "gauge":
                told.start_time_unix_nano = max(0, point.start_time_unix_nano or 0)
            put(told, point)
            if point.exemplars:
                _put_exemplars(told.exemplars, point.exemplars)
        except Exception as error:  # noqa: BLE001 - whatever is in it, it must not hold up the others
            del points[-1]
            refused, reason = refused + 1, f"{text(metric.name)}: {type(error).__name__}: {error}"
    if not points:
        del messages[-1]
    elif form != "gauge":
        whole.aggregation_temporality = data.aggregation_temporality
        if form == "sum":
            whole.is_monotonic = data.is_monotonic
    return refused, reason


def _put_value(told: Any, value: Any) -> None:
    """Put a number into a point or an exemplar."""
    kind = type(value)
    number = value if kind is float or kind is int else number_of(value)
    if number is None:
        raise TypeError(f"a {kind.__name__} is no number")
    if type(number) is int and INT64_MIN <= number <= INT64_MAX:
        told.as_int = number
    else:
        told.as_double = number


def _put_number(told: Any, point: Any) -> None:
    _put_value(told, point.value)


def _put_histogram(told: Any, point: Any) -> None:
    _put_distribution(told, point)
    told.bucket_counts.extend(point.bucket_counts)
    told.explicit_bounds.extend(point.explicit_bounds)


def _put_exponential(told: Any, point: Any) -> None:
    _put_distribution(told, point)
    told.scale, told.zero_count, told.flags = point.scale, point.zero_count, point.flags
    for message, buckets in ((told.positive, point.positive), (told.negative, point.negative)):
        if buckets.bucket_counts:
            message.offset = buckets.offset
            message.bucket_counts.extend(buckets.bucket_counts)


def _put_distribution(told: Any, point: Any) -> None:
    told.count, told.sum = point.count, point.sum
    if point.min is not None:
        told.min = point.min
    if point.max is not None:
        told.max = point.max


_FORMS: Final[tuple[tuple[type[Any], str, Callable[[Any, Any], None]], ...]] = (
    (Sum, "sum", _put_number),
    (Gauge, "gauge", _put_number),
    (Histogram, "histogram", _put_histogram),
    (ExponentialHistogram, "exponential_histogram", _put_exponential),
)


def _put_exemplars(messages: Any, exemplars: Iterable[Any]) -> None:
    """Add exemplars; one that cannot be encoded is not missed."""
    for exemplar in exemplars:
        told = messages.add()
        try:
            told.time_unix_nano = max(0, exemplar.time_unix_nano)
            _put_value(told, exemplar.value)
            if exemplar.span_id is not None and exemplar.trace_id is not None:
                told.span_id = exemplar.span_id.to_bytes(_SPAN_ID_BYTES, "big")
                told.trace_id = exemplar.trace_id.to_bytes(_TRACE_ID_BYTES, "big")
            filtered: Mapping[str, Any] | None = exemplar.filtered_attributes
            if filtered:
                fill(told.filtered_attributes, filtered)
        except Exception:  # noqa: BLE001 - it only illustrates what its point says
            del messages[-1]
