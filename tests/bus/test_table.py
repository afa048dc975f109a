"""The table of handlers: attaching, detaching, listing, while events flow."""

import asyncio
import functools
import os
import threading
from unittest.mock import AsyncMock, Mock

import pytest

from otpylib_telemetry import HandlerInfo, attach, attach_many, detach, emit, execute, list_handlers
from otpylib_telemetry.bus import table
from tests.support import absurd


def ignore(*_event):
    pass


async def ignore_async(*_event):
    pass


class Callables:
    """Every form a callback can take."""

    def method(self, *event):
        pass

    async def async_method(self, *event):
        pass

    def __call__(self, *event):
        pass


class AsyncCallable:
    async def __call__(self, *event):
        pass


# --- attach and detach ------------------------------------------------------------------------------------


async def test_the_same_id_again_replaces():
    seen = []
    await attach("h", "a.*", lambda name, *_: seen.append(("old", name)))
    await attach("h", "b.*", lambda name, *_: seen.append(("new", name)))
    execute("a.1")
    execute("b.1")
    assert seen == [("new", "b.1")]
    assert [info.pattern for info in list_handlers()] == ["b.*"]


async def test_many_patterns_are_replaced_together():
    await attach_many("h", ["a.*", "b.*", "c.*"], ignore)
    await attach_many("h", ["c.*", "d.*"], ignore)
    assert [info.pattern for info in list_handlers()] == ["c.*", "d.*"]


async def test_a_pattern_given_twice_is_one_subscription():
    await attach_many("h", ["a.*", "b.*", "a.*"], ignore)
    assert await detach("h") == 2


async def test_detach_tells_how_many_subscriptions_went():
    await attach("one", "*", ignore)
    await attach_many("three", ["a", "b", "c"], ignore)
    assert await detach("three") == 3
    assert await detach("one") == 1
    assert await detach("one") == 0
    assert await detach("never there") == 0
    assert list_handlers() == []


@pytest.mark.parametrize("handler_id", [None, 5, [], {}, b"h"])
async def test_detaching_what_can_be_no_id_is_detaching_what_nobody_knows(handler_id):
    await attach("h", "*", ignore)
    assert await detach(handler_id) == 0
    assert len(list_handlers()) == 1


async def test_a_restarted_process_may_attach_again_with_a_clean_record():
    def bad(*_event):
        raise ValueError

    await attach("h", "*", bad)
    for _ in range(10):
        execute("a")
    assert list_handlers()[0].suspended
    await attach("h", "*", ignore)
    assert list_handlers() == [HandlerInfo("h", "*", ignore, suspended=False, failures=0, missed=0)]


async def test_patterns_may_come_from_any_iterable():
    await attach_many("h", (f"{letter}.*" for letter in "ab"), ignore)
    assert [info.pattern for info in list_handlers()] == ["a.*", "b.*"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((5, ["*"], ignore), TypeError, "a handler id is a string, not int"),
        ((None, ["*"], ignore), TypeError, "a handler id is a string, not NoneType"),
        (("", ["*"], ignore), ValueError, "a handler id is not empty"),
        (("h", "shop.*", ignore), TypeError, r"patterns is a list of strings, not the string 'shop\.\*'"),
        (("h", 3, ignore), TypeError, "patterns is a list of strings, not int"),
        (("h", None, ignore), TypeError, "patterns is a list of strings, not NoneType"),
        (
            ("h", [], ignore),
            ValueError,
            "handler 'h' needs at least one event pattern; '\\*' matches every event",
        ),
        (("h", [""], ignore), ValueError, "handler 'h': an event pattern is not empty"),
        (("h", ["a", None], ignore), TypeError, "handler 'h': an event pattern is a string, not NoneType"),
        (("h", [b"a"], ignore), TypeError, "handler 'h': an event pattern is a string, not bytes"),
        (("h", None, ignore), TypeError, "NoneType"),
        (("h", ["*"], None), TypeError, "the callback of handler 'h' cannot be called: NoneType"),
        (("h", ["*"], "ignore"), TypeError, "the callback of handler 'h' cannot be called: str"),
    ],
)
async def test_a_mistake_is_refused_where_it_is_made_and_changes_nothing(arguments, error, message):
    await attach("h", "before", ignore)
    with pytest.raises(error, match=message):
        await attach_many(*arguments)
    assert [info.pattern for info in list_handlers()] == ["before"]


async def test_a_generator_as_callback_is_refused_for_it_would_never_run():
    def plain(*_event):
        yield

    async def later(*_event):
        yield

    for callback in (plain, later, functools.partial(plain)):
        with pytest.raises(TypeError, match="the callback of handler 'h' is a generator"):
            await attach("h", "*", callback)


async def test_strings_of_another_class_are_their_text():
    await attach(absurd.MaliciousStr("h"), absurd.MaliciousStr("a.*"), ignore)
    await attach("h", "b.*", ignore)
    assert [(info.handler_id, info.pattern) for info in list_handlers()] == [("h", "b.*")]
    assert await detach(absurd.MaliciousStr("h")) == 1


@pytest.mark.parametrize(
    ("callback", "is_async"),
    [
        (ignore, False),
        (ignore_async, True),
        (functools.partial(ignore, 1), False),
        (functools.partial(ignore_async, 1), True),
        (Callables().method, False),
        (Callables().async_method, True),
        (Callables(), False),
        (AsyncCallable(), True),
        (Mock(), False),
        (AsyncMock(), True),
        (print, False),
        ([].append, False),
    ],
)
def test_callbacks_are_told_apart_without_calling_them(callback, is_async):
    assert table.add("h", ["*"], callback).is_async is is_async


# --- listing ----------------------------------------------------------------------------------------------


async def test_handlers_are_listed_in_the_order_of_attachment():
    for name in ("c", "a", "b"):
        await attach(name, f"{name}.*", ignore)
    await attach("c", "c.again", ignore)
    assert [info.handler_id for info in list_handlers()] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", ["*", "shop.*", "shop.sale", "bank.*"]),
        ("shop.*", ["*", "shop.*", "shop.sale"]),
        ("shop.sale", ["*", "shop.*", "shop.sale"]),
        ("shop.other", ["*", "shop.*"]),
        ("bank.transfer", ["*", "bank.*"]),
        ("Shop.sale", ["*"]),
    ],
)
async def test_a_listing_keeps_what_the_pattern_matches_and_what_would_hear_such_an_event(pattern, found):
    await attach("everything", "*", ignore)
    await attach_many("shop", ["shop.*", "shop.sale"], ignore)
    await attach("bank", "bank.*", ignore)
    assert [info.pattern for info in list_handlers(pattern)] == found


async def test_a_listing_is_a_snapshot():
    await attach("h", "*", ignore)
    listed = list_handlers()
    await detach("h")
    assert len(listed) == 1


# --- while events flow ------------------------------------------------------------------------------------


async def test_an_event_under_way_is_seen_by_those_attached_when_it_was_emitted():
    seen = []

    def meddling(name, _measurements, _metadata):
        table.add("late", ["*"], lambda *_: seen.append("late"))
        table.remove("last")
        table.remove("meddling")
        seen.append("meddling")

    await attach("meddling", "*", meddling)
    await attach("last", "*", lambda *_: seen.append("last"))
    execute("a")
    assert seen == ["meddling", "last"]
    execute("a")
    assert seen == ["meddling", "last", "late"]


async def test_a_table_is_never_changed_but_replaced():
    await attach("h", "*", ignore)
    before = table.current.table
    held = dict(before.handlers)
    await attach("g", "*", ignore)
    await detach("h")
    assert table.current.table is not before
    assert before.handlers == held


async def test_attaching_and_detaching_from_other_threads_while_events_flow_loses_no_event():
    counted = []
    await attach("steady", "*", lambda *event: counted.append(event))
    stop = threading.Event()

    def churn(number):
        while not stop.is_set():
            table.add(f"h{number}", [f"shop.{number}", "bank.*"], ignore)
            table.remove(f"h{number}")

    threads = [threading.Thread(target=churn, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for number in range(3000):
        execute("shop.sale", {"n": number})
        if number % 100 == 0:
            await asyncio.sleep(0)
    stop.set()
    for thread in threads:
        thread.join()
    assert [measurements["n"] for _, measurements, _ in counted] == list(range(3000))
    assert [info.handler_id for info in list_handlers()] == ["steady"]


async def test_concurrent_attachments_are_all_in_the_table():
    def work(number):
        for again in range(50):
            table.add(f"{number}.{again}", ["*"], ignore)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list_handlers()) == 400


async def test_a_handler_attached_after_a_name_was_looked_up_hears_it():
    execute("a")
    seen = []
    await attach("h", "a", lambda name, *_: seen.append(name))
    await emit("a")
    assert seen == ["a"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # 3.12 on: forking with threads is what is tested
def test_a_forked_child_emits_although_a_thread_of_its_parent_held_the_lock():
    seen = []
    table.add("h", ["*"], lambda name, *_: seen.append(name))
    with table._lock:
        child = os.fork()
        if child == 0:
            table.add("g", ["*"], ignore)
            execute("a")
            os._exit(0 if seen == ["a"] else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
