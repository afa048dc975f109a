"""Files that somebody empties, cuts or replaces while they are in use: nothing ends, and nothing is lost."""

import os
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.mmap_dict import MmapedDict

from otpylib_telemetry_prometheus.multiprocess.database import Database
from otpylib_telemetry_prometheus.multiprocess.registry import MultiProcessRegistry
from tests.support.examples import examples
from tests.support.shared_metrics import Ours, page, value

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs what forking servers need")


@settings(max_examples=examples(60), deadline=None)
@given(
    changes=st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
            st.floats(allow_nan=False),
            st.floats(0, 2e9),
            st.booleans(),
        ),
        max_size=200,
    )
)
def test_prometheus_client_reads_what_was_written(changes):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "counter_1.db"
        database = Database(path)
        expected = {}
        for key, number, timestamp, flush in changes:
            database.write(key, number, timestamp)
            expected[key] = (number, timestamp)
            if flush:
                database.flush()
        database.flush()
        found = [*MmapedDict.read_all_values_from_file(str(path))]
        assert {key: (number, timestamp) for key, number, timestamp, _ in found} == expected
        assert len(found) == len(expected)
        database.close()


def cut(path, length):
    os.truncate(path, length)


def empty_in_place(path, _length):
    path.open("wb").close()


def grow_again(path, length):
    os.truncate(path, length)
    os.truncate(path, 1 << 17)


def overwrite(path, length):
    with path.open("r+b") as file:
        file.write(b"x" * min(length + 1, 9_000))


def replace(path, _length):
    path.with_suffix(".other").write_bytes(b"x" * 99)
    path.with_suffix(".other").replace(path)


def unlink(path, _length):
    path.unlink()


@settings(max_examples=examples(25), deadline=None)
@given(
    damage=st.lists(
        st.tuples(
            st.sampled_from([cut, empty_in_place, grow_again, overwrite, replace, unlink]),
            st.integers(0, 1 << 16),
            st.integers(0, 9),
            st.integers(0, 200),
        ),
        max_size=5,
    )
)
def test_what_somebody_does_to_a_file_in_use_neither_ends_the_worker_nor_costs_a_number(damage):
    with tempfile.TemporaryDirectory() as directory:
        worker = Ours(Path(directory), 1)
        series = set()
        steps = [(lambda *_: None, 0, 0, 1), *damage]
        for total, (spoil, length, which, more) in enumerate(steps, 1):
            # New series, up to a file that has to grow, and numbers that change.
            for number in range(more):
                worker.count(0, k=f"{number:0300}")
                series.add(number)
            worker.count()
            worker.observe(0.5)
            files = sorted(Path(directory).rglob("*.db"))
            if files:
                spoil(files[which % len(files)], length)
            worker.shared._look_at = 0
            worker.write()
            assert worker.shared.stats()["trouble"] is None
            registry = MultiProcessRegistry(directory)
            assert registry.get_sample_value("requests_total") == total
            assert registry.get_sample_value("seconds_bucket", {"le": "1.0"}) == total
            for number in [*series][-1:]:
                assert registry.get_sample_value("requests_total", {"k": f"{number:0300}"}) == 0
            assert registry._reader.skipped == 0


def test_a_file_that_was_cut_is_whole_after_the_next_write_and_that_is_said(tmp_path, caplog):
    worker = Ours(tmp_path, 1)
    worker.count(5)
    worker.write()
    (path,) = tmp_path.rglob("counter_*.db")
    empty_in_place(path, 0)
    assert page(tmp_path) == {}
    worker.shared._look_at = float("inf")
    worker.write()
    assert value(tmp_path, "requests_total") == 5
    (after,) = tmp_path.rglob("counter_*.db")
    assert after == path
    assert caplog.text.count("was cut short while it was in use; it is written anew") == 1


def test_scrapes_see_whole_entries_only_while_a_file_is_cut_and_grows(tmp_path):
    worker = Ours(tmp_path, 1)
    worker.count(5)
    worker.write()
    worker.shared._look_at = float("inf")
    (path,) = tmp_path.rglob("counter_*.db")
    ended = threading.Event()

    def spoil():
        try:
            for number in range(60):
                for more in range(5):
                    worker.count(k=f"{number}-{more}")
                if number % 3 == 0:
                    empty_in_place(path, 0)
                worker.write()
        finally:
            ended.set()

    thread = threading.Thread(target=spoil)
    thread.start()
    found = set()
    while not ended.is_set():
        found.add(value(tmp_path, "requests_total"))
    thread.join()
    # Nothing, while it is cut; never half of it, and no exception.
    assert found <= {5, None}
    assert value(tmp_path, "requests_total", k="59-4") == 1
