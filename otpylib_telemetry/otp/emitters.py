"""Who emits, whether it still runs, and why it has ended."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from otpylib.runtime.backends.asyncio_backend import backend as _backend

from otpylib_telemetry.otp.runtimes import reachable_runtimes

if TYPE_CHECKING:
    from collections.abc import Callable

CURRENT_PROCESS = _backend._current_process  # noqa: SLF001  # see current_emitter

#: Returns the pid of the running otpylib process, None outside of any: a part of :func:`current_emitter`, for
#: whoever has to save the call.
current_process = CURRENT_PROCESS.get


def current_emitter(
    _process: Callable[[], Any] = current_process, _thread: Callable[[], int] = threading.get_ident
) -> object:
    """Return who is emitting: the pid of the running otpylib process, or else the thread's identifier.

    No defect but a cost: ``process.self()`` says the same through two calls and a global, which is ten times
    as much on the one path where that counts.
    """
    return _process() or _thread()


#: How many processes are remembered after their end.
_MAX_ENDED = 4_096

_reasons: dict[Any, str] = {}


def note_end(pid: Any, reason: str | None) -> None:
    """Remember why a process has ended, for whoever finds something of it left open; None: it begins."""
    if reason is None:
        # Another runtime has given out the same.
        _reasons.pop(pid, None)
        return
    if len(_reasons) >= _MAX_ENDED:
        _reasons.pop(next(iter(_reasons)), None)
    _reasons[pid] = reason


def reason_of_end(emitter: object) -> str | None:
    """Return why a process has ended; None where nobody has told."""
    try:
        return _reasons.get(emitter)
    except TypeError:  # no process, and nothing that can be looked up
        return None


def is_running(emitter: object) -> bool:
    """Tell whether an ``emitter`` may still emit; a thread is always taken to be alive."""
    if isinstance(emitter, int):
        return True
    for runtime in reachable_runtimes():
        found = runtime._processes.get(emitter)  # noqa: SLF001  # as for OwnProcess
        # The very same: another runtime gives out equal pids.
        if found is not None and found.pid is emitter:
            return True
    return False
