"""Supervisors: children that are started again, that cannot be, and supervisors that give up."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib.dynamic_supervisor import core as dynamic_supervisor
from otpylib.supervisor import core as supervisor

from otpylib_telemetry.bus.dispatch import execute
from otpylib_telemetry.instrument.otpylib import aloud, identity, reasons
from otpylib_telemetry.instrument.otpylib.guarding import guarded
from otpylib_telemetry.instrument.otpylib.identity import readable_name
from otpylib_telemetry.otp import current_process
from otpylib_telemetry.primitives import exceptions
from otpylib_telemetry.primitives.errors import error_text

if TYPE_CHECKING:
    from collections.abc import Mapping

RESTARTED: Final = "otpylib.supervisor.restarted"
RESTART_FAILED: Final = "otpylib.supervisor.restart_failed"
GAVE_UP: Final = "otpylib.supervisor.gave_up"
CHILD_STARTED: Final = "otpylib.supervisor.child_started"
CHILD_STOPPED: Final = "otpylib.supervisor.child_stopped"

#: What the log records of those events say that are log records.
_SAID: Final = {
    RESTART_FAILED: "{supervisor} could not start {child} again, which stays dead: {error}",
    GAVE_UP: "{supervisor} gives up, and ends: {child} has ended too often or could not be started again",
}

#: How much is said of an error, in characters.
_MAX_SAID: Final = 2_000


class _Exit(NamedTuple):
    """The end of a child that a supervisor is dealing with.

    Attributes:
        supervisor: Its pid: a process that it starts meanwhile begins with the same context.
        reason: Why the child has ended.
        strategy: What the supervisor does about it.
        state: All of a dynamic supervisor; None of a static one.
        child: The child that has ended.
    """

    supervisor: Any
    reason: str
    strategy: Any
    state: Any
    child: Any


_exit: ContextVar[_Exit | None] = ContextVar("otpylib_telemetry_child_exit", default=None)

_handle_child_exit = supervisor._handle_child_exit  # noqa: SLF001  # what an instrumentor is there for
_restart_child = supervisor._restart_child  # noqa: SLF001
_handle_dynamic_exit = dynamic_supervisor._handle_child_exit  # noqa: SLF001
_start_dynamic = dynamic_supervisor._start_child  # noqa: SLF001
_handle_add_child = dynamic_supervisor._handle_add_child  # noqa: SLF001


async def handle_child_exit(children: Any, dead_id: Any, reason: Any, strategy: Any, *rest: Any) -> None:
    """Deal with the end of a child of a static supervisor."""
    named = reasons.named(reason)
    token = _exit.set(_Exit(current_process(), named, strategy, None, children.get(dead_id)))
    try:
        await _handle_child_exit(children, dead_id, reason, strategy, *rest)
    finally:
        _exit.reset(token)


async def restart_child(child: Any, times: Any, max_restarts: int, max_seconds: float) -> None:
    """Start a child of a static supervisor again, unless that was done too often."""
    try:
        await _restart_child(child, times, max_restarts, max_seconds)
    except supervisor._IntensityExceeded:  # noqa: SLF001
        # The last one counted was not made.
        _tell(GAVE_UP, child, {"restarts_left": 0}, {"restarts": len(times) - 1})
        raise
    except Exception as error:
        _tell(RESTART_FAILED, child, _left(max_restarts, times), {"restarts": len(times), **_said(error)})
        raise
    _tell(RESTARTED, child, _left(max_restarts, times), {"restarts": len(times)})


async def handle_dynamic_exit(state: Any, child_id: Any, reason: Any) -> None:
    """Deal with the end of a child of a dynamic supervisor."""
    child = state.children.get(child_id)
    named = reasons.named(reason)
    token = _exit.set(_Exit(current_process(), named, state.opts.strategy, state, child))
    try:
        await _handle_dynamic_exit(state, child_id, reason)
        if child is not None and child.is_dynamic and child_id not in state.children:
            _tell(CHILD_STOPPED, child, {})
    except RuntimeError:
        # It ends with this, even where that is the error of a child that could not be started.
        if child is not None:
            restarts = min(len(child.failure_times), state.opts.max_restarts)
            _tell(GAVE_UP, child, {"restarts_left": 0}, {"restarts": restarts})
        raise
    finally:
        _exit.reset(token)


async def start_dynamic(child: Any) -> None:
    """Start a child of a dynamic supervisor, for the first time or again."""
    now = _exit.get()
    if now is None or now.state is None or now.supervisor is not current_process():
        await _start_dynamic(child)
        return
    # The failures of the child that has ended are what is counted, whoever is started again because of it.
    times, most = now.child.failure_times, now.state.opts.max_restarts
    try:
        await _start_dynamic(child)
    except Exception as error:
        _tell(RESTART_FAILED, child, _left(most, times), {"restarts": len(times), **_said(error)})
        raise
    _tell(RESTARTED, child, _left(most, times), {"restarts": len(times)})


async def handle_add_child(state: Any, spec: Any, reply_to: Any) -> None:
    """Add a child to a dynamic supervisor."""
    before = dict(state.children)
    await _handle_add_child(state, spec, reply_to)
    added = state.children.get(getattr(spec, "id", None))
    if added is not None and before.get(spec.id) is not added:
        _tell(CHILD_STARTED, added, {})


def _left(most: int, times: Any) -> dict[str, int]:
    """Return how many restarts are left at once, before the supervisor gives up."""
    return {"restarts_left": max(0, most - len(times))}


def _said(error: Exception) -> dict[str, str]:
    name = exceptions.short_name(type(error))
    return {"error": error_text(error)[:_MAX_SAID] or name, "error_type": name}


@guarded
def _tell(event: str, child: Any, measured: Mapping[str, int], more: Mapping[str, Any] = {}) -> None:
    """Tell what the running supervisor did with a child."""
    own = identity.own()
    spec = child.spec
    name = readable_name(spec.id)
    module = getattr(spec.module, "__name__", type(spec.module).__name__)
    if (own is not None and own.ours) or identity.is_ours(spec.module):
        return
    supervised = "" if own is None else own.server
    told = {"supervisor": supervised, "child": name, "module": module, "pid": str(child.pid), **more}
    now = _exit.get()
    if now is not None and now.supervisor is current_process():
        told["reason"] = now.reason
        told["strategy"] = readable_name(now.strategy)
    said = _SAID.get(event)
    if said is None:
        execute(event, {"count": 1, **measured}, told)
    else:
        aloud.tell(event, {"count": 1, **measured}, told, said.format_map({"error": "", **told}))
