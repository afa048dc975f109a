"""What rides in the unused field of messages between nodes: bounded, and read from whoever wrote it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from otpylib.atom import ensure
from otpylib.distribution.constants import CTRL_EXIT2, CTRL_REG_SEND, CTRL_SEND
from otpylib.distribution.etf import decode
from otpylib.runtime.backends.asyncio_backend import connection
from otpylib.runtime.backends.asyncio_backend.connection import AsyncIOConnection
from otpylib.runtime.backends.asyncio_backend.node import AsyncIONode
from otpylib.runtime.backends.base import Pid

from otpylib_telemetry import current_span, extract, span, trace_context
from otpylib_telemetry.bus.context import innermost
from tests.support.actors import Heard

PID = Pid(ensure("two@127.0.0.1"), 7, 0, 1)
NAME = ensure("answerer")
TRACEPARENT = f"00-{5:032x}-{6:016x}-01"


class Writer:
    """What a connection writes to."""

    def __init__(self):
        self.packets = []

    def write(self, data):
        self.packets.append(data)

    async def drain(self):
        """Nothing to wait for."""


class Reader:
    def at_eof(self):
        return False


async def sent(send, *arguments):
    """Control message and message, as they have been written."""
    made = AsyncIOConnection("one@127.0.0.1", "two@127.0.0.1", "secret")
    made.writer, made.reader = Writer(), Reader()
    await getattr(made, send)(*arguments)
    (packet,) = made.writer.packets
    decoder = connection.ETFDecoder(bytes([131]) + packet[7:])
    return decoder.decode(), decode(bytes([131]) + packet[7:][decoder.pos - 1 :])


class Backend:
    """Notes what comes to it, and where the code is then."""

    def __init__(self):
        self.got = []

    def whereis(self, name):
        return PID

    def is_alive(self, pid):
        return True

    async def send(self, pid, message):
        self.got.append((message, current_span(), trace_context()))

    exit_remote_incoming = None


async def handled(control, message=1):
    backend = Backend()
    node = AsyncIONode("two@127.0.0.1", "secret", backend=backend)
    await node._handle_control(control, message)
    return backend.got


async def test_only_the_control_message_of_a_message_carries_the_context(instrumented):
    Heard("asking.*")
    # Looks like a control message itself.
    message = (CTRL_SEND, ensure(""), PID)
    assert await sent("send_to_pid", PID, message) == ((CTRL_SEND, ensure(""), PID), message)
    with span("asking"):
        here = current_span().traceparent.encode()
        control, got = await sent("send_to_pid", PID, message)
        assert (control, got) == ((CTRL_SEND, b"traceparent:" + here, PID), message)
        control, got = await sent("send_reg_send", "answerer", message)
        assert control[2:] == (b"traceparent:" + here, NAME)
        assert got == message
        # One that cannot be written leaves nothing for the next.
        with pytest.raises(TypeError):
            await sent("send_to_pid", PID, object())
        assert decode(connection.encode(message)) == message
    control, _ = await sent("send_to_pid", PID, message)
    assert control == (CTRL_SEND, ensure(""), PID)


@pytest.mark.parametrize("control", [(CTRL_SEND, b"", PID), (CTRL_REG_SEND, PID, b"", NAME)])
async def test_it_is_read_where_it_comes(instrumented, control):
    def with_context(text):
        return tuple(text if field == b"" else field for field in control)

    written = f"traceparent:{TRACEPARENT}\ntracestate:shop=7\nbaggage:customer=ann".encode()
    (got,) = await handled(with_context(written))
    assert got[0] == 1
    assert got[1].trace_id == f"{5:032x}"
    assert got[2]["tracestate"] == "shop=7"
    assert got[2]["baggage"] == "customer=ann"
    assert innermost.get() is None
    # Nothing stays of whoever has connected.
    with extract({"traceparent": TRACEPARENT}):
        ((_, where, _),) = await handled(with_context(ensure("")))
        assert where is None


FIELDS = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=100).map(lambda text: f"traceparent:{text}".encode()),
    st.just(b"traceparent:" + 100_000 * b"0"),
    st.just(b"baggage:" + 9_000 * b"a=b,"),
    st.integers(),
    st.none(),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.binary(), st.integers(), max_size=2),
    st.sampled_from([ensure(""), ensure("cookie"), b"linked", b"\n\n", b":", b"traceparent:\nlinked"]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=FIELDS)
async def test_whatever_stands_there_the_message_arrives(instrumented, field):
    for control in ((CTRL_SEND, field, PID), (CTRL_REG_SEND, PID, field, NAME)):
        ((got, _, _),) = await handled(control, ("message", 1))
        assert got == ("message", 1)


async def test_what_would_be_too_long_does_not_travel(instrumented):
    Heard("asking.*")
    with (
        extract({"traceparent": TRACEPARENT, "baggage": "a=" + 3_000 * "y" + ",b=" + 3_000 * "z"}),
        span("asking"),
    ):
        control, _ = await sent("send_to_pid", PID, 1)
    assert len(control[1]) < 3 * 8192
    assert b"baggage:a=yyy" in control[1]


async def test_other_control_messages_are_left_alone(instrumented):
    Heard("asking.*")
    backend = Backend()
    got = []

    async def exited(*arguments):
        got.append((*arguments, current_span()))

    backend.exit_remote_incoming = exited
    node = AsyncIONode("two@127.0.0.1", "secret", backend=backend)
    with span("asking"):
        await node._handle_control((CTRL_EXIT2, PID, PID, [], ensure("noproc")), None)
    assert got == [(PID, PID, ensure("noproc"), None)]
