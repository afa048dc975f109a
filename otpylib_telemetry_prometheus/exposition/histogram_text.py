"""The buckets, the sum and the count of a histogram: as values, and as lines of text.

Two kinds of histogram are written: those with bounds of their own, and exponential ones, as histograms whose
bounds are powers of two. Both get their lines from one template. Of a series with bounds of its own the text
is kept while nothing is observed; of one that changed before the last scrape its template is kept, into which
only the numbers are put. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib_telemetry.metrics.labels import number_text
from otpylib_telemetry_prometheus.exposition.metric_text import KeptText, MetricText, exemplar_of, start_of
from otpylib_telemetry_prometheus.exposition.power_bounds import PowerBounds
from otpylib_telemetry_prometheus.exposition.text import before_labels, value_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otpylib_telemetry.aggregation.distribution_series import ExponentialSeries, HistogramSeries
    from otpylib_telemetry.aggregation.metric import Histogram, Series
    from otpylib_telemetry.aggregation.series import Exemplar


#: Stands for a series' labels in a template; not a character of any name.
_HOLE: Final = "\0"


class Buckets(NamedTuple):
    """The buckets of a histogram: what ``le`` says, cumulative counts, and exemplars if there are any."""

    limits: tuple[str, ...]
    counts: list[int]
    exemplars: Sequence[Exemplar | None] | None


def limits_of(bounds: Sequence[float]) -> tuple[str, ...]:
    """Return what ``le`` says of buckets with these upper bounds, and of the last."""
    return (*(number_text(float(bound)) for bound in bounds), "+Inf")


def explicit_buckets(one: HistogramSeries, limits: tuple[str, ...]) -> Buckets:
    """Return the buckets of a series with bounds of its own; ``limits`` are those of its bounds."""
    return Buckets(limits, list(accumulate(one.counts)), one.exemplars)


def power_buckets(one: ExponentialSeries, bounds: PowerBounds) -> Buckets:
    """Return the buckets of an exponential series between powers of two, which cover what it holds."""
    found = bounds.cumulated(one.buckets)
    exemplars: list[Exemplar | None] | None = None
    if one.exemplar is not None:
        exemplars = [None] * len(found)
        exemplars[bisect_left([bound for bound, _, _ in found], one.exemplar.value)] = one.exemplar
    return Buckets(tuple(text for _, text, _ in found), [count for _, _, count in found], exemplars)


class _Templates:
    """The lines of the histograms of one metric, with holes for the numbers.

    Only those of the limits written last are kept: the series of a metric nearly always have the same.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._limits: tuple[str, ...] = ()
        self._kept: dict[tuple[bool, bool, bool], str] = {}

    def of(self, limits: tuple[str, ...], labels: str, *, summed: bool, traced: bool) -> str:
        """Return the template of a series with these limits and labels; see :func:`_filled`."""
        if limits != self._limits:
            self._limits = limits
            self._kept.clear()
        key = (bool(labels), summed, traced)
        template = self._kept.get(key)
        if template is None:
            template = self._kept[key] = self._made(labelled=bool(labels), summed=summed, traced=traced)
        if not labels:
            return template
        return template.replace(_HOLE, labels.replace("%", "%%") if "%" in labels else labels)

    def _made(self, *, labelled: bool, summed: bool, traced: bool) -> str:
        start = before_labels(f"{self._name}_bucket").replace("%", "%%") + (f"{_HOLE}," if labelled else "")
        number = "%d%s" if traced else "%d"
        lines = [f'{start}le="{limit}"}} {number}\n' for limit in self._limits]
        if summed:
            for ending, number in (("_sum", "%s"), ("_count", "%d")):
                start = start_of(self._name + ending, _HOLE if labelled else "")
                lines.append(f"{start.replace('%', '%%')} {number}\n")
        return "".join(lines)


def _may_rise_only(total: float, least: float) -> bool:
    """Tell whether the sum of a series can only rise: OpenMetrics has no room for sum and count of others."""
    return total >= 0 and least >= 0


def _filled(
    template: str,
    counts: Sequence[int],
    exemplars: Sequence[Exemplar | None] | None,
    total: float | None,
    wall_offset_ns: int,
) -> str:
    """Return the lines of a series; its template is traced with exemplars, and summed with a total."""
    ending = () if total is None else (value_text(total), counts[-1])
    if exemplars is None:
        return template % (*counts, *ending)
    numbers: list[Any] = []
    for count, exemplar in zip(counts, exemplars, strict=True):
        numbers += (count, exemplar_of(exemplar, wall_offset_ns))
    return template % (*numbers, *ending)


@dataclass(slots=True, eq=False)
class _Kept:
    """What is kept of one series: its numbers when last written, and its text or a template for it."""

    labels: str
    counts: list[int] | None = None
    sum: float = 0.0
    exemplars: list[Exemplar | None] | None = None
    text: str | None = None
    template: str | None = None


class ExplicitHistograms(MetricText):
    """Histograms with bounds of their own."""

    reserved = "le"
    metric: Histogram

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._known: dict[HistogramSeries, _Kept | None] = {}
        self._templates = _Templates(self.name)
        self._bounds: tuple[float, ...] = ()
        self._limits = limits_of(())

    @property
    def kept(self) -> dict[Any, Any]:
        """What is kept of each series."""
        return self._known

    def lines_each(self) -> int:
        """About how many lines a series has."""
        return len(self.metric.bounds) + 3

    def lines(self, series: Sequence[Any], wall_offset_ns: int) -> list[str]:
        """Return the lines of series."""
        known, exemplars = self._known, self.exemplars
        lines: list[str] = []
        for one in series:
            if one.bounds != self._bounds:
                # Those of the metric may be others by now: a page has the series there were at its beginning.
                self._bounds = one.bounds
                self._limits = limits_of(one.bounds)
            kept = known.get(one)
            if kept is None:
                if one in known or (kept := self._keep(one)) is None:
                    continue
            elif (
                kept.counts == one.counts
                and kept.sum == one.sum
                and (not exemplars or kept.exemplars == one.exemplars)
            ):
                text = kept.text
                if text is None:
                    text = kept.text = self._written(kept, one, wall_offset_ns)
                    kept.template = None
                lines.append(text)
                continue
            lines.append(self._changed(kept, one, wall_offset_ns))
        return lines

    def _changed(self, kept: _Kept, one: HistogramSeries, wall_offset_ns: int) -> str:
        first = kept.counts is None
        kept.counts = one.counts.copy()
        kept.sum = one.sum
        kept.exemplars = None if one.exemplars is None else one.exemplars.copy()
        text = self._written(kept, one, wall_offset_ns)
        # One that has changed will probably change again; of one just come nothing is known.
        kept.text = text if first else None
        if first:
            kept.template = None
        return text

    def _keep(self, one: HistogramSeries) -> _Kept | None:
        text = self.labels_of(one)
        kept = self._known[one] = None if text is None else _Kept(text)
        return kept

    def _written(self, kept: _Kept, one: HistogramSeries, wall_offset_ns: int) -> str:
        exemplars = one.exemplars if self.exemplars else None
        summed = not self.openmetrics or _may_rise_only(one.sum, one.bounds[0] if one.bounds else 0.0)
        usual = summed and exemplars is None
        template = kept.template if usual else None
        if template is None:
            template = self._templates.of(
                self._limits, kept.labels, summed=summed, traced=exemplars is not None
            )
            if usual:
                kept.template = template
        total = one.sum if summed else None
        return _filled(template, [*accumulate(one.counts)], exemplars, total, wall_offset_ns)


class ExponentialHistograms(KeptText):
    """Exponential histograms, as histograms whose bounds are powers of two."""

    reserved = "le"
    looks = True

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._templates = _Templates(self.name)
        self._bounds = PowerBounds()
        self._seen: dict[ExponentialSeries, int] = {}

    def lines_each(self) -> int:
        """About how many lines a series has."""
        return 64

    def look(self, series: Sequence[Any]) -> None:
        """See to it that the bounds cover what the series hold."""
        for one in series:
            if self._seen.get(one) != one.count:
                self._seen[one] = one.count
                self._bounds.cover(one.buckets)

    def forget(self, present: Sequence[Series]) -> None:
        """Keep nothing for series that are not among those present."""
        super().forget(present)
        if len(self._seen) > len(present):
            for gone in self._seen.keys() - set(present):
                del self._seen[gone]

    def state(self, one: ExponentialSeries) -> Any:
        """Return what is different when the lines are."""
        if self._seen.get(one) != one.count:  # observed between looking and writing
            self.look([one])
        return (one.count, self._bounds.version, one.exemplar if self.exemplars else None)

    def drawn(self, one: ExponentialSeries, labels: str, wall_offset_ns: int) -> str:
        """Return the lines of a series."""
        buckets = power_buckets(one, self._bounds)
        exemplars = buckets.exemplars if self.exemplars else None
        summed = not self.openmetrics or _may_rise_only(one.sum, -1.0 if self._bounds.negative else 0.0)
        template = self._templates.of(buckets.limits, labels, summed=summed, traced=exemplars is not None)
        total = one.sum if summed else None
        return _filled(template, buckets.counts, exemplars, total, wall_offset_ns)
