"""The series of a metric as lines of text, as little as possible of it anew at each scrape.

What a line has besides its number is worked out once per series. Of a histogram, whose lines are many, the
text is kept while nothing is observed; of one that has changed at the last scrape a template is kept instead,
into which only the numbers are put. So a histogram of 14 buckets and three labels takes about 1.8 kB here, a
counter about 200 bytes, for each format somebody scrapes.

Lines end in a newline. Whoever calls holds the lock of the series' store. Pure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar, Final

from otpylib_telemetry.aggregation.metric import AnyMetric, Counter, Histogram, Kind, Summary
from otpylib_telemetry.metrics.labels import number_text
from otpylib_telemetry_prometheus.exposition.power_buckets import Octaves
from otpylib_telemetry_prometheus.exposition.text import (
    after_labels,
    before_labels,
    exemplar_text,
    trace_labels,
    value_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otpylib_telemetry.aggregation.series import (
        CounterSeries,
        Exemplar,
        ExponentialSeries,
        GaugeSeries,
        HistogramSeries,
        Series,
        SummarySeries,
        UpDownSeries,
    )
    from otpylib_telemetry_prometheus.exposition.labels_text import LabelWriter

__all__ = ["ROUND", "MetricText", "text_of"]

#: Work done in one go, in lines: a few milliseconds at the first scrape, one later on.
ROUND: Final = 4_000

#: A quantile costs as much as so many lines.
_LINES_OF_A_QUANTILE: Final = 100

#: Stands for a series' labels in a template; not a character of any name.
_HOLE: Final = "\0"


class MetricText(ABC):
    """Writes the series of one metric in one format.

    Args:
        metric: The metric.
        name: The name of its samples, without the endings its kind gives them.
        labels: Writes labels.
        openmetrics: Whether it is for OpenMetrics.
        report: Called with a sentence for a person if a series has to be left out.

    Attributes:
        header: The lines that go before; whoever knows all names sets them.
        exemplars: Whether exemplars may be told.
    """

    #: The label that has a meaning of its own.
    reserved: ClassVar[str] = ""
    #: Whether there is any need to look at all series before any is written.
    looks: ClassVar[bool] = False

    def __init__(
        self,
        metric: Any,
        name: str,
        labels: LabelWriter,
        *,
        openmetrics: bool,
        report: Callable[[str], None],
    ) -> None:
        self.metric = metric
        self.name = name
        self.header = ""
        self.openmetrics = openmetrics
        self.exemplars = openmetrics
        self._labels = labels
        self._report = report
        #: What series are told from each other by; None while no two can be the same.
        self._taken: dict[str, Any] | None = None
        self._left_out: set[Any] = set()

    @property
    @abstractmethod
    def kept(self) -> dict[Any, Any]:
        """What is kept for each series."""

    def lines_each(self) -> int:
        """Return about how much work a series is, in lines."""
        return 1

    def look(self, series: Sequence[Any]) -> None:
        """Look at series before any is written.

        Args:
            series: The series.
        """
        del series

    @abstractmethod
    def lines(self, series: Sequence[Any], wall_offset_ns: int) -> list[str]:
        """Return the lines of series.

        Args:
            series: The series.
            wall_offset_ns: What to add to the monotonic clock to get the time since the epoch.
        """

    def forget(self, present: Sequence[Series]) -> None:
        """Keep nothing for series that have gone.

        Args:
            present: The series there are.
        """
        kept = self.kept
        if len(kept) > len(present):
            # What made way to another one may have its place now.
            for gone in (kept.keys() - set(present)) | self._left_out:
                kept.pop(gone, None)
            self._left_out.clear()
            if self._taken is not None:
                self._taken = {text: one for text, one in self._taken.items() if one in kept}

    def _text(self, one: Any) -> str | None:
        """Return the labels of a series, which is in :attr:`kept` from now on; None if it must be left out.

        A scrape that has a series twice is refused, in whole or in part, so two must never read the same.
        """
        labels, reserved = one.labels, self.reserved
        if self._taken is None:
            plain = self._labels.plain(labels, reserved)
            if plain is not None:
                return plain
        text, key = self._labels.text(labels, reserved)
        if self._taken is None:
            # Label values may be empty, and names may be changed: only then may two series read the same.
            if text == key and self._labels.faithful(labels, reserved):
                return text
            self._taken = {}
            for other in self.kept:
                self._taken[self._labels.text(other.labels, reserved)[1]] = other
        taken = self._taken
        if taken.get(key, one) is not one:
            others = self._labels.other_texts(labels, reserved)
            free = next((other for other in others if taken.get(other[1], one) is one), None)
            if free is None:
                self._left_out.add(one)
                self._report(
                    f"a series of the metric {self.metric.name} is left out of the page: with empty labels "
                    f"left out and names made to fit, it reads like another one, {{{key}}}"
                )
                return None
            text, key = free
        taken[key] = one
        return text

    def _exemplar(self, exemplar: Exemplar | None, wall_offset_ns: int) -> str:
        if exemplar is None:
            return ""
        at = (exemplar.traced.at_ns + wall_offset_ns) / 1e9
        return exemplar_text(trace_labels(exemplar.traced), exemplar.value, f"{at:.3f}")


class _Singles(MetricText):
    """One line a series: counters, gauges, up-down counters."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._starts: dict[CounterSeries | GaugeSeries | UpDownSeries, str | None] = {}
        self._traced = self.exemplars and isinstance(self.metric, Counter)
        self._before = before_labels(self.name)

    @property
    def kept(self) -> dict[Any, Any]:
        return self._starts

    def lines(self, series: Sequence[Any], wall_offset_ns: int) -> list[str]:
        starts = self._starts
        lines: list[str] = []
        for one in series:
            start = starts.get(one)
            if start is None:
                if one in starts:
                    continue
                start = self._start(one)
                if start is None:
                    continue
            value = one.value
            text = str(value) if type(value) is int else value_text(value)
            if self._traced and one.exemplar is not None and self.exemplars:
                text += self._exemplar(one.exemplar, wall_offset_ns)
            lines.append(f"{start}{text}\n")
        return lines

    def _start(self, one: CounterSeries | GaugeSeries | UpDownSeries) -> str | None:
        text = self._text(one)
        start = None
        if text is not None:
            start = f"{self._before}{text}}} " if text else f"{after_labels(self.name)} "
        self._starts[one] = start
        return start


class _Kept:
    """What is kept of one histogram: its numbers when last written, and its text or a template for it."""

    __slots__ = ("counts", "exemplars", "labels", "sum", "template", "text")

    def __init__(self, labels: str) -> None:
        self.labels = labels
        self.counts: list[int] | None = None
        self.sum = 0.0
        self.exemplars: list[Exemplar | None] | None = None
        self.text: str | None = None
        self.template: str | None = None


class _Histograms(MetricText):
    """Histograms with bounds of their own."""

    reserved = "le"
    metric: Histogram

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._known: dict[HistogramSeries, _Kept | None] = {}
        self._bounds: tuple[float, ...] = ()
        self._templates: dict[tuple[bool, bool, bool], str] = {}

    @property
    def kept(self) -> dict[Any, Any]:
        return self._known

    def lines_each(self) -> int:
        return len(self.metric.bounds) + 3

    def lines(self, series: Sequence[Any], wall_offset_ns: int) -> list[str]:
        known, exemplars = self._known, self.exemplars
        lines: list[str] = []
        for one in series:
            if one.bounds != self._bounds:
                # Those of the metric may be others by now: a page has the series there were at its beginning.
                self._bounds = one.bounds
                self._templates.clear()
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
        text = self._text(one)
        kept = self._known[one] = None if text is None else _Kept(text)
        return kept

    def _written(self, kept: _Kept, one: HistogramSeries, wall_offset_ns: int) -> str:
        counts = list(accumulate(one.counts))
        total = one.sum
        summed = not self.openmetrics or (total >= 0 and (not one.bounds or one.bounds[0] >= 0))
        ending: tuple[Any, ...] = (value_text(total), counts[-1]) if summed else ()
        labels = kept.labels
        if self.exemplars and one.exemplars is not None:
            numbers: list[Any] = []
            for count, exemplar in zip(counts, one.exemplars, strict=True):
                numbers += (count, self._exemplar(exemplar, wall_offset_ns))
            return self._template(labels, summed=summed, traced=True) % (*numbers, *ending)
        template = kept.template
        if template is None:
            template = self._template(labels, summed=summed, traced=False)
            if summed:
                kept.template = template
        elif not summed:
            template = self._template(labels, summed=False, traced=False)
        return template % (*counts, *ending)

    def _template(self, labels: str, *, summed: bool, traced: bool) -> str:
        key = (bool(labels), summed, traced)
        template = self._templates.get(key)
        if template is None:
            template = self._templates[key] = self._family_template(
                labelled=bool(labels), summed=summed, traced=traced
            )
        if not labels:
            return template
        return template.replace(_HOLE, labels.replace("%", "%%") if "%" in labels else labels)

    def _family_template(self, *, labelled: bool, summed: bool, traced: bool) -> str:
        limits = [*(number_text(float(bound)) for bound in self._bounds), "+Inf"]
        start = before_labels(f"{self.name}_bucket").replace("%", "%%") + (f"{_HOLE}," if labelled else "")
        number = "%d%s" if traced else "%d"
        lines = [f'{start}le="{limit}"}} {number}\n' for limit in limits]
        if summed:
            for ending, number in (("_sum", "%s"), ("_count", "%d")):
                name = self.name + ending
                start = before_labels(name) + _HOLE + "}" if labelled else after_labels(name)
                lines.append(f"{start.replace('%', '%%')} {number}\n")
        return "".join(lines)


class _Rare(MetricText):
    """What is written line by line, and kept while it is the same."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._known: dict[Any, tuple[str | None, Any, str]] = {}

    @property
    def kept(self) -> dict[Any, Any]:
        return self._known

    def lines(self, series: Sequence[Any], wall_offset_ns: int) -> list[str]:
        lines: list[str] = []
        for one in series:
            labels, before, text = self._known.get(one, (None, None, ""))
            if labels is None:
                if one in self._known:
                    continue
                labels = self._text(one)
                if labels is None:
                    self._known[one] = (None, None, "")
                    continue
            present = self._state(one)
            if before != present:
                text = self._drawn(one, labels, wall_offset_ns)
                self._known[one] = (labels, present, text)
            lines.append(text)
        return lines

    @abstractmethod
    def _state(self, one: Any) -> Any:
        """Return what is different when the lines are; not None."""

    @abstractmethod
    def _drawn(self, one: Any, labels: str, wall_offset_ns: int) -> str:
        """Return the lines of a series."""

    def _totals(self, labels: str, total: float | None, count: int | None) -> list[str]:
        numbers = [("_sum", total), ("_count", count)]
        return [
            f"{self._start(self.name + ending, labels)} {value_text(number)}\n"
            for ending, number in numbers
            if number is not None
        ]

    @staticmethod
    def _start(name: str, labels: str) -> str:
        return f"{before_labels(name)}{labels}}}" if labels else after_labels(name)


class _Exponentials(_Rare):
    """Exponential histograms, as histograms whose bounds are powers of two."""

    reserved = "le"
    looks = True

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._octaves = Octaves()
        self._seen: dict[ExponentialSeries, int] = {}

    def lines_each(self) -> int:
        return 64

    def look(self, series: Sequence[Any]) -> None:
        for one in series:
            if self._seen.get(one) != one.count:
                self._seen[one] = one.count
                self._octaves.take_in(one.buckets)

    def forget(self, present: Sequence[Series]) -> None:
        super().forget(present)
        if len(self._seen) > len(present):
            for gone in self._seen.keys() - set(present):
                del self._seen[gone]

    def _state(self, one: ExponentialSeries) -> Any:
        if self._seen.get(one) != one.count:  # observed between looking and writing
            self.look([one])
        return (one.count, self._octaves.version, one.exemplar if self.exemplars else None)

    def _drawn(self, one: ExponentialSeries, labels: str, wall_offset_ns: int) -> str:
        found = self._octaves.cumulated(one.buckets)
        start = before_labels(f"{self.name}_bucket") + (f"{labels}," if labels else "")
        endings = [""] * len(found)
        if self.exemplars and one.exemplar is not None:
            at = bisect_left([bound for bound, _, _ in found], one.exemplar.value)
            endings[at] = self._exemplar(one.exemplar, wall_offset_ns)
        lines = [
            f'{start}le="{text}"}} {count}{ending}\n'
            for (_, text, count), ending in zip(found, endings, strict=True)
        ]
        if not self.openmetrics or (one.sum >= 0 and not self._octaves.negative):
            lines += self._totals(labels, one.sum, one.count)
        return "".join(lines)


class _Summaries(_Rare):
    """Summaries."""

    reserved = "quantile"
    metric: Summary

    def lines_each(self) -> int:
        return _LINES_OF_A_QUANTILE * (len(self.metric.shape.quantiles) + 1)

    def _state(self, one: SummarySeries) -> Any:
        return (one.count, self.metric.slice)

    def _drawn(self, one: SummarySeries, labels: str, wall_offset_ns: int) -> str:
        del wall_offset_ns
        wanted = self.metric.shape.quantiles
        start = before_labels(self.name) + (f"{labels}," if labels else "")
        lines = [
            f'{start}quantile="{number_text(float(quantile))}"}} {value_text(value)}\n'
            for quantile, value in zip(wanted, one.quantiles(wanted), strict=True)
            # OpenMetrics 1.0, "Summary": neither quantiles nor the sum may be negative.
            if not (self.openmetrics and value < 0)
        ]
        total = one.sum
        return "".join(
            lines + self._totals(labels, None if self.openmetrics and total < 0 else total, one.count)
        )


_WRITERS: Final[dict[Kind, type[MetricText]]] = {
    Kind.COUNTER: _Singles,
    Kind.GAUGE: _Singles,
    Kind.UP_DOWN: _Singles,
    Kind.HISTOGRAM: _Histograms,
    Kind.EXPONENTIAL: _Exponentials,
    Kind.SUMMARY: _Summaries,
}


def text_of(
    metric: AnyMetric, name: str, labels: LabelWriter, *, openmetrics: bool, report: Callable[[str], None]
) -> MetricText:
    """Return what writes a metric.

    Args:
        metric: The metric.
        name: As for :class:`MetricText`.
        labels: As for :class:`MetricText`.
        openmetrics: As for :class:`MetricText`.
        report: As for :class:`MetricText`.
    """
    return _WRITERS[metric.kind](metric, name, labels, openmetrics=openmetrics, report=report)
