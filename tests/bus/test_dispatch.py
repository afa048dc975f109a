"""Emitting: who is called, with what, and in which thread and task."""

import asyncio
import contextvars
import enum
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
)
from otpylib_telemetry.bus import table
from tests.bus.recorders import AsyncRecorder, Recorder, every_way_to_emit
from tests.support import absurd

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


async def test_detached_handlers_hear_nothing_more():
    seen = Recorder()
    await attach("h", "*", seen)
    execute("a")
    await detach("h")
    execute("b")
    assert seen.names == ["a"]


# --- what it costs to have it -----------------------------------------------------------------------------


def test_importing_the_bus_imports_no_backend_and_nothing_of_exporters():
    dear = {
        *("opentelemetry", "prometheus_client", "aiohttp", "grpc", "pytest", "requests"),
        *("pydantic", "otpylib_config", "importlib.metadata", "email.message", "html", "urllib.request"),
        *(
            f"otpylib_telemetry.{each}"
            for each in ("admin", "config", "exporter", "metrics", "poller", "services")
        ),
    }
    code = f"import sys, otpylib_telemetry\nprint(sorted({dear!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
