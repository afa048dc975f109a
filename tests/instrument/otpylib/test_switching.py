"""Everything that is replaced in otpylib is put back, whenever and however often."""

import asyncio
import contextlib
import importlib
import pkgutil
import types

import otpylib
import pytest
from otpylib import gen_server, process

from otpylib_telemetry import current_span, span
from otpylib_telemetry.bus import table
from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor
from otpylib_telemetry.instrument.otpylib.rules import Rules, in_force
from tests.support.actors import Heard, call, server
from tests.support.runtime import in_process


def modules_of_otpylib():
    for info in pkgutil.walk_packages(otpylib.__path__, "otpylib."):
        # One of otpylib's own needs a package that it does not ask for.
        with contextlib.suppress(ImportError):
            yield importlib.import_module(info.name)


def attributes_of_otpylib():
    """Every attribute of every module and class of otpylib, as the very object it is."""
    found = {}
    for module in list(modules_of_otpylib()):
        for name, value in vars(module).items():
            found[module.__name__, name] = value
            if isinstance(value, type) and value.__module__.startswith("otpylib."):
                found |= {
                    (f"{value.__module__}.{value.__qualname__}", key): one for key, one in vars(value).items()
                }
    return {
        key: value
        for key, value in found.items()
        if key[1] not in {"_CALL_COUNTER", "__dict__", "__weakref__", "_current_backend", "_abc_impl"}
    }


def assert_same(before, after):
    assert before.keys() == after.keys()
    assert [key for key, value in before.items() if after[key] is not value] == []


async def test_every_attribute_of_otpylib_is_restored(runtime):
    before = attributes_of_otpylib()
    one, other = OtpylibInstrumentor(), OtpylibInstrumentor()
    one.instrument()
    other.instrument()
    changed = attributes_of_otpylib()
    assert [key for key, value in before.items() if changed[key] is not value]
    one.uninstrument()
    assert_same(before, attributes_of_otpylib())
    other.uninstrument()
    assert_same(before, attributes_of_otpylib())
    one.instrument()
    other.uninstrument()
    assert_same(before, attributes_of_otpylib())


async def test_what_somebody_else_has_replaced_since_stays(runtime, caplog):
    core = gen_server.core
    original = core._handle_info
    instrumentor = OtpylibInstrumentor()
    instrumentor.instrument()
    ours = core._handle_info

    async def theirs(*arguments):
        return await ours(*arguments)

    core._handle_info = theirs
    try:
        instrumentor.uninstrument()
        assert core._handle_info is theirs
        assert "otpylib.gen_server.core._handle_info stays as it is" in caplog.text
    finally:
        core._handle_info = original


async def exchange(heard, target):
    """One message of each kind, within a span; the spans they were handled in."""
    with span("asking") as asking:
        seen = [await call(target, "ask")]
        await gen_server.cast(target, "told")
        await process.send(target, ("info", 1))
    await call(target, "done")
    return asking, seen


def recorder(seen):
    async def handle(message, _state):
        here = current_span()
        seen.append((message, None if here is None else here.trace_id))
        return None if here is None else here.trace_id

    return server(on_call=handle, on_cast=handle, on_info=handle)


async def test_it_takes_effect_for_processes_that_run_already_and_ends_for_them(runtime):
    """Messages that wait, and receivers that wait for them, are met in either state."""
    seen = []
    heard = Heard("asking.*", "otpylib.*")
    waiting = asyncio.Event()

    async def receiver():
        waiting.set()
        while True:
            seen.append((await process.receive(), current_span()))

    async def session():
        await gen_server.start(recorder(seen), None, "early")
        plain = await process.spawn(receiver, mailbox=True)
        await waiting.wait()
        instrumentor = OtpylibInstrumentor()
        instrumentor.instrument()
        # Nobody reads while nothing is awaited that takes time: these wait in the mailboxes.
        with span("asking"):
            trace = current_span().trace_id
            await process.send("early", "one")
            await process.send(plain, "two")
            await process.send("early", "three")
            instrumentor.uninstrument()
            await process.send("early", "four")
        await call("early", "five")
        while len(seen) < 5:
            await asyncio.sleep(0.005)
        instrumentor.instrument()
        with span("asking"):
            again = current_span().trace_id
            assert await call("early", "six") == again
        instrumentor.uninstrument()
        with span("asking"):
            await call("early", "seven")
        return trace

    try:
        await in_process(session)
    finally:
        table.remove("heard")
    assert sorted(message for message, _ in seen) == sorted(
        ["one", "two", "three", "four", "five", "six", "seven"]
    )
    traces = dict(seen)
    assert traces["seven"] is None
    assert [event["message"] for event in heard.of("otpylib.handle.success")] == ["six"]


async def test_timers_set_while_instrumented_fire_after_it_has_ended(runtime):
    seen = []

    async def session():
        await gen_server.start(recorder(seen), None, "timed")
        instrumentor = OtpylibInstrumentor()
        instrumentor.instrument()
        with span("asking"):
            await process.send_after(0.02, "timed", "later")
            ref = await process.send_after(0.02, "timed", "never")
            assert await process.cancel_timer(ref)
        instrumentor.uninstrument()
        while not seen:
            await asyncio.sleep(0.005)

    await in_process(session)
    assert seen == [("later", None)]


def test_it_is_made_as_opentelemetrys_instrumentors_are():
    instrumentor = OtpylibInstrumentor()
    assert list(instrumentor.instrumentation_dependencies()) == ["otpylib >= 0.5.18"]
    assert not instrumentor.is_instrumented_by_opentelemetry
    instrumentor.instrument(tracer_provider=None, skip_dep_check=True)
    try:
        assert instrumentor.is_instrumented_by_opentelemetry
    finally:
        instrumentor.uninstrument()
    assert not instrumentor.is_instrumented_by_opentelemetry
    assert isinstance(gen_server.core._handle_call, types.FunctionType)


@pytest.mark.parametrize("kind", ["call", "cast", "send"])
async def test_nobody_listens_and_nothing_is_in_the_way(instrumented, kind):
    """Neither context nor listener: the very message is in the mailbox, without an envelope."""
    seen = []

    async def session():
        pid = await gen_server.start(recorder(seen), None, "alone")
        if kind == "call":
            await call("alone", "message")
        elif kind == "cast":
            await gen_server.cast("alone", "message")
        else:
            await process.send(pid, "message")
        await call("alone", "end")

    await in_process(session)
    assert seen == [("message", None), ("end", None)]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"exclud": "x"}, TypeError, "there is no option 'exclud'; did you mean 'exclude'?"),
        ({"exclude": 7}, TypeError, "exclude: expected a pattern or a list of them, got 7"),
        ({"recorder": "many"}, TypeError, "recorder: expected int, got 'many'"),
        ({"recorder": -1}, ValueError, "recorder: expected 0 or more, got -1"),
        ({"calls": "parent"}, ValueError, "calls: expected 'child', 'link' or 'none', got 'parent'"),
    ],
)
def test_options_that_are_none_are_refused_and_nothing_is_instrumented(options, error, said):
    with pytest.raises(error) as raised:
        OtpylibInstrumentor().instrument(**options)
    assert str(raised.value) == said
    assert not OtpylibInstrumentor().is_instrumented_by_opentelemetry


async def test_options_are_the_keys_of_the_section(instrumented):
    OtpylibInstrumentor().instrument(exclude="noisy", loop_stall_ms=20, payloads=True, tracer_provider=None)
    assert in_force.rules == Rules(exclude=("noisy",), loop_stall_ms=20, payloads=True)
    OtpylibInstrumentor().instrument()
    assert in_force.rules.exclude == ("noisy",)
