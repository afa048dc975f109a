"""Lanes: items of several kinds in one exporter, kept apart on their way out; and the urgent ones first."""

import asyncio
import random

import pytest

from otpylib_telemetry import Exporter, ExportError
from otpylib_telemetry.exporter.base import overridden
from otpylib_telemetry.exporter.collected import Collected
from otpylib_telemetry.exporter.lanes import Batch, Lane
from otpylib_telemetry.exporter.state import ExporterState
from tests.exporter.test_sender import Rig as OneLane
from tests.support.chassis import NAME, balance, books, call, emit, make_exporter, runner, start, stats
from tests.support.waiting import eventually


class Rig(OneLane):
    """Items are strings; their first letter is their lane. A capital letter at the end makes one urgent."""

    script_of = None

    def lane(self, item):
        return item[0]

    def urgent(self, item):
        return item[-1].isupper()

    def put(self, *payloads):
        for _ in payloads:
            self.state.queue.offer("e", {}, {})
        taken = self.state.queue.take(len(payloads))
        items = [(payload, 1) for payload in payloads]
        self.state.book(Collected(items=items), len(taken), 0, self.lane)
        self.check()

    async def export(self, batch):
        self.script = (self.script_of or {}).get(batch[0][0], [])
        return await super().export(batch)


def lane_of(*payloads):
    lane = Lane("x")
    lane.extend((payload, 1) for payload in payloads)
    return lane


def payloads(items):
    return [payload for payload, _ in items]


# --- a lane by itself


def test_batches_that_come_back_in_any_order_stand_where_they_stood():
    lane = lane_of(*range(20))
    batches = [lane.take(4) for _ in range(4)]
    dice = random.Random(3)
    dice.shuffle(batches)
    for batch in batches:
        lane.give_back(batch)
    lane.extend([(20, 1)])
    assert payloads(lane) == list(range(21))
    assert len(lane) == 21


def test_a_batch_taken_over_a_gap_and_in_pieces_keeps_its_order():
    lane = lane_of(*range(10))
    first, second = lane.take(3), lane.take(3)
    lane.give_back(first)
    across = lane.take(5)
    assert payloads(across) == [0, 1, 2, 6, 7]
    lane.give_back(across)
    lane.give_back(second)
    assert payloads(lane.take(2)) == [0, 1]
    assert sorted(payloads(lane)) == [2, 3, 4, 5, 6, 7, 8, 9]


def test_any_taking_and_giving_back_loses_nothing_and_keeps_one_at_a_time_in_order():
    dice = random.Random(11)
    lane, out, added, gone = Lane("x"), [], 0, []
    for _ in range(3000):
        step = dice.randrange(4)
        if step == 0:
            count = dice.randrange(5)
            lane.extend((number, 1) for number in range(added, added + count))
            added += count
        elif step == 1 and (batch := lane.take(dice.randrange(1, 6))):
            out.append(batch)
        elif step == 2 and out:
            lane.give_back(out.pop(dice.randrange(len(out))))
        elif out:
            gone.extend(payloads(out.pop(dice.randrange(len(out)))))
    under_way = [payload for batch in out for payload in payloads(batch)]
    assert sorted([*payloads(lane), *under_way, *gone]) == list(range(added))
    assert len(lane) == len(payloads(lane))


def test_the_chosen_go_to_the_front_and_both_parts_keep_their_order():
    lane = lane_of(*range(10))
    back, under_way = lane.take(2), lane.take(2)
    lane.give_back(back)
    lane.put_first(lambda number: number % 3 == 0)
    assert payloads(lane) == [0, 6, 9, 1, 4, 5, 7, 8]
    lane.give_back(under_way)
    assert payloads(lane)[:2] == [2, 3]
    assert len(lane) == 10


# --- an exporter that says nothing about lanes


def test_an_exporter_without_lanes_is_not_asked_about_any_item():
    class Plain(Exporter):
        pass

    class Sorting(Exporter):
        def lane(self, item):
            return "x"

    plain, sorting = Plain(None, None), Sorting(None, None)
    assert overridden(plain, "lane") is None
    assert overridden(plain, "urgent") is None
    assert overridden(object(), "lane") is None
    assert overridden(sorting, "lane")("anything") == "x"
    assert plain.lane("anything") == ""
    assert plain.urgent("anything") is False


@pytest.mark.parametrize("lane_of", [lambda _item: 1 / 0, lambda _item: ["spans"], lambda _item: None])
def test_an_item_without_a_lane_worth_the_name_goes_out_all_the_same(lane_of):
    found = ExporterState("x")
    found.queue.offer("e", {}, {})
    found.queue.take(1)
    found.book(Collected(items=[("a", 1)]), 1, 0, lane_of)
    assert payloads(found.load(10)) == ["a"]
    balance(found.books())


# --- sending


async def test_batches_are_of_one_lane_each():
    rig = Rig(batch_size=3)
    rig.put("s1", "l1", "s2", "l2", "s3", "l3")
    await rig.send_due()
    assert sorted(rig.sent) == [["l1", "l2", "l3"], ["s1", "s2", "s3"]]
    assert rig.state.books()["exported"] == 6


async def test_each_lane_is_due_by_itself():
    rig = Rig(batch_size=2, flush_interval=5.0)
    rig.put("s1", "l1")
    await rig.send_due()
    rig.advance(1.0)
    rig.put("s2")
    await rig.send_due()
    assert rig.sent == [["s1", "s2"]]
    assert rig.sender.next_at() == 105.0
    rig.advance(4.0)
    await rig.send_due()
    assert rig.sent[1:] == [["l1"]]


async def test_a_lane_that_hangs_does_not_hold_up_another():
    rig = Rig(batch_size=1)
    gate = asyncio.get_running_loop().create_future()
    rig.script_of = {"s": [gate]}
    rig.put("s1", "s2", "l1", "l2")
    await rig.send_due()
    await rig.send_due()
    assert rig.sent == [["s1"], ["l1"], ["l2"]]
    gate.set_result(None)
    await rig.send_due()
    await rig.send_due()
    assert rig.sent[3:] == [["s2"]]


async def test_a_lane_that_is_retried_does_not_hold_up_another():
    rig = Rig(batch_size=1, failure_threshold=100)
    rig.script_of = {"s": [ExportError("busy", retry_after=50)]}
    rig.put("s1", "l1", "l2")
    await rig.send_due()
    await rig.send_due()
    assert rig.sent == [["s1"], ["l1"], ["l2"]]
    assert rig.sender.next_at() == 150.5
    rig.advance(51)
    await rig.send_due()
    assert rig.sent[3:] == [["s1"]]


async def test_an_open_breaker_holds_up_every_lane_and_is_probed_by_one():
    rig = Rig(batch_size=1, failure_threshold=1, reset_timeout=10.0)
    gate = asyncio.get_running_loop().create_future()
    rig.script_of = {"s": [OSError("down")], "l": [gate]}
    rig.put("s1")
    await rig.send_due()
    rig.put("l1")
    await rig.send_due()
    assert rig.sent == [["s1"]]
    rig.advance(11)
    await rig.send_due()
    await rig.send_due()
    assert rig.sent[1:] == [["l1"]]
    assert rig.state.breaker.probing
    assert rig.sender.next_at() is None
    gate.set_result(None)
    await rig.send_due()
    await rig.send_due()
    assert rig.sent[2:] == [["s1"]]


async def test_one_outage_of_two_lanes_is_said_once_and_over_when_both_are_well(caplog):
    caplog.set_level("INFO", logger="otpylib_telemetry")
    rig = Rig(batch_size=1, failure_threshold=100)
    rig.script_of = {"s": [OSError("down")], "l": [OSError("down")] * 2}
    rig.put("s1", "l1")
    for _ in range(4):
        await rig.send_due()
        rig.advance(60)
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 2
    assert "rig cannot export: OSError: down" in texts[0]
    assert "rig exports again after 3 failed attempts" in texts[1]
    assert rig.sender.reports.trouble is None


async def test_different_troubles_of_two_lanes_are_told_apart(caplog):
    caplog.set_level("INFO", logger="otpylib_telemetry")
    rig = Rig(batch_size=1, failure_threshold=100)
    rig.script_of = {"s": [OSError("down")] * 3, "l": [ExportError("404", retryable=False)]}
    rig.put("s1", "l1", "l2")
    for _ in range(3):
        await rig.send_due()
        rig.advance(60)
    texts = [record.getMessage() for record in caplog.records]
    assert [text.split(":")[0] for text in texts] == ["rig cannot export", "rig cannot export l"]
    assert rig.sender.reports.trouble == "OSError: down"
    await rig.send_due()
    assert caplog.messages[2:] == ["rig exports again after 4 failed attempts; 0 events wait."]


async def test_a_batch_too_large_is_taken_apart_in_its_lane_alone():
    from otpylib_telemetry import TooLargeError  # noqa: PLC0415

    rig = Rig(batch_size=4)
    rig.script_of = {"s": [TooLargeError("4 MB")]}
    rig.put("s1", "s2", "s3", "s4", "l1", "l2", "l3", "l4")
    for _ in range(4):
        await rig.send_due()
    assert rig.sent == [["s1", "s2", "s3", "s4"], ["l1", "l2", "l3", "l4"], ["s1", "s2"], ["s3", "s4"]]


async def test_emptying_gives_up_a_lane_that_is_down_and_empties_the_others():
    rig = Rig(batch_size=1, retry_attempts=1, failure_threshold=100)
    rig.script_of = {"s": [OSError("down")] * 50}
    rig.put("s1", "s2", "l1", "l2", "l3", "l4", "l5")
    await rig.sender.empty(1000.0, last_chance=True)
    assert sorted(rig.sent) == [["l1"], ["l2"], ["l3"], ["l4"], ["l5"], ["s1"], ["s1"]]
    assert rig.state.left == 2
    rig.check()


async def test_items_that_weigh_nothing_are_emptied_too():
    rig = Rig(batch_size=1)
    rig.state.book(Collected(items=[("m1", 0), ("m2", 0)]), 0, 0, rig.lane)
    await rig.sender.empty(1000.0, last_chance=True)
    assert rig.sent == [["m1"], ["m2"]]


# --- urgent items


async def test_emptying_sends_urgent_items_first_and_otherwise_in_order():
    rig = Rig(batch_size=2)
    rig.put("s1", "s2E", "s3", "s4E", "s5", "s6E")
    await rig.sender.empty(1000.0, last_chance=True, urgent_first=True)
    assert rig.sent == [["s2E", "s4E"], ["s6E", "s1"], ["s3", "s5"]]


async def test_what_comes_back_while_emptying_does_not_go_before_urgent_items():
    rig = Rig(batch_size=2, failure_threshold=100)
    gate = asyncio.get_running_loop().create_future()
    rig.script_of = {"s": [gate]}
    rig.put("s1", "s2")
    await rig.send_due()
    rig.put("s3", "s4E")
    emptying = asyncio.ensure_future(rig.sender.empty(1000.0, last_chance=True, urgent_first=True))
    await asyncio.sleep(0)
    gate.set_exception(OSError("down"))
    await emptying
    assert rig.sent == [["s1", "s2"], ["s4E", "s1"], ["s2", "s3"]]


async def test_urgent_items_wait_their_turn_while_there_is_time():
    rig = Rig(batch_size=2)
    rig.put("s1", "s2E", "s3", "s4E")
    await rig.send_due(force=True)
    await rig.send_due()
    assert rig.sent == [["s1", "s2E"], ["s3", "s4E"]]


async def test_urgent_that_raises_costs_nothing():
    rig = Rig(batch_size=2)
    rig.put("s1", "s2")
    rig.state.put_first(lambda _item: 1 / 0)
    await rig.sender.empty(1000.0, last_chance=True)
    assert rig.sent == [["s1", "s2"]]


# --- the whole exporter


def _two_kinds(self, item):
    return "even" if item.measurements["n"] % 2 == 0 else "odd"


async def test_an_exporter_with_two_lanes_delivers_each_in_order(runtime):
    kinds = []

    async def export(self, batch):
        kinds.append({_two_kinds(self, item) for item in batch})
        backend.delivered.extend(batch)

    module, backend = make_exporter(lane=_two_kinds, export=export)
    await start(module)
    emit(101)
    await eventually(lambda: len(backend.delivered) == 101)
    assert all(len(kind) == 1 for kind in kinds)
    assert [n for n in backend.numbers if n % 2] == list(range(1, 101, 2))
    assert [n for n in backend.numbers if not n % 2] == list(range(0, 101, 2))
    assert books()["exported"] == 101
    assert stats()["lanes"] == {"even": 0, "odd": 0}


async def test_a_drain_that_runs_out_of_time_has_sent_the_errors(runtime):
    module, backend = make_exporter(urgent=lambda self, item: item.measurements["n"] >= 95)
    await start(module, flush_interval=60.0, batch_size=5, queue_limit=1000)
    runner(NAME).sender.use(None)
    emit(100)
    await call(("flush", 0.0))
    runner(NAME).sender.use(backend.exporters[-1])
    backend.script.append(None)
    backend.always = asyncio.get_running_loop().create_future()
    answer = await call(("drain", 0.2))
    assert answer["left"] == 95
    assert backend.numbers == [95, 96, 97, 98, 99]
    books()


def test_a_batch_is_a_list_of_items_with_a_lane():
    batch = Batch([("a", 1)], "spans", 7)
    assert (list(batch), batch.lane, batch.place) == ([("a", 1)], "spans", 7)
