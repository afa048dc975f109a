"""The orderly end of a process, whichever way it comes: what has to be done while there are threads still.

An interpreter that exits runs what ``atexit`` was given. A child of ``multiprocessing`` does not: it runs its
own finalizers and leaves with ``os._exit``, as the children of celery's pool do after their own signal. Here
is the one list of what has to be done in any of these cases.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any, ClassVar, Final

from otpylib_telemetry.primitives.fork import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Callable


_log = logging.getLogger("otpylib_telemetry")

#: After everybody else's finalizers, which may have something to say.
_LAST: Final = -100

_steps: list[Callable[[], object]] = []


class _Told:
    """Who tells this process of its end, besides ``atexit``; and whether it is under way."""

    by_multiprocessing: ClassVar[bool] = False
    children: ClassVar[bool] = False
    ending: ClassVar[bool] = False


def before_process_ends(step: Callable[[], object]) -> None:
    """Have a function called at the orderly end of this process and of every child of it.

    Those that were named last are called first. It may happen more than once, and while other threads run.
    """
    _steps.append(step)


def expect_process_end() -> None:
    """Be told of the end of this process, however it ends; to be called where there is something to lose."""
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None and not _Told.by_multiprocessing:
        _Told.by_multiprocessing = True
        util.Finalize(None, _end_child, exitpriority=_LAST)
    if util is not None and not _Told.children:
        # A child forgets all finalizers when it begins, which may be after this; so it asks once more.
        _Told.children = True
        util.register_after_fork(_expect_again, _call)
    signals: Any = sys.modules.get("celery.signals")
    if signals is not None:
        signals.worker_process_shutdown.connect(_end, weak=False, dispatch_uid=__name__)


def is_ending() -> bool:
    """Tell whether the process ends: its main thread has ended, however long others go on.

    From then on executors take no work, and from Python 3.12 on no thread can be started.
    """
    return _Told.ending


def _expect_again() -> None:
    _Told.by_multiprocessing = False
    expect_process_end()


def _call(function: Callable[[], object]) -> None:
    function()


def _end_child() -> None:
    """End a child of multiprocessing: once its other threads have ended, which it waits for itself."""
    mine = (threading.current_thread(), threading.main_thread())
    others = [each for each in threading.enumerate() if not each.daemon and each not in mine]
    if others:
        with contextlib.suppress(RuntimeError):  # from Python 3.12 on, when the interpreter exits itself
            threading.Thread(
                target=_end_after, args=(others,), name="otpylib-telemetry", daemon=False
            ).start()
            return
    _end()


def _end_after(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join()
    _end()


def _begin_to_end() -> None:
    _Told.ending = True


def end_process() -> None:
    """Do now what has to be done before this process ends."""
    for step in reversed(_steps):
        try:
            step()
        except Exception:  # noqa: BLE001  # whatever it is, the others have their turn
            _log.exception("What had to be done before the process ends failed; it ends all the same")


@atexit.register
def _end(**_signal: object) -> None:
    _begin_to_end()
    end_process()


def _after_fork() -> None:
    _Told.by_multiprocessing = _Told.ending = False


after_fork_in_child(_after_fork)
# Those of threading are called the other way round, and before those of atexit: so this one comes before the
# one by which executors end, if that is there already.
importlib.import_module("concurrent.futures.thread")
with contextlib.suppress(RuntimeError):  # where this is imported by an interpreter that exits
    threading._register_atexit(_begin_to_end)  # type: ignore[attr-defined]  # noqa: SLF001  # nothing else is as early
