"""Life: processes that begin, end and crash, and names that go over to another process."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

from otpylib.runtime.atoms import KILLED, NORMAL, SHUTDOWN
from otpylib.runtime.backends.asyncio_backend import backend as asyncio_backend
from otpylib.runtime.backends.asyncio_backend.backend import AsyncIOBackend

from otpylib_telemetry.bus.dispatch import execute, is_listened_to
from otpylib_telemetry.instrument.otpylib import aloud, gauges, identity, reasons, recorder
from otpylib_telemetry.instrument.otpylib.guarding import guarded
from otpylib_telemetry.instrument.otpylib.identity import NOT_ASKED, Identity
from otpylib_telemetry.otp import current_process, note_end

if TYPE_CHECKING:
    from otpylib_telemetry.instrument.otpylib.reasons import Why

SPAWNED: Final = "otpylib.process.spawned"
EXITED: Final = "otpylib.process.exited"
CRASHED: Final = "otpylib.process.crashed"
TAKEN_OVER: Final = "otpylib.name.taken_over"

#: How many processes are remembered after their end.
_MAX_DEAD: Final = 4_096

#: What ended last was called so.
_dead: dict[Any, str] = {}

_exit = AsyncIOBackend.exit
_notify_exit = AsyncIOBackend._notify_exit  # noqa: SLF001  # what an instrumentor is there for
_handle_process_exit = AsyncIOBackend._handle_process_exit  # noqa: SLF001
_cleanup_process = AsyncIOBackend._cleanup_process  # noqa: SLF001


async def exit_(self: AsyncIOBackend, pid: Any, reason: Any) -> None:
    """Send an exit signal to a process, and remember its reason, which otpylib forgets."""
    _note_exit(self, pid, reason)
    await _exit(self, pid, reason)


async def notify_exit(self: AsyncIOBackend, pid: Any, reason: Any, visited: Any = None) -> None:
    """Tell those who are linked to a process, or monitor it; some of them end for the same reason."""
    _note_cascade(self, pid, reason)
    await _notify_exit(self, pid, reason, visited)


async def handle_process_exit(self: AsyncIOBackend, pid: Any, reason: Any) -> None:
    """Tell that a process has ended, where it was; then tell those who want to know."""
    _note_end(self, pid, reason)
    await _handle_process_exit(self, pid, reason)


@guarded
def _note_exit(backend: AsyncIOBackend, pid: Any, reason: Any) -> None:
    record = _record(backend, backend._name_registry.get(pid) if isinstance(pid, str) else pid)  # noqa: SLF001
    if record is not None and (reason == KILLED or not (record.trap_exits and record.mailbox)):
        _asked(record, reason)


@guarded
def _note_cascade(backend: AsyncIOBackend, pid: Any, reason: Any) -> None:
    record = _record(backend, pid)
    # Who traps exits goes on.
    if record is not None and record.task is not None and record.task.cancelling():
        _asked(record, reason)


@guarded
def _note_end(backend: AsyncIOBackend, pid: Any, reason: Any) -> None:
    found = identity.known.get(pid)
    record = _record(backend, pid)
    if record is not None:
        found = identity.met(record, record.name)
    if found is not None and found.pid is pid:
        _ended(found, _why(found, reason), pid, reason)


def cleanup_process(self: AsyncIOBackend, pid: Any) -> None:
    """Forget a process that has ended."""
    record = _record(self, pid)
    _cleanup_process(self, pid)
    if record is not None:
        _forget(record)


@guarded
def _forget(record: Any) -> None:
    found = identity.known.get(record.pid)
    if found is not None and record.mailbox is not None:
        gauges.deepest.note(found.server, vars(record.mailbox.queue).get("deepest", 0))
    # One that was killed is cleaned up before it has ended.
    if found is not None and (found.ended or found.asked is NOT_ASKED):
        identity.forget(record)


@guarded
def begun(backend: AsyncIOBackend, pid: Any, name: Any, before: Any, *, linked: bool) -> None:
    """Tell that a process begins; ``before`` is who had its name."""
    record = backend._processes.get(pid)  # noqa: SLF001
    if record is None:
        return
    found = identity.met(record, name)
    note_end(pid, None)
    if not found.seen:
        return
    if is_listened_to(SPAWNED):
        told = found.told({"pid": str(pid), "linked": linked})
        execute(SPAWNED, {"count": 1}, told)
    if before is not None and backend.is_alive(before) and is_listened_to(TAKEN_OVER):
        old = identity.of(before)
        told = {"name": found.server, "pid": str(pid), "module": found.module, "old_pid": str(before)}
        if old is not None:
            told["old_module"] = old.module
        execute(TAKEN_OVER, {"count": 1}, told)


@guarded
def note_failed_init(pid: Any, said: Any) -> None:
    """Take notice that a server could not be initialised, of which otpylib makes an orderly end."""
    found = identity.of(pid)
    if found is not None and pid is current_process():
        found.failed = sys.exception() or said


def reason_to_end(found: Identity | None) -> str:
    """Return the name of the reason with which a process was asked to end; empty where it was not."""
    return "" if found is None or found.asked is NOT_ASKED else reasons.named(found.asked)


def name_of_the_dead(pid: Any) -> str | None:
    """Return what a process was called that has ended; None where that is not known."""
    return _dead.get(pid)


def _record(backend: AsyncIOBackend, pid: Any) -> Any:
    try:
        return backend._processes.get(pid)  # noqa: SLF001
    except TypeError:  # no pid at all
        return None


def _asked(record: Any, reason: Any) -> None:
    """Remember why a process is to end."""
    task = record.task
    if task is None or task.done():
        return
    found = identity.met(record, record.name)
    if found.asked is NOT_ASKED:
        # It may never have begun, and then says nothing itself.
        task.add_done_callback(functools.partial(_over, found, record), context=contextvars.Context())
    elif reasons.given(found.asked).is_crash or not reasons.given(reason).is_crash:
        return
    found.asked = reason
    found.asked_ns = monotonic_ns()


def _over(found: Identity, record: Any, _task: asyncio.Task[Any]) -> None:
    """Take notice that the task of a process that was asked to end is over."""
    _ended(found, reasons.given(found.asked), found.pid)
    identity.forget(record)


def _why(found: Identity, outcome: Any) -> Why:
    """Return why a process has ended, by what became of its function."""
    if isinstance(outcome, BaseException):
        return reasons.of_exception(outcome)
    if found.asked is not NOT_ASKED:
        # Whether it lets itself be cancelled or comes to an end of its own: all who watch it were told this.
        return reasons.given(found.asked)
    if outcome == SHUTDOWN:
        task = asyncio.current_task()
        if task is not None and not task.cancelling():
            # Nobody has asked for it: it leaked, and no supervisor will notice.
            return reasons.of_exception(asyncio.CancelledError("raised by the process itself"))
    elif outcome == NORMAL and found.failed is not None:
        if isinstance(found.failed, BaseException):
            return reasons.of_exception(found.failed)
        return reasons.given(reasons.INIT_FAILED)._replace(error=str(found.failed))
    return reasons.given(outcome)


def _ended(found: Identity, why: Why, pid: Any, outcome: object = None) -> None:
    """Tell that a process has ended, once."""
    if found.ended:
        return
    found.ended = True
    if len(_dead) >= _MAX_DEAD:
        _dead.pop(next(iter(_dead)), None)
    _dead[pid] = found.server
    note_end(pid, why.reason)
    # What is left out as noise still must not crash unnoticed.
    if found.ours or not (found.seen or why.is_crash):
        found.forget_recent()
        return
    measured = {"count": 1, "lifetime_ms": (monotonic_ns() - found.began_ns) / 1e6}
    told = found.told({"pid": str(pid), "reason": why.reason})
    # otpylib has it be its maker by now.
    token = asyncio_backend._current_process.set(pid)  # noqa: SLF001
    try:
        if why.is_crash and is_listened_to(CRASHED):
            crash = {**told, **_details(why), **recorder.told(found, outcome)}
            kind = why.error_type or why.reason
            said = f"{found.server} has crashed: {kind}: {why.error}".removesuffix(f": {kind}")
            aloud.tell(CRASHED, dict(measured), crash, said)
        if found.seen:
            execute(EXITED, measured, told)
    finally:
        asyncio_backend._current_process.reset(token)  # noqa: SLF001
        found.forget_recent()


def _details(why: Why) -> dict[str, Any]:
    found = {"error": why.error, "error_type": why.error_type, "stacktrace": why.stacktrace}
    return {key: value for key, value in found.items() if value}
