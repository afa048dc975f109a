"""The numbers of one worker, written where the other workers can read them.

A store is written as a whole or by what has changed since it was written last; never sample by sample. What
is written are prometheus_client's entries, one double each.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii as _json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from otpylib_telemetry.aggregation.distribution_series import ExponentialSeries, HistogramSeries
from otpylib_telemetry.aggregation.metric import Counter, Exponential, Gauge, Histogram, UpDown
from otpylib_telemetry.aggregation.number_series import GaugeSeries
from otpylib_telemetry.aggregation.summary_series import SummarySeries
from otpylib_telemetry.metrics.labels import number_text
from otpylib_telemetry.metrics.names import metric_name
from otpylib_telemetry.metrics.options import MULTIPROCESS_MODES
from otpylib_telemetry_prometheus.exposition.labels_text import beside, common_labels, renamed_again
from otpylib_telemetry_prometheus.exposition.power_bounds import PowerBounds
from otpylib_telemetry_prometheus.multiprocess.files import POWERS, histogram_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from otpylib_telemetry.aggregation.metric import AnyMetric, Series
    from otpylib_telemetry.aggregation.series import Labels
    from otpylib_telemetry.aggregation.store import SeriesStore
    from otpylib_telemetry_prometheus.multiprocess.number_files import NumberFiles


#: Series that are read in one go: about a millisecond, for which nobody else can write to the store.
_SLICE: Final = 500


class Look:
    """How metrics are called outside the process."""

    def __init__(
        self,
        namespace: str = "",
        global_labels: Mapping[str, Any] = MappingProxyType({}),
        modes: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._prefix = f"{metric_name(namespace)}_" if namespace else ""
        self._global = common_labels(global_labels)
        self._modes = dict(modes)

    def name(self, metric: AnyMetric) -> str:
        """Return the name of a metric; that of a counter without ``_total``, as prometheus_client has it."""
        name = self._prefix + metric.name
        return name.removesuffix("_total") if isinstance(metric, Counter) else name

    def mode(self, metric: AnyMetric) -> str:
        """Return the mode of a gauge."""
        for name in (metric.name, self._prefix + metric.name):
            if name in self._modes:
                return self._modes[name]
        if not isinstance(metric, Gauge):
            # It counts what is there, in every worker its own; what was there in a dead one is there no more.
            return "livesum"
        # It tells how something is: whoever looked last knows best.
        return metric.multiprocess_mode if metric.multiprocess_mode in MULTIPROCESS_MODES else "mostrecent"

    def labels(self, labels: Labels, *, gauge: bool) -> dict[str, str]:
        """Return the labels of a series."""
        taken = {*self._global, "pid"} if gauge else {*self._global}
        return beside(labels, taken) | self._global


@dataclass(slots=True, eq=False)
class _Slot:
    """What was written of one series.

    Attributes:
        prefix: The beginning of the name of the file it is in.
        keys: The keys of its numbers.
        last: The numbers, in the same order; None if they have to be written again.
        bucket_key: Makes the key of a bucket of its upper bound.
        places: Where among the keys the buckets are, of a series that gets new ones.
        reached: How many observations were at most as great as a bound, when that was told last, of such a
            series.
    """

    prefix: str
    keys: list[str]
    bucket_key: Callable[[float], str]
    last: list[float] | None = None
    places: dict[float, int] = field(default_factory=dict)
    reached: dict[float, int] = field(default_factory=dict)


class _Keys:
    """Makes the keys of one series as prometheus_client's ``mmap_key`` does, in a tenth of the time."""

    def __init__(self, name: str, labels: Mapping[str, str], description: str) -> None:
        pairs = {label: f"{_json(label)}: {_json(text)}" for label, text in labels.items()}
        before = [pairs[label] for label in sorted(pairs) if label < "le"]
        after = [pairs[label] for label in sorted(pairs) if label > "le"]
        self._name = name
        self._labels = ", ".join([*before, *after])
        self._before = "".join(f"{pair}, " for pair in before)
        self._after = "".join(f", {pair}" for pair in after)
        self._end = f"}}, {_json(description)}]"

    def of(self, suffix: str) -> str:
        """Return the key of the sample whose name ends in ``suffix``."""
        return f"[{_json(self._name)}, {_json(self._name + suffix)}, {{{self._labels}{self._end}"

    def of_bucket(self, bound: float) -> str:
        """Return the key of a bucket."""
        start = f"[{_json(self._name)}, {_json(self._name + '_bucket')}, {{{self._before}"
        return f'{start}"le": "{number_text(bound)}"{self._after}{self._end}'


FilesT = TypeVar("FilesT", bound="NumberFiles")


class StoreWriter(Generic[FilesT]):
    """Writes what changes in a store into the files of a worker."""

    def __init__(self, look: Look, files: FilesT, times: dict[Series, float]) -> None:
        self.files = files
        self.generation = -1
        self._look = look
        self._times = times
        self._slots: dict[Series, _Slot] = {}
        self._taken: dict[str, dict[str, Labels]] = {}
        self._bounds: weakref.WeakKeyDictionary[AnyMetric, PowerBounds] = weakref.WeakKeyDictionary()

    def succeed(self, previous: StoreWriter[FilesT]) -> None:
        """Take over what another one knows about series, for the same look and other files."""
        self._slots, self._taken, self._bounds = previous._slots, previous._taken, previous._bounds
        for slot in self._slots.values():
            slot.last = None

    def write(self, store: SeriesStore, now: float) -> int:
        """Write what has changed."""
        before = self.files.samples
        with store.lock:
            self.generation = store.generation
            # At once: a change of definitions in between must not leave out both the old and the new metric.
            listed: list[tuple[AnyMetric, list[Any]]] = [
                (metric, metric.all_series()) for metric in store.metrics
            ]
        everything: set[Series] = set()
        for metric, present in listed:
            everything.update(present)
            for start in range(0, len(present), _SLICE):
                with store.lock:
                    changes = [*self._changes(metric, present[start : start + _SLICE], now)]
                for slot, numbers, timestamp in changes:
                    self._put(slot, numbers, timestamp)
        if len(self._slots) > len(everything):
            self._slots = {series: slot for series, slot in self._slots.items() if series in everything}
            for gone in self._times.keys() - everything:
                del self._times[gone]
            self._taken = {}
        self.files.flush()
        return self.files.samples - before

    def _changes(
        self, metric: AnyMetric, present: list[Any], now: float
    ) -> Iterator[tuple[_Slot, list[float], float]]:
        slots = self._slots
        for series in present:
            slot = slots.get(series)
            if slot is None:
                slot = slots[series] = self._slot(metric, series)
            numbers: list[float] | None
            timestamp = 0.0
            if isinstance(series, HistogramSeries):
                numbers = [series.sum, *series.counts]
            elif isinstance(series, SummarySeries):
                # Both are worked out anew each time, which takes a while.
                same = slot.last is not None and slot.last[0] == series.count
                numbers = slot.last if same else [series.count, series.sum]
            elif isinstance(series, ExponentialSeries):
                same = slot.last is not None and sum(slot.last[1:]) == series.count
                numbers = slot.last if same else _exponential(slot, series, self._bounds_of(metric))
            else:
                numbers = [series.value]
                if isinstance(series, GaugeSeries) and "mostrecent" in slot.prefix:
                    timestamp = self._time(slot, series, now)
            if numbers is not None and numbers != slot.last:
                yield slot, numbers, timestamp

    def _time(self, slot: _Slot, series: GaugeSeries, now: float) -> float:
        """Return when a gauge was set, as exactly as it is written; one set again has to be written again."""
        if series.fresh or series not in self._times:
            series.fresh = False
            self._times[series] = now
            slot.last = None
        return self._times[series]

    def _put(self, slot: _Slot, numbers: list[float], timestamp: float) -> None:
        last, slot.last = slot.last, None
        for index, number in enumerate(numbers):
            if last is None or index >= len(last) or last[index] != number:
                self.files.write(slot.prefix, slot.keys[index], _double(number), timestamp)
        slot.last = numbers

    def _bounds_of(self, metric: AnyMetric) -> PowerBounds:
        found = self._bounds.get(metric)
        if found is None:
            found = self._bounds[metric] = PowerBounds()
        return found

    def _slot(self, metric: AnyMetric, series: Any) -> _Slot:
        gauge = isinstance(metric, Gauge | UpDown)
        labels = self._distinct(metric, series.labels, gauge=gauge)
        keys = _Keys(self._look.name(metric), labels, metric.description)
        if isinstance(metric, Histogram | Exponential):
            if not isinstance(series, HistogramSeries):
                return _Slot(POWERS, [keys.of("_sum")], keys.of_bucket)
            bounds = [*map(float, series.bounds), math.inf]
            every = [keys.of("_sum"), *map(keys.of_bucket, bounds)]
            return _Slot(histogram_prefix(series.bounds), every, keys.of_bucket)
        if gauge:
            return _Slot(f"gauge_{self._look.mode(metric)}", [keys.of("")], keys.of_bucket)
        if isinstance(metric, Counter):
            return _Slot("counter", [keys.of("_total")], keys.of_bucket)
        return _Slot("summary", [keys.of("_count"), keys.of("_sum")], keys.of_bucket)

    def _distinct(self, metric: AnyMetric, labels: Labels, *, gauge: bool) -> dict[str, str]:
        """Return the labels of a series, renamed once more where renaming made them those of another."""
        found = self._look.labels(labels, gauge=gauge)
        taken = self._taken.setdefault(metric.name, {})
        while taken.get(text := repr(sorted(found.items())), labels) != labels:
            again = renamed_again(found)
            if again == found:
                break
            found = again
        taken[text] = labels
        return found


def _double(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # an integer that no float can hold
        return math.inf


def _exponential(slot: _Slot, series: ExponentialSeries, bounds: PowerBounds) -> list[float]:
    """Return sum and counts of a series with exponential buckets; the slot gets keys for new buckets.

    prometheus_client's files have explicit buckets only: those between powers of two, as on the page of one
    process. What bounds the other series have, in this worker and in others, whoever reads sees to.
    """
    bounds.cover(series.buckets)
    reached = slot.reached
    reached.update((bound, count) for bound, _, count in bounds.cumulated(series.buckets))
    numbers: list[float] = [0] * len(slot.keys)
    numbers[0] = series.sum
    passed = 0
    for bound in sorted(reached):
        if bound not in slot.places:
            slot.places[bound] = len(slot.keys)
            slot.keys.append(slot.bucket_key(bound))
            numbers.append(0)
        # A bound that lies within a bucket by now is told no more. What it counted before holds all the same.
        numbers[slot.places[bound]] = max(0, reached[bound] - passed)
        passed = max(passed, reached[bound])
    return numbers
