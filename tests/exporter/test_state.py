"""The books and belongings of an exporter's name."""

import asyncio
import random
import subprocess
import sys
import textwrap
import threading

import pytest

from otpylib_telemetry.exporter import registry
from otpylib_telemetry.exporter.collected import Collected
from otpylib_telemetry.exporter.restart import RestartPromise, promise_restart, promised
from otpylib_telemetry.exporter.state import ExporterState
from tests.support.chassis import balance, waiting


def filled(count, limit=100):
    found = ExporterState("x")
    found.limit(limit)
    for number in range(count):
        found.queue.offer("e", {"n": number}, {})
    return found


def check(found):
    balance(found.books())


def test_events_are_in_one_place_through_collecting_loading_and_delivering():
    found = filled(10)
    check(found)
    found.queue.take(10)
    collected = Collected(
        items=[("a", 3), ("b", 1)], exported=1, sampled_out=1, rejected=1, dropped={"why": 1}
    )
    found.book(collected, 10, held=2)
    check(found)
    books = found.books()
    assert books["queued"] == 6
    assert books["dropped"] == {"why": 1}
    batch = found.load(10)
    check(found)
    assert found.books()["in_flight"] == 4
    found.put_back(batch)
    check(found)
    assert [item for item, _ in waiting(found)] == ["a", "b"]
    found.delivered(found.load(1))
    check(found)
    found.delivered(found.load(1), refused=1)
    check(found)
    found.book(Collected(exported=2), 0, held=0)
    check(found)
    assert found.left == 0


def test_a_batch_that_comes_back_goes_first_in_its_order():
    found = filled(3)
    found.queue.take(3)
    found.book(Collected(items=[("a", 1), ("b", 1), ("c", 1)]), 3, held=0)
    batch = found.load(2)
    assert [item for item, _ in waiting(found)] == ["c"]
    found.put_back(batch)
    assert [item for item, _ in waiting(found)] == ["a", "b", "c"]
    check(found)


def test_the_limit_counts_what_is_held_waits_and_flies_as_well():
    found = filled(10, limit=10)
    found.queue.take(10)
    found.book(Collected(items=[("a", 2), ("b", 2)]), 10, held=6)
    # What is held takes up half of it at most.
    assert found.queue.capacity == 1
    batch = found.load(1)
    assert found.queue.capacity == 1
    found.delivered(batch)
    assert found.queue.capacity == 3
    for _ in range(5):
        found.queue.offer("e", {}, {})
    books = found.books()
    assert books["dropped"] == {"queue_full": 2}
    assert books["queued"] == 11
    check(found)


@pytest.mark.parametrize("held", [0, 3, 50, 51, 100, 1000])
def test_what_is_held_never_starves_what_is_finished(held):
    found = filled(0, limit=100)
    found.book(Collected(), held, held=held)
    assert found.queue.capacity == 100 - min(held, 50)
    found.waiting_events = 100
    found.make_room()
    assert found.queue.capacity == 0


def test_a_lower_limit_keeps_what_is_held_beyond_it():
    found = filled(10)
    found.limit(3)
    assert len(found.queue) == 10
    found.queue.offer("e", {}, {})
    assert found.books()["dropped"] == {"queue_full": 1}
    check(found)


@pytest.mark.parametrize(
    ("collected", "held", "dropped"),
    [
        (Collected(), 0, {"unaccounted": 5}),
        (Collected(exported=2), 0, {"unaccounted": 3}),
        (Collected(exported=9), 0, {}),
        (Collected(exported=5), 100, {}),
        (Collected(exported=5), -100, {}),
        (Collected(items=[("a", 0)]), 5, {}),
    ],
)
def test_the_books_stay_true_when_an_exporter_loses_count(collected, held, dropped, caplog):
    found = filled(5)
    found.queue.take(5)
    found.book(collected, 5, held=held)
    check(found)
    assert found.books()["dropped"] == dropped
    found.book(Collected(), 0, held=0)
    check(found)


def test_losing_count_is_said_once(caplog):
    found = filled(6)
    for _ in range(3):
        found.queue.take(2)
        found.book(Collected(exported=1), 2, held=0)
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 1
    assert "it accounted for 1 too few" in texts[0]
    assert "booked as dropped (unaccounted)" in texts[0]


def test_the_books_balance_at_every_look_while_other_threads_emit():
    found = filled(0, limit=2000)
    stop = threading.Event()

    def offer():
        while not stop.is_set():
            found.queue.offer("e", {}, {})

    threads = [threading.Thread(target=offer) for _ in range(3)]
    for thread in threads:
        thread.start()
    dice = random.Random(7)
    try:
        for _ in range(300):
            events = found.queue.take(dice.randrange(50))
            found.book(Collected(items=[("a", len(events))]), len(events), held=0)
            found.delivered(found.load(dice.randrange(3)))
            balance(found.books())
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    balance(found.books())


def test_a_name_keeps_its_state_until_it_is_forgotten():
    mine = registry.state_of("mine")
    assert registry.state_of("mine") is mine
    assert registry.find("mine") is mine
    assert "mine" in registry.names()
    registry.forget("mine")
    assert registry.find("mine") is None


async def test_a_promise_of_restart_holds_until_it_is_released_or_its_supervisor_is_cancelled():
    async def supervise():
        await asyncio.sleep(60)

    task = asyncio.ensure_future(supervise())
    promise = RestartPromise(task)
    promise_restart("mine", promise)
    assert promised("mine") is promise
    assert promised("other") is None
    promise.released.set()
    assert not promise.holds
    assert promised("mine") is None
    another = RestartPromise(task)
    assert another.holds
    task.cancel()
    assert not another.holds
    await asyncio.wait({task})
    assert not RestartPromise(task).holds


def test_what_is_left_is_said_when_the_interpreter_ends():
    code = """
        import logging
        logging.basicConfig(format="%(message)s")
        from otpylib_telemetry.exporter import registry as state
        left = state.state_of("some_exporter")
        for _ in range(3):
            left.queue.offer("e", {}, {})
        said = state.state_of("other_exporter")
        said.queue.offer("e", {}, {})
        said.left_reported = 1
        state.state_of("empty_exporter")
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stderr == (
        "The application ends with 3 events that some_exporter had accepted and could not export.\n"
    )


def test_items_made_of_no_event_are_accepted_when_they_are_made_and_take_no_room_from_events():
    found = filled(10, limit=20)
    found.queue.take(10)
    points = [(f"p{number}", 1) for number in range(50)]
    found.book(Collected(items=[("a", 10)], produced_items=points), 10, held=0, lane_of=lambda item: item[0])
    check(found)
    books = found.books()
    assert (books["accepted"], books["queued"], found.produced_held) == (60, 60, 50)
    assert found.queue.capacity == 10
    batch = found.load(20, "p")
    check(found)
    assert found.produced_held == 50
    found.put_back(batch)
    check(found)
    found.delivered(found.load(50, "p"), refused=3)
    found.delivered(found.load(10, "a"))
    check(found)
    books = found.books()
    assert (books["exported"], books["rejected"], found.produced_held, found.queue.capacity) == (57, 3, 0, 20)
