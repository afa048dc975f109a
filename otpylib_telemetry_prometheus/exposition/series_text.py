"""The series of a metric as lines of text, as little as possible of it anew at each scrape.

What a line has besides its number is worked out once per series; a histogram of 14 buckets and three labels
takes about 1.8 kB for that, a counter about 200 bytes, for each format somebody scrapes. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation.metric import AnyMetric, Counter, Summary
from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.metrics.labels import number_text
from otpylib_telemetry_prometheus.exposition.histogram_text import ExplicitHistograms, ExponentialHistograms
from otpylib_telemetry_prometheus.exposition.metric_text import KeptText, MetricText, exemplar_of, start_of
from otpylib_telemetry_prometheus.exposition.text import after_labels, before_labels, value_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otpylib_telemetry.aggregation.number_series import CounterSeries, GaugeSeries, UpDownSeries
    from otpylib_telemetry.aggregation.summary_series import SummarySeries
    from otpylib_telemetry_prometheus.exposition.labels_text import LabelWriter


#: Work done in one go, in lines: a few milliseconds at the first scrape, one later on.
ROUND: Final = 4_000

#: A quantile costs as much as so many lines.
_LINES_OF_A_QUANTILE: Final = 100


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
                text += exemplar_of(one.exemplar, wall_offset_ns)
            lines.append(f"{start}{text}\n")
        return lines

    def _start(self, one: CounterSeries | GaugeSeries | UpDownSeries) -> str | None:
        text = self.labels_of(one)
        start = None
        if text is not None:
            start = f"{self._before}{text}}} " if text else f"{after_labels(self.name)} "
        self._starts[one] = start
        return start


class _Summaries(KeptText):
    """Summaries."""

    reserved = "quantile"
    metric: Summary

    def lines_each(self) -> int:
        return _LINES_OF_A_QUANTILE * (len(self.metric.shape.quantiles) + 1)

    def state(self, one: SummarySeries) -> Any:
        return (one.count, self.metric.slice)

    def drawn(self, one: SummarySeries, labels: str, wall_offset_ns: int) -> str:
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
        if not (self.openmetrics and total < 0):
            lines.append(f"{start_of(f'{self.name}_sum', labels)} {value_text(total)}\n")
        lines.append(f"{start_of(f'{self.name}_count', labels)} {one.count}\n")
        return "".join(lines)


_WRITERS: Final[dict[Kind, type[MetricText]]] = {
    Kind.COUNTER: _Singles,
    Kind.GAUGE: _Singles,
    Kind.UP_DOWN: _Singles,
    Kind.HISTOGRAM: ExplicitHistograms,
    Kind.EXPONENTIAL: ExponentialHistograms,
    Kind.SUMMARY: _Summaries,
}


def text_of(
    metric: AnyMetric, name: str, labels: LabelWriter, *, openmetrics: bool, report: Callable[[str], None]
) -> MetricText:
    """Return what writes a metric; the arguments are those of :class:`MetricText`."""
    return _WRITERS[metric.kind](metric, name, labels, openmetrics=openmetrics, report=report)
