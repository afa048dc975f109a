"""Assertions over what was emitted, and captures that tell neighbours apart."""

import asyncio
import math
import re
import threading
from types import MappingProxyType

import pytest
from otpylib import gen_server, process

from otpylib_telemetry import Event, attach, detach, emit, execute, list_handlers, span
from otpylib_telemetry.exporter.registry import forget
from otpylib_telemetry_mock import (
    Capture,
    MockExporter,
    RecordedEvent,
    assert_emitted,
    assert_spans_balanced,
    capture,
    refute_emitted,
    start_mock_exporter,
    wait_for,
)
from otpylib_telemetry_mock import text as text_module
from tests.support.runtime import in_process


def event(name, measurements=None, metadata=None):
    return {"event_name": name, "measurements": measurements or {}, "metadata": metadata or {}}


SHOP = [
    event("shop.checkout.start", {}, {"order": 7, "user": "ada"}),
    event("shop.checkout.success", {"duration_ms": 12.5}, {"order": 7, "user": "ada"}),
    event("shop.checkout.start", {}, {"order": 8, "user": "bob"}),
    event("db.query", {"count": 3}, {"table": "orders"}),
]


def failure_of(function, *args, **kwargs):
    with pytest.raises(AssertionError) as raised:
        function(*args, **kwargs)
    return str(raised.value)


class Unprintable:
    def __repr__(self):
        raise ValueError("no text")


class Incomparable:
    def __eq__(self, other):
        raise RuntimeError("no comparison")

    __hash__ = object.__hash__


def names(captured):
    return [one.event_name for one in captured.events]


# --- assert_emitted ---------------------------------------------------------------------------------------


def test_it_returns_the_events_that_match_oldest_first():
    found = assert_emitted(SHOP, "shop.checkout.start")
    assert [one.metadata["order"] for one in found] == [7, 8]


def test_a_pattern_is_a_glob_over_the_whole_name_and_case_counts():
    assert len(assert_emitted(SHOP, "shop.*")) == 3
    with pytest.raises(AssertionError):
        assert_emitted(SHOP, "checkout")
    with pytest.raises(AssertionError):
        assert_emitted(SHOP, "SHOP.*")


def test_expected_entries_may_be_among_others():
    [found] = assert_emitted(SHOP, "shop.*", {"duration_ms": 12.5}, {"order": 7})
    assert found.event_name == "shop.checkout.success"


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (5, int),
        ("order 17 failed", re.compile(r"\d+")),
        (17.2, pytest.approx(17, abs=1)),
        (17.2, lambda value: value > 17),
        (math.nan, float("nan")),
        (len, len),
        (str, str),
        (None, None),
        ([1, 2], [1, 2]),
        ("text", str.isalpha),
    ],
)
def test_an_expected_value_may_be_many_things(actual, expected):
    assert_emitted([event("x", {}, {"value": actual})], "x", metadata={"value": expected})


@pytest.mark.parametrize(
    ("actual", "expected", "told"),
    [
        (5, 6, "metadata['value'] is 5, expected 6"),
        (5, str, "metadata['value'] is 5, expected a value of type str"),
        (5, re.compile("a+"), "metadata['value'] is 5, expected a text that matches 'a+'"),
        ("bb", re.compile("a+"), "metadata['value'] is 'bb', expected a text that matches 'a+'"),
        ("5", str.isalpha, "metadata['value'] is '5', expected what"),
        (Incomparable(), 5, "to compare it with 5 raised RuntimeError"),
        (Unprintable(), 5, "metadata['value'] is <Unprintable instance at"),
        pytest.param(10**5000, 5, "is <int of 16610 bits>, expected 5", id="a very long int"),
        (5, lambda value: value["a"], "raised TypeError"),
    ],
)
def test_a_failure_says_what_differs(actual, expected, told):
    text = failure_of(assert_emitted, [event("x", {}, {"value": actual})], "x", metadata={"value": expected})
    assert told in text


def test_a_failure_names_a_missing_entry():
    text = failure_of(assert_emitted, SHOP, "db.query", {"duration_ms": 5})
    assert "measurements['duration_ms'] is missing, expected 5" in text


def test_a_failure_shows_the_nearest_event_first():
    text = failure_of(assert_emitted, SHOP, "shop.checkout.*", None, {"order": 8, "user": "ada", "tab": 1})
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0] == (
        "expected at least 1 event named 'shop.checkout.*' with metadata "
        "{'order': 8, 'tab': 1, 'user': 'ada'}, found none among 4 events"
    )
    assert lines[2:6] == [
        "nearest:",
        "shop.checkout.start  metadata={'order': 8, 'user': 'bob'}",
        "metadata['user'] is 'bob', expected 'ada'",
        "metadata['tab'] is missing, expected 1",
    ]


def test_a_misspelt_name_is_recognised():
    text = failure_of(assert_emitted, SHOP, "shop.chekout.success", None, {"order": 7})
    assert "its name is not 'shop.chekout.success'" in text
    assert "shop.checkout.success  measurements={'duration_ms': 12.5}" in text


def test_a_failure_lists_what_was_emitted_instead():
    text = failure_of(assert_emitted, SHOP, "mail.sent")
    assert text.endswith("emitted: shop.checkout.start (x2), shop.checkout.success, db.query")
    assert "nearest" not in text


def test_nothing_emitted_at_all_is_said():
    assert failure_of(assert_emitted, [], "x") == (
        "expected at least 1 event named 'x', found none: nothing was emitted"
    )


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"count": 1}, "exactly 1 event named"),
        ({"count": 0}, "no events named"),
        ({"count": 3}, "exactly 3 events named"),
        ({"at_least": 3}, "at least 3 events named"),
        ({"at_most": 1}, "exactly 1 event named"),
        ({"at_least": 0, "at_most": 1}, "at most 1 event named"),
        ({"at_least": 3, "at_most": 4}, "3 to 4 events named"),
    ],
)
def test_the_number_may_be_asked_for(asked, told):
    text = failure_of(assert_emitted, SHOP, "shop.checkout.start", **asked)
    assert f"expected {told} 'shop.checkout.start', found 2" in text


@pytest.mark.parametrize(
    "asked", [{"count": 2}, {"at_least": 2}, {"at_most": 2}, {"at_least": 1, "at_most": 3}, {}]
)
def test_the_right_number_passes(asked):
    assert len(assert_emitted(SHOP, "shop.checkout.start", **asked)) == 2


def test_none_at_all_is_not_at_most_one():
    with pytest.raises(AssertionError):
        assert_emitted(SHOP, "mail.sent", at_most=1)
    assert assert_emitted(SHOP, "mail.sent", at_least=0, at_most=1) == []


class Ambiguous:
    """Like an array: compared with anything, it gives no truth."""

    def __eq__(self, _other):
        raise ValueError("ambiguous")

    __hash__ = None


def test_a_function_is_asked_before_anything_is_compared():
    events = [event("a", {"rows": Ambiguous()}), event("a", {"rows": [1, 2]})]
    found = assert_emitted(events, "a", {"rows": lambda rows: not isinstance(rows, Ambiguous)})
    assert [each.measurements for each in found] == [{"rows": [1, 2]}]
    assert_emitted(events, "a", {"rows": lambda rows: True}, count=2)
    refute_emitted(events, "a", {"rows": lambda rows: False})


def test_where_is_asked_before_any_value_is_compared():
    asked = []

    class Watched:
        def __eq__(self, _other):
            asked.append("value")
            return True

        __hash__ = None

    def where(_event):
        asked.append("where")
        return True

    assert_emitted([event("a", {"rows": Watched()})], "a", {"rows": 1}, where=where)
    assert asked == ["where", "value"]


def test_a_recorded_function_may_be_expected_by_its_value():
    recorded = [event("a", {}, {"callback": [].append, "kind": print})]
    assert_emitted([event("a", {}, {"callback": "x".upper})], "a", metadata={"callback": callable})
    assert_emitted(recorded, "a", metadata={"kind": print})
    items = {}
    assert_emitted([event("a", {}, {"callback": items.get})], "a", metadata={"callback": items.get})


def test_one_of_several_types_may_be_asked_for():
    assert_emitted(SHOP, "db.*", {"count": int | float})
    with pytest.raises(AssertionError, match=r"expected a value of type str \| None"):
        assert_emitted(SHOP, "db.*", {"count": str | None})


def test_where_is_asked_about_the_whole_event():
    [found] = assert_emitted(SHOP, "*", where=lambda one: one.metadata.get("user") == "bob")
    assert found.metadata["order"] == 8


def test_a_condition_that_raises_says_no():
    def late(one):
        return one.measurements["duration_ms"] > 100

    text = failure_of(assert_emitted, SHOP, "shop.*", where=late)
    assert "where late raised KeyError" in text
    assert "where late gave False" in text


@pytest.mark.parametrize(
    ("args", "kwargs", "told"),
    [
        ((SHOP, 5), {}, "an event pattern is a string, not 5"),
        ((SHOP, "x", "y"), {}, "measurements is a mapping of what the event has to contain, not 'y'"),
        ((SHOP, "x"), {"metadata": 5}, "metadata is a mapping"),
        ((SHOP, "x"), {"where": 5}, "where is a function that is given the event, not 5"),
        ((5, "x"), {}, "events are looked for in a capture, a MockExporter or a list of events, not in 5"),
        (("shop", "x"), {}, "events are looked for in"),
        (([5], "x"), {}, "an event is a dict with event_name, measurements and metadata"),
    ],
)
def test_a_wrong_argument_is_a_type_error_that_says_so(args, kwargs, told):
    with pytest.raises(TypeError, match=re.escape(told)):
        assert_emitted(*args, **kwargs)


def test_an_exact_number_and_bounds_do_not_go_together():
    with pytest.raises(ValueError, match="count says exactly how many"):
        assert_emitted(SHOP, "x", count=1, at_least=1)


def test_events_may_come_in_many_shapes():
    shapes = [
        event("x", {"count": 1}),
        RecordedEvent("x", {"count": 1}, {}, 0.0),
        Event("x", {"count": 1}, {}, 5, 1),
        ("x", {"count": 1}, {}),
        MappingProxyType({"event_name": "x", "measurements": {"count": 1}}),
    ]
    assert len(assert_emitted(iter(shapes), "x", {"count": 1})) == 5


def test_a_message_is_bounded_however_much_was_emitted():
    many = [
        event(f"shop.{n}.{'x' * 500}", {"n": n}, {"text": "y" * 10_000, "list": [1] * 999})
        for n in range(500)
    ]
    text = failure_of(assert_emitted, many, "shop.*", {"n": -1})
    assert len(text) < 5100
    assert "and 488 other names" in text or text.endswith("(cut)")


def test_absurd_events_never_break_an_assertion():
    circle = {}
    circle["self"] = circle
    absurd = [
        event("x", {"count": Incomparable(), 5: Unprintable()}, {"circle": circle, Incomparable(): b"\xff"}),
        event("y", {"n": 10**5000, "nan": math.nan}, {("a",): {Unprintable()}, None: None}),
        RecordedEvent(["no", "name"], {}, {}, 0.0),
    ]
    text = failure_of(assert_emitted, absurd, "*", {"count": 5}, {"circle": 1})
    assert "metadata['circle'] is {'self': " in text
    refute_emitted(absurd, "z")
    with pytest.raises(AssertionError):
        assert_spans_balanced([*absurd, event("z.start", {}, {"span_id": Unprintable()})])


# --- refute_emitted ---------------------------------------------------------------------------------------


def test_what_was_not_emitted_can_be_refuted():
    refute_emitted(SHOP, "shop.checkout.error")
    refute_emitted(SHOP, "shop.checkout.success", None, {"order": 8})
    refute_emitted(SHOP, "shop.*", where=lambda one: one.metadata["order"] > 8)


def test_a_failed_refutation_shows_what_was_emitted():
    text = failure_of(refute_emitted, SHOP, "shop.*", None, {"user": "bob"})
    assert text == (
        "expected no events named 'shop.*' with metadata {'user': 'bob'}, found 1\n\n"
        "found:\n  shop.checkout.start  metadata={'order': 8, 'user': 'bob'}"
    )


def test_a_long_list_of_what_was_found_is_cut():
    text = failure_of(refute_emitted, [event("x")] * 30, "x")
    assert text.count("\n  x") == 10
    assert "... and 20 further events" in text


# --- wait_for ---------------------------------------------------------------------------------------------


async def test_what_is_there_already_is_not_waited_for():
    with capture() as captured:
        execute("shop.ready", {}, {"n": 1})
        [found] = await wait_for(captured, "shop.ready", timeout=0)
    assert found.metadata == {"n": 1}


async def test_it_wakes_up_when_the_event_is_emitted():
    with capture() as captured:

        async def later():
            await asyncio.sleep(0.02)
            execute("shop.noise")
            execute("shop.ready", {}, {"n": 1})

        task = asyncio.create_task(later())
        [found] = await wait_for(captured, "shop.ready", None, {"n": 1})
        await task
    assert found.event_name == "shop.ready"


async def test_it_wakes_up_when_a_thread_emits():
    mock = MockExporter()
    await attach("mock", "shop.*", mock.handle_telemetry_event)
    thread = threading.Timer(0.02, execute, ("shop.ready",))
    thread.start()
    assert await wait_for(mock, "shop.ready")
    await detach("mock")
    thread.join()


async def test_it_waits_for_as_many_as_are_asked_for():
    with capture() as captured:

        async def later():
            for n in range(3):
                await asyncio.sleep(0)
                execute("shop.step", {"n": n})

        task = asyncio.create_task(later())
        found = await wait_for(captured, "shop.step", at_least=3)
        await task
    assert [one.measurements["n"] for one in found] == [0, 1, 2]


async def test_a_wait_in_vain_fails_with_what_there_was():
    with capture() as captured:
        execute("shop.checkout.start", {}, {"order": 7})
        with pytest.raises(AssertionError) as raised:
            await wait_for(captured, "shop.checkout.start", None, {"order": 8}, timeout=0.02)
    assert str(raised.value).startswith(
        "expected within 0.02 s at least 1 event named 'shop.checkout.start' with metadata {'order': 8}, "
        "found none among 1 event\n\nnearest:\n"
    )


async def test_it_waits_for_a_growing_list():
    events = []
    asyncio.get_running_loop().call_later(0.02, events.append, event("shop.ready"))
    assert await wait_for(events, "shop.ready")


async def test_it_asks_a_function_anew(runtime):
    forget("mock_exporter")
    await start_mock_exporter()
    asyncio.get_running_loop().call_later(0.05, execute, "shop.ready")
    found = await wait_for(
        lambda: gen_server.call("mock_exporter", ("get_events", "shop.*"), timeout=1), "shop.ready"
    )
    assert len(found) == 1


async def test_a_cancelled_wait_leaves_nothing_behind():
    with capture() as captured:
        task = asyncio.create_task(wait_for(captured, "never", timeout=60))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert captured._watchers == ()


# --- assert_spans_balanced --------------------------------------------------------------------------------


async def test_spans_that_ended_are_balanced_whatever_their_outcome():
    with capture() as captured:
        async with span("shop.checkout"):
            with span("shop.payment"), pytest.raises(ValueError, match="no"), span("shop.card"):
                raise ValueError("no")
    pairs = assert_spans_balanced(captured, count=3)
    assert [end.event_name for _, end in pairs] == [
        "shop.card.error",
        "shop.payment.success",
        "shop.checkout.success",
    ]
    assert all(begin.metadata["span_id"] == end.metadata["span_id"] for begin, end in pairs)


def test_an_operation_that_did_not_end_is_shown():
    text = failure_of(assert_spans_balanced, [SHOP[0], SHOP[1], SHOP[2]])
    assert text == (
        "1 operation is not balanced\n\n"
        "began and did not end:\n  shop.checkout.start  metadata={'order': 8, 'user': 'bob'}"
    )


def test_operations_pair_by_correlation_id():
    events = [
        event("a.start", {}, {"correlation_id": "one"}),
        event("a.start", {}, {"correlation_id": "two"}),
        event("a.stop", {}, {"correlation_id": "one"}),
    ]
    text = failure_of(assert_spans_balanced, events)
    assert "did not end:\n  a.start  metadata={'correlation_id': 'two'}" in text
    [(begin, _)] = assert_spans_balanced([*events[:1], events[2]])
    assert begin.metadata == {"correlation_id": "one"}


def test_an_ending_without_a_beginning_is_shown():
    text = failure_of(assert_spans_balanced, [event("a.stop"), event("b.failed", {}, {"span_id": "ab"})])
    assert text == (
        "2 operations are not balanced\n\n"
        "ended and did not begin:\n  a.stop\n  b.failed  metadata={'span_id': 'ab'}"
    )


def test_an_ending_that_knows_its_duration_stands_alone():
    assert assert_spans_balanced([event("a.stop", {"duration_ms": 5})]) == []


def test_an_error_of_an_operation_that_never_begins_is_just_an_event():
    assert assert_spans_balanced([event("queue.error", {}, {"error": "full"})]) == []
    with pytest.raises(AssertionError):
        assert_spans_balanced([event("queue.start"), event("queue.stop"), event("queue.error")])


def test_only_the_operations_asked_for_are_looked_at():
    events = [event("a.start"), event("b.start"), event("b.stop")]
    assert len(assert_spans_balanced(events, "b")) == 1
    assert len(assert_spans_balanced(events, "b.*")) == 1
    with pytest.raises(AssertionError):
        assert_spans_balanced(events, "a")


def test_the_number_of_operations_may_be_asked_for():
    text = failure_of(assert_spans_balanced, [event("a.start"), event("a.stop")], "a", count=2)
    assert text.startswith("expected 2 operations matching 'a', found 1 operation\n\nended:\n  a.stop")


def test_without_ids_operations_pair_within_their_emitter():
    events = [
        RecordedEvent("a.start", {}, {}, 0.0, 1),
        RecordedEvent("a.start", {}, {}, 0.0, 2),
        RecordedEvent("a.stop", {}, {}, 0.0, 2),
        RecordedEvent("a.stop", {}, {}, 0.0, 1),
    ]
    assert [(begin.emitter, end.emitter) for begin, end in assert_spans_balanced(events)] == [(2, 2), (1, 1)]


# --- capture ----------------------------------------------------------------------------------------------


def test_a_capture_takes_what_its_block_emits_and_can_be_read_afterwards():
    execute("before")
    with capture() as captured:
        execute("inside", {"count": 1}, {"a": [1]})
    execute("after")
    assert names(captured) == ["inside"]
    assert captured.events == captured.get_events_matching("in*")
    assert (captured.unattributed, captured.strays, captured.remarks()) == (0, 0, [])


async def test_it_works_as_an_async_context_manager():
    async with capture("shop.*") as captured:
        await emit("shop.opened")
        await emit("db.opened")
    assert names(captured) == ["shop.opened"]


def test_it_may_have_several_patterns():
    with capture(["shop.*", "db.*"]) as captured:
        for name in ("shop.a", "mail.b", "db.c"):
            execute(name)
    assert names(captured) == ["shop.a", "db.c"]


def test_nothing_is_left_of_it_when_it_is_closed():
    with capture(), capture("shop.*"):
        assert len(list_handlers("telemetry_capture*")) + len(list_handlers("shop.x")) >= 2
    assert [one for one in list_handlers() if one.handler_id.startswith("telemetry_capture")] == []


def test_an_error_in_the_block_comes_through_and_closes_it():
    with pytest.raises(ValueError, match="no"), capture() as captured:
        raise ValueError("no")
    execute("after")
    assert captured.events == []


def test_an_inner_capture_shares_with_the_outer_one():
    with capture() as outer:
        execute("one")
        with capture() as inner:
            execute("two")
        execute("three")
    assert names(outer) == ["one", "two", "three"]
    assert names(inner) == ["two"]


async def test_concurrent_tasks_do_not_see_each_others_events():
    barrier = asyncio.Barrier(10)

    async def one_test(number):
        with capture() as captured:
            await barrier.wait()
            for _ in range(20):
                execute("step", {}, {"test": number})
                await asyncio.sleep(0)
            await asyncio.create_task(emit("child", {}, {"test": number}))
            await asyncio.to_thread(execute, "thread", {}, {"test": number})
            await barrier.wait()
            return captured

    for number, captured in enumerate(await asyncio.gather(*map(one_test, range(10)))):
        assert {one.metadata["test"] for one in captured.events} == {number}
        assert len(captured.events) == 22


def test_concurrent_threads_do_not_see_each_others_events():
    barrier = threading.Barrier(8)
    captures = {}

    def one_test(number):
        with capture() as captures[number]:
            barrier.wait(10)
            for _ in range(50):
                execute("step", {}, {"test": number})
            barrier.wait(10)

    threads = [threading.Thread(target=one_test, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, captured in captures.items():
        assert [one.metadata["test"] for one in captured.events] == [number] * 50


async def test_a_process_belongs_to_the_capture_it_was_spawned_in(runtime):
    async def serve(number, told):
        while await process.receive() != "stop":
            execute("served", {}, {"test": number})
            told.set()

    async def one_test(number, everybody):
        with capture() as captured:
            told = asyncio.Event()
            pid = await process.spawn(serve, args=[number, told], mailbox=True)
            await everybody.wait()
            await process.send(pid, "work")
            await told.wait()
            await everybody.wait()
            await process.send(pid, "stop")
            return captured

    everybody = asyncio.Barrier(3)
    for number, captured in enumerate(await asyncio.gather(*(one_test(n, everybody) for n in range(3)))):
        assert [one.metadata["test"] for one in captured.events] == [number]


async def test_what_runs_before_a_capture_is_its_own_if_nobody_else_can_be_meant(runtime):
    work = asyncio.Queue()

    async def worker():
        while True:
            execute(await work.get())
            work.task_done()

    task = asyncio.create_task(worker())
    with capture() as captured:
        work.put_nowait("served")
        await work.join()
        with capture() as inner:
            work.put_nowait("inside")
            await work.join()
    assert names(captured) == ["served", "inside"]
    assert names(inner) == ["inside"]
    task.cancel()


async def test_what_the_outer_block_started_serves_the_inner_one():
    with capture() as outer:
        work = asyncio.Queue()

        async def worker():
            execute(await work.get())
            work.task_done()

        task = asyncio.create_task(worker())
        with capture() as inner:
            work.put_nowait("served")
            await work.join()
        await task
    assert names(inner) == names(outer) == ["served"]


def in_a_thread(function, *args):
    thread = threading.Thread(target=function, args=args)
    thread.start()
    thread.join()


async def test_where_several_might_be_meant_nobody_gets_it_and_each_is_told():
    async def one_test(barrier):
        with capture() as captured:
            await barrier.wait()
            await barrier.wait()
            with pytest.raises(AssertionError) as raised:
                assert_emitted(captured, "nobodys")
            return captured, str(raised.value)

    barrier = asyncio.Barrier(3)
    tests = [asyncio.create_task(one_test(barrier)) for _ in range(2)]
    await barrier.wait()
    in_a_thread(execute, "nobodys")
    await barrier.wait()
    for task in tests:
        captured, text = await task
        assert (captured.events, captured.unattributed) == ([], 1)
        assert "note: 1 event was left out because several captures were open" in text


async def test_a_bound_function_belongs_to_its_capture_wherever_it_runs():
    async def one_test(number, barrier):
        with capture() as captured:
            await barrier.wait()
            in_a_thread(captured.bind(execute), "bound", {}, {"test": number})
            in_a_thread(lambda: asyncio.run(captured.bind(emit)("bound", {}, {"test": number})))
            await barrier.wait()
            return captured

    barrier = asyncio.Barrier(3)
    tests = [one_test(number, barrier) for number in range(3)]
    for number, captured in enumerate(await asyncio.gather(*tests)):
        assert [one.metadata["test"] for one in captured.events] == [number, number]


def test_only_an_open_capture_can_be_bound_to():
    with pytest.raises(RuntimeError, match="only a capture that is open can be bound to"):
        capture().bind(execute)


async def test_what_outlives_its_capture_is_nobodys():
    go, done = asyncio.Event(), asyncio.Event()

    async def straggler():
        await go.wait()
        execute("late")
        done.set()

    with capture() as first:
        task = asyncio.create_task(straggler())
        await asyncio.sleep(0)
    with capture() as second:
        go.set()
        await done.wait()
    assert first.events == second.events == []
    assert second.strays == 1
    assert "note: 1 event was left out because what emitted" in failure_of(assert_emitted, second, "late")
    await task


async def test_a_capture_opened_by_what_outlived_another_works_as_any():
    with capture():

        async def straggler():
            await asyncio.sleep(0.02)
            with capture() as own:
                execute("own")
                in_a_thread(execute, "nobodys")
            return own

        task = asyncio.create_task(straggler())
    assert names(await task) == ["own", "nobodys"]


async def test_the_scope_all_takes_everything():
    barrier = asyncio.Barrier(2)

    async def neighbour():
        with capture() as captured:
            await barrier.wait()
            execute("neighbour")
            await barrier.wait()
            return captured

    task = asyncio.create_task(neighbour())
    with capture(scope="all") as everything:
        await barrier.wait()
        execute("own")
        in_a_thread(execute, "thread")
        await barrier.wait()
    assert sorted(names(everything)) == ["neighbour", "own", "thread"]
    assert names(await task) == ["neighbour"]


def test_an_unknown_scope_is_refused():
    with pytest.raises(ValueError, match="the scope of a capture is 'own' or 'all', not 'mine'"):
        capture(scope="mine")


def test_a_pattern_that_is_none_is_refused_and_nothing_is_open_afterwards():
    with pytest.raises(TypeError, match="an event pattern is a string"), capture([5]):
        pass
    with capture() as captured:
        in_a_thread(execute, "thread")
    assert names(captured) == ["thread"]


def test_a_capture_is_opened_once():
    with capture() as captured, pytest.raises(RuntimeError, match="a capture is opened once"), captured:
        pass


def test_a_capture_forgets_the_oldest_and_says_so():
    with capture(max_events=2) as captured:
        for number in range(5):
            execute(f"step.{number}")
    assert names(captured) == ["step.3", "step.4"]
    assert "note: 3 older events were forgotten: only 2 are kept" in failure_of(
        assert_emitted, captured, "step.0"
    )


def test_clear_starts_over_within_the_block():
    with capture() as captured:
        execute("set.up")
        captured.clear()
        execute("under.test")
    assert names(captured) == ["under.test"]


def test_a_capture_says_what_it_is():
    with capture("shop.*") as captured:
        execute("shop.a")
    assert isinstance(captured, Capture)
    assert repr(captured) == "<Capture of shop.*: 1 event>"


async def test_events_of_a_process_carry_its_pid(runtime):
    async def body():
        execute("inside")
        return process.self()

    with capture() as captured:
        pid = await in_process(body)
    assert captured.events[0].emitter == pid


def test_anything_at_all_can_be_shown():
    class Liar(dict):
        def __iter__(self):
            raise ValueError("no")

        def __repr__(self):
            raise ValueError("no")

    for value in (Liar(a=1), Unprintable(), 10**5000, "x" * 9999, {Unprintable(): [Unprintable()]}, object):
        assert 0 < len(text_module.shown(value)) < 500
