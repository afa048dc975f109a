"""How everything does: status, health, readiness."""

from __future__ import annotations

import os
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.admin import processes
from otpylib_telemetry.admin.models.state import (
    Breaker,
    ExporterStatus,
    HandlerStatus,
    Health,
    Ledger,
    Readiness,
    ServiceStatus,
    Status,
)
from otpylib_telemetry.admin.plain import found_secrets, plain, plain_dict, shown_names
from otpylib_telemetry.admin.processes import SilentError
from otpylib_telemetry.admin.routing import Answer
from otpylib_telemetry.bus import table
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry.admin.routing import Call

#: States of an exporter that does what it is configured to do.
_AT_WORK: Final = frozenset({"running", "idle", "disabled"})


async def get_status(_call: Call) -> Status:
    """Answer with everything."""
    exporters = [_exporter_status(stats) for stats in registry.all_stats()]
    services = [
        ServiceStatus(
            name=process.name,
            section=process.section,
            state="silent" if isinstance(answer, SilentError) else str(answer.get("state")),
            reason=str(answer) if isinstance(answer, SilentError) else answer.get("reason"),
            stats={} if isinstance(answer, SilentError) else shown_names(plain_dict(answer)),
        )
        for process, answer in await processes.ask_all(processes.services(), ("get_stats",))
    ]
    return Status(
        version=__version__,
        pid=os.getpid(),
        time=time.time(),
        ready=all(each.ready for each in exporters),
        exporters=exporters,
        services=services,
        handlers=_handlers(),
        scrubbed=found_secrets(),
    )


def _handlers() -> list[HandlerStatus]:
    handlers = table.current.table.handlers.values()
    return [
        HandlerStatus(**{key: shown_names(plain(getattr(each, key))) for key in HandlerStatus.model_fields})
        for each in handlers
    ]


def _exporter_status(stats: Mapping[str, Any]) -> ExporterStatus:
    why = not_ready(stats)
    breaker = stats.get("breaker")
    return ExporterStatus(
        name=str(stats["name"]),
        section=stats.get("section"),
        state=str(stats["state"]),
        reason=stats.get("reason"),
        ready=why is None,
        not_ready=why,
        ledger=Ledger.model_validate({key: stats[key] for key in Ledger.model_fields if key in stats}),
        breaker=None
        if breaker is None
        else Breaker(
            state=str(breaker),
            failures=stats.get("breaker_failures", 0),
            transitions=dict(stats.get("breaker_transitions", {})),
        ),
        queue_depth=stats.get("queue_depth", 0),
        queue_limit=stats.get("queue_limit", 0),
        uptime=stats.get("uptime", 0.0),
        generation=stats.get("config_generation", 0),
        stats=shown_names(plain_dict(stats)),
    )


def not_ready(stats: Mapping[str, Any]) -> str | None:
    """Return why an exporter does not do what it is configured to do, by its statistics; None if it does."""
    state, reason = str(stats["state"]), stats.get("reason")
    if processes.has_ended(str(stats["name"])):
        return "its process has ended"
    if state not in _AT_WORK:
        return f"it is {state}{f': {reason}' if reason else ''}"
    if stats.get("breaker", "closed") != "closed":
        return f"its circuit breaker is {str(stats['breaker']).replace('_', ' ')}: {reason or 'exports fail'}"
    return None


async def get_health(_call: Call) -> Health:
    """Answer at all."""
    return Health()


async def get_readiness(_call: Call) -> Answer:
    """Answer well if every exporter does what it is configured to do."""
    why = {str(stats["name"]): not_ready(stats) for stats in registry.all_stats()}
    ready = all(each is None for each in why.values())
    readiness = Readiness(ready=ready, exporters=why)
    status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
    return Answer(status, readiness.model_dump_json().encode())
