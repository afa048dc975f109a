"""How the exporters do: status, health, readiness, and what is asked of them at once."""

from __future__ import annotations

import os
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.admin import processes
from otpylib_telemetry.admin.models import (
    Breaker,
    Configuration,
    ExporterStatus,
    Flushed,
    FlushedAll,
    HandlerStatus,
    Health,
    Ledger,
    Readiness,
    Section,
    ServiceStatus,
    Status,
    Value,
)
from otpylib_telemetry.admin.plain import plain, plain_dict, scrubbed
from otpylib_telemetry.admin.processes import GRACE, Process, SilentError
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
            stats={} if isinstance(answer, SilentError) else plain_dict(answer),
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
    )


def _handlers() -> list[HandlerStatus]:
    return [
        HandlerStatus(
            handler_id=each.handler_id,
            patterns=list(each.patterns),
            suspended=each.suspended,
            failures=each.failures,
            missed=each.missed,
        )
        for each in table.current.table.handlers.values()
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
        stats=plain_dict(stats),
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


async def get_config(_call: Call) -> Configuration:
    """Answer with the configuration of everything that runs."""
    sections, files = {}, {}
    for process, answer in await processes.ask_all(processes.everything(), ("get_config",)):
        if isinstance(answer, SilentError):
            sections[process.short] = Section(
                name=process.name, section=process.section, generation=0, keys={}, problems=[str(answer)]
            )
            continue
        files.update(answer.get("files", {}))
        sections[process.short] = _section(process, answer)
    return Configuration(sections=sections, files=files)


def _section(process: Process, found: Mapping[str, Any]) -> Section:
    wished, origins = found.get("wished", {}), found.get("origins", {})
    return Section(
        name=process.name,
        section=process.section,
        generation=found["generation"],
        keys={
            key: Value(
                value=plain(value),
                origin=str(origins.get(key, "default")),
                wished=plain(wished[key]) if key in wished else None,
                pending=key in wished,
            )
            for key, value in found["config"].items()
        },
        problems=[str(each) for each in found.get("problems", ())],
    )


async def flush(call: Call) -> FlushedAll:
    """Export everything that was accepted so far."""
    return await _all(call, "flush")


async def drain(call: Call) -> FlushedAll:
    """Stop taking events, export what is held and release everything."""
    return await _all(call, "drain")


async def _all(call: Call, tag: str) -> FlushedAll:
    wanted = call.parameters.exporter
    chosen = processes.exporters() if wanted is None else [processes.exporter_named(wanted)]
    seconds = call.parameters.timeout
    answers = await processes.ask_all(chosen, (tag, seconds), seconds + GRACE)
    found = {process.name: _flushed(answer) for process, answer in answers}
    return FlushedAll(complete=all(each.left == 0 for each in found.values()), exporters=found)


def _flushed(answer: Any) -> Flushed:
    if isinstance(answer, SilentError):
        return Flushed(error=scrubbed(str(answer)))
    details = plain_dict(answer)
    left = details.get("left")
    return Flushed(left=left if isinstance(left, int) else None, details=details)
