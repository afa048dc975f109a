"""How long the application's event loop stands still at most, in items handled between two of its turns.

Not in milliseconds, which say how busy the machine is: the clock that ends a slice of collecting advances
with each look at it, so that a slice is a number of chunks.
"""

import asyncio
import sys
from collections import Counter
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from otpylib_telemetry import execute, otp, span
from otpylib_telemetry.exporter import consumer, registry
from otpylib_telemetry.exporter.consumer import CHUNK, SLICE_NS
from otpylib_telemetry.exporter.queue import EventQueue
from otpylib_telemetry.exporter.sender import Sender
from otpylib_telemetry_mock.otlp_receiver import OtlpReceiver
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.otlp import grpc_core
from tests.support.waiting import eventually

NAME = "otel_exporter"

#: Chunks in a slice on the clock below, and one more for a call that catches up in the same turn.
MOST_COLLECTED = 3 * CHUNK

BATCH = 50
LANES = 3
QUICK = {"flush_interval": 0.02, "batch_size": BATCH, "metrics_interval": 3600, "shutdown_timeout": 0.5}


class Turns:
    """What is done in each turn of the loop: events collected, items handed over, functions called."""

    def __init__(self):
        self.turn = 0
        self.collected = Counter()
        self.sent = Counter()
        self.calls = Counter()

    def next(self):
        self.turn += 1
        asyncio.get_running_loop().call_soon(self.next)

    def called(self, _frame, event, _argument):
        if event == "call":
            self.calls[self.turn] += 1


@pytest.fixture
def turns(monkeypatch):
    """Counts from the first call of ``next`` on."""
    found, looks = Turns(), iter(range(10**12))
    take, send = EventQueue.take, Sender._send

    def counted_take(self, limit):
        events = take(self, limit)
        found.collected[found.turn] += len(events)
        return events

    def counted_send(self, exporter, lane, permit):
        before = self._state.in_flight_events
        send(self, exporter, lane, permit)
        found.sent[found.turn] += self._state.in_flight_events - before

    monkeypatch.setattr(EventQueue, "take", counted_take)
    monkeypatch.setattr(Sender, "_send", counted_send)
    monkeypatch.setattr(consumer, "time", SimpleNamespace(monotonic_ns=lambda: next(looks) * SLICE_NS // 2))
    return found


@contextmanager
def profiled(turns):
    before = sys.getprofile()
    sys.setprofile(turns.called)
    try:
        yield
    finally:
        sys.setprofile(before)


def longest(counted):
    return max(counted.values(), default=0)


async def test_one_operation_with_more_events_than_the_queue_holds(runtime, turns):
    with OtlpReceiver() as receiver:
        await start_otel_exporter(
            {**QUICK, "endpoint": receiver.endpoint, "queue_limit": 1000, "logs": False}
        )
        turns.next()
        with span("shop.import"):
            for row in range(20):
                for _ in range(900):
                    execute("shop.row", {}, {"row": row})
                with span("shop.other"):
                    pass
                await asyncio.sleep(0)
        await otp.safe_call(NAME, ("flush", 60))
        assert sum(turns.collected.values()) > 3 * MOST_COLLECTED
        assert longest(turns.collected) <= MOST_COLLECTED
        # A span stands for the events in it; limits of spans say how many these are.
        assert receiver.spans
        assert turns.turn > 20
        before = turns.turn
        await eventually(lambda: turns.turn > before + 10)


async def test_a_backlog_is_collected_in_slices(runtime, turns):
    """All at once, before the loop had a turn: as after a long computation of the application's."""
    with OtlpReceiver() as receiver:
        await start_otel_exporter(
            {**QUICK, "endpoint": receiver.endpoint, "queue_limit": 20_000, "metrics": False}
        )
        await otp.safe_call(NAME, ("flush", 60))
        turns.next()
        with span("shop.import"):
            for row in range(15_000):
                execute("shop.row", {}, {"row": row})
        await otp.safe_call(NAME, ("flush", 60))
        assert sum(turns.collected.values()) >= 15_000
        assert longest(turns.collected) <= MOST_COLLECTED
        assert longest(turns.sent) <= LANES * BATCH


async def test_a_callback_that_schedules_itself_inside_its_span(runtime, turns):
    rounds, done = 3000, asyncio.Event()
    loop = asyncio.get_running_loop()

    def again(left):
        with span("shop.poll"):
            if left:
                loop.call_soon(again, left - 1)
            else:
                done.set()

    with OtlpReceiver() as receiver:
        await start_otel_exporter({**QUICK, "endpoint": receiver.endpoint, "metrics": False, "logs": False})
        await otp.safe_call(NAME, ("flush", 60))
        turns.next()
        first = turns.turn
        with profiled(turns):
            again(rounds)
            await done.wait()
        last = turns.turn
        await otp.safe_call(NAME, ("flush", 60))
        assert longest(turns.collected) <= MOST_COLLECTED
        assert last - first >= rounds
        # The last rounds take no more calls than the first: nothing is gone through that grows.
        part = (last - first) // 5
        early = max(turns.calls[turn] for turn in range(first, first + part))
        late = max(turns.calls[turn] for turn in range(last - part, last))
        assert late <= 3 * early, (early, late)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_the_collector_is_down_and_no_descriptor_is_left(runtime, turns, monkeypatch, protocol):
    monkeypatch.setattr(grpc_core, "descriptors_left", lambda: False)
    with OtlpReceiver() as receiver:
        endpoint = receiver.endpoint
    settings = {
        **QUICK,
        "endpoint": endpoint,
        "protocol": protocol,
        "queue_limit": 2000,
        "reset_timeout": 0.05,
    }
    await start_otel_exporter({**settings, "metrics": False})
    await eventually(lambda: registry.is_configured(NAME))
    turns.next()
    state = registry.find(NAME)
    for number in range(20):
        for _ in range(400):
            with span("shop.order", {"number": number}):
                execute("shop.sold")
        await asyncio.sleep(0)
    await otp.safe_call(NAME, ("flush", 1))
    await eventually(lambda: turns.turn > 20 and state.books()["dropped"].get("queue_full"))
    assert longest(turns.collected) <= MOST_COLLECTED
    assert longest(turns.sent) <= LANES * BATCH
    # What waits is what the limit allows, and a look at it is no longer than that.
    assert state.left <= 2000
