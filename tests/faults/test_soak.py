"""Two hundred thousand events through both exporters, whose processes crash at random twenty times."""

import asyncio
import random
import urllib.request

import pytest
from otpylib import process

import otpylib_telemetry
from otpylib_telemetry import execute
from otpylib_telemetry.exporter.consumer import CHUNK
from tests.support.crash import crash
from tests.support.ledger import quiet_stats, stats_of
from tests.support.runtime import in_process
from tests.support.waiting import eventually

OPERATIONS = 60_000
COUNTS = 80_000
CRASHES = 20
BATCH = 512
EXPORTERS = ("otel_exporter", "prometheus_exporter")


@pytest.mark.slow
async def test_crashes_at_random_lose_and_double_nothing(runtime, grpc_receiver):
    dice = random.Random(20)
    common = {"event_patterns": ["soak.*"], "flush_interval": 0.1, "batch_size": BATCH}
    suite = {
        # Data points of metrics would be in the books too, if this took longer than the interval.
        "otel": {**common, "endpoint": grpc_receiver.endpoint, "metrics_interval": 3600, "timeout": 60},
        "prometheus": {**common, "port": 0},
    }
    await in_process(otpylib_telemetry.start_link, suite)
    for name in EXPORTERS:
        await eventually(lambda name=name: _runs(name))
    first_pids = {name: process.whereis(name) for name in EXPORTERS}

    emitting = asyncio.create_task(_emit())
    crashed = dict.fromkeys(EXPORTERS, 0)
    for number in range(CRASHES):
        await asyncio.sleep(dice.uniform(0.05, 0.3))
        victims = EXPORTERS if number % 5 == 0 else [dice.choice(EXPORTERS)]
        for name in victims:
            lives = (await stats_of(name))["lives"]
            await crash(name)
            crashed[name] += 1
            await eventually(lambda name=name, lives=lives: _reborn(name, lives))
    assert sum(crashed.values()) >= CRASHES
    await emitting

    for name in EXPORTERS:
        stats = await quiet_stats(name, timeout=60)
        assert stats["accepted"] == stats["exported"] == 2 * OPERATIONS + COUNTS, stats
        assert stats["dropped"] == {}
        assert stats["lives"] == crashed[name] + 1
        assert stats["wakeups"] <= most_wakeups(2 * OPERATIONS + COUNTS, stats["lives"])
        assert process.whereis(name) != first_pids[name]
    names = runtime.registered()
    assert sorted(str(name) for name in names if "exporter" in str(name)) == sorted(EXPORTERS)

    numbers = [span.attributes["number"] for span in grpc_receiver.spans]
    assert len(numbers) == OPERATIONS
    assert set(numbers) == set(range(OPERATIONS))
    metrics = await asyncio.to_thread(_fetch, (await stats_of("prometheus_exporter"))["port"])
    assert f"soak_items_total {COUNTS}" in metrics
    assert f'soak_operation_duration_seconds_count{{outcome="success"}} {OPERATIONS}' in metrics
    assert "soak_operation_in_flight 0" in metrics


def most_wakeups(events, lives):
    """How many wake-ups there can be at most, whatever the scheduler does.

    None is sent before a batch is together, and the next one only after the consumer has looked. However
    short of time it is, it takes a chunk then. In each life one more may be sent that nobody lives to hear.
    """
    return events / min(CHUNK, BATCH) + lives


async def _emit():
    """Emit operations and counts, the ends some way behind the beginnings, giving the loop its turns."""
    open_ones = []
    for number in range(max(OPERATIONS, COUNTS)):
        if number < OPERATIONS:
            execute("soak.operation.start", {}, {"request_id": number})
            open_ones.append(number)
        if number < COUNTS:
            execute("soak.items", {"count": 1})
        if len(open_ones) > 20:
            _end(open_ones.pop(0))
        if number % 50 == 0:
            # The pace of an application that has something else to do: about 15,000 events a second.
            await asyncio.sleep(0.008)
    for number in open_ones:
        _end(number)


def _end(number):
    execute("soak.operation.stop", {"number": number}, {"request_id": number})


async def _runs(name):
    return (await stats_of(name))["state"] == "running"


async def _reborn(name, lives):
    return (await stats_of(name, timeout=5.0))["lives"] > lives


def _fetch(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        return answer.read().decode()
