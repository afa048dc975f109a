"""Where a span is current, one that is used more than once, decorators, and nobody listening."""

import asyncio
import contextlib
import contextvars
import functools
import gc
import itertools
import threading

import pytest

from otpylib_telemetry import attach, current_span, execute, span
from otpylib_telemetry.bus import context
from otpylib_telemetry.tracing import bridge as bridge_module
from otpylib_telemetry.tracing import propagation
from otpylib_telemetry.tracing.operation import Operation
from tests.tracing.span_forms import Events, every_form

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


@pytest.mark.parametrize("thing", [int, 5, None, "text"])
def test_what_is_no_function_is_refused(thing):
    with pytest.raises(TypeError, match=r"span\('a'\) decorates functions"):
        span("a")(thing)


# --- nobody listens ---------------------------------------------------------------------------------------


@pytest.fixture
def ids(monkeypatch):
    """What was drawn: every id costs."""
    drawn = []
    source = propagation.IdSource(
        lambda: drawn.append("new_trace_id") or len(drawn), lambda: drawn.append("new_span_id") or len(drawn)
    )
    monkeypatch.setattr(propagation, "_source", source)
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
    assert sorted(ids) == ["new_span_id", "new_trace_id"]


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


# --- no span leads to those before it -----------------------------------------------------------------------


def _alive():
    gc.collect()
    return sum(type(each) is Operation for each in gc.get_objects())


class _Chain:
    """Callbacks, each of which schedules the next: what they keep alive is counted on the way."""

    def __init__(self, step, count=2000):
        self.alive = []
        self._step, self._left, self._count = step, count, count
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        self.state = {}

    async def run(self):
        # What there is already need not be looked through again and again, nor counted.
        gc.collect()
        gc.freeze()
        self._loop.call_soon(self._tick)
        await self._done.wait()
        return self.alive

    def schedule(self):
        if self._left:
            self._left -= 1
            self._loop.call_soon(self._tick)
        else:
            self._done.set()

    def _tick(self):
        if self._left % (self._count // 4) == 0:
            self.alive.append(_alive())
        self._step(self)


def _inside(chain):
    with span("tick"):
        chain.schedule()


def _nested(chain):
    with span("tick"), span("inner"):
        with span("leaf"):
            pass
        chain.schedule()


def _ended_by_the_next(chain):
    if (last := chain.state.pop("open", None)) is not None:
        last.__exit__(None, None, None)
    chain.state["open"] = opened = span("tick")
    opened.__enter__()
    chain.schedule()


def _overlapping(chain):
    opened = span("tick")
    opened.__enter__()
    if (last := chain.state.get("open")) is not None:
        last.__exit__(None, None, None)
    chain.state["open"] = opened
    chain.schedule()


def _overlapping_in_one_context(chain):
    for _ in range(20):
        _overlapping_once(chain)
    chain.schedule()


def _overlapping_once(chain):
    opened = span("tick")
    opened.__enter__()
    if (last := chain.state.get("open")) is not None:
        last.__exit__(None, None, None)
    chain.state["open"] = opened


def _failing(chain):
    with contextlib.suppress(ValueError), span("tick"):
        chain.schedule()
        raise ValueError


def _with_tasks(chain):
    async def work():
        async with span("task"):
            chain.schedule()

    with span("tick"):
        chain.state["task"] = asyncio.ensure_future(work())


@pytest.mark.parametrize("bridged", [False, True])
@pytest.mark.parametrize(
    "step",
    [
        _inside,
        _nested,
        _ended_by_the_next,
        _overlapping,
        _overlapping_in_one_context,
        _failing,
        _with_tasks,
    ],
)
async def test_a_callback_that_schedules_itself_inside_its_span_keeps_no_span(events, step, bridged):
    bridge = _Recording()
    if bridged:
        bridge_module.install(bridge)
    try:
        alive = await _Chain(step).run()
    finally:
        bridge_module.uninstall(bridge)
    assert len(alive) >= 4
    assert max(alive) < 20


class _Recording:
    """A bridge that keeps the other API's current span in a context variable, as OpenTelemetry does."""

    variable = contextvars.ContextVar("other", default=None)

    def enter(self, place, _baggage):
        return self.variable.set(None if place is None else place.context)

    def leave(self, token):
        with contextlib.suppress(ValueError, RuntimeError):
            self.variable.reset(token)

    def around(self, own):
        return self.variable.get()

    def here(self):
        return context.here()

    def ended(self, operation):
        """Nobody wants to know."""


async def test_the_callback_still_belongs_to_the_span_in_which_it_was_scheduled(events):
    seen = []

    def later():
        with span("later") as current:
            seen.append(current.metadata["parent_span_id"])
        seen.append(current_span().span_id)

    with span("outer") as outer:
        asyncio.get_running_loop().call_soon(later)
        identity = outer.context.span_id
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert seen == [identity, identity]
    assert current_span() is None


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("bridged", [False, True])
def test_spans_that_end_in_any_order_leave_the_context_as_it_was(events, order, bridged):
    bridge = _Recording()
    if bridged:
        bridge_module.install(bridge)
    try:
        with span("around") as around:
            opened = [span(f"number.{n}") for n in range(3)]
            for each in opened:
                each.__enter__()
            contexts = [each.context for each in opened]
            open_ones = set(range(3))
            for number in order:
                opened[number].__exit__(None, None, None)
                open_ones.discard(number)
                expected = contexts[max(open_ones)] if open_ones else around.context
                assert current_span() == expected
            assert _Recording.variable.get() == (around.context if bridged else None)
        assert current_span() is None
        assert _Recording.variable.get() is None
    finally:
        bridge_module.uninstall(bridge)
