"""span(): a pair of events around whatever runs, with ids that nest."""

import asyncio
import contextvars
import functools
import re
import threading
import time

import pytest

from otpylib_telemetry import attach, current_span, execute, span
from otpylib_telemetry.bus import table
from otpylib_telemetry.tracing import propagation
from otpylib_telemetry.tracing.propagation import SpanContext
from otpylib_telemetry.tracing.span import trace_context
from tests.support import absurd

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
IDS = ("trace_id", "span_id", "parent_span_id", "correlation_id")


class Events(list):
    def __call__(self, name, measurements, metadata):
        self.append((name, dict(measurements), dict(metadata)))

    @property
    def names(self):
        return [name for name, _, _ in self]

    def metadata(self, name):
        (found,) = [metadata for each, _, metadata in self if each == name]
        return found


@pytest.fixture
def events():
    recorder = Events()
    table.add("recorder", ["*"], recorder)
    return recorder


@pytest.fixture(autouse=True)
def _no_span_around():
    assert current_span() is None


class Sync:
    """Runs a body inside a span, as a plain context manager."""

    async def __call__(self, a_span, body):
        with a_span as entered:
            return body(entered)


class Async:
    async def __call__(self, a_span, body):
        async with a_span as entered:
            return body(entered)


class DecoratedSync:
    async def __call__(self, a_span, body):
        return a_span(lambda: body(a_span))()


class DecoratedAsync:
    async def __call__(self, a_span, body):
        async def work():
            return body(a_span)

        return await a_span(work)()


every_form = pytest.mark.parametrize(
    "run", [Sync(), Async(), DecoratedSync(), DecoratedAsync()], ids=lambda f: type(f).__name__
)
every_block = pytest.mark.parametrize("run", [Sync(), Async()], ids=lambda f: type(f).__name__)


# --- the pair ---------------------------------------------------------------------------------------------


@every_form
async def test_a_success_is_a_start_and_a_success(run, events):
    assert await run(span("shop.checkout", {"user": "u"}), lambda _: "result") == "result"

    assert events.names == ["shop.checkout.start", "shop.checkout.success"]
    (_, start, begun), (_, stop, ended) = events
    assert start == {}
    assert list(stop) == ["duration_ms"]
    assert stop["duration_ms"] >= 0
    assert begun["user"] == "u"
    assert ended == begun


@every_form
async def test_an_exception_is_an_error_with_text_and_type_and_passes(run, events):
    def fail(_):
        raise ValueError("no stock")

    with pytest.raises(ValueError, match="no stock"):
        await run(span("shop.checkout", {"user": "u"}), fail)

    assert events.names == ["shop.checkout.start", "shop.checkout.error"]
    (_, _, begun), (_, measurements, ended) = events
    assert list(measurements) == ["duration_ms"]
    assert ended == {**begun, "error": "no stock", "error_type": "ValueError"}


async def test_a_cancellation_is_an_outcome_of_its_own_and_passes(events):
    async def work():
        async with span("a"):
            with span("b"):
                await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert events.names == ["a.start", "b.start", "b.error", "a.error"]
    assert events.metadata("a.error")["error_type"] == "CancelledError"
    assert events.metadata("b.error")["error"] == "CancelledError"


async def test_a_cancelled_span_awaits_nothing_more(events):
    calls = []

    async def slow(name, *_rest):
        calls.append(name)
        await asyncio.sleep(60 if name == "a.error" else 0)

    await attach("slow", "*", slow)

    async def work():
        async with span("a"):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task], timeout=60)
    assert task.cancelled()
    assert calls == ["a.start"]
    assert [call[0] for call in table.current.table.handlers["slow"].backlog] == ["a.error"]


async def test_being_cancelled_in_a_handler_of_the_start_ends_the_span(events):
    async def slow(*_event):
        await asyncio.sleep(60)

    await attach("slow", "a.start", slow)
    entered = []

    async def work():
        async with span("a"):
            entered.append(1)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert entered == []
    assert events.names == ["a.start", "a.error"]


def test_being_interrupted_in_a_handler_of_the_start_ends_the_span(events):
    def interrupted(*_event):
        raise KeyboardInterrupt

    table.add("interrupted", ["a.start"], interrupted)
    with pytest.raises(KeyboardInterrupt):
        span("a").__enter__()
    assert events.names == ["a.start", "a.error"]
    assert current_span() is None


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
@every_block
async def test_the_end_of_the_program_is_an_error_and_passes(run, events, error):
    async def slow(*_event):
        await asyncio.sleep(60)

    await attach("slow", "a.error", slow)

    def fail(_):
        raise error

    coroutine = run(span("a"), fail)
    with pytest.raises(type(error)):
        coroutine.send(None)
    assert events.metadata("a.error")["error_type"] == type(error).__name__


async def test_an_error_that_cannot_be_printed_is_known_by_its_type(events):
    with pytest.raises(absurd.UnprintableError), span("a"):
        raise absurd.UnprintableError
    assert events.metadata("a.error")["error"] == "UnprintableError"


async def test_an_error_without_a_text_is_known_by_its_type(events):
    with pytest.raises(ValueError), span("a"):  # noqa: PT011
        raise ValueError
    assert events.metadata("a.error")["error"] == "ValueError"


async def test_the_duration_is_that_of_the_block_and_not_of_the_handlers(events, monkeypatch):
    now = [0]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    table.add("slow", ["a.*"], lambda *_: now.__setitem__(0, now[0] + 10**9))
    with span("a"):
        now[0] += 5_000_000
    assert events[1][1] == {"duration_ms": 5.0}


# --- metadata ---------------------------------------------------------------------------------------------


@every_block
async def test_what_is_added_while_it_is_open_goes_into_the_ending_only(run, events):
    await run(span("a", {"user": "u"}), lambda entered: entered.metadata.update(items=3))
    assert "items" not in events.metadata("a.start")
    assert events.metadata("a.success")["items"] == 3


async def test_what_is_added_does_not_change_what_a_handler_kept_of_the_start():
    kept = []
    table.add("keeping", ["*"], lambda *event: kept.append(event))
    with span("a") as entered:
        entered.metadata["late"] = 1
    assert "late" not in kept[0][2]


async def test_the_callers_own_dict_is_left_alone(events):
    mine = {"user": "u"}
    with span("a", mine):
        pass
    assert mine == {"user": "u"}


async def test_a_pair_stays_a_pair_whatever_is_done_to_the_metadata(events):
    with span("a") as entered:
        entered.metadata.clear()
        entered.metadata[5] = "odd key"
        entered.metadata["span_id"] = "mine"
    start, end = events.metadata("a.start"), events.metadata("a.success")
    assert {key: end[key] for key in IDS[:3]} == {key: start[key] for key in IDS[:3]}
    assert end[5] == "odd key"


async def test_metadata_may_be_read_although_nobody_listens():
    with span("a", {"user": "u"}) as entered:
        assert entered.metadata["user"] == "u"
        entered.metadata["items"] = 3
    assert entered.context is None


async def test_a_callable_gives_the_metadata_of_each_use(events):
    calls = []

    def metadata():
        calls.append(1)
        return {"call": len(calls)}

    @span("a", metadata)
    def work():
        pass

    work()
    work()
    assert [event[2]["call"] for event in events] == [1, 1, 2, 2]


@pytest.mark.parametrize("which", range(len(absurd.DETAILS)))
@every_form
async def test_no_metadata_whatever_breaks_the_operation(run, which, events):
    assert await run(span("a", absurd.DETAILS[which]), lambda _: 1) == 1
    assert events.names == ["a.start", "a.success"]
    assert events.metadata("a.start")["span_id"] == events.metadata("a.success")["span_id"]


@pytest.mark.parametrize("which", range(len(absurd.NAMES)))
@every_form
async def test_no_name_whatever_breaks_the_operation(run, which, events):
    assert await run(span(absurd.NAMES[which]), lambda _: 1) == 1


async def test_a_key_that_cannot_be_compared_breaks_nothing(events):
    class Clash:
        def __hash__(self):
            return hash("traceparent")

        def __eq__(self, other):
            raise RuntimeError("absurd")

    with span("a", {Clash(): 1}):
        pass
    assert events == []
    assert current_span() is None


async def test_a_name_of_another_class_is_its_text(events):
    with span(absurd.MaliciousStr("a")):
        pass
    assert events.names == ["a.start", "a.success"]


# --- ids --------------------------------------------------------------------------------------------------


async def test_ids_have_the_shape_of_w3c_trace_context(events):
    with span("a") as entered:
        context = entered.context
    metadata = events.metadata("a.start")
    assert re.fullmatch("[0-9a-f]{32}", metadata["trace_id"])
    assert re.fullmatch("[0-9a-f]{16}", metadata["span_id"])
    assert int(metadata["trace_id"], 16)
    assert int(metadata["span_id"], 16)
    assert metadata["parent_span_id"] is None
    assert metadata["correlation_id"] == metadata["trace_id"]
    assert context == SpanContext(metadata["trace_id"], metadata["span_id"], metadata["trace_id"])
    assert context.traceparent == f"00-{metadata['trace_id']}-{metadata['span_id']}-01"
    assert propagation.parse_traceparent(context.traceparent) is not None


async def test_spans_nest(events):
    with span("a"):
        async with span("b"):
            with span("c"):
                pass
        with span("d"):
            pass
    with span("e"):
        pass
    a, b, c, d, e = (events.metadata(f"{name}.start") for name in "abcde")
    assert {each["trace_id"] for each in (a, b, c, d)} == {a["trace_id"]}
    assert [each["parent_span_id"] for each in (a, b, c, d, e)] == [
        None,
        a["span_id"],
        b["span_id"],
        a["span_id"],
        None,
    ]
    assert e["trace_id"] != a["trace_id"]
    assert len({each["span_id"] for each in (a, b, c, d, e)}) == 5


async def test_the_correlation_id_is_inherited(events):
    with span("a", {"correlation_id": "order-7"}), span("b"), span("c", {"correlation_id": None}):
        assert current_span().correlation_id == "order-7"
        with span("d", {"correlation_id": 8}), span("e"):
            pass
    found = [events.metadata(f"{name}.success")["correlation_id"] for name in "abcde"]
    assert found == ["order-7", "order-7", "order-7", 8, 8]


async def test_a_traceparent_joins_that_trace(events):
    with span("a", {"traceparent": PARENT}), span("b"):
        pass
    a, b = events.metadata("a.start"), events.metadata("b.start")
    assert a["trace_id"] == b["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert a["parent_span_id"] == "b7ad6b7169203331"
    assert b["parent_span_id"] == a["span_id"]


async def test_a_traceparent_goes_before_the_span_around(events):
    with span("around", {"correlation_id": "c"}), span("a", {"traceparent": PARENT}):
        pass
    a = events.metadata("a.start")
    assert a["parent_span_id"] == "b7ad6b7169203331"
    assert a["correlation_id"] == "c"


@pytest.mark.parametrize(
    "text", ["", "nonsense", PARENT[:-1], 5, None, b"", "00-" + "0" * 32 + "-b7ad6b7169203331-01"]
)
async def test_a_traceparent_that_is_none_is_ignored(events, text):
    with span("a", {"traceparent": text}):
        pass
    assert events.metadata("a.start")["parent_span_id"] is None


async def test_what_is_not_sampled_stays_so_further_on(events):
    with span("a", {"traceparent": PARENT[:-2] + "00"}), span("b") as inner:
        assert inner.context.traceparent.endswith("-00")


async def test_the_trace_context_carries_a_span_to_another_process(events):
    assert trace_context() == {}
    with span("a", {"correlation_id": "order-7"}):
        message = trace_context()

    def elsewhere():
        with span("b", message):
            pass

    contextvars.Context().run(elsewhere)
    a, b = events.metadata("a.start"), events.metadata("b.start")
    assert b["trace_id"] == a["trace_id"]
    assert b["parent_span_id"] == a["span_id"]
    assert b["correlation_id"] == "order-7"


# --- where it is current ----------------------------------------------------------------------------------


async def test_the_current_span_is_the_innermost_one(events):
    with span("a") as a:
        assert current_span() == a.context
        with span("b") as b:
            assert current_span() == b.context
        assert current_span() == a.context
    assert current_span() is None


async def test_tasks_inherit_the_span_they_were_started_in_even_when_it_has_ended(events):
    go = asyncio.Event()

    async def work(name):
        with span(f"{name}.early"):
            pass
        await go.wait()
        with span(f"{name}.late"):
            pass

    with span("a"):
        task = asyncio.create_task(work("task"))
        await asyncio.sleep(0)
    assert current_span() is None
    go.set()
    await task
    a = events.metadata("a.start")
    for name in ("task.early", "task.late"):
        assert events.metadata(f"{name}.start")["parent_span_id"] == a["span_id"]


async def test_a_task_started_after_the_end_of_a_span_is_not_inside_it(events):
    async def work():
        with span("b"):
            pass

    with span("a"):
        pass
    await asyncio.create_task(work())
    assert events.metadata("b.start")["parent_span_id"] is None


async def test_tasks_beside_each_other_do_not_nest(events):
    async def work(name):
        async with span(name):
            await asyncio.sleep(0.01)

    async with span("a"):
        await asyncio.gather(work("b"), work("c"))
    a = events.metadata("a.start")
    assert [events.metadata(f"{name}.start")["parent_span_id"] for name in "bc"] == [a["span_id"]] * 2


async def test_a_thread_starts_afresh_and_to_thread_does_not(events):
    def work(name):
        with span(name):
            pass

    with span("a"):
        thread = threading.Thread(target=work, args=("b",))
        thread.start()
        thread.join()
        await asyncio.to_thread(work, "c")
    assert events.metadata("b.start")["parent_span_id"] is None
    assert events.metadata("c.start")["parent_span_id"] == events.metadata("a.start")["span_id"]


async def test_leaving_in_another_context_ends_it_and_leaves_that_context_alone(events):
    a = span("a")
    a.__enter__()

    def elsewhere():
        with span("b"):
            a.__exit__(None, None, None)
            assert current_span() is not None
            with span("c"):
                pass

    contextvars.Context().run(elsewhere)
    assert events.names == ["a.start", "b.start", "a.success", "c.start", "c.success", "b.success"]
    assert events.metadata("c.start")["parent_span_id"] == events.metadata("b.start")["span_id"]
    # And here, where it was entered, it is over as well.
    assert current_span() is None
    with span("d"):
        pass
    assert events.metadata("d.start")["parent_span_id"] is None


async def test_leaving_out_of_order_leaves_nothing_behind(events):
    a, b = span("a"), span("b")
    a.__enter__()
    b.__enter__()
    a.__exit__(None, None, None)
    assert current_span() == b.context
    b.__exit__(None, None, None)
    assert current_span() is None


async def test_an_async_generator_given_up_in_the_middle_leaves_nothing_behind(events):
    async def numbers():
        async with span("numbers"):
            yield 1
            yield 2

    generator = numbers()
    async for _ in generator:
        break
    await asyncio.create_task(generator.aclose())
    assert events.names == ["numbers.start", "numbers.success"]
    with span("after"):
        pass
    assert events.metadata("after.start")["parent_span_id"] is None


async def test_a_span_closed_with_its_coroutine_awaits_nothing_more(events):
    async def slow(*_event):
        await asyncio.sleep(60)

    await attach("slow", "a.success", slow)

    async def work():
        async with span("a"):
            await asyncio.sleep(60)

    coroutine = work()
    coroutine.send(None)
    coroutine.close()
    assert events.names == ["a.start", "a.success"]


# --- one span, used more than once ------------------------------------------------------------------------


async def test_a_span_may_be_used_again_when_it_is_over(events):
    a = span("a")
    for _ in range(2):
        with a:
            pass
    assert events.names == ["a.start", "a.success"] * 2
    assert len({metadata["span_id"] for _, _, metadata in events}) == 2


async def test_entering_it_again_while_it_is_open_is_said_and_breaks_nothing(events, caplog):
    a = span("a")
    with a:
        with a:
            async with a:
                pass
        execute("still inside")
    assert events.names == ["a.start", "still inside", "a.success"]
    assert current_span() is None
    assert "The span 'a' was entered again while open; use span(...) anew for each." in caplog.text


async def test_tasks_that_share_one_break_nothing(events):
    shared = span("a")

    async def work():
        async with shared:
            await asyncio.sleep(0.01)

    await asyncio.gather(*(work() for _ in range(5)))
    assert events.names == ["a.start", "a.success"]


# --- decorators -------------------------------------------------------------------------------------------


async def test_a_decorated_function_is_what_it_was(events):
    @span("a")
    def plain(x, *, y=1):
        """What it does."""
        return x + y

    @span("a")
    async def later(x):
        return x

    assert plain(1, y=2) == 3
    assert await later(5) == 5
    assert (plain.__name__, plain.__doc__) == ("plain", "What it does.")
    assert asyncio.iscoroutinefunction(later)
    assert not asyncio.iscoroutinefunction(plain)


async def test_every_call_of_a_decorated_function_is_a_span_of_its_own(events):
    @span("a")
    async def work(depth):
        if depth:
            await asyncio.gather(work(depth - 1), work(0))

    await asyncio.gather(work(2), work(0))
    assert events.names.count("a.start") == events.names.count("a.success") == 6
    assert len({metadata["span_id"] for _, _, metadata in events}) == 6


async def test_methods_of_every_kind_can_be_decorated(events):
    class Shop:
        @span("method")
        def method(self):
            return self

        @span("static")
        @staticmethod
        def static(x):
            return x

        @span("class")
        @classmethod
        def of_class(cls):
            return cls

        @staticmethod
        @span("inner")
        async def inner(x):
            return x

    shop = Shop()
    assert shop.method() is shop
    assert (Shop.static(1), shop.static(2)) == (1, 2)
    assert (Shop.of_class(), shop.of_class()) == (Shop, Shop)
    assert await shop.inner(3) == 3
    assert len(events) == 12


async def test_objects_that_wrap_a_coroutine_function_are_awaited_inside(events):
    class Job:
        async def __call__(self):
            await asyncio.sleep(0)
            execute("inside")

    async def partly(_number):
        execute("inside")

    await span("a")(Job())()
    await span("a")(functools.partial(partly, 1))()
    assert events.names == ["a.start", "inside", "a.success"] * 2


def test_a_generator_is_refused_for_the_span_would_measure_nothing():
    def plain():
        yield

    async def later():
        yield

    for function in (plain, later):
        with pytest.raises(TypeError, match=r"span\('a'\) does not decorate generators; use 'with span"):
            span("a")(function)


@pytest.mark.parametrize("thing", [int, 5, None, "text"])
def test_what_is_no_function_is_refused(thing):
    with pytest.raises(TypeError, match=r"span\('a'\) decorates functions"):
        span("a")(thing)


# --- nobody listens ---------------------------------------------------------------------------------------


@pytest.fixture
def ids(monkeypatch):
    """What was drawn: every id costs."""
    drawn = []
    for name in ("new_span_id", "new_trace_id"):
        monkeypatch.setattr(propagation, name, lambda name=name: drawn.append(name) or len(drawn))
    return drawn


@every_form
async def test_where_nobody_listens_nothing_happens(run, ids):
    calls = []
    await attach("other", "other.*", lambda *_: None)
    await attach("event", "shop.checkout", lambda *_: None)
    await run(span("shop.checkout", lambda: calls.append(1)), lambda _: None)
    assert ids == []
    assert calls == []


@pytest.mark.parametrize("ending", ["start", "success", "error"])
async def test_one_listener_to_any_of_the_three_is_enough(ids, ending):
    await attach("h", f"shop.checkout.{ending}", lambda *_: None)
    with span("shop.checkout") as entered:
        assert entered.context is not None
    assert ids == ["new_trace_id", "new_span_id"]


async def test_a_listener_that_comes_in_the_middle_gets_no_end_without_a_start():
    late = Events()
    with span("a"):
        await attach("late", "*", late)
    assert late == []


async def test_a_span_nobody_listens_to_is_no_link_in_the_chain(events):
    await attach("recorder", "a.*", events)
    await attach("other", "c.*", events)
    with span("a"), span("b"), span("c"):
        pass
    assert events.metadata("c.start")["parent_span_id"] == events.metadata("a.start")["span_id"]
