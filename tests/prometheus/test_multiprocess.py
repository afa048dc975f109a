"""Several workers, one page: what they wrote merges as prometheus_client merges it, and outlives them."""

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from otpylib import process
from otpylib.runtime.atoms import KILLED
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import make_wsgi_app
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import mark_process_dead
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families

from otpylib_telemetry import execute, otp
from otpylib_telemetry.aggregation.metric_spec import SummaryShape
from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry.metrics.options import MULTIPROCESS_MODES
from otpylib_telemetry_prometheus import start_prometheus_exporter
from otpylib_telemetry_prometheus.endpoint.server import Endpoint
from otpylib_telemetry_prometheus.endpoint.sockets import EndpointError
from otpylib_telemetry_prometheus.exposition.negotiation import OPENMETRICS
from otpylib_telemetry_prometheus.exposition.writer import Exposition
from otpylib_telemetry_prometheus.multiprocess import cleaner, worker_files, writer
from otpylib_telemetry_prometheus.multiprocess import files as files_module
from otpylib_telemetry_prometheus.multiprocess.database import Database
from otpylib_telemetry_prometheus.multiprocess.files import MultiprocessError, held, scan, version_name
from otpylib_telemetry_prometheus.multiprocess.registry import MultiProcessRegistry
from otpylib_telemetry_prometheus.multiprocess.workers import Multiprocess
from tests.support import declare, programs
from tests.support.examples import examples
from tests.support.shared_metrics import Ours, Theirs, page, parsed, their_page, value
from tests.support.versions import needs_new_client
from tests.support.waiting import eventually, wait_until

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs what forking servers need"),
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning"
    ),  # 3.12 on: forking with threads is what is tested
]

# Dyadic, so that sums are exact whichever way they are added up.
AMOUNTS = st.integers(0, 4096).map(lambda number: number / 256)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=5)
STEPS = st.one_of(
    st.tuples(st.just("count"), AMOUNTS, st.sampled_from(["", 'a "b"\n\\', "é"])),
    st.tuples(st.just("observe"), AMOUNTS, st.sampled_from(["", "x"])),
    st.tuples(st.just("move"), st.integers(-3, 5), st.just("")),
    st.tuples(st.sampled_from(MULTIPROCESS_MODES), st.integers(-5, 5), st.sampled_from(["p", "q"])),
)
BATCHES = st.lists(st.tuples(st.integers(0, 2), st.lists(STEPS, min_size=1, max_size=6)), max_size=12)


def do(ours, theirs, step):
    """The same to both."""
    what, amount, label = step
    labels = {"k": label}
    if what == "count":
        ours.count(amount, **labels)
        counter = theirs.metric("Counter", "requests", "Requests.", labels)
        theirs.run(lambda: counter.inc(amount))
    elif what == "observe":
        ours.observe(amount, **labels)
        histogram = theirs.metric("Histogram", "seconds", "Seconds.", labels, buckets=(0.25, 1.0, 2.5))
        theirs.run(lambda: histogram.observe(amount))
    elif what == "move":
        ours.move(amount)
        gauge = theirs.metric("Gauge", "open", "Open.", {}, multiprocess_mode="livesum")
        theirs.run(lambda: gauge.inc(amount))
    else:
        ours.set(amount, name=f"gauge_{what}", **labels)
        gauge = theirs.metric("Gauge", f"gauge_{what}", "A gauge.", labels, multiprocess_mode=what)
        theirs.run(lambda: gauge.set(amount))


@needs_new_client
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches=BATCHES, dead=st.sets(st.integers(0, 2)))
def test_the_same_stream_merges_as_prometheus_client_merges_it(batches, dead):
    with tempfile.TemporaryDirectory() as top:
        one, other = Path(top) / "ours", Path(top) / "theirs"
        other.mkdir()
        modes = {f"gauge_{mode}": mode for mode in MULTIPROCESS_MODES}
        pids = (1001, 1002, 1003)
        ours = [Ours(one, pid, modes) for pid in pids]
        theirs = [Theirs(other, pid) for pid in pids]
        for worker, batch in batches:
            for step in batch:
                do(ours[worker], theirs[worker], step)
            ours[worker].write()
        assert page(one) == their_page(other)
        for worker in dead:
            if ours[worker].shared._writer is not None:
                ours[worker].die()
            mark_process_dead(pids[worker], str(other))
        assert page(one) == their_page(other)
        # Added up, they are what they were one by one.
        absorbed = cleaner.Cleaner(ours[0].shared._root, spare=0)
        assert absorbed.clean()
        assert page(one) == their_page(other)
        for worker in theirs:
            worker.close()


def test_real_processes_that_are_killed_leave_what_those_of_prometheus_client_leave(tmp_path):
    one, other = tmp_path / "ours", tmp_path / "theirs"
    other.mkdir()
    workers = [
        programs.start(
            ["-m", "tests.support.multiprocess_worker", one, other, seed],
            stdin=subprocess.PIPE,
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(other)},
        )
        for seed in range(3)
    ]
    try:
        for worker in workers:
            assert worker.stdout.readline() == "written\n"
        everything = page(one)
        assert everything == their_page(other)
        workers[1].kill()
        workers[1].wait()
        mark_process_dead(workers[1].pid, str(other))
        remaining = page(one)
        assert remaining == their_page(other)
        assert remaining["requests"] == everything["requests"]
        assert remaining["open"] != everything["open"]
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


@given(name=TEXTS, labels=st.dictionaries(TEXTS.filter(lambda text: text != "le"), TEXTS), text=TEXTS)
def test_our_keys_are_those_of_prometheus_client(name, labels, text):
    keys = writer._Keys(name, labels, text)
    assert keys.of("_sum") == mmap_key(name, name + "_sum", [*labels], [*labels.values()], text)
    assert keys.of_bucket(2.5) == mmap_key(
        name, name + "_bucket", [*labels, "le"], [*labels.values(), "2.5"], text
    )


def test_what_is_written_is_written_per_batch_and_not_per_sample(tmp_path):
    worker = Ours(tmp_path, 1)
    worker.count()
    worker.observe(0.5)
    worker.write()
    for _ in range(1_000):
        worker.count()
        worker.observe(0.5)
    assert worker.write() == 3  # the counter, the sum, the bucket
    assert worker.write() == 0
    assert worker.shared.stats()["writes"] == 2
    assert value(tmp_path, "requests_total") == 1_001
    assert value(tmp_path, "seconds_bucket", le="1.0") == 1_001


def test_a_write_that_took_long_is_followed_by_a_rest_unless_it_is_asked_for(tmp_path):
    times = iter([0, 0.002, 0.01, 0.021, 0.03, 0.031, 0.032])
    shared = Multiprocess(tmp_path, clock=lambda: next(times))
    shared._clean_at = float("inf")
    store = SeriesStore(10)
    counter = declare.counter(store, "requests_total", "Requests.").at(())
    counter.add(1)
    assert shared.write(store) == 1
    counter.add(1)
    assert shared.write(store) == 0  # ten milliseconds later; the first took two
    assert shared.write(store) == 0
    assert shared.write(store) == 1


def test_writing_many_series_does_not_hold_up_an_event_loop(tmp_path):
    writing = []
    worker = Ours(tmp_path, os.getpid())
    for number in range(1_000):
        worker.count(k=str(number))
    begin, shared = worker.shared._begin, worker.shared
    shared._begin = lambda store: writing.append(store) or begin(store)
    assert shared.write(worker.store) == 0
    wait_until(lambda: shared.stats()["samples_written"] == 1_000)
    worker.store.remove("requests_total", (("k", "1"),))
    wait_until(lambda: shared.write(worker.store) == 0 and shared.stats()["samples_written"] == 1_999)
    assert len(writing) >= 2
    assert set(map(id, writing)) == {id(worker.store)}
    assert value(tmp_path, "requests_total", k="1") is None


def test_series_that_are_gone_are_gone_from_the_page(tmp_path):
    worker = Ours(tmp_path, 1)
    worker.count(3, k="a")
    worker.count(4, k="b")
    worker.write()
    worker.store.remove("requests_total", (("k", "a"),))
    worker.write()
    assert page(tmp_path)["requests"][2] == {("requests_total", (("k", "b"),)): 4}


def test_a_label_that_one_worker_has_folded_adds_up_with_what_others_have(tmp_path):
    first, second = Ours(tmp_path, 1), Ours(tmp_path, 2)
    first.store.max_series = 3
    for number in range(3):
        first.count(1, order=f"{number}", shop="a")
        first.observe(0.5, order=f"{number}", shop="a")
    first.write()
    for number in range(3, 6):
        first.count(1, order=f"{number}", shop="a")
        first.observe(0.5, order=f"{number}", shop="a")
    second.count(1, order="1", shop="a")
    for worker in (first, second):
        worker.write()
    folded, exact = (("order", "(folded)"), ("shop", "a")), (("order", "1"), ("shop", "a"))
    found = page(tmp_path)
    assert found["requests"][2] == {("requests_total", folded): 6, ("requests_total", exact): 1}
    assert found["seconds"][2]["seconds_count", folded] == 6


def test_what_is_folded_while_it_is_written_is_written_as_it_was_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_SLICE", 2)
    worker = Ours(tmp_path, 1)
    worker.store.max_series = 6
    for number in range(6):
        worker.observe(0.5, order=f"{number}")
    changes = writer.StoreWriter._changes
    slices = []

    def fold_after_the_first(one, metric, present, now):
        yield from changes(one, metric, present, now)
        slices.append(present)
        if len(slices) == 1:
            worker.observe(0.5, order="new")

    monkeypatch.setattr(writer.StoreWriter, "_changes", fold_after_the_first)
    worker.write()
    count = "seconds_count"
    assert sum(value for (name, _), value in page(tmp_path)["seconds"][2].items() if name == count) == 6
    worker.write()
    found = {key: value for (name, key), value in page(tmp_path)["seconds"][2].items() if name == count}
    assert found == {(("order", "(folded)"),): 7}


def test_a_summary_has_its_count_and_its_sum(tmp_path):
    worker = Ours(tmp_path, 1)
    shape = SummaryShape((0.5,), scale=3, max_size=160, slice_ns=10**9, slices=6)
    summary = declare.summary(worker.store, "latency", "How long.", shape).at(())
    for number in (1, 2, 4):
        summary.observe(number)
    worker.write()
    assert page(tmp_path)["latency"] == (
        "summary",
        "How long.",
        {("latency_count", ()): 3, ("latency_sum", ()): 7},
    )


def test_exponential_buckets_of_different_resolution_add_up(tmp_path):
    for pid, numbers in ((1, [1.5, 3.0, 1e6, 1e-6]), (2, [3.0, 0.0, -3.0])):
        worker = Ours(tmp_path, pid)
        series = declare.exponential(worker.store, "size", "Sizes.", scale=3, max_size=4).at(())
        for number in numbers:
            series.observe(number)
            worker.write()
    kind, _, samples = page(tmp_path)["size"]
    counts = [
        (float(dict(labels)["le"]), number) for (name, labels), number in samples.items() if "bucket" in name
    ]
    assert kind == "histogram"
    assert samples["size_count", ()] == 7
    assert sorted(counts) == sorted(counts, key=lambda found: (found[1], found[0]))
    assert max(counts)[1] == 7
    assert max(number for bound, number in counts if bound < 0) == 1


def quantile(buckets, wanted):
    """What PromQL's histogram_quantile makes of buckets that are added up over series."""
    rank = wanted * buckets[math.inf]
    below, counted = 0.0, 0.0
    for bound, count in sorted(buckets.items()):
        if count >= rank:
            return below + (bound - below) * (rank - counted) / (count - counted)
        below, counted = bound, count
    raise AssertionError(buckets)


def test_the_exponential_histograms_of_several_workers_can_be_added_up_over_their_series(tmp_path):
    numbers = {"a": [1.1 ** (n % 20) for n in range(200)], "b": [20 * 1.1 ** (n % 20) for n in range(200)]}
    for pid, some in enumerate((["a"], ["b"], ["a", "b"]), start=1):
        worker = Ours(tmp_path, pid)
        metric = declare.exponential(worker.store, "size", "Sizes.", scale=5, max_size=160)
        for label in some:
            for number in numbers[label]:
                metric.at((("k", label),)).observe(number)
                worker.write()
    registry = MultiProcessRegistry(tmp_path)
    (family,) = registry.collect()
    per_series = {}
    for sample in family.samples:
        if sample.name == "size_bucket":
            per_series.setdefault(sample.labels["k"], {})[float(sample.labels["le"])] = sample.value
    first, second = per_series.values()
    assert first.keys() == second.keys()
    assert all(math.frexp(bound)[0] == 0.5 for bound in first if bound != math.inf)
    summed = {bound: first[bound] + second[bound] for bound in first}
    every = sorted(2 * (numbers["a"] + numbers["b"]))
    assert summed == {bound: sum(number <= bound for number in every) for bound in summed}
    for wanted in (0.25, 0.4, 0.75, 0.9):
        true = every[int(wanted * len(every))]
        assert true / 2 <= quantile(summed, wanted) <= true * 2


@needs_new_client
def test_openmetrics_gets_no_sum_of_several_workers_that_may_fall(tmp_path):
    worker = Ours(tmp_path, 1)
    worker.observe(-5)
    worker.observe(1, k="x")
    declare.exponential(worker.store, "size", "Sizes.", scale=3, max_size=160).at(()).observe(-3)
    shape = SummaryShape((0.5,), scale=3, max_size=160, slice_ns=10**9, slices=6)
    declare.summary(worker.store, "latency", "How long.", shape).at(()).observe(-3)
    worker.write()
    text = Exposition().text([], MultiProcessRegistry(tmp_path).collect(), OPENMETRICS)
    samples = {
        (one.name, *one.labels.items()): one.value
        for family in openmetrics_families(text)
        for one in family.samples
        if not one.name.endswith("_bucket")
    }
    assert samples == {
        ("seconds_count", ("k", "x")): 1,
        ("seconds_sum", ("k", "x")): 1,
        ("latency_count",): 1,
    }
    assert value(tmp_path, "seconds_sum") == -5


def test_a_bucket_that_was_told_never_falls_though_it_has_become_too_fine(tmp_path):
    worker = Ours(tmp_path, 1)
    series = declare.exponential(worker.store, "size", "Sizes.", scale=3, max_size=4).at(())
    before = {}
    for number in (3.0, 5.0, 9.0, 2.0**30, 2.0**-30, 7.0):
        series.observe(number)
        worker.write()
        (family,) = MultiProcessRegistry(tmp_path).collect()
        found = {one.labels["le"]: one.value for one in family.samples if one.name == "size_bucket"}
        assert all(found[bound] >= count for bound, count in before.items())
        assert [*found.values()] == sorted(found.values())
        before = found
    assert before["+Inf"] == 6


def test_a_gauge_that_is_set_again_to_what_it_was_is_the_most_recent(tmp_path):
    first, second = Ours(tmp_path, 1), Ours(tmp_path, 2)
    for worker, number in ((first, 5), (second, 7), (first, 5)):
        worker.set(number)
        worker.write()
    assert value(tmp_path, "gauge") == 5
    second.count()  # its directory is written anew; its gauge is as old as before
    second.store.remove("requests_total")
    second.write()
    assert value(tmp_path, "gauge") == 5


def test_gauges_keep_a_label_that_prometheus_client_uses_itself(tmp_path):
    worker = Ours(tmp_path, 1)
    worker.set(1, pid="a")
    worker.set(2, pid="b")
    worker.write()
    assert (value(tmp_path, "gauge", exported_pid="a"), value(tmp_path, "gauge", exported_pid="b")) == (1, 2)


def test_the_mode_of_a_metric_decides_where_no_table_does(tmp_path):
    for pid in (1, 2):
        worker = Ours(tmp_path, pid)
        worker.shared.use_schema("s", modes={"low": "min"})
        for name in ("low", "high"):
            declare.gauge(worker.store, name, "A gauge.", multiprocess_mode="max")
        worker.set(pid, "low")
        worker.set(pid, "high")
        worker.write()
    assert (value(tmp_path, "low"), value(tmp_path, "high")) == (1, 2)


def test_namespace_and_global_labels_are_on_the_page(tmp_path):
    worker = Ours(tmp_path, 1)
    worker.shared.use_schema("s", namespace="shop", global_labels={"zone": "a"})
    worker.count(2, zone="mine")
    worker.write()
    assert value(tmp_path, "shop_requests_total", zone="a", exported_zone="mine") == 2


# Workers that come and go


def test_the_successor_of_a_dead_worker_with_its_pid_does_not_overwrite_its_numbers(tmp_path):
    for _ in range(3):
        worker = Ours(tmp_path, 77)
        worker.count(5)
        worker.observe(1.0)
        worker.move(1)
        worker.write()
        worker.die()
    assert value(tmp_path, "requests_total") == 15
    assert value(tmp_path, "seconds_count") == 3
    assert value(tmp_path, "open") is None


def test_files_do_not_grow_in_number_with_the_workers_that_ever_were(tmp_path):
    survivor = Ours(tmp_path, 1)
    survivor.count()
    survivor.write()
    for pid in range(2, 42):
        worker = Ours(tmp_path, pid)
        worker.count()
        worker.observe(0.5, k="a")
        worker.set(pid)
        worker.move(1)
        worker.write()
        worker.die()
        cleaner.Cleaner(worker.shared._root).clean()
    assert value(tmp_path, "requests_total") == 41
    assert value(tmp_path, "seconds_count", k="a") == 40
    assert value(tmp_path, "gauge") == 41
    assert len([*tmp_path.rglob("*.db")]) < 20


def test_whoever_writes_a_store_again_goes_on_with_its_numbers(tmp_path):
    worker = Ours(tmp_path, os.getpid())
    worker.count(5)
    worker.move(2)
    worker.write()
    worker.shared.close()
    assert (value(tmp_path, "requests_total"), value(tmp_path, "open")) == (5, None)
    assert cleaner.Cleaner(worker.shared._root, spare=0).clean()
    again = Multiprocess(tmp_path)
    again.use_schema("another")
    worker.count(1)
    again.write(worker.store, force=True)
    assert (value(tmp_path, "requests_total"), value(tmp_path, "open")) == (6, 2)


def test_a_directory_that_is_emptied_while_it_is_in_use_is_filled_again(tmp_path, caplog):
    worker = Ours(tmp_path, 1)
    worker.count(5)
    worker.write()
    for path in tmp_path.rglob("*.db"):
        path.unlink()
    (found,) = tmp_path.rglob("w-*")
    files_module.remove(found)
    worker.shared._look_at = 0
    worker.write()
    assert value(tmp_path, "requests_total") == 5
    assert "was removed while it was in use" in caplog.text


def forked(work):
    """Do something in a child; give what it returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return json.loads(said)


def test_a_child_neither_writes_for_its_parent_nor_keeps_it_alive(tmp_path):
    shared, store = Multiprocess(tmp_path), SeriesStore(10)
    shared._clean_at = float("inf")
    counter = declare.counter(store, "requests_total", "Requests.").at(())
    declare.up_down(store, "open", "Open.").at(()).add(1)
    counter.add(5)
    shared.write(store, force=True)

    def child():
        counter.add(100)
        written = shared.write(store, force=True)
        mine, other = Multiprocess(tmp_path), SeriesStore(10)
        declare.counter(other, "requests_total", "Requests.").at(()).add(7)
        mine.write(other, force=True)
        return written

    assert forked(child) == 0
    assert value(tmp_path, "requests_total") == 12
    reading, writing = os.pipe()
    waiting = os.fork()
    if waiting == 0:
        os.write(writing, b"!")
        signal.pause()
    assert os.read(reading, 1) == b"!"
    os.close(reading)
    os.close(writing)
    shared._writer.files.close()  # the parent dies; its child lives on
    try:
        assert value(tmp_path, "open") is None
    finally:
        os.kill(waiting, signal.SIGKILL)
        os.waitpid(waiting, 0)


def test_a_child_does_not_keep_what_its_parent_was_about_to_write(tmp_path):
    files = worker_files.WorkerFiles(tmp_path, "abc", 1)
    reading, writing = os.pipe()
    waiting = os.fork()
    if waiting == 0:
        os.write(writing, b"!")
        signal.pause()
    assert os.read(reading, 1) == b"!"
    os.close(reading)
    os.close(writing)
    try:
        assert held(files.path / "alive")
        files.close()
        assert not held(files.path / "alive")
    finally:
        os.kill(waiting, signal.SIGKILL)
        os.waitpid(waiting, 0)


# Schemas


def test_changed_buckets_never_merge_with_old_ones(tmp_path):
    old = Ours(tmp_path, 1, schema="old")
    old.observe(0.5, bounds=(1.0, 2.0))
    old.write()
    new = Ours(tmp_path, 2, schema="new")
    new.observe(0.5, bounds=(0.6, 3.0))
    new.write()
    buckets = {dict(labels).get("le") for _, labels in page(tmp_path)["seconds"][2]} - {None}
    assert buckets in ({"0.6", "3.0", "+Inf"}, {"1.0", "2.0", "+Inf"})


def bounds_of(directory, name="seconds"):
    """The buckets on the page, and how many observations."""
    samples = page(directory)[name][2]
    bounds = {dict(labels)["le"] for _, labels in samples if "le" in dict(labels)} - {"+Inf"}
    return bounds, samples[f"{name}_count", ()]


@pytest.mark.parametrize("last", ["1.0 5.0", "1.0 2.0"])
def test_buckets_that_no_setting_names_never_merge_with_others_within_a_version(tmp_path, last):
    bounds = ["1.0 2.0", "1.0 5.0"]
    for pid, some in enumerate(sorted(bounds, key=lambda one: one == last), start=1):
        worker = Ours(tmp_path, pid)
        worker.count()
        for _ in range(10):
            worker.observe(1.5, bounds=tuple(map(float, some.split())))
        worker.write()
        worker.observe(0.1, "other", bounds=(1.0, 2.0))
        worker.write()
    assert bounds_of(tmp_path) == (set(last.split()), 10)  # of two alike the newer
    assert bounds_of(tmp_path, "other") == ({"1.0", "2.0"}, 2)
    assert value(tmp_path, "requests_total") == 2


def test_of_different_buckets_those_are_shown_that_most_living_workers_have(tmp_path):
    workers = [Ours(tmp_path, pid) for pid in range(1, 6)]
    for worker in workers:
        few = worker.pid in {2, 5}
        worker.observe(1.5, bounds=(1.0, 5.0) if few else (1.0, 2.0))
        worker.write()
    assert bounds_of(tmp_path) == ({"1.0", "2.0"}, 3)
    for worker in workers[2:4]:
        worker.die()
    assert bounds_of(tmp_path) == ({"1.0", "5.0"}, 2)


def test_changed_buckets_of_dead_workers_are_not_added_up_either(tmp_path):
    for pid in range(1, 7):
        worker = Ours(tmp_path, pid)
        worker.observe(1.5, bounds=(1.0, 5.0) if pid > 4 else (1.0, 2.0))
        worker.write()
        worker.die()
    assert cleaner.Cleaner(worker.shared._root, spare=0).clean()
    assert bounds_of(tmp_path) in ((({"1.0", "2.0"}), 4), ({"1.0", "5.0"}, 2))
    worker = Ours(tmp_path, 9)
    worker.observe(1.5, bounds=(1.0, 5.0))
    worker.write()
    assert bounds_of(tmp_path) == ({"1.0", "5.0"}, 3)


def test_a_metric_that_is_removed_while_everything_is_written_is_written_as_it_was(tmp_path, monkeypatch):
    worker = Ours(tmp_path, 1)
    worker.count(3, name="a_total")
    worker.count(4, name="z_total")
    real = writer.StoreWriter._put

    def removing(*arguments):
        worker.store.remove("z_total")
        real(*arguments)

    monkeypatch.setattr(writer.StoreWriter, "_put", removing)
    worker.write()
    assert value(tmp_path, "z_total") == 4
    worker.write()
    assert value(tmp_path, "z_total") is None


def test_while_workers_are_reconfigured_one_after_the_other_no_count_is_lost_or_doubled(tmp_path):
    workers = [Ours(tmp_path, pid, schema="old") for pid in (1, 2, 3)]
    for worker in workers:
        worker.count(10)
        worker.observe(0.5, bounds=(1.0, 2.0))
        worker.write()
    for moved, worker in enumerate(workers, start=1):
        worker.store.rebucket((0.6, 3.0))
        worker.shared.use_schema("new")
        worker.observe(0.5, bounds=(0.6, 3.0))
        worker.write()
        assert value(tmp_path, "requests_total") == 30
        assert page(tmp_path)["seconds"][2][("seconds_bucket", (("le", "+Inf"),))] in {moved, 3 - moved}
    assert page(tmp_path)["seconds"][2][("seconds_bucket", (("le", "0.6"),))] == 3


def test_a_version_no_worker_uses_goes_after_a_grace(tmp_path):
    old = Ours(tmp_path, 1, schema="old")
    old.count()
    old.write()
    root = old.shared._root
    old.shared.use_schema("new")
    old.write()
    assert len(scan(root).versions) == 2
    cleaner.Cleaner(root, grace=3600).clean()
    assert len(scan(root).versions) == 2
    cleaner.Cleaner(root, grace=-1).clean()
    assert [version.path.name for version in scan(root).versions] == [old.shared._version]
    old.die()
    for _ in range(2):
        cleaner.Cleaner(root, grace=-1).clean()
    assert value(tmp_path, "requests_total") == 1  # the one that was used last stays


def test_all_that_decides_about_merging_decides_about_the_version(tmp_path):
    worker = Ours(tmp_path, 1)
    names = set()
    for options in (
        {"canonical": ("a", 1)},
        {"canonical": ("a", 2)},
        {"canonical": ("a", 1), "namespace": "shop"},
        {"canonical": ("a", 1), "modes": {"x": "max"}},
    ):
        worker.shared.use_schema(options.pop("canonical"), **options)
        names.add(worker.shared.stats()["version"])
    assert len(names) == 4
    worker.shared.use_schema(("a", 1), global_labels={"worker": "1"})
    assert worker.shared.stats()["version"] in names


def test_the_version_is_the_same_in_every_process_although_functions_lie_elsewhere():
    assert version_name([len, "<lambda> at 0x7f00>"]) == version_name([len, "<lambda> at 0x7fff>"])
    assert version_name([1.0]) != version_name([2.0])


# The registry


def test_the_registry_is_one_for_prometheus_client(tmp_path):
    worker = Ours(tmp_path, 1)
    worker.count(3)
    worker.observe(1)
    worker.write()
    registry = MultiProcessRegistry(tmp_path)
    own = Gauge("own", "Mine.", registry=registry)
    own.set(8)
    taken = CollectorRegistry()
    Gauge("requests", "Not to be seen.", registry=taken)
    registry.register(taken)
    found = parsed(generate_latest(registry))
    assert found["own"][2] == {("own", ()): 8}
    assert found["requests"][1] == "Requests."
    answers = []
    body = b"".join(
        make_wsgi_app(registry)(
            {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "QUERY_STRING": "name[]=requests_total"},
            lambda status, headers: answers.append(status),
        )
    )
    assert answers == ["200 OK"]
    assert list(parsed(body)) == ["requests"]
    registry.unregister(own)
    assert "own" not in page(tmp_path)


@needs_new_client
def test_what_is_declared_with_prometheus_client_is_on_the_same_page(tmp_path, caplog):
    ours, theirs = Ours(tmp_path, 1), Theirs(tmp_path, 1)
    ours.count(3)
    ours.write()
    for name in ("requests", "logins"):
        counter = theirs.metric("Counter", name, "Theirs.", {})
        theirs.run(counter.inc)
    theirs.close()
    registry = MultiProcessRegistry(tmp_path)
    for _ in range(2):
        found = parsed(generate_latest(registry))
    assert found["requests"][2] == {("requests_total", ()): 3}
    assert found["logins"][2] == {("logins_total", ()): 1}
    assert caplog.text.count("requests") == 1
    assert set(page(tmp_path, own_files=False)) == {"requests"}


def test_exporters_of_different_names_share_nothing(tmp_path):
    for name in ("one", "other"):
        worker = Ours(tmp_path, 1, exporter=name)
        worker.count()
        worker.write()
    found = MultiProcessRegistry(tmp_path, exporter="one").get_sample_value("requests_total")
    assert found == 1
    assert MultiProcessRegistry(tmp_path).get_sample_value("requests_total") is None


def test_the_registry_asks_the_environment_where_the_workers_meet(tmp_path, monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    with pytest.raises(ValueError, match="PROMETHEUS_MULTIPROC_DIR"):
        MultiProcessRegistry()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert list(MultiProcessRegistry().collect()) == []


# What cannot be had


def test_a_missing_prometheus_client_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client.multiprocess", None)
    with pytest.raises(MultiprocessError, match=r"install otpylib-telemetry\[client\], or unset it"):
        Multiprocess(tmp_path)


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MultiprocessError, match=r"cannot be made: Not a directory\. Expected a directory"):
        Multiprocess(tmp_path / "file" / "metrics")


def test_a_full_disk_is_said_once_and_made_up_for(tmp_path, caplog, monkeypatch):
    worker = Ours(tmp_path, 1)
    worker.count(5)

    def full(file):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "_reserve", full)
        assert [worker.write(), worker.write()] == [0, 0]
        assert "No space left" in worker.shared.stats()["trouble"]
        assert caplog.text.count("No space left") == 1
    worker.count(1)
    worker.write()
    assert worker.shared.stats()["trouble"] is None
    assert value(tmp_path, "requests_total") == 6


def test_files_grow_with_the_series_and_stay_whole(tmp_path):
    worker = Ours(tmp_path, 1)
    for number in range(2_000):
        worker.count(number, k=f"{number:0200}")
    worker.write()
    (path,) = tmp_path.rglob("counter_*.db")
    assert path.stat().st_size > 1 << 19
    assert len([*MmapedDict.read_all_values_from_file(str(path))]) == 2_000
    assert value(tmp_path, "requests_total", k=f"{1234:0200}") == 1_234


# In the exporter


async def test_workers_share_a_port(background_errors):
    async def page_of_nobody(_request):
        raise AssertionError

    one, other, stranger = (Endpoint(page_of_nobody) for _ in range(3))
    try:
        await one.place("127.0.0.1", 0, "/metrics", shared=True)
        port = one.port
        await other.place("127.0.0.1", port, "/metrics", shared=True)
        with pytest.raises(EndpointError, match="the port is taken"):
            await stranger.place("127.0.0.1", port, "/metrics")
        await other.stop(0.1)
        await one.place("127.0.0.1", port, "/metrics", shared=False)
        with pytest.raises(EndpointError, match="the port is taken"):
            await other.place("127.0.0.1", port, "/metrics", shared=True)
        assert one.serving
    finally:
        for endpoint in (one, other, stranger):
            await endpoint.stop(0.1)


async def test_an_exporter_that_ends_and_comes_back_counts_on(runtime, tmp_path):
    other = Ours(tmp_path, 1, schema="another")
    other.count(100, name="shop_sale_total")
    other.write()
    options = {"port": 0, "multiprocess_dir": str(tmp_path), "event_patterns": ["shop.*"]}
    for life in (1, 2):
        await start_prometheus_exporter(options)
        execute("shop.sale", {"count": 5})
        assert (await otp.safe_call("prometheus_exporter", ("flush", 60.0), 90.0))["left"] == 0
        assert value(tmp_path, "shop_sale_total") == 100 + 5 * life
        stats = await otp.safe_call("prometheus_exporter", ("get_stats",), 60.0)
        assert stats["multiprocess"]["directory"] == str(tmp_path)
        scraped = await asyncio.to_thread(lambda url=stats["url"]: urllib.request.urlopen(url).read())
        found = parsed(scraped)
        assert found["shop_sale"][2] == {("shop_sale_total", ()): 100 + 5 * life}
        await otp.safe_call("prometheus_exporter", ("drain", 60.0), 90.0)
        await process.exit(process.whereis("prometheus_exporter"), KILLED)
        await eventually(lambda: process.whereis("prometheus_exporter") is None)
        assert value(tmp_path, "shop_sale_total") == 100 + 5 * life
