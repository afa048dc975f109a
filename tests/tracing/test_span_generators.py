"""Decorated functions without a name, and generators: an operation from the first step to the last.

Its steps run inside of it; whoever iterates never does, be it in another task, thread or context each time.
"""

import asyncio
import contextlib
import contextvars
import functools
import gc
import inspect
import random
import threading
import types

import pytest
from opentelemetry import trace

from otpylib_telemetry import current_span, execute, span
from otpylib_telemetry.bus import context
from otpylib_telemetry_otel.api.context_bridge import BRIDGE
from tests.tracing.span_forms import PARENT, Events


def here():
    found = current_span()
    return None if found is None else found.span_id


def opened(events, name):
    return [metadata["span_id"] for each, _, metadata in events if each == f"{name}.start"]


# --- without a name ---------------------------------------------------------------------------------------


@span
def plain(x):
    """What it does."""
    return x


@span
async def later(x):
    return x


@span
def several(count):
    yield from range(count)


@span
async def several_later(count):
    for number in range(count):
        yield number


class Shop:
    @span
    @staticmethod
    def static():
        return 1

    @span
    @classmethod
    def of_class(cls):
        return cls

    @span
    def method(self):
        return self

    @staticmethod
    @span
    def inner():
        return 2

    @span
    @functools.lru_cache  # noqa: B019 - one object
    def remembered(self):
        return 3


async def test_a_function_is_named_by_its_module_and_its_name(events):
    shop = Shop()
    assert (plain(1), await later(2), list(several(2))) == (1, 2, [0, 1])
    assert [number async for number in several_later(2)] == [0, 1]
    assert (shop.static(), shop.of_class(), shop.method(), shop.inner()) == (1, Shop, shop, 2)
    assert shop.remembered() == 3
    names = [name.removesuffix(".success") for name in events.names if name.endswith(".success")]
    module = "tests.tracing.test_span_generators"
    assert names == [
        f"{module}.{name}"
        for name in (
            "plain",
            "later",
            "several",
            "several_later",
            "Shop.static",
            "Shop.of_class",
            "Shop.method",
            "Shop.inner",
            "Shop.remembered",
        )
    ]
    assert (plain.__name__, plain.__doc__) == ("plain", "What it does.")


async def test_a_function_within_another_has_a_readable_name(events):
    @span
    def work():
        pass

    work()
    span(functools.partial(work))()
    here = f"{__name__}.test_a_function_within_another_has_a_readable_name"
    assert events.names == [
        *(f"{here}.work.{suffix}" for suffix in ("start", "success")),
        *(f"{here}.work.{suffix}" for suffix in ("start", "start", "success", "success")),
    ]


async def test_functions_stay_of_their_kind():
    assert inspect.iscoroutinefunction(later)
    assert inspect.isgeneratorfunction(several)
    assert inspect.isasyncgenfunction(several_later)
    assert not inspect.isgeneratorfunction(plain)

    @span("a")
    @types.coroutine
    def old():
        yield from asyncio.sleep(0)
        return 1

    assert await old() == 1


# --- generators -------------------------------------------------------------------------------------------


class Forms:
    """A generator and an async one of the same body, driven the same way."""

    @staticmethod
    def sync(body):
        @span("gen")
        def made(*args):
            inner = body(*args)
            step = functools.partial(next, inner)
            while True:
                try:
                    value = step()
                except StopIteration:
                    return
                try:
                    step = functools.partial(inner.send, (yield value))
                except BaseException as error:
                    step = functools.partial(inner.throw, error)

        return lambda *args: Sync(made(*args))

    @staticmethod
    def later(body):
        @span("gen")
        async def made(*args):
            inner = body(*args)
            step = functools.partial(next, inner)
            while True:
                try:
                    value = step()
                except StopIteration:
                    return
                await asyncio.sleep(0)
                try:
                    step = functools.partial(inner.send, (yield value))
                except BaseException as error:
                    step = functools.partial(inner.throw, error)

        return lambda *args: Async(made(*args))


class Sync:
    def __init__(self, made):
        self.made = made

    async def next(self):
        try:
            return next(self.made)
        except StopIteration:
            raise StopAsyncIteration from None

    async def send(self, value):
        return self.made.send(value)

    async def throw(self, error):
        return self.made.throw(error)

    async def close(self):
        self.made.close()


class Async:
    def __init__(self, made):
        self.made = made

    async def next(self):
        return await anext(self.made)

    async def send(self, value):
        return await self.made.asend(value)

    async def throw(self, error):
        return await self.made.athrow(error)

    async def close(self):
        await self.made.aclose()


both = pytest.mark.parametrize("form", [Forms.sync, Forms.later], ids=["generator", "async generator"])


def counting(count=3):
    for number in range(count):
        execute("step", {}, {"in": here()})
        yield number


@both
async def test_the_steps_run_inside_and_who_iterates_does_not(form, events):
    made = form(counting)()
    with span("around"):
        around = here()
        for number in range(3):
            assert await made.next() == number
            assert here() == around
            with span("between"):
                pass
        with pytest.raises(StopAsyncIteration):
            await made.next()
        assert here() == around
    assert here() is None
    (gen,) = opened(events, "gen")
    assert [metadata["in"] for name, _, metadata in events if name == "step"] == [gen] * 3
    assert events.metadata("gen.start")["parent_span_id"] == around
    between = {metadata["parent_span_id"] for name, _, metadata in events if name == "between.start"}
    assert between == {around}
    assert events.names[-2:] == ["gen.success", "around.success"]


@both
async def test_without_a_span_around_nothing_is_left(form, events):
    made = form(counting)()
    for _ in range(2):
        await made.next()
        assert context.innermost.get() is None
    await made.close()
    assert context.innermost.get() is None
    assert events.names == ["gen.start", "step", "step", "gen.success"]


@both
async def test_one_that_is_never_asked_is_no_operation(form, events):
    made = form(counting)()
    await made.close()
    assert events == []


@both
async def test_spans_inside_stay_open_between_the_steps(form, events):
    def body():
        with span("inner"):
            yield here()
            yield here()
        yield here()

    made = form(body)()
    with span("around"):
        first = await made.next()
        with span("other"):
            assert await made.next() == first
        last = await made.next()
    await made.close()
    (gen,), (inner,) = opened(events, "gen"), opened(events, "inner")
    assert (first, last) == (inner, gen)
    assert events.metadata("inner.start")["parent_span_id"] == gen
    assert here() is None


@both
async def test_what_is_sent_and_thrown_comes_to_the_generator(form, events):
    def body():
        got = yield "first"
        try:
            yield got
        except KeyError as error:
            yield f"caught {error}"

    made = form(body)()
    assert await made.next() == "first"
    assert await made.send("sent") == "sent"
    assert await made.throw(KeyError(1)) == "caught 1"
    await made.close()
    assert events.names == ["gen.start", "gen.success"]


@both
async def test_an_exception_of_the_generator_is_an_error(form, events):
    def body():
        yield 1
        raise ValueError("no more")

    made = form(body)()
    with span("around"):
        await made.next()
        around = here()
        with pytest.raises(ValueError, match="no more"):
            await made.next()
        assert here() == around
    assert events.metadata("gen.error")["error"] == "no more"


@both
async def test_one_that_is_thrown_in_and_not_handled_is_an_error(form, events):
    made = form(counting)()
    await made.next()
    with pytest.raises(KeyError):
        await made.throw(KeyError(1))
    assert events.metadata("gen.error")["error_type"] == "KeyError"
    assert here() is None


async def test_one_that_refuses_to_close_says_so(events):
    @span("gen")
    def body():
        with contextlib.suppress(GeneratorExit):
            yield 1
        yield 2

    made = body()
    next(made)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        made.close()
    assert here() is None
    made.close()
    assert events.names == ["gen.start", "gen.success"]


async def test_what_a_generator_returns_is_returned(events):
    @span("gen")
    def made():
        got = yield 1
        return got

    running = made()
    next(running)
    with pytest.raises(StopIteration) as done:
        running.send("sent")
    assert done.value.value == "sent"

    def around():
        return (yield from made())

    running = around()
    next(running)
    with pytest.raises(StopIteration) as done:
        running.send(7)
    assert done.value.value == 7


@both
async def test_each_step_may_come_from_another_task(form, events):
    made = form(counting)()

    async def step(name):
        with span(name):
            before = here()
            await made.next()
            assert here() == before

    for name in "abc":
        await asyncio.create_task(step(name))
    await asyncio.create_task(made.close())
    (gen,) = opened(events, "gen")
    assert [metadata["in"] for name, _, metadata in events if name == "step"] == [gen] * 3
    assert events.names[-1] == "gen.success"
    assert here() is None


async def test_each_step_may_come_from_another_thread_or_context(events):
    @span("gen")
    def made():
        yield from counting(4)

    running = made()
    with span("around"):
        around = here()
        next(running)
        assert await asyncio.to_thread(lambda: (next(running), here())[1]) == around
        thread = threading.Thread(target=next, args=(running,))
        thread.start()
        thread.join()
        assert contextvars.Context().run(lambda: (next(running), here())[1]) is None
        thread = threading.Thread(target=running.close)
        thread.start()
        thread.join()
        assert here() == around
    (gen,) = opened(events, "gen")
    assert [metadata["in"] for name, _, metadata in events if name == "step"] == [gen] * 4
    assert events.names[-2:] == ["gen.success", "around.success"]


async def test_one_that_is_given_up_ends_with_its_last_reference(events):
    @span("gen")
    def made():
        yield from counting()

    running = made()
    next(running)
    with span("around"):
        around = here()
        del running
        gc.collect()
        assert here() == around
    assert events.names == ["gen.start", "step", "around.start", "gen.success", "around.success"]


async def test_an_async_one_that_is_given_up_ends_when_the_loop_closes_it(events):
    running = several_later(5)
    async for _ in running:
        break
    del running
    gc.collect()
    for _ in range(10):
        await asyncio.sleep(0)
    assert events.names[-1].endswith("several_later.success")


@both
async def test_one_that_outlives_the_span_around_it_ends_well(form, events):
    made = form(counting)()
    with span("around"):
        await made.next()
    assert here() is None
    await made.next()
    assert here() is None
    with span("other"):
        other = here()
        await made.close()
        assert here() == other
    assert here() is None
    assert events.metadata("gen.success")["parent_span_id"] == opened(events, "around")[0]


async def test_a_cancelled_step_of_an_async_one_is_an_outcome_of_its_own(events):
    @span("gen")
    async def made():
        yield 1
        await asyncio.sleep(60)

    running = made()
    await anext(running)
    task = asyncio.create_task(anext(running))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert events.metadata("gen.error")["error_type"] == "CancelledError"


async def test_task_groups_and_generators_mix(events):
    async def reader(name):
        with span(name):
            mine, seen = here(), []
            async for number in several_later(5):
                assert here() == mine
                seen.append(number)
                await asyncio.sleep(0)
            return seen

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(reader(f"r{number}")) for number in range(5)]
    assert [task.result() for task in tasks] == [[0, 1, 2, 3, 4]] * 5
    parents = {
        metadata["parent_span_id"] for name, _, metadata in events if name.endswith("several_later.start")
    }
    assert parents == {opened(events, f"r{number}")[0] for number in range(5)}


async def test_where_nobody_listens_a_generator_runs_as_it_is():
    made = several(3)
    assert next(made) == 0
    assert next(made) == 1
    with pytest.raises(KeyError):
        made.throw(KeyError())
    assert [number async for number in several_later(2)] == [0, 1]


async def test_where_nobody_listens_it_passes_the_trace_on_to_its_steps_alone():
    @span("quiet", {"traceparent": PARENT})
    def made():
        yield here()
        yield here()

    running = made()
    assert next(running) == PARENT.split("-")[2]
    assert here() is None
    assert next(running) == PARENT.split("-")[2]
    running.close()
    assert here() is None


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_interleaved_everybody_is_where_he_should_be(seed):
    """Against a model: one stack of spans for the consumer, and one for each generator."""
    from otpylib_telemetry.bus import table  # noqa: PLC0415

    draw = random.Random(seed)
    events = Events()
    table.add("recorder", ["*"], events)
    names = {}

    @span("gen")
    def body():
        stack = contextlib.ExitStack()
        own = [here()]
        with stack:
            while True:
                if draw.random() < 0.4 and len(own) < 4:
                    stack.enter_context(span("inner"))
                    own.append(here())
                elif draw.random() < 0.2 and len(own) > 1:
                    stack.close()
                    del own[1:]
                assert here() == own[-1]
                yield own[0]
                assert here() == own[-1]

    running, mine, outside = [], contextlib.ExitStack(), [None]
    for _ in range(60):
        kind = draw.choice(["open", "close", "make", "step", "step", "step", "end", "context"])
        if kind == "open" and len(outside) < 5:
            mine.enter_context(span("outer"))
            outside.append(here())
        elif kind == "close":
            mine.close()
            del outside[1:]
        elif kind == "make":
            running.append(body())
        elif running:
            which = draw.choice(running)
            if kind == "step":
                assert names.setdefault(which, next(which)) is not None
            elif kind == "context":
                run = contextvars.copy_context() if draw.random() < 0.5 else contextvars.Context()
                run.run(next, which)
            elif kind == "end":
                which.close()
                running.remove(which)
        assert here() == outside[-1]
    mine.close()
    for each in running:
        each.close()
    assert context.innermost.get() is None
    counts = {name: events.names.count(name) for name in set(events.names)}
    assert counts.get("gen.start", 0) == counts.get("gen.success", 0)
    assert counts.get("inner.start", 0) == counts.get("inner.success", 0)
    assert not [name for name in events.names if name.endswith(".error")]


# --- with OpenTelemetry beside ----------------------------------------------------------------------------


@pytest.fixture
def bridged(events):
    from otpylib_telemetry.tracing import bridge  # noqa: PLC0415

    bridge.install(BRIDGE)
    yield events
    bridge.uninstall(BRIDGE)


def theirs():
    found = trace.get_current_span().get_span_context()
    return f"{found.span_id:016x}" if found.is_valid else None


@both
async def test_the_context_of_opentelemetry_goes_in_and_out_as_well(form, bridged):
    def body():
        yield theirs()
        with span("inner"):
            yield theirs()
        yield theirs()

    made = form(body)()
    with span("around"):
        around = here()
        seen = []
        for _ in range(3):
            seen.append(await made.next())
            assert theirs() == around == here()
    assert theirs() is None
    await made.close()
    assert theirs() is None
    (gen,), (inner,) = opened(bridged, "gen"), opened(bridged, "inner")
    assert seen == [gen, inner, gen]


@both
async def test_a_span_of_the_api_inside_stays_current_in_the_steps(form, bridged):
    there = trace.NonRecordingSpan(trace.SpanContext(7, 9, is_remote=False))

    def body():
        with trace.use_span(there):
            yield theirs(), here()
            yield theirs(), here()
        yield theirs(), here()

    made = form(body)()
    with span("around"):
        around = here()
        seen = []
        for _ in range(3):
            seen.append(await made.next())
            assert theirs() == around == here()
        await made.close()
    (gen,) = opened(bridged, "gen")
    assert seen == [(f"{9:016x}", f"{9:016x}")] * 2 + [(gen, gen)]
