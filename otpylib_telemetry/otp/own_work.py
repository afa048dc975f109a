"""What runs for telemetry itself, of which telemetry does not tell."""

from __future__ import annotations

import contextvars

#: Whether what runs is telemetry's own work, of which telemetry does not tell.
_quiet: contextvars.ContextVar[bool] = contextvars.ContextVar("otpylib_telemetry_quiet", default=False)


def be_quiet() -> None:
    """Say that what runs in this context from now on is telemetry's own work."""
    _quiet.set(True)


def is_quiet() -> bool:
    """Tell whether what runs is telemetry's own work, of which telemetry does not tell."""
    return _quiet.get()


#: Whether what runs is a process of telemetry, or was begun by one.
OWN_PROCESS: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "otpylib_telemetry_own_process", default=False
)


def is_own_process() -> bool:
    """Tell whether what runs is a process of telemetry; its tasks in the background are none."""
    return OWN_PROCESS.get()
