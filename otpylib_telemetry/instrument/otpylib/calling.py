"""Calls, on the side of the caller: how long the answer took, and what became of it."""

from __future__ import annotations

from contextvars import ContextVar
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

from otpylib import process
from otpylib.atom import Atom
from otpylib.gen_server import core as gen_server
from otpylib.gen_statem import core as gen_statem

from otpylib_telemetry.bus.dispatch import call
from otpylib_telemetry.instrument.otpylib import identity
from otpylib_telemetry.instrument.otpylib.envelope import place_of_sender
from otpylib_telemetry.instrument.otpylib.guarding import guarded
from otpylib_telemetry.instrument.otpylib.identity import readable_name
from otpylib_telemetry.instrument.otpylib.mailbox import awaiting_answer
from otpylib_telemetry.instrument.otpylib.rules import in_force
from otpylib_telemetry.instrument.otpylib.tags import tag_of
from otpylib_telemetry.otp import current_emitter, is_quiet
from otpylib_telemetry.tracing import record
from otpylib_telemetry.tracing.places import enter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: The operation of a call, at the caller.
CALLING: Final = "otpylib.call"

#: Whether the call is told of already, by whoever has it made by a process of its own.
_told: ContextVar[bool] = ContextVar("otpylib_telemetry_call_told", default=False)


def around(make_call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return what makes a call from inside a process, and tells of it."""

    async def call_from_process(
        target: Any,
        payload: Any,
        timeout: float | None,  # noqa: ASYNC109  # otpylib's own name
        call_id: str,
        caller_pid: Any,
    ) -> Any:
        token = awaiting_answer.set(True)
        try:
            if _told.get():
                return await make_call(target, payload, timeout, call_id, caller_pid)
            return await _told_of(make_call, target, payload, timeout, call_id, caller_pid)
        finally:
            awaiting_answer.reset(token)

    return call_from_process


def around_outside(make_call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return what makes a call from outside of any process, and tells of it."""

    async def call_from_outside_process(
        target: Any,
        payload: Any,
        timeout: float | None,  # noqa: ASYNC109  # otpylib's own name
        call_id: str,
    ) -> Any:
        # It is made by a process of its own, begun in this context.
        token = _told.set(True)
        try:
            return await _told_of(make_call, target, payload, timeout, call_id)
        finally:
            _told.reset(token)

    return call_from_outside_process


async def _told_of(make_call: Callable[..., Awaitable[Any]], target: Any, payload: Any, *rest: Any) -> Any:
    route = record.route_of(CALLING)
    if route is None or is_quiet():
        return await make_call(target, payload, *rest)
    metadata = _metadata(target, payload)
    if metadata is None:
        return await make_call(target, payload, *rest)
    operation = record.begin(route, CALLING, metadata, place_of_sender(), current_emitter())
    enter(operation)
    operation.at_ns = monotonic_ns()
    if route.begin_logged:
        record.logged(operation)
    try:
        if route.begins:
            call(route.begins, *operation.start_event())
        answer = await make_call(target, payload, *rest)
    except BaseException as error:
        ended = record.end(operation, error)
        if ended:
            call(ended, *operation.end_event())
        raise
    ended = record.end(operation)
    if ended:
        call(ended, *operation.end_event())
    return answer


@guarded
def _metadata(target: Any, payload: Any) -> dict[str, Any] | None:
    """Return the metadata of a call; None for one that is not recorded."""
    tag = tag_of(payload)
    pid = process.whereis(target) if isinstance(target, str | Atom) else target
    found = None if pid is None else identity.of(pid)
    if found is not None:
        return found.called(tag)
    server = readable_name(target)
    rules = in_force.rules
    if rules.sees_server(server, "") and rules.sees_message(tag):
        return {"server": server, "module": "", "message": tag}
    return None


call_from_process = around(gen_server._call_from_process)  # noqa: SLF001  # what an instrumentor is there for
call_from_outside = around_outside(gen_server._call_from_outside_process)  # noqa: SLF001
statem_call_from_process = around(gen_statem._call_from_process)  # noqa: SLF001
statem_call_from_outside = around_outside(gen_statem._call_from_outside_process)  # noqa: SLF001
