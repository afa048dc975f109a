"""Why a process has ended, by what otpylib knows: the name of the reason, and whether that is a crash."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from otpylib.gen_server import core as gen_server
from otpylib.gen_statem import core as gen_statem

from otpylib_telemetry.instrument.otpylib.tags import tag_of
from otpylib_telemetry.primitives import exceptions
from otpylib_telemetry.primitives.any_value import text
from otpylib_telemetry.primitives.errors import error_text
from otpylib_telemetry.tracing.parts import are_stacks_kept

#: Reasons that are no crash.
_ORDERLY: Final = frozenset({"normal", "shutdown", "supervisor_shutdown"})

#: The reason that otpylib itself gives for a server that asks to be stopped without saying why.
_STOP: Final = "stop"

#: The reason of a process whose server could not be initialised, where no exception says why.
INIT_FAILED: Final = "init_failed"

#: How much is said of an error, in characters.
_MAX_SAID: Final = 2_000

_STOPPED: Final = (gen_server.GenServerExited, gen_statem.GenStatemExited)

#: The code in which otpylib raises what ends a server that has asked for it.
_STOPPING: Final = frozenset(
    function.__code__
    for function in (
        gen_server._handle_call,  # noqa: SLF001  # what an instrumentor is there for
        gen_server._handle_cast,  # noqa: SLF001
        gen_server._handle_info,  # noqa: SLF001
        gen_server._gen_server_loop,  # noqa: SLF001
        gen_statem._gen_statem_loop,  # noqa: SLF001
    )
)


class Why(NamedTuple):
    """Why a process has ended.

    Attributes:
        reason: The name of the reason: short, and one of few.
        is_crash: Whether it is one that nobody wants.
        error: All that it says.
        error_type: The type of the exception, if that was it.
        stacktrace: Where it was raised, likewise.
    """

    reason: str
    is_crash: bool
    error: str = ""
    error_type: str = ""
    stacktrace: str = ""


def of_exception(error: BaseException) -> Why:
    """Return why a process ended whose function raised this."""
    if is_stop(error):
        name = named(error)
        return Why(_STOP, False) if name == _STOP else given(error)
    name = exceptions.short_name(type(error))
    stack = exceptions.stack_trace(error) if are_stacks_kept() else ""
    return Why(name, True, error_text(error)[:_MAX_SAID] or name, name, stack)


def given(reason: Any) -> Why:
    """Return why a process ended that somebody, or a link, has asked to end with this reason."""
    if isinstance(reason, _STOPPED) and is_stop(reason):
        return given(_STOP if reason.reason is None else reason.reason)
    if isinstance(reason, BaseException):
        name = exceptions.short_name(type(reason))
        return Why(name, True, error_text(reason)[:_MAX_SAID] or name, name)
    name = named(reason)
    return Why(name, name not in _ORDERLY, text(reason, _MAX_SAID))


def named(reason: Any) -> str:
    """Return the name of a reason."""
    if reason is None:
        return "normal"
    if is_stop(reason):
        return _STOP if reason.reason is None else named(reason.reason)
    if isinstance(reason, BaseException):
        return exceptions.short_name(type(reason))
    return tag_of(reason)


def is_stop(error: Any) -> bool:
    """Tell whether otpylib raised it because a handler had asked to be stopped, rather than the handler."""
    if not isinstance(error, _STOPPED):
        return False
    trace = exceptions.traceback_of(error)
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code in _STOPPING
