"""With the OpenTelemetry API bridged, actors are in its context as they are in ours."""

import asyncio

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as api_context
from otpylib import gen_server, gen_statem, process

from otpylib_telemetry import current_span, span, trace_context
from otpylib_telemetry.bus import table
from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor
from otpylib_telemetry.instrument.otpylib.rules import Rules, put_in_force
from tests.support.actors import PATIENCE, Heard, call, server
from tests.support.machines import machine
from tests.support.runtime import in_process
from tests.support.telemetry_service import tracer

WAYS = ["call", "cast", "send", "send_after"]


@pytest.fixture
def instrumented(receiver):
    """Actors seen, with the service up."""
    instrumentor = OtpylibInstrumentor()
    instrumentor.instrument()
    yield receiver
    instrumentor.uninstrument()
    put_in_force(Rules())
    table.remove("heard")


async def send(way, target, message):
    if way == "call":
        await gen_server.call(target, message, timeout=PATIENCE)
    elif way == "cast":
        await gen_server.cast(target, message)
    elif way == "send":
        await process.send(target, message)
    else:
        await process.send_after(0.01, target, message)


def theirs():
    """Trace and span of the API's current span; None for none."""
    found = trace.get_current_span().get_span_context()
    return (f"{found.trace_id:032x}", f"{found.span_id:016x}") if found.is_valid else None


class Probe:
    """A handler that notes in which context it was called."""

    def __init__(self):
        self.seen = []

    async def on_message(self, message, _state):
        here = current_span()
        ours = None if here is None else (here.trace_id, here.span_id)
        self.seen.append((message, theirs(), ours, dict(baggage.get_all())))

    async def on_event(self, _type, content, _state, _data):
        await self.on_message(content, None)

    async def wait(self, count):
        async with asyncio.timeout(PATIENCE):
            while len(self.seen) < count:
                await asyncio.sleep(0.005)
        return self.seen

    def server(self):
        return server(on_call=self.on_message, on_cast=self.on_message, on_info=self.on_message)


@pytest.mark.parametrize("way", WAYS)
async def test_a_handlers_current_span_is_its_own_operation_and_a_child_of_the_api_span(instrumented, way):
    heard, probe = Heard("otpylib.*"), Probe()
    parent = {}

    async def session():
        await gen_server.start(probe.server(), None, "worker")
        with tracer().start_as_current_span("asking"):
            parent["span"] = theirs()
            await send(way, "worker", "message")
            assert theirs() == parent["span"]

    await in_process(session)
    ((_, api, ours, _),) = await probe.wait(1)
    handled = await heard.wait_for("otpylib.handle.success", message="message")
    assert api == ours == (handled["trace_id"], handled["span_id"])
    above = handled["parent_span_id"]
    if way == "call":
        called = heard.one("otpylib.call.success")
        assert above == called["span_id"]
        above = called["parent_span_id"]
    assert (handled["trace_id"], above) == parent["span"]


async def test_a_span_of_the_api_in_a_handler_is_its_child_and_the_parent_of_what_is_sent_there(instrumented):
    heard, probe, inner = Heard("otpylib.*"), Probe(), []

    async def relay(message, _state):
        with tracer().start_as_current_span("inner"):
            inner.append((trace.get_current_span().parent.span_id, theirs()))
            await process.send("worker", message)

    async def session():
        await gen_server.start(probe.server(), None, "worker")
        await gen_server.start(server("Relay", on_cast=relay), None, "relay")
        await gen_server.cast("relay", "message")

    await in_process(session)
    await probe.wait(1)
    relayed = await heard.wait_for("otpylib.handle.success", server="relay")
    handled = await heard.wait_for("otpylib.handle.success", server="worker")
    ((parent, (trace_id, span_id)),) = inner
    assert f"{parent:016x}" == relayed["span_id"]
    assert (handled["trace_id"], handled["parent_span_id"]) == (trace_id, span_id)


@pytest.mark.parametrize("kind", ["server", "machine", "loop"])
@pytest.mark.parametrize("listens", [True, False], ids=["recorded", "left out"])
async def test_a_process_begun_in_an_api_span_does_not_keep_it(instrumented, kind, listens):
    """Nor its baggage; and each message is handled where it was sent, in the API's context, too."""
    if not listens:
        put_in_force(Rules(exclude=("worker",)))
    probe = Probe()

    async def loop():
        await probe.on_message("begun", None)
        while True:
            await probe.on_message(await process.receive(), None)

    async def session():
        traces = {}
        with tracer().start_as_current_span("start"):
            token = api_context.attach(baggage.set_baggage("customer", "starter"))
            if kind == "server":
                await gen_server.start(probe.server(), None, "worker")
            elif kind == "machine":
                await gen_statem.start(machine(handle=probe.on_event), None, "worker")
            else:
                await process.spawn(loop, name="worker", mailbox=True)
                await probe.wait(1)
            api_context.detach(token)
            traces["begun"] = theirs()
        await process.send("worker", "none")
        with tracer().start_as_current_span("one"):
            traces["one"] = theirs()
            token = api_context.attach(baggage.set_baggage("customer", "ann"))
            await process.send("worker", "one")
            api_context.detach(token)
        await process.send("worker", "none again")
        with span("two"):
            traces["two"] = theirs()
            await process.send("worker", "two")
        await process.send("worker", "last")
        return traces

    traces = await in_process(session)
    seen = {message: rest for message, *rest in await probe.wait(6 if kind == "loop" else 5)}
    started = traces.pop("begun")[0]
    if kind == "loop":
        assert seen["begun"][0][0] == started
        assert seen["begun"][2] == {"customer": "starter"}
    for message, (trace_id, span_id) in traces.items():
        api, ours, _ = seen[message]
        assert api == ours
        assert api[0] == trace_id
        if kind == "loop" or not listens:
            assert api[1] == span_id
    assert seen["one"][2] == {"customer": "ann"}
    others = {trace_id for trace_id, _ in traces.values()} | {started}
    for message in ("none", "none again", "last"):
        api, ours, carried = seen[message]
        assert api == ours
        assert carried == {}
        assert api is None or api[0] not in others
        assert (api is not None) is (listens and kind != "loop")


async def test_a_loop_inside_a_span_of_its_own_stays_there(instrumented):
    seen = []

    async def loop():
        with tracer().start_as_current_span("own"):
            own = theirs()
            await process.receive()
            seen.append(theirs() == own)
        await process.receive()
        seen.append((theirs(), current_span().trace_id))

    async def session():
        pid = await process.spawn(loop, mailbox=True)
        with span("asking"):
            await process.send(pid, "one")
            await process.send(pid, "two")
            return current_span()

    where = await in_process(session)
    async with asyncio.timeout(PATIENCE):
        while len(seen) < 2:
            await asyncio.sleep(0.005)
    assert seen == [True, ((where.trace_id, where.span_id), where.trace_id)]


async def test_timers_are_not_where_the_runtime_was_started(instrumented):
    """A timer set in no context fires in none, whatever was current when the runtime began."""
    probe = Probe()

    async def session(backend):
        await gen_server.start(probe.server(), None, "worker")
        backend._wheel_task.cancel()
        with tracer().start_as_current_span("booting"):
            backend._wheel_task = asyncio.create_task(backend._run_timing_wheel())
        await process.send_after(0.01, "worker", "later")

    from otpylib.runtime import get_runtime  # noqa: PLC0415

    heard = Heard("otpylib.handle.*")
    await in_process(session, get_runtime())
    await probe.wait(1)
    assert (await heard.wait_for("otpylib.handle.success", message="later"))["parent_span_id"] is None


async def test_baggage_goes_on_without_a_trace(instrumented):
    probe = Probe()

    async def session():
        await gen_server.start(probe.server(), None, "worker")
        token = api_context.attach(baggage.set_baggage("customer", "ann"))
        await call("worker", "one")
        await process.spawn(noting, mailbox=True)
        api_context.detach(token)
        await call("worker", "two")

    async def noting():
        await probe.on_message("spawned", None)
        probe.seen.append(trace_context().get("baggage"))

    await in_process(session)
    seen = await probe.wait(4)
    carried = {entry[0]: entry[3] for entry in seen if isinstance(entry, tuple)}
    assert carried == {"one": {"customer": "ann"}, "two": {}, "spawned": {"customer": "ann"}}
    assert "customer=ann" in seen
