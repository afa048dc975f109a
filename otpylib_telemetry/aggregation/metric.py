"""A metric: a name, a kind, and its series by their labels, of which there may be only so many.

Part of the series store (``store.py``); who calls anything here holds its lock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter as Tally
from itertools import islice
from typing import TYPE_CHECKING, ClassVar, Final, Generic, Protocol, TypeAlias, TypeVar, cast

from otpylib_telemetry.aggregation.distribution_series import ExponentialSeries, HistogramSeries
from otpylib_telemetry.aggregation.folding import FOLDED, folded_away, fullest
from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.aggregation.number_series import CounterSeries, GaugeSeries, UpDownSeries
from otpylib_telemetry.aggregation.summary_series import SliceClock, SummarySeries

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from otpylib_telemetry.aggregation.metric_spec import MetricSpec
    from otpylib_telemetry.aggregation.series import Exemplar, Labels, Operation


#: The labels of the series that takes what has no series of its own any more, as OpenTelemetry's SDK
#: specification ("Cardinality limits") names it.
OVERFLOW_LABELS: Final[Labels] = (("otel_metric_overflow", "true"),)

#: How many series a summary may have if nobody says otherwise: each has the buckets of several distributions.
MAX_SUMMARY_SERIES: Final = 200

#: Labels named where it is told what fills a metric up.
TOP_LABELS: Final = 3

#: Labels of a metric of which it is remembered that they were folded.
_MAX_FOLDS: Final = 64

#: Series looked at for that.
_LOOKED_AT: Final = 10_000


def is_shared(series: Series, labels: Labels) -> bool:
    """Tell whether a series that was found for labels is the one of other labels, too."""
    return series.labels is OVERFLOW_LABELS or series.labels != labels


class SeriesBudget(Protocol):
    """What a metric needs of the store it is in."""

    max_series: int
    report: Callable[[str], None]
    now_ns: Callable[[], int]
    scrub: Callable[[Labels], Labels] | None

    def make_room(self, metric: AnyMetric) -> bool:
        """Forget series of a full metric that have no claim to their place any more; tells if there were."""

    def moved(self, metric: AnyMetric, merged: Mapping[Series, Sequence[Series]]) -> None:
        """Take notice of series that were made of others, which are the metric's no more."""


class ExemplarSource(Protocol):
    """Chooses the exemplars of one series."""

    def put(self, put: Callable[..., bool], amount: float, traced: Operation | None = None) -> bool:
        """Put a measurement into the series, and take notice of it."""
        ...

    def collect(self, labels: Labels, wall_offset_ns: int) -> tuple[Exemplar, ...]:
        """Return the exemplars since this was called last."""
        ...


Series: TypeAlias = (
    CounterSeries | GaugeSeries | UpDownSeries | HistogramSeries | ExponentialSeries | SummarySeries
)
S = TypeVar("S", CounterSeries, GaugeSeries, UpDownSeries, HistogramSeries, ExponentialSeries, SummarySeries)


class Metric(ABC, Generic[S]):
    """Every series of one name; ``overflow`` takes what comes beyond the limit, and is None until then."""

    kind: ClassVar[Kind]

    def __init__(self, store: SeriesBudget, spec: MetricSpec) -> None:
        self.name = spec.name
        self.description = spec.description
        self.unit = spec.unit
        self.scope = spec.scope
        self.owner = spec.owner
        self.observed = spec.observed
        self.passing = spec.passing
        self.max_series = spec.max_series
        self.extremes = spec.extremes
        self.series: dict[Labels, S] = {}
        self.overflow: S | None = None
        #: Whether labels may be folded, and which are; and which ever were, with how many values they had.
        self.folds = spec.folds
        self.folded: frozenset[str] = frozenset()
        self.ever_folded: dict[str, int] = {}
        #: Where the exemplars of a series come from, if not from the series.
        self.reservoirs: dict[S, ExemplarSource] = {}
        self._store = store
        self._said_full = False

    @abstractmethod
    def _new(self, labels: Labels, born_ns: int) -> S:
        """Return an empty series."""

    @property
    def limit(self) -> int:
        """How many series it may have now."""
        return self._store.max_series if self.max_series is None else self.max_series

    def at(self, labels: Labels) -> S:
        """Return the series with these labels, if need be a new one.

        Where there is no room, the label with the most values is folded: they become one. Only if that does
        not help, it is the overflow series that is returned.
        """
        found = self.series.get(labels)
        if found is not None:
            return found
        store = self._store
        if store.scrub is not None:
            labels = store.scrub(labels)
            found = self.series.get(labels)
            if found is not None:
                return found
        while True:
            if self.folded:
                labels = folded_away(labels, self.folded)
                found = self.series.get(labels)
                if found is not None:
                    return found
            if len(self.series) < self.limit or store.make_room(cast("AnyMetric", self)):
                found = self.series[labels] = self._new(labels, store.now_ns())
                return found
            if self.overflow is not None or not self._fold(labels):
                return self._beyond()

    def as_folded(self, labels: Labels) -> Labels:
        """Return labels as a series has them now."""
        if self._store.scrub is not None:
            labels = self._store.scrub(labels)
        return folded_away(labels, self.folded) if self.folded else labels

    def scrub(self, scrub: Callable[[Labels], Labels]) -> None:
        """Take secrets out of the labels there are; series that differ in nothing else become one.

        Exemplars, which have attributes of their own, are forgotten.
        """
        if any(scrub(labels) != labels for labels in self.series):
            self._regroup(scrub)
        for series in self.all_series():
            for name in ("exemplar", "exemplars"):
                if getattr(series, name, None) is not None:
                    setattr(series, name, None)

    def _fold(self, labels: Labels) -> bool:
        """Make one of the values of the label that has most; tells whether there is such a label."""
        if not self.folds:
            return False
        found = fullest([labels, *self.series], self.folded)
        if found is None:
            return False
        name, count = found
        self.folded |= {name}
        if name in self.ever_folded or len(self.ever_folded) < _MAX_FOLDS:
            if name not in self.ever_folded:
                self._store.report(self._told_folded(name, count))
            self.ever_folded[name] = count
        self._regroup(lambda present: folded_away(present, self.folded))
        return True

    def _regroup(self, wanted_of: Callable[[Labels], Labels]) -> None:
        """Make one of the series that have the same labels by a rule."""
        groups: dict[Labels, list[S]] = {}
        for present, series in self.series.items():
            groups.setdefault(wanted_of(present), []).append(series)
        merged: dict[Series, Sequence[Series]] = {}
        for wanted, parts in groups.items():
            whole = self.series.get(wanted)
            others = [one for one in parts if one is not whole]
            if others:
                born_ns = min(one.born_ns for one in parts)
                if whole is None:
                    whole = self._new(wanted, born_ns)
                whole.born_ns = born_ns
                for one in others:
                    whole.absorb(one)
                    del self.series[one.labels]
                self.series[wanted] = whole
                merged[whole] = others
        self._store.moved(cast("AnyMetric", self), merged)

    def unfold(self) -> None:
        """Give labels that were folded values of their own again; what was folded remains so."""
        self.folded = frozenset()

    def unfold_gone(self) -> None:
        """Unfold the labels of which no series is left that was folded."""
        if self.folded:
            self.folded = frozenset(
                name for labels in self.series for name, value in labels if value == FOLDED
            ).intersection(self.folded)

    def _beyond(self) -> S:
        if self.overflow is None:
            self.overflow = self._new(OVERFLOW_LABELS, self._store.now_ns())
            if not self._said_full:
                self._said_full = True
                self._store.report(self._full())
        return self.overflow

    def _told_folded(self, name: str, count: int) -> str:
        shown = (
            "; of a gauge that is the last number of all, not their sum" if self.kind is Kind.GAUGE else ""
        )
        return (
            f"metric {self.name} has reached its limit of {self.limit} series (max_series): its label "
            f'{name}, which has most values ({count}), is folded. It has the one value "{FOLDED}" from now '
            f"on{shown}; the other labels stay as they are. To settle it for good, leave the label out with "
            f"drop_labels, or name those you want with labels (of a definition: tags; of a view: "
            f"attribute_keys), or raise max_series; this is said once for each label"
        )

    def _full(self) -> str:
        most = ", ".join(f"{name} ({count} values)" for name, count in self.most_values())
        return (
            f"metric {self.name} has reached its limit of {len(self.series)} series (max_series): what "
            f'has other labels is added to one series labelled otel_metric_overflow="true" from now on. '
            f"A label with ever new values does this (most have: {most or 'none'}); drop_labels leaves "
            f"it out"
        )

    def most_values(self, top: int = TOP_LABELS) -> list[tuple[str, int]]:
        """Return the labels with the most different values, and how many these are.

        The first ten thousand series tell that; there may be a hundred times as many.
        """
        pairs = {pair for labels in islice(self.series, _LOOKED_AT) for pair in labels}
        return sorted(Tally(name for name, _ in pairs).items(), key=lambda found: (-found[1], found[0]))[:top]

    def all_series(self) -> list[S]:
        """Return every series there is at this moment, the overflow series last."""
        present = list(self.series.values())
        if self.overflow is not None:
            present.append(self.overflow)
        return present

    def restart(self) -> None:
        """Forget every series."""
        self.series = {}
        self.overflow = None
        self.unfold()
        self.ever_folded.clear()


class Counter(Metric[CounterSeries]):
    """A metric whose series only ever rise."""

    kind = Kind.COUNTER
    _new = CounterSeries


class Gauge(Metric[GaugeSeries]):
    """A metric whose series are set."""

    kind = Kind.GAUGE
    _new = GaugeSeries

    def __init__(self, store: SeriesBudget, spec: MetricSpec) -> None:
        super().__init__(store, spec)
        self.multiprocess_mode = spec.multiprocess_mode


class UpDown(Metric[UpDownSeries]):
    """A metric whose series rise and fall."""

    kind = Kind.UP_DOWN
    _new = UpDownSeries


class Histogram(Metric[HistogramSeries]):
    """A metric whose series are distributions over explicit buckets."""

    kind = Kind.HISTOGRAM

    def __init__(self, store: SeriesBudget, spec: MetricSpec) -> None:
        super().__init__(store, spec)
        self.bounds = spec.bounds

    def _new(self, labels: Labels, born_ns: int) -> HistogramSeries:
        return HistogramSeries(labels, self.bounds, born_ns)


class Exponential(Metric[ExponentialSeries]):
    """A metric whose series are distributions over exponential buckets."""

    kind = Kind.EXPONENTIAL

    def __init__(self, store: SeriesBudget, spec: MetricSpec) -> None:
        super().__init__(store, spec)
        self.scale = spec.scale
        self.max_size = spec.max_size

    def _new(self, labels: Labels, born_ns: int) -> ExponentialSeries:
        return ExponentialSeries(labels, self.scale, self.max_size, born_ns)


class Summary(Metric[SummarySeries]):
    """A metric whose series tell quantiles."""

    kind = Kind.SUMMARY

    def __init__(self, store: SeriesBudget, spec: MetricSpec) -> None:
        super().__init__(store, spec)
        if spec.shape is None:
            raise ValueError(f"summary {spec.name} has no shape")
        self.shape = shape = spec.shape
        self._clock = SliceClock()
        self._clock.slice = store.now_ns() // shape.slice_ns

    @property
    def slice(self) -> int:
        """Which slice of time has begun. Quantiles change with it and with observations, else never."""
        return self._clock.slice

    @property
    def limit(self) -> int:
        """How many series it may have now: by default no more than :data:`MAX_SUMMARY_SERIES`."""
        if self.max_series is not None:
            return self.max_series
        return min(self._store.max_series, MAX_SUMMARY_SERIES)

    def _new(self, labels: Labels, born_ns: int) -> SummarySeries:
        shape = self.shape
        return SummarySeries(labels, shape.scale, shape.max_size, shape.slices, born_ns, self._clock)

    def advance(self, now_ns: int) -> None:
        """Let time go on: what is too old no longer counts for the quantiles.

        No series is touched: each looks at the time when it is next observed or read.
        """
        self._clock.slice = max(self._clock.slice, now_ns // self.shape.slice_ns)


AnyMetric: TypeAlias = Counter | Gauge | UpDown | Histogram | Exponential | Summary

CLASSES: Final[Mapping[Kind, type[AnyMetric]]] = {
    Kind.COUNTER: Counter,
    Kind.GAUGE: Gauge,
    Kind.UP_DOWN: UpDown,
    Kind.HISTOGRAM: Histogram,
    Kind.EXPONENTIAL: Exponential,
    Kind.SUMMARY: Summary,
}
