"""Damaged files, and clearing up that is killed: no scrape fails, nothing is lost, nothing counts twice."""

import logging
import os
import shutil
import signal
import struct
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest

from otpylib_telemetry_prometheus.multiprocess import cleaner as cleaner_module
from otpylib_telemetry_prometheus.multiprocess.cleaner import Cleaner
from otpylib_telemetry_prometheus.multiprocess.entries import BadFileError, FileChecks
from otpylib_telemetry_prometheus.multiprocess.files import Manifest, scan
from otpylib_telemetry_prometheus.multiprocess.reader import Reader
from otpylib_telemetry_prometheus.multiprocess.registry import MultiProcessRegistry
from tests.support.examples import examples
from tests.support.shared_metrics import Ours, page, value

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs what forking servers need"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # 3.12 on: a forked child is killed
]


def entry(key=b'["a", "a_total", {}, ""]', length=None, value=1.0):
    padded = key + b" " * (8 - (len(key) + 4) % 8)
    return struct.pack(f"i{len(padded)}sdd", len(key) if length is None else length, padded, value, 0.0)


def database(*entries, used=None):
    body = b"".join(entries)
    return struct.pack("ii", 8 + len(body) if used is None else used, 0) + body


FOREIGN = "it is cut short, or not one of prometheus_client's"
BAD = {
    "empty": (b"", "it is empty"),
    "of three bytes": (b"\1\0\0", "it is cut short"),
    "shorter than it says": (
        database(entry(), used=4096),
        "it is cut short, or not one of prometheus_client's",
    ),
    "of a negative size": (database(entry(), used=-8), FOREIGN),
    "text": (b"metrics of the shop\n" * 99, FOREIGN),
    "with half an entry": (database(entry()[:-8]), "it has an entry of an impossible length"),
    "with an entry that goes back": (
        database(entry(length=-40), entry()),
        "it has an entry of an impossible length",
    ),
    "with zeros": (database(bytes(64)), "it has an entry of an impossible length"),
    "without JSON": (database(entry(b"no json")), "it has an entry that is of no metric"),
    "with other JSON": (database(entry(b'{"a": 1}')), "it has an entry that is of no metric"),
    "with numbers for texts": (database(entry(b'["a", 1, {}, ""]')), "it has an entry that is of no metric"),
    "of a nameless metric": (database(entry(b'["", "", {}, ""]')), "it has an entry that is of no metric"),
    "with a bucket that is no number": (
        database(entry(b'["a", "a_bucket", {"le": "x"}, ""]')),
        "it has an entry that is of no metric",
    ),
}


@pytest.mark.parametrize(("content", "reason"), BAD.values(), ids=BAD)
def test_a_damaged_file_is_left_out_counted_and_said_once(content, reason, tmp_path, caplog):
    worker = Ours(tmp_path, 1)
    worker.count(5)
    worker.write()
    (good,) = tmp_path.rglob("counter_1.db")
    places = [good.with_name("counter_2.db"), tmp_path / "counter_3.db"]
    for place in places:
        place.write_bytes(content)
    registry = MultiProcessRegistry(tmp_path)
    for _ in range(3):
        generate_latest(registry)
    assert registry.get_sample_value("requests_total") == 5
    assert registry._reader.skipped == 8
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said == [f"{place} is left out of the metrics of all workers: {reason}." for place in places]


PLACED = {
    "pipe": os.mkfifo,
    "device without end": lambda path: path.symlink_to("/dev/zero"),
    "device without beginning": lambda path: path.symlink_to("/dev/null"),
    "directory": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("place", PLACED.values(), ids=PLACED)
def test_what_is_no_regular_file_is_left_out_and_never_waited_for(place, tmp_path, caplog):
    worker = Ours(tmp_path, 1)
    worker.count(5)
    worker.write()
    (good,) = tmp_path.rglob("counter_1.db")
    places = [good.with_name("counter_2.db"), tmp_path / "counter_3.db"]
    for path in places:
        place(path)
    registry = MultiProcessRegistry(tmp_path)
    for _ in range(2):
        assert registry.get_sample_value("requests_total") == 5
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said == [
        f"{path} is left out of the metrics of all workers: it is no regular file." for path in places
    ]


@pytest.mark.parametrize("name", ["notes.db", "counter.db", "gauge_1.db", "gauge_often_1.db", "info_1.db"])
def test_a_file_of_somebody_elses_is_left_out(name, tmp_path, caplog):
    (tmp_path / name).write_bytes(database(entry()))
    assert page(tmp_path) == {}
    assert "its name is none that prometheus_client gives" in caplog.text


def test_a_file_that_was_only_just_made_is_none_to_complain_about(tmp_path, caplog):
    (tmp_path / "counter_1.db").write_bytes(bytes(1 << 16))
    (tmp_path / "histogram_1.db").write_bytes(database())
    assert page(tmp_path) == {}
    assert caplog.text == ""


@settings(
    max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    damage=st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=8)), max_size=3),
    length=st.integers(0, 500),
)
def test_no_damage_ends_a_scrape_or_makes_it_last(damage, length, tmp_path):
    content = bytearray(
        database(*(entry(b'["a", "a_total", {"k": "%d"}, ""]' % number) for number in range(8)))
    )
    for position, data in damage:
        content[position : position + len(data)] = data
    (tmp_path / "counter_1.db").write_bytes(content[:length])
    generate_latest(MultiProcessRegistry(tmp_path))


def test_a_file_that_is_damaged_later_is_found_out_as_well(tmp_path):
    path = tmp_path / "counter_1.db"
    checks = FileChecks()
    path.write_bytes(database(entry()))
    checks.check(path)
    with path.open("r+b") as file:
        file.write(database(entry(), entry(b"no json")))
    with pytest.raises(BadFileError):
        checks.check(path)


def test_a_file_that_goes_between_the_look_and_the_reading_is_no_trouble(tmp_path, monkeypatch):
    first, second = Ours(tmp_path, 1), Ours(tmp_path, 2)
    for worker in (first, second):
        worker.count(5)
        worker.write()
    reader = Reader(first.shared._root)
    usable = Reader._usable
    gone = []

    def look(self, files):
        found = usable(self, files)
        if not gone:
            gone.append(second.shared._writer.files.path)
            shutil.rmtree(gone[0])
        return found

    monkeypatch.setattr(Reader, "_usable", look)
    (metric,) = reader.collect()
    assert [sample.value for sample in metric.samples] == [5]
    assert reader.skipped == 0


def test_a_worker_that_moves_during_a_scrape_is_on_it(tmp_path, monkeypatch):
    first, second = Ours(tmp_path, 1), Ours(tmp_path, 2)
    for worker in (first, second):
        worker.count(5)
        worker.write()
    reader = Reader(first.shared._root)
    usable = Reader._usable
    moved = []

    def look(self, files):
        if not moved:
            moved.append(second)
            second.shared.use_schema("another")
            second.write()
        return usable(self, files)

    monkeypatch.setattr(Reader, "_usable", look)
    (metric,) = reader.collect()
    assert [sample.value for sample in metric.samples] == [10]


def test_scrapes_go_on_while_workers_come_and_go_and_are_cleared_up(tmp_path):
    survivor = Ours(tmp_path, 1)
    survivor.count(1)
    survivor.write()
    registry = MultiProcessRegistry(tmp_path)
    ended = threading.Event()
    seen = []

    def scrape():
        while not ended.is_set():
            seen.append(registry.get_sample_value("requests_total"))

    threads = [threading.Thread(target=scrape) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for pid in range(2, 60):
            worker = Ours(tmp_path, pid)
            worker.count(1)
            worker.write()
            if pid % 3 == 0:
                worker.shared.use_schema("another")
                worker.write()
            worker.die()
            Cleaner(worker.shared._root, spare=2).clean()
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert len(seen) > 10
    assert None not in seen
    assert value(tmp_path, "requests_total") >= 1


# Clearing up


def dead_workers(directory, number):
    for pid in range(1, number + 1):
        worker = Ours(directory, pid, modes={"peak": "max", "each": "all", "last": "mostrecent"})
        worker.count(pid, k="a")
        worker.count(1, k=str(pid))
        worker.observe(pid / 2)
        worker.set(pid, name="peak")
        worker.set(pid, name="each")
        worker.set(pid, name="last")
        worker.move(3)
        worker.write()
        worker.die()
    return worker.shared._root


def killed_at(root, number):
    """Clear up in a child that is killed before its n-th step; tell whether it came that far."""
    child = os.fork()
    if child == 0:
        steps = iter(range(number))

        def step(_next):
            if next(steps, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        Cleaner(root, spare=0, step=step).clean()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in {0, signal.SIGKILL}
    return status != 0


def test_clearing_up_that_is_killed_at_any_point_neither_loses_nor_doubles(tmp_path):
    template = tmp_path / "template"
    dead_workers(template, 3)
    expected = page(template)
    number, killed = 0, True
    while killed:
        directory = tmp_path / str(number)
        shutil.copytree(template, directory)
        root = directory / "otpylib-prometheus_exporter"
        killed = killed_at(root, number)
        assert page(directory) == expected
        # Somebody else comes, and dies as well, before anybody clears up what is left.
        other = Ours(directory, 99)
        other.shared.use_schema("schema", modes={"peak": "max", "each": "all", "last": "mostrecent"})
        other.count(100, k="a")
        other.write()
        other.die()
        Cleaner(root, spare=0).clean()
        assert value(directory, "requests_total", k="a") == 106
        assert value(directory, "seconds_count") == 3
        assert not list(root.rglob("w-*"))
        assert len(list(root.rglob("dead-*"))) == 1
        number += 1
    assert number > 8


def test_a_worker_killed_while_it_moves_counts_once(tmp_path):
    worker, other = Ours(tmp_path, 1, schema="old"), Ours(tmp_path, 2, schema="old")
    for one in (worker, other):
        one.count(5)
        one.write()
    kept = tmp_path / "kept"
    old = worker.shared._writer.files.path
    shutil.copytree(old, kept)
    worker.shared.use_schema("new")
    worker.write()
    shutil.move(kept, old)  # as if it had been killed before it removed this
    assert value(tmp_path, "requests_total") == 10
    worker.die()
    survivor = Ours(tmp_path, 3, schema="new")
    survivor.count(1)
    survivor.write()
    assert value(tmp_path, "requests_total") == 11
    Cleaner(worker.shared._root, spare=0).clean()
    assert value(tmp_path, "requests_total") == 11
    assert not old.exists()


def test_only_one_clears_up_at_a_time(tmp_path):
    root = dead_workers(tmp_path, 2)
    inner = []

    def step(_next):
        inner.append(Cleaner(root, spare=0).clean())

    assert Cleaner(root, spare=0, step=step).clean()
    assert set(inner) == {False}


def test_drafts_that_nobody_finished_go_after_a_grace(tmp_path):
    root = dead_workers(tmp_path, 1)
    (version,) = scan(root).versions
    draft = version.path / ".new-w-1-abc-1"
    draft.mkdir()
    Cleaner(root).clean()
    assert draft.exists()
    Cleaner(root, grace=-1).clean()
    assert not draft.exists()


def test_a_torn_file_of_a_dead_worker_costs_its_own_numbers_only(tmp_path, caplog):
    root = dead_workers(tmp_path, 2)
    (torn,) = root.rglob("counter_1.db")
    torn.write_bytes(b"")
    cleaner = Cleaner(root, spare=0)
    cleaner.clean()
    assert cleaner.skipped == 1
    assert f"{torn}, of a worker that has died, is lost to the metrics: it is empty." in caplog.text
    assert value(tmp_path, "requests_total", k="a") == 2
    assert value(tmp_path, "seconds_count") == 2


def test_a_file_that_cannot_be_read_now_is_left_for_later(tmp_path, monkeypatch):
    root = dead_workers(tmp_path, 2)
    expected = page(tmp_path)

    def unreadable(path):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(cleaner_module, "entries", unreadable)
        with pytest.raises(OSError, match="Too many open files"):
            Cleaner(root, spare=0).clean()
    assert page(tmp_path) == expected
    Cleaner(root, spare=0).clean()
    assert page(tmp_path) == expected


def test_a_manifest_somebody_spoilt_leaves_the_last_sums(tmp_path):
    root = dead_workers(tmp_path, 4)
    Cleaner(root, spare=0).clean()
    (version,) = scan(root).versions
    (version.path / "manifest.json").write_text("{")
    assert Manifest.read(version.path) == Manifest(1)
    assert value(tmp_path, "requests_total", k="a") == 10
