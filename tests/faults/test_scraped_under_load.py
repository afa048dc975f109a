"""Four scrapes a second for a minute, under 20,000 events a second, by a real Prometheus server: no gap."""

import asyncio
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.waiting import eventually

pytestmark = [pytest.mark.peer, pytest.mark.slow, pytest.mark.timeout(180)]

SECONDS = 60
PER_SECOND = 20_000
SCRAPES_PER_SECOND = 4
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def loaded_application():
    """An application of its own process that emits all the time; its port."""
    port = free_port()
    command = [
        sys.executable,
        *("-m", "tests.support.loaded_app", str(port), str(PER_SECOND), str(SECONDS + 20)),
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        yield port, process
        process.kill()


async def test_prometheus_scrapes_a_loaded_application_without_a_gap(loaded_application, prometheus):
    port, process = loaded_application
    assert await asyncio.to_thread(process.stdout.readline) == "emitting\n"
    server = prometheus(f"127.0.0.1:{port}")
    await server.scraped()
    begun = await asyncio.to_thread(server.value, "time()")
    await asyncio.sleep(SECONDS)

    def at_least(expression, count):
        return server.value(f"count_over_time(({expression})[{SECONDS}s:1s])") >= count

    assert await eventually(lambda: asyncio.to_thread(at_least, "up", SECONDS))
    samples = await asyncio.to_thread(raw, server, "load_done_total", SECONDS)
    up = await asyncio.to_thread(raw, server, "up", SECONDS)

    # Every scrape was answered, and with everything in it.
    assert {value for _, value in up} == {1.0}
    assert len(samples) == len(up)
    assert len(samples) >= SECONDS * SCRAPES_PER_SECOND * 0.95
    times = [at for at, _ in samples]
    assert begun <= times[0] + SECONDS
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 1.0

    # The counter rises from scrape to scrape, as fast as events were emitted.
    values = [value for _, value in samples]
    assert all(later > earlier for earlier, later in itertools.pairwise(values))
    rate = (values[-1] - values[0]) / (times[-1] - times[0])
    assert rate == pytest.approx(PER_SECOND, rel=0.25)

    # A histogram's count and its highest bucket are of one moment in every scrape: no series is torn.
    torn = await asyncio.to_thread(
        server.query,
        f"count_over_time((load_work_duration_seconds_count != ignoring(le) "
        f'load_work_duration_seconds_bucket{{le="+Inf"}})[{SECONDS}s:250ms])',
    )
    assert torn == []


def raw(server, metric, seconds):
    """The samples of the only series of this name as they were scraped: (seconds since the epoch, value)."""
    data = server.api("query", query=f"{metric}[{seconds}s]")
    assert data["resultType"] == "matrix"
    assert len(data["result"]) == 1, data["result"]
    return [(float(at), float(value)) for at, value in data["result"][0]["values"]]
