"""Emitting: who is called, with what, and what never happens to the code that emits."""

import asyncio
import contextlib
import contextvars
import enum
import gc
import inspect
import logging
import signal
import subprocess
import sys
import threading
from types import MappingProxyType

import pytest

from otpylib_telemetry import (
    attach,
    attach_many,
    detach,
    emit,
    emit_counter,
    emit_gauge,
    emit_timer,
    execute,
    list_handlers,
)
from otpylib_telemetry.bus import dispatch, table
from otpylib_telemetry.bus.handler import FAILURES_BEFORE_REST, FIRST_REST, REPORT_INTERVAL
from tests.support import absurd


class Recorder:
    """A plain handler that remembers; raises what ``error`` says."""

    def __init__(self, error=None):
        self.events = []
        self.error = error

    def __call__(self, name, measurements, metadata):
        self.events.append((name, dict(measurements), dict(metadata)))
        if self.error is not None:
            raise self.error

    @property
    def names(self):
        return [name for name, _, _ in self.events]


class AsyncRecorder(Recorder):
    async def __call__(self, name, measurements, metadata):
        await asyncio.sleep(0)
        super().__call__(name, measurements, metadata)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def drive(coroutine):
    """Run a coroutine that waits for nothing, without an event loop to get in the way of what it raises."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration:
            return


async def every_way_to_emit(name, measurements=None, metadata=None):
    execute(name, measurements, metadata)
    await emit(name, measurements, metadata)


# --- what arrives -----------------------------------------------------------------------------------------


async def test_an_event_reaches_a_plain_and_an_async_handler_as_it_was_emitted():
    plain, later = Recorder(), AsyncRecorder()
    await attach("plain", "shop.*", plain)
    await attach("async", "shop.*", later)

    await emit("shop.sale", {"count": 2}, {"item": "tea"})

    assert plain.events == later.events == [("shop.sale", {"count": 2}, {"item": "tea"})]


async def test_measurements_and_metadata_are_optional():
    seen = Recorder()
    await attach("h", "*", seen)
    await every_way_to_emit("a")
    assert seen.events == [("a", {}, {})] * 2


async def test_the_conveniences_name_their_measurement():
    seen = Recorder()
    await attach("h", "*", seen)

    await emit_counter("c")
    await emit_counter("c", 3, country="de")
    await emit_timer("t", 12.5, page="home")
    await emit_gauge("g", 7, pool="a")

    assert seen.events == [
        ("c", {"count": 1}, {}),
        ("c", {"count": 3}, {"country": "de"}),
        ("t", {"duration_ms": 12.5}, {"page": "home"}),
        ("g", {"value": 7}, {"pool": "a"}),
    ]


async def test_the_conveniences_take_a_name_as_metadata_and_every_argument_as_keyword():
    seen = Recorder()
    await attach("h", "*", seen)

    await emit_counter("c", name="worker")
    await emit_timer("t", 1, name="worker")
    await emit_gauge("g", 2, name="worker")
    await emit_counter(name="c", count=2, user="u")
    await emit_timer(name="t", duration_ms=3)
    await emit_gauge(name="g", value=4)

    assert seen.events == [
        ("c", {"count": 1}, {"name": "worker"}),
        ("t", {"duration_ms": 1}, {"name": "worker"}),
        ("g", {"value": 2}, {"name": "worker"}),
        ("c", {"count": 2}, {"user": "u"}),
        ("t", {"duration_ms": 3}, {}),
        ("g", {"value": 4}, {}),
    ]


@pytest.mark.parametrize("convenience", [emit_counter, emit_timer, emit_gauge])
async def test_a_convenience_without_its_arguments_does_not_raise(convenience):
    seen = Recorder()
    await attach("h", "*", seen)
    await convenience()
    await convenience("x")
    assert seen.names == ["x"]


async def test_any_mapping_will_do():
    seen = Recorder()
    await attach("h", "*", seen)
    execute("a", MappingProxyType({"count": 1}), MappingProxyType({"user": "u"}))
    assert seen.events == [("a", {"count": 1}, {"user": "u"})]


async def test_handlers_get_plain_dicts_and_a_plain_string():
    kinds = []
    await attach("h", "*", lambda *event: kinds.append(tuple(map(type, event))))

    class Name(enum.StrEnum):
        SALE = "shop.sale"

    class Table(dict):
        pass

    await every_way_to_emit(Name.SALE, Table(count=1), Table(user="u"))
    assert kinds == [(str, dict, dict)] * 2


async def test_a_name_that_is_a_string_of_another_class_is_its_text():
    seen = Recorder()
    await attach("h", "shop.sale", seen)

    class Mixed(str, enum.Enum):  # noqa: UP042  # the one whose str() gives "Mixed.SALE"
        SALE = "shop.sale"

    await every_way_to_emit(Mixed.SALE)
    await every_way_to_emit(absurd.MaliciousStr("shop.sale"))
    assert seen.names == ["shop.sale"] * 4
    assert {type(name) for name in seen.names} == {str}


async def test_a_handler_of_several_matching_patterns_is_called_once():
    seen = Recorder()
    await attach_many("h", ["shop.*", "*.sale", "*"], seen)
    execute("shop.sale")
    assert seen.names == ["shop.sale"]


async def test_plain_handlers_have_run_when_execute_returns_in_the_callers_thread_and_context():
    variable = contextvars.ContextVar("variable")
    variable.set("caller's")
    seen = []
    await attach("h", "*", lambda *_: seen.append((threading.get_ident(), variable.get())))
    execute("a")
    assert seen == [(threading.get_ident(), "caller's")]


async def test_async_handlers_have_ended_when_emit_returns_and_run_in_the_callers_task():
    tasks = []

    async def handler(*_event):
        await asyncio.sleep(0.01)
        tasks.append(asyncio.current_task())

    await attach("h", "*", handler)
    await emit("a")
    assert tasks == [asyncio.current_task()]


def test_execute_needs_no_event_loop_no_runtime_and_no_manager():
    seen, later = Recorder(), AsyncRecorder()
    table.add("plain", ["*"], seen)
    table.add("async", ["*"], later)
    thread = threading.Thread(target=execute, args=("a", {"count": 1}))
    thread.start()
    thread.join()
    execute("b")
    assert seen.names == ["a", "b"]
    assert later.events == []


async def test_execute_from_many_threads_at_once_loses_nothing():
    counts = {}

    def handler(_name, measurements, _metadata):
        counts.setdefault(threading.get_ident(), []).append(measurements["n"])

    await attach("h", "*", handler)
    barrier = threading.Barrier(8)

    def work():
        barrier.wait()
        for n in range(500):
            execute("a", {"n": n})

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(counts.values()) == [list(range(500))] * 8


async def test_emit_can_be_driven_without_asyncio():
    seen = Recorder()
    table.add("h", ["*"], seen)
    coroutine = emit("a")
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert seen.names == ["a"]


# --- callables --------------------------------------------------------------------------------------------


async def test_a_callable_is_not_called_when_nobody_listens():
    await attach("h", "other.*", Recorder())
    calls = []
    await every_way_to_emit("a", lambda: calls.append(1), lambda: calls.append(2))
    assert calls == []


async def test_a_callable_is_called_once_per_event_however_many_listen():
    recorders = [Recorder(), Recorder(), AsyncRecorder()]
    for number, recorder in enumerate(recorders):
        await attach(f"h{number}", "*", recorder)
    calls = []

    def measurements():
        calls.append("measurements")
        return {"n": len(calls)}

    def metadata():
        calls.append("metadata")
        return {"n": len(calls)}

    await emit("a", measurements, metadata)
    assert calls == ["measurements", "metadata"]
    assert [recorder.events for recorder in recorders] == [[("a", {"n": 1}, {"n": 2})]] * 3


async def test_a_callable_may_give_none():
    seen = Recorder()
    await attach("h", "*", seen)
    execute("a", lambda: None, lambda: None)
    assert seen.events == [("a", {}, {})]


# --- patterns, as events see them -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("queuemizer.*", "queuemizer.job.start", True),
        ("queuemizer.*", "queuemizer", False),
        ("queuemizer.*", "my.queuemizer.job", False),
        ("*.error", "shop.checkout.error", True),
        ("*.error", "shop.error.more", False),
        ("*", "anything at all", True),
        ("*", "line\nbreak", True),
        ("shop.*", "Shop.sale", False),
        ("SHOP.*", "shop.sale", False),
        ("shop.?", "shop.a", True),
        ("shop.?", "shop.ab", False),
        ("shop.[ab]", "shop.b", True),
        ("shop.[!ab]", "shop.b", False),
        ("shop.[z-a]", "shop.b", False),
        ("shop.sale", "shop.sale", True),
        ("shop.sale", "shopXsale", False),
        ("shop.sale", "shop.sale\n", False),
        ("*a*a*a*a*a*a*a*a*a*b", "a" * 500, False),
    ],
)
async def test_patterns_are_globs_over_the_whole_name_where_case_counts(pattern, name, matches):
    seen = Recorder()
    await attach("h", pattern, seen)
    execute(name)
    assert bool(seen.events) is matches


# --- what never happens -----------------------------------------------------------------------------------


@pytest.fixture
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, "otpylib_telemetry")


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


# --- cancellation -----------------------------------------------------------------------------------------


async def start_and_cancel(work):
    task = asyncio.create_task(work)
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    return task


@pytest.mark.parametrize(
    "emitting",
    [
        lambda: emit("a"),
        lambda: emit_counter("a"),
        lambda: emit_timer("a", 1),
        lambda: emit_gauge("a", 1),
    ],
)
async def test_the_cancellation_of_the_caller_passes_and_is_no_failure(emitting):
    async def slow(*_event):
        await asyncio.sleep(60)

    await attach("slow", "*", slow)
    after = []

    async def caller():
        await emitting()
        after.append("went on")

    task = await start_and_cancel(caller())
    assert task.cancelled()
    assert after == []
    assert list_handlers()[0].failures == 0


async def test_a_time_limit_around_emit_works():
    async def slow(*_event):
        await asyncio.sleep(60)

    await attach("slow", "*", slow)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await emit("a")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(emit("a"), 0.01)
    assert list_handlers()[0].failures == 0


async def test_a_time_limit_inside_a_handler_is_its_own_failure(quiet):
    async def impatient(*_event):
        async with asyncio.timeout(0.01):
            await asyncio.sleep(60)

    await attach("h", "*", impatient)
    await emit("a")
    assert list_handlers()[0].failures == 1


async def test_a_cancelled_future_in_a_handler_is_its_own_failure(quiet):
    async def leaking(*_event):
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    await attach("h", "a", leaking)
    await emit("a")
    assert list_handlers()[0].failures == 1


async def test_execute_in_the_clean_up_of_a_cancelled_task_does_not_raise(quiet):
    await attach("h", "a", Recorder(asyncio.CancelledError()))
    after = []

    async def caller():
        try:
            await asyncio.sleep(60)
        finally:
            execute("a")
            after.append("cleaned up")

    task = await start_and_cancel(caller())
    assert task.cancelled()
    assert after == ["cleaned up"]
    assert list_handlers()[0].failures == 1


async def test_closing_the_coroutine_of_the_caller_passes():
    async def slow(*_event):
        await asyncio.sleep(60)

    await attach("slow", "*", slow)
    after = []

    async def caller():
        await emit("a")
        after.append("went on")

    coroutine = caller()
    coroutine.send(None)
    coroutine.close()
    assert after == []
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    assert list_handlers()[0].failures == 0


async def test_handlers_behind_one_in_which_the_caller_was_cancelled_are_left_to_the_manager():
    async def slow(*_event):
        await asyncio.sleep(60)

    await attach("slow", "*", slow)
    await attach("behind", "*", AsyncRecorder())
    await start_and_cancel(emit("a"))
    behind = table.current.table.handlers["behind"]
    assert [call[0] for call in behind.backlog] == ["a"]


# --- handlers that turn out to be async -------------------------------------------------------------------


async def test_a_plain_callback_that_gives_a_coroutine_has_it_awaited_and_is_called_once():
    seen = AsyncRecorder()
    calls = []

    def around(*event):
        calls.append(event[0])
        return seen(*event)

    await attach("h", "*", around)
    await emit("a")
    await emit("b")
    assert calls == seen.names == ["a", "b"]


def test_its_coroutine_is_not_left_unawaited_when_there_is_no_loop(recwarn):
    seen = AsyncRecorder()

    def around(*event):
        return seen(*event)

    table.add("h", ["*"], around)
    for _ in range(3):
        execute("a")
    table.remove("h")
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


async def test_a_callback_that_is_async_only_now_and_then_works_throughout():
    seen = AsyncRecorder()
    plain = []
    await attach("h", "*", lambda name, *rest: seen(name, *rest) if name == "async" else plain.append(name))
    for name in ("plain", "async", "plain", "async"):
        await emit(name)
    assert seen.names == ["async", "async"]
    assert plain == ["plain", "plain"]
    assert list_handlers()[0].failures == 0


async def test_what_else_a_plain_callback_returns_is_ignored():
    odd = absurd.Malicious()
    await attach("h", "*", lambda *_event: odd)
    await every_way_to_emit("a")
    assert list_handlers()[0].failures == 0


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


# --- names and look-ups -----------------------------------------------------------------------------------


@pytest.fixture
def matches(monkeypatch):
    """Every match of a name against a handler's patterns: ``(pattern, name)``."""
    seen = []
    genuine = table._matcher

    def counting(patterns):
        matcher = genuine(patterns)
        return lambda name: (seen.append((patterns[0], name)), matcher(name))[1]

    monkeypatch.setattr(table, "_matcher", counting)
    return seen


async def test_each_name_is_matched_once_against_each_handler(matches):
    await attach("a", "shop.*", Recorder())
    await attach("b", "*", Recorder())
    for _ in range(100):
        await every_way_to_emit("shop.sale")
        await every_way_to_emit("bank.transfer")
    assert sorted(matches) == sorted(
        (pattern, name) for pattern in ("shop.*", "*") for name in ("shop.sale", "bank.transfer")
    )


async def test_a_name_of_another_class_is_matched_once_as_well(matches):
    class Name(enum.StrEnum):
        SALE = "shop.sale"

    await attach("a", "shop.*", Recorder())
    for _ in range(100):
        execute(Name.SALE)
    assert matches == [("shop.*", "shop.sale")]


async def test_names_without_end_do_not_fill_the_memory_and_do_not_keep_others_from_being_remembered(matches):
    await attach("a", "shop.*", Recorder())
    for number in range(table.MAX_NAMES * 2 + 5):
        execute(f"request.{number}")
    assert len(table.current.table.resolved) <= table.MAX_NAMES
    matches.clear()
    for _ in range(100):
        execute("shop.sale")
    assert matches == [("shop.*", "shop.sale")]


# --- what it costs to have it -----------------------------------------------------------------------------


def test_importing_the_bus_imports_no_backend():
    code = (
        "import sys, otpylib_telemetry\n"
        "print(sorted({'opentelemetry', 'prometheus_client', 'aiohttp', 'grpc', 'pytest', 'requests'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


async def test_detached_handlers_hear_nothing_more():
    seen = Recorder()
    await attach("h", "*", seen)
    execute("a")
    await detach("h")
    execute("b")
    assert seen.names == ["a"]
