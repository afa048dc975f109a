"""Whatever objects the application uses, nothing of telemetry raises into it or stands in its way."""

import asyncio
import functools
from unittest.mock import MagicMock

import pytest
from otpylib import gen_server, process

from otpylib_telemetry import attach, detach
from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor, identity
from otpylib_telemetry_mock.exporter import MockExporter
from tests.support.actors import Heard, call, server
from tests.support.runtime import in_process


class Raising:
    """Raises whatever it is asked."""

    @property
    def served(self):
        raise RuntimeError("served")

    def __getattr__(self, name):
        raise RuntimeError(name)


class Flagged:
    served = False
    exporter_type = "of the application"


class NamelessType(type):
    @property
    def __name__(cls):
        raise RuntimeError("name")


class Nameless(metaclass=NamelessType):
    pass


class OddName:
    """Can be called, and has a name that is no text."""

    def __init__(self):
        self.__qualname__ = 7

    async def __call__(self, *_arguments):
        await asyncio.sleep(0)


async def worker(*_arguments):
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("function", "argument", "module"),
    [
        (worker, Flagged(), "worker"),
        (worker, Flagged, "worker"),
        (worker, MagicMock(), "worker"),
        (worker, Raising(), "worker"),
        (worker, int, "worker"),
        (worker, MockExporter, "worker"),
        (functools.partial(worker, 1), int, "worker"),
        (OddName(), 1, "OddName"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_process_of_anything_begins_and_ends_and_its_monitor_hears_of_it(
    instrumented, function, argument, module
):
    heard = Heard("otpylib.process.*")

    async def session():
        pid, _ref = await process.spawn_monitor(function, args=[argument])
        message = await process.receive(timeout=20)
        assert pid in message
        assert not process.is_alive(pid)

    await in_process(session)
    assert next(event["module"] for event in heard.of("otpylib.process.exited")) == module
    assert not [pid for pid, found in identity.known.items() if found.module == module]


def test_only_packages_of_ours_are_ours():
    ours, others = type("A", (), {}), type("B", (), {"exporter_type": int})
    ours.__module__, others.__module__ = "otpylib_telemetry_otel.exporter", "otpylib_configurator.app"
    assert identity.is_ours(ours)
    assert not identity.is_ours(others)
    assert not identity.is_ours(Flagged)


@pytest.mark.parametrize("message", [Nameless(), ("tag", Nameless()), MagicMock(), Raising()], ids=range(4))
async def test_messages_of_anything_arrive_and_go_to_nobody(instrumented, message):
    heard = Heard("otpylib.*")
    got = []

    async def handle(message, _state):
        got.append(message)

    async def session():
        await gen_server.start(server(on_call=handle, on_info=handle), None, "worker")
        await process.send("worker", message)
        await process.send("nobody", message)
        await call("worker", message)

    await in_process(session)
    assert [each is message for each in got] == [True, True]
    assert len(heard.of("otpylib.handle.success")) == 2
    assert heard.one("otpylib.message.undelivered")


async def test_an_async_handler_is_not_in_the_way_of_messages(instrumented):
    """It hangs, and it calls servers itself: what the application does takes no longer for that."""
    hangs = asyncio.Event()

    async def handle(_name, _measurements, _metadata):
        await hangs.wait()

    await attach("slow", "otpylib.*", handle)
    try:

        async def answer(_message, _state):
            return "answered"

        async def session():
            await gen_server.start(server(on_call=answer), None, "worker")
            assert [await call("worker", "ask") for _ in range(5)] == ["answered"] * 5

        await in_process(session)
    finally:
        hangs.set()
        await detach("slow")


async def test_what_somebody_else_has_put_around_ours_stays_when_it_is_instrumented_again(runtime):
    core = gen_server.core
    original = core._handle_info
    instrumentor = OtpylibInstrumentor()
    instrumentor.instrument()
    ours, seen = core._handle_info, []

    async def theirs(*arguments):
        seen.append(arguments[2])
        return await ours(*arguments)

    core._handle_info = theirs
    try:
        instrumentor.uninstrument()
        instrumentor.instrument()
        assert core._handle_info is theirs

        async def session():
            await gen_server.start(server(), None, "worker")
            await process.send("worker", "message")
            await call("worker", "end")

        await in_process(session)
        assert seen == ["message"]
    finally:
        instrumentor.uninstrument()
        core._handle_info = original


async def test_what_is_no_process_can_be_named_as_without_telemetry(instrumented):
    """otpylib takes anything for a process there."""

    async def session():
        await process.register("odd", ["no", "process"])
        await process.register("self")
        assert process.whereis("self") == process.self()
        await process.unregister("self")
        assert process.whereis("self") is None

    await in_process(session)
