"""Reservoirs of exemplars of OpenTelemetry's SDK: what a view's ``exemplar_reservoir_factory`` makes.

The SDK is there where somebody has such a factory; it is imported when the first series needs one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation.metric import Exponential, Histogram
from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.aggregation.series import Exemplar, Traced
from otpylib_telemetry.meters.attributes import attribute_value, frozen
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.fork import importing
from otpylib_telemetry.tracing.propagation import format_span_id, format_trace_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otpylib_telemetry.aggregation.metric import AnyMetric
    from otpylib_telemetry.aggregation.series import Labels, Operation


#: The SDK's classes of aggregations, which factories ask for.
_AGGREGATIONS: Final[Mapping[Kind, str]] = {
    Kind.COUNTER: "_SumAggregation",
    Kind.UP_DOWN: "_SumAggregation",
    Kind.GAUGE: "_LastValueAggregation",
    Kind.HISTOGRAM: "_ExplicitBucketHistogramAggregation",
    Kind.EXPONENTIAL: "_ExponentialBucketHistogramAggregation",
}

#: As many exemplars as the SDK keeps of an exponential histogram.
_MOST: Final = 20


class Reservoir:
    """The reservoir of one series; one that fails leaves its series without exemplars, and says so once."""

    def __init__(
        self, factory: Callable[[Any], Callable[..., Any]], metric: AnyMetric, say: Callable[[str, str], None]
    ) -> None:
        self._name = metric.name
        self._say = say
        self._trouble: str | None = None
        self._made: Any = None
        try:
            self._made = _made(factory, metric)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - the application's own code
            self._fail(error)

    def put(self, put: Callable[..., bool], amount: float, traced: Operation | None = None) -> bool:
        """Put a measurement into the series, and offer it to the reservoir."""
        taken = put(amount)
        if taken and traced is not None and self._made is not None:
            try:
                seen = traced.settled()
                attributes = {key: attribute_value(text) for key, text in seen.attributes}
                self._made.offer(amount, time.time_ns(), attributes, _context(seen))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - as above
                self._fail(error)
        return taken

    def collect(self, labels: Labels, wall_offset_ns: int) -> tuple[Exemplar, ...]:
        """Return the exemplars since this was called last."""
        if self._trouble is not None:
            self._say("reservoir", self._trouble)
            return ()
        try:
            attributes = {key: attribute_value(text) for key, text in labels}
            return tuple(_own(each, wall_offset_ns) for each in self._made.collect(attributes))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            self._fail(error)
            return ()

    def _fail(self, error: BaseException) -> None:
        # Said when it is next read: now the store is locked.
        self._made = None
        self._trouble = (
            f"the exemplar reservoir of {self._name} failed ({describe(error)}): its series have no exemplars"
        )


def _made(factory: Callable[[Any], Callable[..., Any]], metric: AnyMetric) -> Any:
    with importing():
        from opentelemetry.sdk.metrics._internal import aggregation  # noqa: PLC0415 - see above

    build = factory(getattr(aggregation, _AGGREGATIONS[metric.kind]))
    if isinstance(metric, Histogram):
        return build(boundaries=metric.bounds)
    if isinstance(metric, Exponential):
        return build(size=min(_MOST, metric.max_size))
    return build()


def _context(traced: Traced) -> Any:
    """Return a context with the operation, as the SDK has it; the rest is that of the caller."""
    from opentelemetry import trace  # noqa: PLC0415 - see above

    if not traced.trace_id:
        return None
    ids = int(traced.trace_id, 16), int(traced.span_id, 16)
    span = trace.NonRecordingSpan(
        trace.SpanContext(*ids, is_remote=False, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED))
    )
    return trace.set_span_in_context(span)


def _own(exemplar: Any, wall_offset_ns: int) -> Exemplar:
    """Return an exemplar of the SDK as one of ours."""
    trace_id, span_id = exemplar.trace_id, exemplar.span_id
    traced = Traced(
        exemplar.time_unix_nano - wall_offset_ns,
        "" if trace_id is None else format_trace_id(trace_id),
        "" if span_id is None else format_span_id(span_id),
        frozen(exemplar.filtered_attributes or {}),
    )
    return Exemplar(exemplar.value, traced)
