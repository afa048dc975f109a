"""Ever new order ids in one of five labels: what it costs in time and memory, and whether the rest is exact.

Ten events of each order come one after the other, ten thousand events for a second: a thousand orders.
"""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING, Any

from benchmarks import ours
from otpylib_telemetry import execute
from otpylib_telemetry.aggregation.folding import FOLDED
from otpylib_telemetry.exporter.consumer import CHUNK
from otpylib_telemetry_prometheus.backend import PrometheusBackend

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENTS = 10_000_000
_OF_AN_ORDER = 10
_PARTS = 10


def _labels(number: int) -> dict[str, str]:
    return {
        "region": f"region{number % 3}",
        "method": f"method{number % 4}",
        "plan": f"plan{number % 2}",
        "status": f"status{number % 5}",
        "order_id": f"order{number // _OF_AN_ORDER}",
    }


def _parts(events: int, *, ids: bool) -> Iterator[tuple[float, int, Any]]:
    """Yield after each part CPU time per event, the most memory so far, and the exporter's metric."""
    name, queue, exporter = ours.exporter_of(PrometheusBackend)
    event, measurements = f"{name}.sold", {"count": 1}
    length = max(CHUNK, events // _PARTS // CHUNK * CHUNK)
    with ours.reading(queue):
        for first in range(0, length * _PARTS, length):
            spent = 0.0
            for start in range(first, first + length, CHUNK):
                chunk = [_labels(number) for number in range(start, start + CHUNK)]
                if not ids:
                    for labels in chunk:
                        del labels["order_id"]
                before = time.process_time()
                for labels in chunk:
                    execute(event, measurements, labels)
                ours.collect(queue, exporter)
                spent += time.process_time() - before
            # Linux counts kilobytes here.
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            yield spent / length * 1e6, most, exporter.metrics.store.metrics[0]


def table(events: int = EVENTS) -> str:
    """Measure, and return the result as Markdown.

    Args:
        events: How many events.
    """
    few = [cost for cost, _, _ in _parts(events // 10, ids=False)]
    rows = ["| events | µs of CPU for each | most memory | series |", "|---:|---:|---:|---:|"]
    done = max(CHUNK, events // _PARTS // CHUNK * CHUNK)
    metric: Any = None
    for part, (cost, most, metric) in enumerate(_parts(events, ids=True), 1):
        rows.append(f"| {part * done:,} | {cost:.2f} | {most / 1024:.1f} MiB | {len(metric.all_series())} |")
    # Every sixty events each combination of the other four labels comes once.
    total = done * _PARTS
    found = {one.labels: one.value for one in metric.all_series()}
    expected = {labels: len(range(number, total, 60)) for number, labels in enumerate(_combinations())}
    if found != expected or metric.overflow is not None:
        raise AssertionError("the other four labels are not exact")
    rows.append(f"\nThe same without the order's id: {min(few):.2f} µs. The other four labels are exact.")
    return "\n".join(rows)


def _combinations() -> Iterator[Any]:
    for number in range(60):
        yield tuple(sorted({**_labels(number), "order_id": FOLDED}.items()))
