"""SIGHUP: the configuration files are read now."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.primitives.fork import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Callable


class _Ours:
    """What is installed for the signal while it is ours."""

    handler: Any = None
    #: What was there before, and is called as well.
    before: Any = None
    has_terminal = False


def reload_on_sighup(reload: Callable[[], None]) -> None:
    """Call ``reload`` when SIGHUP arrives, and then whatever handled the signal before.

    It is called between two steps of whatever runs, so it must take no lock. Where the terminal that the
    process was started from has gone, the signal means what it always meant: the process ends of it.
    """
    number = getattr(signal, "SIGHUP", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        return
    before = signal.getsignal(number)
    if before is None or _Ours.handler is not None:
        # It was set by something other than Python; or it was ours, and whoever has it now wants it.
        return

    def arrived(signum: int, frame: Any) -> None:
        if before is signal.SIG_DFL and _Ours.has_terminal and not _has_terminal():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        reload()
        if callable(before):
            before(signum, frame)

    _Ours.has_terminal = _has_terminal()
    _Ours.handler, _Ours.before = arrived, before
    signal.signal(number, arrived)


def _has_terminal() -> bool:
    """Tell whether the process has a terminal, which ends what it started by the same signal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def restore() -> None:
    """Give the signal back to whoever had it before."""
    handler, _Ours.handler = _Ours.handler, None
    number = getattr(signal, "SIGHUP", None)
    if handler is not None and number is not None and signal.getsignal(number) is handler:
        signal.signal(number, _Ours.before)


# The loops of a forked child are its parent's.
after_fork_in_child(restore)
