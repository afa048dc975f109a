"""The poller: real pages and real requests, functions that fail and hang, other settings while it runs."""

import asyncio
import functools
import gc
import itertools
import os
import resource
import sys
import threading
import time
import urllib.request
import warnings

import prometheus_client
import pytest
from otpylib import gen_server, process, supervisor
from otpylib.gen_server.data import NoReply
from otpylib.module import GEN_SERVER, OTPModule
from otpylib_config import Config
from prometheus_client.parser import text_string_to_metric_families

import otpylib_telemetry_prometheus
from otpylib_telemetry import TelemetryPoller, TomlSource, attach, emit_gauge, execute, otp, poll, unpoll
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.poller import child_spec, polls
from otpylib_telemetry.poller.measurements import process as measured_process
from otpylib_telemetry.poller.measurements.event_loop import LoopLag
from otpylib_telemetry.poller.polling import Polling
from otpylib_telemetry.poller.polls import MOST_NUMBERS, Measured, Poll
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.log_records.events import LogMaker
from otpylib_telemetry_prometheus import RegistryCollector, start_prometheus_exporter
from tests.supervision.test_supervision import tree
from tests.support.crash import crash
from tests.support.ledger import stats_of
from tests.support.runtime import in_process
from tests.support.waiting import eventually

PROM, OTEL, POLLER = "prometheus_exporter", "otel_exporter", "telemetry_poller"

QUICK = {"interval": 0.05, "timeout": 0.3}

PROCESS = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_start_time_seconds",
    "process_threads",
}
GC = {
    "python_gc_objects_collected_total",
    "python_gc_objects_uncollectable_total",
    "python_gc_collections_total",
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("otpylib_telemetry.exporter.process.TICK", 0.05)


async def text(name=PROM):
    stats = await stats_of(name)
    return await asyncio.to_thread(lambda: urllib.request.urlopen(stats["url"]).read().decode())


async def page(name=PROM):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(await text(name))
        for sample in family.samples
    }


async def value(*key):
    return (await page()).get(key)


async def start_page(**settings):
    await start_prometheus_exporter({"port": 0, "self_metrics": False, **settings})
    await eventually(lambda: registry.status_of(PROM)[0] == "running")


async def start_poller(**settings):
    spec = supervisor.child_spec(
        id=POLLER, module=TelemetryPoller, args={**QUICK, **settings} or None, name=POLLER
    )
    await in_process(tree(spec).start_link)


async def trouble(name):
    stats = await otp.safe_call(POLLER, ("get_stats",), timeout=30)
    return stats["polls"][name]["trouble"]


# What is built in.


async def test_a_tree_of_two_children_has_the_process_the_collector_the_loop_and_the_actors(runtime):
    specs = [
        supervisor.child_spec(id=POLLER, module=TelemetryPoller, args=None, name=POLLER),
        otpylib_telemetry_prometheus.child_spec({"port": 0, "self_metrics": False}),
    ]
    await in_process(tree(*specs).start_link)
    await eventually(lambda: registry.status_of(PROM)[0] == "running")

    async def is_complete():
        names = {name for name, *_ in await page()}
        return {*PROCESS, *GC, "event_loop_lag_seconds", "otpylib_timers", "otpylib_processes"} <= names

    await eventually(is_complete)
    found = await page()
    assert found["process_resident_memory_bytes",] > 10_000_000
    assert found["process_start_time_seconds",] <= time.time()
    assert 0 < found["process_cpu_seconds_total",] <= sum(os.times()[:2]) + 0.1
    assert found["process_max_fds",] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert {key for key in found if key[0] == "python_gc_collections_total"} == {
        ("python_gc_collections_total", ("generation", str(n))) for n in range(3)
    }
    lines = (await text()).splitlines()
    assert "# TYPE process_cpu_seconds_total counter" in lines
    assert "# TYPE process_resident_memory_bytes gauge" in lines
    assert not any("telemetry_poller" in line for line in lines)


async def test_over_otlp_the_names_are_those_of_the_conventions(runtime, http_receiver):
    await start_poller()
    await start_otel_exporter(
        {"endpoint": http_receiver.endpoint, "protocol": "http/protobuf", "metrics_interval": 0.1}
    )
    await eventually(lambda: {point.name for point in http_receiver.metrics} >= {"cpython.gc.collections"})
    found = {(each.name, *sorted(each.attributes.items())): each for each in http_receiver.metrics}
    assert {(name, each.unit, each.form) for (name, *_), each in found.items()} >= {
        ("process.cpu.time", "s", "sum"),
        ("process.memory.usage", "By", "sum"),
        ("process.memory.virtual", "By", "sum"),
        ("process.thread.count", "{thread}", "sum"),
        ("process.unix.file_descriptor.count", "{file_descriptor}", "sum"),
        ("process.uptime", "s", "gauge"),
        ("cpython.gc.collections", "{collection}", "sum"),
        ("cpython.gc.collected_objects", "{object}", "sum"),
        ("cpython.gc.uncollectable_objects", "{object}", "sum"),
        ("event_loop.lag", "s", "gauge"),
    }
    assert ("process.cpu.time", ("cpu.mode", "user")) in found
    assert ("cpython.gc.collections", ("cpython.gc.generation", 2)) in found
    await otp.safe_call(OTEL, ("flush", 20), timeout=30)
    assert http_receiver.logs == []


async def test_the_numbers_are_those_of_prometheus_client(runtime):
    await start_page()
    await start_poller()
    await eventually(lambda: value("process_open_fds"))
    gc.collect()
    registry_ = prometheus_client.CollectorRegistry()
    prometheus_client.ProcessCollector(registry=registry_)
    prometheus_client.GCCollector(registry=registry_)
    theirs = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in registry_.collect()
        for sample in family.samples
    }

    async def agree():
        ours = await page()
        assert theirs.keys() <= ours.keys()
        for key, number in theirs.items():
            if key[0] in {"process_start_time_seconds", "process_max_fds", "process_virtual_memory_bytes"}:
                assert ours[key] == pytest.approx(number, rel=0.3), key
            if key[0].startswith("python_gc_coll"):
                assert ours[key] >= number, key
        return True

    await eventually(agree)


@pytest.mark.parametrize("way", ["psutil", "proc", "python"])
def test_whoever_is_asked_tells_the_same(way, monkeypatch):
    psutil = pytest.importorskip("psutil") if way == "psutil" else None
    monkeypatch.setattr(measured_process, "_psutil", lambda: psutil)
    if way == "python":
        monkeypatch.setattr(sys, "platform", "darwin")
    elif not sys.platform.startswith("linux"):
        pytest.skip("there is no /proc")
    facts = measured_process.facts()
    assert facts.user + facts.system == pytest.approx(sum(os.times()[:2]), abs=0.5)
    assert facts.threads >= 1
    if way != "python":
        assert facts.started == pytest.approx(measured_process._from_proc().started, abs=2)
        assert facts.resident == pytest.approx(measured_process._from_proc().resident, rel=0.2)
    told = measured_process.told(facts, time.time())
    assert (
        len(told.observations)
        == len({each.metric.name + each.metric.page_name for each in told.observations}) + 1
    )


async def test_where_prometheus_clients_collectors_are_merged_in_nothing_is_there_twice(runtime, caplog):
    await start_page(merge_registries=["prometheus_client:REGISTRY"])
    await start_poller()
    await eventually(lambda: value("process_open_fds"))
    found = await text()
    assert "leaves out the metric process_open_fds" not in caplog.text
    assert found.count("# TYPE process_open_fds ") == 1
    assert found.count("# TYPE python_gc_collections_total ") == 1
    assert "python_info" in found


async def test_in_prometheus_clients_own_registry_nothing_is_there_twice_either(runtime):
    collector = RegistryCollector()
    poll("shop.queue", lambda: 3, interval=0.02)
    await start_page()
    await eventually(lambda: value("process_open_fds"))
    await eventually(lambda: value("shop_queue"))
    prometheus_client.REGISTRY.register(collector)
    try:
        found = prometheus_client.generate_latest().decode()
    finally:
        prometheus_client.REGISTRY.unregister(collector)
    assert found.count("# TYPE process_open_fds ") == 1
    assert found.count("# TYPE python_gc_collections_total ") == 1
    assert "shop_queue 3.0" in found


async def test_a_loop_that_stood_was_late(runtime):
    await start_page()
    await start_poller(interval=3600)
    await eventually(lambda: value("event_loop_lag_seconds"))
    time.sleep(0.5)
    await asyncio.sleep(0.1)
    for _ in range(3):
        assert 0.4 < await value("event_loop_lag_seconds") < 10


class Till(metaclass=OTPModule, behavior=GEN_SERVER, version="1.0.0"):
    async def init(self, _):
        return asyncio.Event()

    async def handle_call(self, _message, _from, state):
        return (NoReply(), state)

    async def handle_cast(self, _message, state):
        await state.wait()
        return (NoReply(), state)

    async def handle_info(self, _message, state):
        return (NoReply(), state)

    async def terminate(self, _reason, _state):
        """Nothing."""


async def test_mailboxes_are_told_by_server_and_processes_by_module_and_ours_are_not(runtime):
    await start_page()
    await start_poller()

    async def start():
        await gen_server.start(Till, None, "till")
        await process.send_after(3600, "till", "late")

    await in_process(start)
    for _ in range(6):
        await gen_server.cast("till", "sale")
    await eventually(lambda: value("otpylib_mailbox_size", ("server", "till")))
    found = await page()
    assert found["otpylib_mailbox_size", ("server", "till")] == 5
    assert found["otpylib_processes", ("module", "Till")] == 1
    assert found["otpylib_timers",] >= 1
    told = {
        dict(labels)[name] for key, *labels in found for name in ("server", "module") if name in dict(labels)
    }
    assert not any("telemetry" in each.lower() or "exporter" in each.lower() for each in told)


# What the application polls.


async def test_a_number_measurements_and_pairs_with_metadata_are_events_and_gauges(runtime, http_receiver):
    events = []
    await attach("events", "shop.*", lambda *event: events.append(event))

    async def stock():
        await asyncio.sleep(0)
        return {"pens": 3, "price": 1.5}

    poll("shop.queue", lambda: 7)
    poll("shop.stock", stock, metadata={"country": "de"}, unit="", description="What there is.")
    poll(
        "shop.till", lambda: [(1, {"till": "a"}), ({"value": 2, "age": 9}, {"till": "b", "trace": object()})]
    )
    await start_page()
    await start_poller()
    await eventually(lambda: value("shop_till_age", ("till", "b")))
    found = {key: number for key, number in (await page()).items() if key[0].startswith("shop")}
    assert found == {
        ("shop_queue",): 7,
        ("shop_stock_pens", ("country", "de")): 3,
        ("shop_stock_price", ("country", "de")): 1.5,
        ("shop_till", ("till", "a")): 1,
        ("shop_till", ("till", "b")): 2,
        ("shop_till_age", ("till", "b")): 9,
    }
    assert "# HELP shop_stock_pens What there is." in await text()
    assert ("shop.queue", {"value": 7}, {}) in events
    assert ("shop.stock", {"pens": 3, "price": 1.5}, {"country": "de"}) in events
    assert ("shop.till", {"value": 1}, {"till": "a"}) in events
    assert unpoll("shop.queue")
    assert not unpoll("shop.queue")
    await eventually(lambda: _is_gone("shop_queue"))


async def _is_gone(*key):
    return key not in await page()


async def test_poll_is_enough_where_an_exporter_runs_whichever_came_first(runtime):
    await start_page()
    poll("shop.queue", lambda: 7, interval=0.02)
    await eventually(lambda: value("shop_queue"))
    await eventually(lambda: value("process_threads"))
    poll("shop.queue", lambda: 8, interval=0.02)

    async def is_the_later_one():
        return await value("shop_queue") == 8

    await eventually(is_the_later_one)


async def test_one_that_emits_by_itself_and_definitions_over_events_of_polls_work(runtime):
    poll("shop.depth", lambda: {"depth": 3})
    poll("shop.own", lambda: execute("shop.level", {"value": 4}))
    await start_page(metrics=[{"type": "last_value", "name": "shop.depth.depth"}], automatic_metrics=True)
    await start_poller()
    await eventually(lambda: value("shop_level"))
    await eventually(lambda: value("shop_depth_depth"))


async def test_one_that_fails_leaves_no_gauge_is_told_once_and_comes_back(runtime, caplog):
    failures, recoveries = [], []
    await attach("failures", "telemetry.poller.failure", lambda *event: failures.append(event))
    await attach("recoveries", "telemetry.poller.recovered", lambda *event: recoveries.append(event))
    works = True

    def queue():
        if not works:
            raise KeyError("no queue")
        return 7

    poll("shop.queue", queue)
    poll("shop.other", lambda: 1)
    await start_page()
    await start_poller()
    await eventually(lambda: value("shop_queue"))
    works = False
    await eventually(lambda: _is_gone("shop_queue"))
    assert await value("shop_other") == 1
    await eventually(lambda: trouble("shop.queue"))
    await asyncio.sleep(0.3)
    assert caplog.text.count("The poll shop.queue failed: KeyError: 'no queue'") == 1
    [(_, measurements, metadata)] = failures
    assert (measurements["failures"], metadata["poll"]) == (1, "shop.queue")
    record = LogMaker().make(("telemetry.poller.failure", measurements, metadata, 1), 0)
    assert (record.severity, record.severity_text) == (13, "WARNING")
    assert record.body.startswith("The poll shop.queue failed: KeyError")
    assert record.attributes == {"poll": "shop.queue", "reason": "KeyError: 'no queue'", "failures": 1}
    works = True
    await eventually(lambda: value("shop_queue"))
    await eventually(lambda: len(recoveries) == 1)
    assert len(failures) == 1


async def test_the_pauses_of_one_that_fails_grow(runtime):
    calls = []

    def queue():
        calls.append(time.monotonic())
        raise KeyError("no queue")

    poll("shop.queue", queue, interval=0.02)
    await start_poller()
    await eventually(lambda: len(calls) >= 6)
    # Without back-off 0.1 s would do for five of them.
    assert calls[5] - calls[0] > 0.3


@pytest.mark.parametrize(
    "wrong",
    ["text", b"3", object(), {"depth": None}, {"depth": "3"}, [3], [(3,)], [(3, 4)], float("nan"), {1}],
)
async def test_what_is_no_number_is_a_failure_that_says_so(runtime, wrong):
    poll("shop.queue", lambda: wrong)
    await start_page()
    await start_poller()
    assert "what it returns" in await eventually(lambda: trouble("shop.queue"))
    assert await value("shop_queue") is None


async def test_one_that_hangs_hurts_nobody(runtime, caplog):
    release, calls = threading.Event(), []

    def blocks():
        calls.append("plain")
        release.wait(60)
        return 1

    async def hangs():
        calls.append("async")
        await asyncio.sleep(3600)

    async def stubborn():
        calls.append("stubborn")
        while not release.is_set():
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                continue
        return 1

    poll("shop.blocks", blocks, interval=0.02)
    poll("shop.hangs", hangs, interval=0.02)
    poll("shop.stubborn", stubborn, interval=0.02)
    poll("shop.works", lambda: 1, interval=0.02)
    await start_page()
    await start_poller()
    try:
        for name in ("blocks", "hangs", "stubborn"):
            assert "has not come back" in await eventually(lambda name=name: trouble(f"shop.{name}"))
        await eventually(lambda: calls.count("async") > 2)
        # One that goes on is not called again.
        assert (calls.count("plain"), calls.count("stubborn")) == (1, 1)
        found = {name for name, *_ in await page() if name.startswith("shop")}
        assert found == {"shop_works"}
        assert caplog.text.count("The poll shop.blocks failed") == 1
    finally:
        release.set()
    await eventually(lambda: value("shop_blocks"))
    await eventually(lambda: value("shop_stubborn"))


@pytest.mark.parametrize("end", ["timeout", "cancelled", "closed"])
def test_a_coroutine_that_nobody_takes_is_closed_without_a_word(end):
    """Python says of any other that it was never awaited."""
    come = threading.Event()

    def late():
        # A thread still works when its result is no longer wanted.
        come.wait(60)
        return asyncio.sleep(0, 8)

    async def run(polled):
        polling = Polling(asyncio.get_running_loop())
        polling.timeout = 0.01 if end == "timeout" else 60
        calls = [asyncio.create_task(polling._call(each)) for each in polled]
        await asyncio.sleep(0)
        if end == "cancelled":
            # As the end of a loop does, before the first step of what was begun.
            for each in asyncio.all_tasks() - {asyncio.current_task()}:
                each.cancel()
        elif end == "timeout":
            await asyncio.gather(*calls, return_exceptions=True)
        if end != "closed":
            come.set()
            await asyncio.gather(*calls, return_exceptions=True)
            await asyncio.sleep(0)

    functions = [late] if end == "timeout" else [late, functools.partial(asyncio.sleep, 0, 6)]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        asyncio.run(run([Poll("shop.late", each) for each in functions]))
        come.set()
        for thread in threading.enumerate():
            if thread.name == "otpylib-telemetry":
                thread.join(60)
        gc.collect()
    assert [str(each.message) for each in said] == []


class PanicError(BaseException):
    """As the exceptions of other languages, and of gevent, that no ``except Exception`` is to catch."""


RAISED = [
    ValueError("odd"),
    SystemExit(3),
    asyncio.CancelledError(),
    GeneratorExit(),
    StopIteration(1),
    PanicError("odd"),
    BaseExceptionGroup("odd", [PanicError("odd")]),
]


class Unreadable(dict):
    """A result that raises when it is read, on the event loop."""

    def __init__(self, error):
        self.error = error

    def items(self):
        raise self.error


def _plain(error):
    def function():
        raise error

    return function


def _async(error):
    async def function():
        await asyncio.sleep(0)
        raise error

    return function


def _result(error):
    return lambda: Unreadable(error)


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
async def test_whatever_a_function_raises_is_a_failure_that_is_told_and_tried_again(runtime, caplog, error):
    broken = set()
    calls = []

    def now_and_then(name, failing):
        def function():
            calls.append(name)
            return failing() if name in broken else 7

        return function

    async def now_and_then_async():
        calls.append("async")
        return await _async(error)() if "async" in broken else 7

    names = ["plain", "async", "returned", "result"]
    for name, make in zip(names, (_plain, None, _async, _result), strict=True):
        poll(f"shop.{name}", now_and_then_async if make is None else now_and_then(name, make(error)))
    await start_page()
    await start_poller(timeout=60)
    for name in names:
        await eventually(lambda name=name: value(f"shop_{name}"))
    broken.update(names)
    for name in names:
        assert await eventually(lambda name=name: trouble(f"shop.{name}"))
        assert await value(f"shop_{name}") is None
        assert caplog.text.count(f"The poll shop.{name} failed") == 1
    before = len(calls)
    await eventually(lambda: all(name in calls[before:] for name in names))
    broken.clear()
    for name in names:
        await eventually(lambda name=name: value(f"shop_{name}"))
        assert await trouble(f"shop.{name}") is None


async def test_an_interrupt_ends_the_loop_once_and_the_poll_never():
    """Whoever runs the loop on after an interrupt has everything as before."""

    async def interrupted():
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return 7

    def run():
        loop = asyncio.new_event_loop()
        polling = Polling(loop)
        one = Poll("shop.interrupted", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(_until(lambda: one.calls, polling, one))
        loop.run_until_complete(_until(lambda: one.calls, polling, one))
        loop.run_until_complete(_until(lambda: not asyncio.all_tasks() - {asyncio.current_task()}, polling))
        loop.close()
        return one

    calls = []
    one = await asyncio.to_thread(run)
    assert (one.failures, one.calls >= 1) == (1, True)


async def _until(condition, polling, *polls):
    polling.use(polls, 0.01, 5)
    await eventually(condition)


async def test_functions_of_any_kind_are_called(runtime):
    class Callable:
        async def __call__(self):
            return 5

    poll("shop.partial", functools.partial(asyncio.sleep, 0, 6))
    poll("shop.called", Callable())
    poll("shop.lambda", lambda: asyncio.sleep(0, 8))
    await start_page()
    await start_poller()
    await eventually(lambda: value("shop_lambda"))
    await eventually(lambda: value("shop_partial"))
    await eventually(lambda: value("shop_called"))


async def test_the_first_delay_and_an_interval_of_its_own_count(runtime):
    calls = {"late": 0, "often": 0, "once": 0}

    def count(name):
        calls[name] += 1
        return 1

    poll("shop.late", functools.partial(count, "late"), first_delay=3600)
    poll("shop.often", functools.partial(count, "often"), interval=0.02)
    poll("shop.once", functools.partial(count, "once"), interval=3600)
    await start_poller()
    await eventually(lambda: calls["often"] > 20)
    assert (calls["late"], calls["once"]) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((3, len), TypeError, "name: expected the name of an event, got int"),
        ((" ", len), ValueError, "name: expected"),
        (("a", 3), TypeError, "function: expected a function without arguments, got int"),
        (("a", len, "3"), TypeError, "interval: expected a number of seconds, got str"),
        (("a", len, True), TypeError, "interval: expected"),
        (("a", len, 0), ValueError, "interval: expected a number of seconds from 0.01, got 0"),
        (("a", len, float("inf")), ValueError, "interval: expected"),
        (
            ("otpylib.mailbox.size", len),
            ValueError,
            "name: 'otpylib.mailbox.size' is among the names of this",
        ),
        (("otpylib", len), ValueError, "this project's own metrics"),
    ],
)
def test_what_cannot_be_polled_is_refused_where_it_is_said(arguments, error, words):
    with pytest.raises(error, match=words):
        poll(*arguments)


@pytest.mark.parametrize("what", ["unit", "description", "metadata", "first_delay"])
@pytest.mark.parametrize("wrong", [7, b"s", ["s"], object()])
def test_what_goes_with_the_numbers_is_refused_where_it_is_said(what, wrong):
    if (what, wrong) == ("first_delay", 7):
        return
    with pytest.raises(TypeError, match=f"^{what}: expected a.*, got {type(wrong).__name__}$"):
        poll("shop.queue", len, **{what: wrong})
    with pytest.raises(TypeError, match=r"^name: expected"):
        unpoll(wrong)


def steps_of(result):
    """How many numbers each step takes, and what was found."""
    found = Measured([], [], [])
    sizes = [len(found.observations) for _ in Poll("shop.queue", len).read(result, found)]
    return max(after - before for before, after in itertools.pairwise([0, *sizes])), found


@pytest.mark.parametrize(
    ("result", "beyond"),
    [
        ([(1, {"n": n}) for n in range(MOST_NUMBERS + 5)], 5),
        ([({"a": 1, "b": 2, "c": 3}, {"n": n}) for n in range(MOST_NUMBERS)], None),
        ({f"key_{n}": n for n in range(MOST_NUMBERS + 7)}, 7),
        ([({f"key_{n}": n for n in range(MOST_NUMBERS + 7)}, {})], 7),
        ([({}, {})] * (MOST_NUMBERS + 3), 3),
        ([(1, {})] * MOST_NUMBERS, 0),
    ],
)
def test_no_more_is_read_than_is_said_one_number_after_the_other(result, beyond):
    largest, found = steps_of(result)
    assert largest <= 1
    assert len(found.observations) <= MOST_NUMBERS
    assert len(found.events) <= MOST_NUMBERS
    assert sum(found.beyond) == beyond or (beyond is None and sum(found.beyond) > 0)


async def test_one_that_returns_very_much_leaves_the_loop_its_turns(runtime, caplog):
    numbers, turns = [(n, {"n": n}) for n in range(MOST_NUMBERS + 50)], []
    emitted = []

    async def take_turns():
        while True:
            turns.append(len(emitted))
            await asyncio.sleep(0)

    poll("shop.queue", lambda: numbers, interval=3600)
    await attach("events", "shop.queue", lambda *event: emitted.append(event))
    await start_poller()
    other = asyncio.create_task(take_turns())
    await eventually(lambda: len(emitted) == MOST_NUMBERS)
    other.cancel()
    assert max(after - before for before, after in itertools.pairwise(turns)) <= 100
    stats = (await otp.safe_call(POLLER, ("get_stats",), timeout=30))["polls"]["shop.queue"]
    assert (stats["calls"], stats["left_out"]) == (1, 50)
    assert caplog.text.count("The poll shop.queue returns more than 10000 numbers") == 1


async def test_an_event_of_the_same_name_that_is_not_polled_any_more_is_a_metric_again(runtime):
    poll("shop.queue", lambda: 7, interval=0.02)
    await start_page()
    await eventually(lambda: value("shop_queue"))
    unpoll("shop.queue")
    await eventually(lambda: _is_gone("shop_queue"))
    await emit_gauge("shop.queue", 3)
    assert await value("shop_queue") == 3


# Configuration.


async def test_the_section_takes_effect_at_the_start_and_while_it_runs(
    runtime, config_manager, tmp_path, caplog
):
    path = tmp_path / "config.toml"
    path.write_text('[telemetry.poller]\ninterval = 0.05\nmeasurements = ["gc"]\n')
    await config_manager(TomlSource(path))
    await start_page()
    await eventually(lambda: value("python_gc_collections_total", ("generation", "0")))
    assert {name for name, *_ in await page()} == GC
    path.write_text('[telemetry.poller]\ninterval = 0.05\nmeasurements = ["process", "event_loop"]\n')
    await eventually(lambda: value("process_threads"))
    await eventually(lambda: value("event_loop_lag_seconds"))
    assert GC.isdisjoint({name for name, *_ in await page()})
    await in_process(Config.put, "telemetry.poller.enabled", False)
    await eventually(_is_empty)
    await in_process(Config.put, "telemetry.poller.enabled", True)
    await eventually(lambda: value("process_threads"))
    await in_process(Config.put, "telemetry.poller.measurements", ["proces"])
    await eventually(lambda: "telemetry.poller.measurements" in caplog.text)
    assert "expected any of process, gc, event_loop, otpylib, but 'proces' is none of them" in caplog.text
    assert await value("process_threads")


async def _is_empty():
    return not await page()


async def test_a_poller_that_crashes_leaves_nothing_behind_and_comes_back(runtime, monkeypatch):
    monkeypatch.setenv("TELEMETRY_POLLER_INTERVAL", "0.05")
    stopped, stop = [], LoopLag.stop
    await start_page()
    await eventually(lambda: value("process_threads"))
    pid = otp.whereis(POLLER)
    watchers, before = [*polls._watchers], _polling_tasks()
    monkeypatch.setattr(LoopLag, "stop", lambda lag: (stopped.append(lag), stop(lag)))
    await crash(POLLER)
    await eventually(lambda: otp.whereis(POLLER) not in {None, pid})
    await eventually(lambda: value("process_threads"))
    # Of what the one before had, there is nothing; and of everything there is one.
    assert len(stopped) == 1
    await eventually(lambda: all(task.done() for task in before))
    assert sorted(task.get_name() for task in _polling_tasks()) == sorted(task.get_name() for task in before)
    assert len(watchers) == len(polls._watchers) == 1
    assert watchers != polls._watchers
    names = [line.split(" ")[2] for line in (await text()).splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    series = [line.rpartition(" ")[0] for line in (await text()).splitlines() if line[:1] != "#"]
    assert len(series) == len(set(series))


def _polling_tasks():
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("poll ")]


async def test_its_child_spec_supervises_it_and_refuses_what_is_wrong(runtime):
    with pytest.raises(ValueError, match=r"telemetry\.poller\.interval"):
        child_spec({"interval": 0})
    await start_page()
    await in_process(tree(child_spec({"interval": 0.05})).start_link)
    await eventually(lambda: value("process_threads"))
    pid = otp.whereis(POLLER)
    await crash(POLLER)
    await eventually(lambda: otp.whereis(POLLER) not in {None, pid})


async def test_another_interval_counts_at_once(runtime):
    calls = []
    poll("shop.queue", lambda: calls.append(1) or 1)
    await start_poller(interval=3600)
    await eventually(lambda: len(calls) == 1)
    await gen_server.cast(POLLER, ("config_changed", "telemetry.poller.interval", 3600, 0.02))
    await eventually(lambda: len(calls) > 3)
