"""The log of events: appended to once, read by each at its own pace, with its own patterns and limit."""

import os
import sys
import threading

import pytest

from otpylib_telemetry import execute, span
from otpylib_telemetry.bus import event_log, table
from otpylib_telemetry.bus.event_log import name_of
from otpylib_telemetry.exporter.queue import EventQueue


@pytest.fixture
def reader():
    """Makes queues that read the log."""
    made = []

    def read(name, *patterns, capacity=1000):
        queue = EventQueue(capacity)
        queue.read_log(patterns)
        table.add(name, patterns, queue.offer, reads_log=True)
        made.append((name, queue))
        return queue

    yield read
    for name, queue in made:
        table.remove(name)
        queue.leave_log()


def names(queue):
    return [name_of(entry) for entry in queue.take(10_000)]


def test_however_many_read_an_event_is_appended_once(reader):
    queues = [reader(f"reader{number}", "*") for number in range(5)]
    execute("a", {"count": 1}, {"b": 2})
    with span("op"):
        pass
    assert len(event_log.entries) == 3
    first, *others = [queue.take(10) for queue in queues]
    assert [name_of(entry) for entry in first] == ["a", "op.start", "op.success"]
    for other in others:
        assert all(mine is theirs for mine, theirs in zip(first, other, strict=True))


def test_each_gets_what_its_patterns_match(reader):
    everything, starts, one = reader("all", "*"), reader("starts", "*.start"), reader("one", "a")
    execute("a")
    execute("b.start")
    with pytest.raises(ValueError, match="no"), span("c"):
        raise ValueError("no")
    assert names(everything) == ["a", "b.start", "c.start", "c.error"]
    assert names(starts) == ["b.start", "c.start"]
    assert names(one) == ["a"]


def test_each_has_a_limit_of_its_own_and_counts_what_it_could_not_take(reader):
    small, large = reader("small", "*", capacity=3), reader("large", "*", capacity=100)
    for _ in range(10):
        execute("a")
    assert (len(small), small.overflowed, small.accepted) == (3, 7, 10)
    assert (len(large), large.overflowed, large.accepted) == (10, 0, 10)
    small.take(1)
    execute("b")
    assert (len(small), small.overflowed) == (3, 7)
    # What is not wanted takes no room.
    other = reader("other", "none", capacity=1)
    execute("a")
    assert (len(other), other.overflowed, other.accepted) == (0, 0, 0)


def test_a_reader_without_room_holds_nothing_up_and_the_log_stays_short(reader):
    reader("full", "*", capacity=0)
    free = reader("free", "*", capacity=100_000)
    for _ in range(5000):
        execute("a")
    assert len(event_log.entries) <= 64
    assert len(free) == 5000


def test_while_a_reader_has_no_room_emitters_do_not_hand_out_each_event(reader, monkeypatch):
    full = reader("full", "*", capacity=10)
    for _ in range(10):
        execute("a")
    times = []
    hand_out = event_log.hand_out
    monkeypatch.setattr(event_log, "hand_out", lambda: times.append(1) or hand_out())
    for _ in range(6400):
        execute("a")
    assert len(times) <= 101
    monkeypatch.undo()
    assert (len(full), full.overflowed, full.accepted) == (10, 6400, 6410)


def test_who_comes_later_gets_what_comes_later_and_who_leaves_keeps_what_came(reader):
    first = reader("first", "*")
    execute("a")
    second = reader("second", "*")
    execute("b")
    table.remove("first")
    first.leave_log()
    execute("c")
    assert names(first) == ["a", "b"]
    assert names(second) == ["b", "c"]


def test_patterns_that_change_count_from_the_next_event_on(reader):
    queue = reader("one", "a")
    execute("a")
    queue.read_log(("b",))
    table.add("one", ["b"], queue.offer, reads_log=True)
    execute("a")
    execute("b")
    assert names(queue) == ["a", "b"]


def test_a_batch_wakes_each_reader_once(reader):
    woken = []
    few, many = reader("few", "*"), reader("many", "*")
    few.connect(lambda: woken.append("few"), 3)
    many.connect(lambda: woken.append("many"), 5)
    for _ in range(4):
        execute("a")
    assert woken == ["few"]
    for _ in range(4):
        execute("a")
    assert woken == ["few", "many"]
    few.take(100)
    few.rearm()
    for _ in range(3):
        execute("a")
    assert woken == ["few", "many", "few"]


def test_handlers_are_called_in_the_order_in_which_they_were_attached(reader):
    seen = []
    table.add("before", ["a"], lambda *_: seen.append(len(event_log.entries)))
    queue = reader("reader", "a")
    table.add("after", ["a"], lambda *_: seen.append(len(event_log.entries)))
    try:
        execute("a")
    finally:
        table.remove("before")
        table.remove("after")
    assert seen == [0, 1]
    assert names(queue) == ["a"]


def test_threads_lose_nothing_and_each_keeps_its_order(reader):
    queues = [reader(f"reader{number}", "*", capacity=1_000_000) for number in range(3)]
    for queue in queues:
        queue.connect(lambda: None, 7)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def work(thread):
            for number in range(2000):
                execute("a", {"n": number}, {"thread": thread})

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        taken = [[] for _ in queues]
        while any(thread.is_alive() for thread in threads):
            for queue, mine in zip(queues, taken, strict=True):
                mine.extend(queue.take(50))
                queue.rearm()
    finally:
        sys.setswitchinterval(before)
    for queue, mine in zip(queues, taken, strict=True):
        mine.extend(queue.take(1_000_000))
        assert len(mine) == 8000
        for thread in range(4):
            assert [event[1]["n"] for event in mine if event[2]["thread"] == thread] == list(range(2000))


def test_who_emits_while_it_is_handed_out_is_heard_after_that(reader):
    class Emitting(EventQueue):
        """A finaliser that runs meanwhile, say."""

        once = True

        def receive(self, entries, names):
            if Emitting.once:
                Emitting.once = False
                execute("meanwhile")
            super().receive(entries, names)

    queue = Emitting(1000)
    queue.read_log(("*",))
    table.add("emitting", ["*"], queue.offer, reads_log=True)
    other = reader("other", "*")
    try:
        execute("a")
        assert names(queue) + names(queue) == names(other) == ["a", "meanwhile"]
    finally:
        table.remove("emitting")
        queue.leave_log()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_leaves_the_log_to_its_parent(reader):
    queue = reader("reader", "*")
    execute("a")
    child = os.fork()
    if child == 0:
        execute("b")
        os._exit(0 if len(event_log.entries) == 0 and len(queue) == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert names(queue) == ["a"]
