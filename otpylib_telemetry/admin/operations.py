"""What is asked of exporters at once: flush, drain, a breaker that is closed, series that go."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.admin import processes
from otpylib_telemetry.admin.models.state import BreakerReset, Flushed, FlushedAll, Removed
from otpylib_telemetry.admin.plain import plain_dict, scrubbed
from otpylib_telemetry.admin.problems import ProblemError
from otpylib_telemetry.admin.processes import GRACE, SilentError

if TYPE_CHECKING:
    from otpylib_telemetry.admin.routing import Call


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


async def reset_breaker(call: Call) -> BreakerReset:
    """Close the circuit breaker of an exporter: what waits is sent now."""
    process = processes.exporter_named(call.parameters.exporter)
    found = await _answered(process, ("reset_breaker",))
    return BreakerReset(exporter=process.name, was=found["was"], state=found["state"])


async def remove_series(call: Call) -> Removed:
    """Forget a metric of an exporter, or one of its series."""
    process = processes.exporter_named(call.parameters.exporter)
    metric, labels = call.parameters.metric, call.parameters.labels
    message = ("remove", metric) if labels is None else ("remove", metric, labels)
    if not await _answered(process, message):
        raise ProblemError(
            HTTPStatus.NOT_FOUND,
            f"{process.name} has no {'metric' if labels is None else 'series with these labels of'} "
            f"{metric[:200]!r}",
            where="path: metric" if labels is None else "query: labels",
            expected="one that GET /metrics-by-size tells of",
        )
    return Removed(exporter=process.name, metric=metric, labels=labels)


async def _answered(process: processes.Process, message: tuple[Any, ...]) -> Any:
    try:
        return await processes.ask(process, message)
    except SilentError as error:
        raise ProblemError(HTTPStatus.CONFLICT, scrubbed(str(error)), where="path: exporter") from None
