"""The queue between those who emit and an exporter."""

import os
import random
import signal
import sys
import threading
import time

import pytest
from otpylib import process

from otpylib_telemetry import execute
from otpylib_telemetry.bus import table
from otpylib_telemetry.bus.events import Event
from otpylib_telemetry.exporter.queue import EventQueue, as_plain_dict
from tests.support import absurd
from tests.support.runtime import in_process


def fill(queue, numbers, name="a"):
    for n in numbers:
        queue.offer(name, {"n": n}, {})


def numbers(events):
    return [measurements["n"] for _, measurements, *_ in events]


@pytest.fixture
def often():
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(count, work):
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


# --- what it holds ----------------------------------------------------------------------------------------


def test_events_come_out_as_and_in_the_order_in_which_they_went_in():
    queue = EventQueue(10)
    before = time.monotonic_ns()
    queue.offer("a", {"count": 1}, {"user": "u"})
    queue.offer("b", {}, {})
    first, second = (Event._make(event) for event in queue.take(10))
    assert (first.name, first.measurements, first.metadata) == ("a", {"count": 1}, {"user": "u"})
    assert second.name == "b"
    assert before <= first.monotonic_ns <= second.monotonic_ns <= time.monotonic_ns()
    assert first.emitter == threading.get_ident()


def test_what_the_emitter_does_to_its_dicts_afterwards_changes_nothing():
    queue = EventQueue(10)
    measurements, metadata = {"count": 1}, {"user": "u"}
    queue.offer("a", measurements, metadata)
    measurements.clear()
    metadata["user"] = "v"
    assert queue.take(1)[0][1:3] == ({"count": 1}, {"user": "u"})


async def test_the_emitter_is_the_process_or_else_the_thread(runtime):
    queue = EventQueue(10)
    table.add("queue", ["*"], queue.offer)

    async def emitting():
        execute("a")
        return process.self()

    execute("a")
    pid = await in_process(emitting)
    thread = in_threads(1, lambda _number: execute("a"))[0]
    thread.join()
    assert [Event._make(event).emitter for event in queue.take(3)] == [
        threading.get_ident(),
        pid,
        thread.ident,
    ]


def test_take_takes_at_most_what_is_asked_for():
    queue = EventQueue(100)
    fill(queue, range(10))
    assert numbers(queue.take(3)) == [0, 1, 2]
    assert numbers(queue.take(0)) == numbers(queue.take(-1)) == []
    assert numbers(queue.take(1000)) == list(range(3, 10))
    assert queue.take(1000) == []
    assert (queue.taken, queue.accepted, len(queue)) == (10, 10, 0)


def test_it_takes_no_more_than_it_holds_and_counts_the_rest():
    queue = EventQueue(5)
    fill(queue, range(12))
    assert (len(queue), queue.overflowed, queue.accepted) == (5, 7, 12)
    assert numbers(queue.take(2)) == [0, 1]
    fill(queue, [12, 13, 14])
    assert (len(queue), queue.overflowed, queue.accepted) == (5, 8, 15)


def test_a_lower_limit_keeps_what_it_holds_and_takes_nothing_more():
    queue = EventQueue(10)
    fill(queue, range(10))
    queue.capacity = 3
    fill(queue, [10])
    assert (len(queue), queue.overflowed) == (10, 1)
    queue.capacity = 0
    queue.take(10)
    fill(queue, [11])
    assert (len(queue), queue.overflowed, queue.accepted) == (0, 2, 12)


def test_overflow_is_counted_exactly_across_threads(often):
    queue = EventQueue(1000)
    for thread in in_threads(8, lambda _number: fill(queue, range(2000))):
        thread.join()
    assert 1000 <= len(queue) <= 1007  # the bound is checked without a lock
    assert queue.accepted == len(queue) + queue.overflowed == 16_000


def test_nothing_is_lost_or_doubled_between_threads_that_offer_and_one_that_takes(often):
    queue = EventQueue(500)
    threads = in_threads(4, lambda number: fill(queue, range(3000), name=str(number)))
    taken = []
    while any(thread.is_alive() for thread in threads) or len(queue):
        taken += queue.take(random.randint(1, 50))
    assert len(taken) == queue.taken
    assert queue.taken + queue.overflowed == queue.accepted == 12_000
    for number in range(4):
        of_one = [measurements["n"] for name, measurements, *_ in taken if name == str(number)]
        assert of_one == sorted(set(of_one))


# --- waking the consumer ----------------------------------------------------------------------------------


class Wake:
    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1


@pytest.fixture
def wake():
    return Wake()


def test_a_batch_causes_one_wake_up_until_the_consumer_is_done(wake):
    queue = EventQueue(1000)
    queue.connect(wake, 10)
    fill(queue, range(9))
    assert wake.count == 0
    fill(queue, range(500))
    assert wake.count == 1
    queue.take(509)
    fill(queue, range(50))
    assert wake.count == 1
    queue.rearm()
    fill(queue, [1])
    assert wake.count == 2
    assert queue.wakeups == 2


def test_a_wake_up_is_for_as_many_events_as_wait_not_as_were_offered(wake):
    queue = EventQueue(1000)
    queue.connect(wake, 10)
    for _ in range(20):
        fill(queue, range(5))
        queue.take(5)
    assert wake.count == 0


def test_a_queue_that_is_full_before_a_batch_is_together_wakes_once(wake):
    queue = EventQueue(5)
    queue.connect(wake, 100)
    fill(queue, range(20))
    assert wake.count == 1
    queue.take(5)
    queue.rearm()
    fill(queue, range(4))
    assert wake.count == 1
    queue.capacity = 0
    fill(queue, range(20))
    assert wake.count == 1


def test_while_the_consumer_cannot_empty_it_what_overflows_wakes_nobody(wake):
    queue = EventQueue(5)
    queue.connect(wake, 2)
    fill(queue, range(5))
    queue.rearm()
    fill(queue, range(100))
    assert wake.count == 1


def test_threads_wake_the_consumer_once_between_them(often):
    queue = EventQueue(100_000)
    wakes = []
    queue.connect(lambda: wakes.append(1), 1)
    for thread in in_threads(8, lambda _number: fill(queue, range(1000))):
        thread.join()
    assert wakes == [1]


def test_where_nobody_is_connected_nobody_is_woken(wake):
    queue = EventQueue(100)
    fill(queue, range(10))
    queue.rearm()
    fill(queue, range(10))
    queue.connect(wake, 1)
    assert wake.count == 0
    fill(queue, [1])
    assert wake.count == 1
    queue.connect(None, 1)
    queue.rearm()
    fill(queue, range(10))
    assert (wake.count, queue.wakeups) == (1, 1)


def test_a_successor_is_woken_although_its_predecessor_was_and_did_nothing(wake):
    queue = EventQueue(100)
    queue.connect(lambda: None, 1)
    fill(queue, range(10))
    queue.connect(wake, 1)
    fill(queue, [10])
    assert wake.count == 1


def test_a_signal_handler_may_emit_while_the_queue_is_busy():
    queue = EventQueue(10)
    queue.connect(lambda: None, 1)

    def on_alarm(*_):
        fill(queue, [0], name="alarm")
        queue.rearm()

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        fill(queue, range(50_000))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(queue) == 10
    assert queue.accepted > 50_000


# --- forgetting what is not wanted ------------------------------------------------------------------------


def test_what_is_not_wanted_is_as_if_it_had_never_been_offered():
    queue = EventQueue(10)
    fill(queue, range(10))
    queue.retain(lambda event: event[1]["n"] % 2 == 0)
    assert (queue.accepted, queue.overflowed) == (5, 0)
    assert numbers(queue.take(10)) == [0, 2, 4, 6, 8]
    fill(queue, [1])
    queue.retain(lambda _event: False)
    assert (len(queue), queue.accepted) == (0, 5)


def test_a_test_that_raises_loses_nothing():
    queue = EventQueue(10)
    fill(queue, range(10))
    with pytest.raises(ZeroDivisionError):
        queue.retain(lambda event: 1 / (event[1]["n"] - 5))
    assert numbers(queue.take(10)) == list(range(10))


def test_the_order_of_each_emitter_is_kept_while_others_offer(often):
    queue = EventQueue(100_000)
    threads = in_threads(4, lambda number: fill(queue, range(1500), name=str(number)))
    while any(thread.is_alive() for thread in threads):
        queue.retain(lambda event: event[1]["n"] % 3 != 0)
    queue.retain(lambda event: event[1]["n"] % 3 != 0)
    taken = queue.take(100_000)
    for number in range(4):
        of_one = [measurements["n"] for name, measurements, *_ in taken if name == str(number)]
        assert of_one == [n for n in range(1500) if n % 3 != 0]


# --- beside it --------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # 3.12 on: forking with threads is what is tested
def test_a_forked_child_neither_exports_what_its_parent_will_nor_wakes_it(wake):
    queue = EventQueue(100)
    queue.connect(wake, 1)
    fill(queue, range(5))
    queue.rearm()
    with queue._lock:
        child = os.fork()
        if child == 0:
            fill(queue, range(5))
            empty = (len(queue), wake.count) == (0, 1)
            queue.capacity = 10
            fill(queue, range(5))
            os._exit(0 if empty and len(queue) == 5 and wake.count == 1 else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(queue) == 5


@pytest.mark.parametrize("which", range(len(absurd.DETAILS)))
def test_what_is_no_mapping_in_a_message_is_an_empty_one(which):
    assert as_plain_dict(absurd.DETAILS[which]) == {}


def test_a_mapping_in_a_message_is_copied():
    original = {"a": 1}
    copy = as_plain_dict(original)
    assert copy == original
    assert copy is not original
    assert as_plain_dict(None) == {}
