"""Our exponential buckets where the SDK has its own: how numbers find buckets, and how these coarsen."""

from types import SimpleNamespace

from adapters import recording
from opentelemetry.sdk.metrics._internal import aggregation
from opentelemetry.sdk.metrics._internal.exponential_histogram.mapping.exponent_mapping import ExponentMapping
from opentelemetry.sdk.metrics._internal.exponential_histogram.mapping.logarithm_mapping import (
    LogarithmMapping,
)

from otpylib_telemetry.aggregation.exponential import (
    MAX_SCALE,
    ExponentialBuckets,
    bucket_index,
    lower_bound,
)

_Theirs = aggregation._ExponentialBucketHistogramAggregation


class _Counts:
    """The buckets of one sign, as the tests look at them."""

    def __init__(self, counts):
        self._counts = counts
        self.offset = min(counts, default=0)

    def __len__(self):
        return max(self._counts) - self.offset + 1 if self._counts else 0

    def __getitem__(self, place):
        return self._counts.get(self.offset + place, 0)


class Aggregation(_Theirs):
    """Our buckets, made and filled as theirs are."""

    def __init__(
        self, attributes, reservoir_builder, temporality, start, max_size=160, max_scale=MAX_SCALE, **_
    ):
        recording.take_part()
        self._buckets = ExponentialBuckets(max_scale, max_size)

    def aggregate(self, measurement, should_sample_exemplar=True):
        self._buckets.add(measurement.value)

    def __getattr__(self, name):
        buckets = self._buckets
        return {
            "_value_positive": lambda: _Counts(buckets.positive),
            "_value_negative": lambda: _Counts(buckets.negative),
            "_mapping": lambda: SimpleNamespace(scale=buckets.scale, _scale=buckets.scale),
            "_sum": lambda: buckets.sum,
            "_count": lambda: buckets.count,
            "_zero_count": lambda: buckets.zeros,
            "_min": lambda: buckets.least,
            "_max": lambda: buckets.greatest,
        }[name]()


def _map_with_ours(mapping):
    """Have a mapping of theirs find buckets, and their bounds, as ours does."""
    theirs = mapping.get_lower_boundary

    def map_to_index(self, value):
        recording.take_part()
        return bucket_index(value, self.scale)

    def get_lower_boundary(self, index):
        recording.take_part()
        theirs(self, index)  # raises where there is none
        return lower_bound(index, self.scale)

    mapping.map_to_index, mapping.get_lower_boundary = map_to_index, get_lower_boundary


def substitute():
    """Put ours in place of theirs."""
    _map_with_ours(ExponentMapping)
    _map_with_ours(LogarithmMapping)
    aggregation._ExponentialBucketHistogramAggregation = Aggregation
