"""What producers tell as totals, told as differences where the backend wants these.

A producer gives OpenTelemetry's own objects, of whichever temporality it has. Of a monotonic sum and of a
histogram with explicit buckets the difference to the total told before is exact, so it is made here. What
else there is leaves as it came: a gauge and a sum that may fall have no deltas that a backend could want
(the table of ``OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`` keeps these cumulative), an exponential
histogram may have changed its resolution, and what is a delta already is left alone.

Rules: OpenTelemetry's metrics data model, "Resets and Gaps". The first total of a stream is told whole. A
stream that says it began later than before, or that has fallen, has begun anew, and is told whole again.

Needs no package of OpenTelemetry: copies are made of the objects there are. The clock comes in as argument.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib_telemetry.aggregation.points import MetricPoint, Temporality

if TYPE_CHECKING:
    from collections.abc import Sequence


#: Nanoseconds a stream that is not told of any more is remembered. Should it come back after that, its whole
#: total counts as new.
_REMEMBERED_NS: Final = 24 * 3600 * 1_000_000_000

#: How many streams there are at least before one looks for those that can be forgotten.
_MANY: Final = 1_000


class _Last(NamedTuple):
    """What was told of a stream."""

    point: Any
    seen_ns: int


class Deltas:
    """The memory of what was told of each stream of any producer; belongs to an exporter's name."""

    def __init__(self) -> None:
        self._last: dict[Any, _Last] = {}
        self._forget_at = _MANY

    def __len__(self) -> int:
        return len(self._last)

    def convert(self, points: Sequence[MetricPoint], now_ns: int) -> list[MetricPoint]:
        """Return points as deltas where there are any; those that say nothing new are left out."""
        told: list[MetricPoint] = []
        streams: dict[int, Any] = {}
        for one in points:
            if not _is_total(one.stream.metric.data):
                told.append(one)
                continue
            key = _key(one)
            last = self._last.get(key)
            self._last[key] = _Last(one.point, now_ns)
            rest = one.point if last is None else _difference(one.point, last.point)
            if rest is not None:
                stream = streams.get(id(one.stream))
                if stream is None:
                    stream = streams[id(one.stream)] = _as_delta(one.stream)
                told.append(MetricPoint(stream, one.labels, rest, one.wall_offset_ns))
        self._forget(now_ns)
        return told

    def _forget(self, now_ns: int) -> None:
        """Let go of streams that have not been told of for long; looked for as their number doubles."""
        if len(self._last) < self._forget_at:
            return
        self._last = {key: last for key, last in self._last.items() if now_ns - last.seen_ns < _REMEMBERED_NS}
        self._forget_at = max(_MANY, 2 * len(self._last))


def _is_total(data: Any) -> bool:
    """Tell whether data are totals whose differences can be told."""
    temporality = getattr(data, "aggregation_temporality", None)
    if getattr(temporality, "value", None) != Temporality.CUMULATIVE.value:
        return False
    if hasattr(data, "is_monotonic"):
        return bool(data.is_monotonic)
    return all(hasattr(point, "explicit_bounds") for point in data.data_points)


def _as_delta(stream: Any) -> Any:
    """Return what the points stand in, said to be deltas."""
    data = stream.metric.data
    delta = type(data.aggregation_temporality)(Temporality.DELTA.value)
    metric = replace(stream.metric, data=replace(data, aggregation_temporality=delta))
    return type(stream)(stream.resource, stream.scope, stream.schema_url, metric)


def _key(one: MetricPoint) -> Any:
    stream = one.stream
    scope, metric = stream.scope, stream.metric
    resource = None if stream.resource is None else _attributes(stream.resource.attributes)
    return (
        resource,
        (scope.name, scope.version, _attributes(scope.attributes)) if scope is not None else None,
        (metric.name, metric.unit, hasattr(metric.data, "is_monotonic")),
        _attributes(one.point.attributes),
    )


def _attributes(attributes: Any) -> tuple[tuple[str, str], ...]:
    # By their representation: values may be lists, and 1, 1.0 and True are three values to OpenTelemetry.
    return tuple(sorted((str(key), repr(value)) for key, value in (attributes or {}).items()))


def _difference(point: Any, last: Any) -> Any:
    """Return what a total says beyond an earlier one; None if that is nothing."""
    start_ns, began_ns = point.start_time_unix_nano or 0, last.start_time_unix_nano or 0
    at_ns = last.time_unix_nano
    exemplars = [one for one in point.exemplars or () if one.time_unix_nano > at_ns]
    if start_ns > began_ns > 0 or _has_fallen(point, last):
        # Begun anew, at the earliest when it was last told of.
        return replace(point, start_time_unix_nano=max(start_ns, at_ns), exemplars=exemplars)
    changes: dict[str, Any] = {"start_time_unix_nano": at_ns, "exemplars": exemplars}
    if not hasattr(point, "bucket_counts"):
        if not point.value > last.value:
            return None
        return replace(point, value=point.value - last.value, **changes)
    if point.count == last.count:
        return None
    counts = [now - before for now, before in zip(point.bucket_counts, last.bucket_counts, strict=True)]
    # Which observations were the extremes of this part alone is not known.
    changes |= {"bucket_counts": counts, "count": point.count - last.count, "min": None, "max": None}
    return replace(point, sum=point.sum - last.sum, **changes)


def _has_fallen(point: Any, last: Any) -> bool:
    if not hasattr(point, "bucket_counts"):
        return bool(point.value < last.value)
    return bool(
        point.count < last.count
        or list(point.explicit_bounds) != list(last.explicit_bounds)
        or len(point.bucket_counts) != len(last.bucket_counts)
        or any(now < before for now, before in zip(point.bucket_counts, last.bucket_counts, strict=True))
    )
