"""What never happens to the code that emits, whatever its arguments and the handlers do."""

import contextlib
import logging
import signal
import threading

import pytest

from otpylib_telemetry import (
    attach,
    emit,
    emit_counter,
    emit_gauge,
    emit_timer,
    execute,
    list_handlers,
)
from otpylib_telemetry.bus import dispatch, table
from tests.bus.recorders import AsyncRecorder, Recorder, drive, every_way_to_emit
from tests.support import absurd


@pytest.mark.parametrize("listening", [False, True])
@pytest.mark.parametrize("which", range(len(absurd.NAMES)))
async def test_no_name_makes_emitting_raise(which, listening, quiet):
    name = absurd.NAMES[which]
    seen = Recorder()
    if listening:
        await attach("h", "*", seen)
    await every_way_to_emit(name)
    await emit_counter(name)
    await emit_timer(name, 1)
    await emit_gauge(name, 1)
    assert seen.events == []
    assert dispatch.refused.count == 5


@pytest.mark.parametrize("which", range(len(absurd.DETAILS)))
async def test_nothing_in_place_of_measurements_and_metadata_makes_emitting_raise(which, quiet):
    details = absurd.DETAILS[which]
    seen = Recorder()
    await attach("h", "*", seen)
    await every_way_to_emit("a", details)
    await every_way_to_emit("a", None, details)
    await every_way_to_emit("a", details, details)
    assert seen.events == []
    assert dispatch.refused.count == 6
    await every_way_to_emit("a", {"count": 1})
    assert seen.names == ["a", "a"]


async def test_absurd_keys_and_values_arrive_untouched():
    odd = absurd.Malicious()
    cycle = []
    cycle.append(cycle)
    measurements = {"count": odd, 5: 10**5000, None: float("nan"), (): b"", "value": cycle}
    seen = []
    await attach("h", "*", lambda _name, *details: seen.append(details))
    await every_way_to_emit("a", measurements, measurements)
    assert all(one is measurements for details in seen for one in details)
    await emit_counter("c", odd, thing=odd)
    assert seen[-1][0]["count"] is odd


async def test_what_is_no_event_is_counted_and_said_once_per_kind(caplog):
    await attach("h", "*", Recorder())
    for _ in range(3):
        execute(5)
        execute("a", "text")
        execute("a", None, absurd.raising(KeyError("secret")))
    assert dispatch.refused.count == 9
    assert [record.getMessage() for record in caplog.records] == [
        f"An event was not emitted: {what}. Further ones like it are only counted."
        for what in (
            "an event name is a string, not int",
            "measurements or metadata of 'a' cannot be used (TypeError: a mapping was expected, not str)",
            "measurements or metadata of 'a' cannot be used (KeyError: 'secret')",
        )
    ]


async def test_mistakes_without_end_do_not_fill_the_log(caplog):
    await attach("h", "*", Recorder())
    for number in range(300):
        execute(f"name{number}", 5)
    assert dispatch.refused.count == 300
    assert len(caplog.records) == 100


async def test_refusals_are_counted_exactly_across_threads(quiet):
    def work():
        for _ in range(1000):
            execute(None)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dispatch.refused.count == 8000


@pytest.mark.parametrize("error", absurd.ERRORS, ids=lambda error: type(error).__name__)
async def test_whatever_a_handler_raises_stays_with_it(error, quiet):
    bad, bad_async, good, good_async = Recorder(error), AsyncRecorder(error), Recorder(), AsyncRecorder()
    for name, recorder in {"1": bad, "2": bad_async, "3": good, "4": good_async}.items():
        await attach(name, "shop.*", recorder)

    await emit("shop.sale", {"count": 1})
    execute("shop.sale", {"count": 2})

    assert len(bad.events) == 2
    assert len(bad_async.events) == 1
    assert [measurements["count"] for _, measurements, _ in good.events] == [1, 2]
    assert len(good_async.events) == 1
    failures = {info.handler_id: info.failures for info in list_handlers()}
    assert failures == {"1": 2, "2": 1, "3": 0, "4": 0}


@pytest.mark.parametrize("error", absurd.ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_handler_raises_stays_with_it_outside_any_loop(error, quiet):
    bad, good = Recorder(error), Recorder()
    table.add("bad", ["*"], bad)
    table.add("good", ["shop.*"], good)
    execute("shop.sale")
    assert good.names == ["shop.sale"]


@pytest.mark.parametrize("recorder", [Recorder, AsyncRecorder])
async def test_a_keyboard_interrupt_passes_and_is_no_failure_of_the_handler(recorder):
    bad = recorder(KeyboardInterrupt())
    await attach("h", "*", bad)
    with pytest.raises(KeyboardInterrupt):
        drive(emit("a"))
    bad.error = None
    await emit("b")
    assert bad.names == ["a", "b"]
    assert list_handlers()[0].failures == 0


def test_a_keyboard_interrupt_passes_execute():
    table.add("h", ["*"], Recorder(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        execute("a")


async def test_a_handler_that_never_stops_recursing_harms_nobody(quiet):
    good = Recorder()

    def endless(*event):
        endless(*event)

    await attach("bad", "a", endless)
    await attach("good", "a", good)
    execute("a")
    assert good.names == ["a"]


def test_emitting_at_the_end_of_the_stack_does_not_raise(quiet):
    seen = Recorder()
    table.add("h", ["*"], seen)
    survived, raised_in = [], []

    def descend(depth):
        with contextlib.suppress(RecursionError):
            # As deep as it gets; every frame on the way out has one more to spare.
            descend(depth + 1)
        try:
            execute(f"fresh.{depth}", {"count": 1}, dict)
        except RecursionError as error:
            raised_in.append(error.__traceback__.tb_next)
        else:
            survived.append(depth)

    descend(0)
    # Where there was no room even for the frame of execute, the exception is the caller's own.
    assert set(raised_in) <= {None}
    assert len(survived) > 100
    assert len(seen.events) > 100


async def test_a_handler_that_emits_what_it_handles_ends_by_itself(quiet):
    calls = []

    def again(name, _measurements, _metadata):
        calls.append(name)
        execute(name)

    await attach("again", "a", again)
    execute("a")
    assert len(calls) > 50


async def test_a_log_handler_that_raises_is_no_reason_to(monkeypatch):
    class Bad(logging.Handler):
        def emit(self, record):
            raise RuntimeError("log")

        handle = emit

    log = logging.getLogger("otpylib_telemetry")
    bad = Bad()
    log.addHandler(bad)
    try:
        await attach("h", "*", Recorder(ValueError()))
        await every_way_to_emit("a")
        await every_way_to_emit(5)
    finally:
        log.removeHandler(bad)
    assert list_handlers()[0].failures == 3  # twice an event, once the report of its own failure
    assert dispatch.refused.count == 2


async def test_a_log_handler_may_emit():
    class Emitting(logging.Handler):
        def emit(self, record):
            execute("log.record", None, {"text": record.getMessage()})
            execute(None)

    log = logging.getLogger("otpylib_telemetry")
    emitting, seen = Emitting(), Recorder()
    log.addHandler(emitting)
    try:
        await attach("log", "log.*", seen)
        await attach("bad", "shop.*", Recorder(ValueError()))
        execute("shop.sale")
        execute(5.5)
    finally:
        log.removeHandler(emitting)
    assert len(seen.events) >= 2


def test_a_signal_handler_may_emit_at_any_point(quiet):
    seen = Recorder()
    table.add("h", ["*"], seen)
    table.add("bad", ["bad.*"], Recorder(ValueError()))
    table.add("async", ["*"], AsyncRecorder())
    before = signal.signal(signal.SIGALRM, lambda *_: (execute("bad.alarm"), execute(None)))
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        for _ in range(5000):
            execute("bad.main")
            execute(None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seen.names.count("bad.main") == 5000
    assert seen.names.count("bad.alarm") > 0
