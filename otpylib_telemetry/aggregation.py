"""The series store: measurements are added up as they come, and whoever exports reads the sums.

Nothing here knows where the numbers come from or in which format they leave: a metric has a name, a kind and
series; a series has labels. Names and labels arrive in their final form. Memory depends on how many series
there are, never on how many measurements were made or on how long nobody has read them.

Pure: no clock, no thread, no I/O. One thread writes.
"""

from __future__ import annotations

import enum
import sys
from abc import ABC, abstractmethod
from bisect import bisect_left
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "FLOAT_MAX",
    "OVERFLOW_LABELS",
    "Counter",
    "CounterSeries",
    "Gauge",
    "GaugeSeries",
    "Histogram",
    "HistogramSeries",
    "Kind",
    "Labels",
    "Metric",
    "MetricRefusedError",
    "Series",
    "SeriesStore",
]

#: Pairs of label name and label value, in the order of the names.
Labels: TypeAlias = tuple[tuple[str, str], ...]

#: The largest finite float. Comparing with it refuses NaN, the infinities and the integers no float can hold
#: in one step.
FLOAT_MAX: Final = sys.float_info.max

#: The labels of the series that takes what has no series of its own any more, as OpenTelemetry's SDK
#: specification ("Cardinality limits") names it.
OVERFLOW_LABELS: Final[Labels] = (("otel_metric_overflow", "true"),)

#: Applications have hundreds of metrics; one that makes names from data is stopped here.
_MAX_METRICS: Final = 10_000

#: How many refused names are remembered, so that each is reported once.
_MAX_REFUSALS: Final = 1_000


class Kind(enum.Enum):
    """What the numbers of a metric mean."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class MetricRefusedError(Exception):
    """A metric cannot be added to the store; the message says why, for a person to read."""


class CounterSeries:
    """A sum that never falls.

    Args:
        labels: Its labels.
    """

    __slots__ = ("labels", "value")

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.value: float = 0

    def add(self, amount: float) -> bool:
        """Add to the sum; integers are added exactly.

        Args:
            amount: How much.

        Returns:
            False if the amount was refused: it is negative or not finite, or the sum would not be finite.
        """
        if amount >= 0:
            try:
                total = self.value + amount
            except OverflowError:  # an integer beyond every float, on a sum that is a float
                return False
            if total <= FLOAT_MAX:
                self.value = total
                return True
        return False


class GaugeSeries:
    """A number that is what it was last set to.

    Args:
        labels: Its labels.
    """

    __slots__ = ("labels", "value")

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.value: float = 0

    def set(self, value: float) -> bool:
        """Set it.

        Args:
            value: What it is now.

        Returns:
            False if the value was refused because it is not finite.
        """
        if -FLOAT_MAX <= value <= FLOAT_MAX:
            self.value = value
            return True
        return False

    def add(self, amount: float) -> bool:
        """Move it.

        Args:
            amount: By how much, negative to lower it.

        Returns:
            False if the amount was refused: it is not finite, or the gauge would not be.
        """
        try:
            total = self.value + amount
        except OverflowError:  # an integer beyond every float
            return False
        if -FLOAT_MAX <= total <= FLOAT_MAX:
            self.value = total
            return True
        return False


class HistogramSeries:
    """How many observations fell into each bucket, and their sum.

    Args:
        labels: Its labels.
        bounds: Upper bounds of the buckets, inclusive, ascending; above the last there is one bucket more.

    Attributes:
        counts: Observations per bucket, each bucket by itself (not cumulated).
        sum: Sum of the observations. Each addition rounds once, as IEEE 754 does.
    """

    __slots__ = ("bounds", "counts", "labels", "sum")

    def __init__(self, labels: Labels, bounds: tuple[float, ...]) -> None:
        self.labels = labels
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum: float = 0.0

    @property
    def count(self) -> int:
        """How many observations there were."""
        return sum(self.counts)

    def observe(self, value: float) -> bool:
        """Add an observation.

        Args:
            value: What was observed.

        Returns:
            False if it was refused: it is not finite, or the sum would not be.
        """
        try:
            total = self.sum + value
        except OverflowError:  # an integer beyond every float
            return False
        # NaN and the infinities make a sum that lies outside as well: one comparison sees to all of them.
        if -FLOAT_MAX <= total <= FLOAT_MAX:
            self.counts[bisect_left(self.bounds, value)] += 1
            self.sum = total
            return True
        return False


Series: TypeAlias = CounterSeries | GaugeSeries | HistogramSeries

S = TypeVar("S", CounterSeries, GaugeSeries, HistogramSeries)


class Metric(ABC, Generic[S]):
    """Every series of one name.

    Args:
        store: The store it belongs to, whose ``max_series`` it obeys.
        name: Its name.
        description: What it says, for a person to read.
        unit: Unit of its values; empty if they have none.

    Attributes:
        series: The series by their labels, without the overflow series.
        overflow: The series that takes what comes beyond ``max_series``; None as long as nothing has.
    """

    kind: ClassVar[Kind]

    def __init__(self, store: SeriesStore, name: str, description: str, unit: str) -> None:
        self.name = name
        self.description = description
        self.unit = unit
        self.series: dict[Labels, S] = {}
        self.overflow: S | None = None
        self._store = store

    @abstractmethod
    def _new(self, labels: Labels) -> S:
        """Return an empty series."""

    def at(self, labels: Labels) -> S:
        """Return the series with these labels, a new one if need be.

        Args:
            labels: The labels, in the order of their names.

        Returns:
            The series; the overflow series if there is none yet and no room for one more.
        """
        found = self.series.get(labels)
        if found is not None:
            return found
        if len(self.series) < self._store.max_series:
            found = self.series[labels] = self._new(labels)
            return found
        if self.overflow is None:
            self.overflow = self._new(OVERFLOW_LABELS)
            self._store.report(
                f"metric {self.name} has reached its limit of {len(self.series)} series (max_series): what "
                f'has other labels is added to one series labelled otel_metric_overflow="true" from now on. '
                f"A label with ever new values does this; drop_labels leaves it out"
            )
        return self.overflow

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


class Counter(Metric[CounterSeries]):
    """A metric whose series only ever rise."""

    kind = Kind.COUNTER

    def _new(self, labels: Labels) -> CounterSeries:
        return CounterSeries(labels)


class Gauge(Metric[GaugeSeries]):
    """A metric whose series are set."""

    kind = Kind.GAUGE

    def _new(self, labels: Labels) -> GaugeSeries:
        return GaugeSeries(labels)


class Histogram(Metric[HistogramSeries]):
    """A metric whose series are distributions over explicit buckets.

    Args:
        store: As for :class:`Metric`.
        name: As for :class:`Metric`.
        description: As for :class:`Metric`.
        unit: As for :class:`Metric`.
        bounds: Upper bounds of the buckets, inclusive, ascending.
    """

    kind = Kind.HISTOGRAM

    def __init__(
        self, store: SeriesStore, name: str, description: str, unit: str, bounds: tuple[float, ...]
    ) -> None:
        super().__init__(store, name, description, unit)
        self.bounds = bounds

    def _new(self, labels: Labels) -> HistogramSeries:
        return HistogramSeries(labels, self.bounds)


M = TypeVar("M", Counter, Gauge, Histogram)


class SeriesStore:
    """All metrics of one exporter.

    Args:
        max_series: How many series a metric may have; the overflow series comes on top.
        max_metrics: How many metrics there may be.
        report: Called with a sentence for a person, once for each name that is refused and each metric that
            overflows.

    Attributes:
        max_series: As above; may be changed at any time. Series that exist stay.
        generation: Grows whenever series have gone or have been replaced: references to series that were kept
            outside the store are stale then.
        refused: Samples that were not taken, by reason.
        refusals: Names of metrics that were refused, with the reason.
    """

    def __init__(
        self,
        max_series: int,
        max_metrics: int = _MAX_METRICS,
        report: Callable[[str], None] = lambda _message: None,
    ) -> None:
        self.max_series = max_series
        self.max_metrics = max_metrics
        self.report = report
        self.generation = 0
        self.refused: dict[str, int] = {}
        self.refusals: dict[str, str] = {}
        self._metrics: dict[str, Counter | Gauge | Histogram] = {}
        self._claims: dict[str, str] = {}

    @property
    def metrics(self) -> list[Counter | Gauge | Histogram]:
        """The metrics, in the order of their names."""
        return [self._metrics[name] for name in sorted(self._metrics)]

    def __len__(self) -> int:
        return len(self._metrics)

    def series_count(self) -> int:
        """How many series there are altogether."""
        return sum(len(metric.series) + (metric.overflow is not None) for metric in self._metrics.values())

    def overflowing(self) -> list[str]:
        """Names of the metrics that have reached ``max_series``."""
        return [metric.name for metric in self.metrics if metric.overflow is not None]

    def counter(self, name: str, description: str, unit: str = "", claims: Iterable[str] = ()) -> Counter:
        """Return the counter of this name, a new one if need be.

        Args:
            name: Its name.
            description: What it says; that of the first call stays.
            unit: Unit of its values.
            claims: Further names nothing else may use, because the format it leaves in needs them.

        Raises:
            MetricRefusedError: Something else has the name, or claims it, or there are too many metrics.
        """
        return self._declare(Counter, name, claims, lambda: Counter(self, name, description, unit))

    def gauge(self, name: str, description: str, unit: str = "", claims: Iterable[str] = ()) -> Gauge:
        """Return the gauge of this name, a new one if need be.

        Args:
            name: Its name.
            description: What it says; that of the first call stays.
            unit: Unit of its values.
            claims: Further names nothing else may use.

        Raises:
            MetricRefusedError: As for :meth:`counter`.
        """
        return self._declare(Gauge, name, claims, lambda: Gauge(self, name, description, unit))

    def histogram(
        self,
        name: str,
        description: str,
        bounds: Sequence[float],
        unit: str = "",
        claims: Iterable[str] = (),
    ) -> Histogram:
        """Return the histogram of this name, a new one if need be.

        Args:
            name: Its name.
            description: What it says; that of the first call stays.
            bounds: Upper bounds of its buckets, inclusive, ascending; those of the first call stay, until
                :meth:`rebucket`.
            unit: Unit of its values.
            claims: Further names nothing else may use.

        Raises:
            MetricRefusedError: As for :meth:`counter`.
        """
        return self._declare(
            Histogram, name, claims, lambda: Histogram(self, name, description, unit, tuple(bounds))
        )

    def rebucket(self, bounds: Sequence[float], metrics: Iterable[Histogram] | None = None) -> int:
        """Give histograms other buckets. They start again: counts cannot be moved between buckets.

        Args:
            bounds: Upper bounds, inclusive, ascending.
            metrics: Which histograms; all of them if None. Those that have these bounds already go on.

        Returns:
            How many histograms were restarted.
        """
        wanted = tuple(bounds)
        every = [metric for metric in self._metrics.values() if isinstance(metric, Histogram)]
        affected = [metric for metric in (every if metrics is None else metrics) if metric.bounds != wanted]
        for metric in affected:
            metric.bounds = wanted
            metric.restart()
        self.generation += bool(affected)
        return len(affected)

    def remove(self, name: str, labels: Labels | None = None) -> bool:
        """Forget a metric, or one of its series.

        Args:
            name: The name of the metric.
            labels: The labels of the series; None for the metric, all its series and the names
                it claims.

        Returns:
            Whether there was such a thing.
        """
        metric = self._metrics.get(name)
        if metric is None or (labels is not None and labels not in metric.series):
            return False
        if labels is not None:
            del metric.series[labels]
        else:
            metric.restart()
            del self._metrics[name]
            self._claims = {claim: owner for claim, owner in self._claims.items() if owner != name}
        self.generation += 1
        return True

    def refuse(self, reason: str, samples: int = 1) -> None:
        """Count samples that were not taken.

        Args:
            reason: Why, in a few fixed words: reasons are kept for ever.
            samples: How many.
        """
        self.refused[reason] = self.refused.get(reason, 0) + samples

    def _declare(self, kind: type[M], name: str, claims: Iterable[str], new: Callable[[], M]) -> M:
        present = self._metrics.get(name)
        if isinstance(present, kind):
            return present
        names = (name, *claims)
        for wanted in names:
            owner = self._claims.get(wanted)
            if owner is not None:
                taken = self._metrics[owner]
                raise self._refusal(
                    name,
                    f"metric {name} ({kind.kind.value}) is left out: the name {wanted} belongs to the "
                    f"{taken.kind.value} {taken.name}, which came first. Give one of the events another name",
                )
        if len(self._metrics) >= self.max_metrics:
            raise self._refusal(
                name,
                f"metric {name} ({kind.kind.value}) is left out: there are {self.max_metrics} metrics "
                f"already. Event names that are made from data do this; such data belongs in the metadata",
            )
        metric = new()
        self._metrics[name] = metric
        self._claims.update(dict.fromkeys(names, name))
        return metric

    def _refusal(self, name: str, message: str) -> MetricRefusedError:
        if name not in self.refusals and len(self.refusals) < _MAX_REFUSALS:
            self.refusals[name] = message
            self.report(message)
        return MetricRefusedError(message)
