"""How long a scrape of the whole exporter holds up the event loop it runs on.

The real exporter, scraped over a real socket with gzip, its own metrics included, while events wait that have
to be collected first: in an application of one process, with a registry of prometheus_client merged, and in
multiprocess mode. Every series has changed since the scrape before. The client is a process
of its own, so that it holds up nobody.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from otpylib import gen_server, process
from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend.backend import AsyncIOBackend

from benchmarks.scrape import Ours, Theirs, longest_gap
from otpylib_telemetry import execute
from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry_prometheus import start_prometheus_exporter
from otpylib_telemetry_prometheus.client.merged import merge_registry, unmerge_registry

_EXPORTER = "prometheus_exporter"

#: Events that wait when a scrape begins.
_WAITING = 5_000

#: The registry that is merged is smaller by this: prometheus_client needs longer than a scrape may take.
_PART_MERGED = 10

_CLIENT = """
import sys, urllib.request
asked = urllib.request.Request(sys.argv[1], headers={"Accept-Encoding": "gzip"})
for line in sys.stdin:
    with urllib.request.urlopen(asked, timeout=300) as answer:
        print(answer.headers["Content-Encoding"], len(answer.read()), flush=True)
"""


async def _running() -> dict[str, Any]:
    while True:
        stats: dict[str, Any] = await gen_server.call(_EXPORTER, ("get_stats",), timeout=30)
        if stats["state"] == "running":
            return stats
        await asyncio.sleep(0.01)


async def _gaps(series: int, rounds: int, settings: dict[str, Any]) -> list[float]:
    """Return the longest gap of each of some scrapes, in seconds."""
    await start_prometheus_exporter({"port": 0, "max_series": series, **settings})
    url = (await _running())["url"]
    ours = Ours(series, store_of(_EXPORTER))
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CLIENT, url, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    asked, answered = client.stdin, client.stdout
    if asked is None or answered is None:
        raise AssertionError("the client has no pipes")

    async def scrape() -> None:
        asked.write(b"\n")
        answer = await answered.readline()
        if not answer.startswith(b"gzip "):
            raise AssertionError(f"not what was asked for: {answer!r}")

    found: list[float] = []
    for number in range(rounds + 1):
        ours.measure(0.0007 * (number + 1))
        for _ in range(_WAITING):
            execute("bench.request", {"duration_ms": 12.3}, {"method": "GET"})
        # The first one is of a process that has served none: all text is new.
        found.append(await longest_gap(scrape))
    asked.close()
    await client.wait()
    if failures := (await _running()).get("merged", {}).get("failures"):
        raise AssertionError(f"what is merged is not on the page: {failures}")
    pid = process.whereis(_EXPORTER)
    await gen_server.call(_EXPORTER, ("flush", 30.0), timeout=60)
    await process.exit(pid, "shutdown")
    while process.whereis(_EXPORTER) is not None:  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.01)
    return found


async def _measured(series: int, rounds: int, directory: Path) -> dict[str, list[float]]:
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    found: dict[str, list[float]] = {}
    done = asyncio.get_running_loop().create_future()

    async def body() -> None:
        try:
            found["one process"] = await _gaps(series, rounds, {})
            merged = max(1, series // _PART_MERGED)
            theirs = Theirs(merged, "merged_")
            theirs.measure(0.01)
            merge_registry(theirs.registry)
            name = f"with {merged} counters and {merged} histograms of prometheus_client merged"
            found[name] = await _gaps(series, rounds, {})
            unmerge_registry(theirs.registry)
            shared = {"multiprocess_dir": str(directory / "workers")}
            found["multiprocess mode, one worker"] = await _gaps(series, rounds, shared)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            done.set_exception(error)
        else:
            done.set_result(None)

    await process.spawn(body)
    await done
    await backend.shutdown()
    return found


def table(rounds: int, series: int) -> str:
    """Measure, and return the result as a Markdown table.

    Args:
        rounds: Of which the median is taken, the first scrape of a process apart.
        series: How many counters, and how many histograms.
    """
    # What an exporter clears up in the background may go on after its end, and needs the directory.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        found = asyncio.run(_measured(series, rounds, Path(directory)))
    rows = [
        f"| longest gap while the exporter is scraped, {_WAITING} events waiting | ms | first scrape, ms |",
        "|---|---:|---:|",
    ]
    for name, (first, *others) in found.items():
        rows.append(f"| {name} | {statistics.median(others) * 1000:.1f} | {first * 1000:.1f} |")
    return "\n".join(rows)
