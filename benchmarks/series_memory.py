"""Bytes per series, by tracemalloc: ours of every kind against prometheus_client's."""

from __future__ import annotations

import gc
import random
import tracemalloc
from typing import TYPE_CHECKING, Any

import prometheus_client
from prometheus_client import CollectorRegistry, generate_latest

from otpylib_telemetry.aggregation.exponential import scale_for
from otpylib_telemetry.aggregation.metric import MAX_SUMMARY_SERIES
from otpylib_telemetry.aggregation.metric_spec import Kind, MetricSpec, SummaryShape
from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry.metrics.buckets import DURATION_BOUNDS
from otpylib_telemetry_prometheus.exposition.writer import Exposition

if TYPE_CHECKING:
    from collections.abc import Callable

#: Series of each kind: as many as a summary has at most.
SERIES = MAX_SUMMARY_SERIES

#: What is observed of each: what takes room in exponential buckets is how much observations differ.
OBSERVATIONS = 50

_KEYS = ("method", "route", "status")
_SHAPE = SummaryShape((0.5, 0.9, 0.95, 0.99), scale_for(0.01), 2_048, 120 * 10**9, 5)

_SPECS = {
    "counter": MetricSpec(kind=Kind.COUNTER, name="requests_total", description="Requests."),
    "histogram": MetricSpec(
        kind=Kind.HISTOGRAM, name="seconds", description="Seconds.", bounds=DURATION_BOUNDS
    ),
    "exponential": MetricSpec(kind=Kind.EXPONENTIAL, name="seconds", description="Seconds."),
    "summary": MetricSpec(kind=Kind.SUMMARY, name="seconds", description="Seconds.", shape=_SHAPE),
}


def _bytes_of(make: Callable[[], Any], write: Callable[[Any], object]) -> tuple[float, float]:
    """Return the bytes that something takes, and those that it takes once a page of it was written."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    made = make()
    gc.collect()
    alone = tracemalloc.get_traced_memory()[0] - before
    write(made)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return alone, after


def _values() -> list[float]:
    """Return times between 1 ms and 1 s, more of them short than long."""
    choose = random.Random(1)
    return [10 ** choose.uniform(-3, 0) for _ in range(OBSERVATIONS)]


def _texts(number: int) -> tuple[str, str, str]:
    return ("GET" if number % 2 else "POST", f"/orders/{number}", "200")


def _ours(kind: str, series: int) -> Any:
    store = SeriesStore(series)
    metric: Any = store.declare(_SPECS[kind])
    values = _values()
    for number in range(series):
        one = metric.at(tuple(zip(_KEYS, _texts(number), strict=True)))
        for value in values:
            if kind == "counter":
                one.add(value)
            else:
                one.observe(value)
    if len(metric.all_series()) != series:
        raise AssertionError("some have no series of their own")
    return store, Exposition()


def _write_ours(made: Any) -> None:
    store, exposition = made
    exposition.text([store])


def _theirs(kind: str, series: int) -> Any:
    registry = CollectorRegistry()
    metric: Any = {
        "counter": lambda: prometheus_client.Counter("requests", "Requests.", _KEYS, registry=registry),
        "histogram": lambda: prometheus_client.Histogram(
            "seconds", "Seconds.", _KEYS, registry=registry, buckets=DURATION_BOUNDS
        ),
        "summary": lambda: prometheus_client.Summary("seconds", "Seconds.", _KEYS, registry=registry),
    }[kind]()
    values = _values()
    for number in range(series):
        one = metric.labels(*_texts(number))
        for value in values:
            if kind == "counter":
                one.inc(value)
            else:
                one.observe(value)
    return registry


def table(series: int = SERIES) -> str:
    """Measure, and return the result as a Markdown table.

    Args:
        series: How many series of each kind.
    """
    rows = [
        "| bytes of a series, three labels | prometheus_client | ours, never scraped | scraped | ratio |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, kind, peer in (
        ("counter", "counter", "counter"),
        (f"histogram of {len(DURATION_BOUNDS)} buckets", "histogram", "histogram"),
        ("histogram of exponential buckets; theirs of classic ones", "exponential", "histogram"),
        ("summary with quantiles within 1 %; theirs without quantiles", "summary", "summary"),
    ):
        theirs = _bytes_of(lambda peer=peer: _theirs(peer, series), generate_latest)[1]  # type: ignore[misc]
        ours = _bytes_of(lambda kind=kind: _ours(kind, series), _write_ours)  # type: ignore[misc]
        alone, scraped = (amount / series for amount in ours)
        rows.append(
            f"| {name} | {theirs / series:.0f} | {alone:.0f} | {scraped:.0f} | "
            f"{scraped / (theirs / series):.2f} |"
        )
    return "\n".join(rows)
