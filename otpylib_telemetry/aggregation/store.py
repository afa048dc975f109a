"""The series store: every metric of one exporter, and every series of each metric.

Nothing here knows where the numbers come from or in which format they leave: a metric has a name, a kind and
series; a series has labels. Names and labels arrive in their final form. Memory depends on how many series
there are, never on how many measurements were made or on how long nobody has read them.

Whoever writes, or reads more than one number, holds :attr:`SeriesStore.lock`: for a batch of events, for one
call of an instrument, for as many series as are read in one go. So a reader in any thread sees every series
as it was between two measurements.

Pure but for the lock: the clock comes in as an argument.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation.folding import FOLDED
from otpylib_telemetry.aggregation.metric import CLASSES, TOP_LABELS, Histogram, Summary
from otpylib_telemetry.aggregation.refusals import MetricRefusedError
from otpylib_telemetry.primitives.fork import new_rlock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from otpylib_telemetry.aggregation.metric import AnyMetric, Series
    from otpylib_telemetry.aggregation.metric_spec import Kind, MetricSpec
    from otpylib_telemetry.aggregation.series import Labels


#: Applications have hundreds of metrics; one that makes names from data is stopped here.
_MAX_METRICS: Final = 10_000


#: How many refused names are remembered, so that each is reported once.
_MAX_REFUSALS: Final = 1_000


#: Metrics whose several sources are remembered, and how many of each.
_MAX_SHARED: Final = 1_000

_MAX_SOURCES: Final = 10


#: Series that are looked at in one go for whether they are idle.
_LOOKED_AT_ONCE: Final = 4_000


class SeriesStore:
    """All metrics of one exporter.

    Attributes:
        lock: To be held while writing, or while reading what must be of one moment. May be taken again by who
            has it.
        max_series: How many series a metric may have; may be changed at any time. Series that exist stay, and
            where there may be more than before, labels that were folded have values of their own again.
        generation: Grows whenever series have gone or have been replaced: references to series that were kept
            outside the store are stale then.
        refused: Samples that were not taken, by reason.
        refusals: Names of metrics that were refused, with the reason.
        expired: Series that went because nothing was measured for them any more.
        shared: Metrics that are made of more than one thing, with what these are; the first ten of each.
        scrub: Returns labels without secrets; None where none are to be taken out.
        idle: Returns the series of a full metric whose places others may have, because whoever reads the
            store has said all there is of them; None where a place is for good.
        folding: Is told of a metric's series that were made of others, by what they were made of, so that
            whoever reads the store says nothing twice.
    """

    def __init__(
        self,
        max_series: int,
        max_metrics: int = _MAX_METRICS,
        report: Callable[[str], None] = lambda _message: None,
        now_ns: Callable[[], int] = lambda: 0,
    ) -> None:
        self.lock = new_rlock()
        self._max_series = max_series
        self.max_metrics = max_metrics
        self.report = report
        self.now_ns = now_ns
        self.scrub: Callable[[Labels], Labels] | None = None
        self._scrub_text: Callable[[str], str] = str
        self.generation = 0
        self.refused: dict[str, int] = {}
        self.refusals: dict[str, str] = {}
        self.expired = 0
        self.idle: Callable[[AnyMetric], Iterable[Series]] | None = None
        self.folding: Callable[[AnyMetric, Mapping[Series, Sequence[Series]]], None] | None = None
        self._metrics: dict[str, AnyMetric] = {}
        self._claims: dict[str, str] = {}
        #: Those of the refused names for which there were too many metrics.
        self._without_room: set[str] = set()
        self.shared: dict[str, list[str]] = {}
        self._sources: dict[str, str] = {}
        self._summaries: dict[str, Summary] = {}
        self._fullness: dict[str, tuple[tuple[int, int, int], dict[str, int]]] = {}
        # Since when a series is idle, as the last look through all of them found it; and the look under way.
        self._idle_since: dict[Series, int] = {}
        self._idle: dict[Series, int] = {}
        self._to_look_at: Iterator[tuple[AnyMetric, Labels]] | None = None

    @property
    def max_series(self) -> int:
        """How many series a metric may have."""
        return self._max_series

    @max_series.setter
    def max_series(self, limit: int) -> None:
        with self.lock:
            more, self._max_series = limit > self._max_series, limit
            if more:
                self.unfold(metric for metric in self._metrics.values() if metric.max_series is None)

    def use_scrub(self, scrub: Callable[[Labels], Labels] | None, text: Callable[[str], str] = str) -> None:
        """Take secrets out of labels and texts by other rules: of those of series that are there, too.

        Metrics whose names were made of a secret begin again under others.
        """
        with self.lock:
            self.scrub, self._scrub_text = scrub, text
            if scrub is None:
                return
            for name in [name for name, source in self._sources.items() if text(source) != source]:
                self.remove(name)
            for metric in self._metrics.values():
                metric.scrub(scrub)
                metric.description = text(metric.description)

    def scrub_text(self, text: str) -> str:
        """Return a name or a description without secrets."""
        return self._scrub_text(text)

    @property
    def metrics(self) -> list[AnyMetric]:
        """The metrics, in the order of their names."""
        with self.lock:
            return [self._metrics[name] for name in sorted(self._metrics)]

    def __len__(self) -> int:
        return len(self._metrics)

    def find(self, name: str) -> AnyMetric | None:
        """Return the metric of this name, if there is one."""
        return self._metrics.get(name)

    def keys_of(self, name: str) -> list[str]:
        """Return by which names metrics are found that leave under a name."""
        with self.lock:
            return [key for key, metric in self._metrics.items() if name in {key, metric.name}]

    def holder(self, name: str) -> AnyMetric | None:
        """Return the metric that has this name or claims it, if there is one."""
        return self._metrics.get(self._claims.get(name, name))

    def series_count(self) -> int:
        """How many series there are altogether."""
        with self.lock:
            return sum(len(metric.series) + (metric.overflow is not None) for metric in self.metrics)

    def overflowing(self) -> list[str]:
        """Names of the metrics that have reached their limit."""
        return [metric.name for metric in self.metrics if metric.overflow is not None]

    def folded(self) -> dict[str, dict[str, int]]:
        """Return by metric the labels that were folded, and how many values each had by then."""
        with self.lock:
            return {one.name: dict(one.ever_folded) for one in self.metrics if one.ever_folded}

    def unfold(self, metrics: Iterable[AnyMetric]) -> None:
        """Begin with labels afresh: those that were folded have values of their own from now on."""
        with self.lock:
            for metric in metrics:
                metric.unfold()
                metric.ever_folded.clear()

    def cardinality(self, top: int = TOP_LABELS) -> dict[str, dict[str, int]]:
        """Return by metric that is full the labels with the most different values, and how many these are."""
        with self.lock:
            full = {name: one for name, one in self._metrics.items() if one.overflow is not None}
            # Ten thousand series a metric are looked at: only if there may be others than the last time.
            known = self._fullness
            self._fullness = {}
            for name, metric in full.items():
                about = (self.generation, len(metric.series), top)
                kept = known.get(name)
                self._fullness[name] = (
                    kept if kept is not None and kept[0] == about else (about, dict(metric.most_values(top)))
                )
            return {full[name].name: dict(self._fullness[name][1]) for name in sorted(full)}

    def made_of(self, name: str, source: str) -> None:
        """Take notice of what a metric is made of; of several things that share it somebody is told, once."""
        with self.lock:
            source = self.scrub_text(source)
            first = self._sources.setdefault(name, source)
            if source == first:
                return
            told = self.shared.get(name)
            if told is None:
                if len(self.shared) >= _MAX_SHARED:
                    return
                told = self.shared[name] = [first]
                self.report(
                    f"metric {name} is made of {first!r} and of {source!r}, whose names are the same "
                    f"here: what they measure goes into the same series. Another name for one of them, or a "
                    f"definition, tells them apart; this is said once"
                )
            if source not in told and len(told) < _MAX_SOURCES:
                told.append(source)

    def declare(self, spec: MetricSpec) -> AnyMetric:
        """Return the metric of this name, a new one if need be; MetricRefusedError if it cannot be had."""
        key = spec.key or spec.name
        with self.lock:
            present = self._metrics.get(key)
            if present is not None and present.kind is spec.kind and present.owner == spec.owner:
                return present
            names = (key, *spec.claims)
            self._check(spec.kind, names)
            if (clean := self.scrub_text(spec.description)) != spec.description:
                spec = replace(spec, description=clean)
            metric = CLASSES[spec.kind](self, spec)
            self._metrics[key] = metric
            if isinstance(metric, Summary):
                self._summaries[key] = metric
            self._claims.update(dict.fromkeys(names, key))
            return metric

    def rebucket(self, bounds: Sequence[float], metrics: Iterable[Histogram] | None = None) -> int:
        """Give histograms other buckets, and return how many start again from 0 therefore."""
        wanted = tuple(bounds)
        with self.lock:
            every = [metric for metric in self._metrics.values() if isinstance(metric, Histogram)]
            affected = [
                metric for metric in (every if metrics is None else metrics) if metric.bounds != wanted
            ]
            for metric in affected:
                metric.bounds = wanted
                metric.restart()
            self.generation += bool(affected)
            return len(affected)

    def remove(self, name: str, labels: Labels | None = None) -> bool:
        """Forget a metric, or one of its series. Returns whether there was such a thing."""
        with self.lock:
            metric = self._metrics.get(name)
            if metric is None or (labels is not None and labels not in metric.series):
                return False
            if labels is not None:
                series: Any = metric.series.pop(labels)
                self._idle_since.pop(series, None)
                self._idle.pop(series, None)
                if any(value == FOLDED for _, value in labels):
                    metric.unfold_gone()
            else:
                metric.restart()
                self._forget({name})
            self.generation += 1
            return True

    def _forget(self, names: Collection[str]) -> None:
        """Give the places and the names of metrics back."""
        for name in names:
            del self._metrics[name]
            self._sources.pop(name, None)
            self.shared.pop(name, None)
            self._summaries.pop(name, None)
        self._claims = {claim: owner for claim, owner in self._claims.items() if owner not in names}
        for name in self._without_room:
            self.refusals.pop(name, None)
        self._without_room.clear()

    def make_room(self, metric: AnyMetric) -> bool:
        """Forget series of a full metric whose places others may have; tells whether there were any."""
        idle = () if self.idle is None else self.idle(metric)
        present: dict[Labels, Any] = metric.series
        gone = [present.pop(series.labels, None) for series in idle]
        self.generation += bool(gone)
        return bool(gone)

    def moved(self, metric: AnyMetric, merged: Mapping[Series, Sequence[Series]]) -> None:
        """Take notice of series that were made of others, which are the metric's no more."""
        if self.folding is not None:
            self.folding(metric, merged)
        sources: dict[Any, Any] = metric.reservoirs
        for parts in merged.values():
            for series in parts:
                sources.pop(series, None)
                self._idle_since.pop(series, None)
                self._idle.pop(series, None)
        self.generation += 1

    def advance(self, now_ns: int) -> None:
        """Let time go on for the summaries; takes as long as there are summaries, not series."""
        with self.lock:
            for metric in self._summaries.values():
                metric.advance(now_ns)

    @property
    def expiring(self) -> bool:
        """Whether :meth:`expire` has not yet looked at every series."""
        return self._to_look_at is not None

    def expire(self, now_ns: int, ttl_ns: int) -> int:
        """Forget series for which nothing was measured any more.

        Some thousand series are looked at in one go; as long as :attr:`expiring` says so, the next call goes
        on where this one stopped. How exactly the time is kept depends on how often this is called. An
        up-down counter that is not at 0 still counts something and stays, and so does a gauge that is set
        again and again to the same number. Returns how many went.
        """
        with self.lock:
            if self._to_look_at is None:
                # Copies: nothing of what comes or goes in the meantime is looked at twice.
                self._to_look_at = (
                    (metric, labels) for metric in [*self._metrics.values()] for labels in [*metric.series]
                )
                self._idle = {}
            gone = looked_at = 0
            for metric, labels in islice(self._to_look_at, _LOOKED_AT_ONCE):
                looked_at += 1
                series = metric.series.get(labels)
                if series is None or series.stirred():
                    continue
                since = self._idle_since.get(series, now_ns)
                if now_ns - since >= ttl_ns:
                    present: dict[Labels, Any] = metric.series
                    del present[labels]
                    gone += 1
                else:
                    self._idle[series] = since
            if looked_at < _LOOKED_AT_ONCE:
                self._to_look_at = None
                self._idle_since, self._idle = self._idle, {}
                self._give_back()
            self.expired += gone
            self.generation += bool(gone)
            return gone

    def _give_back(self) -> None:
        """Let go of what is empty after series have expired: overflow series, and metrics made of data.

        A label of which nothing is left that was folded is as good as a new one.
        """
        for metric in self._metrics.values():
            metric.unfold_gone()
        emptied = [(key, one) for key, one in self._metrics.items() if not one.series]
        for _, metric in emptied:
            self.generation += metric.overflow is not None
            metric.overflow = None
        names = {key for key, metric in emptied if metric.passing}
        if names:
            self._forget(names)
            self.generation += 1

    def refuse(self, reason: str, samples: int = 1) -> None:
        """Count samples that were not taken."""
        self.refused[reason] = self.refused.get(reason, 0) + samples

    def _check(self, kind: Kind, names: tuple[str, ...]) -> None:
        for wanted in names:
            owner = self._claims.get(wanted)
            if owner is not None:
                taken = self._metrics[owner]
                raise self._refusal(
                    names[0],
                    f"metric {names[0]} ({kind.value}) is left out: the name {wanted} belongs to the "
                    f"{taken.kind.value} {taken.name}, which came first. Give one of the events another name",
                )
        if len(self._metrics) >= self.max_metrics:
            first = not self._without_room
            if len(self._without_room) < _MAX_REFUSALS:
                self._without_room.add(names[0])
            raise self._refusal(
                names[0],
                f"metric {names[0]} ({kind.value}) is left out, and so are all further ones: there are "
                f"{self.max_metrics} metrics already. Event names that are made from data do this; such data "
                f"belongs in the metadata. With series_ttl there is room again when metrics have gone",
                said=not first,
            )

    def _refusal(self, name: str, message: str, *, said: bool = False) -> MetricRefusedError:
        if name not in self.refusals and len(self.refusals) < _MAX_REFUSALS:
            self.refusals[name] = message
            if not said:
                self.report(message)
        return MetricRefusedError(message)
