"""What otpylib knows of its processes and does not tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otpylib_telemetry.otp.runtimes import get_runtime

if TYPE_CHECKING:
    import asyncio


def process_record(pid: Any) -> Any:
    """Return what otpylib itself knows of a process of the present runtime; None where there is none.

    Defect: ``process_info`` tells neither what a process runs nor its mailbox.
    """
    runtime = get_runtime()
    return None if runtime is None else runtime._processes.get(pid)  # noqa: SLF001


def process_records() -> list[tuple[Any, Any]]:
    """Return what otpylib itself knows of every process of the present runtime, each with its name or None.

    To be called on the loop of the runtime. Defect: as for :func:`process_record`.
    """
    runtime = get_runtime()
    if runtime is None:
        return []
    names = {pid: name for name, pid in runtime._name_registry.items()}  # noqa: SLF001  # as above
    return [(each, each.name or names.get(pid)) for pid, each in runtime._processes.items()]  # noqa: SLF001  # as above


def timers() -> int:
    """Return how many timers of the present runtime are set. Defect: nothing public tells."""
    runtime = get_runtime()
    return 0 if runtime is None else len(runtime.timing_wheel.timer_index)


def task_of(pid: Any) -> asyncio.Task[Any] | None:
    """Return the asyncio task of a process.

    Defect: nothing tells when a process that was cancelled has finished its clean-up.
    """
    found = process_record(pid)
    return None if found is None else found.task


def whereis(name: Any) -> Any | None:
    """Return the pid registered under ``name``, or None; no runtime at all is no error."""
    runtime = get_runtime()
    return None if runtime is None else runtime.whereis(name)
