"""A scrape a second for twenty seconds, under 20,000 events a second, by a real Prometheus server: no gap."""

import asyncio
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from tests.support.waiting import eventually

SECONDS = 20
PER_SECOND = 20_000
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def loaded_application():
    """An application of its own process that emits all the time; its port."""
    port = free_port()
    command = [
        sys.executable,
        *("-m", "tests.support.loaded_app", str(port), str(PER_SECOND), str(SECONDS)),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        yield port, process
        process.kill()


async def test_prometheus_scrapes_a_loaded_application_without_a_gap(loaded_application, prometheus):
    port, process = loaded_application
    assert await asyncio.to_thread(process.stdout.readline) == "emitting\n"
    # A scrape may take as long as the time between two.
    server = prometheus(f"127.0.0.1:{port}", interval="1s")
    await server.scraped()
    emitted = int(await asyncio.to_thread(process.stdout.readline))
    done = 2 * (emitted // 2)
    await eventually(lambda: asyncio.to_thread(lambda: server.value("load_done_total") == done))
    samples = await asyncio.to_thread(raw, server, "load_done_total", 600)
    up = await asyncio.to_thread(raw, server, "up", 600)

    # From the first on every scrape was answered, but for those that the machine had no time for.
    answered = [value for _, value in up]
    gaps = answered[answered.index(1.0) :].count(0.0)
    assert gaps <= waited_for_a_processor(process.pid)
    # And with everything in it.
    assert len(samples) == answered.count(1.0)
    assert len(samples) >= SECONDS / 4

    # The counter rises from scrape to scrape, up to the very number of events that were emitted.
    values = [value for _, value in samples]
    rising = values[: values.index(done) + 1]
    assert all(later > earlier for earlier, later in itertools.pairwise(rising))
    assert set(values[len(rising) :]) <= {done}

    # A histogram's count and its highest bucket are of one moment in every scrape: no series is torn.
    torn = await asyncio.to_thread(
        server.query,
        "count_over_time((load_work_duration_seconds_count != ignoring(le) "
        'load_work_duration_seconds_bucket{le="+Inf"})[600s:1s])',
    )
    assert torn == []


def waited_for_a_processor(pid):
    """The seconds a process could have run and other programs did, where the system counts them."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except FileNotFoundError:
        return 0.0


def raw(server, metric, seconds):
    """The samples of the only series of this name as they were scraped: (seconds since the epoch, value)."""
    data = server.api("query", query=f"{metric}[{seconds}s]")
    assert data["resultType"] == "matrix"
    assert len(data["result"]) == 1, data["result"]
    return [(float(at), float(value)) for at, value in data["result"][0]["values"]]
