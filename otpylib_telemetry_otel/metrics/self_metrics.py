"""What all exporters of the process say about themselves, as data points beside those of the application.

They are read from ``get_stats`` when metrics are read. They have a store of their own: they take up no series
of the application's, come under no limit of its settings, and share no name with it. How many points there
are depends on how many exporters there are, not on what these do, so that telling of them feeds nothing.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation.distribution_series import HistogramSeries
from otpylib_telemetry.aggregation.metric_spec import Kind, MetricSpec, Scope
from otpylib_telemetry.aggregation.number_series import GaugeSeries
from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry.metrics.reading import SeriesReader
from otpylib_telemetry.self_metrics import SELF_METRICS
from otpylib_telemetry.self_metrics.model import by_name
from otpylib_telemetry.version import __version__
from otpylib_telemetry_otel.metrics.sdk_names import Row, sdk_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, MutableMapping

    from otpylib_telemetry.aggregation.points import MetricPoint
    from otpylib_telemetry.aggregation.temporality import Preference
    from otpylib_telemetry.self_metrics.model import SelfMetric, Stats


_log = logging.getLogger("otpylib_telemetry")

#: Key into the memory that survives the exporter.
_MEMORY: Final = "self_metrics"

_STORE: Final = "store"

#: There are as many series as exporters and reasons: far fewer.
_MAX_SERIES: Final = 10_000

_SCOPE: Final = Scope("otpylib_telemetry.exporter", __version__)

_KINDS: Final = {"counter": Kind.COUNTER, "gauge": Kind.GAUGE, "summary": Kind.HISTOGRAM}


class SelfMetrics:
    """The series, and the reader, of what one exporter of metrics sends about all of them."""

    def __init__(self, memory: MutableMapping[str, Any]) -> None:
        own: dict[str, Any] = memory.setdefault(_MEMORY, {})
        if _STORE not in own:
            own[_STORE] = SeriesStore(_MAX_SERIES, report=_log.warning, now_ns=time.monotonic_ns)
        self._store: SeriesStore = own[_STORE]
        self._reader = SeriesReader(own, self._store)

    def wanted(self, answers: Iterable[Stats], *, at_interval: bool) -> bool:
        """Tell whether to read them now.

        A flush, and the end, send what the application has measured. What is said about the exporters goes
        with it if it was said before, or if there is trouble, which may have no other chance to be told.
        """
        return at_interval or bool(len(self._store)) or any(map(_is_in_trouble, answers))

    def observe(self, answers: Iterable[Stats]) -> None:
        """Bring the series to what the exporters say now; those of which nothing is said any more go."""
        seen: set[Any] = set()
        with self._store.lock:
            for row in _rows(answers):
                labels = tuple(sorted(row.labels.items()))
                if (row.name, labels) not in seen:
                    seen.add((row.name, labels))
                    self._put(row, labels)
            for metric in self._store.metrics:
                for labels in [labels for labels in metric.series if (metric.name, labels) not in seen]:
                    self._store.remove(metric.name, labels)

    async def read(
        self, preference: Preference, enter: Callable[[Callable[[], list[MetricPoint]]], bool]
    ) -> None:
        """Read and enter all of them."""
        await self._reader.read(preference, enter)

    def _put(self, row: Row, labels: tuple[tuple[str, str], ...]) -> None:
        spec = MetricSpec(
            kind=row.kind,
            name=row.name,
            description=row.description,
            unit=row.unit,
            scope=_SCOPE,
            observed=True,
            extremes=False,
        )
        metric: Any = self._store.declare(spec)
        series = metric.at(labels)
        if isinstance(series, HistogramSeries):
            count, total = row.value  # type: ignore[misc]  # the kind says which it is
            if count < series.count:
                # Whoever counts has begun anew.
                self._store.remove(row.name, labels)
                series = metric.at(labels)
            series.advance_to(count, total)
        elif isinstance(series, GaugeSeries):
            series.set(row.value)  # type: ignore[arg-type]  # likewise
        else:
            series.advance_to(row.value)


def _is_in_trouble(stats: Stats) -> bool:
    """Tell whether an exporter has lost something, or has not been able to send."""
    dropped = stats.get("dropped")
    lost = isinstance(dropped, dict) and any(dropped.values())
    return bool(
        lost or stats.get("rejected") or stats.get("export_failures") or stats.get("breaker_failures")
    )


def _rows(answers: Iterable[Stats]) -> Iterator[Row]:
    for exporter, stats in by_name(answers).items():
        for metric in SELF_METRICS:
            yield from _own_rows(metric, exporter, stats)
        try:
            found = [*sdk_rows(exporter, stats)]
        except (LookupError, TypeError, AttributeError):
            # An exporter of somebody else's may answer what it likes.
            continue
        yield from filter(_is_told, found)


def _is_told(row: Row) -> bool:
    numbers = row.value if isinstance(row.value, tuple) else (row.value,)
    return all(isinstance(one, (int, float)) and 0 <= one < math.inf for one in numbers)


def _own_rows(metric: SelfMetric, exporter: str, stats: Stats) -> Iterator[Row]:
    kind = _KINDS[metric.type]
    name, unit = metric.instrument
    names = ("exporter", *metric.labels)
    readings = metric.readings(stats)
    if kind is Kind.HISTOGRAM:
        count, total = readings.get(("_count", ())), readings.get(("_sum", ()))
        if count is not None and total is not None:
            yield Row(kind, name, unit, metric.documentation, {"exporter": exporter}, (int(count), total))
        return
    for (_, values), number in readings.items():
        labels = dict(zip(names, (exporter, *values), strict=True))
        yield Row(kind, name, unit, metric.documentation, labels, number)
