"""A handler that fails: isolated, reported once per outage, rested and tried again."""

import asyncio
import threading

import pytest

from otpylib_telemetry import (
    attach,
    emit,
    execute,
    list_handlers,
)
from otpylib_telemetry.bus import table
from otpylib_telemetry.bus.handler import FAILURES_BEFORE_REST, FIRST_REST, REPORT_INTERVAL
from tests.bus.recorders import AsyncRecorder, Clock, Recorder, start_and_cancel

# --- failing handlers -------------------------------------------------------------------------------------


@pytest.fixture
def clock():
    return Clock()


@pytest.mark.parametrize("recorder", [Recorder, AsyncRecorder])
async def test_a_failure_is_reported_once_per_outage_with_what_is_needed_to_find_it(recorder, clock, caplog):
    bad, watch = recorder(ValueError("no disk")), Recorder()
    table.add("bad", ["shop.*"], bad, clock=clock)
    await attach("watch", "telemetry.*", watch)

    for _ in range(3):
        await emit("shop.sale")
    assert watch.events == [
        (
            "telemetry.handler.failure",
            {"failures": 1},
            {
                "handler_id": "bad",
                "event_name": "shop.sale",
                "error": "ValueError: no disk",
                "error_type": "ValueError",
            },
        )
    ]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "'bad' failed on event 'shop.sale': ValueError: no disk" in caplog.text

    bad.error = None
    await emit("shop.sale")
    assert watch.events[1:] == [("telemetry.handler.recovered", {"failures": 3}, {"handler_id": "bad"})]

    bad.error = ValueError("again")
    clock.now += REPORT_INTERVAL
    await emit("shop.sale")
    assert watch.names == [
        "telemetry.handler.failure",
        "telemetry.handler.recovered",
        "telemetry.handler.failure",
    ]


@pytest.mark.parametrize("recorder", [Recorder, AsyncRecorder])
async def test_a_handler_that_keeps_failing_rests_for_growing_times_and_recovers(recorder, clock, quiet):
    bad, watch = recorder(ValueError()), Recorder()
    table.add("bad", ["shop.*"], bad, clock=clock)
    await attach("watch", "telemetry.*", watch)

    for _ in range(20):
        await emit("shop.sale")
    assert len(bad.events) == FAILURES_BEFORE_REST
    (info,) = list_handlers("shop.*")
    assert (info.suspended, info.failures, info.missed) == (True, FAILURES_BEFORE_REST, 15)

    rest, rests = FIRST_REST, []
    for _ in range(10):
        clock.now += rest - 0.001
        await emit("shop.sale")
        calls = len(bad.events)
        clock.now += 0.001
        await emit("shop.sale")
        assert len(bad.events) == calls + 1
        rests.append(rest)
        rest = min(rest * 2, 60.0)
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]

    bad.error = None
    clock.now += 60
    await emit("shop.sale")
    await emit("shop.sale")
    (info,) = list_handlers("shop.*")
    assert not info.suspended
    assert watch.names == ["telemetry.handler.failure", "telemetry.handler.recovered"]


async def test_a_handler_that_fails_every_other_time_is_not_reported_every_time(clock, quiet):
    flapping, watch = Recorder(), Recorder()
    table.add("flapping", ["shop.*"], flapping, clock=clock)
    await attach("watch", "telemetry.*", watch)
    for number in range(100):
        flapping.error = ValueError() if number % 2 else None
        execute("shop.sale")
    assert watch.names == ["telemetry.handler.failure", "telemetry.handler.recovered"]
    assert len(flapping.events) == 100


async def test_an_outage_that_begins_soon_after_another_is_reported_all_the_same(clock, quiet):
    bad, watch = Recorder(ValueError()), Recorder()
    table.add("bad", ["shop.*"], bad, clock=clock)
    await attach("watch", "telemetry.*", watch)
    execute("shop.sale")
    bad.error = None
    execute("shop.sale")
    bad.error = ValueError("for good")
    execute("shop.sale")
    assert len(watch.events) == 2
    clock.now += REPORT_INTERVAL
    execute("shop.sale")
    assert watch.names[2:] == ["telemetry.handler.failure"]


async def test_a_failing_handler_of_everything_gets_its_own_failure_report_and_does_not_recurse(quiet):
    bad, good = Recorder(ValueError()), Recorder()
    await attach("bad", "*", bad)
    await attach("good", "*", good)
    execute("shop.sale")
    assert bad.names == good.names == ["shop.sale", "telemetry.handler.failure"]


async def test_a_hundred_failing_handlers_of_everything_report_each_other_and_end(quiet):
    recorders = [Recorder(ValueError()) for _ in range(100)]
    for number, recorder in enumerate(recorders):
        await attach(f"h{number}", "*", recorder)
    good = Recorder()
    await attach("good", "*", good)
    execute("shop.sale")
    assert good.names.count("telemetry.handler.failure") == 100
    assert max(len(recorder.events) for recorder in recorders) <= FAILURES_BEFORE_REST


async def test_the_report_follows_the_event_it_is_about(quiet):
    seen = Recorder()
    await attach("bad", "shop.*", Recorder(ValueError()))
    await attach("seen", "*", seen)
    execute("shop.sale")
    assert seen.names == ["shop.sale", "telemetry.handler.failure"]


async def test_failures_are_counted_exactly_across_threads(clock, quiet):
    bad = Recorder(ValueError())
    table.add("bad", ["shop.*"], bad, clock=clock)

    def work():
        for _ in range(500):
            execute("shop.sale")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (info,) = list_handlers()
    assert info.failures == len(bad.events)
    assert info.failures + info.missed == 4000


async def test_a_resting_handler_is_tried_by_one_call_at_a_time(clock, quiet):
    gate = asyncio.Event()
    running = []

    async def bad(*_event):
        running.append(1)
        if gate.is_set():
            await asyncio.sleep(0.01)
        raise ValueError

    table.add("bad", ["shop.*"], bad, clock=clock)
    for _ in range(FAILURES_BEFORE_REST):
        await emit("shop.sale")
    gate.set()
    clock.now += FIRST_REST
    await asyncio.gather(*(emit("shop.sale") for _ in range(10)))
    assert len(running) == FAILURES_BEFORE_REST + 1


async def test_a_call_from_before_the_rest_decides_nothing_for_the_trial(clock, quiet):
    gates = {name: asyncio.Event() for name in ("early", "trial")}

    async def bad(name, *_details):
        if name in gates:
            await gates[name].wait()
        raise ValueError

    table.add("bad", ["*"], bad, clock=clock)
    early = asyncio.create_task(emit("early"))
    await asyncio.sleep(0)
    for _ in range(FAILURES_BEFORE_REST):
        await emit("shop.sale")
    clock.now += FIRST_REST
    trial = asyncio.create_task(emit("trial"))
    await asyncio.sleep(0)

    gates["early"].set()
    await early
    assert not list_handlers()[0].suspended
    gates["trial"].set()
    await trial
    assert list_handlers()[0].suspended


async def test_a_trial_that_was_cancelled_does_not_keep_others_from_being_made(clock, quiet):
    bad = AsyncRecorder(ValueError())
    table.add("bad", ["shop.*"], bad, clock=clock)
    for _ in range(FAILURES_BEFORE_REST):
        await emit("shop.sale")

    async def hang(*_event):
        await asyncio.sleep(60)

    handler = table.current.table.handlers["bad"]
    handler.callback = hang
    clock.now += FIRST_REST
    await start_and_cancel(emit("shop.sale"))
    bad.error = None
    handler.callback = bad
    await emit("shop.sale")
    assert len(bad.events) == FAILURES_BEFORE_REST + 1
    assert not handler.suspended
