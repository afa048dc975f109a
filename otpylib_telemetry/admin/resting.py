"""Services that do not run because nothing is set for them: tried without them, and started for a change."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry import otp
from otpylib_telemetry.admin.processes import PATIENCE, Process
from otpylib_telemetry.config import transactions
from otpylib_telemetry.config.history import History
from otpylib_telemetry.config.live import LiveConfig
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.services import starting

if TYPE_CHECKING:
    from collections.abc import Mapping

_POLL: Final = 0.02


def services() -> list[Process]:
    """Return the services that do not run, but would with a change."""
    found = [Process(each.registered_name, each.section, False) for each in starting.registered().values()]
    return [each for each in found if rests(each)] if registry.running() else []


def rests(process: Process) -> bool:
    """Tell whether a process is a service that does not run."""
    return not process.is_exporter and otp.whereis(process.name) is None


async def attempt(process: Process, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the service would answer to ``try_config``, were it there."""
    module = await starting.registered()[process.short].load_in_thread()
    live = LiveConfig(module.settings_type, process.section, {}, os.environ, history=History())
    tried = transactions.attempt(live, changes)
    return {
        "valid": not tried.problems,
        "problems": [live.scrub(text) for text in tried.problems],
        "changes": {} if tried.problems else tried.changes,
        "effects": [] if tried.problems else [f"{process.name} does not run so far, and is started"],
    }


async def start(process: Process) -> None:
    """Have a service run, as if something were set for its section; returns once it can be asked."""
    running = registry.running()
    loop = running[0].loop if running else asyncio.get_running_loop()
    loop.call_soon_threadsafe(starting.noticed, process.section, loop)
    for _ in range(int(PATIENCE / _POLL)):
        if not rests(process):
            return
        await asyncio.sleep(_POLL)
