"""Messages between nodes: the sender's context rides in an unused field of Erlang's distribution protocol.

That field is there in ``SEND`` and ``REG_SEND`` alone (https://www.erlang.org/doc/apps/erts/erl_dist_protocol,
"Protocol between Connected Nodes"); every receiver skips it, whether it is instrumented, or Erlang. It is a
binary: atoms would stay for ever at the other side. Links' and monitors' messages have no room, and come from
nowhere.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from otpylib.distribution.constants import CTRL_REG_SEND, CTRL_SEND
from otpylib.runtime.backends.asyncio_backend import connection
from otpylib.runtime.backends.asyncio_backend.connection import AsyncIOConnection
from otpylib.runtime.backends.asyncio_backend.node import AsyncIONode

from otpylib_telemetry.bus import context
from otpylib_telemetry.instrument.otpylib.envelope import (
    TIMER_CHAIN,
    Inbound,
    enveloped,
    inbound,
    leave_for,
    place_of_sender,
)
from otpylib_telemetry.otp import is_quiet
from otpylib_telemetry.tracing.places import place_there

if TYPE_CHECKING:
    from collections.abc import Callable

#: Where the unused field is in the control message of each type, and how many fields there are.
_UNUSED: Final = {CTRL_SEND: (1, 3), CTRL_REG_SEND: (2, 4)}

#: Longest header that is passed on; and all of them together, as they are read.
_MAX_HEADER: Final = 8192
_MAX_ALL: Final = 3 * _MAX_HEADER

_HEADERS: Final = ("traceparent", "tracestate", "baggage")

#: It goes from what was sent there, and is no part of it: see ``FAN_OUT`` in :mod:`.envelope`.
_LINKED: Final = "linked"

_send_reg_send = AsyncIOConnection.send_reg_send
_send_to_pid = AsyncIOConnection.send_to_pid
_handle_control = AsyncIONode._handle_control  # noqa: SLF001  # what an instrumentor is there for
_encode: Callable[[Any], bytes] = vars(connection)["encode"]

#: What goes into the control message that is encoded next.
_outgoing: ContextVar[bytes] = ContextVar("otpylib_telemetry_outgoing", default=b"")


async def send_reg_send(self: AsyncIOConnection, to_name: str, message: Any) -> None:
    """Send a message to a name at another node."""
    token = _outgoing.set(_written())
    try:
        await _send_reg_send(self, to_name, message)
    finally:
        _outgoing.reset(token)


async def send_to_pid(self: AsyncIOConnection, to_pid: Any, message: Any) -> None:
    """Send a message to a process at another node."""
    token = _outgoing.set(_written())
    try:
        await _send_to_pid(self, to_pid, message)
    finally:
        _outgoing.reset(token)


def encode(term: Any) -> bytes:
    """Encode a term: of a message that is sent, the first is its control message."""
    written = _outgoing.get()
    if written:
        _outgoing.set(b"")
        index, size = _UNUSED.get(term[0], (0, 0)) if type(term) is tuple and term else (0, 0)
        if index and len(term) == size:
            term = (*term[:index], written, *term[index + 1 :])
    return _encode(term)


async def handle_control(self: AsyncIONode, control: Any, payload: Any) -> None:
    """Handle what came from another node, where its sender was."""
    # Nothing stays of whoever has asked for the connection.
    leave_for(None)
    origin = _place_of_sender(control)
    if origin is not None:
        leave_for(origin)
    try:
        await _handle_control(self, control, payload)
    finally:
        if origin is not None:
            context.leave(origin)


def _written() -> bytes:
    """Return the context of the running code, as it travels; empty for none."""
    place = None if is_quiet() else place_of_sender()
    if place is None:
        return b""
    lines = []
    parent = place.parent
    if parent is not None:
        there = parent.context
        lines = [f"traceparent:{there.traceparent}", f"tracestate:{there.tracestate}"]
        if enveloped(None, place).linked:
            lines.append(_LINKED)
    lines.append(f"baggage:{place.baggage}")
    return "\n".join(line for line in lines if not line.endswith(":") and len(line) <= _MAX_HEADER).encode(
        "latin-1", "replace"
    )


def _place_of_sender(control: Any) -> Inbound | None:
    """Return the place of the sender, as the control message of a message says; None if it does not."""
    index, size = _UNUSED.get(control[0], (0, 0))
    written = control[index] if index and len(control) == size else None
    if type(written) is not bytes or not 0 < len(written) <= _MAX_ALL:
        return None
    lines = written.decode("latin-1").split("\n")
    headers = dict(line.split(":", 1) for line in lines if ":" in line)
    place = place_there({name: headers[name] for name in _HEADERS if name in headers})
    if place is None:
        return None
    origin = inbound(place)
    if _LINKED in lines:
        origin.chain = TIMER_CHAIN + 1
    return origin
