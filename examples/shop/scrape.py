"""The metrics as Prometheus would see them: fetched over HTTP, parsed by Prometheus' own library."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
Sample = tuple[str, Labels]

_SUFFIX = "_duration_seconds"


@dataclass(slots=True)
class Scrape:
    """One reading of the endpoint.

    Attributes:
        at: When, in monotonic seconds.
        samples: Name and labels to value.
        bytes: Length of the page.
        seconds: How long it took to come.
    """

    at: float
    samples: dict[Sample, float]
    bytes: int = 0
    seconds: float = 0.0

    def total(self, name: str, **labels: str) -> float:
        """Add up the series of a name that have these labels."""
        wanted = frozenset(labels.items())
        return sum(value for (sample, has), value in self.samples.items() if sample == name and wanted <= has)

    def counters(self) -> dict[Sample, float]:
        """Return the samples that can only grow."""
        growing = ("_total", "_count", "_sum", "_bucket")
        return {key: value for key, value in self.samples.items() if key[0].endswith(growing)}


@dataclass(slots=True)
class Operation:
    """What the metrics say of an operation, between two readings.

    Attributes:
        name: As Prometheus spells it.
        rate: Per second.
        errors: Per second.
        p50: Milliseconds; estimated within its bucket, as PromQL's histogram_quantile does.
        p95: Milliseconds.
        in_flight: At the second reading.
    """

    name: str
    rate: float
    errors: float
    p50: float
    p95: float
    in_flight: int
    buckets: list[tuple[float, float]] = field(default_factory=list)


async def fetch(url: str) -> Scrape:
    """Read the endpoint.

    Args:
        url: Where it is.

    Raises:
        aiohttp.ClientError: Nobody answers there, or not with a page of metrics.
    """
    began = time.monotonic()
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5), raise_for_status=True) as session,
        session.get(url) as response,
    ):
        text = await response.text()
    took = time.monotonic() - began
    return Scrape(time.monotonic(), await asyncio.to_thread(_parse, text), len(text), took)


def _parse(text: str) -> dict[Sample, float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def operations(before: Scrape, after: Scrape) -> list[Operation]:
    """Return what happened between two readings, the busiest operation first.

    Args:
        before: The first reading.
        after: The second.
    """
    seconds = after.at - before.at
    found = []
    names = {name.removesuffix("_in_flight") for name, _ in after.samples if name.endswith("_in_flight")}
    for name in names:
        count, errors = (
            (after.total(f"{name}{_SUFFIX}_count", **only) - before.total(f"{name}{_SUFFIX}_count", **only))
            / seconds
            for only in ({}, {"outcome": "error"})
        )
        buckets = _buckets(before, after, f"{name}{_SUFFIX}_bucket")
        p50, p95 = (quantile(share, buckets) * 1000 for share in (0.5, 0.95))
        in_flight = int(after.total(f"{name}_in_flight"))
        found.append(Operation(name, count, errors, p50, p95, in_flight, buckets))
    return sorted(found, key=lambda operation: -operation.rate)


def _buckets(before: Scrape, after: Scrape, name: str) -> list[tuple[float, float]]:
    grown: dict[float, float] = {}
    for (sample, labels), value in after.samples.items():
        if sample == name:
            bound = float(dict(labels)["le"])
            grown[bound] = grown.get(bound, 0.0) + value - before.samples.get((sample, labels), 0.0)
    return sorted(grown.items())


def quantile(share: float, buckets: list[tuple[float, float]]) -> float:
    """Estimate a quantile from cumulative buckets, assuming an even spread within each.

    Args:
        share: For instance 0.95.
        buckets: Upper bound and cumulative count, ascending, the last bound infinite.
    """
    if not buckets or not buckets[-1][1]:
        return math.nan
    rank = share * buckets[-1][1]
    lower, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (rank - below) / max(count - below, 1e-12)
        lower, below = bound, count
    return lower
