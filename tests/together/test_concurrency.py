"""Several batches under way at once: order, breaker, retries and books."""

import asyncio
import random

import pytest

from otpylib_telemetry import ExportError, ExportOutcome, TooLargeError, otp
from otpylib_telemetry.exporter import registry
from tests.exporter.test_sender import Rig
from tests.support.chassis import (
    NAME,
    SECTION,
    books,
    call,
    cast,
    crash,
    emit,
    hang,
    make_exporter,
    start,
    stats,
    waiting,
)
from tests.support.waiting import eventually

_made = []


def gates(count):
    made = [asyncio.get_running_loop().create_future() for _ in range(count)]
    _made.extend(made)
    return made


@pytest.fixture(autouse=True)
async def _every_gate_is_open_in_the_end():
    """An export that waits for ever outlasts its test: the end of a loop leaves exports alone."""
    yield
    for gate in _made:
        if not gate.done():
            gate.set_result(None)
    _made.clear()
    await eventually(lambda: not otp.tasks._background, message="every export has ended")


async def test_as_many_batches_are_under_way_as_allowed_and_no_more():
    rig = Rig(batch_size=2, concurrency=3, flush_interval=1000.0)
    rig.script = gates(4)
    rig.put(*"abcdefgh")
    await rig.send_due()
    await rig.send_due()
    assert rig.sent == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert rig.state.books()["in_flight"] == 6
    assert rig.sender.next_at() is None


async def test_what_is_not_a_full_batch_waits_for_its_interval_also_beside_others_under_way():
    rig = Rig(batch_size=2, concurrency=2, flush_interval=5.0)
    rig.script = gates(1)
    rig.put(*"abc")
    await rig.send_due()
    assert rig.sent == [["a", "b"]]
    assert rig.sender.next_at() == 105.0
    rig.advance(5.0)
    await rig.send_due()
    assert rig.sent[1:] == [["c"]]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
async def test_batches_that_fail_in_any_order_are_sent_again_in_the_first_one(order):
    rig = Rig(batch_size=2, concurrency=3, failure_threshold=100)
    waiting = rig.script = gates(3)
    waiting = list(waiting)
    rig.put(*"abcdefgh")
    await rig.send_due()
    for number in order:
        waiting[number].set_exception(OSError("down"))
        await rig.send_due()
    rig.advance(60)
    await rig.send_due()
    await rig.send_due()
    assert rig.sent[3:] == [["a", "b"], ["c", "d"], ["e", "f"], ["g", "h"]]


async def test_batches_that_fail_side_by_side_are_one_attempt():
    rig = Rig(batch_size=1, concurrency=3, failure_threshold=100, retry_attempts=1, flush_interval=40.0)
    rig.script = [OSError("down")] * 6
    rig.put(*"abc")
    await rig.send_due()
    assert rig.sender.next_at() == 100.5
    rig.advance(0.5)
    await rig.send_due()
    # Both attempts are used up: the next round begins after the flush interval.
    assert rig.sender.next_at() == 140.5
    assert rig.sender.failures == 6


async def test_a_delay_the_server_asks_for_counts_whichever_batch_it_is_told():
    rig = Rig(batch_size=1, concurrency=2, failure_threshold=100)
    rig.script = [OSError("down"), ExportError("busy", retry_after=30)]
    rig.put(*"ab")
    await rig.send_due()
    assert rig.sender.next_at() == 130.0


async def test_a_success_of_a_batch_sent_before_the_failure_does_not_cut_the_wait_short():
    rig = Rig(batch_size=1, concurrency=2, failure_threshold=100)
    gate = gates(1)[0]
    rig.script = [gate, ExportError("busy", retry_after=30)]
    rig.put(*"abc")
    await rig.send_due()
    gate.set_result(None)
    await rig.send_due()
    assert rig.sender.next_at() == 130.5
    assert rig.sender.reports.trouble == "busy"


async def test_a_half_open_breaker_lets_one_probe_through_and_then_all():
    rig = Rig(batch_size=1, concurrency=3, failure_threshold=3, reset_timeout=10.0)
    probe = gates(1)[0]
    rig.script = [OSError("down")] * 3 + [probe]
    rig.put(*"abcd")
    await rig.send_due()
    assert rig.state.breaker.state == "open"
    rig.advance(11)
    await rig.send_due()
    await rig.send_due()
    assert rig.sent[3:] == [["a"]]
    assert rig.sender.next_at() is None
    probe.set_result(None)
    await rig.send_due()
    await rig.send_due()
    assert sorted(rig.sent[4:]) == [["b"], ["c"], ["d"]]


async def test_a_late_failure_beside_a_probe_does_not_decide_for_it():
    rig = Rig(batch_size=1, concurrency=2, failure_threshold=1, reset_timeout=10.0)
    late, probe = gates(2)
    rig.script = [late, OSError("down"), probe]
    rig.put(*"abc")
    await rig.send_due()
    rig.advance(11)
    await rig.send_due()
    assert rig.state.breaker.state == "half_open"
    late.set_exception(OSError("late"))
    await rig.send_due()
    assert rig.state.breaker.state == "half_open"
    probe.set_result(None)
    await rig.send_due()
    assert rig.state.breaker.state == "closed"


async def test_emptying_with_an_open_breaker_tries_with_one_batch():
    rig = Rig(batch_size=1, concurrency=4, failure_threshold=1, reset_timeout=600.0)
    rig.script = [OSError("down")] * 9
    rig.put("a")
    await rig.send_due()
    rig.put(*"bcd")
    await rig.sender.empty(1000.0, last_chance=True)
    assert rig.sent == [["a"], ["a"]]


async def test_emptying_uses_all_the_ways_there_are():
    rig = Rig(batch_size=1, concurrency=3)
    waiting = rig.script = gates(3)
    waiting = list(waiting)
    rig.put(*"abcde")
    emptying = asyncio.ensure_future(rig.sender.empty(1000.0, last_chance=True))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(rig.sent) == 3
    for gate in waiting:
        gate.set_result(None)
    await emptying
    assert rig.state.books()["exported"] == 5


async def test_abandoning_takes_every_batch_back():
    rig = Rig(batch_size=2, concurrency=3)
    rig.script = gates(3)
    rig.put(*"abcdef")
    await rig.send_due()
    await rig.sender.abandon(1.0)
    assert [payload for payload, _ in waiting(rig.state)] == list("abcdef")
    assert rig.state.books()["in_flight"] == 0
    rig.check()


async def test_what_was_abandoned_is_not_sent_again_by_the_same_exporter():
    rig = Rig(batch_size=1, concurrency=2, flush_interval=0.001)
    rig.script = gates(2)
    rig.put(*"abc")
    await rig.send_due()
    await rig.sender.abandon(1.0)
    rig.advance(60)
    await rig.send_due(force=True, ignore_rest=True)
    assert len(rig.sent) == 2
    assert rig.sender.next_at() is None
    rig.sender.use(None)
    rig.sender.use(rig)
    await rig.send_due(force=True)
    assert [batch for (batch,) in rig.sent[2:]] == ["a", "b"]


async def test_a_smaller_concurrency_is_in_force_as_soon_as_enough_have_landed():
    rig = Rig(batch_size=1, concurrency=3)
    waiting = rig.script = gates(3)
    waiting = list(waiting)
    rig.put(*"abcde")
    await rig.send_due()
    rig.state.settings = rig.state.settings.model_copy(update={"concurrency": 1})
    for gate in waiting[:2]:
        gate.set_result(None)
        await rig.send_due()
    assert len(rig.sent) == 3
    waiting[2].set_result(None)
    await rig.send_due()
    await rig.send_due()
    assert len(rig.sent) == 4


async def test_the_books_are_exact_whatever_becomes_of_overlapping_batches():
    rig = Rig(batch_size=7, concurrency=5, failure_threshold=1000, retry_attempts=100, flush_interval=0.5)
    dice = random.Random(21)
    emitted = 0

    def fate():
        chance = dice.random()
        if chance < 0.3:
            return OSError("down")
        if chance < 0.4:
            return ExportError("bad", retryable=False)
        if chance < 0.5:
            return TooLargeError("too large")
        if chance < 0.6:
            return ExportOutcome(rejected=2)
        return None

    flying = []

    class Random:
        async def export(self, batch):
            gate = asyncio.get_running_loop().create_future()
            flying.append(gate)
            await gate
            if (outcome := fate()) is None or isinstance(outcome, ExportOutcome):
                return outcome
            raise outcome

    rig.sender.use(Random())
    for _ in range(400):
        count = dice.randrange(12)
        rig.put(*range(emitted, emitted + count))
        emitted += count
        await rig.send_due(ignore_rest=dice.random() < 0.3)
        dice.shuffle(flying)
        for _ in range(dice.randrange(4)):
            if flying:
                flying.pop().set_result(None)
        rig.advance(dice.random())
        await asyncio.sleep(0)
        rig.check()
    while rig.state.left:
        rig.advance(60)
        await rig.send_due(force=True, ignore_rest=True)
        while flying:
            flying.pop().set_result(None)
        await asyncio.sleep(0)
        rig.check()
    assert rig.state.books()["accepted"] == emitted


# --- the whole exporter


async def test_flush_and_drain_wait_for_every_batch_under_way(runtime):
    module, backend = make_exporter()
    await start(module, concurrency=4, batch_size=5, flush_interval=60.0)
    waiting = [hang() for _ in range(4)]
    backend.script.extend(waiting)
    emit(20)
    await eventually(lambda: books()["in_flight"] == 20)
    flushing = asyncio.ensure_future(call(("flush", 60.0)))
    draining = asyncio.ensure_future(call(("drain", 60.0)))
    for gate in waiting:
        gate.set_result(None)
    assert (await flushing)["left"] == 0
    assert (await draining)["left"] == 0
    assert sorted(backend.numbers) == list(range(20))
    assert backend.calls.count("close") == 1


async def test_a_drain_that_runs_out_of_time_keeps_what_was_under_way(runtime):
    module, backend = make_exporter()
    await start(module, concurrency=3, batch_size=5, flush_interval=60.0)
    backend.always = hang()
    emit(25)
    await eventually(lambda: books()["in_flight"] == 15)
    assert (await call(("drain", 0.2)))["left"] == 25
    found = books()
    assert (found["queued"], found["in_flight"]) == (25, 0)


async def test_an_exporter_that_is_replaced_is_closed_after_the_last_of_its_batches(runtime):
    module, backend = make_exporter()
    await start(module, concurrency=2, batch_size=5)
    first, second = hang(), hang()
    backend.script.extend([first, second])
    emit(10)
    await eventually(lambda: books()["in_flight"] == 10)
    await cast(("config_changed", f"{SECTION}.endpoint", "one", "two"))
    await eventually(lambda: backend.open_now == 2)
    first.set_result(None)
    emit(5, first=10)
    await eventually(lambda: len(backend.delivered) == 10)
    assert "close" not in backend.calls
    second.set_result(None)
    await eventually(lambda: backend.open_now == 1)
    await eventually(lambda: len(backend.delivered) == 15)
    assert sorted(backend.numbers) == list(range(15))


async def test_a_crash_with_several_batches_under_way_loses_and_repeats_nothing(runtime, capsys):
    module, backend = make_exporter()
    await start(module, concurrency=3, batch_size=5)
    waiting = [hang() for _ in range(3)]
    backend.script.extend(waiting)
    emit(15)
    await eventually(lambda: books()["in_flight"] == 15)
    await crash()
    await start(module, concurrency=3, batch_size=5)
    emit(5, first=15)
    for gate in waiting:
        gate.set_result(None)
    await eventually(lambda: len(backend.delivered) == 20)
    assert sorted(backend.numbers) == list(range(20))
    await eventually(lambda: books()["exported"] == 20)


async def test_concurrency_can_be_changed_while_running(runtime):
    module, backend = make_exporter()
    await start(module, batch_size=1, flush_interval=60.0)
    backend.always = gate = hang()
    emit(4)
    await eventually(lambda: books()["in_flight"] == 1)
    await cast(("config_changed", f"{SECTION}.concurrency", 1, 4))
    await eventually(lambda: books()["in_flight"] == 4)
    gate.set_result(None)
    await eventually(lambda: books()["exported"] == 4)
    assert stats()["batches"] == 4
    assert registry.find(NAME).left == 0
