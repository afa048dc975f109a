"""What otpylib-config knows and does not tell."""

from __future__ import annotations

import functools
from typing import Any

from otpylib_telemetry.otp.processes import task_of


@functools.cache
def config_manager_name() -> Any:
    """Return the name of otpylib-config's manager.

    Defect: it is registered under an Atom, which is not found under the string of the same text.
    """
    from otpylib_config import CONFIG_MANAGER  # noqa: PLC0415  # importing it is not free, and not always needed

    return CONFIG_MANAGER


def config_puts(pid: Any, section: str) -> frozenset[str] | None:
    """Return the keys of a section that somebody put into otpylib-config; None where that cannot be told.

    Defect: what was put is read like what a source says, and hides for ever what a file says later. Only the
    manager knows; its state is a variable of its loop.
    """
    task = task_of(pid)
    step: Any = None if task is None else task.get_coro()
    while step is not None:
        frame = getattr(step, "cr_frame", None)
        puts = None if frame is None else getattr(frame.f_locals.get("state"), "runtime_config", None)
        if isinstance(puts, dict):
            from otpylib_config.atoms import path_from_atom  # noqa: PLC0415  # as above

            paths = [path_from_atom(atom) for atom, value in puts.items() if value is not None]
            start = f"{section}."
            return frozenset(
                path.removeprefix(start).split(".")[0] for path in paths if path.startswith(start)
            )
        step = getattr(step, "cr_await", None)
    return None
