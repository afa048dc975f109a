"""Instruments while series go, exporters come and go, processes fork and threads measure."""

import os
import random
import subprocess
import sys
import threading

import pytest
from opentelemetry.metrics import Observation

from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.meters.streams import Feed
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS
from tests.support.meters import OTLP, PROM, read, values


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


MAKERS = {
    "counter": lambda meter, name: meter.create_counter(name).add,
    "up-down counter": lambda meter, name: meter.create_up_down_counter(name).add,
    "gauge": lambda meter, name: meter.create_gauge(name).set,
    "histogram": lambda meter, name: (
        meter.create_histogram(name, explicit_bucket_boundaries_advisory=[1]).record
    ),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize(("naming", "exporter"), [(OPENTELEMETRY, OTLP), (PROMETHEUS, PROM)])
def test_an_instrument_whose_series_have_all_gone_gives_its_place_back(provide, make, naming, exporter):
    meter = provide(naming).get_meter("shop")
    store = store_of(exporter)
    store.max_metrics = 3
    measures = [make(meter, f"n{number}") for number in range(5)]
    for measure in measures:
        measure(0, {"a": "x"})
    assert len(store) == 3
    assert len(store.refusals) == 2
    for now in (0, 1, 20):
        store.expire(now, 10)
    assert (len(store), store.refusals) == (0, {})
    # Now those are taken that were refused before, and of the first whichever there is room for.
    for measure in [*reversed(measures)]:
        measure(0, {"a": "y"})
    assert [[dict(labels)["a"] for labels in metric.series] for metric in store.metrics] == [["y"]] * 3
    assert len(store.refusals) == 2


def test_what_observes_nothing_does_not_come_and_go(provide):
    provider = provide(OPENTELEMETRY)
    seen = [Observation(1)]
    provider.get_meter("shop").create_observable_gauge("n", [lambda _: seen])
    store = store_of(OTLP)
    read(provider)
    seen.clear()
    read(provider)
    for now in (0, 1, 20, 40):
        store.expire(now, 10)
    assert len(store) == 1
    seen.append(Observation(2))
    read(provider)
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
