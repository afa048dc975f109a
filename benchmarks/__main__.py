"""``python -m benchmarks``: the tables of docs/benchmarks.md, measured here and now."""

from __future__ import annotations

import argparse
import asyncio
import platform
from importlib.metadata import version

from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend.backend import AsyncIOBackend

from benchmarks import (
    actors,
    allocations,
    application,
    endpoint,
    folding,
    memory,
    meters,
    operations,
    ours,
    outage,
    peers,
    scrape,
    series_memory,
    shutdown,
    sizing,
)
from benchmarks.harness import Case, Comparison, measure, table


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    arguments.add_argument("--rounds", type=int, default=15, help="rounds of which the median is taken")
    arguments.add_argument("--count", type=int, default=10_000, help="operations per round and case")
    arguments.add_argument(
        "--shutdown", action="store_true", help="measure shutting down instead; takes some minutes"
    )
    arguments.add_argument(
        "--outage", action="store_true", help="measure what the application feels of a dead collector instead"
    )
    arguments.add_argument(
        "--application", action="store_true", help="measure an aiohttp application at full load instead"
    )
    arguments.add_argument(
        "--seconds", type=float, default=application.SECONDS, help="of load in each round, for --application"
    )
    arguments.add_argument(
        "--scrape", action="store_true", help="measure scrapes instead; takes some minutes"
    )
    arguments.add_argument(
        "--series", type=int, default=scrape.SERIES, help="counters, and histograms, for --scrape"
    )
    arguments.add_argument(
        "--folding",
        action="store_true",
        help="measure a label with ever new values instead; takes some minutes",
    )
    arguments.add_argument(
        "--events", type=int, default=folding.EVENTS, help="how many events, for --folding"
    )
    arguments.add_argument(
        "--actors", action="store_true", help="measure what seeing the actors costs instead"
    )
    arguments.add_argument(
        "--sizing", action="store_true", help="measure what to have room for instead: memory and rates"
    )
    options = arguments.parse_args()
    if options.sizing or options.actors:
        own = sizing.table(min(options.rounds, 7), options.count) if options.sizing else None
        print(own or actors.report(options.rounds, options.count // 4))
        return
    if options.folding:
        print(folding.table(options.events))
        return
    if options.scrape:
        rounds = min(options.rounds, scrape.ROUNDS)
        print(scrape.table(rounds, options.series))
        print(f"\n{endpoint.table(rounds, options.series)}")
        print(f"\n{series_memory.table(min(options.series, series_memory.SERIES))}")
        return
    if options.application:
        print(application.table(min(options.rounds, application.ROUNDS), options.seconds))
        return
    if options.outage:
        print(outage.table())
        return
    if options.shutdown:
        print(shutdown.table())
        return

    loop = asyncio.new_event_loop()
    backend = AsyncIOBackend()
    loop.run_until_complete(backend.initialize())
    set_runtime(backend)
    count = options.count
    comparisons = [
        Comparison(
            "What the caller pays for one event",
            [
                Case(
                    "`Counter.labels(**labels).inc()` (prometheus_client)",
                    peers.prometheus_increment(),
                    count,
                ),
                Case("`execute`, nobody listens", ours.nobody_listens(), count),
                Case("`execute`, one exporter", ours.one_exporter(), count),
            ],
        ),
        Comparison(
            "One event to a counter on the Prometheus page, whole cost",
            [
                Case(
                    "`Counter.labels(**labels).inc()` (prometheus_client)",
                    peers.prometheus_increment(),
                    count,
                ),
                Case("`execute` with `count`, automatic, collected", ours.event_to_series("count"), count),
                Case(
                    "`execute`, a `counter` definition, collected",
                    ours.event_to_defined("counter", "count"),
                    count,
                ),
            ],
        ),
        Comparison(
            "One event to a histogram on the Prometheus page, whole cost",
            [
                Case(
                    "`Histogram.labels(**labels).observe()` (prometheus_client)",
                    peers.prometheus_observe(),
                    count,
                ),
                Case("`execute` with `duration_ms`, automatic, collected", ours.event_to_series(), count),
                Case(
                    "`execute`, a `distribution` definition, collected",
                    ours.event_to_defined("distribution", "duration_ms", unit=["ms", "s"]),
                    count,
                ),
                Case(
                    "`execute`, a `distribution` with exponential buckets, collected",
                    ours.event_to_defined("distribution", "duration_ms", buckets="exponential"),
                    count,
                ),
            ],
        ),
        Comparison(
            "One event to a summary on the Prometheus page, whole cost",
            [
                Case(
                    "`Summary.labels(**labels).observe()`: count and sum, no quantiles (prometheus_client)",
                    peers.prometheus_summary(),
                    count,
                ),
                Case(
                    "`execute`, a `summary` definition: quantiles within 1 %, collected",
                    ours.event_to_defined("summary", "duration_ms"),
                    count,
                ),
            ],
        ),
        Comparison(
            "One operation to a finished span in a batch, whole cost",
            [
                Case(
                    "`start_span`, three `set_attribute`, `end` (OpenTelemetry SDK)",
                    peers.sdk_span(),
                    count // 4,
                ),
                Case("`execute` start and stop, assembled", ours.start_and_stop_to_span(), count // 4),
            ],
        ),
        Comparison(
            "One operation to an encoded OTLP request, whole cost",
            [
                Case(
                    "span, `BatchSpanProcessor`, `encode_spans` (OpenTelemetry SDK)",
                    peers.sdk_span(encode=True),
                    count // 4,
                ),
                Case(
                    "`execute` start and stop, assembled, encoded",
                    ours.start_and_stop_to_span(encode=True),
                    count // 4,
                ),
            ],
        ),
        Comparison(
            "One event to an exporter process",
            [
                Case("two `gen_server.cast` per event", peers.cast_per_event(loop), count // 4),
                Case("`execute`, one exporter, collected into a series", ours.event_to_series(), count),
            ],
        ),
    ]
    comparisons += operations.comparisons(count)
    comparisons += meters.comparisons(count)
    measure(comparisons, options.rounds)
    names = ("otpylib", "prometheus-client", "opentelemetry-sdk")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    print(f"Python {platform.python_version()}, {versions}; median of {options.rounds} rounds of {count}.\n")
    print(table(comparisons))
    print(f"\n{memory.table(count)}")
    print(f"\n{allocations.table(count)}")
    loop.run_until_complete(backend.shutdown())
    loop.close()


if __name__ == "__main__":
    main()
