"""Instruments while series go, exporters come and go, processes fork and threads measure."""

import os
import random
import subprocess
import sys
import threading

import pytest

from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.meters.streams import Feed
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS
from tests.support.meters import OTLP, PROM, values


def test_a_series_that_has_gone_comes_back_with_the_next_measurement(provide):
    counter = provide(OPENTELEMETRY).get_meter("shop").create_counter("n")
    counter.add(1, {"a": "x"})
    counter.add(1)
    store = store_of(OTLP)
    store.expire(0, 10)
    store.expire(1, 10)
    assert store.expire(20, 10) == 2
    counter.add(5, {"a": "x"})
    counter.add(7)
    assert values() == {("n", ("a", "x")): 5, ("n",): 7}
    assert store.remove(store.metrics[0].name) is False  # it is known by name and scope
    (key,) = store._metrics
    store.remove(key)
    counter.add(2)
    assert values() == {("n",): 2}


def test_an_exporter_can_be_added_and_taken_away(provide):
    provider = provide()
    counter = provider.get_meter("shop").create_counter("n")
    counter.add(1)
    feed = Feed(OTLP, OPENTELEMETRY)
    provider.add_feed(feed)
    provider.add_feed(feed)
    counter.add(2)
    provider.remove_feed(feed)
    counter.add(4)
    assert values() == {("n",): 2}


FORKED = """
import asyncio, json, os, sys, threading
from opentelemetry.metrics import Observation
from otpylib_telemetry.meters.streams import Feed; from otpylib_telemetry.meters.provider import MeterProvider
from otpylib_telemetry.aggregation import observers
from otpylib_telemetry.metrics.names import PROMETHEUS
from otpylib_telemetry.aggregation.exporter_stores import store_of

provider = MeterProvider([Feed("p", PROMETHEUS)])
meter = provider.get_meter("shop")
counter = meter.create_counter("n")
stuck, entered = threading.Event(), threading.Event()

def observe(options):
    if os.getpid() == parent:
        entered.set()
        stuck.wait(20)
    return [Observation(os.getpid())]

parent = os.getpid()
meter.create_observable_gauge("pid", [observe])
counter.add(100)
provider.take_reading()
entered.wait(10)

def seen():
    return sorted(series.value for metric in store_of("p").metrics for series in metric.all_series())

provider._lock.acquire()   # as if another thread held it
child = os.fork()
if child == 0:
    counter.add(1)
    asyncio.run(observers.refresh("p"))
    assert seen() == sorted([1, os.getpid()]), seen()
    os._exit(0)
provider._lock.release()
stuck.set()
_, status = os.waitpid(child, 0)
counter.add(1)
asyncio.run(observers.refresh("p"))
assert seen() == sorted([101, parent]), seen()
assert status == 0
print("well")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_counts_for_itself_from_nothing():
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", FORKED],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "well\n", done.stderr


def test_no_increment_is_lost_or_torn_by_eight_threads(provide):
    meter = provide(PROMETHEUS, OPENTELEMETRY).get_meter("shop")
    counter, histogram = meter.create_counter("n"), meter.create_histogram("h")
    threads, each = 8, 3_000
    start, torn, running = threading.Barrier(threads + 1), [], threading.Event()

    def work(seed):
        order = random.Random(seed)
        start.wait()
        for _ in range(each):
            counter.add(1, {"a": order.choice("xyz")})
            histogram.record(2, {"a": order.choice("xyz")})

    def look():
        store = store_of(OTLP)
        while not running.is_set():
            for metric in store.metrics:
                with store.lock:
                    torn.extend(
                        one for one in metric.all_series() if hasattr(one, "sum") and one.sum != 2 * one.count
                    )

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
    reader = threading.Thread(target=look)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in (*workers, reader):
            thread.start()
        start.wait()
        for thread in workers:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
        running.set()
        reader.join()
    assert torn == []
    for name in (PROM, OTLP):
        found = values(name)
        assert sum(value for value in found.values() if not isinstance(value, tuple)) == threads * each
        assert sum(value[0] for value in found.values() if isinstance(value, tuple)) == threads * each
