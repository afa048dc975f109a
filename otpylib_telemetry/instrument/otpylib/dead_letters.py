"""Dead letters: messages to nobody, which otpylib drops without a word."""

from __future__ import annotations

from typing import Any, Final

from otpylib.atom import Atom
from otpylib.gen_server import core as gen_server
from otpylib.gen_statem import core as gen_statem
from otpylib.runtime.backends.asyncio_backend import backend as asyncio_backend
from otpylib.runtime.backends.asyncio_backend.backend import AsyncIOBackend
from otpylib.runtime.backends.asyncio_backend.pid import Pid

from otpylib_telemetry.bus.dispatch import execute, is_listened_to
from otpylib_telemetry.instrument.otpylib import identity, life
from otpylib_telemetry.instrument.otpylib.guarding import guarded
from otpylib_telemetry.instrument.otpylib.identity import readable_name
from otpylib_telemetry.instrument.otpylib.rules import in_force
from otpylib_telemetry.instrument.otpylib.tags import tag_of
from otpylib_telemetry.otp import is_quiet
from otpylib_telemetry.primitives.any_value import text

UNDELIVERED: Final = "otpylib.message.undelivered"

#: Why nobody got a message.
NOPROC: Final = "noproc"
NO_MAILBOX: Final = "no_mailbox"
NO_DISTRIBUTION: Final = "no_distribution"
BAD_TARGET: Final = "bad_target"

#: The target where nobody knows who it was: never a pid, of which there are ever new ones.
UNKNOWN: Final = "unknown pid"

#: A caller outside of any process, who has given up by the time the answer comes.
OUTSIDE: Final = "caller outside of any process"

#: To whom otpylib itself logs, thrice a call, whether anybody is there or not.
_LOGGER: Final = asyncio_backend.LOGGER

#: What a server says that cannot be initialised.
_INIT_ERRORS: Final = frozenset(
    f"{kind}_init_error" for kind in ("gen_server", "gen_statem", "supervisor", "dynamic_supervisor", "task")
)
_INIT_ERROR_PARTS: Final = 3

#: A name at another node.
_REMOTE_PARTS: Final = 2

_ENVELOPES: Final = (
    gen_server._CallMessage,  # noqa: SLF001  # what an instrumentor is there for
    gen_server._CastMessage,  # noqa: SLF001
    gen_statem._CallMessage,  # noqa: SLF001
    gen_statem._CastMessage,  # noqa: SLF001
)

_send = AsyncIOBackend.send


async def send(self: AsyncIOBackend, target: Any, message: Any) -> None:
    """Send a message; tell of one that nobody gets.

    What is sent within a node goes the short way to the very mailbox in which otpylib would put it.
    """
    kind = type(target)
    if kind is Pid:
        if (
            type(message) is tuple
            and len(message) == _INIT_ERROR_PARTS
            and type(message[0]) is str
            and message[0] in _INIT_ERRORS
        ):
            life.note_failed_init(message[1], message[2])
        # A process of another node, or from before this one had its name, is otpylib's business.
        pid = target if target.node is self.pid_allocator.node_atom else None
    elif kind is Atom or kind is str:
        pid = self._name_registry.get(target)
        if pid is None:
            if target is not _LOGGER:
                _tell(self, target, message)
            return
    else:
        pid = None
    record = None if pid is None else self._processes.get(pid)
    if record is not None and record.mailbox is not None:
        await record.mailbox.send(message)
        self._stats["messages_sent"] += 1
        return
    sent = self._stats["messages_sent"]
    await _send(self, target, message)
    if self._stats["messages_sent"] == sent and target is not _LOGGER:
        _tell(self, target, message)


@guarded
def _tell(backend: AsyncIOBackend, target: Any, message: Any) -> None:
    """Tell of a message that nobody has got."""
    if not is_listened_to(UNDELIVERED) or is_quiet():
        return
    sender = identity.own()
    if sender is not None and sender.ours:
        return
    server, module = ("", "") if sender is None else (sender.server, sender.module)
    name, reason = _nobody(backend, target)
    tag = tag_of(message.payload if isinstance(message, _ENVELOPES) else message)
    rules = in_force.rules
    if rules.sees_server(name, server, module) and rules.sees_message(tag):
        told = {"target": name, "server": server, "module": module, "message": tag, "reason": reason}
        execute(UNDELIVERED, {"count": 1}, told)


def _nobody(backend: AsyncIOBackend, target: Any) -> tuple[str, str]:
    """Return to whom a message was sent, as far as that is known, and why nobody got it."""
    if isinstance(target, Pid):
        if not backend._is_local_pid(target):  # noqa: SLF001
            return UNKNOWN, NO_DISTRIBUTION
        found = identity.of(target)
        if found is not None:
            return found.server, NO_MAILBOX
        dead = life.name_of_the_dead(target) or UNKNOWN
        # A call from outside of any process is made by one that otpylib starts for it.
        return (OUTSIDE if dead.endswith(".bridge_process") else dead), NOPROC
    if isinstance(target, str | Atom):
        return readable_name(target), NO_MAILBOX if backend.whereis(target) else NOPROC
    if isinstance(target, tuple) and len(target) == _REMOTE_PARTS:
        return readable_name(text(target[0])), NO_DISTRIBUTION
    return type(target).__name__, BAD_TARGET
