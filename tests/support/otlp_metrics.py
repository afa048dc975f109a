"""What an OTLP receiver makes of metrics: points, and a reference that adds up what it was told."""

from collections import defaultdict

from otpylib_telemetry_mock.otlp_receiver.received import points_in

DELTA, CUMULATIVE = 1, 2


def points_at(receiver):
    """The points a receiver took, in order."""
    return [
        point
        for request in receiver.taken
        if request.signal == "metrics"
        for point in points_in(request.message)
    ]


class Reference:
    """A backend that knows nothing but what it is told, and complains of what must not be.

    Deltas are added up, one after the other without overlap; of a cumulative stream the last value counts.
    """

    def __init__(self):
        self.totals = {}
        self.buckets = {}
        self._ends = defaultdict(int)
        self._starts = {}

    def take(self, points):
        for told in points:
            point, key = told.point, told.key
            assert told.form == "gauge" or 0 < point.start_time_unix_nano <= point.time_unix_nano, told
            if told.temporality == DELTA:
                assert point.start_time_unix_nano >= self._ends[key], f"{key}: two deltas overlap"
                self.totals[key] = _plus(self.totals.get(key), told.value)
                if told.form == "histogram":
                    before = self.buckets.get(key) or [0] * len(point.bucket_counts)
                    self.buckets[key] = [a + b for a, b in zip(before, point.bucket_counts, strict=True)]
            else:
                start, before = self._starts.get(key, (0, None))
                if before is not None and start == point.start_time_unix_nano and told.form == "sum":
                    monotonic = told.name.endswith("total")
                    assert not monotonic or told.value >= before, f"{key}: a cumulative sum fell"
                self._starts[key] = (point.start_time_unix_nano, told.value)
                self.totals[key] = told.value
                if told.form == "histogram":
                    self.buckets[key] = list(point.bucket_counts)
            self._ends[key] = point.time_unix_nano
        return self


def _plus(before, value):
    if before is None:
        return value
    return (
        tuple(a + b for a, b in zip(before, value, strict=True))
        if isinstance(value, tuple)
        else before + value
    )
